//! Caches in one line.

#[cfg(feature = "async")]
use crate::AsyncCache;
#[cfg(feature = "sync")]
use crate::Cache;

/// Makes caches in one line, with the defaults of [`config`](crate::config()).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheFactory;

impl CacheFactory {
    /// A cache for threads in this process's memory.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::memory_cache();
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "sync")]
    pub fn memory_cache() -> Cache {
        cacheio_sync::CacheFactory::memory_cache()
    }

    /// A cache for tasks in this process's memory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::async_memory_cache();
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "async")]
    pub fn async_memory_cache() -> AsyncCache {
        cacheio_async::CacheFactory::async_memory_cache()
    }

    /// A cache for threads on Memcached. No server is asked yet: connections are made when they are
    /// needed.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::from_url`], whose `memcache` URLs it takes.
    #[cfg(all(feature = "sync", feature = "memcached"))]
    pub fn memcached_cache(url: &str) -> crate::Result<Cache> {
        cacheio_sync::CacheFactory::memcached_cache(url)
    }

    /// A cache for threads on Redis or Valkey. No server is asked yet: connections are made when they are
    /// needed.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::from_url`], whose `redis` URLs it takes.
    #[cfg(all(feature = "sync", feature = "redis"))]
    pub fn redis_cache(url: &str) -> crate::Result<Cache> {
        cacheio_sync::CacheFactory::redis_cache(url)
    }

    /// A cache for tasks on Memcached. No server is asked yet: connections are made when they are
    /// needed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::async_memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`AsyncCache::from_url`], whose `memcache` URLs it takes.
    #[cfg(all(feature = "async", feature = "memcached"))]
    pub fn async_memcached_cache(url: &str) -> crate::Result<AsyncCache> {
        cacheio_async::CacheFactory::async_memcached_cache(url)
    }

    /// A cache for tasks on Redis or Valkey. No server is asked yet: connections are made when they are
    /// needed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::async_redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`AsyncCache::from_url`], whose `redis` URLs it takes.
    #[cfg(all(feature = "async", feature = "redis"))]
    pub fn async_redis_cache(url: &str) -> crate::Result<AsyncCache> {
        cacheio_async::CacheFactory::async_redis_cache(url)
    }
}
