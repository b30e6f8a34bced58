//! A typed handle: a cache for one type of keys and one type of values.

// A key is passed as to the cache itself: by value or by reference.
#![allow(clippy::needless_pass_by_value)]

mod load;
mod loading;
mod update;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use cacheio_core::__private::{ByArc, ByValue, HandleKey, TypedSettings, poll_ready};
use cacheio_core::{CacheKey, KeyOf, Options, Result, Ttl, Value, ValueOf};

use super::Cache;

pub use loading::LoadingCache;

/// A handle for one type of keys and one type of values of a [`Cache`]. No method needs a type argument.
///
/// Its keys begin with a name, and are different from all other keys of the cache, whatever they contain: those of handles
/// with other names, and those that are passed to the cache itself. Handles of the same name use the same entries, also in
/// other processes.
///
/// Methods have the names and the promises of those of [`Cache`]. A key is passed by value or by reference; a
/// `&str` is a key of a handle for `String`. With a [`loader`](Self::loader) it is a [`LoadingCache`].
///
/// Clones are cheap and use the same cache. [`Cache::clear`] and [`Cache::invalidate_tags`] hold for its entries, too.
///
/// ```
/// # fn main() -> cacheio::Result<()> {
/// use cacheio::{TypedCache, CacheFactory};
///
/// let cache = CacheFactory::memory_cache();
/// let ages: TypedCache<String, u32> = cache.typed("age");
/// ages.set("Ada", 36)?;
/// assert_eq!(ages.get("Ada")?, Some(36));
/// // Another entry.
/// assert!(!cache.has(("age", "Ada"))?);
/// # Ok(()) }
/// ```
pub struct TypedCache<K, V> {
    cache: Cache,
    settings: Arc<TypedSettings>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for TypedCache<K, V> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            settings: Arc::clone(&self.settings),
            types: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for TypedCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCache")
            .field("cache", &self.cache)
            .field("settings", &self.settings)
            .finish()
    }
}

impl Cache {
    /// Returns a handle for keys of the type `K` and values of the type `V`, whose keys begin with a name.
    ///
    /// In the store, the key `42` of the handle `user` is `:user:42`, after the namespace.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(42, "Ada")?;
    /// assert_eq!(users.get(42)?.as_deref(), Some("Ada"));
    /// # Ok(()) }
    /// ```
    pub fn typed<K: CacheKey, V: Value>(&self, name: impl AsRef<str>) -> TypedCache<K, V> {
        TypedCache {
            cache: self.clone(),
            settings: Arc::new(TypedSettings::new(name.as_ref())),
            types: PhantomData,
        }
    }
}

impl<K: CacheKey, V: Value> TypedCache<K, V> {
    /// Sets the options of all calls of this handle; a `Duration` is a TTL.
    ///
    /// They come before the settings of the cache, and the options of a call come before them. An entry has the tags
    /// of both. With [`skip_l1`](Options::skip_l1), all reads of the handle ask the server. A second call of this
    /// method replaces all options of the first.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let users = cache.typed::<u64, String>("user").options(Options::ttl(minute).tags(["users"]));
    /// users.set(42, "Ada")?;
    /// cache.invalidate_tags(["users"])?;
    /// assert!(!users.has(42)?);
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

    /// Returns whether [`get`](Self::get) would find a live entry, as [`Cache::has`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert!(!users.has(42)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    #[doc(alias = "contains_key")]
    pub fn has<By>(&self, key: impl KeyOf<K, By>) -> Result<bool> {
        let skip_l1 = self.settings.skips_l1();
        poll_ready(self.cache.engine.has(self.key(&key), skip_l1))
    }

    /// Returns the value of a live entry, as [`Cache::get`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert_eq!(users.get(42)?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::get`].
    pub fn get<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<V>> {
        let skip_l1 = self.settings.skips_l1();
        match self
            .cache
            .engine
            .probe::<ByValue<V>>(&self.key(&key), skip_l1)
        {
            Ok(value) => Ok(value),
            Err(missed) => Ok(self.cache.read::<V>(missed, skip_l1)?.map(V::from_stored)),
        }
    }

