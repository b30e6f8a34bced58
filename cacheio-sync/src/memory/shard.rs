//! One shard: its entries, its evictions, and the removal of expired entries.

use std::cell::RefCell;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cacheio_core::Timestamp;
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::key::{BuildKeyHasher, MemoryKey, Namespace, StoredKey};
use super::removal::{RemovalCause, Reports};
use super::slot::Slot;

/// A shard behind its lock. Locking it writes to its first cache line: the alignment keeps the shards
/// next to it out of that line, and out of the one that processors fetch with it.
#[repr(align(128))]
pub(super) struct ShardLock(RwLock<Shard>);

impl ShardLock {
    pub(super) fn new(shard: Shard) -> Self {
        Self(RwLock::new(shard))
    }

    // A weigher or a value's `drop` that panics leaves a shard as it was before or after the change.

    #[inline]
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Shard> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Shard> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Shard {
    cache: Cache<StoredKey, Slot, SlotWeight, BuildKeyHasher, Collect>,
    /// The maximum number of entries, if the weight alone does not limit it.
    max_entries: usize,
    /// No entry expires before this time.
    next_expiry: Timestamp,
    writes_since_sweep: usize,
    /// Whether a key of a namespace was ever stored.
    has_namespaces: bool,
}

/// The largest weight of an entry, and of a shard: the sum of two does not overflow.
pub(super) const MAX_WEIGHT: u64 = u64::MAX / 2;

impl Shard {
    /// Makes a shard for this weight and number of entries; without the latter, each entry weighs 1 or the weight
    /// alone limits the shard. The keys of half of `entries` evicted entries are remembered.
    pub(super) fn new(max_weight: u64, max_entries: Option<usize>, entries: usize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(max_weight.min(MAX_WEIGHT))
            .shards(1)
            .build();
        let options = match options {
            Ok(options) => options,
            Err(error) => unreachable!("both capacities are given: {error}"),
        };
        let collect = Collect {
            has_rooms: max_entries.is_some(),
        };
        Self {
            cache: Cache::with_options(options, SlotWeight, BuildKeyHasher, collect),
            max_entries: max_entries.unwrap_or(usize::MAX),
            next_expiry: Timestamp::MAX,
            writes_since_sweep: 0,
            has_namespaces: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.cache.weight()
    }

    pub(super) fn max_weight(&self) -> u64 {
        self.cache.capacity()
    }

    /// Returns whether an entry of the average weight would evict others.
    pub(super) fn is_full(&self) -> bool {
        let average = self.weight() / (self.len() as u64).max(1);
        self.len() >= self.max_entries || self.weight() + average.max(1) > self.max_weight()
    }

    /// Returns a time before which no entry expires.
    pub(super) fn next_expiry(&self) -> Timestamp {
        self.next_expiry
    }

    /// Returns the entry under a key, live or not, and counts as a use of it.
    #[inline]
    pub(super) fn get(&self, key: &MemoryKey<'_>) -> Option<&Slot> {
        self.cache.get(key)
    }

    /// Returns the entry under a key, live or not.
    pub(super) fn peek(&self, key: &MemoryKey<'_>) -> Option<&Slot> {
        self.cache.peek(key)
    }

    /// Returns the entries of a namespace whose keys begin with `prefix`, live or not.
    pub(super) fn entries<'a>(
        &'a self,
        namespace: &'a Namespace,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Slot)> {
        let entries = self.cache.iter();
        let entries = entries.filter(|(key, _)| key.is_in(namespace, prefix));
        entries.map(|(key, slot)| (key.text(), slot))
    }

