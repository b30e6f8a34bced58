//! A store in this process's memory, over `quick_cache`.
//!
//! `quick_cache` decides what to evict; the expiry is ours, and so are the shards: each is one of
//! its single-threaded caches behind a lock of our own. A hit is then one lock held for reading,
//! a change is atomic because it holds the lock for writing, and sweeping out what has expired
//! stops one shard at a time.

mod shard;

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use cacheio_core::__private::{CacheUrl, Settings, SharedState, overflow};
use cacheio_core::{
    CLOCK_LAG, Clock, Entry, Error, ErrorKind, FastLookup, Form, Key, Object, Payload, Result,
    Store, SystemClock, Timestamp, config, immediate_store,
};

use self::shard::{Displaced, Shard, Slot};

/// What an entry weighs.
pub(crate) type Weigher = Arc<dyn Fn(&str, &(dyn Any + Send + Sync)) -> u64 + Send + Sync>;

/// A store in this process's memory: at most so many entries, each with a TTL exact to the
/// millisecond, evicted by `quick_cache`'s scan-resistant policy (Clock-PRO, close to S3-FIFO).
///
/// Values are kept as they are: no codec, no copy. Entries that have expired make room: a write
/// that finds any due sweeps them out of its shard, at most once every quarter of a shard's
/// entries, so that a write's share of the work is constant.
///
/// Capacity is split over shards, so that single shards may evict a little before the whole is
/// full; below 256 entries there is one shard, and the capacity is exact.
///
/// ```
/// # fn main() -> cacheio::Result<()> {
/// use cacheio::{Cache, Memory};
///
/// let cache = Cache::builder().store(Memory::with_capacity(10_000)).build()?;
/// # Ok(()) }
/// ```
pub struct Memory {
    shards: Box<[RwLock<Shard>]>,
    clock: Arc<dyn Clock>,
    weigher: Option<Weigher>,
    capacity: u64,
    evictions: AtomicU64,
    /// Of the caches on this memory: they invalidate each other's loads.
    shared_state: Arc<SharedState>,
}

impl Memory {
    /// Memory for [`Config::default_threshold`](crate::Config::default_threshold) entries.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    ///
    /// let cache = Cache::builder().store(Memory::new()).build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Memory for so many entries. A capacity of 0 is an error when a cache is built on it.
    pub fn with_capacity(entries: usize) -> Self {
        Self::builder().capacity(entries as u64).build()
    }

    /// A builder, for a capacity by weight or another clock.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// How many entries it holds, expired ones that still await sweeping among them.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    /// use std::sync::Arc;
    ///
    /// let memory = Arc::new(Memory::new());
    /// let cache = Cache::builder().store(Arc::clone(&memory)).build()?;
    /// cache.set("k", 1)?;
    /// assert_eq!(memory.len(), 1);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What its entries weigh; without a weigher, how many they are.
    pub fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| read(shard).weight()).sum()
    }

    /// Sweeps out what has expired, without waiting for the next writes to do it.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let memory = Arc::new(Memory::new());
    /// let cache = Cache::builder().store(Arc::clone(&memory)).build()?;
    /// cache.set_with("k", 1, Duration::from_millis(1))?;
    /// std::thread::sleep(Duration::from_millis(50));
    /// memory.purge_expired();
    /// assert!(memory.is_empty());
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn purge_expired(&self) {
        let now = self.clock.now();
        for shard in &self.shards {
            self.change(shard, |shard, displaced| shard.sweep(now, displaced));
        }
    }

    #[doc(hidden)]
    pub fn __from_url(mut url: CacheUrl<'_>) -> Result<(Self, Settings)> {
        if !url.rest().is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a memory:// URL has nothing between `//` and `?`: memory:// or memory://?capacity=10000",
            ));
        }
        let memory = match url.take("capacity") {
            Some(capacity) => Self::with_capacity(
                capacity
                    .parse()
                    .map_err(|_| url.invalid("capacity", "a number of entries"))?,
            ),
            None => Self::new(),
        };
        Ok((memory, Settings::from_url(url, &["capacity"])?))
    }

    #[inline]
    fn shard(&self, key: &Key<'_>) -> &RwLock<Shard> {
        // quick_cache's table takes the lowest and the highest bits of the hash.
        &self.shards[(key.hash() >> 40) as usize & (self.shards.len() - 1)]
    }

    /// Changes a shard. What falls out of it is dropped when its lock is free again: dropping a
    /// user's value may run any code.
    fn change<T>(
        &self,
        shard: &RwLock<Shard>,
        change: impl FnOnce(&mut Shard, &mut Displaced) -> T,
    ) -> T {
        let mut displaced = Displaced::default();
        let result = change(
            &mut shard.write().unwrap_or_else(PoisonError::into_inner),
            &mut displaced,
        );
        if displaced.evicted > 0 {
            self.evictions
                .fetch_add(displaced.evicted, Ordering::Relaxed);
        }
        result
    }

    fn weight_of(&self, key: &Key<'_>, object: &dyn Object) -> u64 {
        match &self.weigher {
            Some(weigher) => weigher(key.text(), object.value()).max(1),
            None => 1,
        }
    }

    fn slot(
        &self,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<Slot> {
        let Payload::Object(object) = entry.payload else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "memory keeps values, not bytes",
            ));
        };
        let weight = self.weight_of(key, &*object);
        let expires = expiry(now, ttl);
        Ok(Slot::new(object, entry.meta, expires, weight))
    }

    fn insert(
        &self,
        key: &Key<'_>,
        slot: Slot,
        now: Timestamp,
        shard: &mut Shard,
        displaced: &mut Displaced,
    ) -> Result<()> {
        if shard.insert(key, slot, now, displaced) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the entry weighs more than memory with a capacity of {} can hold (a shard of it holds {})",
                self.capacity,
                shard.capacity()
            ),
        ))
    }
}

