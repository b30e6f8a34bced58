//! Counters: `increment` and `decrement`.

use cacheio_core::__private::DEFAULT_OPTIONS;
use cacheio_core::{CacheKey, Options, Result};

use super::AsyncCache;

impl AsyncCache {
    /// Adds `by` to an integer atomically, and returns the new value.
    ///
    /// A missing entry counts as 0 and gets the cache's default TTL; a live entry keeps its TTL.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// assert_eq!(cache.increment("visits", 1).await?, 1);
    /// assert_eq!(cache.increment("visits", 10).await?, 11);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) when the entry is not an
    /// integer, [`ErrorKind::Overflow`](crate::ErrorKind::Overflow) when the result does not fit
    /// into an `i64`, and an error when the store fails. The first two change nothing.
    #[doc(alias = "incr")]
    pub async fn increment(&self, key: impl CacheKey, by: i64) -> Result<i64> {
        self.engine.increment(key, Some(by), &DEFAULT_OPTIONS).await
    }

    /// Adds to an integer like [`increment`](Self::increment), with the TTL that a missing entry
    /// gets.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// // Allows 100 calls a minute.
    /// let calls = cache.increment_with(("calls", "10.0.0.1"), 1, Duration::from_secs(60)).await?;
    /// assert!(calls <= 100);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    pub async fn increment_with(
        &self,
        key: impl CacheKey,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        self.engine.increment(key, Some(by), &options.into()).await
    }

    /// Subtracts `by` from an integer like [`increment`](Self::increment); the result may be
    /// negative.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// assert_eq!(cache.decrement("stock", 3).await?, -3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    #[doc(alias = "decr")]
    pub async fn decrement(&self, key: impl CacheKey, by: i64) -> Result<i64> {
        self.engine
            .increment(key, by.checked_neg(), &DEFAULT_OPTIONS)
            .await
    }

    /// Subtracts from an integer like [`decrement`](Self::decrement), with the TTL that a missing
    /// entry gets.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// assert_eq!(cache.decrement_with("tickets", 1, Duration::from_secs(60)).await?, -1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    pub async fn decrement_with(
        &self,
        key: impl CacheKey,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        self.engine
            .increment(key, by.checked_neg(), &options.into())
            .await
    }
}
