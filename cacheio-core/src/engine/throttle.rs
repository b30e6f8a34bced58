//! The pause of `retry_after` between a load that failed and the next one.
//!
//! In memory the entry's metadata says until when it lasts. On a server the header of the entry does, for
//! all clients. It is written only if the entry is still the one that was read before the load, so that
//! this write also tells whether a stale entry may be served. If a server refuses such writes, the
//! pause holds in this process only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Engine;
use super::lookup::CachedValue;
use crate::entry::expiry::Expiry;
use crate::entry::wire;
use crate::flight::Leader;
use crate::key::Key;
use crate::{Entry, Operation, Options, Payload, Replacement, Timestamp, Ttl, TtlChange, Value};

/// The default of `retry_after`.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The failures that could not be recorded on the server, by hash of the key: which entry the load was
/// to replace, and until when the pause lasts.
#[derive(Debug, Default)]
pub(super) struct UnrecordedFailures(Mutex<HashMap<u64, (Expiry, Timestamp)>>);

/// The most keys to remember. When they are exceeded, all are forgotten, which costs loads and nothing
/// else.
const MAX_KEYS: usize = 4_096;

impl UnrecordedFailures {
    fn add(&self, key: u64, expiry: Expiry, retry_at: Timestamp) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_KEYS {
            failures.clear();
        }
        failures.insert(key, (expiry, retry_at));
    }

    /// Returns whether the pause of an entry lasts.
    fn contains(&self, key: u64, expiry: Expiry, now: Timestamp) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&key) {
            Some((failed, retry_at)) if *failed == expiry && now < *retry_at => true,
            Some(_) => {
                failures.remove(&key);
                false
            }
            None => false,
        }
    }
}

/// An entry whose replacement failed to load, and the leader of that load if the caller has it.
pub(super) type FailedEntry<'a, V> = (Key<'a>, &'a CachedValue<V>, Option<&'a Leader>);

/// A failure that is being recorded.
enum Recording<'l> {
    OfLeader(&'l Leader),
    OfOther { _leader: Leader },
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if let Self::OfLeader(leader) = self {
            leader.end_publishing();
        }
    }
}

impl<V: Value> CachedValue<V> {
    /// Returns the entry of a server that holds this value, with its bytes and its expiry.
    fn on_server(&self) -> Option<(&Entry, &[u8], Expiry)> {
        let entry = self.entry.as_deref()?;
        match &entry.payload {
            Payload::Bytes(bytes) => Some((entry, bytes, self.expiry?)),
            Payload::Object(_) => None,
        }
    }
}

impl Engine {
    pub(super) fn retry_after(&self, options: &Options) -> Duration {
        let retry_after = self.policy(options, |policies| policies.retry_after);
        retry_after.unwrap_or(RETRY_AFTER).min(Ttl::MAX)
    }

    /// Returns whether a load that was to replace this entry failed recently.
    pub(super) fn is_throttled<V: Value>(&self, key: &Key<'_>, cached: &CachedValue<V>) -> bool {
        let now = self.clock.now();
        if let Some(meta) = &cached.meta {
            return !meta.may_retry(now);
        }
        cached.on_server().is_some_and(|(_, bytes, expiry)| {
            now < wire::retry_at(bytes)
                || self.unrecorded_failures.contains(key.hash(), expiry, now)
        })
    }