/// When what is stored now expires.
fn expiry(now: Timestamp, ttl: Option<Duration>) -> Timestamp {
    ttl.map_or(Timestamp::MAX, |ttl| now.after(ttl))
}

/// An integer and what is added to it.
fn incremented(object: &dyn Object, by: i64) -> Result<i64> {
    let integer = match object.value().downcast_ref::<i64>() {
        Some(integer) => Some(*integer),
        None => object.digits().and_then(|digits| digits.parse().ok()),
    };
    let integer = integer.ok_or_else(|| {
        Error::new(
            ErrorKind::WrongType,
            format!(
                "what is stored is a `{}`, not an integer of 64 bits",
                object.type_name()
            ),
        )
    })?;
    integer.checked_add(by).ok_or_else(overflow)
}

#[inline]
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    // A weigher or a value's `drop` that panicked leaves a shard as it was before or after.
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("capacity", &self.capacity)
            .field("len", &self.len())
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl Store for Memory {
    fn form(&self) -> Form {
        Form::Objects
    }

    #[inline]
    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let shard = read(self.shard(key));
        let kept = shard
            .get(key)
            .filter(|slot| slot.is_retained(self.clock.now()));
        Ok(kept.map(Slot::entry))
    }

    #[inline]
    fn get_fast(&self, key: &Key<'_>) -> FastLookup {
        // Entries that end within the lag, by either clock, take the long way.
        let shard = read(self.shard(key));
        let Some(slot) = shard.get(key) else {
            return FastLookup::Absent;
        };
        match slot.plain_until(self.clock.recent().after(CLOCK_LAG)) {
            Some(object) => FastLookup::Hit(object),
            None => FastLookup::Inspect,
        }
    }

    fn has(&self, key: &Key<'_>) -> Result<bool> {
        let shard = read(self.shard(key));
        Ok(shard
            .peek(key)
            .is_some_and(|slot| slot.is_live(self.clock.now())))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let now = self.clock.now();
        let slot = self.slot(key, entry, ttl, now)?;
        self.change(self.shard(key), |shard, displaced| {
            self.insert(key, slot, now, shard, displaced)
        })
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        let now = self.clock.now();
        let slot = self.slot(key, entry, ttl, now)?;
        self.change(self.shard(key), |shard, displaced| {
            if shard.peek(key).is_some_and(|slot| slot.is_live(now)) {
                displaced.keep(slot);
                return Ok(false);
            }
            self.insert(key, slot, now, shard, displaced)?;
            Ok(true)
        })
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        let now = self.clock.now();
        Ok(self.change(self.shard(key), |shard, displaced| {
            shard.remove(key, now, displaced)
        }))
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let shard = self.shard(key);
        loop {
            // What a value is as an integer, its type says, and what it weighs, the weigher: both
            // are users' code, to be run while no lock is held.
            let now = self.clock.now();
            let seen = read(shard)
                .peek(key)
                .filter(|slot| slot.is_live(now))
                .map(|slot| Arc::clone(slot.object()));
            let count = match &seen {
                None => by,
                Some(object) => incremented(&**object, by)?,
            };
            let object: Arc<dyn Object> = Arc::new(count);
            let weight = self.weight_of(key, &*object);
            let done = self.change(shard, |shard, displaced| {
                let live = shard.peek(key).filter(|slot| slot.is_live(now));
                let (meta, expires) = match (live, &seen) {
                    (None, None) => (None, expiry(now, ttl)),
                    (Some(slot), Some(seen)) if Arc::ptr_eq(slot.object(), seen) => {
                        (slot.meta().cloned(), slot.expires())
                    }
                    // Another write came between.
                    _ => return Ok(false),
                };
                let slot = Slot::new(object, meta, expires, weight);
                self.insert(key, slot, now, shard, displaced)?;
                Ok(true)
            });
            if done? {
                return Ok(count);
            }
        }
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let now = self.clock.now();
        let expires = expiry(now, ttl);
        Ok(self.change(self.shard(key), |shard, _| shard.touch(key, expires, now)))
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        for shard in &self.shards {
            self.change(shard, |shard, displaced| shard.clear(prefix, displaced));
        }
        Ok(())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    fn shared_state(&self) -> Option<Arc<SharedState>> {
        Some(Arc::clone(&self.shared_state))
    }

    fn check(&self) -> Result<()> {
        if self.capacity == 0 {
            return Err(Error::new(
                ErrorKind::Config,
                "a memory cache with a capacity of 0 holds nothing; the smallest is 1",
            ));
        }
        Ok(())
    }
}

