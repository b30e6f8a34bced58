//! Loads among processes: a leader claims its key in the store before it loads, and waits if another
//! process loads the key. A value is stored only by the claim under which it was loaded, and a write of
//! any process ends the claims on its key.

use std::iter::repeat_with;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::publish::Publication;
use super::wait::earlier;
use super::{Engine, LoadCall};
use crate::engine::lookup::{CachedValue, Lookup, LookupDecision, Previous};
use crate::engine::tags::Versions;
use crate::flight::deadlock::LoadScope;
use crate::flight::{Leader, LoadClaim, Outcome};
use crate::key::Key;
use crate::stats::Count;
use crate::store::store_time::StoreTime;
use crate::{
    Claim, ClaimMode, Claimed, Entry, Operation, Options, Settled, Settlement, Source, Value,
};

/// The first pause before a claim is tried again, and the longest. Each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// How long a leader waits at most until the store tells of a change. The other process may have ended.
const MAX_TOLD_WAIT: Duration = Duration::from_millis(500);
/// How long a leader without `max_load` waits for another process. Then it loads in its stead.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What the claim of a key says about its entry.
pub(super) enum ClaimRead {
    /// What was read together with the claim.
    Entry(Option<Entry>),
    /// Nothing, because the store failed.
    Failed,
    /// Nothing, because there are no claims.
    None,
}

/// A leader whose key another process loads, and how long it waits.
pub(super) struct ProcessWait<'a> {
    pub(super) leader: &'a Leader,
    pub(super) key: Key<'a>,
    pub(super) options: &'a Options,
    pub(super) until: Option<Instant>,
}

/// How the wait for another process ended.
pub(super) enum ProcessWaitResult<V: Value> {
    /// The leader loads.
    Load(Previous<V>),
    /// There is a value.
    Serve(CachedValue<V>, Source),
    /// The leader waits no longer.
    LimitReached(Previous<V>),
}

