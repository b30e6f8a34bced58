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
        match crate::AsyncCache::builder().build() {
            Ok(cache) => cache,
            Err(error) => unreachable!("the configuration was checked: {error}"),
        }
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
