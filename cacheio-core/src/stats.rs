//! Statistics: counters that are always on, and their report as metrics.

mod count;
mod counters;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
mod no_metrics;

pub(crate) use self::count::Count;
pub(crate) use self::counters::Counters;
#[cfg(feature = "metrics")]
pub(crate) use self::metrics::Metrics;
#[cfg(not(feature = "metrics"))]
pub(crate) use self::no_metrics::Metrics;

/// A snapshot of the statistics of a cache since it was built.
///
/// Counting is always on. A hit costs one addition to a counter that only its thread writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Look-ups that found a live entry.
    pub hits: u64,
    /// Look-ups that did not find one, including those that then waited for another caller's load.
    pub misses: u64,
    /// Look-ups that returned a stale entry. They are also counted as misses.
    pub stale_hits: u64,
    /// Loaders that were run.
    pub loads: u64,
    /// Loaders that returned an error.
    pub load_errors: u64,
    /// Loads that were abandoned because they exceeded `max_load`.
    pub load_timeouts: u64,
    /// Loads that refreshed a live entry, by `refresh_ahead`. They are also counted as loads.
    pub refreshes: u64,
    /// Refreshes that failed.
    pub refresh_errors: u64,
    /// Callers that stopped waiting for a load, after `soft_timeout` or `hard_timeout`.
    pub timeouts: u64,
    /// Callers that waited for the load of another.
    pub waits: u64,
    /// Live entries that memory dropped to make room. Evictions of servers are not known.
    pub evictions: u64,
    /// Store operations that failed while the caller still got a value.
    pub store_errors: u64,
    /// How often the circuit of a server opened, because it did not respond. Each connection to a
    /// server has its own circuit.
    pub circuit_opens: u64,
}

impl serde_core::Serialize for Stats {
    /// Serializes the fields as a struct, for status pages and logs.
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
    /// Returns the share of look-ups that were hits, from 0 to 1; 0 if there were no look-ups.
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
