//! A store in this process's memory, over `quick_cache`.
//!
//! `quick_cache` decides what to evict. Expiry and sharding are done here: each shard is one of its
//! single-threaded caches behind a lock. A hit holds one lock for reading, a change is atomic because
//! it holds the lock for writing, and removing expired entries locks one shard at a time.
//!
//! Caches of several namespaces share the shards: each cache has a view of the memory, which
//! stores a short code in place of the namespace.

mod builder;
mod clock;
mod encoded;
mod entries;
mod key;
mod l1;
mod namespaces;
mod removal;
mod shard;
mod slot;
mod swap;

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cacheio_core::__private::{BuilderSettings, CacheUrl, SharedState, UrlMemory};
use cacheio_core::{
    CLOCK_LAG, Clock, Entry, Error, ErrorKind, FastMiss, Form, Key, Object, Payload, Replacement,
    Result, ScanPage, Store, Timestamp, TtlChange, Usage, immediate_store,
};

pub use self::builder::MemoryBuilder;
use self::clock::MemoryClock;
use self::encoded::EncodedObject;
use self::key::{MemoryKey, Namespace};
use self::l1::FastUntil;
pub use self::l1::L1;
use self::namespaces::Namespaces;
use self::removal::{Listener, Reports};
pub use self::removal::{Removal, RemovalCause};
use self::shard::{MAX_WEIGHT, Removed, Shard, ShardLock};
use self::slot::Slot;

/// Computes the weight of an entry.
type Weigher = Arc<dyn Fn(&str, &(dyn Any + Send + Sync)) -> u64 + Send + Sync>;

/// The maximum weight of all entries together.
struct WeightLimit {
    max: u64,
    weigher: Weigher,
}

/// A store in this process's memory: it holds a limited number of entries, each with a TTL that is
/// exact to the millisecond, and evicts by `quick_cache`'s scan-resistant policy (Clock-PRO, close
/// to S3-FIFO).
///
/// Values are stored as they are: no codec, no copy, unless the memory is built with
/// [`through_codec`](MemoryBuilder::through_codec). Expired entries make room: a write that finds
/// any sweeps them out of its shard, at most once every quarter of a shard's entries, so that a
/// write's share of the work is constant. With [`on_removal`](MemoryBuilder::on_removal), reads do so too.
///
/// The capacity is split over shards, so that a shard may evict entries a little before the whole
/// is full. Below 256 entries there is one shard, and the capacity is exact.
///
/// Several caches can share one `Arc<Memory>`. Caches of the same namespace share their entries;
/// caches of different namespaces, or without one, share only the capacity.
///
/// ```
/// # fn main() -> cacheio::Result<()> {
/// use cacheio::{Cache, Memory};
///
/// let cache = Cache::builder().store(Memory::with_capacity(10_000)).build()?;
/// # Ok(()) }
/// ```
pub struct Memory {
    shards: Arc<[ShardLock]>,
    clock: MemoryClock,
    /// The namespace that this is a view of; none in the memory that a user has.
    namespace: Namespace,
    /// What the caches of the namespace share: they invalidate each other's loads.
    shared_state: Arc<SharedState>,
    shared: Arc<Shared>,
    fast_until: FastUntil,
}

/// What all views of a memory share besides its shards.
struct Shared {
    form: Form,
    /// The maximum number of entries, if it is limited.
    capacity: Option<u64>,
    weight_limit: Option<WeightLimit>,
    evictions: AtomicU64,
    namespaces: Mutex<Namespaces>,
    listener: Option<Arc<Listener>>,
}

impl Memory {
    /// Makes memory for [`Config::default_threshold`](crate::Config::default_threshold) entries.
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

