//! New TTLs for entries: by `touch`, and by reads under `ttl_idle`.
//!
//! In memory the metadata of an entry records when it was last read. A server only has a TTL, which
//! reads extend: at most once per eighth of the idle time and process. So the server keeps the entry
//! up to an eighth longer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Engine;
use super::lookup::{CachedValue, header_of};
use super::write::{idle_retention, retention};
use crate::entry::expiry::{Expiry, Freshness};
use crate::entry::wire;
use crate::flight::deadlock::LoadScope;
use crate::key::Key;
use crate::{Entry, Operation, Options, Result, Timestamp, Value};

/// When this process last moved the TTL of a key on a server, by hash of the key.
#[derive(Debug, Default)]
pub(super) struct TouchThrottle(Mutex<HashMap<u64, Timestamp>>);

/// The most keys to remember. When they are exceeded, all are forgotten, which costs round trips
/// and nothing else.
const MAX_KEYS: usize = 4_096;

impl TouchThrottle {
    /// Returns whether the last touch of a key is longer ago than `every`, and if so records one
    /// now.
    fn is_due(&self, key: u64, now: Timestamp, every: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&key).is_some_and(|last| now < last.after(every)) {
            return false;
        }
        if last.len() >= MAX_KEYS {
            last.clear();
        }
        last.insert(key, now);
        true
    }
}

impl Engine {
    /// Records that an entry was read, if it expires when it is not.
    pub(super) async fn record_read<V: Value>(&self, key: &Key<'_>, cached: &CachedValue<V>) {
        let Some((expiry, idle)) = self.record_read_in_memory(cached) else {
            return;
        };
        let now = self.clock.now();
        if !self.touches.is_due(key.hash(), now, idle / 8) {
            return;
        }
        let ttl = idle_retention(idle).min(expiry.stale_until.since(now));
        if let Err(error) = self.driver.touch(key, Some(ttl)).await {
            self.on_store_error(&self.in_operation(error, Operation::Touch, key));
        }
    }

    /// Records a read in memory, or returns the expiry for which a server needs a touch.
    pub(super) fn record_read_in_memory<V: Value>(
        &self,
        cached: &CachedValue<V>,
    ) -> Option<(Expiry, Duration)> {
        let expiry = cached.expiry?;
        let idle = expiry.idle?;
        let Some(meta) = &cached.meta else {
            return Some((expiry, idle));
        };
        meta.record_read(self.clock.now(), idle);
        None
    }

    /// Gives an entry with a header another TTL. The header is written again as a load would
    /// write it, so that no write of this process is undone.
    pub(super) async fn touch_with_header(
        &self,
        key: &Key<'_>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        loop {
            let entry = self.driver.get(key).await?;
            if let Some(touched) = self.touch_without_header(key, entry.as_ref(), ttl).await {
                return touched;
            }
            let leader = self
                .take_over(key, &Options::new(), &LoadScope::new())
                .await;
            // The entry may have changed before the take-over.
            let entry = self.driver.get(key).await?;
            if let Some(touched) = self.touch_without_header(key, entry.as_ref(), ttl).await {
                return touched;
            }
            let Some((expiry, body)) = entry.as_ref().and_then(header_of) else {
                continue;
            };
            let stale_for = expiry.stale_until.since(expiry.expires_at);
            let expires_at = ttl.map_or(Timestamp::MAX, |ttl| self.clock.now().after(ttl));
            let bytes = wire::seal_with(expiry.touched(expires_at), body);
            if leader.begin_publishing() {
                let ttl = retention(ttl, stale_for, expiry.idle);
                let set = self.driver.set(key, Entry::bytes(bytes), ttl);
                leader.scope().run(set).await?;
                return Ok(true);
            }
        }
    }

    /// Touches an entry in the store, or returns `None` if its header has to be written again.
    async fn touch_without_header(
        &self,
        key: &Key<'_>,
        entry: Option<&Entry>,
        ttl: Option<Duration>,
    ) -> Option<Result<bool>> {
        let Some(entry) = entry else {
            return Some(Ok(false));
        };
        match self.header_freshness(entry) {
            _ if header_of(entry).is_none_or(|(expiry, _)| expiry.is_age_only()) => {
                Some(self.driver.touch(key, ttl).await)
            }
            Freshness::Live => None,
            Freshness::Stale | Freshness::Expired => Some(Ok(false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    #[test]
    fn a_key_is_touched_once_per_period() {
        let touches = TouchThrottle::default();
        assert!(touches.is_due(1, NOW, SECOND));
        assert!(!touches.is_due(1, NOW, SECOND));
        assert!(touches.is_due(2, NOW, SECOND));
        assert!(touches.is_due(1, NOW.after(SECOND), SECOND));
    }

    #[test]
    fn the_number_of_remembered_keys_is_bounded() {
        let touches = TouchThrottle::default();
        for key in 0..10_000 {
            assert!(touches.is_due(key, NOW, SECOND));
        }
        assert!(touches.0.lock().unwrap().len() <= MAX_KEYS);
    }
}