immediate_store!(Memory);

/// Builds a [`Memory`].
///
/// # Defaults
///
/// - `capacity`: [`Config::default_threshold`](crate::Config::default_threshold)
/// - `weigher`: none, every entry weighs 1
/// - `clock`: [`SystemClock`]
#[must_use]
pub struct MemoryBuilder {
    capacity: Option<u64>,
    weigher: Option<Weigher>,
    clock: Arc<dyn Clock>,
}

/// The fewest entries that are worth a shard of their own.
const SHARD_MIN: u64 = 128;

/// Into how many shards memory by weight is split: an entry may weigh a little less than this
/// part of the whole.
const WEIGHED_SHARDS: u64 = 4;

/// About how many entries a shard by weight holds, as far as it is known: how many evicted keys it
/// remembers hangs on that.
const WEIGHED_ENTRIES: usize = 4096;

impl MemoryBuilder {
    /// How many entries it holds, or, with a [`weigher`](Self::weigher), how much they weigh
    /// together.
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

    /// What an entry weighs: by its key (with the namespace) and its value, which is of the type
    /// that was stored. Entries weigh at least 1.
    ///
    /// It is asked once for each value stored, and must not use the cache. An entry that weighs
    /// more than a quarter of the capacity may be [too large](ErrorKind::TooLarge).
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

    /// The clock that entries expire by; tests take a [`ManualClock`](crate::ManualClock).
    ///
    /// ```
    /// use cacheio::{ManualClock, Memory};
    /// use std::sync::Arc;
    ///
    /// let clock = Arc::new(ManualClock::new());
    /// let memory = Memory::builder().clock(clock.clone()).build();
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The memory. Whether the settings make sense is checked when a cache is built on it.
    pub fn build(self) -> Memory {
        let capacity = self
            .capacity
            .unwrap_or_else(|| config().default_threshold as u64);
        let wanted = match self.weigher {
            Some(_) => WEIGHED_SHARDS,
            None => {
                std::thread::available_parallelism().map_or(4, |threads| threads.get() as u64) * 4
            }
        };
        let mut count = wanted.next_power_of_two();
        while count > 1 && capacity / count < SHARD_MIN {
            count /= 2;
        }
        let shards = (0..count)
            .map(|index| {
                // The first ones take what does not divide: together they hold just the capacity.
                let capacity = capacity / count + u64::from(index < capacity % count);
                let entries = match self.weigher {
                    Some(_) => WEIGHED_ENTRIES,
                    None => usize::try_from(capacity).unwrap_or(usize::MAX),
                };
                RwLock::new(Shard::new(capacity, entries))
            })
            .collect();
        Memory {
            shards,
            clock: self.clock,
            weigher: self.weigher,
            capacity,
            evictions: AtomicU64::new(0),
            shared_state: Arc::default(),
        }
    }
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self {
            capacity: None,
            weigher: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for MemoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("capacity", &self.capacity)
            .field("weigher", &self.weigher.is_some())
            .field("clock", &self.clock)
            .finish()
    }
}
