//! Lets one task at a time probe a server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When the current probe task began its latest round; none without such a task.
#[derive(Clone, Default)]
pub(crate) struct ProbeState(Arc<Mutex<Option<Instant>>>);

/// Held by the task that probes. Dropping the lease, which also happens with the task's runtime,
/// lets another task begin; so does a lease that was not renewed in time, because its runtime may
/// be blocked.
pub(crate) struct ProbeLease {
    state: ProbeState,
    round: Instant,
}

impl ProbeState {
    /// Returns a lease unless another task holds one and renewed it within `max_round`.
    pub(crate) fn acquire(&self, max_round: Duration) -> Option<ProbeLease> {
        let round = Instant::now();
        let mut latest = self.lock();
        if latest.is_some_and(|latest| round.duration_since(latest) < max_round) {
            return None;
        }
        *latest = Some(round);
        Some(ProbeLease {
            state: self.clone(),
            round,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProbeLease {
    /// Begins another round; returns false if another task has taken over.
    pub(crate) fn renew(&mut self) -> bool {
        let mut latest = self.state.lock();
        if *latest != Some(self.round) {
            return false;
        }
        self.round = Instant::now();
        *latest = Some(self.round);
        true
    }
}

impl Drop for ProbeLease {
    fn drop(&mut self) {
        let mut latest = self.state.lock();
        if *latest == Some(self.round) {
            *latest = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_at_a_time_holds_the_lease() {
        let state = ProbeState::default();
        let lease = state.acquire(Duration::MAX).unwrap();
        assert!(state.acquire(Duration::MAX).is_none());
        drop(lease);
        assert!(state.acquire(Duration::MAX).is_some());
    }

    #[test]
    fn a_lease_that_is_not_renewed_in_time_is_lost() {
        let state = ProbeState::default();
        let mut old = state.acquire(Duration::MAX).unwrap();
        assert!(old.renew());
        std::thread::sleep(Duration::from_millis(1));
        let mut new = state.acquire(Duration::ZERO).unwrap();
        assert!(!old.renew());
        drop(old);
        assert!(new.renew());
    }
}
