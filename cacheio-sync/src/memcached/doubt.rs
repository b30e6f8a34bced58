//! Writes that went out and were not answered.
//!
//! A server that was only stopped may still do such a write when it goes on: after a later one on
//! another connection, and what was deleted in between would be back. So the connection is kept,
//! and before the next write goes out, the server must have said that it is through with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Failure, drain};
use super::stream::{Stream, left};

/// The connections of one server with writes that were not answered.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    count: AtomicUsize,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    parked: Vec<(Stream, Instant)>,
    settling: bool,
}

/// After this the server is taken to have lost the write.
const GIVEN_UP: Duration = Duration::from_secs(10);

impl Doubt {
    /// Keeps a connection until the server is through with what was sent on it.
    pub(super) fn park(&self, stream: Stream) {
        // Now the server hangs up when it has done what it got: nothing needs to be counted. Where
        // this fails there is no connection any more.
        if stream.finish_writing().is_ok() {
            let mut state = self.state();
            state.parked.push((stream, Instant::now()));
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until the server is through with all that was parked. One atomic load if nothing is.
    pub(super) fn settle(&self, deadline: Instant) -> Result<(), Failure> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let mut state = self.state();
        while state.settling {
            let waited = self.settled.wait_timeout(state, left(deadline)?);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.settling = true;
        let mut parked = std::mem::take(&mut state.parked);
        drop(state);

        let before = parked.len();
        let mut result = Ok(());
        parked.retain_mut(|(stream, since)| {
            if result.is_ok() {
                result = drain(stream, deadline);
            }
            result.is_err() && since.elapsed() < GIVEN_UP
        });

        let mut state = self.state();
        self.count
            .fetch_sub(before - parked.len(), Ordering::SeqCst);
        if parked.is_empty() {
            // Those that were not waited for have been given up.
            result = Ok(());
        }
        state.parked.append(&mut parked);
        state.settling = false;
        drop(state);
        self.settled.notify_all();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
