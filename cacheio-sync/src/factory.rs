//! Caches in one line.

#[cfg(any(feature = "memcached", feature = "redis"))]
use cacheio_core::__private::CacheUrl;

use crate::Cache;
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
    /// # fn main() -> cacheio_sync::Result<()> {
    /// let cache = cacheio_sync::CacheFactory::memory_cache();
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "memory")]
    pub fn memory_cache() -> Cache {
        match Cache::builder().store(Memory::new()).build() {
            Ok(cache) => cache,
            Err(error) => unreachable!("the configuration was checked: {error}"),
        }
    }

    /// A cache on Memcached. No server is asked yet: connections are made when they are needed.
    ///
    /// ```
    /// # fn main() -> cacheio_sync::Result<()> {
    /// let cache = cacheio_sync::CacheFactory::memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::from_url`], whose `memcache` URLs it takes.
    #[cfg(feature = "memcached")]
    pub fn memcached_cache(url: &str) -> Result<Cache> {
        Cache::on_memcached(CacheUrl::parse(url)?)
    }

    /// A cache on Redis or Valkey. No server is asked yet: connections are made when they are
    /// needed.
    ///
    /// ```
    /// # fn main() -> cacheio_sync::Result<()> {
    /// let cache = cacheio_sync::CacheFactory::redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::from_url`], whose `redis` URLs it takes.
    #[cfg(feature = "redis")]
    pub fn redis_cache(url: &str) -> Result<Cache> {
        Cache::on_redis(CacheUrl::parse(url)?)
    }
}
