#![doc = include_str!("../README.md")]

mod attr;
mod companions;
mod derive;
mod expand;
mod function;
mod key;
mod key_code;
mod options;
mod owned_args;
mod path;
mod plan;
mod policies;
mod template;
mod values;

use proc_macro::TokenStream;

/// Caches the results of a function or method by its arguments.
///
/// A method uses the cache of its type: see [`derive@Cacheable`], and [`derive@AsyncCacheable`] for
/// `async` methods. A function without `self` has its own cache in memory, built on first use.
///
/// ```
/// use cacheio::{Cache, CacheFactory, Cacheable, cached};
///
/// #[derive(Cacheable)]
/// struct UserService {
///     cache: Cache,
/// }
///
/// impl UserService {
///     #[cached(key = "user:{user_id}", ttl = 60)]
///     fn fetch_user(&self, user_id: u64, request_id: &str) -> String {
///         format!("user {user_id}, loaded by request {request_id}")
///     }
/// }
///
/// #[cached(ttl = "5m", capacity = 1000)]
/// fn slow_square(n: u64) -> u64 {
///     n * n
/// }
///
/// let service = UserService { cache: CacheFactory::memory_cache() };
/// assert_eq!(service.fetch_user(42, "a"), "user 42, loaded by request a");
/// assert_eq!(service.fetch_user(42, "b"), "user 42, loaded by request a"); // a hit
/// assert_eq!(slow_square(12), 144);
/// ```
///
/// Of all callers that miss a key at the same time, one runs the body and the others wait for its
/// result. A hit clones no argument and allocates nothing. The body may move its arguments, use `?`
/// and `return`, and call the function again.
///
/// # Arguments
///
/// A *duration* is a number of seconds (`60`), a string with units (`"500ms"`, `"5m"`, `"1.5h"`,
/// `"1h30m"`), or an expression of type `Duration`. Expressions may use the arguments of the
/// function, and are evaluated on a miss only.
///
/// | argument | value | effect | default |
/// | --- | --- | --- | --- |
/// | `key` | template or expression | sets the key: see [Keys](#keys) | all arguments except `self` |
/// | `skip(a, b)` | names of arguments | excludes these arguments from the key | excludes none |
/// | `ttl` | duration or `Ttl`, or a closure that returns one for a value | sets how long a result is fresh | the default TTL of the cache |
/// | `tags` | array, or iterator of strings | tags the entry for `invalidate_tags` | no tags |
/// | `cache` | expression | sets the cache: a `Cache` (in an `async fn`, an `AsyncCache`), or a reference, `Arc` or `LazyLock` of one | the cache of the type of `self`, or the function's own |
/// | `capacity` | number | limits the entries in the function's own cache | `config().default_threshold`: 500 |
/// | `cache_none` | `true` or `false` | `false` does not store `None` and `Ok(None)` | `true` |
/// | `cache_if` | closure or function | stores only the values for which it returns `true` | stores all values |
/// | `force_refresh` | expression of type `bool` | if it is `true`, runs the body also after a hit, and replaces the entry; evaluated by each call. An argument that it consists of is not part of a `key` of all arguments | `false` |
/// | `skip_l1` | none | passes the memory before a server by: for large values, and results that must be fresh | uses it |
/// | `companions` | none | adds functions for the key, invalidation and refresh: see [Companions](#companions) | adds none |
/// | `crate` | path | sets the path of a re-export of the crate | found in `Cargo.toml` |
/// | `jitter` | fraction | lets entries expire earlier, by a random part of this fraction of the TTL | 0.0 |
/// | `stale_for` | duration | returns an expired result for this long if the body fails or exceeds a timeout | zero |
/// | `retry_after` | duration | after a failed load, returns the old result for this long before the body runs again | `"30s"` |
/// | `refresh_ahead` | fraction, `"xfetch"` or `RefreshAhead` | loads the entry in the background after this fraction of its TTL, while callers get the current result | never |
/// | `soft_timeout` | duration | returns a stale result, if there is one, to a caller that has waited this long; needs `stale_for` | no timeout |
/// | `hard_timeout` | duration | returns an error to a caller that has waited this long: see [Errors](#errors) | no timeout |
/// | `max_load` | duration | lets another caller run the body for the same key if the load takes longer | no limit; with `AsyncCache`, `"60s"` |
/// | `ttl_none` | duration or `Ttl` | sets the TTL of `None` and `Ok(None)`; zero does not store them | the TTL of other values |
/// | `ttl_idle` | duration | lets an entry expire if it is not read for this long | no limit |
///
/// The last nine are policies: without the argument, the setting of the cache applies, and the table
/// shows the value if the cache has none. [Policies](#policies) has an example.
///
/// A TTL that depends on the value, and a flag that forces a refresh:
///
/// ```
/// use cacheio::cached;
/// use std::time::Duration;
///
/// #[derive(Clone)]
/// struct Token {
///     secret: String,
///     expires_in: Duration,
/// }
///
/// #[cached(ttl = |token| token.expires_in, force_refresh = renew)]
/// fn token(user: u64, renew: bool) -> Token {
///     Token { secret: format!("secret of {user}"), expires_in: Duration::from_secs(60) }
/// }
///
/// let hit = token(7, false);
/// let renewed = token(7, true); // runs the body, and replaces the entry
/// ```
///
/// # Keys
///
/// A template contains placeholders: `{user_id}` is an argument, `{self.tenant}` or `{request.id}` a
/// field, and `{id:05}` or `{x:?}` is formatted. A value that implements `CacheKey` is written as
/// such, any other by `Display`. `{{` and `}}` are braces. Two placeholders need a separator such as
/// `:` between them. Values are escaped, so that different values never make the same key.
///
/// An expression is of any type that implements `CacheKey`, such as a tuple. Nothing in it is moved.
///
/// ```
/// use cacheio::{CacheFactory, Cache, cached};
///
/// struct Request {
///     id: u64,
///     trace: String,
/// }
///
/// #[cached(key = "{tenant}:{request.id}", cache = cache)]
/// fn by_template(cache: &Cache, tenant: &str, request: &Request) -> String {
///     format!("{tenant} {}", request.trace)
/// }
///
/// #[cached(key = (tenant, request.id), cache = cache)]
/// fn by_expression(cache: &Cache, tenant: &str, request: &Request) -> String {
///     format!("{tenant} {}", request.trace)
/// }
///
/// let cache = CacheFactory::memory_cache();
/// let request = Request { id: 7, trace: "t".into() };
/// by_template(&cache, "shop", &request);
/// assert!(cache.has("shop:7")?);
/// assert!(cache.has(("shop", 7))?); // the same key
/// # by_expression(&cache, "shop", &request);
/// # Ok::<(), cacheio::Error>(())
/// ```
///
/// A key that names no argument at all would give all callers one result. It is an error, unless
/// `skip` names the arguments on which results do not depend. So is a `&mut` argument that `skip` does
/// not name: a hit runs no body, and changes nothing.
///
/// Without `key`, the key consists of all arguments except `self` and the skipped ones. In a cache
/// that several functions share, it begins with the name of the function, its type and all type
/// arguments. Where this name is not unique, as with closures and types that are local to a function,
/// it ends with an id, which another build may change. Of several types of one name, the first one that
/// a process uses has no id: if such calls share a server with other processes, write a `key`.
///
/// # Values
///
/// All values are stored, except that of a `Result`, under any alias, only `Ok` is. In a cache that
/// may be on a server, a value is `Serialize + DeserializeOwned + Clone + Send + Sync + 'static`. In
/// a function's own cache, it needs no serde.
///
/// # Errors
///
/// Callers that waited for a load that fails get clones of its error if the error is `Clone`.
/// Otherwise, as with `anyhow::Error` and `Box<dyn Error>`, each of them runs the body. To protect a
/// failing origin from these calls, return `Arc<E>`.
///
/// A timeout, or a body that waits for its own key, becomes an error of the function if that error
/// implements `From<cacheio::Error>`. `hard_timeout` requires it, and `max_load` uses it for the
/// waiters. In a function without such an error, `max_load` lets the waiters run the body while its
/// first caller keeps waiting, and a body that waits for its own key panics.
///
/// ```
/// use cacheio::{ErrorKind, cached};
/// use std::time::Duration;
///
/// #[derive(Debug, Clone, PartialEq)]
/// enum RateError {
///     Timeout,
///     Cache(String),
/// }
///
/// impl From<cacheio::Error> for RateError {
///     fn from(error: cacheio::Error) -> Self {
///         match error.kind() {
///             ErrorKind::Timeout => Self::Timeout,
///             _ => Self::Cache(error.to_string()),
///         }
///     }
/// }
///
/// #[cached(hard_timeout = "20ms")]
/// fn exchange_rate(currency: &str) -> Result<f64, RateError> {
///     std::thread::sleep(Duration::from_secs(1));
///     Ok(currency.len() as f64)
/// }
///
/// assert_eq!(exchange_rate("EUR"), Err(RateError::Timeout));
/// ```
///
/// # Policies
///
/// ```
/// use cacheio::{Cache, CacheFactory, Cacheable, cached};
///
/// #[derive(Clone, Cacheable)]
/// struct UserService {
///     cache: Cache,
/// }
///
/// impl UserService {
///     #[cached(
///         key = "user:{id}", ttl = "1m", ttl_none = "10s", ttl_idle = "10m", jitter = 0.1,
///         stale_for = "1h", retry_after = "10s", refresh_ahead = 0.8,
///         soft_timeout = "100ms", hard_timeout = "2s", max_load = "30s",
///     )]
///     fn find_user(&self, id: u64) -> Result<Option<String>, cacheio::Error> {
///         Ok((id > 0).then(|| format!("user {id}")))
///     }
/// }
///
/// let service = UserService { cache: CacheFactory::memory_cache() };
/// assert_eq!(service.find_user(7)?.as_deref(), Some("user 7"));
/// # Ok::<(), cacheio::Error>(())
/// ```
///
/// With `refresh_ahead`, `soft_timeout`, `hard_timeout` or `max_load`, the body may run in the
/// background, on a thread of the cache or as a task of tokio, after its caller has returned:
///
/// - The body gets copies of the borrowed arguments that it uses: a `String` of a `&str`, a `Vec<T>`
///   of a `&[T]`, a clone of a `&T`, `Option<&T>` or `&self`. Only the caller that runs the body
///   copies them. Let `self` be cheap to clone: its caches and connection pools are, and the rest can
///   be in an `Arc`.
/// - It takes arguments by value with it, such as `Arc<Self>`.
/// - All of them, and what an `async` body holds across an `.await`, are `Send + 'static`.
/// - The error is `Send + Sync`, such as `Box<dyn Error + Send + Sync>`.
/// - An argument cannot be `&mut`, and an `async` body cannot call the function again.
///
/// # Companions
///
/// `companions` adds functions with the same visibility. For a function `find`:
///
/// | function | effect | arguments |
/// | --- | --- | --- |
/// | `find_key` | returns the key as text, without the namespace of the cache | those of the key |
/// | `find_invalidate` | deletes the entry, and returns whether there was one | those of the key |
/// | `find_refresh` | runs the body and replaces the entry | all |
/// | `find_cache` | returns the function's own cache, for `clear` and `stats`; there is none if the function uses another cache | none |
///
/// ```
/// use cacheio::cached;
///
/// #[cached(key = "{n}", companions)]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// assert_eq!(square(3), 9);
/// assert_eq!(square_key(3), "3");
/// assert_eq!(square_refresh(3), 9);
/// assert!(square_invalidate(3)?);
/// assert_eq!(square_cache().stats().loads, 2);
/// # Ok::<(), cacheio::Error>(())
/// ```
///
/// `find` and `find_refresh` each contain the body, so a `static` in it exists twice. An `impl` of a
/// trait cannot have companions, since they are not members of the trait.
///
/// # Where it works
///
/// On functions, methods with any receiver, methods in an `impl` of a trait, default methods of
/// traits, and under `#[async_trait]`, which is put on the `impl`. Generics, lifetimes, `impl Trait`
/// arguments and patterns work. A generic function with its own cache adds its type arguments to the
/// default key; an explicit `key` is used as it is.
#[proc_macro_attribute]
pub fn cached(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(args.into(), &item.into(), plan::Name::Cached).into()
}

