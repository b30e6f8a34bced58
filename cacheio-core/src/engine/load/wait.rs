//! Waiting for the load of another caller, and what a waiter does when the wait ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mode::{ErrorSharing, Failure, LoadMode, WaitLimits};
use super::{Engine, LoadCall};
use crate::engine::lookup::{CachedValue, Previous};
use crate::entry::expiry::Freshness;
use crate::error::{Limit, timed_out};
use crate::flight::{Outcome, Schedule, Waiter};
use crate::key::Key;
use crate::stats::Count;
use crate::{Options, Source, Value};

/// How a wait ended.
pub(super) enum WaitResult {
    /// With the flight, which may have been abandoned.
    Completed(Option<Outcome>),
    /// At a limit of the caller, while the load goes on.
    LimitReached,
}

/// What the end of a wait means to this caller, without I/O.
pub(super) enum Resolution<V: Value, E> {
    Value(Arc<V::Stored>),
    /// The leader was dropped or panicked.
    Abandoned,
    /// The load succeeded without a value for the key.
    Absent,
    /// The value cannot be read as this caller's type.
    OtherType,
    LimitReached,
    /// The caller serves a stale value if there is one, and does this otherwise.
    FallBackOr(WaiterAction<V, E>),
}

/// What a waiter does next.
pub(super) enum WaiterAction<V: Value, E> {
    Served(CachedValue<V>, Source),
    Failed(Failure<E>),
    /// It runs its loader for itself only.
    LoadUnshared,
    JoinAgain,
}

impl LoadCall<'_> {
    /// Waits for a flight, and serves a stale value where its load failed.
    pub(super) async fn wait<V: Value, E: Send + Sync + 'static>(
        &self,
        waiter: &Waiter,
        previous: &Previous<V>,
    ) -> WaiterAction<V, E> {
        let result = self.wait_for_outcome(waiter, previous.stale()).await;
        match self.resolve(result) {
            Resolution::Value(value) => {
                WaiterAction::Served(CachedValue::uncached(value), Source::Waited)
            }
            // The loader of a single key always has a value.
            Resolution::Abandoned | Resolution::Absent | Resolution::OtherType => {
                WaiterAction::JoinAgain
            }
            Resolution::LimitReached => self.stop_waiting(previous),
            Resolution::FallBackOr(action) => match self.stale_fallback(previous).await {
                Some(cached) => WaiterAction::Served(cached, Source::Stale),
                None => action,
            },
        }
    }

    /// Waits until the flight ends or a limit is reached. `stale` is the value to serve after
    /// `soft_timeout`.
    pub(super) async fn wait_for_outcome<V: Value>(
        &self,
        waiter: &Waiter,
        stale: Option<&CachedValue<V>>,
    ) -> WaitResult {
        let (engine, limits) = (self.engine, self.limits);
        let schedule = waiter.schedule();
        let mut overdue_at = schedule.overdue_at.filter(|_| limits.enforces_max_load);
        let soft = limits.soft.filter(|_| stale.is_some());
        let mut soft = soft.and_then(|soft| deadline(schedule.started_at, soft));
        loop {
            let Some(listener) = waiter.listener() else {
                return WaitResult::Completed(waiter.outcome());
            };
            let until = earlier(earlier(soft, limits.hard), overdue_at);
            if engine.driver.wait(listener, until).await {
                return WaitResult::Completed(waiter.outcome());
            }
            let now = engine.driver.now();
            if limits.hard.is_some_and(|at| at <= now) {
                return WaitResult::LimitReached;
            }
            if soft.is_some_and(|at| at <= now) {
                if stale.is_some_and(|cached| engine.may_be_served(cached, self.options)) {
                    return WaitResult::LimitReached;
                }
                soft = None;
            }
            if overdue_at.is_some_and(|at| at <= now) {
                // If the flight cannot be timed out, its value is being stored.
                overdue_at = None;
                let count = || engine.counters.add(Count::LoadTimeout);
                if engine.flights().time_out(waiter, count) {
                    engine.warn_load_timed_out(&waiter.key());
                }
            }
        }
    }

    /// Decides what the end of a wait means to this caller.
    pub(super) fn resolve<V: Value, E: Send + Sync + 'static>(
        &self,
        result: WaitResult,
    ) -> Resolution<V, E> {
        let outcome = match result {
            WaitResult::Completed(Some(outcome)) => outcome,
            WaitResult::Completed(None) => return Resolution::Abandoned,
            WaitResult::LimitReached => return Resolution::LimitReached,
        };
        let shares_errors = self.mode.error_sharing == ErrorSharing::Shared;
        Resolution::FallBackOr(match outcome {
            Outcome::Value(object) => {
                return match self.engine.object_as::<V>(&object) {
                    Ok(value) => Resolution::Value(value),
                    Err(_) => Resolution::OtherType,
                };
            }
            Outcome::Absent => return Resolution::Absent,
            Outcome::Failed(error) if shares_errors => match error.downcast::<E>() {
                Ok(error) => WaiterAction::Failed(Failure::Load(error)),
                // One of the callers with this error type loads for all of them.
                Err(_) => WaiterAction::JoinAgain,
            },
            Outcome::FailedUnshared if shares_errors => WaiterAction::JoinAgain,
            Outcome::Failed(_) | Outcome::FailedUnshared => WaiterAction::LoadUnshared,
            Outcome::TimedOut if self.mode.times_out => WaiterAction::Failed(Failure::TimedOut(
                timed_out(&self.engine.full_text(&self.key), Limit::Load),
            )),
            Outcome::TimedOut => WaiterAction::JoinAgain,
        })
    }

    pub(super) fn has_reached_hard_limit(&self) -> bool {
        let hard = self.limits.hard;
        hard.is_some_and(|at| at <= self.engine.driver.now())
    }

    /// Returns what a caller gets that waits no longer: the previous value, or a timeout. If the value has just
    /// ceased to be one that may be served, the caller has to wait on.
    pub(super) fn stop_waiting<V: Value, E>(&self, previous: &Previous<V>) -> WaiterAction<V, E> {
        let engine = self.engine;
        match previous.value() {
            Some(cached) if engine.may_be_served(cached, self.options) => {
                engine.count_wait_timeout(&self.key);
                engine.count_stale_hit(cached);
                WaiterAction::Served(cached.clone(), Source::Stale)
            }
            _ if !self.has_reached_hard_limit() => WaiterAction::JoinAgain,
            _ => {
                engine.count_wait_timeout(&self.key);
                let error = timed_out(&self.engine.full_text(&self.key), Limit::Caller);
                WaiterAction::Failed(Failure::TimedOut(error))
            }
        }
    }
}

