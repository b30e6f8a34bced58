//! Which connections lead to one run of a server, between its start and its end.
//!
//! Memcached numbers its items from 1 after each start, so a CAS number means nothing to the next run. It
//! may be sent on another connection than the one that it came from only if both lead to the same run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many ranges are remembered. There are more than one only after a restart, and for a moment.
const MAX_RANGES: usize = 8;

/// The connections to one server, numbered in the order in which they were opened.
#[derive(Debug, Default)]
pub(super) struct ServerRuns {
    opened: AtomicU64,
    /// Whether anyone needs to know.
    are_recorded: AtomicBool,
    /// The first and the last number of connections that lead to the same run. The ranges are in order, and
    /// have no number in common.
    ranges: Mutex<Vec<(u64, u64)>>,
}

impl ServerRuns {
    /// Records from now on what is answered.
    pub(super) fn record(&self) {
        if !self.are_recorded.load(Ordering::Relaxed) {
            self.are_recorded.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the number of a connection that was just opened, on which nothing was sent yet.
    pub(super) fn open(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Returns the number of the latest connection.
    pub(super) fn latest(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// Records that a request was answered on a connection. `latest` is the number of the latest connection
    /// when the request was sent.
    ///
    /// All connections from this one to the latest were opened while the server ran that has now answered.
    pub(super) fn answered(&self, connection: u64, latest: u64) {
        if !self.are_recorded.load(Ordering::Relaxed) {
            return;
        }
        let mut ranges = self.ranges();
        if (ranges.last()).is_some_and(|(first, last)| *first <= connection && latest <= *last) {
            return;
        }
        let mut merged = (connection, latest);
        ranges.retain(|(first, last)| {
            let is_apart = *last < merged.0 || merged.1 < *first;
            if !is_apart {
                merged = (merged.0.min(*first), merged.1.max(*last));
            }
            is_apart
        });
        let at = ranges.partition_point(|(first, _)| *first < merged.0);
        ranges.insert(at, merged);
        if ranges.len() > MAX_RANGES {
            ranges.remove(0);
        }
    }

    /// Returns whether two connections are known to lead to the same run.
    pub(super) fn are_same(&self, one: u64, other: u64) -> bool {
        let is_in = |(first, last): &(u64, u64)| {
            (*first..=*last).contains(&one) && (*first..=*last).contains(&other)
        };
        one == other || self.ranges().iter().any(is_in)
    }

    fn ranges(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_the_same_once_an_older_one_was_answered_later() {
        let runs = ServerRuns::default();
        runs.record();
        let [one, two, three] = [0; 3].map(|_| runs.open());
        runs.answered(two, two);
        assert!(runs.are_same(two, two) && !runs.are_same(one, two));
        runs.answered(one, two);
        assert!(runs.are_same(one, two) && !runs.are_same(two, three));
        runs.answered(two, runs.latest());
        assert!(runs.are_same(one, three));
    }

    #[test]
    fn connections_after_a_restart_are_others() {
        let runs = ServerRuns::default();
        runs.record();
        let [old, other] = [0; 2].map(|_| runs.open());
        runs.answered(old, other);
        // The server starts again, and all connections are new.
        let [new, newest] = [0; 2].map(|_| runs.open());
        runs.answered(new, newest);
        assert!(runs.are_same(old, other) && runs.are_same(new, newest));
        assert!(!runs.are_same(other, new) && !runs.are_same(old, newest));
        for _ in 0..2 * MAX_RANGES {
            let next = runs.open();
            runs.answered(next, next);
        }
        assert!(!runs.are_same(old, other));
        assert!(runs.ranges().len() <= MAX_RANGES);
    }
}
