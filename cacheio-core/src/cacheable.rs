//! Types that carry a cache for their methods.

/// A type that carries the cache of its `#[cached]` methods: derive it.
///
/// The derive takes the field named `cache`, or the one marked `#[cache]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` carries no cache for its `#[cached]` methods",
    label = "`{Self}` is not `Cacheable`",
    note = "put `#[derive(Cacheable)]` on the type, with a field `cache: Cache`, or name a cache: `#[cached(cache = self.users)]`"
)]
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` carries no cache for its `async` `#[cached]` methods",
    label = "`{Self}` is not `AsyncCacheable`",
    note = "put `#[derive(AsyncCacheable)]` on the type, with a field `cache: AsyncCache`, or name a cache: `#[cached(cache = self.users)]`"
)]
pub trait AsyncCacheable {
    /// The type of the cache: `AsyncCache`.
    type Cache;

    /// The cache that `async` `#[cached]` methods use where they name no other.
    fn cache(&self) -> &Self::Cache;
}
