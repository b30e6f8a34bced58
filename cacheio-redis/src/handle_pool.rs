//! Reuses the handles of one connection.
//!
//! Cloning and dropping a handle changes several counters that all threads share. With hundreds of
//! callers that costs as much as the rest of a request. So handles are kept for the next
//! caller on the same thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;

const SHARDS: usize = 16;
const MAX_IDLE_PER_SHARD: usize = 64;

pub(crate) struct HandlePool {
    template: MultiplexedConnection,
    shards: [Shard; SHARDS],
}

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(64))]
struct Shard(Mutex<Vec<MultiplexedConnection>>);

impl HandlePool {
    pub(crate) fn new(connection: MultiplexedConnection) -> Self {
        Self {
            template: connection,
            shards: Default::default(),
        }
    }

    pub(crate) fn take(&self) -> MultiplexedConnection {
        let idle = self.shard().pop();
        idle.unwrap_or_else(|| self.template.clone())
    }

    pub(crate) fn put_back(&self, handle: MultiplexedConnection) {
        let mut idle = self.shard();
        if idle.len() < MAX_IDLE_PER_SHARD {
            idle.push(handle);
        }
    }

    /// Locks the shard of the current thread.
    fn shard(&self) -> MutexGuard<'_, Vec<MultiplexedConnection>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        // The thread-local is missing while its thread ends; any shard works then.
        let shard = SHARD.try_with(|shard| *shard).unwrap_or_default();
        let Shard(handles) = &self.shards[shard];
        handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
