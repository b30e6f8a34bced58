//! Entries that outlive their TTL: when they are served, and when a failed load is tried again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::idle::physical;
use super::load::Older;
use super::{Engine, Making, about};
use crate::config::ttl::random_fraction;
use crate::entry::expiry::{Expiry, Freshness};
use crate::entry::wire::{self, Body};
use crate::flight::deadlock::LoadScope;
use crate::key::Key;
use crate::stats::Count;
use crate::{
    Entry, Form, Meta, Operation, Options, Payload, RefreshAhead, Result, Timestamp, Ttl, Value,
};

/// How long nothing is tried again after a load failed, unless it is said.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a look-up finds.
pub(super) enum Found<V: Value> {
    /// A live entry.
    Live(Kept<V>),
    /// One past its TTL.
    Stale(Kept<V>),
    Nothing,
}

/// What becomes of a caller that has looked.
pub(super) enum Settled<V: Value> {
    /// It has a live value.
    Live(Kept<V>),
    /// It has a live value that is to be loaded anew.
    Due(Kept<V>),
    /// It is served one past its TTL, since a load failed recently.
    Stale(Kept<V>),
    /// It needs a load, which replaces what is past its TTL or nothing.
    Missing(Older<V>),
}

/// A value in the store, and what is known about it.
pub(super) struct Kept<V: Value> {
    pub(super) value: Arc<V::Stored>,
    pub(super) expiry: Option<Expiry>,
    /// In memory.
    pub(super) meta: Option<Arc<Meta>>,
}

impl<V: Value> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            expiry: self.expiry,
            meta: self.meta.clone(),
        }
    }
}

impl<V: Value> Kept<V> {
    /// A value that is in no store.
    pub(super) fn new(value: Arc<V::Stored>) -> Self {
        Self {
            value,
            expiry: None,
            meta: None,
        }
    }

    /// Whether it may still be known, as far as memory is to say.
    pub(super) fn is_retained(&self, now: Timestamp) -> bool {
        self.meta.as_ref().is_none_or(|meta| meta.is_retained(now))
    }

    /// Whether a server's note says that the load which was to replace it failed.
    fn is_noted(&self, entry: Option<Entry>) -> bool {
        match entry.map(|entry| entry.payload) {
            Some(Payload::Bytes(bytes)) => bytes == self.note(),
            _ => false,
        }
    }

    /// What a server notes when a load that was to replace it has failed: which one it was.
    fn note(&self) -> Vec<u8> {
        let expires = self.expiry.map(|expiry| expiry.expires_at.as_millis());
        expires.unwrap_or_default().to_string().into_bytes()
    }
}

impl<V: Value> Found<V> {
    pub(super) fn live(self) -> Option<Kept<V>> {
        match self {
            Self::Live(kept) => Some(kept),
            Self::Stale(_) | Self::Nothing => None,
        }
    }

    pub(super) fn as_live(&self) -> Option<&Kept<V>> {
        match self {
            Self::Live(kept) => Some(kept),
            Self::Stale(_) | Self::Nothing => None,
        }
    }
}

impl Engine {
    /// For how long after its TTL a call takes an entry.
    pub(super) fn stale_for(&self, options: &Options) -> Duration {
        let stale_for = self.policy(options, |policies| policies.stale_for);
        stale_for.unwrap_or_default()
    }

    /// How long after a failed load none is tried again.
    fn retry_after(&self, options: &Options) -> Duration {
        let retry_after = self.policy(options, |policies| policies.retry_after);
        retry_after.unwrap_or(RETRY_AFTER).min(Ttl::MAX)
    }

    pub(super) fn refresh_ahead(&self, options: &Options) -> RefreshAhead {
        let ahead = self.policy(options, |policies| policies.refresh_ahead);
        // What a call says is not checked before.
        let ahead = ahead.filter(|ahead| ahead.is_sensible());
        ahead.unwrap_or(RefreshAhead::Never)
    }