impl Engine {
    /// Claims the keys of leaders, in one round trip, and records the claims. Returns what was read with
    /// them; nothing if loads are not claimed.
    pub(super) async fn claim(
        &self,
        leaders: &[(Key<'_>, &Leader)],
        mode: ClaimMode,
    ) -> Vec<ClaimRead> {
        if !self.shares_loads || leaders.is_empty() {
            return Vec::new();
        }
        let keys: Vec<_> = leaders.iter().map(|(key, _)| *key).collect();
        let claimed = match self.driver.claim(&keys, mode).await {
            Ok(claimed) => claimed,
            Err(error) => {
                self.on_store_error(&match &keys[..] {
                    [key] => self.in_operation(error, Operation::Load, key),
                    _ => error.during(Operation::Load),
                });
                for (_, leader) in leaders {
                    leader.set_claim(LoadClaim::Failed);
                }
                return leaders.iter().map(|_| ClaimRead::Failed).collect();
            }
        };
        // A loader may not wait for another process, whose loader may wait for it.
        let lost = |is_told| match LoadScope::is_nested() {
            true => LoadClaim::Refused,
            false => LoadClaim::Lost { is_told },
        };
        let mut claimed = claimed.into_iter();
        let mut read = Vec::with_capacity(leaders.len());
        for (_, leader) in leaders {
            let (claim, entry) = match claimed.next() {
                Some(Claimed::Won { claim, entry }) => {
                    (LoadClaim::Held(claim), ClaimRead::Entry(entry))
                }
                Some(Claimed::Lost { entry, is_told }) => (lost(is_told), ClaimRead::Entry(entry)),
                Some(Claimed::Unsupported) => (LoadClaim::NotNeeded, ClaimRead::None),
                // A store that returns too few claims.
                None => (LoadClaim::Refused, ClaimRead::Failed),
            };
            leader.set_claim(claim);
            read.push(entry);
        }
        self.remove_invalidated(&mut read).await;
        read
    }

    /// Removes the entries whose tags were invalidated, or may have been.
    async fn remove_invalidated(&self, read: &mut [ClaimRead]) {
        let mut entries: Vec<_> = read
            .iter_mut()
            .filter_map(|read| match read {
                ClaimRead::Entry(entry) => Some(entry),
                ClaimRead::Failed | ClaimRead::None => None,
            })
            .collect();
        let mut valid: Vec<_> = entries.iter_mut().map(|entry| entry.take()).collect();
        let versions = &mut Versions::default();
        if let Err(error) = self.remove_invalid(&mut valid, versions, false).await {
            self.on_store_error(&error.during(Operation::Load));
            return;
        }
        for (entry, valid) in entries.into_iter().zip(valid) {
            *entry = valid;
        }
    }

    /// Claims the keys of live values that are due. Returns for each leader whether it refreshes: not if
    /// another process does, or just did.
    pub(super) async fn claim_refreshes<V: Value>(
        &self,
        leaders: &[(Key<'_>, &Leader)],
        due: &[&CachedValue<V>],
        options: &Options,
    ) -> Vec<bool> {
        let read = self.claim(leaders, ClaimMode::Load).await;
        let read = read.into_iter().chain(repeat_with(|| ClaimRead::None));
        let refreshes = leaders.iter().zip(due).zip(read);
        let refreshes = refreshes.map(|(((key, leader), due), read)| match read {
            _ if !leader.may_store() => false,
            ClaimRead::None | ClaimRead::Failed | ClaimRead::Entry(None) => true,
            ClaimRead::Entry(entry) => match self.lookup_of::<V>(key, Ok(entry.into()), options) {
                Lookup::Live(found) => created_at(&found) == created_at(due),
                Lookup::Stale(_) | Lookup::Unreadable | Lookup::Absent => true,
            },
        });
        refreshes.collect()
    }

    /// Waits until the load of another process ends, and claims the key then.
    ///
    /// The store is asked again when it tells of a change of the key, or after pauses if it does not tell.
    pub(super) async fn wait_for_process<V: Value>(
        &self,
        wait: ProcessWait<'_>,
        mut previous: Previous<V>,
    ) -> ProcessWaitResult<V> {
        let ProcessWait {
            leader,
            key,
            options,
            until,
        } = wait;
        if !leader.begin_wait_for_process() {
            leader.set_claim(LoadClaim::Refused);
            return ProcessWaitResult::Load(previous);
        }
        let _waits = EndWait(leader);
        self.counters.add(Count::SharedWait);
        let schedule = leader.schedule();
        let take_over_at = schedule
            .overdue_at
            .or_else(|| schedule.started_at.checked_add(MAX_WAIT));
        let mut pause = PAUSES.0;
        let mut change = None;
        loop {
            let now = self.driver.now();
            if until.is_some_and(|until| until <= now) {
                return ProcessWaitResult::LimitReached(previous);
            }
            if let Some(change) = change.take() {
                let until = earlier(until, earlier(take_over_at, Some(now + MAX_TOLD_WAIT)));
                self.driver.wait(change, until).await;
            } else {
                let left = until.map(|until| until.saturating_duration_since(now));
                let left = left.map_or(pause, |left| pause.min(left));
                if !self.driver.pause(left).await {
                    leader.set_claim(LoadClaim::Refused);
                    return ProcessWaitResult::Load(previous);
                }
                pause = (pause * 2).min(PAUSES.1);
            }
            let force = take_over_at.is_some_and(|at| at <= self.driver.now());
            let mode = match force {
                true => ClaimMode::TakeOver,
                false => ClaimMode::Wait,
            };
            // From before the store is asked, so that no change is missed.
            let next_change = self.shared.l1s.listen(&key);
            // Each attempt has the timeout of an operation: the pauses between them are not the store's.
            let claim = async {
                let read = self.claim(&[(key, leader)], mode).await.pop();
                let ClaimRead::Entry(entry) = read? else {
                    return None;
                };
                let lookup = self.lookup_of::<V>(&key, Ok(entry.into()), options);
                match &lookup {
                    Lookup::Live(cached) => self.record_reads([(key, cached)]).await,
                    _ if leader.has_lost() => return None,
                    _ => {}
                }
                Some(self.decide(&key, lookup, options))
            };
            let decision = self.driver.timed(&StoreTime::default(), pin!(claim)).await;
            match decision {
                Some(LookupDecision::Serve(cached) | LookupDecision::Refresh(cached)) => {
                    return ProcessWaitResult::Serve(cached, Source::Waited);
                }
                Some(LookupDecision::ServeStale(cached)) => {
                    return ProcessWaitResult::Serve(cached, Source::Stale);
                }
                // What was taken over by force was not read.
                Some(LookupDecision::Load(found)) if !force => previous = found,
                Some(LookupDecision::Load(_)) | None => {}
            }
            if !leader.has_lost() {
                return ProcessWaitResult::Load(previous);
            }
            change = leader.is_told().then_some(next_change);
        }
    }

    /// Stores what loads left, each by its claim, in one round trip. A failure is counted and logged. Returns
    /// for each load whether that was done; nothing if the store failed.
    pub(super) async fn settle(&self, loads: Vec<Settlement<'_>>) -> Option<Vec<bool>> {
        if loads.is_empty() {
            return Some(Vec::new());
        }
        let stores: Vec<_> = loads
            .iter()
            .map(|load| matches!(load.loaded, Settled::Entry(..)))
            .collect();
        let keys: Vec<_> = loads.iter().map(|load| load.key).collect();
        match self.driver.settle(loads).await {
            Ok(done) => {
                let refused = stores
                    .iter()
                    .zip(&done)
                    .filter(|(stores, done)| **stores && !**done);
                refused.for_each(|_| self.counters.add(Count::UnstoredLoad));
                Some(done)
            }
            Err(error) => {
                self.on_store_error(&match &keys[..] {
                    [key] => self.in_operation(error, Operation::Set, key),
                    _ => error.during(Operation::SetMany),
                });
                None
            }
        }
    }

    /// Ends the claims of loads that failed, so that other processes do not wait for each other to fail.
    pub(super) async fn settle_failed(&self, failed: &[(Key<'_>, &Leader)]) {
        let claims = failed.iter().filter_map(|(key, leader)| {
            let claim = held(leader.take_claim())?;
            Some(unchanged(*key, claim))
        });
        let claims = claims.collect();
        self.settle(claims).await;
    }
}

impl LoadCall<'_> {
    /// Waits until the load of another process ends, within the limits of this call.
    pub(super) async fn wait_inline<V: Value>(
        &self,
        leader: &Leader,
        previous: Previous<V>,
    ) -> ProcessWaitResult<V> {
        let soft = self.limits.soft.filter(|_| previous.stale().is_some());
        let soft = soft.and_then(|soft| leader.schedule().started_at.checked_add(soft));
        let wait_until = |until| ProcessWait {
            leader,
            key: self.key,
            options: self.options,
            until,
        };
        let engine = self.engine;
        let wait = wait_until(earlier(soft, self.limits.hard));
        let waited = engine.wait_for_process(wait, previous).await;
        match waited {
            // Without a value to serve, there is no soft timeout.
            ProcessWaitResult::LimitReached(previous)
                if !self.has_reached_hard_limit()
                    && !(previous.stale())
                        .is_some_and(|cached| engine.may_be_served(cached, self.options)) =>
            {
                engine
                    .wait_for_process(wait_until(self.limits.hard), previous)
                    .await
            }
            waited => waited,
        }
    }
}

impl Publication<'_> {
    /// Ends the claim of a value that is not stored.
    pub(super) fn not_stored(&self) -> Option<Settlement<'_>> {
        let claim = held(self.leader.take_claim())?;
        Some(unchanged(self.key, claim))
    }
}

/// Ends the wait for another process, also of a caller that is dropped.
struct EndWait<'a>(&'a Leader);

impl Drop for EndWait<'_> {
    fn drop(&mut self) {
        self.0.end_wait_for_process();
    }
}

fn held(claim: LoadClaim) -> Option<Claim> {
    match claim {
        LoadClaim::Held(claim) => Some(claim),
        LoadClaim::NotNeeded | LoadClaim::Lost { .. } | LoadClaim::Refused | LoadClaim::Failed => {
            None
        }
    }
}

fn unchanged(key: Key<'_>, claim: Claim) -> Settlement<'_> {
    Settlement {
        key,
        claim,
        loaded: Settled::Unchanged,
    }
}

/// Returns what the waiters of a leader receive when it serves a value that another process loaded.
pub(super) fn outcome<V: Value>(cached: &CachedValue<V>, source: Source) -> Outcome {
    match source {
        // Each waiter looks for a value that its own options accept.
        Source::Stale => Outcome::FailedUnshared,
        _ => Outcome::Value(Arc::clone(&cached.value) as _),
    }
}

fn created_at<V: Value>(cached: &CachedValue<V>) -> Option<crate::Timestamp> {
    cached.expiry.map(|expiry| expiry.created_at)
}