    /// Remembers that the loads which were to replace these entries failed.
    pub(super) async fn throttle<V: Value>(
        &self,
        entries: &[FailedEntry<'_, V>],
        retry_after: Duration,
    ) {
        let retry_at = self.clock.now().after(retry_after);
        let mut on_servers = Vec::new();
        for entry in entries {
            match &entry.1.meta {
                Some(meta) => meta.set_retry_at(retry_at),
                None => on_servers.push(*entry),
            }
        }
        if on_servers.is_empty() || retry_after.is_zero() {
            return;
        }
        if let [entry] = on_servers[..] {
            self.throttle_one(entry, retry_after).await;
            return;
        }
        let (mut recordings, mut replacements) = (Vec::new(), Vec::new());
        for (key, cached, leader) in &on_servers {
            if let Some(replacement) = self.replacement(cached, retry_at)
                && let Some(recording) = self.begin_recording(key, *leader)
            {
                recordings.push(recording);
                replacements.push((*key, replacement));
            }
        }
        if replacements.is_empty() {
            return;
        }
        let keys: Vec<_> = replacements.iter().map(|(key, _)| *key).collect();
        let _copies = self.remove_copies(&keys);
        if let Err(error) = self.driver.replace_many(replacements).await {
            for (key, cached, _) in on_servers {
                self.remember_failure(&key, cached, retry_at);
            }
            self.on_store_error(&error.during(Operation::SetMany));
        }
    }

    /// Does this for one entry on a server. Returns whether it is still the one that was read; `false` also if
    /// that is unknown.
    pub(super) async fn throttle_one<V: Value>(
        &self,
        (key, cached, leader): FailedEntry<'_, V>,
        retry_after: Duration,
    ) -> bool {
        let retry_at = self.clock.now().after(retry_after);
        let Some(replacement) = self.replacement(cached, retry_at) else {
            return false;
        };
        let Some(_recording) = self.begin_recording(&key, leader) else {
            return false;
        };
        let keys = [key];
        let _copies = self.remove_copies(&keys);
        match self.driver.replace(&key, replacement).await {
            Ok(is_unchanged) => is_unchanged,
            Err(error) => {
                self.remember_failure(&key, cached, retry_at);
                self.on_store_error(&self.in_operation(error, Operation::Set, &key));
                false
            }
        }
    }

    /// Makes the writes of a key wait while a failure is recorded, because a store may be unable to compare and
    /// write an entry at once. Returns `None` if a write or another load is in progress.
    fn begin_recording<'l>(
        &self,
        key: &Key<'_>,
        leader: Option<&'l Leader>,
    ) -> Option<Recording<'l>> {
        match leader {
            Some(leader) => leader
                .begin_publishing()
                .then_some(Recording::OfLeader(leader)),
            None => self
                .flights()
                .publish(key, self.driver.now())
                .map(|leader| Recording::OfOther { _leader: leader }),
        }
    }

    /// Returns the change of an entry on a server that records a failed load.
    fn replacement<V: Value>(
        &self,
        cached: &CachedValue<V>,
        retry_at: Timestamp,
    ) -> Option<Replacement> {
        let (entry, bytes, expiry) = cached.on_server()?;
        let left = expiry.retention(self.clock.now());
        Some(Replacement {
            new: Entry::bytes(wire::with_retry_at(bytes, retry_at).ok()?),
            current: entry.clone(),
            ttl: TtlChange::Set(left.map(|left| left.max(Duration::from_millis(1)))),
        })
    }

    fn remember_failure<V: Value>(
        &self,
        key: &Key<'_>,
        cached: &CachedValue<V>,
        retry_at: Timestamp,
    ) {
        if let Some(expiry) = cached.expiry {
            self.unrecorded_failures.add(key.hash(), expiry, retry_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn expiry() -> Expiry {
        Expiry::new(NOW, SECOND, Some(SECOND), SECOND)
    }

    #[test]
    fn an_unrecorded_failure_delays_the_load_of_its_entry_until_the_pause_ends() {
        let failures = UnrecordedFailures::default();
        failures.add(1, expiry(), NOW.after(SECOND));
        assert!(failures.contains(1, expiry(), NOW));
        assert!(!failures.contains(2, expiry(), NOW));
        assert!(!failures.contains(1, expiry(), NOW.after(SECOND)));
        failures.add(1, expiry(), NOW.after(SECOND));
        let newer = expiry().touched(NOW.after(SECOND * 9));
        assert!(!failures.contains(1, newer, NOW));
    }

    #[test]
    fn the_number_of_unrecorded_failures_is_bounded() {
        let failures = UnrecordedFailures::default();
        for key in 0..10_000 {
            failures.add(key, expiry(), NOW.after(SECOND));
            assert!(failures.contains(key, expiry(), NOW));
        }
        assert!(failures.0.lock().unwrap().len() <= MAX_KEYS);
    }
}
