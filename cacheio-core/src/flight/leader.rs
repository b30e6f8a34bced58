//! The two roles in a flight: the leader runs the load, and waiters receive its outcome.

use std::sync::Arc;
use std::time::Instant;

use super::deadlock::{LoadScope, WaitEdge};
use super::registry::{Stripe, Stripes, stripe_of};
use super::state::{Flight, LoadClaim, Outcome, Phase, Schedule};
use super::sync::EventListener;
use crate::Key;
use crate::entry::tags::Stamps;

/// The caller that runs the load. If it is dropped before [`complete`](Self::complete), the flight
/// is abandoned and a waiter takes over.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(super) stripes: Stripes,
    pub(super) flight: Arc<Flight>,
    pub(super) scope: Arc<LoadScope>,
    pub(super) must_reread: bool,
    pub(super) supersedes: bool,
    pub(super) is_completed: bool,
}

impl Leader {
    /// Whether the store has to be read again before the load, because another load or write has
    /// ended since this caller's read.
    pub(crate) fn must_reread(&self) -> bool {
        self.must_reread
    }

    /// Whether this flight replaces one that was timed out.
    pub(crate) fn supersedes(&self) -> bool {
        self.supersedes
    }

    /// Returns a waiter for this flight, for a leader that does not run the load itself.
    pub(crate) fn subscribe(&self) -> Waiter {
        // A new flight has no waiters yet, so this edge cannot close a cycle.
        let edge = WaitEdge::wait_for(self.flight.id).unwrap_or(None);
        let mut state = self.flight.state();
        state.waiters += 1;
        state.nested_waiters += usize::from(edge.is_some());
        Waiter {
            flight: Arc::clone(&self.flight),
            joined: true,
            edge,
        }
    }

    /// Records the claim of the load. If the flight was timed out or invalidated meanwhile, its claim ends.
    pub(crate) fn set_claim(&self, claim: LoadClaim) {
        let mut state = self.flight.state();
        let unused = match state.phase {
            Phase::Completed(_) => {
                state.claim = LoadClaim::Refused;
                claim
            }
            Phase::Invalidated if matches!(claim, LoadClaim::Held(_)) => {
                state.claim = LoadClaim::Refused;
                claim
            }
            _ => std::mem::replace(&mut state.claim, claim),
        };
        drop(state);
        drop(unused);
    }

    /// Takes the claim under which the value is stored, or which ends because it is not stored.
    pub(crate) fn take_claim(&self) -> LoadClaim {
        self.flight.take_claim()
    }

    /// Returns whether another process loads the key.
    pub(crate) fn has_lost(&self) -> bool {
        matches!(self.flight.state().claim, LoadClaim::Lost { .. })
    }

    /// Returns whether the store tells when the load of the other process ends.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.flight.state().claim, LoadClaim::Lost { is_told: true })
    }

    /// Returns whether the value of the load may be stored, as far as other processes are concerned.
    pub(crate) fn may_store(&self) -> bool {
        let state = self.flight.state();
        matches!(state.claim, LoadClaim::NotNeeded | LoadClaim::Held(_))
    }

    /// Begins to wait for the load of another process, until
    /// [`end_wait_for_process`](Self::end_wait_for_process). Returns `false` if
    /// a loader waits for this load: that process may wait for the same loader.
    pub(crate) fn begin_wait_for_process(&self) -> bool {
        let mut state = self.flight.state();
        state.waits_for_process = state.nested_waiters == 0;
        state.waits_for_process
    }

    /// Ends the wait for the load of another process.
    pub(crate) fn end_wait_for_process(&self) {
        self.flight.state().waits_for_process = false;
    }

    pub(crate) fn schedule(&self) -> Schedule {
        self.flight.schedule
    }

    /// Whether the value of the load would be stored or received by a waiter.
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.flight.state();
        match state.phase {
            Phase::Completed(_) => false,
            Phase::Invalidated => state.waiters > 0,
            Phase::Loading | Phase::Publishing => true,
        }
    }

    /// Returns when the load is timed out.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        self.flight.schedule.overdue_at
    }

    /// Returns the scope in which the load runs.
    pub(crate) fn scope(&self) -> &Arc<LoadScope> {
        &self.scope
    }

    /// Returns the versions of the tags before the load began.
    pub(crate) fn stamps(&self) -> &Stamps {
        &self.flight.stamps
    }

    /// Times the load out. Returns whether this call did.
    pub(crate) fn time_out(&self, count: impl FnOnce()) -> bool {
        self.stripe().time_out(&self.flight, count)
    }

    /// Returns whether the value may be stored. If so, writes wait until the flight is completed.
    pub(crate) fn begin_publishing(&self) -> bool {
        let registry = self.stripe().lock();
        let mut state = self.flight.state();
        let is_allowed = matches!(state.phase, Phase::Loading)
            && !registry.is_written(&self.flight)
            && self.flight.stamps.are_current();
        if is_allowed {
            state.phase = Phase::Publishing;
        }
        is_allowed
    }

    /// Ends what [`begin_publishing`](Self::begin_publishing) began, for a load that failed. Writes that wait
    /// go on waiting until the flight is completed.
    pub(crate) fn end_publishing(&self) {
        let mut state = self.flight.state();
        if matches!(state.phase, Phase::Publishing) {
            state.phase = Phase::Loading;
        }
    }

    /// Ends the flight. `outcome` is called if there are waiters.
    pub(crate) fn complete(mut self, outcome: impl FnOnce() -> Outcome) {
        self.is_completed = true;
        self.end(|| Some(outcome()));
    }

    fn end(&self, outcome: impl FnOnce() -> Option<Outcome>) {
        let stripe = self.stripe();
        let mut registry = stripe.lock();
        registry.remove(&self.flight);
        let mut state = self.flight.state();
        // A flight that was abandoned before it stored anything changes nothing for readers.
        let changes_reads = self.is_completed || matches!(state.phase, Phase::Publishing);
        // The waiters of a flight that was timed out have their outcome.
        if !matches!(state.phase, Phase::Completed(_)) {
            state.phase = Phase::Completed(match state.waiters {
                0 => None,
                _ => outcome(),
            });
        }
        let unused = state.take_claim();
        drop(state);
        if changes_reads {
            stripe.advance_epoch();
        }
        drop(registry);
        self.flight.completed.notify(usize::MAX);
        // If the value was not to be stored, another process may load the key now.
        drop(unused);
    }

    fn stripe(&self) -> &Stripe {
        stripe_of(&self.stripes, self.flight.hash)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.is_completed {
            self.end(|| None);
        }
    }
}

/// A caller that waits for the load of another.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(super) flight: Arc<Flight>,
    /// Whether the outcome is for this caller, or the caller only waits for the end of the flight.
    pub(super) joined: bool,
    pub(super) edge: Option<WaitEdge>,
}

impl Waiter {
    /// Returns what to wait for before [`outcome`](Self::outcome), or `None` if the flight has
    /// ended.
    pub(crate) fn listener(&self) -> Option<EventListener> {
        match self.flight.state().phase {
            Phase::Completed(_) => None,
            _ => Some(self.flight.completed.listen()),
        }
    }

    /// Returns the outcome, or `None` if the flight was abandoned: then the caller joins again.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.flight.state().phase {
            Phase::Completed(outcome) if self.joined => outcome.clone(),
            _ => None,
        }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        Key::new(&self.flight.key)
    }

    pub(crate) fn schedule(&self) -> Schedule {
        self.flight.schedule
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.flight.state();
        state.waiters -= 1;
        state.nested_waiters -= usize::from(self.edge.is_some());
    }
}
