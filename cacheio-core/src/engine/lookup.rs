//! Reading entries: decoding what the store returns, and deciding what a caller gets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::l1::Read;
use super::snapshot::entry_of_snapshot;
use super::{Engine, boxed};
use crate::config::ttl::random_fraction;
use crate::entry::expiry::{Expiry, Freshness};
use crate::entry::wire::{self, Body, OwnedBody};
use crate::key::Key;
use crate::snapshot::EncodedValue;
use crate::stats::Count;
use crate::value::downcast;
use crate::value::raw::EntryBytes;
use crate::{
    Entry, Error, ErrorKind, Fetched, Form, Meta, Object, Operation, Options, Payload,
    RefreshAhead, Result, Source, Value,
};

/// A value, and the metadata of its entry.
pub(super) struct CachedValue<V: Value> {
    pub(super) value: Arc<V::Stored>,
    pub(super) expiry: Option<Expiry>,
    /// Present in memory only.
    pub(super) meta: Option<Arc<Meta>>,
    /// The entry, if it may have to be changed: on a server to record a read or a failed load, and in memory to keep the
    /// value of an [`EncodedValue`].
    pub(super) entry: Option<Arc<Entry>>,
    /// Whether it is from L1.
    pub(super) is_copy: bool,
}

impl<V: Value> CachedValue<V> {
    /// Creates one for a value that is in no store.
    pub(super) fn uncached(value: Arc<V::Stored>) -> Self {
        Self {
            value,
            expiry: None,
            meta: None,
            entry: None,
            is_copy: false,
        }
    }
}

impl<V: Value> Clone for CachedValue<V> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            expiry: self.expiry,
            meta: self.meta.clone(),
            entry: self.entry.clone(),
            is_copy: self.is_copy,
        }
    }
}

/// The result of reading a key.
pub(super) enum Lookup<V: Value> {
    Live(CachedValue<V>),
    Stale(CachedValue<V>),
    /// There is an entry, but it cannot be decoded as a `V`.
    Unreadable,
    Absent,
}

impl<V: Value> Lookup<V> {
    pub(super) fn live(self) -> Option<CachedValue<V>> {
        match self {
            Self::Live(value) => Some(value),
            Self::Stale(_) | Self::Unreadable | Self::Absent => None,
        }
    }

    /// Returns the value, if it is live.
    pub(super) fn as_live(&self) -> Option<&CachedValue<V>> {
        match self {
            Self::Live(value) => Some(value),
            Self::Stale(_) | Self::Unreadable | Self::Absent => None,
        }
    }
}

/// What a loading call does after a read.
pub(super) enum LookupDecision<V: Value> {
    /// It returns the live value.
    Serve(CachedValue<V>),
    /// It returns the live value, and one caller refreshes it.
    Refresh(CachedValue<V>),
    /// It returns the stale value, because a load failed recently.
    ServeStale(CachedValue<V>),
    /// It loads.
    Load(Previous<V>),
}

impl<V: Value> LookupDecision<V> {
    /// Whether a load may follow.
    pub(super) fn needs_load(&self) -> bool {
        matches!(self, Self::Refresh(_) | Self::Load(_))
    }
}

/// The entry that a load replaces.
pub(super) enum Previous<V: Value> {
    /// There is none.
    Nothing,
    /// One that has expired and may still be served.
    Stale(CachedValue<V>),
    /// A live one, which the load refreshes.
    Live(CachedValue<V>),
    /// One that cannot be decoded as a `V`.
    Unreadable,
    /// `force_refresh` did not look for one.
    Ignored,
}

impl<V: Value> Previous<V> {
    pub(super) fn value(&self) -> Option<&CachedValue<V>> {
        match self {
            Self::Stale(value) | Self::Live(value) => Some(value),
            Self::Nothing | Self::Unreadable | Self::Ignored => None,
        }
    }

    pub(super) fn stale(&self) -> Option<&CachedValue<V>> {
        match self {
            Self::Stale(value) => Some(value),
            _ => None,
        }
    }