    /// Whether a call that finds this live is to load it anew.
    pub(super) fn is_due<V: Value>(&self, kept: &Kept<V>, options: &Options) -> bool {
        let (Some(expiry), ahead) = (&kept.expiry, self.refresh_ahead(options)) else {
            return false;
        };
        if ahead == RefreshAhead::Never {
            return false;
        }
        let now = self.clock.now();
        let is_throttled = kept.meta.as_ref().is_some_and(|meta| !meta.may_retry(now));
        !is_throttled && expiry.is_due(now, ahead, random_fraction)
    }

    /// The moments of an entry that is made now, if somebody is to ask for them.
    pub(super) fn expiry(&self, ttl: Option<Duration>, making: Making) -> Option<Expiry> {
        let ends_by_it = making.idle.is_some()
            || (ttl.is_some()
                && (!making.stale_for.is_zero() || making.ahead != RefreshAhead::Never));
        if ends_by_it {
            self.note_headers_in_use();
        } else if !making.dated {
            return None;
        }
        // The store alone decides how long it keeps what is nothing but dated.
        let ttl = ttl.filter(|_| ends_by_it);
        Some(Expiry {
            idle: making.idle,
            ..Expiry::new(self.clock.now(), making.load_time, ttl, making.stale_for)
        })
    }

    /// An entry, as the type asked for. Only what may be served is decoded.
    pub(super) fn look<V: Value>(
        &self,
        entry: Option<Entry>,
        stale_for: Duration,
    ) -> Result<Found<V>> {
        let Some(Entry { payload, meta }) = entry else {
            return Ok(Found::Nothing);
        };
        match payload {
            Payload::Object(object) => {
                let expiry = meta.as_ref().and_then(|meta| meta.expiry);
                self.judged(expiry, meta, stale_for, || self.object_as::<V>(&object))
            }
            Payload::Bytes(bytes) => {
                let (body, expiry) = wire::open(&bytes)?;
                self.judged(expiry, meta, stale_for, || self.decode::<V>(body))
            }
        }
    }

    fn judged<V: Value>(
        &self,
        expiry: Option<Expiry>,
        meta: Option<Arc<Meta>>,
        stale_for: Duration,
        decode: impl FnOnce() -> Result<Arc<V::Stored>>,
    ) -> Result<Found<V>> {
        let freshness = expiry.map_or(Freshness::Live, |expiry| {
            if !expiry.is_age_only() {
                self.note_headers_in_use();
            }
            expiry.freshness(self.clock.now(), stale_for)
        });
        let found = match freshness {
            Freshness::Live => Found::Live,
            Freshness::Stale => Found::Stale,
            Freshness::Expired => return Ok(Found::Nothing),
        };
        let value = decode()?;
        Ok(found(Kept {
            value,
            expiry,
            meta,
        }))
    }

    /// What is under a key; failures are counted, traced, and as good as a miss.
    pub(super) async fn find<V: Value>(&self, key: &Key<'_>, options: &Options) -> Found<V> {
        let read = self.driver.get(key).await;
        self.found(key, read, options)
    }

    /// The same of what was read.
    pub(super) fn found<V: Value>(
        &self,
        key: &Key<'_>,
        read: Result<Option<Entry>>,
        options: &Options,
    ) -> Found<V> {
        match read.and_then(|entry| self.look::<V>(entry, self.stale_for(options))) {
            Ok(found) => found,
            Err(error) => {
                self.store_failed(&about(error, Operation::Get, key));
                Found::Nothing
            }
        }
    }

    /// Whether a load of this key failed so recently that none is to be tried.
    pub(super) async fn is_throttled<V: Value>(&self, key: &Key<'_>, stale: &Kept<V>) -> bool {
        if let Some(meta) = &stale.meta {
            return !meta.may_retry(self.clock.now());
        }
        let note = self.driver.get(&Key::new(&self.failed_key(key))).await;
        match note {
            Ok(entry) => stale.is_noted(entry),
            Err(error) => {
                self.store_failed(&about(error, Operation::Get, key));
                false
            }
        }
    }

