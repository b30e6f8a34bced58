//! What a cache has done so far.

#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "stats/no_metrics.rs"]
pub(crate) mod metrics;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use self::lane::LANES;
use crate::stats::metrics::{LoadTimer, Metrics};

/// What a cache has done since it was built: a snapshot.
///
/// Counting is always on; a hit pays one addition to a number that only its thread writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Look-ups that found a live entry.
    pub hits: u64,
    /// Look-ups that did not; those who then waited for another's load are among them.
    pub misses: u64,
    /// Look-ups that were served an entry past its TTL; they are among the misses.
    pub stale_hits: u64,
    /// Loaders run.
    pub loads: u64,
    /// Loaders that returned an error.
    pub load_errors: u64,
    /// Loads given up because they took longer than `max_load`.
    pub load_timeouts: u64,
    /// Loads of what was still live, by `refresh_ahead`; they are among the loads.
    pub refreshes: u64,
    /// Those of them that failed.
    pub refresh_errors: u64,
    /// Callers that stopped waiting for a load, after `soft_timeout` or `hard_timeout`.
    pub timeouts: u64,
    /// Callers that waited for another's load.
    pub waits: u64,
    /// Live entries dropped to make room; those of servers are not known here.
    pub evictions: u64,
    /// Operations on the store that failed while the caller got a value all the same.
    pub store_errors: u64,
    /// How often a server of the store was given up for a while, because it did not answer. Each
    /// connection that a store was told to keep to a server finds that out for itself.
    pub circuit_opens: u64,
}

impl serde_core::Serialize for Stats {
    /// As a struct of its fields, for pages and logs.
    fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde_core::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("Stats", 13)?;
        fields.serialize_field("hits", &self.hits)?;
        fields.serialize_field("misses", &self.misses)?;
        fields.serialize_field("stale_hits", &self.stale_hits)?;
        fields.serialize_field("loads", &self.loads)?;
        fields.serialize_field("load_errors", &self.load_errors)?;
        fields.serialize_field("load_timeouts", &self.load_timeouts)?;
        fields.serialize_field("refreshes", &self.refreshes)?;
        fields.serialize_field("refresh_errors", &self.refresh_errors)?;
        fields.serialize_field("timeouts", &self.timeouts)?;
        fields.serialize_field("waits", &self.waits)?;
        fields.serialize_field("evictions", &self.evictions)?;
        fields.serialize_field("store_errors", &self.store_errors)?;
        fields.serialize_field("circuit_opens", &self.circuit_opens)?;
        fields.end()
    }
}

impl Stats {
    /// The part of all look-ups that were hits, from 0 to 1; 0 when there were none.
    ///
    /// ```
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("k", 1)?;
    /// cache.get::<i32>("k")?;
    /// cache.get::<i32>("other")?;
    /// assert_eq!(cache.stats().hit_ratio(), 0.5);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    #[allow(clippy::cast_precision_loss)]
    pub fn hit_ratio(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            lookups => self.hits as f64 / lookups as f64,
        }
    }
}

/// Something that is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Hit,
    Miss,
    Load,
    LoadError,
    Wait,
    StoreError,
    StaleHit,
    LoadTimeout,
    Refresh,
    RefreshError,
    Timeout,
}

pub(crate) const COUNTS: usize = 11;

/// Counters, spread so that no two threads write to the same ones.
///
/// Each of the first [`LANES`] threads alive has a lane of its own in every cache, where counting
/// is a load and a store: a locked addition would be a fifth of a hit. Further threads share the
/// last lane, by locked additions.
pub(crate) struct Counters {
    lanes: [Lane; LANES + 1],
    metrics: Metrics,
}

#[repr(align(64))]
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

    /// To be dropped when the load ends.
    pub(crate) fn time_load(&self) -> LoadTimer {
        self.metrics.time_load()
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let sum = |count: Count| {
            self.lanes
                .iter()
                .map(|lane| lane.0[count as usize].load(Ordering::Relaxed))
                .sum()
        };
        Stats {
            hits: sum(Count::Hit),
            misses: sum(Count::Miss),
            stale_hits: sum(Count::StaleHit),
            loads: sum(Count::Load),
            load_errors: sum(Count::LoadError),
            load_timeouts: sum(Count::LoadTimeout),
            refreshes: sum(Count::Refresh),
            refresh_errors: sum(Count::RefreshError),
            timeouts: sum(Count::Timeout),
            waits: sum(Count::Wait),
            evictions: 0,
            store_errors: sum(Count::StoreError),
            circuit_opens: 0,
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Which lane is whose.
mod lane {
    use std::cell::Cell;
    use std::sync::{Mutex, PoisonError};

    /// How many threads have a lane of their own.
    pub(super) const LANES: usize = 64;

    const NONE_YET: usize = usize::MAX;

    /// The lanes that no thread has, as bits.
    static FREE: Mutex<u64> = Mutex::new(u64::MAX);

    thread_local! {
        static LANE: Cell<usize> = const { Cell::new(NONE_YET) };
        static CLAIM: Claim = Claim::new();
    }

    /// The lane of this thread; [`LANES`] if it shares the last one.
    #[inline]
    pub(super) fn current() -> usize {
        match LANE.get() {
            NONE_YET => claim(),
            lane => lane,
        }
    }

    #[cold]
    fn claim() -> usize {
        // While a thread ends, what its other destructors count goes to the shared lane.
        let lane = CLAIM.try_with(|claim| claim.0).unwrap_or(LANES);
        LANE.set(lane);
        lane
    }

    /// A thread's right to its lane.
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
    use std::thread;

    #[test]
    fn no_count_is_lost_with_more_threads_than_lanes() {
        let counters = Counters::new(Metrics::new("", 0, 0));
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