    /// Returns the value of a live entry without copying it in memory, as [`Cache::get_arc`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let pages = cache.typed::<String, String>("page");
    /// pages.set("/", "<html>…")?;
    /// let page = pages.get_arc("/")?;
    /// assert_eq!(page.unwrap().as_str(), "<html>…");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn get_arc<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<Arc<V>>> {
        let skip_l1 = self.settings.skips_l1();
        match self
            .cache
            .engine
            .probe::<ByArc<V>>(&self.key(&key), skip_l1)
        {
            Ok(value) => Ok(value),
            Err(missed) => Ok(self.cache.read::<V>(missed, skip_l1)?.map(V::shared)),
        }
    }

    /// Returns the values of several keys in one round trip to each server, as [`Cache::get_many`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(1, "Ada")?;
    /// assert_eq!(users.get_many([1, 2])?, [Some("Ada".into()), None]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), for any of the keys.
    pub fn get_many<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> Result<Vec<Option<V>>> {
        let skip_l1 = self.settings.skips_l1();
        poll_ready(self.cache.engine.get_many(self.keys(keys), skip_l1))
    }

    /// Returns what [`get`](Self::get) returns for each of several keys, as [`Cache::get_each`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(1, "Ada")?;
    /// for user in users.get_each([1, 2])? {
    ///     println!("{:?}", user?);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    pub fn get_each<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> Result<Vec<Result<Option<V>>>> {
        let skip_l1 = self.settings.skips_l1();
        poll_ready(self.cache.engine.get_each(self.keys(keys), skip_l1))
    }

    /// Stores a value with the options of this handle, as [`Cache::set`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// let name = String::from("Ada");
    /// users.set(42, &name)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::set_with`].
    #[doc(alias = "insert")]
    pub fn set<By, ByV>(&self, key: impl KeyOf<K, By>, value: impl ValueOf<V, ByV>) -> Result<()> {
        let value = value.into_value();
        poll_ready(
            self.cache
                .engine
                .set(self.key(&key), value, self.settings.options()),
        )
    }

    /// Stores a value like [`set`](Self::set), with more options; a `Duration` is a TTL.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let users = cache.typed::<u64, String>("user");
    /// users.set_with(42, "Ada", Duration::from_secs(60))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::set_with`].
    pub fn set_with<By, ByV>(
        &self,
        key: impl KeyOf<K, By>,
        value: impl ValueOf<V, ByV>,
        options: impl Into<Options>,
    ) -> Result<()> {
        let options = self.settings.options_with(options);
        let value = value.into_value();
        poll_ready(self.cache.engine.set(self.key(&key), value, &options))
    }

    /// Stores several values in one round trip to each server, as [`Cache::set_many`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set_many([(1, "Ada"), (2, "Grace")])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::set_many_with`].
    pub fn set_many<By, ByV>(
        &self,
        entries: impl IntoIterator<Item = (impl KeyOf<K, By>, impl ValueOf<V, ByV>)>,
    ) -> Result<()> {
        let entries = self.entries(entries);
        poll_ready(self.cache.engine.set_many(entries, self.settings.options()))
    }

    /// Stores several values like [`set_many`](Self::set_many), with more options for all of them.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let users = cache.typed::<u64, String>("user");
    /// users.set_many_with([(1, "Ada"), (2, "Grace")], Duration::from_secs(60))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::set_many_with`].
    pub fn set_many_with<By, ByV>(
        &self,
        entries: impl IntoIterator<Item = (impl KeyOf<K, By>, impl ValueOf<V, ByV>)>,
        options: impl Into<Options>,
    ) -> Result<()> {
        let options = self.settings.options_with(options);
        let entries = self.entries(entries);
        poll_ready(self.cache.engine.set_many(entries, &options))
    }

    /// Stores a value if the key has no live entry, as [`Cache::add`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert!(users.add(42, "Ada")?);
    /// assert!(!users.add(42, "Grace")?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::add_with`].
    pub fn add<By, ByV>(
        &self,
        key: impl KeyOf<K, By>,
        value: impl ValueOf<V, ByV>,
    ) -> Result<bool> {
        let value = value.into_value();
        poll_ready(
            self.cache
                .engine
                .add(self.key(&key), value, self.settings.options()),
        )
    }

    /// Stores a value like [`add`](Self::add), with more options.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let locks = cache.typed::<u64, String>("lock");
    /// assert!(locks.add_with(42, "worker-7", Duration::from_secs(10))?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::add_with`].
    pub fn add_with<By, ByV>(
        &self,
        key: impl KeyOf<K, By>,
        value: impl ValueOf<V, ByV>,
        options: impl Into<Options>,
    ) -> Result<bool> {
        let options = self.settings.options_with(options);
        let value = value.into_value();
        poll_ready(self.cache.engine.add(self.key(&key), value, &options))
    }

    /// Removes an entry, and returns whether there was a live one, as [`Cache::delete`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// assert!(!users.delete(42)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    #[doc(alias = "remove")]
    pub fn delete<By>(&self, key: impl KeyOf<K, By>) -> Result<bool> {
        self.cache.delete(self.key(&key))
    }

    /// Removes several entries, and returns how many of them were live, as [`Cache::delete_many`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(1, "Ada")?;
    /// assert_eq!(users.delete_many([1, 2])?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; some of the entries may have been removed.
    pub fn delete_many<By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
    ) -> Result<usize> {
        self.cache.delete_many(self.keys(keys))
    }

    /// Gives a live entry a new TTL, as [`Cache::touch`]. [`Ttl::Default`] is the TTL of this handle.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let sessions = cache.typed::<String, u64>("session");
    /// sessions.set("x7f", 42)?;
    /// assert!(sessions.touch("x7f", Duration::from_secs(3600))?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::touch`].
    pub fn touch<By>(&self, key: impl KeyOf<K, By>, ttl: impl Into<Ttl>) -> Result<bool> {
        self.cache.touch(self.key(&key), self.settings.ttl(ttl))
    }

    /// Returns what is left of the TTL of a live entry, as [`Cache::ttl`].
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let sessions = cache.typed::<String, u64>("session");
    /// assert_eq!(sessions.ttl("x7f")?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    pub fn ttl<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<Ttl>> {
        self.cache.ttl(self.key(&key))
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