    /// Whether the store is read again for a stale value when the load fails.
    pub(super) fn may_be_reread(&self) -> bool {
        matches!(self, Self::Stale(_) | Self::Unreadable | Self::Nothing)
    }

    /// Whether a stale value may be served when the load fails.
    pub(super) fn allows_fallback(&self) -> bool {
        !matches!(self, Self::Ignored)
    }

    /// Whether the store may hold an entry that has to go when the loaded value is not stored.
    pub(super) fn may_exist(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

impl<V: Value> Clone for Previous<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Unreadable => Self::Unreadable,
            Self::Stale(value) => Self::Stale(value.clone()),
            Self::Live(value) => Self::Live(value.clone()),
            Self::Ignored => Self::Ignored,
        }
    }
}

impl Engine {
    /// Decodes an entry as a `V` for a reader that accepts only live ones.
    pub(super) fn decode_live<V: Value>(&self, entry: Option<Entry>) -> Result<Lookup<V>> {
        self.decode_entry(entry, Duration::ZERO, RefreshAhead::Never)
    }

    /// Decodes an entry as a `V` for a reader with these policies. An expired entry is not decoded.
    pub(super) fn decode_entry<V: Value>(
        &self,
        entry: Option<Entry>,
        stale_for: Duration,
        ahead: RefreshAhead,
    ) -> Result<Lookup<V>> {
        let Some(Entry {
            payload,
            meta,
            version,
            ..
        }) = entry
        else {
            return Ok(Lookup::Absent);
        };
        match payload {
            Payload::Object(object) => {
                let expiry = meta.as_ref().and_then(|meta| meta.expiry);
                let mut is_converted = false;
                let mut lookup = self.classify(expiry, meta, stale_for, || {
                    if let Some(value) = downcast(Arc::clone(&object)) {
                        return Ok(value);
                    }
                    is_converted = true;
                    self.converted::<V>(&object)
                });
                if is_converted && let Ok(Lookup::Live(cached)) = &mut lookup {
                    cached.entry = entry_of_snapshot::<V>(&object, cached);
                }
                lookup
            }
            Payload::Bytes(bytes) => {
                let bytes = EntryBytes::new::<V::Stored>(bytes);
                let (body, expiry) = wire::open(&bytes)?;
                let mut lookup = self.classify(expiry, None, stale_for, || {
                    let raw = bytes.value(body);
                    raw.map_or_else(|| self.decode::<V>(body), Ok)
                })?;
                let may_change = |expiry: Expiry| {
                    let now = self.clock.now();
                    expiry.must_record_read(now) || now >= expiry.due_from(ahead)
                };
                let cached = match &mut lookup {
                    Lookup::Live(cached) if expiry.is_some_and(may_change) => cached,
                    Lookup::Stale(cached) => cached,
                    _ => return Ok(lookup),
                };
                cached.entry = Some(Arc::new(Entry {
                    version,
                    ..Entry::bytes(bytes.into_vec())
                }));
                Ok(lookup)
            }
        }
    }

    fn classify<V: Value>(
        &self,
        expiry: Option<Expiry>,
        meta: Option<Arc<Meta>>,
        stale_for: Duration,
        decode: impl FnOnce() -> Result<Arc<V::Stored>>,
    ) -> Result<Lookup<V>> {
        let freshness = expiry.map_or(Freshness::Live, |expiry| {
            if !expiry.is_age_only() {
                self.note_headers_in_use();
            }
            expiry.freshness(self.clock.now(), stale_for)
        });
        let lookup = match freshness {
            Freshness::Live => Lookup::Live,
            Freshness::Stale => Lookup::Stale,
            Freshness::Expired => return Ok(Lookup::Absent),
        };
        let value = decode()?;
        Ok(lookup(CachedValue {
            expiry,
            meta,
            ..CachedValue::uncached(value)
        }))
    }

    fn decode<V: Value>(&self, body: Body<'_>) -> Result<Arc<V::Stored>> {
        body.decode::<V>(&*self.settings.codec)
    }

    /// Returns an object as a `V`, through the codec if it has another type.
    pub(super) fn object_as<V: Value>(&self, object: &Arc<dyn Object>) -> Result<Arc<V::Stored>> {
        match downcast(Arc::clone(object)) {
            Some(value) => Ok(value),
            None => self.converted::<V>(object),
        }
    }

