//! Entries that outlive their TTL: when they are served, and when a failed load is tried again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Engine, about, physical};
use crate::flight::Lead;
use crate::key::Key;
use crate::span::{Freshness, Span};
use crate::stats::Count;
use crate::wire::{self, Body};
use crate::{Entry, Form, Meta, Operation, Options, Payload, Result, Value};

/// What a look-up finds.
pub(super) enum Found<V: Value> {
    /// A live entry.
    Live(Arc<V::Stored>),
    /// One past its TTL.
    Stale(Stale<V>),
    Nothing,
}

/// A value past its TTL that may be served.
pub(super) struct Stale<V: Value> {
    value: Arc<V::Stored>,
    span: Span,
    /// In memory.
    meta: Option<Arc<Meta>>,
}

impl<V: Value> Found<V> {
    pub(super) fn live(self) -> Option<Arc<V::Stored>> {
        match self {
            Self::Live(value) => Some(value),
            Self::Stale(_) | Self::Nothing => None,
        }
    }

    pub(super) fn as_live(&self) -> Option<&Arc<V::Stored>> {
        match self {
            Self::Live(value) => Some(value),
            Self::Stale(_) | Self::Nothing => None,
        }
    }
}

impl Engine {
    /// For how long after its TTL a call takes an entry.
    pub(super) fn stale_for(&self, options: &Options) -> Duration {
        options.stale_for.unwrap_or(self.settings.stale_for)
    }

    /// The two ends of an entry that is made now, if it outlives its TTL.
    pub(super) fn span(&self, ttl: Option<Duration>, stale_for: Duration) -> Option<Span> {
        let span = Span::new(self.clock.now(), ttl, stale_for);
        if span.is_some() {
            self.met_span();
        }
        span
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
        let body;
        let span = match &payload {
            Payload::Object(_) => {
                body = None;
                meta.as_ref().and_then(|meta| meta.span)
            }
            Payload::Bytes(bytes) => {
                let (found, span) = wire::open(bytes)?;
                body = Some(found);
                span
            }
        };
        let freshness = span.map_or(Freshness::Live, |span| {
            self.met_span();
            span.freshness(self.clock.now(), stale_for)
        });
        if freshness == Freshness::Gone {
            return Ok(Found::Nothing);
        }
        let value = match (&payload, body) {
            (Payload::Object(object), _) => self.object_as::<V>(object)?,
            (Payload::Bytes(_), Some(body)) => self.decode::<V>(body)?,
            (Payload::Bytes(bytes), None) => self.decode::<V>(Body::Encoded(bytes))?,
        };
        Ok(match (freshness, span) {
            (Freshness::Stale, Some(span)) => Found::Stale(Stale { value, span, meta }),
            _ => Found::Live(value),
        })
    }

