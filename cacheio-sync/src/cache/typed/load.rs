//! Loads of a typed handle by the loader of a call: `get_or_set`, `fetch` and their variants.

use cacheio_core::__private::{HandleKey, LoadMode, poll_ready};
use cacheio_core::{CacheKey, Fetched, KeyOf, LoadContext, LoadError, Options, Result, Value};

use super::TypedCache;

impl<K: CacheKey, V: Value> TypedCache<K, V> {
    /// Returns the value of a live entry, or runs `load` and stores its result, as
    /// [`Cache::get_or_set`](crate::Cache::get_or_set).
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// let user = users.get_or_set(42, || String::from("Ada"));
    /// assert_eq!(user, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`Cache::get_or_set`](crate::Cache::get_or_set).
    #[doc(alias = "get_with")]
    pub fn get_or_set<By>(&self, key: impl KeyOf<K, By>, load: impl FnOnce() -> V) -> V {
        let options = self.settings.options();
        self.cache.load_infallible(self.key(&key), options, load)
    }

    /// Returns or loads a value like [`get_or_set`](Self::get_or_set), with more options.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let rates = cache.typed::<String, u32>("rate");
    /// let rate = rates.get_or_set_with("EUR", Duration::from_secs(60), || 108);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_with<By>(
        &self,
        key: impl KeyOf<K, By>,
        options: impl Into<Options>,
        load: impl FnOnce() -> V,
    ) -> V {
        let options = self.settings.options_with(options);
        self.cache.load_infallible(self.key(&key), &options, load)
    }

    /// Returns or loads a value like [`get_or_set`](Self::get_or_set), with a `load` that may fail.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let ports = cache.typed::<String, u16>("port");
    /// let port = ports.get_or_try_set("http", || "80x".parse());
    /// assert_eq!(port.unwrap_err().to_string(), "invalid digit found in string");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::get_or_try_set`](crate::Cache::get_or_try_set).
    ///
    /// # Panics
    ///
    /// Panics in the caller whose `load` panics; one of the waiters then runs its own `load`.
    #[doc(alias = "try_get_with")]
    pub fn get_or_try_set<E: Send + Sync + 'static, By>(
        &self,
        key: impl KeyOf<K, By>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let options = self.settings.options();
        let loaded = self
            .cache
            .load(self.key(&key), options, LoadMode::FALLIBLE, load);
        loaded.map_err(LoadError::from)
    }

    /// Returns or loads a value like [`get_or_try_set`](Self::get_or_try_set), with more options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let ports = cache.typed::<String, u16>("port");
    /// let minute = Duration::from_secs(60);
    /// let port = ports.get_or_try_set_with("http", minute, || "80".parse())?;
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
    pub fn get_or_try_set_with<E: Send + Sync + 'static, By>(
        &self,
        key: impl KeyOf<K, By>,
        options: impl Into<Options>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let options = self.settings.options_with(options);
        let loaded = self
            .cache
            .load(self.key(&key), &options, LoadMode::FALLIBLE, load);
        loaded.map_err(LoadError::from)
    }

    /// Returns or loads a value with a `load` that can continue in the background, as
    /// [`Cache::fetch`](crate::Cache::fetch).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let ports = cache.typed::<String, u16>("port");
    /// let port = ports.fetch("http", |_| "80".parse())?;
    /// assert_eq!(port, 80);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::fetch`](crate::Cache::fetch).
    ///
    /// # Panics
    ///
    /// Panics like [`Cache::fetch`](crate::Cache::fetch).
    pub fn fetch<E: Send + Sync + 'static, By>(
        &self,
        key: impl KeyOf<K, By>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        self.fetch_key(&key, self.settings.options(), load)
    }

    /// Returns or loads a value like [`fetch`](Self::fetch), with more options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let ports = cache.typed::<String, u16>("port");
    /// let minute = Duration::from_secs(60);
    /// let port = ports.fetch_with("http", minute, |_| "80".parse())?;
    /// assert_eq!(port, 80);
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
    pub fn fetch_with<E: Send + Sync + 'static, By>(
        &self,
        key: impl KeyOf<K, By>,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        let options = self.settings.options_with(options);
        self.fetch_key(&key, &options, load)
    }

    /// Returns or loads a value together with its source and its age, as
    /// [`Cache::fetch_entry`](crate::Cache::fetch_entry).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use cacheio::Source;
    ///
    /// let ports = cache.typed::<String, u16>("port");
    /// let port = ports.fetch_entry("http", |_| "80".parse())?;
    /// assert_eq!((port.value, port.source), (80, Source::Loaded));
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
    pub fn fetch_entry<E: Send + Sync + 'static, By>(
        &self,
        key: impl KeyOf<K, By>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        let options = self.settings.options().clone();
        self.cache.fetch_entry_with(self.key(&key), options, load)
    }

    /// Returns or loads a value like [`fetch_entry`](Self::fetch_entry), with more options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let ports = cache.typed::<String, u16>("port");
    /// let minute = Duration::from_secs(60);
    /// let port = ports.fetch_entry_with("http", minute, |_| "80".parse())?;
    /// assert_eq!(port.age, Some(Duration::ZERO));
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
    pub fn fetch_entry_with<E: Send + Sync + 'static, By>(
        &self,
        key: impl KeyOf<K, By>,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        let options = self.settings.options_with(options);
        self.cache.fetch_entry_with(self.key(&key), options, load)
    }

    /// Returns the values of many keys, and loads all that are missing with one call of `load`, as
    /// [`Cache::get_or_set_many`](crate::Cache::get_or_set_many).
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(1, "Ada")?;
    /// let found = users.get_or_set_many([1, 2], |missing|
    ///     missing.into_iter().map(|id| (id, format!("user {id}"))).collect::<Vec<_>>()
    /// );
    /// assert_eq!(found, [Some("Ada".into()), Some("user 2".into())]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_many<L: IntoIterator<Item = (K, V)>, By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
        load: impl FnMut(Vec<K>) -> L,
    ) -> Vec<Option<V>> {
        self.get_or_set_many_with(keys, Options::new(), load)
    }

    /// Returns or loads many values like [`get_or_set_many`](Self::get_or_set_many), with more options.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let rates = cache.typed::<String, u32>("rate");
    /// let minute = Duration::from_secs(60);
    /// let found = rates.get_or_set_many_with(["EUR", "USD"], minute, |missing|
    ///     missing.into_iter().map(|currency| (currency, 108)).collect::<Vec<_>>()
    /// );
    /// assert_eq!(found, [Some(108), Some(108)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_many_with<L: IntoIterator<Item = (K, V)>, By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
        options: impl Into<Options>,
        mut load: impl FnMut(Vec<K>) -> L,
    ) -> Vec<Option<V>> {
        let options = self.settings.options_with(options);
        let load = |missing| self.handle_keys(load(ids(missing)));
        self.cache
            .get_or_set_many_with(self.keys(keys), options, load)
    }

    /// Returns or loads many values like [`get_or_set_many`](Self::get_or_set_many), with a `load` that may fail, as
    /// [`Cache::get_or_try_set_many`](crate::Cache::get_or_try_set_many).
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let ports = cache.typed::<String, u16>("port");
    /// ports.set("http", 80)?;
    /// let found = ports.get_or_try_set_many(["http", "gopher"], |missing|
    ///     Err::<Vec<_>, _>(format!("no port for {missing:?}"))
    /// );
    /// assert_eq!(found[0].as_ref().unwrap(), &Some(80));
    /// assert_eq!(found[1].as_ref().unwrap_err().to_string(), r#"no port for ["gopher"]"#);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_try_set`](Self::get_or_try_set).
    pub fn get_or_try_set_many<E, L, By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
        load: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
    {
        self.get_or_try_set_many_with(keys, Options::new(), load)
    }

    /// Returns or loads many values like [`get_or_try_set_many`](Self::get_or_try_set_many), with more options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let ports = cache.typed::<String, u16>("port");
    /// let minute = Duration::from_secs(60);
    /// let found = ports.get_or_try_set_many_with(["80", "443"], minute, |missing| {
    ///     let parse = |text: String| text.parse::<u16>().map(|port| (text, port));
    ///     missing.into_iter().map(parse).collect::<Result<Vec<_>, _>>()
    /// });
    /// let ports = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(ports, [Some(80), Some(443)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_try_set`](Self::get_or_try_set).
    pub fn get_or_try_set_many_with<E, L, By>(
        &self,
        keys: impl IntoIterator<Item = impl KeyOf<K, By>>,
        options: impl Into<Options>,
        mut load: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
    {
        let options = self.settings.options_with(options);
        let load = |missing| load(ids(missing)).map(|loaded| self.handle_keys(loaded));
        self.cache
            .get_or_try_set_many_with(self.keys(keys), options, load)
    }

    /// Fetches a value with these options.
    pub(super) fn fetch_key<E: Send + Sync + 'static, By>(
        &self,
        key: &impl KeyOf<K, By>,
        options: &Options,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        let engine = &self.cache.engine;
        match engine.probe_to_load::<V>(&self.key(key), options) {
            Ok(value) => Ok(value),
            Err(missed) => {
                let mode = LoadMode::FALLIBLE;
                let load = || |context| async { load(context) };
                Ok(poll_ready(engine.fetch(missed, options, mode, load))?.value)
            }
        }
    }

    fn handle_keys(
        &self,
        loaded: impl IntoIterator<Item = (K, V)>,
    ) -> impl Iterator<Item = (HandleKey<'_, K>, V)> {
        let loaded = loaded.into_iter();
        loaded.map(|(key, value)| (self.settings.key(key), value))
    }
}

/// Returns the keys as the loader gets them.
fn ids<K>(keys: Vec<HandleKey<'_, K>>) -> Vec<K> {
    keys.into_iter().map(|key| key.key).collect()
}
