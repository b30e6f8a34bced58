//! Builds memory: how much it holds, its listener, and how many shards it has.

use std::any::Any;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use cacheio_core::{Clock, Form, Timestamp, config};

use super::clock::MemoryClock;
use super::key::Namespace;
use super::l1::FastUntil;
use super::namespaces::Namespaces;
use super::removal::{Listener, Removal};
use super::shard::{Shard, ShardLock};
use super::{Memory, Shared, WeightLimit};

/// Builds a [`Memory`].
///
/// # Defaults
///
/// - `capacity`: [`Config::default_threshold`](crate::Config::default_threshold) entries; with `max_weight`, any
///   number of them
/// - `max_weight`: none, every entry weighs 1
/// - `on_removal`: none
/// - `through_codec`: off
/// - `clock`: [`SystemClock`](crate::SystemClock)
#[must_use]
pub struct MemoryBuilder {
    capacity: Option<u64>,
    weight_limit: Option<WeightLimit>,
    on_removal: Option<Box<dyn Fn(Removal) + Send + Sync>>,
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
    /// Sets the maximum number of entries. With [`max_weight`](Self::max_weight), both limits hold.
    ///
    /// ```
    /// use cacheio::Memory;
    ///
    /// let memory = Memory::builder().capacity(10_000).build();
    /// ```
    pub fn capacity(mut self, entries: u64) -> Self {
        self.capacity = Some(entries);
        self
    }

    /// Sets the maximum weight of all entries together, and the function that weighs an entry by its key (with the
    /// namespace) and its value, which is of the type that was stored. Entries weigh at least 1.
    ///
    /// The number of entries is not limited then, except by [`capacity`](Self::capacity).
    ///
    /// The function is called once for each value stored, and must not use the cache. The value of a
    /// [snapshot](crate::CacheBuilder::snapshot) is a `Vec<u8>` until it is read, and then weighed again. An entry that
    /// weighs more than a quarter of the maximum may be [too large](crate::ErrorKind::TooLarge).
    ///
    /// ```
    /// use cacheio::Memory;
    ///
    /// let megabytes = 64;
    /// let memory = Memory::builder()
    ///     .max_weight(megabytes << 20, |key, value| match value.downcast_ref::<String>() {
    ///         Some(text) => (key.len() + text.len()) as u64,
    ///         None => 64,
    ///     })
    ///     .capacity(100_000)
    ///     .build();
    /// ```
    pub fn max_weight(
        mut self,
        max: u64,
        weigher: impl Fn(&str, &(dyn Any + Send + Sync)) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.weight_limit = Some(WeightLimit {
            max,
            weigher: Arc::new(weigher),
        });
        self
    }

    /// Sets a removal listener: a function that is called for each entry that is removed, with its key, its value and
    /// the [cause](crate::RemovalCause).
    ///
    /// - Each removal is reported once, before the call that removes the entry returns: the listener runs within that
    ///   call, on its thread or in its task. It holds no lock and may use the cache; but what it loads under the removed
    ///   key is returned and not stored, because the write is not over. What a load in the background removes is
    ///   reported by that load.
    /// - An expired entry, or one of an invalidated tag, is reported by the first use of the memory that comes a
    ///   second or more after its end, or earlier. Any read or write through any of its caches is a use. There is no
    ///   thread for that; [`Memory::purge_expired`] reports them at once, also while the memory is not used.
    /// - The reports of one thread or task come in the order of its calls. If several of them write a key at the same
    ///   time, their reports may come in any order, and at the same time.
    /// - What the listener itself removes is reported after it has returned.
    /// - If it panics, the panic is caught and logged. The next removals are reported as before.
    /// - A value that was not stored is not reported, nor are the entries that are left when the memory is dropped.
    ///
    /// The caller waits for the listener. For work that takes long, or must be awaited, send the [`Removal`] to a
    /// thread or a task. A listener that stores evicted entries again makes others be evicted, without end. One that
    /// owns a cache on the memory keeps the memory alive forever.
    ///
    /// While entries expire, all are looked at about once a second, which takes some 10 to 20 ms for a million of
    /// them. Hits cost what they cost without a listener, except those of entries that never expire, which read the
    /// clock too.
    ///
    /// Memory with [`through_codec`](Self::through_codec) and the memory of an [`L1`](crate::L1) have no listener: a
    /// server reports no removals, and an entry whose copy is removed from L1 remains on the server.
    ///
    /// ```
    /// use cacheio::{Cache, Memory, RemovalCause};
    /// use std::sync::mpsc;
    ///
    /// let (sender, removals) = mpsc::channel();
    /// let memory = Memory::builder().on_removal(move |removal| {
    ///     let _ = sender.send(removal);
    /// });
    /// let cache = Cache::builder().store(memory.build()).build()?;
    ///
    /// cache.set(("user", 42), "Ada")?;
    /// cache.set(("user", 42), "Eve")?;
    /// let removal = removals.try_recv().unwrap();
    /// assert_eq!((removal.key(), removal.cause()), ("user:42", RemovalCause::Replaced));
    /// assert_eq!(removal.value::<String>().unwrap().as_str(), "Ada");
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    ///
    /// A listener that stores expired entries again. `add` leaves a newer value of the key in place:
    ///
    /// ```
    /// use cacheio::{Cache, Memory, RemovalCause};
    /// use std::sync::LazyLock;
    ///
    /// static CACHE: LazyLock<Cache> = LazyLock::new(|| {
    ///     let memory = Memory::builder().on_removal(|removal| {
    ///         if removal.cause() == RemovalCause::Expired
    ///             && let Some(count) = removal.value::<u64>()
    ///         {
    ///             let _ = CACHE.add(removal.listed_key(), *count / 2);
    ///         }
    ///     });
    ///     Cache::builder().store(memory.build()).build().unwrap()
    /// });
    /// # CACHE.set("k", 1_u64).unwrap();
    /// ```
    pub fn on_removal(mut self, listener: impl Fn(Removal) + Send + Sync + 'static) -> Self {
        self.on_removal = Some(Box::new(listener));
        self
    }

