//! Caches in one line.

#[cfg(any(feature = "memcached", feature = "redis"))]
use cacheio_core::__private::CacheUrl;

use crate::AsyncCache;
#[cfg(feature = "memory")]
use crate::Memory;
#[cfg(any(feature = "memcached", feature = "redis"))]
use crate::Result;

/// Makes caches in one line, with the defaults of [`config`](crate::config()).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheFactory;

impl CacheFactory {
    /// A cache in this process's memory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio_async::Result<()> {
    /// let cache = cacheio_async::CacheFactory::async_memory_cache();
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "memory")]
    pub fn async_memory_cache() -> AsyncCache {
        match AsyncCache::builder().store(Memory::new()).build() {
            Ok(cache) => cache,
            Err(error) => unreachable!("the configuration was checked: {error}"),
        }
    }

    /// A cache on Memcached. No server is asked yet: connections are made when they are needed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio_async::Result<()> {
    /// let cache = cacheio_async::CacheFactory::async_memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`AsyncCache::from_url`], whose `memcache` URLs it takes.
    #[cfg(feature = "memcached")]
    pub fn async_memcached_cache(url: &str) -> Result<AsyncCache> {
        AsyncCache::on_memcached(CacheUrl::parse(url)?)
    }

    /// A cache on Redis or Valkey. No server is asked yet: connections are made when they are
    /// needed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio_async::Result<()> {
    /// let cache = cacheio_async::CacheFactory::async_redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`AsyncCache::from_url`], whose `redis` URLs it takes.
    #[cfg(feature = "redis")]
    pub fn async_redis_cache(url: &str) -> Result<AsyncCache> {
        AsyncCache::on_redis(CacheUrl::parse(url)?)
    }
}
