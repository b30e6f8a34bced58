//! Builds caches in one line.

#[cfg(any(feature = "memcached", feature = "redis"))]
use cacheio_core::__private::CacheUrl;

/// Builds caches in one line, with the defaults of [`config`](crate::config()).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheFactory;

impl CacheFactory {
    /// Builds a cache in this process's memory.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "memory")]
    pub fn memory_cache() -> crate::Cache {
        crate::Cache::default()
    }

    /// Builds a cache in this process's memory, with a capacity in entries and a default TTL.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache_with(10_000, Duration::from_secs(60))?;
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) if the capacity or the TTL is zero.
    #[cfg(feature = "memory")]
    pub fn memory_cache_with(
        capacity: usize,
        ttl: impl Into<crate::Ttl>,
    ) -> crate::Result<crate::Cache> {
        let builder = crate::Cache::builder();
        builder.capacity(capacity).default_ttl(ttl).build()
    }

    /// Builds a cache on Memcached. Connects to a server only when an operation needs it.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::from_url`](crate::Cache::from_url), and one for a URL of
    /// another scheme than its `memcache` ones.
    #[cfg(feature = "memcached")]
    pub fn memcached_cache(url: &str) -> crate::Result<crate::Cache> {
        crate::Cache::on_memcached(CacheUrl::parse(url)?)
    }

    /// Builds a cache on Redis or Valkey. Connects to a server only when an operation needs it.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::from_url`](crate::Cache::from_url), and one for a URL of
    /// another scheme than its `redis` ones.
    #[cfg(feature = "redis")]
    pub fn redis_cache(url: &str) -> crate::Result<crate::Cache> {
        crate::Cache::on_redis(CacheUrl::parse(url)?)
    }
}
