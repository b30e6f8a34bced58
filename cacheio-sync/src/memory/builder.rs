//! Builds memory: its capacity, its weigher, and how many shards it has.

use std::any::Any;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use cacheio_core::{Clock, Form, config};

use super::clock::MemoryClock;
use super::key::Namespace;
use super::l1::ServesUntil;
use super::namespaces::Namespaces;
use super::shard::{Shard, ShardLock};
use super::{Memory, Shared, Weigher};

/// Builds a [`Memory`].
///
/// # Defaults
///
/// - `capacity`: [`Config::default_threshold`](crate::Config::default_threshold)
/// - `weigher`: none, every entry weighs 1
/// - `through_codec`: off
/// - `clock`: [`SystemClock`](crate::SystemClock)
#[must_use]
pub struct MemoryBuilder {
    capacity: Option<u64>,
    weigher: Option<Weigher>,
    form: Form,
    clock: MemoryClock,
}

/// The smallest capacity of a shard.
const SHARD_MIN: u64 = 128;

/// The numbers of shards per thread of the machine, and the smallest capacity of a shard for each. Threads
/// that read different shards do not wait for each other, but a small shard evicts less precisely.
const SHARDS_PER_THREAD: [(u64, u64); 2] = [(4, SHARD_MIN), (16, 4 * SHARD_MIN)];

/// The number of shards of memory by weight: an entry may weigh a little less than this part of the
/// whole.
const WEIGHED_SHARDS: u64 = 4;

/// An estimate of the number of entries in a shard by weight. It sets the number of evicted keys
/// that a shard remembers.
const WEIGHED_ENTRIES: usize = 4096;

impl MemoryBuilder {
    /// Sets the maximum number of entries or, with a [`weigher`](Self::weigher), their maximum
    /// weight together.
    ///
    /// ```
    /// use cacheio::Memory;
    ///
    /// let memory = Memory::builder().capacity(10_000).build();
    /// ```
    pub fn capacity(mut self, capacity: u64) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// Sets the function that weighs an entry by its key (with the namespace) and its value, which
    /// is of the type that was stored. Entries weigh at least 1.
    ///
    /// It is called once for each value stored, and must not use the cache. An entry that weighs
    /// more than a quarter of the capacity may be [too large](crate::ErrorKind::TooLarge).
    ///
    /// ```
    /// use cacheio::Memory;
    ///
    /// let megabytes = 64;
    /// let memory = Memory::builder()
    ///     .capacity(megabytes << 20)
    ///     .weigher(|key, value| match value.downcast_ref::<String>() {
    ///         Some(text) => (key.len() + text.len()) as u64,
    ///         None => 64,
    ///     })
    ///     .build();
    /// ```
    pub fn weigher(
        mut self,
        weigher: impl Fn(&str, &(dyn Any + Send + Sync)) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Sets whether values are encoded by the codec of the cache, and decoded at each read, as on a
    /// server.
    ///
    /// This is for development and tests of a program that uses a server in production: values that
    /// cannot be encoded, tags, and types that changed between writing and reading behave as they do
    /// there. The weigher gets the bytes, as a `Vec<u8>`. The parameter of a URL is
    /// `through_codec=true`.
    ///
    /// ```
    /// use cacheio::{Cache, ErrorKind, Local, Memory};
    ///
    /// let memory = Memory::builder().through_codec(true).build();
    /// let cache = Cache::builder().store(memory).build()?;
    /// let error = cache.set("k", Local::new(1)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Unsupported);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn through_codec(mut self, through_codec: bool) -> Self {
        self.form = match through_codec {
            true => Form::Bytes,
            false => Form::Objects,
        };
        self
    }

    /// Sets the clock that entries expire by; for tests there is
    /// [`ManualClock`](crate::ManualClock).
    ///
    /// ```
    /// use cacheio::{ManualClock, Memory};
    /// use std::sync::Arc;
    ///
    /// let clock = Arc::new(ManualClock::new());
    /// let memory = Memory::builder().clock(clock.clone()).build();
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = MemoryClock::Other(Arc::new(clock));
        self
    }

    /// Builds the memory. The settings are checked when a cache is built on it.
    pub fn build(self) -> Memory {
        let capacity = self
            .capacity
            .unwrap_or_else(|| config().default_threshold as u64);
        let count = match self.weigher {
            Some(_) => shard_count(capacity, WEIGHED_SHARDS, SHARD_MIN),
            None => {
                let threads = std::thread::available_parallelism();
                let threads = threads.map_or(4, |threads| threads.get() as u64);
                let counts = SHARDS_PER_THREAD
                    .map(|(per_thread, min)| shard_count(capacity, threads * per_thread, min));
                counts.into_iter().max().unwrap_or(1)
            }
        };
        let shards = (0..count)
            .map(|index| {
                // The first shards hold the remainder: together they hold exactly the capacity.
                let capacity = capacity / count + u64::from(index < capacity % count);
                let entries = match self.weigher {
                    Some(_) => WEIGHED_ENTRIES,
                    None => usize::try_from(capacity).unwrap_or(usize::MAX),
                };
                ShardLock::new(Shard::new(capacity, entries))
            })
            .collect();
        let namespaces = Namespaces::default();
        Memory {
            shards,
            clock: self.clock,
            namespace: Namespace::default(),
            shared_state: namespaces.root(),
            shared: Arc::new(Shared {
                form: self.form,
                weigher: self.weigher,
                capacity,
                evictions: AtomicU64::new(0),
                namespaces: Mutex::new(namespaces),
            }),
            serves_until: ServesUntil::default(),
        }
    }
}

/// Returns the number of shards, which is a power of two, at most about `wanted`, and leaves each shard
/// a capacity of `min`.
fn shard_count(capacity: u64, wanted: u64, min: u64) -> u64 {
    let mut count = wanted.next_power_of_two();
    while count > 1 && capacity / count < min {
        count /= 2;
    }
    count
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self {
            capacity: None,
            weigher: None,
            form: Form::Objects,
            clock: MemoryClock::System,
        }
    }
}

impl fmt::Debug for MemoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("capacity", &self.capacity)
            .field("weigher", &self.weigher.is_some())
            .field("form", &self.form)
            .field("clock", &self.clock)
            .finish()
    }
}
