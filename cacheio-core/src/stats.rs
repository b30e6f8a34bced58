//! What a cache has done so far.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a cache has done since it was built: a snapshot.
///
/// Counting is always on; a hit pays one addition on a line that threads seldom share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Look-ups that found a live entry.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Hits that served an entry past its TTL.
    pub stale_hits: u64,
    /// Loaders run.
    pub loads: u64,
    /// Loaders that returned an error.
    pub load_errors: u64,
    /// Callers that waited for another's load.
    pub waits: u64,
    /// Live entries dropped to make room; those of servers are not known here.
    pub evictions: u64,
    /// Operations on the store that failed while the caller got a value all the same.
    pub store_errors: u64,
}

impl Stats {
    /// The part of all look-ups that were hits, from 0 to 1; 0 when there were none.
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
}

const COUNTS: usize = 6;
const STRIPES: usize = 16;

/// Counters, spread so that threads seldom write to the same cache line.
pub(crate) struct Counters([Stripe; STRIPES]);

#[repr(align(128))]
#[derive(Default)]
struct Stripe([AtomicU64; COUNTS]);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Stripe::default()))
    }

    #[inline]
    pub(crate) fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    #[inline]
    pub(crate) fn add_many(&self, count: Count, times: u64) {
        self.0[stripe()].0[count as usize].fetch_add(times, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let sum = |count: Count| {
            self.0
                .iter()
                .map(|stripe| stripe.0[count as usize].load(Ordering::Relaxed))
                .sum()
        };
        Stats {
            hits: sum(Count::Hit),
            misses: sum(Count::Miss),
            stale_hits: 0,
            loads: sum(Count::Load),
            load_errors: sum(Count::LoadError),
            waits: sum(Count::Wait),
            evictions: 0,
            store_errors: sum(Count::StoreError),
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The stripe of this thread.
#[inline]
fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        stripe.get() % STRIPES
    })
}
