//! When a server that refuses as a replica is left for the master.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first pause after a search. Each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// After how long without a refusal the next one is that of another failover.
const FAILOVER_MEMORY: Duration = Duration::from_secs(5);

/// Lets a new connection look for the master, with pauses in between: the address may be that of a replica for good.
pub(crate) struct MasterSearch {
    longest_pause: Duration,
    /// When the next search may begin, and the pause after it.
    next: Mutex<Option<(Instant, Duration)>>,
}

impl MasterSearch {
    pub(crate) fn new(longest_pause: Duration) -> Self {
        Self {
            longest_pause,
            next: Mutex::default(),
        }
    }

    /// Returns whether to look for the master now.
    pub(crate) fn may_begin(&self) -> bool {
        self.may_begin_at(Instant::now())
    }

    fn may_begin_at(&self, now: Instant) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = match *next {
            Some((at, _)) if now < at => return false,
            Some((at, pause)) if now < at + FAILOVER_MEMORY => pause,
            _ => FIRST_PAUSE,
        };
        *next = Some((now + pause, (pause * 2).min(self.longest_pause)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_until_the_next_failover() {
        let search = MasterSearch::new(Duration::from_secs(1));
        let begun = Instant::now();
        let searches = |from: u64, to: u64| {
            let times = (from..to).map(Duration::from_millis);
            times
                .filter(|time| search.may_begin_at(begun + *time))
                .count()
        };
        assert_eq!(searches(0, 1_000), 5);
        assert_eq!(searches(1_000, 10_000), 9);
        assert_eq!(searches(20_000, 21_000), 5);
    }
}