/// Caches the results of an `async` function or method by its arguments.
///
/// It is [`macro@cached`], which has the table of arguments, for `async` functions only.
///
/// ```
/// use cacheio::{AsyncCache, AsyncCacheable, CacheFactory, async_cached};
///
/// #[derive(AsyncCacheable)]
/// struct UserService {
///     cache: AsyncCache,
/// }
///
/// impl UserService {
///     #[async_cached(key = "user:{user_id}", ttl = "1m")]
///     async fn fetch_user(&self, user_id: u64, request_id: &str) -> Result<String, std::io::Error> {
///         Ok(format!("user {user_id}, loaded by request {request_id}"))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let service = UserService { cache: CacheFactory::async_memory_cache() };
/// assert_eq!(service.fetch_user(42, "a").await?, "user 42, loaded by request a");
/// assert_eq!(service.fetch_user(42, "b").await?, "user 42, loaded by request a"); // a hit
/// # Ok(())
/// # }
/// ```
#[proc_macro_attribute]
pub fn async_cached(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(args.into(), &item.into(), plan::Name::AsyncCached).into()
}

/// Gives the `#[cached]` methods of a type their cache.
///
/// The cache is in the field `cache`, or in the field marked `#[cache]`. It is a `Cache`, or a type
/// that dereferences to one, such as `Arc<Cache>` or `&Cache`. A type without such a field, also an
/// enum, has one cache in memory for all of its values, which is built on first use; a generic type has
/// one for each set of its type arguments.
///
/// ```
/// use cacheio::{Cache, CacheFactory, Cacheable, cached};
///
/// #[derive(Cacheable)]
/// struct UserService {
///     #[cache]
///     users: Cache,
/// }
///
/// impl UserService {
///     #[cached(key = "user:{id}")]
///     fn find_user(&self, id: u64) -> String {
///         format!("user {id}")
///     }
/// }
///
/// let service = UserService { users: CacheFactory::memory_cache() };
/// service.find_user(7);
/// assert!(service.users.has("user:7")?);
/// # Ok::<(), cacheio::Error>(())
/// ```
///
/// | attribute | on | effect | default |
/// | --- | --- | --- | --- |
/// | `#[cache]` | a field | marks the cache | the field named `cache`, or a cache of the type |
/// | `#[cacheio(crate = path)]` | the type | sets the path of a re-export of the crate | found in `Cargo.toml` |
#[proc_macro_derive(Cacheable, attributes(cache, cacheio))]
pub fn derive_cacheable(input: TokenStream) -> TokenStream {
    derive::cacheable(input.into(), &path::SYNC).into()
}