    /// Stores an entry; whether the shard could hold it. If not, the previous entry is removed too.
    pub(super) fn insert(
        &mut self,
        key: &MemoryKey<'_>,
        slot: Slot,
        now: Timestamp,
        removed: &mut Removed,
    ) -> bool {
        self.writes_since_sweep += 1;
        if self.next_expiry <= now && self.writes_since_sweep > self.cache.len() / 4 {
            self.sweep(now, removed);
        }
        // One of its tags may have been invalidated since it was prepared.
        let retained_until = slot.retained_at(now).unwrap_or(Timestamp::MIN);
        self.next_expiry = self.next_expiry.min(retained_until);
        let mut is_same_object = false;
        // An entry of the same weight needs no room: only the value changes.
        if let Some(mut current) = self.cache.get_mut(key) {
            if current.weight() == slot.weight() {
                let previous = mem::replace(&mut *current, slot);
                removed.remove(|| key.stored(), previous, now, RemovalCause::Replaced);
                return true;
            }
            is_same_object = current.address() == slot.address();
        }
        self.has_namespaces |= key.has_namespace();
        // The object tells the entry that is stored from the one that it replaces.
        if is_same_object && let Some((key, previous)) = self.cache.remove(key) {
            removed.remove(|| key, previous, now, RemovalCause::Replaced);
        }
        let fits = slot.weight() <= self.max_weight();
        if fits && self.cache.len() >= self.max_entries && self.cache.peek(key).is_none() {
            self.evict_one(now, removed);
        }
        let Some(rejected) = self.try_insert(key, slot, now, removed) else {
            return true;
        };
        // quick_cache makes room for an entry that replaces another only after it was inserted, and
        // may then evict just that one. For a new entry it makes room before.
        if let Some((key, previous)) = self.cache.remove(key) {
            removed.remove(|| key, previous, now, RemovalCause::Replaced);
        }
        match self.try_insert(key, rejected, now, removed) {
            None => true,
            Some(too_heavy) => {
                removed.push(too_heavy);
                false
            }
        }
    }

    /// Inserts an entry into `quick_cache`; returns it if it did not stay.
    fn try_insert(
        &mut self,
        key: &MemoryKey<'_>,
        slot: Slot,
        now: Timestamp,
        removed: &mut Removed,
    ) -> Option<Slot> {
        self.insert_stored(key.stored(), key.hash(), slot, now, removed);
        removed.rejected.take()
    }

    fn insert_stored(
        &mut self,
        key: StoredKey,
        hash: u64,
        slot: Slot,
        now: Timestamp,
        removed: &mut Removed,
    ) {
        removed.inserting = Some(Inserting {
            hash,
            address: slot.address(),
            now,
        });
        self.cache.insert_with_lifecycle(key, slot, removed);
        removed.inserting = None;
    }

    /// Evicts an entry, although the weight of all does not require it.
    ///
    /// `quick_cache` only evicts to make room for weight. So an entry is inserted that is too heavy by 1, and removed
    /// again. Because it is pinned, it is not evicted itself, nor refused.
    #[cold]
    fn evict_one(&mut self, now: Timestamp, removed: &mut Removed) {
        let room = StoredKey::room();
        let free = self.cache.capacity().saturating_sub(self.cache.weight());
        let slot = Slot::new(Arc::new(()), None, Timestamp::MAX, free + 1);
        self.insert_stored(room.clone(), room.hash_code(), slot, now, removed);
        self.cache.remove(&room);
    }

    /// Removes an entry; whether it was live.
    pub(super) fn remove(
        &mut self,
        key: &MemoryKey<'_>,
        now: Timestamp,
        removed: &mut Removed,
    ) -> bool {
        let Some((key, slot)) = self.cache.remove(key) else {
            return false;
        };
        let was_live = slot.is_live(now);
        removed.remove(|| key, slot, now, RemovalCause::Deleted);
        was_live
    }

    /// Replaces the TTL of a live entry; whether there was one.
    pub(super) fn touch(
        &mut self,
        key: &MemoryKey<'_>,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> bool {
        match self.cache.peek_mut(key) {
            Some(mut slot) if slot.is_live(now) => {
                slot.touch(expires_at);
                self.next_expiry = self.next_expiry.min(slot.retained_until());
                true
            }
            _ => false,
        }
    }

    /// Removes the entries that are no longer retained.
    pub(super) fn sweep(&mut self, now: Timestamp, removed: &mut Removed) {
        self.next_expiry = Timestamp::MAX;
        let mut ended = Vec::new();
        // In the order of the memory, which is several times as fast as `retain` if most entries stay.
        for (key, slot) in self.cache.iter() {
            match slot.retained_at(now) {
                Some(until) => self.next_expiry = self.next_expiry.min(until),
                None => ended.push(key.clone()),
            }
        }
        for key in ended {
            if let Some((key, slot)) = self.cache.remove(&key) {
                removed.remove(|| key, slot, now, RemovalCause::Expired);
            }
        }
        self.writes_since_sweep = 0;
    }

