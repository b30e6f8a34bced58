//! Writes that were sent and got no response.
//!
//! A server that was only paused may still carry out such a write when it resumes, possibly after a later
//! write on another connection. An entry that was deleted in between would come back. So the
//! connection is kept, and before the next write is sent, the server must have confirmed that it
//! processed everything it got on the kept connections: it does so by closing them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::call::Call;
use super::connection::Connection;
use super::os_socket::OsSocket;

/// The connections to one server that have unconfirmed writes.
#[derive(Debug, Default)]
pub(super) struct UnconfirmedWrites {
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sockets: Vec<(OsSocket, Instant)>,
    checked: Option<Instant>,
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
            let mut state = self.state();
            state.sockets.push((socket, Instant::now()));
            self.count.store(state.sockets.len(), Ordering::SeqCst);
        }
    }

    /// Returns whether there are none. Costs one atomic load.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
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
        let mut state = self.state();
        let is_given_up = |(_, since): &mut (OsSocket, Instant)| *since < before;
        let given_up: Vec<_> = state.sockets.extract_if(.., is_given_up).collect();
        self.count.store(state.sockets.len(), Ordering::SeqCst);
        drop(state);
        for (socket, _) in given_up {
            socket.reset();
        }
    }

    /// Removes the connections that the server has closed. Returns whether there are no others.
    fn check(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        let mut state = self.state();
        // All callers that wait share one check.
        if state
            .checked
            .is_none_or(|checked| checked.elapsed() >= INTERVAL)
        {
            state
                .sockets
                .retain_mut(|(socket, _)| !socket.is_closed_by_server());
            state.checked = Some(Instant::now());
            self.count.store(state.sockets.len(), Ordering::SeqCst);
        }
        state.sockets.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
