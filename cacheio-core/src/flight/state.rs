//! The state of one flight.

use std::any::Any;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::deadlock::LoadScope;
use super::sync::{Event, EventListener, Mutex, MutexGuard};
use crate::entry::tags::Stamps;
use crate::{Claim, Key, Object};

/// A load in progress.
#[derive(Debug)]
pub(super) struct Flight {
    /// The id of its load scope. The flights of a batch share one.
    pub(super) id: u64,
    pub(super) key: Box<str>,
    pub(super) hash: u64,
    /// The versions of the tags before the load began.
    pub(super) stamps: Stamps,
    pub(super) schedule: Schedule,
    pub(super) completed: Event,
    state: Mutex<State>,
}

/// When a load began, and when it is timed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) started_at: Instant,
    pub(crate) overdue_at: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) waiters: usize,
    /// How many of the waiters are within the loader of another load.
    pub(super) nested_waiters: usize,
    /// Whether the leader waits for the load of another process.
    pub(super) waits_for_process: bool,
    pub(super) claim: LoadClaim,
}

/// Whether the value of a load may be stored, as far as other processes are concerned.
#[derive(Debug, Default)]
pub(crate) enum LoadClaim {
    /// The store or the cache knows no claims: the value is stored by a plain write.
    #[default]
    NotNeeded,
    Held(Claim),
    /// Another process loads the key. Whether the store tells when that ends.
    Lost {
        is_told: bool,
    },
    /// The value must not be stored.
    Refused,
    /// Nor must it then: the store failed when it was asked for the claim.
    Failed,
}

#[derive(Debug)]
pub(super) enum Phase {
    Loading,
    /// A write came: the value will not be stored.
    Invalidated,
    /// The value is being stored.
    Publishing,
    /// The flight has ended, with an outcome or abandoned.
    Completed(Option<Outcome>),
}

/// What waiters receive.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Value(Arc<dyn Object>),
    /// The loader of a batch had no value for the key.
    Absent,
    /// The loader's error.
    Failed(Arc<dyn Any + Send + Sync>),
    /// The loader failed with an error that is not shared.
    FailedUnshared,
    /// The load exceeded `max_load`.
    TimedOut,
}

impl State {
    pub(super) fn take_claim(&mut self) -> LoadClaim {
        // What was claimed must not be stored without the claim.
        let after = match &self.claim {
            LoadClaim::NotNeeded => LoadClaim::NotNeeded,
            _ => LoadClaim::Refused,
        };
        std::mem::replace(&mut self.claim, after)
    }
}

impl Flight {
    pub(super) fn new(id: u64, key: &Key<'_>, stamps: Stamps, schedule: Schedule) -> Self {
        Self {
            id,
            key: key.text().into(),
            hash: key.hash(),
            stamps,
            schedule,
            completed: Event::new(),
            state: Mutex::new(State {
                phase: Phase::Loading,
                waiters: 0,
                nested_waiters: 0,
                waits_for_process: false,
                claim: LoadClaim::NotNeeded,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the claim, so that it ends when the result is dropped. No lock may be held then.
    pub(super) fn take_claim(&self) -> LoadClaim {
        self.state().take_claim()
    }

    /// Takes the claim of a load that was invalidated, if it has one. No lock may be held when the result is dropped.
    pub(super) fn take_claim_if_invalidated(&self) -> LoadClaim {
        let mut state = self.state();
        match (&state.phase, &state.claim) {
            (Phase::Invalidated, LoadClaim::Held(_)) => state.take_claim(),
            _ => LoadClaim::NotNeeded,
        }
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.schedule.overdue_at.is_some_and(|at| at <= now)
    }

    /// Prevents the value from being stored. If it is being stored now, returns a listener for
    /// the end of that.
    pub(super) fn invalidate(&self) -> Option<EventListener> {
        let mut state = self.state();
        match state.phase {
            // A write from within the publication (by the `Drop` of an evicted value) would wait
            // for itself. It reaches the store after the value.
            Phase::Publishing if LoadScope::is_around(self.id) => None,
            Phase::Publishing => Some(self.completed.listen()),
            Phase::Loading => {
                state.phase = Phase::Invalidated;
                None
            }
            Phase::Invalidated | Phase::Completed(_) => None,
        }
    }
}
