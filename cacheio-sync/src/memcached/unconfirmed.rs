//! Writes that were sent and got no response in time.
//!
//! A server that was only paused may still carry out such a write when it resumes, possibly after a later
//! write on another connection. An entry that was deleted in between would come back. So the
//! connection is kept, and before the next write is sent, the server must have confirmed that it
//! processed everything it got on the kept connections: it does so by closing them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stream::time_left;
use super::timed_stream::TimedStream;

/// The connections to one server that have unconfirmed writes.
#[derive(Debug, Default)]
pub(super) struct UnconfirmedWrites {
    count: AtomicUsize,
    state: Mutex<State>,
    confirmed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    streams: Vec<(TimedStream, Instant)>,
    /// Whether a thread is reading from the streams, which it took out of the state.
    confirming: bool,
}

/// A write that is not confirmed after this time is taken for lost.
const MAX_AGE: Duration = Duration::from_secs(10);

impl UnconfirmedWrites {
    /// Keeps a connection until the server has processed what was sent on it.
    pub(super) fn add(&self, stream: TimedStream) {
        // With no more requests to come, the server closes the connection after it processed those
        // it got. If this fails, the connection is closed already.
        if stream.finish_writing().is_ok() {
            let mut state = self.state();
            state.streams.push((stream, Instant::now()));
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until the server has confirmed all writes. Costs one atomic load if there are none.
    pub(super) fn confirm_all(&self, deadline: Instant) -> io::Result<()> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let mut state = self.state();
        while state.confirming {
            let waited = self.confirmed.wait_timeout(state, time_left(deadline)?);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.confirming = true;
        let mut streams = std::mem::take(&mut state.streams);
        drop(state);

        let before = streams.len();
        let mut result = Ok(());
        streams.retain_mut(|(stream, since)| {
            if result.is_ok() {
                result = stream.drain(deadline);
            }
            result.is_err() && since.elapsed() < MAX_AGE
        });
        if streams.is_empty() {
            // The writes that did not get confirmed are too old to wait for.
            result = Ok(());
        }

        let mut state = self.state();
        self.count
            .fetch_sub(before - streams.len(), Ordering::SeqCst);
        state.streams.append(&mut streams);
        state.confirming = false;
        drop(state);
        self.confirmed.notify_all();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