    /// Makes memory for this number of entries. A capacity of 0 is an error when a cache is built
    /// on it.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    ///
    /// let cache = Cache::builder().store(Memory::with_capacity(10_000)).build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn with_capacity(entries: usize) -> Self {
        Self::builder().capacity(entries as u64).build()
    }

    /// Returns a builder, for a limit by weight, a removal listener or another clock.
    ///
    /// ```
    /// use cacheio::Memory;
    ///
    /// let memory = Memory::builder().capacity(10_000).build();
    /// ```
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// Returns the number of entries of all namespaces, including expired ones that were not swept
    /// out yet.
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
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Returns whether there are no entries.
    ///
    /// ```
    /// use cacheio::Memory;
    ///
    /// assert!(Memory::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the weight of all entries: without [`max_weight`](MemoryBuilder::max_weight), their number.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    /// use std::sync::Arc;
    ///
    /// let memory = Memory::builder().max_weight(1_000, |key, _| key.len() as u64).build();
    /// let memory = Arc::new(memory);
    /// let cache = Cache::builder().store(Arc::clone(&memory)).build()?;
    /// cache.set("abc", 1)?;
    /// assert_eq!(memory.weight(), 3);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().weight()).sum()
    }

    /// Removes all expired entries now, rather than with the next writes, and those whose tags were invalidated.
    /// When it returns, they were reported to [`on_removal`](MemoryBuilder::on_removal).
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
        for shard in &*self.shards {
            self.apply(shard, |shard, removed| shard.sweep(now, removed));
        }
    }

    #[doc(hidden)]
    pub fn __from_url(mut url: CacheUrl<'_>) -> Result<(Self, BuilderSettings)> {
        if !url.rest().is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a memory:// URL has nothing between `//` and `?`: memory:// or memory://?capacity=10000",
            ));
        }
        let mut builder = Self::builder();
        if let Some(capacity) = url.take("capacity") {
            let capacity: Result<usize, _> = capacity.parse();
            let capacity = capacity.map_err(|_| url.invalid("capacity", "a number of entries"))?;
            builder = builder.capacity(capacity as u64);
        }
        if let Some(through_codec) = url.take("through_codec") {
            let through_codec = through_codec.parse();
            let invalid = |_| url.invalid("through_codec", "`true` or `false`");
            builder = builder.through_codec(through_codec.map_err(invalid)?);
        }
        let snapshot = url.take("snapshot");
        let own = &["capacity", "through_codec", "snapshot"];
        let mut settings = BuilderSettings::from_url(url, own, UrlMemory::NoServer)?;
        if let Some(path) = snapshot {
            settings.set_snapshot(path.into());
        }
        Ok((builder.build(), settings))
    }

    /// Returns a key as the shards know it, and its shard.
    #[inline]
    fn locate<'a>(&'a self, key: &Key<'a>) -> (MemoryKey<'a>, &'a ShardLock) {
        let key = self.namespace.key(key);
        // quick_cache's table uses the lowest and the highest bits of the hash.
        let index = (key.hash() >> 40) as usize & (self.shards.len() - 1);
        (key, &self.shards[index])
    }

    /// Takes something from a value that can be served without a look at its metadata.
    #[inline]
    fn take_fast<T>(&self, key: &Key<'_>, take: impl FnOnce(&Slot) -> T) -> Result<T, FastMiss> {
        let (key, shard) = self.locate(key);
        let shard = shard.read();
        let Some(slot) = shard.get(&key) else {
            drop(shard);
            self.take_turns_after_miss();
            return Err(FastMiss::Absent);
        };
        let until = slot.fast_path_until().min(self.fast_until.get());
        let taken = take(slot);
        // The clock is read without the lock, which is held only briefly. For an entry that may
        // expire within the lag, `get` reads the exact time.
        drop(shard);
        match until == Timestamp::MAX || self.clock.recent().after(CLOCK_LAG) < until {
            true => Ok(taken),
            false => {
                self.take_turns();
                Err(FastMiss::Inspect)
            }
        }
    }

    /// Returns whether nothing is served from now on, because this is an L1 whose time is over.
    fn is_over(&self, now: Timestamp) -> bool {
        self.fast_until.get() <= now && self.shared.listener.is_none()
    }

    /// Changes a shard.
    fn change<T>(
        &self,
        shard: &ShardLock,
        change: impl FnOnce(&mut Shard, &mut Removed) -> T,
    ) -> T {
        let result = self.apply(shard, change);
        self.take_turns();
        result
    }

    /// Applies a change to a shard. Removed entries are dropped after its lock was released: dropping a user's
    /// value may run any code.
    fn apply<T>(&self, shard: &ShardLock, change: impl FnOnce(&mut Shard, &mut Removed) -> T) -> T {
        let mut removed = Removed::default();
        if self.shared.listener.is_some() {
            removed.reports = Some(Reports::default());
        }
        let result = change(&mut shard.write(), &mut removed);
        if removed.evicted > 0 {
            let evictions = &self.shared.evictions;
            evictions.fetch_add(removed.evicted, Ordering::Relaxed);
        }
        if let Some(reports) = removed.reports.take() {
            self.report(reports);
        }
        result
    }

    fn weight_of(&self, key: &Key<'_>, object: &dyn Object) -> u64 {
        match &self.shared.weight_limit {
            Some(limit) => {
                let weight = (limit.weigher)(&self.namespace.full_text(key), object.value());
                weight.clamp(1, MAX_WEIGHT)
            }
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
        let object = match (entry.payload, self.shared.form) {
            (Payload::Object(object), Form::Objects) => object,
            (Payload::Bytes(bytes), Form::Bytes) => Arc::new(EncodedObject(bytes)),
            _ => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "memory keeps values, not bytes, unless it is built with `through_codec`",
                ));
            }
        };
        let weight = self.weight_of(key, &*object);
        Ok(Slot::new(object, entry.meta, expiry(now, ttl), weight))
    }

    /// Returns the entry in a slot.
    fn entry(&self, slot: &Slot) -> Entry {
        match self.shared.form {
            Form::Bytes => encoded::entry(&**slot.object()).unwrap_or_else(|| slot.entry()),
            _ => slot.entry(),
        }
    }

    fn insert(
        &self,
        key: &MemoryKey<'_>,
        slot: Slot,
        now: Timestamp,
        shard: &mut Shard,
        removed: &mut Removed,
    ) -> Result<()> {
        if shard.insert(key, slot, now, removed) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the entry weighs more than memory with a `max_weight` of {} can hold (a shard of it holds {})",
                self.shared
                    .weight_limit
                    .as_ref()
                    .map_or(0, |limit| limit.max),
                shard.max_weight()
            ),
        ))
    }
}