/// Gives the `async` `#[cached]` methods of a type their cache.
///
/// The cache is in the field `cache`, or in the field marked `#[cache]`. It is an `AsyncCache`, or a
/// type that dereferences to one. In a type that also derives `Cacheable`, mark it with
/// `#[async_cache]`. A type without such a field has one cache in memory for all of its values, like
/// one that derives [`Cacheable`](derive@Cacheable).
///
/// ```
/// use cacheio::{AsyncCache, AsyncCacheable, Cache, CacheFactory, Cacheable, cached};
///
/// #[derive(Cacheable, AsyncCacheable)]
/// struct UserService {
///     cache: Cache,
///     #[async_cache]
///     remote: AsyncCache,
/// }
///
/// impl UserService {
///     #[cached(key = "user:{id}")]
///     async fn find_user(&self, id: u64) -> String {
///         format!("user {id}")
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cacheio::Result<()> {
/// let service = UserService {
///     cache: CacheFactory::memory_cache(),
///     remote: CacheFactory::async_memory_cache(),
/// };
/// service.find_user(7).await;
/// assert!(service.remote.has("user:7").await?);
/// # Ok(())
/// # }
/// ```
///
/// | attribute | on | effect | default |
/// | --- | --- | --- | --- |
/// | `#[async_cache]` | a field | marks the cache | the field marked `#[cache]` |
/// | `#[cache]` | a field | marks the cache, unless a field is marked `#[async_cache]` | the field named `cache` |
/// | `#[cacheio(crate = path)]` | the type | sets the path of a re-export of the crate | found in `Cargo.toml` |
#[proc_macro_derive(AsyncCacheable, attributes(cache, async_cache, cacheio))]
pub fn derive_async_cacheable(input: TokenStream) -> TokenStream {
    derive::cacheable(input.into(), &path::ASYNC).into()
}

/// Makes a type usable as a key, or as part of one.
///
/// A struct is written like the tuple of its fields, a struct with one unnamed field like that field,
/// and a struct without fields as its name. A variant of an enum is written as its name, followed by
/// its fields.
///
/// ```
/// use cacheio::{CacheKey, key_text};
///
/// #[derive(CacheKey)]
/// #[cache_key(prefix = "search")]
/// struct Search {
///     text: String,
///     page: u32,
///     #[cache_key(skip)]
///     trace_id: String,
/// }
///
/// let search = Search { text: "tea".into(), page: 2, trace_id: "t".into() };
/// assert_eq!(key_text(search), "search:tea:2");
/// ```
///
/// | attribute | on | effect | default |
/// | --- | --- | --- | --- |
/// | `#[cache_key(skip)]` | a field | excludes the field from the key | included |
/// | `#[cache_key(prefix = "search")]` | the type | adds a first part | no prefix |
/// | `#[cacheio(crate = path)]` | the type | sets the path of a re-export of the crate | found in `Cargo.toml` |
#[proc_macro_derive(CacheKey, attributes(cache_key, cacheio))]
pub fn derive_cache_key(input: TokenStream) -> TokenStream {
    derive::cache_key(input.into()).into()
}
