//! How long requests to a cluster that is changing or down are sent again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long after the first refusal requests are sent again: about as long as a slot takes to
/// move. After that a refusal fails its request at once, so that a cluster that is down costs its
/// callers no time.
const LENGTH: Duration = Duration::from_millis(200);
/// After how long without a refusal the next one is the first again.
const MEMORY: Duration = Duration::from_secs(10);

/// The time in which refused requests are sent again.
#[derive(Default)]
pub(crate) struct RetryWindow(Mutex<Option<Refusals>>);

#[derive(Clone, Copy)]
struct Refusals {
    first: Instant,
    last: Instant,
}

impl RetryWindow {
    /// Records that a node refused a request. Returns whether to send it again.
    pub(crate) fn is_open(&self) -> bool {
        let now = Instant::now();
        let mut refusals = self.lock();
        let first = match *refusals {
            Some(refusals) if now.duration_since(refusals.last) < MEMORY => refusals.first,
            _ => now,
        };
        *refusals = Some(Refusals { first, last: now });
        now.duration_since(first) < LENGTH
    }

    /// Records that a node served a request that was refused before.
    pub(crate) fn settled(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Refusals>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
