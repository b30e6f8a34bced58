//! The process-wide defaults of new caches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use once_cell::sync::Lazy;

use crate::{Error, ErrorKind, Operation, Result};

static CONFIG: Lazy<Mutex<Arc<Config>>> = Lazy::new(Mutex::default);

/// The process-wide defaults of new caches, which [`configure`] changes.
///
/// A cache reads the defaults when it is built. Later changes do not affect it.
///
/// # Defaults
///
/// - `default_ttl`: 300 seconds
/// - `default_threshold`: 500 entries
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The TTL of entries that are stored without one. For entries that never expire, build the
    /// cache with `default_ttl(Ttl::Never)`.
    pub default_ttl: Duration,
    /// The capacity of a memory cache, in entries.
    pub default_threshold: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_ttl: Duration::from_secs(300),
            default_threshold: 500,
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
/// # Errors
///
/// Returns [`ErrorKind::Config`] when a setting is invalid; then nothing changes.
///
/// # Panics
///
/// Panics when `change` panics; then nothing changes.
pub fn configure(change: impl FnOnce(&mut Config)) -> Result<()> {
    let mut current = CONFIG.lock().unwrap_or_else(PoisonError::into_inner);
    let mut config = Config::clone(&current);
    change(&mut config);
    config
        .check()
        .map_err(|error| error.during(Operation::Build))?;
    *current = Arc::new(config);
    Ok(())
}
