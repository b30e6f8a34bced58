//! The process-wide defaults of new caches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use once_cell::sync::Lazy;

use crate::{Error, ErrorKind, Operation, Result};

/// Held for a copy only, never while a user's code runs.
static CONFIG: Lazy<Mutex<Arc<Config>>> = Lazy::new(Mutex::default);

/// The process-wide defaults of new caches, which [`configure`] changes.
///
/// A cache reads the defaults when it is built. Later changes do not affect it.
///
/// # Defaults
///
/// - `default_ttl`: 300 seconds
/// - `default_threshold`: 500 entries
/// - `enabled`: `true`
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The TTL of entries that are stored without one. For entries that never expire, build the
    /// cache with `default_ttl(Ttl::Never)`.
    pub default_ttl: Duration,
    /// The capacity of a memory cache, in entries.
    pub default_threshold: usize,
    /// Whether caches store anything. If not, a cache works as on [`Null`](crate::Null), whatever its
    /// store: each read misses, and its server is never connected to. For test suites, and to find out
    /// whether a cache is the reason for a fault.
    ///
    /// ```standalone_crate
    /// use cacheio::CacheFactory;
    ///
    /// cacheio::configure(|c| c.enabled = false)?;
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("k", 1)?;
    /// assert_eq!(cache.get::<i32>("k")?, None);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    ///
    /// The first call of a cached function builds its cache.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_ttl: Duration::from_secs(300),
            default_threshold: 500,
            enabled: true,
        }
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        if self.default_ttl.is_zero() {
            return Err(Error::new(
                ErrorKind::Config,
                "`default_ttl` must be greater than zero",
            ));
        }
        if self.default_threshold == 0 {
            return Err(Error::new(
                ErrorKind::Config,
                "`default_threshold` must be at least 1",
            ));
        }
        Ok(())
    }

    /// Returns these settings with those that differ between `before` and `after`.
    fn with_changes(&self, before: &Self, after: &Self) -> Self {
        fn setting<T: PartialEq + Copy>(current: T, before: T, after: T) -> T {
            if before == after { current } else { after }
        }
        Self {
            default_ttl: setting(self.default_ttl, before.default_ttl, after.default_ttl),
            default_threshold: setting(
                self.default_threshold,
                before.default_threshold,
                after.default_threshold,
            ),
            enabled: setting(self.enabled, before.enabled, after.enabled),
        }
    }
}

/// Returns the current defaults.
///
/// ```
/// assert_eq!(cacheio::config().default_threshold, 500);
/// ```
pub fn config() -> Arc<Config> {
    Arc::clone(&CONFIG.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Changes the defaults of all caches that are built after this call.
///
/// ```
/// # fn main() -> cacheio::Result<()> {
/// use std::time::Duration;
///
/// cacheio::configure(|c| {
///     c.default_ttl = Duration::from_secs(600);
///     c.default_threshold = 1000;
/// })?;
/// assert_eq!(cacheio::config().default_ttl, Duration::from_secs(600));
/// # Ok(()) }
/// ```
///
/// No lock is held while `change` runs: it may call [`config`], build caches, or call `configure`.
/// A setting that it leaves as it was keeps what another call sets in the meantime.
///
/// # Errors
///
/// Returns [`ErrorKind::Config`] when a setting is invalid; then nothing changes.
///
/// # Panics
///
/// Panics when `change` panics; then nothing changes.
pub fn configure(change: impl FnOnce(&mut Config)) -> Result<()> {
    let before = config();
    let mut after = Config::clone(&before);
    change(&mut after);
    after
        .check()
        .map_err(|error| error.during(Operation::Build))?;
    let mut current = CONFIG.lock().unwrap_or_else(PoisonError::into_inner);
    *current = Arc::new(current.with_changes(&before, &after));
    Ok(())
}
