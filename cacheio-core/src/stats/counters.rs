//! Counters that threads increment without contention.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use self::lane::LANES;
#[cfg(feature = "metrics")]
use super::metrics::{LoadTimer, Metrics};
#[cfg(not(feature = "metrics"))]
use super::no_metrics::{LoadTimer, Metrics};
use super::{COUNTS, Count};
use crate::Stats;

/// The counters of a cache, in one lane per thread.
///
/// Each of the first [`LANES`] threads alive has its own lane in every cache, where counting is a
/// load and a store: an atomic addition would cost a fifth of a hit. Further threads share the last
/// lane, with atomic additions.
pub(crate) struct Counters {
    lanes: [Lane; LANES + 1],
    metrics: Metrics,
}

/// Processors fetch two cache lines at a time.
#[repr(align(128))]
#[derive(Default)]
struct Lane([AtomicU64; COUNTS]);

impl Counters {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            lanes: std::array::from_fn(|_| Lane::default()),
            metrics,
        }
    }

    #[inline]
    pub(crate) fn add(&self, count: Count) {
        let lane = lane::current();
        let counter = &self.lanes[lane].0[count as usize];
        if lane < LANES {
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.metrics.add(count);
    }

    /// Starts the timer of a load, which ends when it is dropped.
    pub(crate) fn time_load(&self) -> LoadTimer {
        self.metrics.time_load()
    }

    /// Returns the statistics; those that the store counts are 0.
    pub(crate) fn snapshot(&self) -> Stats {
        let stats = Stats::new(|count| {
            self.lanes
                .iter()
                .map(|lane| lane.0[count as usize].load(Ordering::Relaxed))
                .sum()
        });
        Stats {
            // A hit in L1 adds to one counter only.
            hits: stats.hits + stats.l1_hits,
            ..stats
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Assigns lanes to threads.
mod lane {
    use std::cell::Cell;
    use std::sync::{Mutex, PoisonError};

    /// The number of threads that have their own lane.
    pub(super) const LANES: usize = 64;

    const UNASSIGNED: usize = usize::MAX;

    /// The free lanes, as bits.
    static FREE: Mutex<u64> = Mutex::new(u64::MAX);

    thread_local! {
        static LANE: Cell<usize> = const { Cell::new(UNASSIGNED) };
        static CLAIM: Claim = Claim::new();
    }

    /// Returns the lane of this thread; [`LANES`] is the shared one.
    #[inline]
    pub(super) fn current() -> usize {
        match LANE.get() {
            UNASSIGNED => claim(),
            lane => lane,
        }
    }

    #[cold]
    fn claim() -> usize {
        // While a thread exits, its destructors count in the shared lane.
        let lane = CLAIM.try_with(|claim| claim.0).unwrap_or(LANES);
        LANE.set(lane);
        lane
    }

    /// Gives the lane back when its thread exits.
    struct Claim(usize);

    impl Claim {
        fn new() -> Self {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            let lane = free.trailing_zeros() as usize;
            if lane < LANES {
                *free &= !(1 << lane);
            }
            Self(lane)
        }
    }

    impl Drop for Claim {
        fn drop(&mut self) {
            LANE.set(LANES);
            if self.0 < LANES {
                *FREE.lock().unwrap_or_else(PoisonError::into_inner) |= 1 << self.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::StoreStats;
    use std::thread;

    #[test]
    fn no_count_is_lost_with_more_threads_than_lanes() {
        let counters = Counters::new(Metrics::new("", StoreStats::default()));
        for _ in 0..3 {
            thread::scope(|scope| {
                for _ in 0..LANES + 20 {
                    scope.spawn(|| (0..1_000).for_each(|_| counters.add(Count::Hit)));
                }
            });
        }
        assert_eq!(counters.snapshot().hits, 3 * 1_000 * (LANES as u64 + 20));
    }
}