    /// The same of several, in one reading.
    pub(super) async fn are_throttled<V: Value>(
        &self,
        keys: &[Key<'_>],
        stale: &[(usize, Kept<V>)],
    ) -> Vec<bool> {
        let now = self.clock.now();
        let metas = stale.iter().map(|(_, stale)| stale.meta.as_ref());
        if let Some(throttled) = metas
            .map(|meta| meta.map(|meta| !meta.may_retry(now)))
            .collect()
        {
            return throttled;
        }
        let texts: Vec<Box<str>> = keys.iter().map(|key| self.failed_key(key)).collect();
        let notes: Vec<Key<'_>> = texts.iter().map(|text| Key::new(text)).collect();
        match self.driver.get_many(&notes).await {
            Ok(entries) => stale
                .iter()
                .zip(entries)
                .map(|((_, stale), entry)| stale.is_noted(entry))
                .collect(),
            Err(error) => {
                self.store_failed(&error.during(Operation::GetMany));
                vec![false; keys.len()]
            }
        }
    }

    /// What a look-up comes to.
    pub(super) async fn settled<V: Value>(
        &self,
        key: &Key<'_>,
        found: Found<V>,
        options: &Options,
    ) -> Settled<V> {
        match found {
            Found::Live(kept) => {
                self.used(key, &kept).await;
                match self.is_due(&kept, options) {
                    true => Settled::Due(kept),
                    false => Settled::Live(kept),
                }
            }
            Found::Stale(stale) if self.is_throttled(key, &stale).await => {
                Settled::Stale(self.serve(stale))
            }
            Found::Stale(stale) => Settled::Missing(Older::Stale(stale)),
            Found::Nothing => Settled::Missing(Older::Nothing),
        }
    }

    /// What is to be served when a load has failed, if there is anything; no other is tried for a
    /// while.
    ///
    /// The store is asked again: what was deleted meanwhile is served to nobody, and a load may
    /// take its time.
    pub(super) async fn fall_back<V: Value>(
        &self,
        key: &Key<'_>,
        options: &Options,
    ) -> Option<Kept<V>> {
        if self.stale_for(options).is_zero() {
            return None;
        }
        let stale = match self.find::<V>(key, options).await {
            Found::Live(kept) => return Some(kept),
            Found::Stale(stale) => stale,
            Found::Nothing => return None,
        };
        if !self.is_throttled(key, &stale).await {
            let retry_after = self.retry_after(options);
            self.throttle(key, &stale, retry_after).await;
            self.say_stale(1, retry_after);
        }
        Some(stale)
    }

    /// Notes that the load of what is live has failed.
    pub(super) async fn refresh_failed<V: Value>(
        &self,
        key: &Key<'_>,
        options: &Options,
        kept: &Kept<V>,
    ) {
        self.counters.add(Count::RefreshError);
        let retry_after = self.retry_after(options);
        self.throttle(key, kept, retry_after).await;
        tracing::warn!(
            target: "cacheio",
            namespace = self.namespace(),
            key = key.text(),
            retry_after_ms = retry_after.as_millis(),
            "a refresh failed; what is live is served on",
        );
    }

    /// Counts a value that is served in the place of one that is to be loaded, if it is past its
    /// TTL.
    pub(super) fn serve<V: Value>(&self, kept: Kept<V>) -> Kept<V> {
        let now = self.clock.now();
        if kept.expiry.is_some_and(|expiry| expiry.expires_at <= now) {
            self.counters.add(Count::StaleHit);
        }
        kept
    }

    async fn throttle<V: Value>(&self, key: &Key<'_>, stale: &Kept<V>, retry_after: Duration) {
        if let Some(meta) = &stale.meta {
            return meta.retry_at(self.clock.now().after(retry_after));
        }
        if retry_after.is_zero() {
            return;
        }
        let failed = self.failed_key(key);
        let (failed, note) = (Key::new(&failed), Entry::bytes(stale.note()));
        if let Err(error) = self.driver.set(&failed, note, Some(retry_after)).await {
            self.store_failed(&about(error, Operation::Set, key));
        }
    }

    /// The same of several, in one writing.
    pub(super) async fn throttle_many<V: Value>(
        &self,
        keys: &[Key<'_>],
        stale: &[(usize, Kept<V>)],
        options: &Options,
    ) {
        let retry_after = self.retry_after(options);
        if keys.is_empty() {
            return;
        }
        self.say_stale(stale.len(), retry_after);
        let mut texts = Vec::new();
        for (key, (_, stale)) in keys.iter().zip(stale) {
            match &stale.meta {
                Some(meta) => meta.retry_at(self.clock.now().after(retry_after)),
                None => texts.push((self.failed_key(key), stale.note())),
            }
        }
        if texts.is_empty() || retry_after.is_zero() {
            return;
        }
        let notes = texts
            .iter()
            .map(|(text, note)| (Key::new(text), Entry::bytes(note.clone())));
        let noted = self.driver.set_many(notes.collect(), Some(retry_after));
        if let Err(error) = noted.await {
            self.store_failed(&error.during(Operation::SetMany));
        }
    }

    fn say_stale(&self, entries: usize, retry_after: Duration) {
        tracing::warn!(
            target: "cacheio",
            namespace = self.namespace(),
            entries,
            retry_after_ms = retry_after.as_millis(),
            "a load failed; what expired is served in its place",
        );
    }

    /// Where a server remembers that a load failed: in the namespace, under no key of a user's.
    fn failed_key(&self, key: &Key<'_>) -> Box<str> {
        self.text(&("\u{0}failed", key.text()))
    }

    /// Whether a server's entries may outlive their TTL, so that only their headers tell.
    pub(super) fn reads_headers(&self) -> bool {
        self.driver.form() == Form::Bytes && self.headers_in_use.load(Ordering::Relaxed)
    }

    fn note_headers_in_use(&self) {
        if !self.headers_in_use.load(Ordering::Relaxed) {
            self.headers_in_use.store(true, Ordering::Relaxed);
        }
    }

    pub(super) async fn is_live(&self, key: &Key<'_>) -> Result<bool> {
        if !self.reads_headers() {
            return self.driver.has(key).await;
        }
        let entry = self.driver.get(key).await?;
        Ok(entry.is_some_and(|entry| self.judge(&entry) == Freshness::Live))
    }

    /// Gives an entry whose header says when it expires another TTL: it is written anew, as a load
    /// would, so that no write of this process is undone.
    pub(super) async fn retime(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        loop {
            let entry = self.driver.get(key).await?;
            if let Some(answer) = self.retime_plain(key, entry.as_ref(), ttl).await {
                return answer;
            }
            let lead = self
                .take_over(key, &Options::new(), &LoadScope::new())
                .await;
            // What was read before may be gone.
            let entry = self.driver.get(key).await?;
            if let Some(answer) = self.retime_plain(key, entry.as_ref(), ttl).await {
                return answer;
            }
            let Some((expiry, body)) = entry.as_ref().and_then(header_of) else {
                continue;
            };
            let stale_for = expiry.stale_until.since(expiry.expires_at);
            let expires = ttl.map_or(Timestamp::MAX, |ttl| self.clock.now().after(ttl));
            let bytes = wire::seal_with(expiry.touched(expires), body);
            if lead.begin_publishing() {
                let set = self.driver.set(
                    key,
                    Entry::bytes(bytes),
                    physical(ttl, stale_for, expiry.idle),
                );
                lead.scope().run(set).await?;
                return Ok(true);
            }
        }
    }

    /// Whether an entry got another TTL, unless it has to be written anew for that.
    async fn retime_plain(
        &self,
        key: &Key<'_>,
        entry: Option<&Entry>,
        ttl: Option<Duration>,
    ) -> Option<Result<bool>> {
        let Some(entry) = entry else {
            return Some(Ok(false));
        };
        match self.judge(entry) {
            _ if header_of(entry).is_none_or(|(expiry, _)| expiry.is_age_only()) => {
                Some(self.driver.touch(key, ttl).await)
            }
            Freshness::Live => None,
            Freshness::Stale | Freshness::Expired => Some(Ok(false)),
        }
    }

    fn judge(&self, entry: &Entry) -> Freshness {
        header_of(entry).map_or(Freshness::Live, |(expiry, _)| {
            expiry.freshness(self.clock.now(), Duration::ZERO)
        })
    }
}

/// What the header of an entry on a server says, and what stands behind it.
fn header_of(entry: &Entry) -> Option<(Expiry, &[u8])> {
    let Payload::Bytes(bytes) = &entry.payload else {
        return None;
    };
    match wire::open(bytes) {
        Ok((Body::Encoded(body), Some(expiry))) => Some((expiry, body)),
        _ => None,
    }
}
