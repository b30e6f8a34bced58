//! `update` and `take`: a read and a write with no other write between them.
//!
//! `update` reads the entry, calls the closure without any lock, and writes what it decides with
//! [`Store::compare_and_swap`](crate::Store::compare_and_swap). If another write came between, it begins
//! again: also memory does so, because the closure is the user's code and may use the cache.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::lookup::CachedValue;
use super::replace::{MAX_CONFLICTS, expiry_of, too_many_conflicts};
use super::tags::update::ReadToUpdate;
use super::tags::{Versions, tags_of};
use super::write::EntryPolicy;
use super::{Engine, boxed};
use crate::config::ttl::{Lifetime, random_fraction};
use crate::entry::expiry::Expiry;
use crate::entry::tags::{ServerVersions, Stamps, TagVersion};
use crate::entry::wire::{self, OwnedBody};
use crate::key::{Key, KeyBuffer};
use crate::store::store_time::StoreTime;
use crate::{
    CacheKey, Entry, Object, Operation, Options, Payload, Result, Timestamp, Ttl, TtlChange,
    Update, Value,
};

/// The longest pause after the first conflicts, and after how many it becomes longer no more.
const PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: u32 = 20;

/// How many conflicts in memory are without a pause: there, another update soon ends.
const CONFLICTS_IN_MEMORY: usize = 8;

/// What a key holds.
struct Held<V: Value> {
    /// What the store returns, live or not.
    entry: Option<Entry>,
    /// The value of a live entry.
    live: Option<CachedValue<V>>,
    /// The tags of the live entry, or of a new one, on a server.
    tags: Vec<TagVersion>,
    /// Their versions there.
    versions: Versions,
    /// The tags of a new entry.
    stamps: Stamps,
}

/// What an update writes.
struct Change<V: Value> {
    value: Option<Arc<V::Stored>>,
    new: Option<(Entry, TtlChange)>,
    /// How long the entry is live or stale, unless that does not change.
    kept_for: TtlChange,
}

impl<V: Value> Change<V> {
    const REMOVE: Self = Self {
        value: None,
        new: None,
        kept_for: TtlChange::Keep,
    };
}

impl Engine {
    /// Lets `update` decide by the value of a key what becomes of it. Returns the value that is there then.
    pub async fn update<V: Value>(
        &self,
        key: impl CacheKey,
        options: &Options,
        mut update: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<V>> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let updated = async {
            options.policies.check_values()?;
            let time = StoreTime::default();
            for attempt in 1..=MAX_CONFLICTS {
                let read = pin!(self.hold::<V>(&key, options));
                let mut held = self.driver.timed(&time, read).await?;
                let live = held.live.take().map(|cached| V::from_stored(cached.value));
                let current = live.is_some().then_some(held.entry.as_ref()).flatten();
                let change = match update(live) {
                    Update::Keep => {
                        let kept = pin!(self.kept(&key, current));
                        return self.driver.timed(&time, kept).await;
                    }
                    Update::Remove => Change::REMOVE,
                    Update::Set(value) => {
                        self.change::<V>(value, None, current, &held.stamps, options)?
                    }
                    Update::SetFor(value, ttl) => {
                        self.change::<V>(value, Some(ttl), current, &held.stamps, options)?
                    }
                };
                let swap = pin!(self.swap(&key, held, change.new, change.kept_for));
                if self.driver.timed(&time, swap).await? {
                    return Ok(change.value.map(V::from_stored));
                }
                self.pause_after_conflict(attempt).await;
            }
            Err(too_many_conflicts())
        };
        let updated = updated.await;
        updated.map_err(|error| self.in_operation(error, Operation::Update, &key))
    }

