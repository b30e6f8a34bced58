//! An entry as `entries` lists it.

use std::fmt;

use crate::{ListedKey, Ttl};

/// An entry of a cache, from `entries`. `Debug` does not show the value.
///
/// ```
/// use cacheio::{CacheFactory, Ttl};
///
/// let cache = CacheFactory::memory_cache();
/// cache.set_with("greeting", "hello", Ttl::Never)?;
/// let entry = cache.entries::<String>(10)?.remove(0);
/// assert_eq!((&*entry.key, &*entry.value, entry.ttl), ("greeting", "hello", Ttl::Never));
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheEntry<V> {
    /// The key, without the namespace. Every method of the cache takes it.
    pub key: ListedKey,
    /// The value.
    pub value: V,
    /// What is left of the TTL; [`Ttl::Never`] if the entry does not expire.
    pub ttl: Ttl,
}

impl<V> CacheEntry<V> {
    pub(crate) fn new(key: ListedKey, value: V, ttl: Ttl) -> Self {
        Self { key, value, ttl }
    }
}

impl<V> fmt::Debug for CacheEntry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheEntry")
            .field("key", &self.key)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
