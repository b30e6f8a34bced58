//! The flights of the caches on one store: joining and opening them, and registering writes.

use std::sync::Arc;
use std::time::Instant;

use super::deadlock::{Cycle, LoadScope, WaitEdge};
use super::guards::{ClearGuard, WriteGuard};
use super::leader::{Leader, Waiter};
use super::registry::{Registry, Stripe, Stripes, new_stripes, stripe_of};
use super::state::{Flight, Phase, Schedule};
use super::sync::{EventListener, MutexGuard};
use crate::Key;
use crate::entry::tags::Stamps;

/// The loads and writes in progress.
#[derive(Debug)]
pub(crate) struct Flights {
    stripes: Stripes,
}

/// The role of a caller that missed.
#[derive(Debug)]
pub(crate) enum Join {
    /// It runs the load.
    Lead(Leader),
    /// It waits for the load of another caller.
    Wait(Waiter),
    /// It would wait for itself.
    Cycle(Cycle),
    /// It has read other versions of its tags than the load in progress: it reads them again.
    ReadTagsAgain,
    /// It runs within a loader, and the load of the key waits for another process, which may wait for
    /// that loader.
    Alone,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            stripes: new_stripes(),
        }
    }
}

impl Flights {
    /// Returns the number of loads and writes that have ended among the keys of a stripe. Callers
    /// take it before they read the store, and give it to [`join`](Self::join).
    pub(crate) fn epoch(&self, key: &Key<'_>) -> u64 {
        self.stripe(key).epoch()
    }

    /// Joins the flight of a key that was missed, or opens one. A flight that is overdue is timed
    /// out and replaced.
    ///
    /// `epoch` is the [`epoch`](Self::epoch) before the read. The leader has to read again if it
    /// has advanced, or is `None`. `scope` returns the scope of the load, which a batch shares.
    pub(crate) fn join(
        &self,
        key: &Key<'_>,
        epoch: Option<u64>,
        stamps: Stamps,
        schedule: Schedule,
        scope: impl FnOnce() -> Arc<LoadScope>,
    ) -> Join {
        let stripe = self.stripe(key);
        let mut registry = stripe.lock();
        let overdue = registry.flights.get(key.text());
        let overdue = overdue.filter(|flight| flight.is_overdue(schedule.started_at));
        let overdue = overdue.map(Arc::clone);
        let superseded = overdue.filter(|flight| registry.time_out(flight, || ()));
        let mut invalidated = None;
        if let Some(flight) = registry.flights.get(key.text()) {
            let mut state = flight.state();
            let is_joinable = flight.stamps.are_current() && flight.stamps.agree_with(&stamps);
            // A flight that publishes stays registered even if a tag was invalidated, so that
            // writes see it.
            if is_joinable || matches!(state.phase, Phase::Publishing) {
                if state.waits_for_process && LoadScope::is_nested() {
                    return Join::Alone;
                }
                return match WaitEdge::wait_for(flight.id) {
                    Err(cycle) => Join::Cycle(cycle),
                    Ok(edge) => {
                        state.waiters += 1;
                        state.nested_waiters += usize::from(edge.is_some());
                        Join::Wait(Waiter {
                            flight: Arc::clone(flight),
                            joined: is_joinable,
                            edge,
                        })
                    }
                };
            }
            // The caller may have read them before the load in progress did.
            if epoch.is_some() && flight.stamps.are_current() {
                return Join::ReadTagsAgain;
            }
            state.phase = Phase::Invalidated;
            drop(state);
            invalidated = Some(Arc::clone(flight));
        }
        let must_reread = epoch != Some(stripe.epoch());
        let scope = scope();
        let flight = Flight::new(scope.id(), key, stamps, schedule);
        let mut leader = self.open(registry, flight, scope, must_reread);
        if let Some(superseded) = superseded {
            leader.supersedes = true;
            superseded.completed.notify(usize::MAX);
            drop(superseded.take_claim());
        }
        if let Some(invalidated) = invalidated {
            // The new load claims the key.
            drop(invalidated.take_claim());
        }
        Join::Lead(leader)
    }

    /// Opens a flight even if another one is in progress, which it invalidates as a write would.
    ///
    /// # Errors
    ///
    /// Returns what to wait for first, if the value of the other flight is being stored.
    pub(crate) fn lead(
        &self,
        key: &Key<'_>,
        stamps: Stamps,
        schedule: Schedule,
        scope: &Arc<LoadScope>,
    ) -> Result<Leader, EventListener> {
        let mut registry = self.stripe(key).lock();
        match registry.invalidate(key.text()) {
            Some(publishing) => Err(publishing),
            None => {
                let flight = Flight::new(scope.id(), key, stamps, schedule);
                Ok(self.open(registry, flight, Arc::clone(scope), false))
            }
        }
    }

    /// Opens a flight that publishes at once, if no other flight and no write of the key is in progress.
    /// Callers that join it join again when it is dropped.
    pub(crate) fn publish(&self, key: &Key<'_>, now: Instant) -> Option<Leader> {
        let registry = self.stripe(key).lock();
        let scope = LoadScope::detached();
        let schedule = Schedule {
            started_at: now,
            overdue_at: None,
        };
        let flight = Flight::new(scope.id(), key, Stamps::default(), schedule);
        if registry.flights.contains_key(key.text()) || registry.is_written(&flight) {
            return None;
        }
        flight.state().phase = Phase::Publishing;
        Some(self.open(registry, flight, scope, false))
    }

    fn open(
        &self,
        mut registry: MutexGuard<'_, Registry>,
        flight: Flight,
        scope: Arc<LoadScope>,
        must_reread: bool,
    ) -> Leader {
        let flight = Arc::new(flight);
        registry
            .flights
            .insert(flight.key.clone(), Arc::clone(&flight));
        drop(registry);
        Leader {
            scope,
            stripes: Arc::clone(&self.stripes),
            flight,
            must_reread,
            supersedes: false,
            is_completed: false,
        }
    }

    /// Times out the flight that a waiter waits for, unless it has ended or its value is being
    /// stored. Returns whether this call did.
    pub(crate) fn time_out(&self, waiter: &Waiter, count: impl FnOnce()) -> bool {
        let flight = &waiter.flight;
        stripe_of(&self.stripes, flight.hash).time_out(flight, count)
    }

    /// Registers a write of a key. It may go to the store after
    /// [`take_publishing`](WriteGuard::take_publishing).
    pub(crate) fn write<'a>(&'a self, key: Key<'a>) -> WriteGuard<'a> {
        let mut registry = self.stripe(&key).lock();
        registry.writes.push(key.hash());
        let publishing = registry.invalidate(key.text());
        WriteGuard {
            stripes: &self.stripes,
            key,
            publishing,
        }
    }

    /// Registers a `clear` of all keys that begin with `prefix`.
    pub(crate) fn clear(&self, prefix: &str) -> ClearGuard<'_> {
        let prefix: Arc<str> = prefix.into();
        let mut publishing = Vec::new();
        for stripe in &*self.stripes {
            let mut registry = stripe.lock();
            registry.clears.push(Arc::clone(&prefix));
            publishing.extend(registry.invalidate_all(&prefix));
        }
        ClearGuard {
            stripes: &self.stripes,
            prefix,
            publishing,
        }
    }

    fn stripe(&self, key: &Key<'_>) -> &Stripe {
        stripe_of(&self.stripes, key.hash())
    }
}