    /// Sets whether values are encoded by the codec of the cache, and decoded at each read, as on a
    /// server.
    ///
    /// This is for development and tests of a program that uses a server in production: values that
    /// cannot be encoded, tags, and types that changed between writing and reading behave as they do
    /// there. The function of `max_weight` gets the bytes, as a `Vec<u8>`. The parameter of a URL is
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
        let default = || match self.weight_limit {
            Some(_) => None,
            None => Some(config().default_threshold as u64),
        };
        let capacity = self.capacity.or_else(default);
        let max_weight = self.weight_limit.as_ref().map(|limit| limit.max);
        let shards: Arc<[_]> = shards(capacity, max_weight).collect();
        let listener = self.on_removal.map(|listener| {
            let start = self.clock.now();
            Arc::new(Listener::new(listener, start, shards.len()))
        });
        let namespaces = Namespaces::default();
        Memory {
            shards,
            clock: self.clock,
            namespace: Namespace::default(),
            shared_state: namespaces.root(),
            fast_until: FastUntil::new(match listener {
                Some(_) => Timestamp::MIN,
                None => Timestamp::MAX,
            }),
            shared: Arc::new(Shared {
                form: self.form,
                capacity,
                weight_limit: self.weight_limit,
                evictions: AtomicU64::new(0),
                namespaces: Mutex::new(namespaces),
                listener,
            }),
        }
    }
}

/// Makes the shards of memory with these limits, of which there is at least one.
fn shards(capacity: Option<u64>, max_weight: Option<u64>) -> impl Iterator<Item = ShardLock> {
    let count = match max_weight {
        Some(max_weight) => {
            let of_entries =
                capacity.map(|entries| shard_count(entries, WEIGHED_SHARDS, SHARD_MIN));
            let of_weight = shard_count(max_weight, WEIGHED_SHARDS, SHARD_MIN);
            of_entries.map_or(of_weight, |count| count.min(of_weight))
        }
        None => {
            let threads = std::thread::available_parallelism();
            let threads = threads.map_or(4, |threads| threads.get() as u64);
            let counts = SHARDS_PER_THREAD.map(|(per_thread, min)| {
                shard_count(capacity.unwrap_or_default(), threads * per_thread, min)
            });
            counts.into_iter().max().unwrap_or(1)
        }
    };
    // The first shards hold the remainder: together they hold exactly the whole.
    let share = move |of: u64, index| of / count + u64::from(index < of % count);
    let to_usize = |entries| usize::try_from(entries).unwrap_or(usize::MAX);
    (0..count).map(move |index| {
        let entries = capacity.map(|capacity| share(capacity, index));
        let shard = match max_weight {
            Some(max_weight) => {
                let entries = entries.map(to_usize);
                let estimate = entries.map_or(WEIGHED_ENTRIES, |max| max.min(WEIGHED_ENTRIES));
                Shard::new(share(max_weight, index), entries, estimate)
            }
            // Each entry weighs 1.
            None => {
                let entries = entries.unwrap_or_default();
                Shard::new(entries, None, to_usize(entries))
            }
        };
        ShardLock::new(shard)
    })
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
            weight_limit: None,
            on_removal: None,
            form: Form::Objects,
            clock: MemoryClock::System,
        }
    }
}

impl fmt::Debug for MemoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("capacity", &self.capacity)
            .field(
                "max_weight",
                &self.weight_limit.as_ref().map(|limit| limit.max),
            )
            .field("on_removal", &self.on_removal.is_some())
            .field("form", &self.form)
            .field("clock", &self.clock)
            .finish()
    }
}
