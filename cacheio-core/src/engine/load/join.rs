//! Before a loader runs: a caller finds a value, joins the flight of another caller, or leads one.

use std::any::TypeId;
use std::iter::repeat_with;
use std::pin::pin;
use std::sync::Arc;

use super::claim::ClaimRead;
use super::mode::Failure;
use super::wait::WaiterAction;
use super::{Engine, LoadCall, boxed};
use crate::engine::lookup::{CachedValue, Lookup, LookupDecision, Previous};
use crate::engine::tags::Versions;
use crate::entry::tags::Stamps;
use crate::error::reentrant;
use crate::flight::deadlock::{Cycle, LoadScope};
use crate::flight::{Join, Leader, Outcome};
use crate::key::Key;
use crate::stats::Count;
use crate::{ClaimMode, Fetched, Options, Source, Value};

/// What a loading call has to do about its key.
pub(super) enum JoinOutcome<V: Value, E> {
    Served(Fetched<V>),
    Failed(Failure<E>),
    /// It runs its loader for itself only, in this scope if it has one.
    LoadUnshared(Previous<V>, Option<Arc<LoadScope>>),
    /// It runs its loader for all callers.
    Lead(Leader, Previous<V>),
}

/// The state that a read is compared with: the epoch of the key, and the versions of the tags.
pub(super) type Seen = (u64, Stamps);

/// A live value that is due for a refresh, with what was seen before it was read.
pub(super) struct DueKey<'a, V: Value> {
    pub(super) key: Key<'a>,
    pub(super) cached: CachedValue<V>,
    pub(super) seen: Option<Seen>,
}

/// A key whose flight a caller has just opened.
pub(super) struct LedKey<'a, V: Value> {
    pub(super) key: Key<'a>,
    pub(super) leader: Leader,
    pub(super) previous: Previous<V>,
}

/// What a caller does after it opened a flight.
pub(super) enum LeaderAction<'a, V: Value> {
    Load(LedKey<'a, V>),
    /// The store has a value after all. The flight is completed.
    Serve(CachedValue<V>, Source),
}