    /// Removes the entries of a namespace whose keys begin with `prefix`.
    pub(super) fn clear(
        &mut self,
        namespace: &Namespace,
        prefix: &str,
        now: Timestamp,
        removed: &mut Removed,
    ) {
        let cause = RemovalCause::Cleared;
        if namespace.is_none() && prefix.is_empty() && !self.has_namespaces {
            for (key, slot) in self.cache.drain() {
                removed.remove(|| key, slot, now, cause);
            }
            self.next_expiry = Timestamp::MAX;
        } else {
            self.retain(now, cause, removed, |key, _| !key.is_in(namespace, prefix));
        }
    }

    fn retain(
        &mut self,
        now: Timestamp,
        cause: RemovalCause,
        removed: &mut Removed,
        is_retained: impl Fn(&StoredKey, &Slot) -> bool,
    ) {
        // quick_cache drops what it removes while the lock is held; a clone of each value outlives
        // that.
        let removed = RefCell::new(removed);
        self.cache.retain(|key, slot| {
            let is_retained = is_retained(key, slot);
            if !is_retained {
                let mut removed = removed.borrow_mut();
                removed.remove(|| key.clone(), slot.clone(), now, cause);
            }
            is_retained
        });
    }
}

/// Weighs entries as the weigher did when they were stored. A value that weighed differently later
/// would corrupt `quick_cache`'s sums.
#[derive(Clone, Copy)]
struct SlotWeight;

impl Weighter<StoredKey, Slot> for SlotWeight {
    #[inline]
    fn weight(&self, _: &StoredKey, slot: &Slot) -> u64 {
        slot.weight()
    }
}

/// Collects the entries that `quick_cache` removes.
#[derive(Clone, Copy)]
struct Collect {
    /// Whether entries make [room](StoredKey::room) for others.
    has_rooms: bool,
}

impl Lifecycle<StoredKey, Slot> for Collect {
    type RequestState = Removed;

    fn is_pinned(&self, key: &StoredKey, _: &Slot) -> bool {
        self.has_rooms && key.is_room()
    }

    fn on_evict(&self, removed: &mut Removed, key: StoredKey, slot: Slot) {
        let Some(inserting) = &removed.inserting else {
            return removed.push(slot);
        };
        let now = inserting.now;
        let is_same_key = inserting.hash == key.hash_code();
        if is_same_key && inserting.address == slot.address() {
            removed.rejected = Some(slot);
            return;
        }
        if !is_same_key && slot.is_live(now) {
            removed.evicted += 1;
        }
        let cause = match is_same_key {
            true => RemovalCause::Replaced,
            false => RemovalCause::Evicted,
        };
        removed.remove(|| key, slot, now, cause);
    }
}

/// Entries that were removed from a shard, to be dropped after its lock was released.
#[derive(Default)]
pub(super) struct Removed {
    /// Most writes remove one entry at most: a vector would cost each an allocation.
    first: Option<Slot>,
    more: Vec<Slot>,
    inserting: Option<Inserting>,
    /// The entry being inserted, if it did not stay.
    rejected: Option<Slot>,
    /// The number of live entries that were evicted.
    pub(super) evicted: u64,
    /// What a listener is told, if there is one.
    pub(super) reports: Option<Reports>,
}

/// The entry that is being inserted.
struct Inserting {
    hash: u64,
    address: usize,
    now: Timestamp,
}

impl Removed {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Adds an entry that was removed.
    fn remove(
        &mut self,
        key: impl FnOnce() -> StoredKey,
        slot: Slot,
        now: Timestamp,
        cause: RemovalCause,
    ) {
        match &mut self.reports {
            None => self.push(slot),
            Some(reports) => {
                let cause = slot.cause(now, cause);
                reports.push(key(), slot, cause);
            }
        }
    }

    /// Adds an entry that was not stored.
    pub(super) fn push(&mut self, slot: Slot) {
        match self.first {
            None => self.first = Some(slot),
            Some(_) => self.more.push(slot),
        }
    }
}