/// Returns the time at which an entry expires that is stored now.
fn expiry(now: Timestamp, ttl: Option<Duration>) -> Timestamp {
    ttl.map_or(Timestamp::MAX, |ttl| now.after(ttl))
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("capacity", &self.shared.capacity)
            .field(
                "max_weight",
                &self.shared.weight_limit.as_ref().map(|limit| limit.max),
            )
            .field("len", &self.len())
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl Store for Memory {
    fn form(&self) -> Form {
        self.shared.form
    }

    #[inline]
    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let (key, shard) = self.locate(key);
        let shard = shard.read();
        let slot = shard.get(&key);
        let retained = slot.filter(|slot| {
            let now = self.clock.now();
            slot.is_retained(now) && !self.is_over(now)
        });
        Ok(retained.map(|slot| self.entry(slot)))
    }

    #[inline]
    fn get_fast(&self, key: &Key<'_>) -> Result<Arc<dyn Object>, FastMiss> {
        self.take_fast(key, |slot| Arc::clone(slot.object()))
    }

    #[inline]
    fn get_word(&self, key: &Key<'_>, stored: TypeId) -> Result<u64, FastMiss> {
        self.take_fast(key, |slot| slot.word(stored))?
            .ok_or(FastMiss::Inspect)
    }

    fn has(&self, key: &Key<'_>) -> Result<bool> {
        self.take_turns();
        let (key, shard) = self.locate(key);
        let shard = shard.read();
        let slot = shard.peek(&key);
        Ok(slot.is_some_and(|slot| {
            let now = self.clock.now();
            slot.is_live(now) && !self.is_over(now)
        }))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let now = self.clock.now();
        let slot = self.slot(key, entry, ttl, now)?;
        let (key, shard) = self.locate(key);
        self.change(shard, |shard, removed| {
            self.insert(&key, slot, now, shard, removed)
        })
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        let now = self.clock.now();
        let slot = self.slot(key, entry, ttl, now)?;
        let (key, shard) = self.locate(key);
        self.change(shard, |shard, removed| {
            if shard.peek(&key).is_some_and(|slot| slot.is_live(now)) {
                removed.push(slot);
                return Ok(false);
            }
            self.insert(&key, slot, now, shard, removed)?;
            Ok(true)
        })
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        let now = self.clock.now();
        let (key, shard) = self.locate(key);
        Ok(self.change(shard, |shard, removed| shard.remove(&key, now, removed)))
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        self.increment_entry(key, by, ttl)
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let now = self.clock.now();
        let expires_at = expiry(now, ttl);
        let (key, shard) = self.locate(key);
        Ok(self.change(shard, |shard, _| shard.touch(&key, expires_at, now)))
    }

    fn take(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        Ok(self.take_entry(key))
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        self.swap(key, current.as_ref(), new)
    }

    fn replace(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool> {
        let new = (replacement.new, replacement.ttl);
        self.swap(key, Some(&replacement.current), Some(new))
    }

    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        Ok(keys.iter().map(|key| self.get_with_ttl(key)).collect())
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        let now = self.clock.now();
        for shard in &*self.shards {
            self.change(shard, |shard, removed| {
                shard.clear(&self.namespace, prefix, now, removed);
            });
        }
        Ok(())
    }

    fn scan(&self, prefix: &str, from: Option<String>, max: usize) -> Result<ScanPage> {
        self.take_turns();
        self.keys_from(prefix, from.as_deref(), max)
    }

    fn usage(&self, prefix: &str) -> Result<Usage> {
        self.take_turns();
        Ok(self.usage_of(prefix))
    }

    fn maintain(&self) {
        self.take_turns();
    }

    fn in_namespace(&self, prefix: &str) -> Option<Arc<dyn Store>> {
        let namespaces = self.shared.namespaces.lock();
        let mut namespaces = namespaces.unwrap_or_else(PoisonError::into_inner);
        let (namespace, shared_state) = namespaces.open(prefix)?;
        Some(Arc::new(Self {
            shards: Arc::clone(&self.shards),
            clock: self.clock.clone(),
            namespace,
            shared_state,
            shared: Arc::clone(&self.shared),
            // A view of memory with a listener finds out when the next turn is.
            fast_until: FastUntil::new(match self.shared.listener {
                Some(_) => Timestamp::MIN,
                None => Timestamp::MAX,
            }),
        }))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.shared()
    }

    fn evictions(&self) -> u64 {
        self.shared.evictions.load(Ordering::Relaxed)
    }

    fn shared_state(&self) -> Option<Arc<SharedState>> {
        Some(Arc::clone(&self.shared_state))
    }

    fn check(&self) -> Result<()> {
        let invalid = |message| Err(Error::new(ErrorKind::Config, message));
        let max_weight = self.shared.weight_limit.as_ref().map(|limit| limit.max);
        if self.shared.capacity == Some(0) {
            return invalid("a memory cache with a capacity of 0 holds nothing; the smallest is 1");
        }
        if max_weight == Some(0) {
            return invalid(
                "a memory cache with a `max_weight` of 0 holds nothing; the smallest is 1",
            );
        }
        if self.shared.form == Form::Bytes && self.shared.listener.is_some() {
            return invalid(
                "memory with `through_codec` is like a server, which reports no removals; remove `on_removal` or `through_codec`",
            );
        }
        Ok(())
    }
}

immediate_store!(Memory);