impl LoadCall<'_> {
    /// Reads the key, then joins its flight until the call has a value or leads the load.
    ///
    /// What follows a hit is on the heap, so that the future of a hit stays small.
    pub(super) async fn join_or_lead<V: Value, E: Send + Sync + 'static>(
        &self,
        scope: fn(TypeId) -> Arc<LoadScope>,
    ) -> JoinOutcome<V, E> {
        if self.options.force_refresh {
            return boxed(|| self.lead_without_read(scope)).await;
        }
        if self.is_absent {
            self.engine.counters.add(Count::Miss);
            return boxed(|| self.join(None, Previous::Nothing, scope)).await;
        }
        let (decision, seen) = self.in_store(pin!(self.read())).await;
        match decision {
            LookupDecision::Serve(cached) => {
                JoinOutcome::Served(self.engine.fetched(cached, Source::Hit))
            }
            LookupDecision::ServeStale(cached) => {
                JoinOutcome::Served(self.engine.fetched(cached, Source::Stale))
            }
            LookupDecision::Refresh(cached) => {
                boxed(|| self.begin_refresh(cached, seen, scope)).await
            }
            LookupDecision::Load(found) => boxed(|| self.join(seen, found, scope)).await,
        }
    }

    /// Reads the key, and decides what the call does.
    async fn read<V: Value>(&self) -> (LookupDecision<V>, Option<Seen>) {
        let engine = self.engine;
        let keys = std::slice::from_ref(&self.key);
        let (mut read, mut lookups) = engine.look_up_to_load::<V>(keys, self.options).await;
        let lookup = lookups.pop().unwrap_or(Lookup::Absent);
        engine.count_lookup(lookup.as_live());
        if let Some(cached) = lookup.as_live() {
            engine.record_reads([(self.key, cached)]).await;
        }
        let decision = engine.decide(&self.key, lookup, self.options);
        if decision.needs_load() {
            engine.complete_stamps(&mut read, self.options).await;
        }
        (decision, read.seen.pop())
    }

    async fn lead_without_read<V: Value, E>(
        &self,
        scope: fn(TypeId) -> Arc<LoadScope>,
    ) -> JoinOutcome<V, E> {
        let engine = self.engine;
        let stamps = self.in_store(pin!(engine.stamp_load(self.options))).await;
        let scope = scope(self.loader);
        let leader = engine.take_over(&self.key, stamps, self.options, &scope);
        let leader = leader.await;
        self.in_store(pin!(
            engine.claim(&[(self.key, &leader)], ClaimMode::TakeOver)
        ))
        .await;
        JoinOutcome::Lead(leader, Previous::Ignored)
    }

    /// Refreshes a live value that is due, unless another caller does.
    async fn begin_refresh<V: Value, E>(
        &self,
        cached: CachedValue<V>,
        seen: Option<Seen>,
        scope: fn(TypeId) -> Arc<LoadScope>,
    ) -> JoinOutcome<V, E> {
        let engine = self.engine;
        let due = DueKey {
            key: self.key,
            cached: cached.clone(),
            seen,
        };
        let leaders = engine.begin_refreshes(vec![due], self.options, || scope(self.loader));
        let mut leaders = self.in_store(pin!(leaders)).await;
        match leaders.pop().flatten() {
            Some(leader) => JoinOutcome::Lead(leader, Previous::Live(cached)),
            None => JoinOutcome::Served(engine.fetched(cached, Source::Hit)),
        }
    }

    /// Joins the flight of the key until the call has a value or leads the load.
    async fn join<V: Value, E: Send + Sync + 'static>(
        &self,
        mut seen: Option<Seen>,
        previous: Previous<V>,
        scope: fn(TypeId) -> Arc<LoadScope>,
    ) -> JoinOutcome<V, E> {
        let engine = self.engine;
        let scope = || scope(self.loader);
        loop {
            let seen = match seen.take() {
                Some((epoch, stamps)) => (Some(epoch), stamps),
                None => {
                    let stamps = pin!(engine.stamp_load(self.options));
                    (None, self.in_store(stamps).await)
                }
            };
            let waiter = match engine.join(&self.key, seen, self.options, scope) {
                Join::Cycle(cycle) => return self.after_cycle(&cycle, previous),
                Join::ReadTagsAgain => continue,
                Join::Alone => return JoinOutcome::LoadUnshared(previous, None),
                Join::Lead(leader) => {
                    let led = LedKey {
                        key: self.key,
                        leader,
                        previous,
                    };
                    let actions = engine.confirm_leaders(vec![led], self.options);
                    return match self.in_store(pin!(actions)).await.pop() {
                        Some(LeaderAction::Load(led)) => {
                            JoinOutcome::Lead(led.leader, led.previous)
                        }
                        Some(LeaderAction::Serve(cached, source)) => {
                            JoinOutcome::Served(engine.fetched(cached, source))
                        }
                        None => unreachable!("each leader has an action"),
                    };
                }
                Join::Wait(waiter) => waiter,
            };
            engine.counters.add(Count::Wait);
            match self.wait(&waiter, &previous).await {
                WaiterAction::Served(cached, source) => {
                    return JoinOutcome::Served(engine.fetched(cached, source));
                }
                WaiterAction::Failed(failure) => return JoinOutcome::Failed(failure),
                WaiterAction::LoadUnshared => return JoinOutcome::LoadUnshared(previous, None),
                WaiterAction::JoinAgain => {}
            }
        }
    }
}

/// How many loads that only seem to wait for themselves may run within each other, where there is no error
/// to return.
pub(super) const MAX_UNSHARED: usize = 8;

