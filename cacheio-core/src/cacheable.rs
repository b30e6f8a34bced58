//! Types that carry a cache for their methods.

/// A type that carries the cache of its `#[cached]` methods: derive it.
///
/// The derive takes the field named `cache`, or the one marked `#[cache]`.
pub trait Cacheable {
    /// The type of the cache: `Cache`.
    type Cache;

    /// The cache that `#[cached]` methods use where they name no other.
    fn cache(&self) -> &Self::Cache;
}

/// A type that carries the cache of its `async` `#[cached]` methods: derive it.
///
/// The derive takes the field named `cache`, or the one marked `#[cache]`; in a type that carries
/// both kinds, the one marked `#[async_cache]`.
pub trait AsyncCacheable {
    /// The type of the cache: `AsyncCache`.
    type Cache;

    /// The cache that `async` `#[cached]` methods use where they name no other.
    fn cache(&self) -> &Self::Cache;
}
