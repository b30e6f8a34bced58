//! Handles to one connection, lent to its callers.
//!
//! Cloning a handle and dropping it changes half a dozen counters that all threads share: at
//! hundreds of callers that costs as much as the rest of a request. So handles are laid aside for
//! the next caller on the same thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;

const LANES: usize = 16;

/// How many handles a lane keeps.
const KEPT: usize = 64;

pub(crate) struct Handles {
    first: MultiplexedConnection,
    lanes: [Lane; LANES],
}

#[derive(Default)]
#[repr(align(64))]
struct Lane(Mutex<Vec<MultiplexedConnection>>);

impl Handles {
    pub(crate) fn new(connection: MultiplexedConnection) -> Self {
        Self {
            first: connection,
            lanes: Default::default(),
        }
    }

    /// A handle of one's own.
    pub(crate) fn take(&self) -> MultiplexedConnection {
        let kept = self.lane().pop();
        kept.unwrap_or_else(|| self.first.clone())
    }

    /// Lays a handle aside.
    pub(crate) fn put_back(&self, handle: MultiplexedConnection) {
        let mut lane = self.lane();
        if lane.len() < KEPT {
            lane.push(handle);
        }
    }

    fn lane(&self) -> std::sync::MutexGuard<'_, Vec<MultiplexedConnection>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static LANE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % LANES;
        }
        // While the thread ends, any lane does.
        let lane = LANE.try_with(|lane| *lane).unwrap_or_default();
        let Lane(handles) = &self.lanes[lane];
        handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