impl LoadCall<'_> {
    /// Decides what a call does that seems to wait for itself: it returns an error.
    ///
    /// A thread that steals work runs other jobs while a loader waits, and these only seem to run for
    /// the load. So a call that cannot return an error, and one whose loader is of the same type as the
    /// loader around it, run their loaders for themselves, until they are nested so deep that the loader
    /// must be calling itself.
    fn after_cycle<V: Value, E>(&self, cycle: &Cycle, previous: Previous<V>) -> JoinOutcome<V, E> {
        let max = match self.mode.times_out {
            false => MAX_UNSHARED,
            true => usize::from(cycle.own_loader == Some(self.loader)),
        };
        if let Some(scope) = LoadScope::unshared(self.loader, max) {
            return JoinOutcome::LoadUnshared(previous, Some(scope));
        }
        let error = reentrant(&self.engine.full_text(&self.key));
        JoinOutcome::Failed(Failure::Reentrant(error))
    }
}

/// What was seen before keys were read, and the versions of tags that were read with them.
#[derive(Default)]
pub(super) struct ReadToLoad {
    pub(super) seen: Vec<Seen>,
    versions: Option<Versions>,
}

impl Engine {
    /// Looks keys up for a loading call: in L1, and those that it does not have on the server.
    pub(super) async fn look_up_to_load<V: Value>(
        &self,
        keys: &[Key<'_>],
        options: &Options,
    ) -> (ReadToLoad, Vec<Lookup<V>>) {
        if self.driver.l1().is_none() {
            return self.read_to_load(keys, options).await;
        }
        let (copies, missing) = self.copies::<V>(keys, options.skip_l1);
        let (mut read, lookups) = match missing.is_empty() {
            true => (ReadToLoad::default(), Vec::new()),
            false => boxed(|| self.read_to_load(&missing, options)).await,
        };
        let (mut seen, mut lookups) = (read.seen.into_iter(), lookups.into_iter());
        // A copy needs no load.
        read.seen = copies
            .iter()
            .map(|copy| match copy {
                Some(_) => Seen::default(),
                None => seen.next().unwrap_or_default(),
            })
            .collect();
        let lookups = copies.into_iter().map(|copy| match copy {
            Some(copy) => Lookup::Live(copy),
            None => lookups.next().unwrap_or(Lookup::Absent),
        });
        (read, lookups.collect())
    }

    /// Reads keys for a loading call, in one round trip. What they are compared with is recorded before
    /// the read, because a loader may return what the read finds.
    async fn read_to_load<V: Value>(
        &self,
        keys: &[Key<'_>],
        options: &Options,
    ) -> (ReadToLoad, Vec<Lookup<V>>) {
        let stamps = self.stamp_in_process(options);
        let epochs = keys.iter().map(|key| self.flights().epoch(key));
        let seen = epochs.map(|epoch| (epoch, stamps.clone())).collect();
        if !self.has_server_tags(options) {
            let versions = None;
            let lookups = self.look_up_many(keys, options).await;
            return (ReadToLoad { seen, versions }, lookups);
        }
        let read = boxed(|| self.read_with_versions(keys, options));
        let (versions, entries) = match read.await {
            Ok((entries, versions)) => (Some(versions), Ok(entries)),
            Err(error) => (None, Err(error)),
        };
        let lookups = self.lookups_of(keys, entries, options);
        (ReadToLoad { seen, versions }, lookups)
    }

    /// Adds the versions of the tags to what was seen, before a load begins.
    pub(super) async fn complete_stamps(&self, read: &mut ReadToLoad, options: &Options) {
        if !self.has_server_tags(options) {
            return;
        }
        let versions = self.stored_versions(read.versions.take(), options).await;
        for (_, stamps) in &mut read.seen {
            *stamps = std::mem::take(stamps).with_versions(versions.clone());
        }
    }

    /// Joins the flight of a key, or opens one. `seen` has no epoch if the key was not read.
    pub(super) fn join(
        &self,
        key: &Key<'_>,
        (epoch, stamps): (Option<u64>, Stamps),
        options: &Options,
        scope: impl FnOnce() -> Arc<LoadScope>,
    ) -> Join {
        let schedule = self.schedule(options);
        self.flights().join(key, epoch, stamps, schedule, scope)
    }

    /// Does what a caller must do between opening flights and loading: it reports loads that it
    /// superseded, claims the keys, and reads again what another flight, a write or another process may
    /// have changed since its read.
    pub(super) async fn confirm_leaders<'a, V: Value>(
        &self,
        led: Vec<LedKey<'a, V>>,
        options: &Options,
    ) -> Vec<LeaderAction<'a, V>> {
        let superseding = keys_of(&led, Leader::supersedes);
        for key in &superseding {
            self.on_load_timed_out(key);
        }
        let leaders: Vec<_> = led
            .iter()
            .filter(|led| led.leader.supersedes())
            .map(|led| Some(&led.leader))
            .collect();
        let fallbacks = self.stale_fallbacks::<V>(&superseding, &leaders, options);
        let mut fallbacks = fallbacks.await.into_iter();
        let fallbacks: Vec<_> = led
            .iter()
            .map(|led| match led.leader.supersedes() {
                true => fallbacks.next().flatten(),
                false => None,
            })
            .collect();
        let confirmed = self.confirm_reads(&led, &fallbacks, options).await;
        let confirmed = confirmed.into_iter().chain(repeat_with(|| None));
        let mut actions = Vec::with_capacity(led.len());
        for ((mut led, fallback), decision) in led.into_iter().zip(fallbacks).zip(confirmed) {
            if let Some(cached) = fallback {
                self.count_stale_hit(&cached);
                led.leader.complete(|| Outcome::FailedUnshared);
                actions.push(LeaderAction::Serve(cached, Source::Stale));
                continue;
            }
            actions.push(match decision {
                Some(LookupDecision::Serve(cached) | LookupDecision::Refresh(cached)) => {
                    led.leader
                        .complete(|| Outcome::Value(Arc::clone(&cached.value) as _));
                    LeaderAction::Serve(cached, Source::Hit)
                }
                // Each waiter looks for a value that its own options accept.
                Some(LookupDecision::ServeStale(cached)) => {
                    led.leader.complete(|| Outcome::FailedUnshared);
                    LeaderAction::Serve(cached, Source::Stale)
                }
                Some(LookupDecision::Load(previous)) => {
                    led.previous = previous;
                    LeaderAction::Load(led)
                }
                None => LeaderAction::Load(led),
            });
        }
        actions
    }

