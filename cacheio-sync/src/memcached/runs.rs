//! Which connections lead to one run of a server, between its start and its end.
//!
//! Memcached numbers its items from 1 after each start, so a CAS number means nothing to the next run. It
//! may be sent on another connection than the one that it came from only if both lead to the same run. A host name
//! may have the addresses of several servers, so connections to different addresses never do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many ranges are remembered. There are more than one only after a restart, and for a moment.
const MAX_RANGES: usize = 8;

/// How many changes of the address are remembered.
const MAX_CHANGES: usize = 64;

/// The connections to one server, numbered in the order in which they were opened.
#[derive(Debug, Default)]
pub(super) struct ServerRuns {
    opened: AtomicU64,
    /// Whether anyone needs to know.
    are_recorded: AtomicBool,
    /// The first and the last number of connections that lead to the same run. The ranges are in order, and
    /// have no number in common.
    ranges: Mutex<Vec<(u64, u64)>>,
    peers: Mutex<Peers>,
}

/// To which addresses the connections lead.
#[derive(Debug, Default)]
struct Peers {
    latest: Option<SocketAddr>,
    /// The numbers of connections to another address than that of the one before, in order.
    changes: VecDeque<u64>,
    /// Up to which number changes are no longer known.
    forgotten: u64,
}

impl ServerRuns {
    /// Records from now on what is answered.
    pub(super) fn record(&self) {
        if !self.are_recorded.load(Ordering::Relaxed) {
            self.are_recorded.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the number of a connection to an address that was just opened, on which nothing was sent yet.
    pub(super) fn open(&self, peer: Option<SocketAddr>) -> u64 {
        let mut peers = self.peers();
        let number = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
        if peers.latest != peer {
            peers.latest = peer;
            peers.changes.push_back(number);
            if peers.changes.len() > MAX_CHANGES {
                peers.forgotten = peers.changes.pop_front().unwrap_or_default();
            }
        }
        number
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
        let Some(latest) = self.peers().last_to_same(connection, latest) else {
            return;
        };
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

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ranges(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// Returns the last connection up to `latest` such that all from `connection` on lead to one address; `None` if
    /// that is not known.
    fn last_to_same(&self, connection: u64, latest: u64) -> Option<u64> {
        let change = self.changes.iter().find(|change| **change > connection);
        let last = change.map_or(latest, |change| latest.min(change - 1));
        (connection > self.forgotten).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_the_same_once_an_older_one_was_answered_later() {
        let runs = ServerRuns::default();
        runs.record();
        let [one, two, three] = [0; 3].map(|_| runs.open(None));
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
        let [old, other] = [0; 2].map(|_| runs.open(None));
        runs.answered(old, other);
        // The server starts again, and all connections are new.
        let [new, newest] = [0; 2].map(|_| runs.open(None));
        runs.answered(new, newest);
        assert!(runs.are_same(old, other) && runs.are_same(new, newest));
        assert!(!runs.are_same(other, new) && !runs.are_same(old, newest));
        for _ in 0..2 * MAX_RANGES {
            let next = runs.open(None);
            runs.answered(next, next);
        }
        assert!(!runs.are_same(old, other));
        assert!(runs.ranges().len() <= MAX_RANGES);
    }

    #[test]
    fn connections_to_two_addresses_are_others() {
        let runs = ServerRuns::default();
        runs.record();
        let [one, other] = [1, 2].map(|port| Some(SocketAddr::from(([127, 0, 0, 1], port))));
        let numbers = [one, one, other, one].map(|peer| runs.open(peer));
        for number in numbers {
            runs.answered(number, runs.latest());
        }
        assert!(runs.are_same(numbers[0], numbers[1]));
        assert!(!runs.are_same(numbers[1], numbers[2]));
        assert!(!runs.are_same(numbers[2], numbers[3]));
        assert!(!runs.are_same(numbers[0], numbers[3]));
        for _ in 0..MAX_CHANGES {
            let _ = [one, other].map(|peer| runs.open(peer));
        }
        runs.answered(numbers[3], runs.latest());
        assert!(!runs.are_same(numbers[3], runs.latest()));
    }
}
