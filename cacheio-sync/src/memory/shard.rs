//! One shard: what is in it, and when it is swept.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use cacheio_core::{Entry, Key, Meta, Object, Timestamp};
use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Lifecycle, OptionsBuilder, Weighter};

/// A part of the entries.
pub(super) struct Shard {
    cache: Cache<StoredKey, Slot, ByWeight, KeyHash, Removal>,
    /// When the next entry expires; earlier, if that one is gone.
    next_expiry: Timestamp,
    writes_since_sweep: usize,
}

impl Shard {
    /// A shard for so much weight, and about so many entries: half as many keys are remembered
    /// after their entries were evicted.
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
            cache: Cache::with_options(options, ByWeight, KeyHash, Removal),
            next_expiry: Timestamp::MAX,
            writes_since_sweep: 0,
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

    /// What is under a key, live or not; counts as a use.
    #[inline]
    pub(super) fn get(&self, key: &Key<'_>) -> Option<&Slot> {
        self.cache.get(&Lookup(*key))
    }

    /// What is under a key, live or not.
    pub(super) fn peek(&self, key: &Key<'_>) -> Option<&Slot> {
        self.cache.peek(&Lookup(*key))
    }

    /// Puts an entry in; whether it could be held. If not, what was there is gone too.
    pub(super) fn insert(
        &mut self,
        key: &Key<'_>,
        slot: Slot,
        now: Timestamp,
        displaced: &mut Displaced,
    ) -> bool {
        self.writes_since_sweep += 1;
        if self.next_expiry <= now && self.writes_since_sweep > self.cache.len() / 4 {
            self.sweep(now, displaced);
        }
        self.next_expiry = self.next_expiry.min(slot.ends());
        let Some(bounced) = self.offer(key, slot, now, displaced) else {
            return true;
        };
        // quick_cache makes room for what replaces another only after it is in, and may then pick
        // just that. For what is new it makes room before.
        if let Some((_, old)) = self.cache.remove(&Lookup(*key)) {
            displaced.keep(old);
        }
        match self.offer(key, bounced, now, displaced) {
            None => true,
            Some(too_heavy) => {
                displaced.keep(too_heavy);
                false
            }
        }
    }

    /// Hands an entry to `quick_cache`; gives it back if it did not stay.
    fn offer(
        &mut self,
        key: &Key<'_>,
        slot: Slot,
        now: Timestamp,
        displaced: &mut Displaced,
    ) -> Option<Slot> {
        displaced.offered = Some(Offered {
            key: key.hash(),
            object: slot.address(),
            now,
        });
        self.cache
            .insert_with_lifecycle(StoredKey::new(key.text()), slot, displaced);
        displaced.offered = None;
        displaced.bounced.take()
    }

    /// Takes an entry out; whether it was live.
    pub(super) fn remove(
        &mut self,
        key: &Key<'_>,
        now: Timestamp,
        displaced: &mut Displaced,
    ) -> bool {
        let Some((_, slot)) = self.cache.remove(&Lookup(*key)) else {
            return false;
        };
        let live = slot.is_live(now);
        displaced.keep(slot);
        live
    }

    /// Gives a live entry another end; whether there was one.
    pub(super) fn touch(&mut self, key: &Key<'_>, expires: Timestamp, now: Timestamp) -> bool {
        match self.cache.peek_mut(&Lookup(*key)) {
            Some(mut slot) if slot.is_live(now) => {
                slot.touch(expires);
                self.next_expiry = self.next_expiry.min(slot.ends());
                true
            }
            _ => false,
        }
    }

    /// Takes out what is not kept any more.
    pub(super) fn sweep(&mut self, now: Timestamp, displaced: &mut Displaced) {
        let next_expiry = Cell::new(Timestamp::MAX);
        self.retain(displaced, |_, slot| {
            let kept = slot.is_retained(now);
            if kept {
                next_expiry.set(next_expiry.get().min(slot.ends()));
            }
            kept
        });
        self.next_expiry = next_expiry.get();
        self.writes_since_sweep = 0;
    }

    /// Takes out the keys that begin with `prefix`.
    pub(super) fn clear(&mut self, prefix: &str, displaced: &mut Displaced) {
        if prefix.is_empty() {
            displaced
                .slots
                .extend(self.cache.drain().map(|(_, slot)| slot));
            self.next_expiry = Timestamp::MAX;
        } else {
            self.retain(displaced, |key, _| {
                !key.bytes().starts_with(prefix.as_bytes())
            });
        }
    }

    fn retain(&mut self, displaced: &mut Displaced, keep: impl Fn(&StoredKey, &Slot) -> bool) {
        // `retain` drops what it removes; a share of each value outlives that.
        let removed = RefCell::new(&mut displaced.slots);
        self.cache.retain(|key, slot| {
            let kept = keep(key, slot);
            if !kept {
                removed.borrow_mut().push(slot.clone());
            }
            kept
        });
    }
}

/// What is kept under a key. Kept small: what a hit costs is the cache lines that it touches.
#[derive(Clone)]
pub(super) struct Slot {
    /// Until then it is served without another look.
    fresh_until: Timestamp,
    object: Arc<dyn Object>,
    /// What most entries have not; they weigh 1, and end when they cease to be fresh.
    special: Option<Box<Special>>,
}

#[derive(Clone)]
struct Special {
    meta: Option<Arc<Meta>>,
    expires: Timestamp,
    weight: u64,
}

