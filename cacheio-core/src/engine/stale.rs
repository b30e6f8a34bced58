//! Stale values: when they are served after a failed load, and when that load is retried.
//!
//! A failed load is retried only after `retry_after`. In memory the entry's metadata remembers
//! the failure. On a server a second entry, the failure note, records it for all clients: it holds
//! the expiry of the entry whose load failed.

use std::time::Duration;

use super::Engine;
use super::lookup::{CachedValue, Lookup, Previous, stale_entries};
use crate::key::Key;
use crate::stats::Count;
use crate::{Entry, Operation, Options, Payload, Ttl, Value};

/// The default of `retry_after`.
const RETRY_AFTER: Duration = Duration::from_secs(30);

impl<V: Value> CachedValue<V> {
    /// Whether a server's note says that the load which was to replace this entry failed.
    fn is_noted(&self, note: Option<Entry>) -> bool {
        match note.map(|entry| entry.payload) {
            Some(Payload::Bytes(bytes)) => bytes == self.failure_note(),
            _ => false,
        }
    }

    /// Returns what a server stores when the load that was to replace this entry failed.
    fn failure_note(&self) -> Vec<u8> {
        let expires_at = self.expiry.map(|expiry| expiry.expires_at.as_millis());
        expires_at.unwrap_or_default().to_string().into_bytes()
    }
}

impl Engine {
    /// Returns how long after its TTL a call accepts an entry.
    pub(super) fn stale_for(&self, options: &Options) -> Duration {
        let stale_for = self.policy(options, |policies| policies.stale_for);
        stale_for.unwrap_or_default()
    }

    fn retry_after(&self, options: &Options) -> Duration {
        let retry_after = self.policy(options, |policies| policies.retry_after);
        retry_after.unwrap_or(RETRY_AFTER).min(Ttl::MAX)
    }

    /// Returns what to serve instead of loads that failed, and delays the next loads by
    /// `retry_after`.
    pub(super) async fn on_load_failed<V: Value>(
        &self,
        failed: &[(Key<'_>, &Previous<V>)],
        options: &Options,
    ) -> Vec<Option<CachedValue<V>>> {
        let replaced: Vec<_> = failed
            .iter()
            .filter(|(_, previous)| previous.may_be_reread())
            .map(|(key, _)| *key)
            .collect();
        let mut fallbacks = self.stale_fallbacks(&replaced, options).await.into_iter();
        let refreshed: Vec<_> = failed
            .iter()
            .filter_map(|(key, previous)| match previous {
                Previous::Live(cached) => Some((*key, cached)),
                _ => None,
            })
            .collect();
        self.on_refreshes_failed(&refreshed, options).await;
        let served = failed.iter().map(|(_, previous)| match previous {
            Previous::Live(cached) => self.may_be_served(cached, options).then(|| cached.clone()),
            _ if previous.may_be_reread() => fallbacks.next().flatten(),
            // A caller that asks for a new value gets the error.
            _ => None,
        });
        served.collect()
    }

    /// Does the same for one key.
    pub(super) async fn on_one_load_failed<V: Value>(
        &self,
        key: &Key<'_>,
        previous: &Previous<V>,
        options: &Options,
    ) -> Option<CachedValue<V>> {
        let served = self.on_load_failed(&[(*key, previous)], options).await;
        served.into_iter().next().flatten()
    }

    /// Reads again what may be served instead of failed loads.
    ///
    /// The store is read again because a load may take long: an entry that was deleted meanwhile
    /// is not served.
    pub(super) async fn stale_fallbacks<V: Value>(
        &self,
        keys: &[Key<'_>],
        options: &Options,
    ) -> Vec<Option<CachedValue<V>>> {
        if self.stale_for(options).is_zero() {
            return keys.iter().map(|_| None).collect();
        }
        let lookups = self.look_up_many::<V>(keys, options).await;
        let stale = stale_entries(keys, &lookups);
        let throttled = self.are_throttled(&stale).await;
        let failed_now: Vec<_> = stale
            .into_iter()
            .zip(throttled)
            .filter_map(|(stale, is_throttled)| (!is_throttled).then_some(stale))
            .collect();
        if !failed_now.is_empty() {
            let retry_after = self.retry_after(options);
            self.throttle(&failed_now, retry_after).await;
            tracing::warn!(
                target: "cacheio",
                namespace = self.namespace(),
                entries = failed_now.len(),
                retry_after_ms = retry_after.as_millis(),
                "load failed; serving stale values",
            );
        }
        lookups
            .into_iter()
            .map(|lookup| match lookup {
                Lookup::Live(cached) | Lookup::Stale(cached) => Some(cached),
                Lookup::Unreadable | Lookup::Absent => None,
            })
            .collect()
    }

    /// Delays the next refreshes of live values after some that failed.
    pub(super) async fn on_refreshes_failed<V: Value>(
        &self,
        entries: &[(Key<'_>, &CachedValue<V>)],
        options: &Options,
    ) {
        if entries.is_empty() {
            return;
        }
        for _ in entries {
            self.counters.add(Count::RefreshError);
        }
        let retry_after = self.retry_after(options);
        self.throttle(entries, retry_after).await;
        tracing::warn!(
            target: "cacheio",
            namespace = self.namespace(),
            entries = entries.len(),
            retry_after_ms = retry_after.as_millis(),
            "refresh failed; serving live values",
        );
    }

    /// Returns for each entry whether a load that was to replace it failed recently.
    pub(super) async fn are_throttled<V: Value>(
        &self,
        entries: &[(Key<'_>, &CachedValue<V>)],
    ) -> Vec<bool> {
        let now = self.clock.now();
        let in_memory = entries
            .iter()
            .map(|(_, cached)| cached.meta.as_ref().map(|meta| !meta.may_retry(now)));
        if let Some(throttled) = in_memory.collect() {
            return throttled;
        }
        let texts: Vec<_> = entries
            .iter()
            .map(|(key, _)| self.failure_key(key))
            .collect();
        let notes = match &texts[..] {
            [text] => self
                .driver
                .get(&Key::new(text))
                .await
                .map(|note| vec![note]),
            _ => {
                let keys: Vec<Key<'_>> = texts.iter().map(|text| Key::new(text)).collect();
                self.driver.get_many(&keys).await
            }
        };
        match notes {
            Ok(notes) => entries
                .iter()
                .zip(notes)
                .map(|((_, cached), note)| cached.is_noted(note))
                .collect(),
            Err(error) => {
                self.on_store_error(&error.during(Operation::GetMany));
                vec![false; entries.len()]
            }
        }
    }

    /// Remembers that the loads which were to replace these entries failed.
    async fn throttle<V: Value>(
        &self,
        entries: &[(Key<'_>, &CachedValue<V>)],
        retry_after: Duration,
    ) {
        let mut texts = Vec::new();
        for (key, cached) in entries {
            match &cached.meta {
                Some(meta) => meta.set_retry_at(self.clock.now().after(retry_after)),
                None => texts.push((self.failure_key(key), cached.failure_note())),
            }
        }
        if texts.is_empty() || retry_after.is_zero() {
            return;
        }
        let notes = texts.iter().map(|(text, note)| {
            let note = Entry::bytes(note.clone());
            (Key::new(text), note, Some(retry_after))
        });
        self.set_entries(notes.collect()).await;
    }

    /// Returns the key under which a server remembers a failed load: in the namespace, and under
    /// no key of a user.
    fn failure_key(&self, key: &Key<'_>) -> Box<str> {
        self.text(&("\u{0}failed", key.text()))
    }
}
