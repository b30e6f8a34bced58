//! Loads of single keys: `get_or_set`, `get_or_try_set`, `fetch` and `fetch_entry`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use cacheio_core::__private::{DEFAULT_OPTIONS, LoadMode, Loaded, MissedKey, boxed};
use cacheio_core::{CacheKey, Fetched, LoadContext, LoadError, Options, Result, Value};

use super::AsyncCache;

/// A loader: any `FnOnce() -> impl Future<Output = R>`, such as `|| async { … }` or an `async fn`.
///
/// The type of the future is no type parameter of the methods, so that `get_or_set::<u64>` names only
/// the value, as in `Cache`.
///
/// ```
/// # #[tokio::main] async fn main() {
/// use cacheio::{AsyncCache, AsyncLoad, Value};
///
/// async fn greeting<V: Value>(cache: &AsyncCache, load: impl AsyncLoad<V>) -> V {
///     cache.get_or_set("greeting", load).await
/// }
///
/// let cache = AsyncCache::new(100);
/// assert_eq!(greeting(&cache, || async { String::from("hello") }).await, "hello");
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a loader is a closure that returns a future of `{R}`",
    label = "not a `FnOnce() -> impl Future<Output = {R}>`",
    note = "write `|| async {{ … }}`, or pass an `async fn` without arguments"
)]
pub trait AsyncLoad<R> {
    /// The future of the load.
    type Future: Future<Output = R>;

    /// Starts the load.
    fn start(self) -> Self::Future;
}

#[diagnostic::do_not_recommend]
impl<R, L: FnOnce() -> F, F: Future<Output = R>> AsyncLoad<R> for L {
    type Future = F;

    fn start(self) -> F {
        self()
    }
}

impl AsyncCache {
    /// Returns the value of a live entry, or runs `load` and stores its result.
    ///
    /// When many tasks miss a key at the same time, one of them runs its `load`; the others wait
    /// for the result. If the key is written, deleted or invalidated during the load, the result is
    /// returned and not stored. A failing store does not fail the call: `load` runs, and the
    /// failure is counted and logged.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let user: String = cache.get_or_set(("user", 42), || async { String::from("Ada") }).await;
    /// assert_eq!(user, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics in the caller whose `load` panics; one of the waiters then runs its own `load`.
    /// Panics when `load` calls itself without end. A `load` that gets its own key once loads it for
    /// itself.
    #[doc(alias = "get_with")]
    pub async fn get_or_set<V: Value>(&self, key: impl CacheKey, load: impl AsyncLoad<V>) -> V {
        let options = &DEFAULT_OPTIONS;
        match self.engine.probe_to_load(&key, options) {
            Ok(value) => value,
            Err(missed) => self.load_infallible(missed, options, load).await,
        }
    }

