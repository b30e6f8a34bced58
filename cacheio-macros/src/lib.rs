#![doc = include_str!("../README.md")]

mod attr;
mod companions;
mod derive;
mod expand;
mod function;
mod key;
mod owned_args;
mod path;
mod template;

use proc_macro::TokenStream;

/// Keeps the results of a function or method in a cache, by its arguments.
///
/// A method uses the cache of its type (`#[derive(Cacheable)]`, for `async` methods
/// `#[derive(AsyncCacheable)]`); a function without `self` has a cache in memory of its own, made on
/// first use.
///
/// ```ignore
/// #[derive(Cacheable)]
/// struct UserService { cache: Cache }
///
/// impl UserService {
///     #[cached(key = "user:{user_id}", ttl = 60)]
///     fn fetch_user(&self, user_id: u64, request_id: &str) -> User { todo!() }
/// }
///
/// #[cached(ttl = "5m", capacity = 1000)]
/// async fn slow_square(n: u64) -> u64 { n * n }
/// ```
///
/// However many threads or tasks miss a key at once, one runs the body. A hit clones no argument
/// and allocates nothing. The body may move its arguments, use `?` and `return`, and call itself.
///
/// # What is stored
///
/// The value; of a `Result`, under any alias, only what is `Ok`. Those who waited for a load that
/// fails get its error if that is `Clone`; else each runs the body itself. Many errors of libraries
/// are not `Clone` (`anyhow::Error`, `std::io::Error`): where a failing origin must not be asked by
/// every waiter, let the function return `Arc<E>`, or an error of yours around one. What goes wrong
/// in the cache itself, a timeout or a body that waits for its own key, becomes an error of the
/// function where that is `From<cacheio::Error>`; elsewhere nothing times out, and such a body
/// panics.
///
/// In a cache that may stand on a server, values are `Serialize + DeserializeOwned + Clone + Send +
/// Sync + 'static`; in the own cache of a function they need no serde.
///
/// # Arguments
///
/// - `key = "user:{user_id}"`: the key, as a template. `{user_id}` is an argument (as it is in a
///   key, or else displayed), `{self.tenant}` a field, `{id:05}` or `{x:?}` formatted; `{{` and `}}`
///   are braces. Between two placeholders stands a separator, such as `:`. Values are escaped, so
///   that different values never make the same key.
/// - `key = (user_id, request.id)`: the key, as an expression of any type that is `CacheKey`.
///   Nothing in it is moved.
/// - Without `key`, all arguments but `self` count, and the name of the function, with its type
///   and all type arguments, stands before them where the cache is shared.
/// - `skip(request_id)`: arguments that do not count.
/// - `ttl = 60` (seconds), `ttl = "5m"` (`ms`, `s`, `m`, `h`, `d`), or an expression of type
///   `Duration` or `Ttl`, which may use the arguments and is evaluated on a miss only.
/// - `ttl_none = "10s"` (as `ttl`): another TTL for a result of `None` (or `Ok(None)`), which may be
///   something that does not exist yet; zero does not store it.
/// - `ttl_idle = "30m"` (as `ttl`, but a `Duration`): an entry that nobody reads for so long expires.
/// - `jitter = 0.1`: entries expire earlier, by a random part of this fraction of the TTL.
/// - `stale_for = "1h"` (as `ttl`): for how long after its TTL a value is returned when the body,
///   run anew, fails; nothing is tried again for `retry_after = "30s"`.
/// - `refresh_ahead = 0.8`: after this fraction of its TTL a value is loaded anew, behind the first
///   caller that finds it due, while all go on reading; `"xfetch"`, or any `RefreshAhead`.
/// - `soft_timeout = "100ms"` (as `ttl`, and so are the next two): how long a caller waits when
///   there is something stale to return instead, by `stale_for`. The body goes on, and what it
///   makes is stored.
/// - `hard_timeout = "2s"`: how long a caller waits in any case; then the function fails, with an
///   error that is made of a `cacheio::Error`: it returns a `Result` whose error is
///   `From<cacheio::Error>`.
/// - `max_load = "30s"`: how long the body may take until others run it for the same key. Who waits
///   for it fails as after `hard_timeout`; in a function that has no such error, those who waited
///   run the body, and who runs it waits on.
/// - `tags = ["users", format!("team:{team}")]`: for `invalidate_tags`; evaluated on a miss only.
/// - `cache = self.users`: the cache, as an expression: a `Cache` (`AsyncCache` for `async`
///   functions), a reference to one, an `Arc` or a `LazyLock` of one.
/// - `capacity = 1000`: entries in the own cache of a function without `self`.
/// - `cache_none = false`: a result of `None` (or `Ok(None)`) is not stored.
/// - `cache_if = |user| user.active`: a function or closure that says of a value whether to store it.
/// - `companions`: adds, for a function `find`, with the same visibility: `find_key`, the text of
///   the key for some arguments, without the namespace of the cache; `find_invalidate`, which
///   deletes the entry; and `find_refresh`, which runs the body and replaces the entry. The first two
///   take the arguments that count. The body stands in `find` and in `find_refresh`: a `static` in
///   it exists twice.
/// - `crate = path`: where `cacheio` is, for those who re-export it.
///
/// Where a setting is left out, that of the cache counts.
///
/// # Bodies that go on when their callers have left
///
/// With `refresh_ahead`, `soft_timeout`, `hard_timeout` or `max_load`, the body may run behind its
/// caller: on a thread of the cache, or as a task of tokio. So it gets copies of what is lent to the
/// function, and uses: a `String` for a `&str`, a `Vec<T>` for a `&[T]`, a clone for a `&T`, an
/// `Option<&T>` and a `&self`; what is taken by value, such as an `Arc<Self>`, goes with it. All that
/// is `Send + 'static`, as is what the body awaits, and there is no `&mut`; an `async` body of this
/// kind cannot call itself. A hit copies nothing, nor does who waits for another's load. A type that is cloned for its methods is best one of handles: its caches and
/// pools, which clone cheaply, and the rest in an `Arc`.
///
/// ```ignore
/// #[derive(Clone, Cacheable)]
/// struct UserService { cache: Cache, db: Pool }
///
/// impl UserService {
///     #[cached(
///         key = "user:{id}", ttl = "1m", stale_for = "1h", refresh_ahead = 0.8, jitter = 0.1,
///         soft_timeout = "100ms", hard_timeout = "2s", max_load = "30s", ttl_none = "10s",
///     )]
///     fn find_user(&self, id: u64) -> anyhow::Result<Option<User>> { todo!() }
/// }
/// ```
///
/// # Where it works
///
/// On functions, methods with any receiver, methods in trait impls, default methods of traits, and
/// under `#[async_trait]` (which stands on the `impl`); with generics, lifetimes, `impl Trait` as
/// an argument and patterns. Companions cannot stand in a trait impl: rustc says that they are not
/// members of the trait. In a generic function with its own cache, results are kept by type
/// arguments; an explicit `key` is taken as it is.
#[proc_macro_attribute]
pub fn cached(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(args.into(), &item.into(), expand::Name::Cached).into()
}

