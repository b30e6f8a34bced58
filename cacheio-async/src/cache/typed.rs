//! A typed handle: a cache for one type of keys and one type of values.

mod load;
mod loading;
mod update;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use cacheio_core::__private::{ByArc, ByValue, HandleKey, TypedSettings, boxed};
use cacheio_core::{CacheKey, KeyOf, Options, Result, Ttl, Value, ValueOf};

use super::AsyncCache;

pub use loading::AsyncLoadingCache;

/// A handle for one type of keys and one type of values of a [`AsyncCache`]. No method needs a type argument.
///
/// Its keys begin with a name, and are different from all other keys of the cache, whatever they contain: those of handles
/// with other names, and those that are passed to the cache itself. Handles of the same name use the same entries, also in
/// other processes.
///
/// Methods have the names and the promises of those of [`AsyncCache`]. A key is passed by value or by reference; a
/// `&str` is a key of a handle for `String`. With a [`loader`](Self::loader) it is a [`AsyncLoadingCache`].
///
/// Clones are cheap and use the same cache. [`AsyncCache::clear`] and [`AsyncCache::invalidate_tags`] hold for its entries, too.
///
/// ```
/// # #[tokio::main] async fn main() -> cacheio::Result<()> {
/// use cacheio::{AsyncTypedCache, CacheFactory};
///
/// let cache = CacheFactory::async_memory_cache();
/// let ages: AsyncTypedCache<String, u32> = cache.typed("age");
/// ages.set("Ada", 36).await?;
/// assert_eq!(ages.get("Ada").await?, Some(36));
/// // Another entry.
/// assert!(!cache.has(("age", "Ada")).await?);
/// # Ok(()) }
/// ```
pub struct AsyncTypedCache<K, V> {
    cache: AsyncCache,
    settings: Arc<TypedSettings>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for AsyncTypedCache<K, V> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            settings: Arc::clone(&self.settings),
            types: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for AsyncTypedCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncTypedCache")
            .field("cache", &self.cache)
            .field("settings", &self.settings)
            .finish()
    }
}

impl AsyncCache {
    /// Returns a handle for keys of the type `K` and values of the type `V`, whose keys begin with a name.
    ///
    /// In the store, the key `42` of the handle `user` is `:user:42`, after the namespace.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(42, "Ada").await?;
    /// assert_eq!(users.get(42).await?.as_deref(), Some("Ada"));
    /// # Ok(()) }
    /// ```
    pub fn typed<K: CacheKey, V: Value>(&self, name: impl AsRef<str>) -> AsyncTypedCache<K, V> {
        AsyncTypedCache {
            cache: self.clone(),
            settings: Arc::new(TypedSettings::new(name.as_ref())),
            types: PhantomData,
        }
    }
}