    /// Removes an entry, and returns its value if it was live.
    pub async fn take<V: Value>(&self, key: impl CacheKey) -> Result<Option<V>> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let time = StoreTime::default();
        let taken = self.write(&time, key, async {
            let Some(entry) = self.driver.take(&key).await? else {
                return Ok(None);
            };
            let is_valid = self.is_valid(&entry).await?;
            Ok(self.decode_live::<V>(is_valid.then_some(entry))?.live())
        });
        let taken = taken.await;
        if let Ok(taken) = &taken {
            self.count_lookup(taken.as_ref());
        }
        let taken = taken.map_err(|error| self.in_operation(error, Operation::Take, &key))?;
        Ok(taken.map(|cached| V::from_stored(cached.value)))
    }

    /// Reads what a key holds.
    async fn hold<V: Value>(&self, key: &Key<'_>, options: &Options) -> Result<Held<V>> {
        let ReadToUpdate {
            entry,
            is_valid,
            mut versions,
        } = self.read_to_update(key, options).await?;
        let live = match is_valid {
            true => self.decode_live(entry.clone())?.live(),
            false => None,
        };
        let (mut tags, mut stamps) = (Vec::new(), Stamps::default());
        match (&live, &entry) {
            (Some(cached), Some(entry)) => {
                self.record_read_in_memory(cached);
                tags = tags_of(entry);
            }
            _ => {
                // After the read: an invalidation before it does not concern the new entry.
                stamps = self.stamp_in_process(options);
                if self.has_server_tags(options) {
                    let of_new = boxed(|| self.versions_of_new(&mut versions, options));
                    tags = of_new.await?;
                    stamps = stamps.with_versions(ServerVersions::Known(tags.clone().into()));
                }
            }
        }
        Ok(Held {
            entry,
            live,
            tags,
            versions,
            stamps,
        })
    }

    /// Returns the value of an entry that is not changed.
    async fn kept<V: Value>(&self, key: &Key<'_>, current: Option<&Entry>) -> Result<Option<V>> {
        let Some(live) = self.decode_live::<V>(current.cloned())?.live() else {
            return Ok(None);
        };
        self.record_reads([(*key, &live)]).await;
        Ok(Some(V::from_stored(live.value)))
    }

    /// Changes what a key holds, as a write. Returns whether it still held that.
    async fn swap<V: Value>(
        &self,
        key: &Key<'_>,
        held: Held<V>,
        new: Option<(Entry, TtlChange)>,
        kept_for: TtlChange,
    ) -> Result<bool> {
        if let TtlChange::Set(kept_for) = kept_for
            && !held.tags.is_empty()
        {
            boxed(|| self.prolong_versions(&held.tags, &held.versions, kept_for)).await?;
        }
        let keys = [*key];
        let _writes = self.begin_writes(&keys).await;
        self.driver.compare_and_swap(key, held.entry, new).await
    }

    /// Prepares a new value of a key. It takes the place of the value of `current`, the live entry; a new entry
    /// is as one of `set`.
    fn change<V: Value>(
        &self,
        value: V,
        ttl: Option<Ttl>,
        current: Option<&Entry>,
        stamps: &Stamps,
        options: &Options,
    ) -> Result<Change<V>> {
        let stored = value.into_stored();
        let object: Arc<dyn Object> = Arc::clone(&stored) as _;
        let lifetime = match (ttl, current) {
            (None, Some(_)) => None,
            (None | Some(Ttl::Default), _) => Some(options.ttl),
            (Some(ttl), _) => Some(ttl),
        };
        let ttl = match lifetime.map(|ttl| self.lifetime(ttl, options)) {
            None => TtlChange::Keep,
            Some(Lifetime::Live(ttl)) => TtlChange::Set(ttl),
            Some(Lifetime::Zero) => return Ok(Change::REMOVE),
        };
        let (new, kept_for) = match (current, ttl) {
            (Some(current), ttl) => self.replaced(current, &object, ttl)?,
            (None, TtlChange::Keep) => return Ok(Change::REMOVE),
            (None, TtlChange::Set(ttl)) => {
                let policy = EntryPolicy::of_write(options);
                let value = self.shared_value(&object)?;
                let Some((entry, retention)) = self.prepare(value, ttl, stamps, policy)? else {
                    return Ok(Change::REMOVE);
                };
                let kept_for = ttl.map(|ttl| ttl.saturating_add(self.stale_for(options)));
                ((entry, TtlChange::Set(retention)), TtlChange::Set(kept_for))
            }
        };
        Ok(Change {
            value: Some(stored),
            new: Some(new),
            kept_for,
        })
    }

    /// Returns a live entry with another value, and how long it is kept. It is read now, and keeps its tags and
    /// policies.
    fn replaced(
        &self,
        current: &Entry,
        object: &Arc<dyn Object>,
        ttl: TtlChange,
    ) -> Result<((Entry, TtlChange), TtlChange)> {
        let mut entry = self.with_value(current, object)?;
        let now = self.clock.now();
        let expires_at = match ttl {
            TtlChange::Keep => None,
            TtlChange::Set(ttl) => Some(ttl.map_or(Timestamp::MAX, |ttl| now.after(ttl))),
        };
        let until =
            |end: Timestamp| TtlChange::Set((end != Timestamp::MAX).then(|| end.since(now)));
        if let (Some(expires_at), Some(meta)) = (expires_at, &entry.meta) {
            let (touched, keep_until) = meta.touched(expires_at);
            entry.meta = Some(Arc::new(touched));
            return Ok(((entry, until(keep_until)), ttl));
        }
        let expiry = expiry_of(&entry).filter(|expiry| !expiry.is_age_only());
        let (Some(expiry), Payload::Bytes(bytes)) = (expiry, &entry.payload) else {
            return Ok(((entry, ttl), ttl));
        };
        let changed = match expires_at {
            Some(expires_at) => expiry.touched(expires_at),
            None if expiry.idle.is_none() => return Ok(((entry, ttl), ttl)),
            None => expiry,
        };
        let changed = Expiry {
            read_at: now,
            ..changed
        };
        let bytes = wire::with_expiry(bytes, changed)?;
        let new = (Entry::bytes(bytes), TtlChange::Set(changed.retention(now)));
        Ok((new, until(changed.stale_until)))
    }

    /// Returns an entry with another value.
    fn with_value(&self, current: &Entry, object: &Arc<dyn Object>) -> Result<Entry> {
        let Payload::Bytes(bytes) = &current.payload else {
            let mut entry = Entry::object(Arc::clone(object));
            entry.meta.clone_from(&current.meta);
            return Ok(entry);
        };
        let value = OwnedBody::of(&**object, &*self.settings.codec)?;
        wire::with_value(bytes, value).map(Entry::bytes)
    }

    /// Lets others finish: callers that wait for different times do not meet again.
    pub(super) async fn pause_after_conflict(&self, conflicts: usize) {
        let is_in_memory = self.driver.immediate().is_some();
        if conflicts < 2 || (is_in_memory && conflicts < CONFLICTS_IN_MEMORY) {
            return;
        }
        let times = u32::try_from(conflicts)
            .unwrap_or(LONGEST_PAUSE)
            .min(LONGEST_PAUSE);
        self.driver
            .pause((PAUSE * times).mul_f64(random_fraction()))
            .await;
    }
}
