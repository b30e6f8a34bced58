//! Stale values: when they are served after a failed load. `throttle` decides when that load is
//! retried.

use std::time::Duration;

use super::Engine;
use super::lookup::{CachedValue, Lookup, Previous};
use super::throttle::FailedEntry;
use crate::flight::Leader;
use crate::key::Key;
use crate::stats::Count;
use crate::{Options, Value};

/// A load that failed.
pub(super) struct FailedLoad<'a, V: Value> {
    pub(super) key: Key<'a>,
    pub(super) previous: &'a Previous<V>,
    pub(super) leader: &'a Leader,
}

impl Engine {
    /// Returns how long after its TTL a call accepts an entry.
    pub(super) fn stale_for(&self, options: &Options) -> Duration {
        let stale_for = self.policy(options, |policies| policies.stale_for);
        stale_for.unwrap_or_default()
    }

    /// Returns what to serve instead of loads that failed, and delays the next loads by
    /// `retry_after`.
    pub(super) async fn on_load_failed<V: Value>(
        &self,
        failed: &[FailedLoad<'_, V>],
        options: &Options,
    ) -> Vec<Option<CachedValue<V>>> {
        let Some(first) = failed.first() else {
            return Vec::new();
        };
        let serve = self.serve_after_failure(failed, options);
        first.leader.scope().run(serve).await
    }

    async fn serve_after_failure<V: Value>(
        &self,
        failed: &[FailedLoad<'_, V>],
        options: &Options,
    ) -> Vec<Option<CachedValue<V>>> {
        if let [one] = failed
            && let Previous::Stale(cached) = one.previous
            && self.throttle_stale(one, cached, options).await
        {
            return vec![Some(cached.clone())];
        }
        let replaced = failed
            .iter()
            .filter(|failed| failed.previous.may_be_reread());
        let (replaced, leaders): (Vec<_>, Vec<_>) = replaced
            .map(|failed| (failed.key, Some(failed.leader)))
            .unzip();
        let fallbacks = self.stale_fallbacks(&replaced, &leaders, options).await;
        let mut fallbacks = fallbacks.into_iter();
        let refreshed: Vec<_> = failed
            .iter()
            .filter_map(|failed| match failed.previous {
                Previous::Live(cached) => Some((failed.key, cached, Some(failed.leader))),
                _ => None,
            })
            .collect();
        self.on_refreshes_failed(&refreshed, options).await;
        let served = failed.iter().map(|failed| match failed.previous {
            Previous::Live(cached) => self.may_be_served(cached, options).then(|| cached.clone()),
            previous if previous.may_be_reread() => fallbacks.next().flatten(),
            // A caller that asks for a new value gets the error.
            _ => None,
        });
        served.collect()
    }

    /// Does the same for one key.
    pub(super) async fn on_one_load_failed<V: Value>(
        &self,
        failed: FailedLoad<'_, V>,
        options: &Options,
    ) -> Option<CachedValue<V>> {
        let served = self.on_load_failed(&[failed], options).await;
        served.into_iter().next().flatten()
    }

    /// Records a failed load in the entry on a server that it was to replace, in one round trip. Returns
    /// whether that is still the entry that was read before the load, so that it may be served.
    async fn throttle_stale<V: Value>(
        &self,
        failed: &FailedLoad<'_, V>,
        cached: &CachedValue<V>,
        options: &Options,
    ) -> bool {
        let retry_after = self.retry_after(options);
        if cached.meta.is_some() || retry_after.is_zero() || !self.may_be_served(cached, options) {
            return false;
        }
        let entry = (failed.key, cached, Some(failed.leader));
        let is_unchanged = self.throttle_one(entry, retry_after).await;
        if is_unchanged {
            self.warn_stale(1, retry_after);
        }
        is_unchanged
    }

    /// Reads again what may be served instead of failed loads. A caller that leads the flight of a key
    /// passes its leader.
    ///
    /// The store is read again because a load may take long: an entry that was deleted meanwhile
    /// is not served.
    pub(super) async fn stale_fallbacks<V: Value>(
        &self,
        keys: &[Key<'_>],
        leaders: &[Option<&Leader>],
        options: &Options,
    ) -> Vec<Option<CachedValue<V>>> {
        if self.stale_for(options).is_zero() {
            return keys.iter().map(|_| None).collect();
        }
        let lookups = self.look_up_many::<V>(keys, options).await;
        let leaders = leaders.iter().copied().chain(std::iter::repeat(None));
        let failed_now: Vec<_> = keys
            .iter()
            .zip(&lookups)
            .zip(leaders)
            .filter_map(|((key, lookup), leader)| match lookup {
                Lookup::Stale(cached) if !self.is_throttled(key, cached) => {
                    Some((*key, cached, leader))
                }
                _ => None,
            })
            .collect();
        if !failed_now.is_empty() {
            let retry_after = self.retry_after(options);
            self.throttle(&failed_now, retry_after).await;
            self.warn_stale(failed_now.len(), retry_after);
        }
        lookups
            .into_iter()
            .map(|lookup| match lookup {
                Lookup::Live(cached) | Lookup::Stale(cached) => Some(cached),
                Lookup::Unreadable | Lookup::Absent => None,
            })
            .collect()
    }

    fn warn_stale(&self, entries: usize, retry_after: Duration) {
        tracing::warn!(
            target: "cacheio",
            namespace = self.namespace(),
            entries,
            retry_after_ms = retry_after.as_millis(),
            "load failed; serving stale values",
        );
    }

    /// Delays the next refreshes of live values after some that failed.
    pub(super) async fn on_refreshes_failed<V: Value>(
        &self,
        entries: &[FailedEntry<'_, V>],
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
}