impl<K: CacheKey, V: Value> AsyncTypedCache<K, V> {
    /// Sets the options of all calls of this handle; a `Duration` is a TTL.
    ///
    /// They come before the settings of the cache, and the options of a call come before them. An entry has the tags
    /// of both. With [`skip_l1`](Options::skip_l1), all reads of the handle ask the server. A second call of this
    /// method replaces all options of the first.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let users = cache.typed::<u64, String>("user").options(Options::ttl(minute).tags(["users"]));
    /// users.set(42, "Ada").await?;
    /// cache.invalidate_tags(["users"]).await?;
    /// assert!(!users.has(42).await?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn options(mut self, options: impl Into<Options>) -> Self {
        Arc::make_mut(&mut self.settings).set_options(options.into());
        self
    }

    /// Returns a key as the cache gets it.
    #[inline]
    fn key<'a, By, Q: KeyOf<K, By>>(&'a self, key: &'a Q) -> HandleKey<'a, &'a Q::Borrowed> {
        self.settings.key(key.borrowed())
    }

    /// Returns whether [`get`](Self::get) would find a live entry, as [`AsyncCache::has`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert!(!users.has(42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    #[doc(alias = "contains_key")]
    pub async fn has<By>(&self, key: impl KeyOf<K, By>) -> Result<bool> {
        let skip_l1 = self.settings.skips_l1();
        self.cache.engine.has(self.key(&key), skip_l1).await
    }

    /// Returns the value of a live entry, as [`AsyncCache::get`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert_eq!(users.get(42).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::get`].
    pub async fn get<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<V>> {
        let (engine, skip_l1) = (&self.cache.engine, self.settings.skips_l1());
        let probed = engine.probe::<ByValue<V>>(&self.key(&key), skip_l1);
        match probed {
            Ok(value) => Ok(value),
            Err(missed) => {
                let stored = boxed(|| engine.get::<V>(missed, skip_l1)).await?;
                Ok(stored.map(V::from_stored))
            }
        }
    }

    /// Returns the value of a live entry without copying it in memory, as [`AsyncCache::get_arc`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let pages = cache.typed::<String, String>("page");
    /// pages.set("/", "<html>…").await?;
    /// let page = pages.get_arc("/").await?;
    /// assert_eq!(page.unwrap().as_str(), "<html>…");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub async fn get_arc<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<Arc<V>>> {
        let (engine, skip_l1) = (&self.cache.engine, self.settings.skips_l1());
        let probed = engine.probe::<ByArc<V>>(&self.key(&key), skip_l1);
        match probed {
            Ok(value) => Ok(value),
            Err(missed) => {
                let stored = boxed(|| engine.get::<V>(missed, skip_l1)).await?;
                Ok(stored.map(V::shared))
            }
        }
    }

    /// Returns the values of several keys in one round trip to each server, as [`AsyncCache::get_many`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(1, "Ada").await?;
    /// assert_eq!(users.get_many([1, 2]).await?, [Some("Ada".into()), None]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), for any of the keys.
    pub async fn get_many<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> Result<Vec<Option<V>>> {
        let skip_l1 = self.settings.skips_l1();
        self.cache.engine.get_many(self.keys(keys), skip_l1).await
    }

    /// Returns what [`get`](Self::get) returns for each of several keys, as [`AsyncCache::get_each`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(1, "Ada").await?;
    /// for user in users.get_each([1, 2]).await? {
    ///     println!("{:?}", user?);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    pub async fn get_each<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> Result<Vec<Result<Option<V>>>> {
        let skip_l1 = self.settings.skips_l1();
        self.cache.engine.get_each(self.keys(keys), skip_l1).await
    }

    /// Stores a value with the options of this handle, as [`AsyncCache::set`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// let name = String::from("Ada");
    /// users.set(42, &name).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::set_with`].
    #[doc(alias = "insert")]
    pub async fn set<By, ByV>(
        &self,
        key: impl KeyOf<K, By>,
        value: impl ValueOf<V, ByV>,
    ) -> Result<()> {
        let value = value.into_value();
        self.cache
            .engine
            .set(self.key(&key), value, self.settings.options())
            .await
    }

    /// Stores a value like [`set`](Self::set), with more options; a `Duration` is a TTL.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use std::time::Duration;
    ///
    /// let users = cache.typed::<u64, String>("user");
    /// users.set_with(42, "Ada", Duration::from_secs(60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::set_with`].
    pub async fn set_with<By, ByV>(
        &self,
        key: impl KeyOf<K, By>,
        value: impl ValueOf<V, ByV>,
        options: impl Into<Options>,
    ) -> Result<()> {
        let options = self.settings.options_with(options);
        let value = value.into_value();
        self.cache.engine.set(self.key(&key), value, &options).await
    }

    /// Stores several values in one round trip to each server, as [`AsyncCache::set_many`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set_many([(1, "Ada"), (2, "Grace")]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::set_many_with`].
    pub async fn set_many<By, ByV>(
        &self,
        entries: impl IntoIterator<Item = (impl KeyOf<K, By>, impl ValueOf<V, ByV>)>,
    ) -> Result<()> {
        let entries = self.entries(entries);
        self.cache
            .engine
            .set_many(entries, self.settings.options())
            .await
    }

    /// Stores several values like [`set_many`](Self::set_many), with more options for all of them.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use std::time::Duration;
    ///
    /// let users = cache.typed::<u64, String>("user");
    /// users.set_many_with([(1, "Ada"), (2, "Grace")], Duration::from_secs(60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::set_many_with`].
    pub async fn set_many_with<By, ByV>(
        &self,
        entries: impl IntoIterator<Item = (impl KeyOf<K, By>, impl ValueOf<V, ByV>)>,
        options: impl Into<Options>,
    ) -> Result<()> {
        let options = self.settings.options_with(options);
        let entries = self.entries(entries);
        self.cache.engine.set_many(entries, &options).await
    }

    /// Stores a value if the key has no live entry, as [`AsyncCache::add`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert!(users.add(42, "Ada").await?);
    /// assert!(!users.add(42, "Grace").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::add_with`].
    pub async fn add<By, ByV>(
        &self,
        key: impl KeyOf<K, By>,
        value: impl ValueOf<V, ByV>,
    ) -> Result<bool> {
        let value = value.into_value();
        self.cache
            .engine
            .add(self.key(&key), value, self.settings.options())
            .await
    }

    /// Stores a value like [`add`](Self::add), with more options.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use std::time::Duration;
    ///
    /// let locks = cache.typed::<u64, String>("lock");
    /// assert!(locks.add_with(42, "worker-7", Duration::from_secs(10)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::add_with`].
    pub async fn add_with<By, ByV>(
        &self,
        key: impl KeyOf<K, By>,
        value: impl ValueOf<V, ByV>,
        options: impl Into<Options>,
    ) -> Result<bool> {
        let options = self.settings.options_with(options);
        let value = value.into_value();
        self.cache.engine.add(self.key(&key), value, &options).await
    }

    /// Removes an entry, and returns whether there was a live one, as [`AsyncCache::delete`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert!(!users.delete(42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    #[doc(alias = "remove")]
    pub async fn delete<By>(&self, key: impl KeyOf<K, By>) -> Result<bool> {
        self.cache.delete(self.key(&key)).await
    }

    /// Removes several entries, and returns how many of them were live, as [`AsyncCache::delete_many`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(1, "Ada").await?;
    /// assert_eq!(users.delete_many([1, 2]).await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; some of the entries may have been removed.
    pub async fn delete_many<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> Result<usize> {
        self.cache.delete_many(self.keys(keys)).await
    }

    /// Gives a live entry a new TTL, as [`AsyncCache::touch`]. [`Ttl::Default`] is the TTL of this handle.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use std::time::Duration;
    ///
    /// let sessions = cache.typed::<String, u64>("session");
    /// sessions.set("x7f", 42).await?;
    /// assert!(sessions.touch("x7f", Duration::from_secs(3600)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::touch`].
    pub async fn touch<By>(&self, key: impl KeyOf<K, By>, ttl: impl Into<Ttl>) -> Result<bool> {
        self.cache
            .touch(self.key(&key), self.settings.ttl(ttl))
            .await
    }

    /// Returns what is left of the TTL of a live entry, as [`AsyncCache::ttl`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let sessions = cache.typed::<String, u64>("session");
    /// assert_eq!(sessions.ttl("x7f").await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    pub async fn ttl<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<Ttl>> {
        self.cache.ttl(self.key(&key)).await
    }

    fn keys<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> impl Iterator<Item = HandleKey<'_, K>> {
        keys.into_iter()
            .map(|key| self.settings.key(key.into_key()))
    }

    fn entries<By, ByV>(
        &self,
        entries: impl IntoIterator<Item = (impl KeyOf<K, By>, impl ValueOf<V, ByV>)>,
    ) -> impl Iterator<Item = (HandleKey<'_, K>, V)> {
        let settings = &self.settings;
        entries
            .into_iter()
            .map(|(key, value)| (settings.key(key.into_key()), value.into_value()))
    }
}