/// [`macro@cached`] for `async` functions only.
///
/// ```ignore
/// #[derive(AsyncCacheable)]
/// struct UserService { cache: AsyncCache }
///
/// impl UserService {
///     #[async_cached(key = "user:{user_id}", ttl = "1m")]
///     async fn fetch_user(&self, user_id: u64, request_id: &str) -> Result<User, DbError> { todo!() }
/// }
/// ```
#[proc_macro_attribute]
pub fn async_cached(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(args.into(), &item.into(), expand::Name::AsyncCached).into()
}

/// Gives a type's `#[cached]` methods the cache in its field `cache`, or in the one marked
/// `#[cache]`.
///
/// ```ignore
/// #[derive(Cacheable)]
/// struct UserService {
///     #[cache]
///     users: Cache,
///     db: Db,
/// }
/// ```
///
/// The field is a `Cache`, or what dereferences to one: an `Arc<Cache>`, a `&Cache`. For those who
/// re-export cacheio: `#[cacheio(crate = path)]` on the type.
#[proc_macro_derive(Cacheable, attributes(cache, cacheio))]
pub fn derive_cacheable(input: TokenStream) -> TokenStream {
    derive::cacheable(input.into(), &path::THREADS).into()
}

/// Gives a type's `async` `#[cached]` methods the cache in its field `cache`, or in the one marked
/// `#[cache]`; in a type that carries both kinds, in the one marked `#[async_cache]`.
///
/// ```ignore
/// #[derive(Cacheable, AsyncCacheable)]
/// struct UserService {
///     cache: Cache,
///     #[async_cache]
///     remote: AsyncCache,
/// }
/// ```
///
/// For those who re-export cacheio: `#[cacheio(crate = path)]` on the type.
#[proc_macro_derive(AsyncCacheable, attributes(cache, async_cache, cacheio))]
pub fn derive_async_cacheable(input: TokenStream) -> TokenStream {
    derive::cacheable(input.into(), &path::TASKS).into()
}

/// Makes a type a key, or part of one.
///
/// A struct is written like the tuple of its fields, one with a single unnamed field like that
/// field, one without fields by its name; a variant of an enum like its name and its fields.
///
/// ```ignore
/// #[derive(CacheKey)]
/// #[cache_key(prefix = "search")]
/// struct Search {
///     text: String,
///     page: u32,
///     #[cache_key(skip)]
///     trace_id: String,
/// }
///
/// assert_eq!(key_text(Search { text: "tea".into(), page: 2, trace_id: "…".into() }), "search:tea:2");
/// ```
///
/// - `#[cache_key(skip)]` on a field: it does not count.
/// - `#[cache_key(prefix = "search")]` on the type: a first part.
/// - `#[cacheio(crate = path)]` on the type: where `cacheio` is, for those who re-export it.
#[proc_macro_derive(CacheKey, attributes(cache_key, cacheio))]
pub fn derive_cache_key(input: TokenStream) -> TokenStream {
    derive::cache_key(input.into()).into()
}
