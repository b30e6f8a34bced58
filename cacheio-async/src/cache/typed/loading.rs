//! A typed handle with its loader: `get` loads what is missing.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cacheio_core::__private::{LoadMode, MissedKey, boxed};

use cacheio_core::{
    BoxFuture, CacheKey, KeyOf, LoadContext, LoadError, Loads, LoadsMany, Options, Result, Value,
};

use super::AsyncTypedCache;

type Loader<K, V, E> =
    Arc<dyn Fn(K, LoadContext<V>) -> BoxFuture<'static, Result<V, E>> + Send + Sync>;
type BatchLoader<K, V, E> =
    Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<(K, V)>, E>> + Send + Sync>;

/// A [`AsyncTypedCache`] with a loader: [`get`](Self::get) and [`get_many`](Self::get_many) return live values, and load
/// those that are missing.
///
/// `K` and `V` are the types of its keys and values, and `E` is the error of its loader, [`Infallible`] if it has none. The
/// type does not name the loader, so that it can be that of a field. Clones are cheap.
///
/// [`typed`](Self::typed) returns the handle without the loader: with `set`, `has`, `ttl` and so on, and a `get` that does
/// not load.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cacheio::{AsyncLoadingCache, CacheFactory, LoadError};
/// use std::time::Duration;
///
/// # #[derive(Clone, Debug)] struct DbError;
/// # impl std::fmt::Display for DbError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("down") }
/// # }
/// # impl std::error::Error for DbError {}
/// # #[derive(Clone)] struct Database;
/// # impl Database {
/// #     async fn user(&self, id: u64) -> Result<String, DbError> { Ok(format!("user {id}")) }
/// # }
/// /// The state of a web server, which each request clones.
/// #[derive(Clone)]
/// struct App {
///     users: AsyncLoadingCache<u64, String, DbError>,
/// }
///
/// async fn page(app: &App, id: u64) -> Result<String, LoadError<DbError>> {
///     Ok(format!("<h1>{}</h1>", app.users.get(id).await?))
/// }
///
/// let database = Database;
/// let users = CacheFactory::async_memory_cache()
///     .typed("user")
///     .options(Duration::from_secs(60))
///     .loader(move |id| {
///         let database = database.clone();
///         async move { database.user(id).await }
///     });
/// assert_eq!(page(&App { users }, 42).await?, "<h1>user 42</h1>");
/// # Ok(()) }
/// ```
pub struct AsyncLoadingCache<K, V, E = Infallible> {
    typed: AsyncTypedCache<K, V>,
    load: Loader<K, V, E>,
    load_many: Option<BatchLoader<K, V, E>>,
}

impl<K, V, E> Clone for AsyncLoadingCache<K, V, E> {
    fn clone(&self) -> Self {
        Self {
            typed: self.typed.clone(),
            load: Arc::clone(&self.load),
            load_many: self.load_many.clone(),
        }
    }
}

impl<K, V, E> fmt::Debug for AsyncLoadingCache<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncLoadingCache")
            .field("typed", &self.typed)
            .field("has_batch_loader", &self.load_many.is_some())
            .finish_non_exhaustive()
    }
}