impl Engine {
    pub(super) fn wait_limits(&self, options: &Options, mode: LoadMode) -> WaitLimits {
        let hard = match mode.times_out {
            true => self.policy(options, |policies| policies.hard_timeout),
            false => None,
        };
        WaitLimits {
            soft: self.policy(options, |policies| policies.soft_timeout),
            hard: hard.and_then(|hard| deadline(self.driver.now(), hard)),
            enforces_max_load: !self.driver.is_async()
                || hard.is_some()
                || self.policy(options, |policies| policies.max_load).is_some(),
        }
    }

    /// Returns when a load that starts now began, and when it is timed out.
    pub(super) fn schedule(&self, options: &Options) -> Schedule {
        let max_load = self.policy(options, |policies| policies.max_load);
        let max_load = max_load.filter(|max_load| !max_load.is_zero());
        let max_load = max_load.or_else(|| self.driver.max_load());
        let now = self.driver.now();
        Schedule {
            started_at: now,
            overdue_at: max_load.and_then(|max_load| deadline(now, max_load)),
        }
    }

    /// Whether a value that was read some time ago may still be served.
    pub(in crate::engine) fn may_be_served<V: Value>(
        &self,
        cached: &CachedValue<V>,
        options: &Options,
    ) -> bool {
        let freshness = cached.expiry.map(|expiry| {
            let stale_for = self.stale_for(options);
            expiry.freshness(self.clock.now(), stale_for)
        });
        freshness != Some(Freshness::Expired)
    }

    /// Counts a caller that stops waiting for a load.
    pub(super) fn count_wait_timeout(&self, key: &Key<'_>) {
        self.counters.add(Count::Timeout);
        tracing::debug!(
            target: "cacheio",
            namespace = self.namespace(),
            "timed out waiting for a load",
        );
        self.trace_key(key);
    }

    /// Counts and logs a load that exceeded `max_load`.
    pub(super) fn on_load_timed_out(&self, key: &Key<'_>) {
        self.counters.add(Count::LoadTimeout);
        self.warn_load_timed_out(key);
    }

    pub(super) fn warn_load_timed_out(&self, key: &Key<'_>) {
        tracing::warn!(
            target: "cacheio",
            namespace = self.namespace(),
            "load exceeded max_load and was abandoned",
        );
        self.trace_key(key);
    }
}

/// Returns a time after `start`, or `None` if that is as good as never.
fn deadline(start: Instant, after: Duration) -> Option<Instant> {
    // Clocks and timers do not count further.
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    start.checked_add(after).filter(|_| after < CENTURY)
}

pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