    /// What is under a key; failures are counted, traced, and as good as a miss.
    pub(super) async fn find<V: Value>(&self, key: &Key<'_>, options: &Options) -> Found<V> {
        let read = self.backend.get(key).await;
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
    pub(super) async fn is_throttled<V: Value>(&self, key: &Key<'_>, stale: &Stale<V>) -> bool {
        if let Some(meta) = &stale.meta {
            return !meta.may_retry(self.clock.now());
        }
        match self.backend.get(&Key::new(&self.failed_key(key))).await {
            Ok(Some(Entry {
                payload: Payload::Bytes(bytes),
                ..
            })) => bytes == note(stale.span),
            Ok(_) => false,
            Err(error) => {
                self.store_failed(&about(error, Operation::Get, key));
                false
            }
        }
    }

    /// Counts a value past its TTL that is served.
    pub(super) fn serve<V: Value>(&self, stale: Stale<V>) -> Arc<V::Stored> {
        self.counters.add(Count::StaleHit);
        stale.value
    }

    /// What is served when a load has failed, if there is anything; no other is tried for a while.
    pub(super) async fn fall_back<V: Value>(
        &self,
        lead: Option<&Lead>,
        key: &Key<'_>,
        options: &Options,
        stale: Option<Stale<V>>,
    ) -> Option<Arc<V::Stored>> {
        let stale = stale?;
        let now = self.clock.now();
        // What was deleted meanwhile is not served any more, and a load may take its time.
        if lead.is_some_and(Lead::is_invalidated)
            || stale.span.freshness(now, self.stale_for(options)) != Freshness::Stale
        {
            return None;
        }
        let retry_after = options.retry_after.unwrap_or(self.settings.retry_after);
        self.throttle(key, &stale, retry_after).await;
        tracing::warn!(
            target: "cacheio",
            expired_ms = now.since(stale.span.expires).as_millis(),
            retry_after_ms = retry_after.as_millis(),
            "a load failed; what expired is served in its place",
        );
        Some(self.serve(stale))
    }

    async fn throttle<V: Value>(&self, key: &Key<'_>, stale: &Stale<V>, retry_after: Duration) {
        if let Some(meta) = &stale.meta {
            return meta.retry_at(self.clock.now().after(retry_after));
        }
        if retry_after.is_zero() {
            return;
        }
        let failed = self.failed_key(key);
        let (failed, entry) = (Key::new(&failed), Entry::bytes(note(stale.span)));
        if let Err(error) = self.backend.set(&failed, entry, Some(retry_after)).await {
            self.store_failed(&about(error, Operation::Set, key));
        }
    }

    /// Where a server remembers that a load failed: in the namespace, under no key of a user's.
    fn failed_key(&self, key: &Key<'_>) -> Box<str> {
        self.text(&("\u{0}failed", key.text()))
    }

    /// Whether a server's entries may outlive their TTL, so that only their headers tell.
    pub(super) fn reads_spans(&self) -> bool {
        self.backend.form() == Form::Bytes && self.spans.load(Ordering::Relaxed)
    }

    fn met_span(&self) {
        if !self.spans.load(Ordering::Relaxed) {
            self.spans.store(true, Ordering::Relaxed);
        }
    }

    pub(super) async fn is_live(&self, key: &Key<'_>) -> Result<bool> {
        if !self.reads_spans() {
            return self.backend.has(key).await;
        }
        let entry = self.backend.get(key).await?;
        Ok(entry.is_some_and(|entry| self.judge(&entry) == Freshness::Live))
    }

    /// Gives an entry whose header says when it expires another TTL.
    pub(super) async fn retime(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let _write = self.write(*key).await;
        let Some(entry) = self.backend.get(key).await? else {
            return Ok(false);
        };
        let Some((span, body)) = spanned(&entry) else {
            return self.backend.touch(key, ttl).await;
        };
        if self.judge(&entry) != Freshness::Live {
            return Ok(false);
        }
        let stale_for = span.ends.since(span.expires);
        let bytes = match Span::new(self.clock.now(), ttl, stale_for) {
            Some(span) => wire::seal_with(span, body),
            None => wire::seal(body.to_vec()),
        };
        let ttl = physical(ttl, stale_for);
        self.backend.set(key, Entry::bytes(bytes), ttl).await?;
        Ok(true)
    }

    fn judge(&self, entry: &Entry) -> Freshness {
        spanned(entry).map_or(Freshness::Live, |(span, _)| {
            span.freshness(self.clock.now(), Duration::ZERO)
        })
    }
}

/// What the header of an entry on a server says, and what stands behind it.
fn spanned(entry: &Entry) -> Option<(Span, &[u8])> {
    let Payload::Bytes(bytes) = &entry.payload else {
        return None;
    };
    match wire::open(bytes) {
        Ok((Body::Encoded(body), Some(span))) => Some((span, body)),
        _ => None,
    }
}

/// Which entry a failed load was to replace.
fn note(span: Span) -> Vec<u8> {
    span.expires.as_millis().to_string().into_bytes()
}
