//! `update` and `take`: a read and a write with no other write between them.
//!
//! `update` reads the entry, calls the closure without any lock, and writes what it decides with
//! [`Store::compare_and_swap`](crate::Store::compare_and_swap). If another write came between, it begins
//! again: also memory does so, because the closure is the user's code and may use the cache.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::lookup::CachedValue;
use super::replace::{MAX_CONFLICTS, too_many_conflicts};
use super::write::EntryPolicy;
use super::{Engine, boxed};
use crate::config::ttl::{Lifetime, random_fraction};
use crate::entry::tags::Stamps;
use crate::entry::wire::{self, Body};
use crate::key::{Key, KeyBuffer};
use crate::store::store_time::StoreTime;
use crate::value::Encoded;
use crate::{
    CacheKey, Entry, Object, Operation, Options, Payload, Result, Ttl, TtlChange, Update, Value,
};

/// The longest pause after the first conflicts, and after how many it becomes longer no more.
const PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: u32 = 20;

/// What a key holds.
struct Held<V: Value> {
    /// What the store returns, live or not.
    entry: Option<Entry>,
    /// The value of a live entry.
    live: Option<CachedValue<V>>,
}

/// What an update writes.
struct Change<V: Value> {
    value: Option<Arc<V::Stored>>,
    new: Option<(Entry, TtlChange)>,
}

impl<V: Value> Change<V> {
    const REMOVE: Self = Self {
        value: None,
        new: None,
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
                // Before the read: an invalidation after it holds for the new value, too.
                let stamps = match self.has_server_tags(options) {
                    true => {
                        let stamp = boxed(|| self.stamp(options));
                        self.driver.timed(&time, stamp).await?
                    }
                    false => self.stamp_in_process(options),
                };
                let read = pin!(self.read_to_update::<V>(&key));
                let held = self.driver.timed(&time, read).await?;
                let live = held.live.map(|cached| V::from_stored(cached.value));
                let current = live.is_some().then_some(held.entry.as_ref()).flatten();
                let change = match update(live) {
                    Update::Keep => return self.kept(current),
                    Update::Remove => Change::REMOVE,
                    Update::Set(value) => {
                        self.change::<V>(value, None, current, &stamps, options)?
                    }
                    Update::SetFor(value, ttl) => {
                        self.change::<V>(value, Some(ttl), current, &stamps, options)?
                    }
                };
                if held.entry.is_none() && change.new.is_none() {
                    return Ok(None);
                }
                let keys = [key];
                let writes = pin!(self.begin_writes(&keys));
                let writes = self.driver.timed(&time, writes).await;
                let swap = self.driver.compare_and_swap(&key, held.entry, change.new);
                if self.driver.timed(&time, pin!(swap)).await? {
                    return Ok(change.value.map(V::from_stored));
                }
                drop(writes);
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
        let taken = self.write(key, async {
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

    async fn read_to_update<V: Value>(&self, key: &Key<'_>) -> Result<Held<V>> {
        let entry = self.driver.get(key).await?;
        let live = match &entry {
            Some(entry) if self.is_valid(entry).await? => {
                self.decode_live(Some(entry.clone()))?.live()
            }
            _ => None,
        };
        Ok(Held { entry, live })
    }

    /// Returns the value of an entry that is not changed.
    fn kept<V: Value>(&self, current: Option<&Entry>) -> Result<Option<V>> {
        let live = self.decode_live::<V>(current.cloned())?.live();
        Ok(live.map(|cached| V::from_stored(cached.value)))
    }

    /// Prepares a new value of a key. Without a TTL of its own, it takes the place of the value of `current`,
    /// the live entry.
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
        let new = match (ttl, current) {
            (None, Some(current)) => (self.with_value(current, &object)?, TtlChange::Keep),
            (ttl, _) => {
                let ttl = match ttl {
                    None | Some(Ttl::Default) => options.ttl,
                    Some(ttl) => ttl,
                };
                let Lifetime::Live(ttl) = self.lifetime(ttl, options) else {
                    return Ok(Change::REMOVE);
                };
                let policy = EntryPolicy::of_write(options);
                match self.prepare(object, ttl, stamps, policy)? {
                    Some((entry, ttl)) => (entry, TtlChange::Set(ttl)),
                    None => return Ok(Change::REMOVE),
                }
            }
        };
        Ok(Change {
            value: Some(stored),
            new: Some(new),
        })
    }

    /// Returns an entry with another value.
    fn with_value(&self, current: &Entry, object: &Arc<dyn Object>) -> Result<Entry> {
        let Payload::Bytes(bytes) = &current.payload else {
            let mut entry = Entry::object(Arc::clone(object));
            entry.meta.clone_from(&current.meta);
            return Ok(entry);
        };
        let changed = match object.digits() {
            Some(digits) => wire::with_value(bytes, Body::Integer(digits.as_bytes())),
            None => match object.encode_to_keep(&*self.settings.codec)? {
                Encoded::Codec(encoded) => wire::with_value(bytes, Body::Encoded(&encoded)),
                Encoded::Exact(exact) => wire::with_value(bytes, Body::Exact(&exact)),
            },
        };
        changed.map(Entry::bytes)
    }

    /// Lets others finish: on a server, callers that wait for different times do not meet again.
    async fn pause_after_conflict(&self, conflicts: usize) {
        if self.driver.immediate().is_some() || conflicts < 2 {
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
