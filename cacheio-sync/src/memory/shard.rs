//! One shard: its entries, its evictions, and the removal of expired entries.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cacheio_core::Timestamp;
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::key::{BuildKeyHasher, MemoryKey, Namespace, StoredKey};
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
    /// No entry expires before this time.
    next_expiry: Timestamp,
    writes_since_sweep: usize,
    /// Whether a key of a namespace was ever stored.
    has_namespaces: bool,
}

impl Shard {
    /// Makes a shard for this weight and about this number of entries: the keys of half as many
    /// evicted entries are remembered.
    pub(super) fn new(capacity: u64, entries: usize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(capacity)
            .shards(1)
            .build();
        let options = match options {
            Ok(options) => options,
            Err(error) => unreachable!("both capacities are given: {error}"),
        };
        Self {
            cache: Cache::with_options(options, SlotWeight, BuildKeyHasher, Collect),
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

    pub(super) fn capacity(&self) -> u64 {
        self.cache.capacity()
    }

    /// Returns whether an entry of the average weight would evict others.
    pub(super) fn is_full(&self) -> bool {
        let average = self.weight() / (self.len() as u64).max(1);
        self.weight() + average.max(1) > self.capacity()
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
        self.next_expiry = self.next_expiry.min(slot.retained_until());
        // An entry of the same weight needs no room: only the value changes.
        if let Some(mut current) = self.cache.get_mut(key)
            && current.weight() == slot.weight()
        {
            removed.push(mem::replace(&mut current, slot));
            return true;
        }
        self.has_namespaces |= key.has_namespace();
        let Some(rejected) = self.try_insert(key, slot, now, removed) else {
            return true;
        };
        // quick_cache makes room for an entry that replaces another only after it was inserted, and
        // may then evict just that one. For a new entry it makes room before.
        if let Some((_, previous)) = self.cache.remove(key) {
            removed.push(previous);
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
        removed.inserting = Some(Inserting {
            hash: key.hash(),
            address: slot.address(),
            now,
        });
        self.cache
            .insert_with_lifecycle(key.stored(), slot, removed);
        removed.inserting = None;
        removed.rejected.take()
    }

    /// Removes an entry; whether it was live.
    pub(super) fn remove(
        &mut self,
        key: &MemoryKey<'_>,
        now: Timestamp,
        removed: &mut Removed,
    ) -> bool {
        let Some((_, slot)) = self.cache.remove(key) else {
            return false;
        };
        let was_live = slot.is_live(now);
        removed.push(slot);
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
        let next_expiry = Cell::new(Timestamp::MAX);
        self.retain(removed, |_, slot| {
            let is_retained = slot.is_retained(now);
            if is_retained {
                next_expiry.set(next_expiry.get().min(slot.retained_until()));
            }
            is_retained
        });
        self.next_expiry = next_expiry.get();
        self.writes_since_sweep = 0;
    }

    /// Removes the entries of a namespace whose keys begin with `prefix`.
    pub(super) fn clear(&mut self, namespace: &Namespace, prefix: &str, removed: &mut Removed) {
        if namespace.is_none() && prefix.is_empty() && !self.has_namespaces {
            removed
                .more
                .extend(self.cache.drain().map(|(_, slot)| slot));
            self.next_expiry = Timestamp::MAX;
        } else {
            self.retain(removed, |key, _| !key.is_in(namespace, prefix));
        }
    }

    fn retain(&mut self, removed: &mut Removed, is_retained: impl Fn(&StoredKey, &Slot) -> bool) {
        // quick_cache drops what it removes while the lock is held; a clone of each value outlives
        // that.
        let more = RefCell::new(&mut removed.more);
        self.cache.retain(|key, slot| {
            let is_retained = is_retained(key, slot);
            if !is_retained {
                more.borrow_mut().push(slot.clone());
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
struct Collect;

impl Lifecycle<StoredKey, Slot> for Collect {
    type RequestState = Removed;

    fn on_evict(&self, removed: &mut Removed, key: StoredKey, slot: Slot) {
        if let Some(inserting) = &removed.inserting {
            let is_same_key = inserting.hash == key.hash_code();
            if is_same_key && inserting.address == slot.address() {
                removed.rejected = Some(slot);
                return;
            }
            if !is_same_key && slot.is_live(inserting.now) {
                removed.evicted += 1;
            }
        }
        removed.push(slot);
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

    pub(super) fn push(&mut self, slot: Slot) {
        match self.first {
            None => self.first = Some(slot),
            Some(_) => self.more.push(slot),
        }
    }
}
