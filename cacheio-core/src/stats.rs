//! Statistics: counters that are always on, and their report as metrics.

mod counters;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
mod no_metrics;

pub(crate) use self::counters::Counters;
#[cfg(feature = "metrics")]
pub(crate) use self::metrics::Metrics;
#[cfg(not(feature = "metrics"))]
pub(crate) use self::no_metrics::Metrics;

/// Defines [`Stats`] and [`Count`] from one table: the description of each statistic, its field, and
/// the event that it counts. The counter `cacheio_<field>_total` reports it as a metric.
macro_rules! statistics {
    ($($(#[doc = $description:literal])+ $field:ident: $count:ident,)+) => {
        /// A snapshot of the statistics of a cache since it was built.
        ///
        /// Counting is always on. A hit costs one addition to a counter that only its thread writes.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $description])+ pub $field: u64,)+
            /// Whether the server tells L1 of changes, and has confirmed within `max_staleness` that it has told
            /// of all. Otherwise, copies in L1 live for `max_staleness`. It is `false` without L1, and on servers
            /// that do not tell.
            pub l1_trusted: bool,
        }

        /// An event in a cache or its store.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Count {
            $($count,)+
        }

        const COUNTS: usize = [$(Count::$count),+].len();

        /// The names and descriptions of the metrics, in the order of [`Count`].
        #[cfg(feature = "metrics")]
        const METRICS: [(&str, &str); COUNTS] = [
            $((concat!("cacheio_", stringify!($field), "_total"), concat!($($description),+)),)+
        ];

        impl Stats {
            fn new(counted: impl Fn(Count) -> u64) -> Self {
                Self {
                    $($field: counted(Count::$count),)+
                    l1_trusted: false,
                }
            }
        }

        impl serde_core::Serialize for Stats {
            /// Serializes the fields as a struct, for status pages and logs.
            fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde_core::ser::SerializeStruct as _;
                let mut fields = serializer.serialize_struct("Stats", COUNTS + 1)?;
                $(fields.serialize_field(stringify!($field), &self.$field)?;)+
                fields.serialize_field("l1_trusted", &self.l1_trusted)?;
                fields.end()
            }
        }
    };
}

statistics! {
    /// Look-ups that found a live entry.
    hits: Hit,
    /// Hits in L1, the memory before a server. They are also counted as hits.
    l1_hits: L1Hit,
    /// Look-ups that did not find one, including those that then waited for another caller's load.
    misses: Miss,
    /// Look-ups that returned a stale entry. They are also counted as misses.
    stale_hits: StaleHit,
    /// Loaders that were run. A loader of a batch counts once, whatever the number of its keys.
    loads: Load,
    /// Loaders that returned an error.
    load_errors: LoadError,
    /// Keys whose loads were abandoned because they exceeded `max_load`.
    load_timeouts: LoadTimeout,
    /// Keys whose live entries were loaded again by `refresh_ahead`.
    refreshes: Refresh,
    /// Keys whose refreshes failed.
    refresh_errors: RefreshError,
    /// Waits for the load of a key that ended before the load, after `soft_timeout` or `hard_timeout`.
    timeouts: Timeout,
    /// Callers that waited for the load of another.
    waits: Wait,
    /// Loads of other processes that a load of this one waited for.
    shared_waits: SharedWait,
    /// Values that were loaded and not stored, because another process wrote or loaded the key at the same
    /// time.
    unstored_loads: UnstoredLoad,
    /// Copies that were removed from L1 because the server told of a change.
    invalidations: Invalidation,
    /// Live entries that memory dropped to make room. Evictions of servers are not known.
    evictions: Eviction,
    /// Store operations that failed while the caller still got a value.
    store_errors: StoreError,
    /// How often the circuit of a server opened, because it did not respond. Each connection to a
    /// server has its own circuit.
    circuit_opens: CircuitOpen,
}

/// The statistics of a store, and of L1 before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreStats {
    pub(crate) evictions: u64,
    pub(crate) circuit_opens: u64,
    pub(crate) invalidations: u64,
    /// `None` without L1.
    pub(crate) l1_trusted: Option<bool>,
}

impl Stats {
    /// Returns the share of look-ups that were answered without a load, from 0 to 1; 0 if there were no
    /// look-ups.
    ///
    /// These are the hits, the callers that got the result of another caller's load, and those that got a
    /// stale value while no load ran. After 200 callers missed a key at the same time, and one of them ran
    /// the load, it is 0.995.
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
        let lookups = self.hits + self.misses;
        if lookups == 0 {
            return 0.0;
        }
        // A refresh loads for a look-up that was a hit.
        let loads = self.loads.saturating_sub(self.refreshes);
        let shared = self.misses.saturating_sub(loads);
        let shared = shared.min(self.waits + self.shared_waits + self.stale_hits);
        (self.hits + shared) as f64 / lookups as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_ratio_is_the_share_of_lookups_without_a_load() {
        // hits, misses, loads, refreshes, waits, stale hits
        for (counts, expected) in [
            ([0, 0, 0, 0, 0, 0], 0.0),
            ([1, 1, 0, 0, 0, 0], 0.5),       // a miss of `get` is no hit
            ([0, 200, 1, 0, 199, 0], 0.995), // one of 200 callers loads
            ([0, 4, 4, 0, 3, 0], 0.0),       // waiters load after an error that they do not share
            ([0, 10, 1, 0, 0, 10], 0.9),     // stale values until `retry_after`
            ([0, 100, 1, 0, 0, 0], 0.0),     // a batch of 100 keys
            ([10, 0, 5, 5, 0, 0], 1.0),      // refreshes of hits
        ] {
            let [hits, misses, loads, refreshes, waits, stale_hits] = counts;
            let stats = Stats {
                hits,
                misses,
                loads,
                refreshes,
                waits,
                stale_hits,
                ..Stats::default()
            };
            assert!((stats.hit_ratio() - expected).abs() < 1e-9, "{counts:?}");
        }
    }
}
