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
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "memory")]
    pub fn async_memory_cache() -> crate::AsyncCache {
        crate::AsyncCache::default()
    }

    /// Builds a cache in this process's memory, with a capacity in entries and a default TTL.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache_with(10_000, Duration::from_secs(60))?;
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) if the capacity or the TTL is zero.
    #[cfg(feature = "memory")]
    pub fn async_memory_cache_with(
        capacity: usize,
        ttl: impl Into<crate::Ttl>,
    ) -> crate::Result<crate::AsyncCache> {
        let builder = crate::AsyncCache::builder();
        builder.capacity(capacity).default_ttl(ttl).build()
    }

    /// Builds a cache on Memcached. Connects to a server only when an operation needs it.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::from_url`](crate::AsyncCache::from_url), and one for a
    /// URL of another scheme than its `memcache` ones.
    #[cfg(feature = "memcached")]
    pub fn async_memcached_cache(url: &str) -> crate::Result<crate::AsyncCache> {
        crate::AsyncCache::on_memcached(CacheUrl::parse(url)?)
    }

    /// Builds a cache on Redis or Valkey. Connects to a server only when an operation needs it.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::from_url`](crate::AsyncCache::from_url), and one for a
    /// URL of another scheme than its `redis` ones.
    #[cfg(feature = "redis")]
    pub fn async_redis_cache(url: &str) -> crate::Result<crate::AsyncCache> {
        crate::AsyncCache::on_redis(CacheUrl::parse(url)?)
    }
}