    /// Converts an object of another type.
    #[cold]
    fn converted<V: Value>(&self, object: &Arc<dyn Object>) -> Result<Arc<V::Stored>> {
        if let Some(encoded) = EncodedValue::of(&**object) {
            return encoded.decode::<V>();
        }
        // As on a server.
        let body = OwnedBody::of(&**object, &*self.settings.codec).map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                format!(
                    "the entry is a `{}`, which cannot be read as `{}`; set and get_or_set \
                     replace it",
                    Object::type_name(&**object),
                    std::any::type_name::<V>()
                ),
            )
            .with_source(error)
        })?;
        self.decode::<V>(body.as_body())
    }

    /// Reads a key for a loading call. A failure is counted, logged and treated as a miss.
    pub(super) async fn look_up<V: Value>(&self, key: &Key<'_>, options: &Options) -> Lookup<V> {
        let read = self.read_entry(key, options.skip_l1).await;
        self.lookup_of(key, read, options)
    }

    /// Reads several keys in one round trip.
    pub(super) async fn look_up_many<V: Value>(
        &self,
        keys: &[Key<'_>],
        options: &Options,
    ) -> Vec<Lookup<V>> {
        match keys {
            [] => Vec::new(),
            [key] => vec![self.look_up(key, options).await],
            _ => {
                // On the heap, so that the future for one key stays small.
                let read = boxed(|| self.read_entries(keys, options.skip_l1)).await;
                self.lookups_of(keys, read, options)
            }
        }
    }

    /// Decodes what was read for several keys.
    pub(super) fn lookups_of<V: Value>(
        &self,
        keys: &[Key<'_>],
        read: Result<Vec<Read>>,
        options: &Options,
    ) -> Vec<Lookup<V>> {
        match (keys, read) {
            // A store that returns too few entries has none of the others.
            (_, Ok(read)) => keys
                .iter()
                .zip(
                    read.into_iter()
                        .chain(std::iter::repeat_with(Read::default)),
                )
                .map(|(key, read)| self.lookup_of(key, Ok(read), options))
                .collect(),
            ([key], Err(error)) => vec![self.lookup_of(key, Err(error), options)],
            (_, Err(error)) => {
                self.on_store_error(&error.during(Operation::GetMany));
                keys.iter().map(|_| Lookup::Absent).collect()
            }
        }
    }

    pub(super) fn lookup_of<V: Value>(
        &self,
        key: &Key<'_>,
        read: Result<Read>,
        options: &Options,
    ) -> Lookup<V> {
        match read.and_then(|read| self.decode_read::<V>(key, read, Some(options))) {
            Ok(lookup) => lookup,
            Err(error) => {
                let is_unreadable = error.kind() == ErrorKind::Decode;
                self.on_store_error(&self.in_operation(error, Operation::Get, key));
                match is_unreadable {
                    true => Lookup::Unreadable,
                    false => Lookup::Absent,
                }
            }
        }
    }

    /// Records the reads that found live entries, and decides what a loading call does about each key.
    pub(super) async fn decide_many<V: Value>(
        &self,
        keys: &[Key<'_>],
        lookups: Vec<Lookup<V>>,
        options: &Options,
    ) -> Vec<LookupDecision<V>> {
        let live = keys.iter().zip(&lookups);
        self.record_reads(live.filter_map(|(key, lookup)| match lookup {
            Lookup::Live(cached) => Some((*key, cached)),
            Lookup::Stale(_) | Lookup::Unreadable | Lookup::Absent => None,
        }))
        .await;
        let decided = keys.iter().zip(lookups);
        decided
            .map(|(key, lookup)| self.decide(key, lookup, options))
            .collect()
    }

    /// Decides what a loading call does after reading `key`. The read of a live entry was recorded.
    pub(super) fn decide<V: Value>(
        &self,
        key: &Key<'_>,
        lookup: Lookup<V>,
        options: &Options,
    ) -> LookupDecision<V> {
        match lookup {
            Lookup::Live(cached) => self.decide_live(key, cached, options),
            Lookup::Stale(cached) => self.decide_stale(key, cached),
            Lookup::Unreadable => LookupDecision::Load(Previous::Unreadable),
            Lookup::Absent => LookupDecision::Load(Previous::Nothing),
        }
    }

    fn decide_live<V: Value>(
        &self,
        key: &Key<'_>,
        cached: CachedValue<V>,
        options: &Options,
    ) -> LookupDecision<V> {
        match self.is_due(key, &cached, options) {
            true => LookupDecision::Refresh(cached),
            false => LookupDecision::Serve(cached),
        }
    }

    fn decide_stale<V: Value>(&self, key: &Key<'_>, cached: CachedValue<V>) -> LookupDecision<V> {
        if self.is_throttled(key, &cached) {
            self.count_stale_hit(&cached);
            return LookupDecision::ServeStale(cached);
        }
        LookupDecision::Load(Previous::Stale(cached))
    }

    /// Returns whether none of the tags of a value was invalidated since it was read, as far as that is known.
    pub(super) async fn is_retained<V: Value>(&self, cached: &CachedValue<V>) -> bool {
        match (&cached.meta, &cached.entry) {
            (Some(meta), _) => meta.is_retained(self.clock.now()),
            (None, Some(entry)) => self.is_valid(entry).await.unwrap_or_default(),
            (None, None) => true,
        }
    }

    /// Whether a loading call that finds this live value refreshes it.
    pub(super) fn is_due<V: Value>(
        &self,
        key: &Key<'_>,
        cached: &CachedValue<V>,
        options: &Options,
    ) -> bool {
        let (Some(expiry), ahead) = (&cached.expiry, self.refresh_ahead(options)) else {
            return false;
        };
        // A copy that outlives this time asks the server once in its life.
        if ahead == RefreshAhead::Never || cached.is_copy {
            return false;
        }
        expiry.is_due(self.clock.now(), ahead, random_fraction) && !self.is_throttled(key, cached)
    }

    pub(super) fn refresh_ahead(&self, options: &Options) -> RefreshAhead {
        let ahead = self.policy(options, |policies| policies.refresh_ahead);
        // The options of a call are not checked before they are used.
        let ahead = ahead.filter(|ahead| ahead.is_valid());
        ahead.unwrap_or(RefreshAhead::Never)
    }

    /// Returns a value with its source and age.
    pub(super) fn fetched<V: Value>(&self, cached: CachedValue<V>, source: Source) -> Fetched<V> {
        if matches!(source, Source::Loaded | Source::Waited) {
            return Fetched::new(V::from_stored(cached.value), source, Some(Duration::ZERO));
        }
        let now = self.clock.now();
        let is_live = cached.expiry.is_none_or(|expiry| now < expiry.expires_at);
        let source = match source {
            // Another caller has stored a value meanwhile.
            Source::Stale if is_live => Source::Hit,
            source => source,
        };
        let age = cached.expiry.map(|expiry| now.since(expiry.created_at));
        Fetched::new(V::from_stored(cached.value), source, age)
    }

    /// Whether entries of a server may outlive their TTL, so that only their headers say which are
    /// live.
    pub(super) fn reads_headers(&self) -> bool {
        self.driver.form() == Form::Bytes && self.headers_in_use.load(Ordering::Relaxed)
    }

    pub(super) fn note_headers_in_use(&self) {
        if !self.headers_in_use.load(Ordering::Relaxed) {
            self.headers_in_use.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a value that is served although it has expired.
    pub(super) fn count_stale_hit<V: Value>(&self, cached: &CachedValue<V>) {
        let now = self.clock.now();
        if cached.expiry.is_some_and(|expiry| expiry.expires_at <= now) {
            self.counters.add(Count::StaleHit);
        }
    }

    /// Counts a look-up by the live value that it found.
    pub(super) fn count_lookup<V: Value>(&self, found: Option<&CachedValue<V>>) {
        self.counters.add(match found {
            Some(cached) if cached.is_copy => Count::L1Hit,
            Some(_) => Count::Hit,
            None => Count::Miss,
        });
    }
}