impl<K: CacheKey + Send + 'static, V: Value> AsyncTypedCache<K, V> {
    /// Adds a loader: [`get`](AsyncLoadingCache::get) then loads what is missing.
    ///
    /// The loader gets the key, and returns a value or a `Result`. It owns what it uses, because it may go on in the
    /// background, as that of [`fetch`](Self::fetch). For values that may not exist, let `V` be an `Option`:
    /// [`ttl_none`](crate::Options::ttl_none) is the TTL of `None`.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let squares = cache.typed::<u64, u64>("square").loader(|n| async move { n * n });
    /// assert_eq!(squares.get(7).await?, 49);
    ///
    /// let ports = cache.typed::<String, u16>("port").loader(|text| async move { text.parse() });
    /// assert_eq!(ports.get("80").await?, 80);
    /// assert!(ports.get("80x").await.is_err());
    /// # Ok(()) }
    /// ```
    pub fn loader<R, E, F>(
        self,
        load: impl Fn(K) -> F + Send + Sync + 'static,
    ) -> AsyncLoadingCache<K, V, E>
    where
        R: Loads<V, E>,
        E: Send + Sync + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        self.loader_with_context(move |key, _| load(key))
    }

    /// Adds a loader that also gets the [`LoadContext`]: it tells which value the load replaces, and the loader sets the TTL of
    /// the value with it, or keeps the value out of the cache.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use std::time::Duration;
    ///
    /// let pages = cache.typed::<String, String>("page").loader_with_context(|path, context| async move {
    ///     match path.as_str() {
    ///         "/news" => context.ttl(Duration::from_secs(10)),
    ///         "/now" => context.skip(),
    ///         _ => {}
    ///     }
    ///     format!("<h1>{path}</h1>")
    ///  });
    /// assert_eq!(pages.get("/now").await?, "<h1>/now</h1>");
    /// assert!(!pages.typed().has("/now").await?);
    /// # Ok(()) }
    /// ```
    pub fn loader_with_context<R, E, F>(
        self,
        load: impl Fn(K, LoadContext<V>) -> F + Send + Sync + 'static,
    ) -> AsyncLoadingCache<K, V, E>
    where
        R: Loads<V, E>,
        E: Send + Sync + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        AsyncLoadingCache {
            typed: self,
            load: Arc::new(move |key, context| {
                let loading = load(key, context);
                Box::pin(async { loading.await.into_result() })
            }),
            load_many: None,
        }
    }
}