    /// Returns or loads a value like [`get_or_set`](Self::get_or_set), with options for the load
    /// and its entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let rate: u32 = cache.get_or_set_with(("rate", "EUR"), minute, || async { 108 }).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_set`](Self::get_or_set).
    pub async fn get_or_set_with<V: Value>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl AsyncLoad<V>,
    ) -> V {
        let options = options.into();
        match self.engine.probe_to_load(&key, &options) {
            Ok(value) => value,
            Err(missed) => self.load_infallible(missed, &options, load).await,
        }
    }

    /// Returns or loads a value like [`get_or_set`](Self::get_or_set), with a `load` that may fail.
    ///
    /// A failed load stores nothing, and every waiter gets its error.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let port = cache.get_or_try_set("port", || async { "80x".parse::<u16>() }).await;
    /// assert_eq!(port.unwrap_err().to_string(), "invalid digit found in string");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`LoadError::Load`] with the error of `load`, which all waiters share;
    /// [`LoadError::Timeout`] when the load exceeds a timeout of the cache or of a call and there
    /// is no stale value to return; [`LoadError::Reentrant`] when `load` waits for its own key;
    /// and [`LoadError::Config`] for an invalid option.
    ///
    /// # Panics
    ///
    /// Panics in the caller whose `load` panics; one of the waiters then runs its own `load`.
    #[doc(alias = "try_get_with")]
    pub async fn get_or_try_set<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        load: impl AsyncLoad<Result<V, E>>,
    ) -> Result<V, LoadError<E>> {
        let options = &DEFAULT_OPTIONS;
        match self.engine.probe_to_load(&key, options) {
            Ok(value) => Ok(value),
            Err(missed) => self.load_fallible(missed, options, load).await,
        }
    }

    /// Returns or loads a value like [`get_or_try_set`](Self::get_or_try_set), with options for the
    /// load and its entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let options = Options::new().ttl(Duration::from_secs(60)).tags(["ports"]);
    /// let load = || async { "80".parse::<u16>() };
    /// let port: u16 = cache.get_or_try_set_with("port", options, load).await?;
    /// assert_eq!(port, 80);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get_or_try_set`](Self::get_or_try_set).
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_try_set`](Self::get_or_try_set).
    pub async fn get_or_try_set_with<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl AsyncLoad<Result<V, E>>,
    ) -> Result<V, LoadError<E>> {
        let options = options.into();
        match self.engine.probe_to_load(&key, &options) {
            Ok(value) => Ok(value),
            Err(missed) => self.load_fallible(missed, &options, load).await,
        }
    }

    // The futures of loads are on the heap, so that those of callers stay small, and a hit in memory does
    // not pay for them.

    pub(super) fn load_infallible<'a, V: Value, L: AsyncLoad<V>>(
        &'a self,
        missed: MissedKey,
        options: &'a Options,
        load: L,
    ) -> Pin<Box<impl Future<Output = V> + use<'a, V, L>>> {
        boxed(|| async move {
            let loader = || async { Ok::<_, Infallible>(load.start().await.into()) };
            let loaded = self
                .engine
                .load(missed, options, LoadMode::INFALLIBLE, loader);
            loaded.await.unwrap_or_else(|failure| failure.panic())
        })
    }

    pub(super) fn load_fallible<
        'a,
        V: Value,
        E: Send + Sync + 'static,
        L: AsyncLoad<Result<V, E>>,
    >(
        &'a self,
        missed: MissedKey,
        options: &'a Options,
        load: L,
    ) -> Pin<Box<impl Future<Output = Result<V, LoadError<E>>> + use<'a, V, E, L>>> {
        boxed(|| async move {
            let loader = || async { load.start().await.map(Loaded::from) };
            let loaded = self
                .engine
                .load(missed, options, LoadMode::FALLIBLE, loader);
            loaded.await.map_err(LoadError::from)
        })
    }

    /// Returns or loads a value like [`get_or_try_set`](Self::get_or_try_set), with a `load` that
    /// can continue in the background.
    ///
    /// `load` must own what it uses. In return, `soft_timeout`, `hard_timeout`, `max_load` and
    /// `refresh_ahead` of the cache or of the call's [`Options`] hold for every caller. In
    /// `get_or_set` and `get_or_try_set`, whose `load` may borrow, the caller that runs the load
    /// waits until it ends (in `get_or_try_set` until `hard_timeout`, which drops the load); the
    /// other callers are served as here. The [`LoadContext`] tells `load` which value it replaces,
    /// and lets it choose the TTL of its own.
    ///
    /// `load` runs as a task of its own on the caller's runtime; outside of tokio, on a thread that is
    /// started when needed. It continues when the caller is dropped or times out, and is dropped after
    /// [`max_load`](Options::max_load), by default 60 s. A tokio thread that blocks on this
    /// future by other means than tokio's own may wait forever.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let port: u16 = cache.fetch("port", |_| async move { "80".parse() }).await?;
    /// assert_eq!(port, 80);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`LoadError::Load`] with the error of `load`, which all waiters share;
    /// [`LoadError::Timeout`] after `hard_timeout` or `max_load` when there is no stale value to
    /// return; [`LoadError::Reentrant`] when `load` waits for its own key;
    /// and [`LoadError::Config`] for an invalid option.
    ///
    /// # Panics
    ///
    /// Panics in the caller whose `load` panics, if that caller still waits; one of the waiters
    /// then runs its own `load`.
    pub async fn fetch<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.fetch_with(key, Options::new(), load).await
    }

    /// Returns or loads a value like [`fetch`](Self::fetch), with options for the load and its
    /// entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let options = Options::new().ttl(minute)
    ///     .refresh_ahead(0.8)
    ///     .stale_for(60 * minute)
    ///     .soft_timeout(Duration::from_millis(100))
    ///     .hard_timeout(Duration::from_secs(2));
    /// let user = cache.fetch_with(("user", 42), options, |context| async move {
    ///     // A new user may change soon.
    ///     context.ttl(Duration::from_secs(10));
    ///     Ok::<_, std::io::Error>(String::from("Ada"))
    /// }).await?;
    /// assert_eq!(user, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// Panics like [`fetch`](Self::fetch).
    pub async fn fetch_with<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let options = options.into();
        match self.engine.probe_to_load::<V>(&key, &options) {
            Ok(value) => Ok(value),
            Err(missed) => {
                let mode = LoadMode::FALLIBLE;
                let fetched = boxed(|| self.engine.fetch(missed, &options, mode, || load));
                Ok(fetched.await?.value)
            }
        }
    }

    /// Returns or loads a value like [`fetch`](Self::fetch), together with its source and its age.
    ///
    /// A hit in memory takes about twice as long as with `fetch`.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::{CacheFactory, Source};
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let port = cache.fetch_entry("port", |_| async move { "80".parse::<u16>() }).await?;
    /// assert_eq!((port.value, port.source), (80, Source::Loaded));
    ///
    /// let port = cache.fetch_entry("port", |_| async move { "80".parse::<u16>() }).await?;
    /// assert_eq!((port.value, port.source), (80, Source::Hit));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// Panics like [`fetch`](Self::fetch).
    pub async fn fetch_entry<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.fetch_entry_with(key, Options::new(), load).await
    }

    /// Returns or loads a value like [`fetch_entry`](Self::fetch_entry), with options for the load
    /// and its entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let page = cache.fetch_entry_with("page", minute, |_| async move {
    ///     Ok::<_, std::io::Error>(String::from("<html>…"))
    /// }).await?;
    /// let header = page.age.map(|age| format!("Age: {}", age.as_secs()));
    /// assert_eq!(header.as_deref(), Some("Age: 0"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// Panics like [`fetch`](Self::fetch).
    pub async fn fetch_entry_with<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let options = options.into();
        match self.engine.probe_to_fetch::<V>(&key, &options) {
            Ok(fetched) => Ok(fetched),
            Err(missed) => {
                let mode = LoadMode::DATED;
                let fetched = boxed(|| self.engine.fetch(missed, &options, mode, || load));
                fetched.await.map_err(LoadError::from)
            }
        }
    }
}