    /// Claims the keys of leaders that have no fallback, and reads them again if that is needed: with the
    /// claims, in one round trip. Returns what was decided by what was read, where anything was.
    async fn confirm_reads<V: Value>(
        &self,
        led: &[LedKey<'_, V>],
        fallbacks: &[Option<CachedValue<V>>],
        options: &Options,
    ) -> Vec<Option<LookupDecision<V>>> {
        if !self.shares_loads && !led.iter().any(|led| led.leader.must_reread()) {
            return Vec::new();
        }
        let confirmed = || {
            let led = led.iter().zip(fallbacks).enumerate();
            led.filter(|(_, (_, fallback))| fallback.is_none())
                .map(|(index, (led, _))| (index, led))
        };
        let leaders: Vec<_> = confirmed().map(|(_, led)| (led.key, &led.leader)).collect();
        let mode = match options.force_refresh {
            true => ClaimMode::TakeOver,
            false => ClaimMode::Load,
        };
        let claims = self.claim(&leaders, mode).await;
        let mut decisions: Vec<_> = led.iter().map(|_| None).collect();
        let (mut indexes, mut keys, mut lookups) = (Vec::new(), Vec::new(), Vec::new());
        let mut rereads = Vec::new();
        let claims = claims.into_iter().chain(repeat_with(|| ClaimRead::None));
        for ((index, led), claim) in confirmed().zip(claims) {
            match claim {
                ClaimRead::Entry(_) if options.force_refresh => {}
                ClaimRead::Entry(entry) => {
                    let lookup = match led.previous {
                        // That was counted and logged when it was read first.
                        Previous::Unreadable => {
                            let stale_for = self.stale_for(options);
                            let ahead = self.refresh_ahead(options);
                            let lookup = self.decode_entry::<V>(entry, stale_for, ahead);
                            lookup.unwrap_or(Lookup::Unreadable)
                        }
                        _ => self.lookup_of::<V>(&led.key, Ok(entry.into()), options),
                    };
                    indexes.push(index);
                    keys.push(led.key);
                    lookups.push(lookup);
                }
                ClaimRead::None if led.leader.must_reread() => rereads.push((index, led.key)),
                ClaimRead::None | ClaimRead::Failed => {}
            }
        }
        let (reread, reread_keys): (Vec<_>, Vec<_>) = rereads.into_iter().unzip();
        lookups.extend(self.look_up_many::<V>(&reread_keys, options).await);
        indexes.extend(reread);
        keys.extend(reread_keys);
        let decided = self.decide_many(&keys, lookups, options).await;
        for (index, decision) in indexes.into_iter().zip(decided) {
            decisions[index] = Some(decision);
        }
        decisions
    }

    /// Opens flights for live values that are due, unless another caller or another process does.
    pub(super) async fn begin_refreshes<V: Value>(
        &self,
        due: Vec<DueKey<'_, V>>,
        options: &Options,
        scope: impl Fn() -> Arc<LoadScope>,
    ) -> Vec<Option<Leader>> {
        let mut leaders = Vec::with_capacity(due.len());
        let mut entries = Vec::with_capacity(due.len());
        let mut superseding = Vec::new();
        for DueKey { key, cached, seen } in due {
            let seen = match seen {
                Some((epoch, stamps)) => (Some(epoch), stamps),
                None => (None, self.stamp_load(options).await),
            };
            let leader = match self.join(&key, seen, options, &scope) {
                Join::Lead(leader) if leader.supersedes() => {
                    self.on_load_timed_out(&key);
                    superseding.push(entries.len());
                    None
                }
                // If the store has changed since the read, the value may just have been loaded.
                Join::Lead(leader) if !leader.must_reread() => Some(leader),
                Join::Lead(_)
                | Join::Wait(_)
                | Join::Cycle(_)
                | Join::ReadTagsAgain
                | Join::Alone => None,
            };
            leaders.push(leader);
            entries.push((key, cached));
        }
        let failed: Vec<_> = superseding
            .into_iter()
            .map(|index: usize| {
                let (key, cached) = &entries[index];
                (*key, cached, None)
            })
            .collect();
        self.on_refreshes_failed(&failed, options).await;
        let (claimed, due): (Vec<_>, Vec<_>) = entries
            .iter()
            .zip(&leaders)
            .filter_map(|((key, cached), leader)| Some(((*key, leader.as_ref()?), cached)))
            .unzip();
        let claimed = self.claim_refreshes(&claimed, &due, options).await;
        let mut claimed = claimed.into_iter();
        for leader in &mut leaders {
            if leader.is_some() {
                match claimed.next() {
                    Some(true) => self.counters.add(Count::Refresh),
                    _ => *leader = None,
                }
            }
        }
        leaders
    }

    /// Leads the flight of a key, whatever other flight is in progress.
    pub(in crate::engine) async fn take_over(
        &self,
        key: &Key<'_>,
        mut stamps: Stamps,
        options: &Options,
        scope: &Arc<LoadScope>,
    ) -> Leader {
        loop {
            let schedule = self.schedule(options);
            match self.flights().lead(key, stamps, schedule, scope) {
                Ok(leader) => return leader,
                Err(publishing) => self.wait(publishing).await,
            }
            stamps = self.stamp_load(options).await;
        }
    }
}

fn keys_of<'a, V: Value>(led: &[LedKey<'a, V>], is_wanted: fn(&Leader) -> bool) -> Vec<Key<'a>> {
    led.iter()
        .filter(|led| is_wanted(&led.leader))
        .map(|led| led.key)
        .collect()
}
