//! Types with a cache for their methods.

/// Gives `#[cached]` methods the cache of their type. Derive it.
///
/// The derive takes the field named `cache`, or the one marked `#[cache]`. A type without such a field has
/// one cache in memory for all of its values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no cache for its `#[cached]` methods",
    label = "`{Self}` is not `Cacheable`",
    note = "add `#[derive(Cacheable)]` to the type, and a field `cache: Cache` unless its values may share a cache in memory, or name a cache: `#[cached(cache = self.users)]`"
)]
pub trait Cacheable {
    /// The type of the cache: `Cache`.
    type Cache;

    /// Returns the cache that `#[cached]` methods use by default.
    fn cache(&self) -> &Self::Cache;
}

/// Gives `async` `#[cached]` methods the cache of their type. Derive it.
///
/// The derive takes the field named `cache`, or the one marked `#[cache]`; in a type with
/// both kinds of cache, the one marked `#[async_cache]`. A type without such a field has one cache in
/// memory for all of its values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no cache for its `async` `#[cached]` methods",
    label = "`{Self}` is not `AsyncCacheable`",
    note = "add `#[derive(AsyncCacheable)]` to the type, and a field `cache: AsyncCache` unless its values may share a cache in memory, or name a cache: `#[cached(cache = self.users)]`"
)]
pub trait AsyncCacheable {
    /// The type of the cache: `AsyncCache`.
    type Cache;

    /// Returns the cache that `async` `#[cached]` methods use by default.
    fn cache(&self) -> &Self::Cache;
}
