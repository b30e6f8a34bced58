//! Writes that were sent and got no response.
//!
//! A server that was only paused may still carry out such a write when it resumes, possibly after a later
//! write on another connection. An entry that was deleted in between would come back. So the
//! connection is kept, and before the next write is sent, the server must have confirmed that it
//! processed everything it got on the kept connections: it does so by closing them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_listener::Event;

use super::call::Call;
use super::connection::Connection;
use super::os_socket::OsSocket;

/// The connections to one server that have unconfirmed writes.
#[derive(Debug, Default)]
pub(super) struct UnconfirmedWrites {
    count: AtomicUsize,
    sockets: Mutex<Vec<(OsSocket, Instant)>>,
    has_leader: AtomicBool,
    leader_ended: Event,
}

/// How often to look whether the server has confirmed the writes.
const INTERVAL: Duration = Duration::from_millis(1);

impl UnconfirmedWrites {
    /// Keeps a connection until the server has processed what was sent on it.
    pub(super) fn add(&self, connection: Connection) {
        // With no more requests to come, the server closes the connection after it processed those
        // it got. If this fails, the connection is closed already.
        if let Ok(socket) = connection.into_os_socket()
            && socket.finish_writing().is_ok()
        {
            let mut sockets = self.sockets();
            sockets.push((socket, Instant::now()));
            self.count.store(sockets.len(), Ordering::SeqCst);
        }
    }

    /// Returns whether there are none. Costs one atomic load.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Makes the caller the one that waits for the server, unless there is one.
    pub(super) fn lead(&self) -> Option<Leader<'_>> {
        let is_led = self.has_leader.swap(true, Ordering::SeqCst);
        (!is_led).then(|| Leader(self))
    }

    /// Waits until another caller has waited for the server.
    pub(super) async fn leader_ended(&self, call: Call) -> io::Result<()> {
        let listener = self.leader_ended.listen();
        match self.has_leader.load(Ordering::SeqCst) {
            true => call.wait(listener).await,
            false => Ok(()),
        }
    }

    /// Waits until the server has confirmed all writes.
    pub(super) async fn confirmed(&self, call: Call) -> io::Result<()> {
        while !self.check() {
            call.time_left()?;
            call.sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Gives up the writes that were kept before a time.
    pub(super) fn give_up(&self, before: Instant) {
        let mut sockets = self.sockets();
        let is_given_up = |(_, since): &mut (OsSocket, Instant)| *since < before;
        let given_up: Vec<_> = sockets.extract_if(.., is_given_up).collect();
        self.count.store(sockets.len(), Ordering::SeqCst);
        drop(sockets);
        for (socket, _) in given_up {
            socket.reset();
        }
    }

    /// Removes the connections that the server has closed. Returns whether there are no others.
    fn check(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        let mut sockets = self.sockets();
        sockets.retain_mut(|(socket, _)| !socket.is_closed_by_server());
        self.count.store(sockets.len(), Ordering::SeqCst);
        sockets.is_empty()
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<(OsSocket, Instant)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller that waits for the server, while the others wait for this to be dropped.
pub(super) struct Leader<'a>(&'a UnconfirmedWrites);

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.0.has_leader.store(false, Ordering::SeqCst);
        self.0.leader_ended.notify(usize::MAX);
    }
}
