//! L1: memory before a server, as the builders of caches take it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cacheio_core::__private::{L1Memory, L1Settings, UrlMemory};
use cacheio_core::{Entry, Key, Store as _, Timestamp};

use super::Memory;
use super::shard::{Removed, ShardLock};

/// Memory before a server: copies of entries, which hits return without a request to the server.
///
/// A cache takes it, or just a [`Memory`], with `l1` of its builder. Each cache has its own.
///
/// - A copy is served for at most [`max_staleness`](Self::max_staleness) after the server was asked for the entry,
///   and no longer than the server keeps the entry. So a process sees a write of another process after that time
///   at the latest.
/// - Redis from 7.0.5 on tells of changes: a write of another process is mostly seen within a millisecond. Then a
///   copy lives as long as its entry, but is served only while the server has confirmed within `max_staleness` that
///   it has told everything.
/// - A write through any cache of this process on the same store, or on its clones, is seen at once.
/// - A copy is a value of the type that was read or loaded. A read of the same key as another type asks the
///   server.
/// - Stale entries, absent keys and entries with `ttl_idle` have no copies. The server is asked for them.
/// - While memory is full, the first read of an entry makes no copy, and costs what it costs without L1; the second one
///   does. A value that this process loads is copied at once.
/// - The memory must have no removal listener: an entry whose copy is removed remains on the server.
/// - The weigher of the memory gets keys without the namespace. Where a server tells of changes, it also gets the
///   versions of tags, whose type is not one of yours.
///
/// # Defaults
///
/// - `max_staleness`: 2 s
/// - `ttl`: none
///
/// ```
/// use cacheio::{Cache, L1, Memory, Redis};
/// use std::time::Duration;
///
/// let cache = Cache::builder()
///     .store(Redis::new("redis://127.0.0.1:6379")?)
///     .l1(L1::new(Memory::with_capacity(10_000)).max_staleness(Duration::from_millis(500)))
///     .build()?;
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct L1(L1Settings);

impl L1 {
    /// Makes an L1 of memory that nothing else uses.
    ///
    /// ```
    /// use cacheio::{L1, Memory};
    ///
    /// let l1 = L1::new(Memory::with_capacity(10_000));
    /// ```
    pub fn new(memory: Memory) -> Self {
        Self(L1Settings::new(Arc::new(memory)))
    }

    /// Sets after which time a write of another process is seen at the latest: for how long a copy is served after
    /// the server was asked for the entry, or has confirmed that it has told of all changes. At least 200 ms.
    ///
    /// The time is that of a clock that stands still while the machine is suspended.
    ///
    /// ```
    /// use cacheio::{L1, Memory};
    /// use std::time::Duration;
    ///
    /// let l1 = L1::new(Memory::new()).max_staleness(Duration::from_secs(10));
    /// ```
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        self.0.max_staleness = max_staleness;
        self
    }

    /// Sets how long a copy lives at most.
    ///
    /// ```
    /// use cacheio::{L1, Memory};
    /// use std::time::Duration;
    ///
    /// let l1 = L1::new(Memory::new()).ttl(Duration::from_secs(1));
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.0.ttl = Some(ttl);
        self
    }

    /// What URLs make an L1 of.
    #[doc(hidden)]
    pub const OF_URLS: UrlMemory =
        UrlMemory::Make(|entries| Arc::new(Memory::with_capacity(entries)));
}

impl From<Memory> for L1 {
    fn from(memory: Memory) -> Self {
        Self::new(memory)
    }
}

impl From<L1> for L1Settings {
    fn from(l1: L1) -> Self {
        l1.0
    }
}

impl L1Memory for Memory {
    fn store_copy(
        &self,
        key: &Key<'_>,
        entry: Entry,
        until: Timestamp,
        may_store: &dyn Fn() -> bool,
    ) {
        let now = self.clock().now();
        let Ok(mut slot) = self.slot(key, entry, None, now) else {
            return;
        };
        slot.set_expiry(until);
        let (key, shard) = self.locate(key);
        self.change(shard, |shard, removed| match may_store() {
            true => {
                shard.insert(&key, slot, now, removed);
            }
            false => removed.push(slot),
        });
    }

    fn entries_if_full(&self, key: &Key<'_>) -> Option<usize> {
        let (key, shard) = self.locate(key);
        let shard = shard.read();
        let is_full = shard.peek(&key).is_none() && shard.is_full();
        // Keys are spread evenly.
        is_full.then(|| shard.len() * self.shards.len())
    }

    fn take_copy(&self, key: &Key<'_>) -> Option<Box<dyn Any + Send>> {
        let mut removed = Removed::default();
        let (key, shard) = self.locate(key);
        shard.write().remove(&key, Timestamp::MAX, &mut removed);
        match removed.is_empty() {
            true => None,
            false => Some(Box::new(removed)),
        }
    }

    fn take_copies(&self) -> (u64, Box<dyn Any + Send>) {
        let take = |shard: &ShardLock| {
            let mut removed = Removed::default();
            let mut shard = shard.write();
            shard.clear(&self.namespace, "", Timestamp::MAX, &mut removed);
            drop(shard);
            removed
        };
        let removed: Vec<_> = self.shards.iter().map(take).collect();
        let count = removed.iter().map(Removed::len).sum::<usize>();
        (count as u64, Box::new(removed))
    }

    fn serve_until(&self, until: Timestamp) {
        self.fast_until.set(until);
    }

    fn serves_until(&self) -> Timestamp {
        self.fast_until.get()
    }

    fn has_listener(&self) -> bool {
        self.shared.listener.is_some()
    }
}

/// Until when a hit looks at nothing but its entry. From this time on an L1 serves nothing, and memory with a
/// removal listener first removes what has expired.
pub(super) struct FastUntil(AtomicU64);

impl FastUntil {
    pub(super) fn new(until: Timestamp) -> Self {
        let fast_until = Self(AtomicU64::new(0));
        fast_until.set(until);
        fast_until
    }

    #[inline]
    pub(super) fn get(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Acquire))
    }

    pub(super) fn set(&self, until: Timestamp) {
        let nanos = until.since(Timestamp::MIN).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Release);
    }
}