impl Slot {
    pub(super) fn new(
        object: Arc<dyn Object>,
        meta: Option<Arc<Meta>>,
        expires: Timestamp,
        weight: u64,
    ) -> Self {
        let is_special = meta.is_some() || weight != 1;
        let mut slot = Self {
            fresh_until: expires,
            object,
            special: is_special.then(|| {
                Box::new(Special {
                    meta,
                    expires,
                    weight,
                })
            }),
        };
        slot.expire_at(expires);
        slot
    }

    fn expire_at(&mut self, expires: Timestamp) {
        self.fresh_until = expires;
        if let Some(special) = &mut self.special {
            special.expires = expires;
            if let Some(meta) = &special.meta {
                self.fresh_until = expires.min(meta.fast_path_until());
            }
        }
    }

    /// Gives it another TTL.
    fn touch(&mut self, expires: Timestamp) {
        let mut ends = expires;
        if let Some(special) = &mut self.special
            && let Some(meta) = &special.meta
        {
            let (touched, end) = meta.touched(expires);
            special.meta = Some(Arc::new(touched));
            ends = end;
        }
        self.expire_at(ends);
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires() && self.meta().is_none_or(|meta| meta.is_live(now))
    }

    /// Whether it is live, or outlives its TTL.
    pub(super) fn is_retained(&self, now: Timestamp) -> bool {
        now < self.expires() && self.meta().is_none_or(|meta| meta.is_retained(now))
    }

    pub(super) fn expires(&self) -> Timestamp {
        self.special
            .as_ref()
            .map_or(self.fresh_until, |special| special.expires)
    }

    /// When it is gone, as far as is known now.
    fn ends(&self) -> Timestamp {
        let idle = self.meta().map(|meta| meta.idle_until());
        idle.map_or(self.expires(), |idle| idle.min(self.expires()))
    }

    fn weight(&self) -> u64 {
        self.special.as_ref().map_or(1, |special| special.weight)
    }

    pub(super) fn object(&self) -> &Arc<dyn Object> {
        &self.object
    }

    /// Where the value is: tells values apart.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.object).cast::<()>() as usize
    }

    pub(super) fn meta(&self) -> Option<&Arc<Meta>> {
        self.special.as_ref()?.meta.as_ref()
    }

    /// The value, if it is served at `time` without another look.
    #[inline]
    pub(super) fn plain_until(&self, time: Timestamp) -> Option<Arc<dyn Object>> {
        (time < self.fresh_until).then(|| Arc::clone(&self.object))
    }

    pub(super) fn entry(&self) -> Entry {
        let mut entry = Entry::object(Arc::clone(&self.object));
        entry.meta = self.meta().cloned();
        entry
    }
}

/// A key as it is kept: in place, where it is short.
#[derive(Clone)]
pub(super) enum StoredKey {
    Short {
        len: u8,
        bytes: [u8; StoredKey::SHORT],
    },
    Long(Box<[u8]>),
}

impl StoredKey {
    /// What fits beside the length and the tag in three words.
    const SHORT: usize = 22;

    fn new(text: &str) -> Self {
        let text = text.as_bytes();
        match u8::try_from(text.len()) {
            Ok(len) if text.len() <= Self::SHORT => {
                let mut bytes = [0; Self::SHORT];
                bytes[..text.len()].copy_from_slice(text);
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for StoredKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for StoredKey {}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Key::hash_of(self.bytes()));
    }
}

/// A key to be found.
struct Lookup<'a>(Key<'a>);

impl Hash for Lookup<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash());
    }
}

impl Equivalent<StoredKey> for Lookup<'_> {
    #[inline]
    fn equivalent(&self, key: &StoredKey) -> bool {
        self.0.text().as_bytes() == key.bytes()
    }
}

/// Takes the hash that a key brings along.
#[derive(Clone, Copy)]
struct KeyHash;

impl BuildHasher for KeyHash {
    type Hasher = Brought;

    #[inline]
    fn build_hasher(&self) -> Brought {
        Brought(0)
    }
}

struct Brought(u64);

impl Hasher for Brought {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys bring their hash as one u64");
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the weigher said when the entry came. It is kept, since a value that weighed differently
/// later would upset `quick_cache`'s sums.
#[derive(Clone, Copy)]
struct ByWeight;

impl Weighter<StoredKey, Slot> for ByWeight {
    #[inline]
    fn weight(&self, _: &StoredKey, slot: &Slot) -> u64 {
        slot.weight()
    }
}

/// Collects what falls out.
#[derive(Clone, Copy)]
struct Removal;

impl Lifecycle<StoredKey, Slot> for Removal {
    type RequestState = Displaced;

    fn on_evict(&self, displaced: &mut Displaced, key: StoredKey, slot: Slot) {
        if let Some(offered) = &displaced.offered {
            let same_key = offered.key == Key::hash_of(key.bytes());
            if same_key && offered.object == slot.address() {
                displaced.bounced = Some(slot);
                return;
            }
            if !same_key && slot.is_live(offered.now) {
                displaced.evicted += 1;
            }
        }
        displaced.slots.push(slot);
    }
}

/// What fell out of a shard, until its lock is free.
#[derive(Default)]
pub(super) struct Displaced {
    slots: Vec<Slot>,
    offered: Option<Offered>,
    /// What was offered and did not stay.
    bounced: Option<Slot>,
    /// How many live entries were evicted.
    pub(super) evicted: u64,
}

/// What is being put in.
struct Offered {
    /// The hash of its key.
    key: u64,
    object: usize,
    now: Timestamp,
}

impl Displaced {
    pub(super) fn keep(&mut self, slot: Slot) {
        self.slots.push(slot);
    }
}
