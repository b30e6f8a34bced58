//! L1, the memory before a server.

#[cfg(any(feature = "memcached", feature = "redis"))]
use cacheio_core::__private::UrlMemory;

use super::Cache;

/// How the parameter `l1` of a URL makes memory.
#[cfg(all(any(feature = "memcached", feature = "redis"), feature = "memory"))]
pub(super) const L1_OF_URLS: UrlMemory = crate::L1::OF_URLS;
#[cfg(all(any(feature = "memcached", feature = "redis"), not(feature = "memory")))]
pub(super) const L1_OF_URLS: UrlMemory = UrlMemory::IsOff;

impl Cache {
    /// Removes the copies in the [`l1`](crate::CacheBuilder::l1) of this cache and its clones, so that the next reads ask
    /// the server. Does nothing without `l1`.
    ///
    /// It is meant for a program that learns by itself that the entries on the server have changed. No write of
    /// this process needs it.
    ///
    /// ```
    /// use cacheio::{Cache, Memory, Redis};
    ///
    /// let cache = Cache::builder()
    ///     .store(Redis::new("redis://127.0.0.1:6379")?)
    ///     .l1(Memory::with_capacity(10_000))
    ///     .build()?;
    /// cache.clear_l1();
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn clear_l1(&self) {
        self.engine.clear_l1();
    }
}