impl<K, V, E> AsyncLoadingCache<K, V, E>
where
    K: CacheKey + Send + 'static,
    V: Value,
    E: Send + Sync + 'static,
{
    /// Adds a loader of many keys: [`get_many`](Self::get_many) then loads all that are missing with one call of it.
    ///
    /// It returns pairs of a key and its value, such as a `Vec` or a `HashMap`, or a `Result` of them. A key that it leaves out has
    /// no value: its result is `None`.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let squares = cache
    ///     .typed::<u64, u64>("square")
    ///     .loader(|n| async move { n * n })
    ///     .batch_loader(|ns| async move { ns.into_iter().map(|n| (n, n * n)).collect::<Vec<_>>() });
    /// let found: Result<Vec<_>, _> = squares.get_many([2, 3]).await.into_iter().collect();
    /// assert_eq!(found.unwrap(), [Some(4), Some(9)]);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn batch_loader<R, F, By>(self, load: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        R: LoadsMany<K, V, E, By>,
        F: Future<Output = R> + Send + 'static,
    {
        Self {
            load_many: Some(Arc::new(move |keys| {
                let loading = load(keys);
                Box::pin(async { loading.await.into_result() })
            })),
            ..self
        }
    }

    /// Returns the handle without the loader, for all calls that do not load, such as `set` and `has`. Its `get` does not
    /// load either.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let squares = cache.typed::<u64, u64>("square").loader(|n| async move { n * n });
    /// assert_eq!(squares.typed().get(7).await?, None);
    /// # Ok(()) }
    /// ```
    pub fn typed(&self) -> &AsyncTypedCache<K, V> {
        &self.typed
    }

    /// Returns the value of a live entry, or loads it, as [`fetch`](AsyncTypedCache::fetch) with the loader and the options of this
    /// handle.
    ///
    /// When many tasks miss a key at the same time, one load runs and all wait for it. All policies apply, such as
    /// `stale_for`, `refresh_ahead` and the timeouts. A hit copies no key.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let squares = cache.typed::<u64, u64>("square").loader(|n| async move { n * n });
    /// assert_eq!(squares.get(7).await?, 49);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::fetch`](crate::AsyncCache::fetch). A failing store is none of them: the loader runs.
    ///
    /// # Panics
    ///
    /// Panics like [`AsyncCache::fetch`](crate::AsyncCache::fetch).
    pub async fn get<By>(&self, key: impl KeyOf<K, By>) -> Result<V, LoadError<E>> {
        let typed = &self.typed;
        let options = typed.settings.options();
        let engine = &typed.cache.engine;
        // The borrowed key does not live until the load ends.
        let probed = engine.probe_to_load::<V>(&typed.key(&key), options);
        match probed {
            Ok(value) => Ok(value),
            Err(missed) => self.load(missed, options, key.into_key()).await,
        }
    }

    /// Returns the values of many keys, in their order, and loads those that are missing.
    ///
    /// With a [`batch_loader`](Self::batch_loader) it is
    /// [`get_or_try_set_many`](AsyncTypedCache::get_or_try_set_many): one read, one call of the loader for all missing keys, one
    /// write. Without one, it is a [`get`](Self::get) of one key after the other.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let ports = cache.typed::<String, u16>("port").loader(|text| async move { text.parse::<u16>() });
    /// let found = ports.get_many(["80", "80x"]).await;
    /// assert_eq!(found[0].as_ref().unwrap(), &Some(80));
    /// assert!(found[1].is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get`](Self::get).
    pub async fn get_many<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> Vec<Result<Option<V>, LoadError<E>>> {
        let keys: Vec<K> = keys.into_iter().map(KeyOf::into_key).collect();
        if let Some(load_many) = &self.load_many {
            return self.typed.get_or_try_set_many(keys, &**load_many).await;
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await.map(Some));
        }
        values
    }

    /// Loads a value now, also if there is a live entry, and returns it.
    ///
    /// Until the load ends, other callers get the old value, if there is a live one. If it fails, the old value stays.
    ///
    /// It waits for no other load of the key: of several calls at once, each runs the loader, and the value of the last
    /// that began is stored. A load of the key that is in progress is not stored either, so that nothing is stored if there
    /// was no entry and the refresh fails.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let squares = cache.typed::<u64, u64>("square").loader(|n| async move { n * n });
    /// squares.typed().set(7, 50).await?;
    /// assert_eq!(squares.get(7).await?, 50);
    /// assert_eq!(squares.refresh(7).await?, 49);
    /// assert_eq!(squares.get(7).await?, 49);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// Panics like [`get`](Self::get).
    #[doc(alias = "reload")]
    pub async fn refresh<By>(&self, key: impl KeyOf<K, By>) -> Result<V, LoadError<E>> {
        let typed = &self.typed;
        let options = typed.settings.options().clone().force_refresh();
        let missed = typed.cache.engine.missed(&typed.key(&key));
        self.load(missed, &options, key.into_key()).await
    }

    /// Removes the entry of a key, so that the next [`get`](Self::get) loads it.
    ///
    /// It is [`delete`](AsyncTypedCache::delete): the result of a load that is in progress goes to its callers and is not stored.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let squares = cache.typed::<u64, u64>("square").loader(|n| async move { n * n });
    /// squares.typed().set(7, 50).await?;
    /// squares.invalidate(7).await?;
    /// assert_eq!(squares.get(7).await?, 49);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    pub async fn invalidate<By>(&self, key: impl KeyOf<K, By>) -> Result<()> {
        self.typed.delete(key).await?;
        Ok(())
    }

    // On the heap, so that a hit does not pay for it.
    fn load<'a>(
        &'a self,
        missed: MissedKey,
        options: &'a Options,
        key: K,
    ) -> Pin<Box<impl Future<Output = Result<V, LoadError<E>>> + use<'a, K, V, E>>> {
        boxed(|| async move {
            let engine = &self.typed.cache.engine;
            let prepare = || {
                let load = Arc::clone(&self.load);
                move |context| load(key, context)
            };
            let fetched = engine.fetch(missed, options, LoadMode::FALLIBLE, prepare);
            Ok(fetched.await?.value)
        })
    }
}
