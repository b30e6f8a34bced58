//! Loads of many keys at once: `get_or_set_many` and `get_or_try_set_many`.

use std::convert::Infallible;
use std::future::ready;

use cacheio_core::__private::{LoadMode, poll_ready};
use cacheio_core::{CacheKey, LoadError, Options, Result, Value};

use super::Cache;

impl Cache {
    /// Returns the values of many keys, and loads all that are missing with one call of `load`.
    ///
    /// The results have the order of the keys. The whole call takes one read from the store (one
    /// round trip to each server), one call of `load`, and one write. `load` gets the keys that miss
    /// and, with [`refresh_ahead`](Options::refresh_ahead), those whose live entries are due. A key
    /// that it leaves out has no value: its result is `None`, and an entry that it had is removed.
    ///
    /// A key that another thread is already loading, alone or in a batch, is waited for and not loaded
    /// twice. `load` is called once more only for keys whose other loads failed to produce a value.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set(("user", 1), "Ada")?;
    /// let users: Vec<Option<String>> = cache.get_or_set_many(
    ///     [("user", 1), ("user", 2), ("user", 3)],
    ///     // One query for users 2 and 3, of which only 2 exists.
    ///     |missing| missing.into_iter().filter(|key| key.1 < 3).map(|key| (key, String::from("Eve"))),
    /// );
    /// assert_eq!(users, [Some("Ada".into()), Some("Eve".into()), None]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_many<K: CacheKey, V: Value, L: IntoIterator<Item = (K, V)>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: impl FnMut(Vec<K>) -> L,
    ) -> Vec<Option<V>> {
        self.get_or_set_many_with(keys, Options::new(), load)
    }

    /// Returns or loads many values like [`get_or_set_many`](Self::get_or_set_many), with options
    /// for the load and its entries.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let rates: Vec<Option<u32>> = cache.get_or_set_many_with(["EUR", "USD"], minute, |missing| {
    ///     missing.into_iter().map(|currency| (currency, 108)).collect::<Vec<_>>()
    /// });
    /// assert_eq!(rates, [Some(108), Some(108)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_many_with<K: CacheKey, V: Value, L: IntoIterator<Item = (K, V)>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Into<Options>,
        mut load: impl FnMut(Vec<K>) -> L,
    ) -> Vec<Option<V>> {
        let load = |missing| ready(Ok::<_, Infallible>(load(missing)));
        let mode = LoadMode::INFALLIBLE;
        poll_ready(self.engine.load_many(keys, &options.into(), mode, load))
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|failure| failure.panic()))
            .collect()
    }

    /// Returns or loads many values like [`get_or_set_many`](Self::get_or_set_many), with a `load`
    /// that may fail.
    ///
    /// Only the keys that were to be loaded get the error; the values that were found are returned.
    /// Collect into a `Result` to get either all values or the error.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("a", 1)?;
    /// let results = cache.get_or_try_set_many(["a", "b"], |missing| {
    ///     Err::<Vec<(&str, i32)>, String>(format!("cannot load {missing:?}"))
    /// });
    /// assert_eq!(results[0].as_ref().unwrap(), &Some(1));
    /// assert_eq!(results[1].as_ref().unwrap_err().to_string(), r#"cannot load ["b"]"#);
    ///
    /// let all: Result<Vec<Option<i32>>, _> = results.into_iter().collect();
    /// assert!(all.is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_try_set`](Self::get_or_try_set).
    pub fn get_or_try_set_many<K, V, E, L>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
    {
        self.get_or_try_set_many_with(keys, Options::new(), load)
    }

    /// Returns or loads many values like [`get_or_try_set_many`](Self::get_or_try_set_many), with
    /// options for the load and its entries.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let results = cache.get_or_try_set_many_with(["80", "443"], minute, |missing| {
    ///     let parse = |text: &'static str| text.parse::<u16>().map(|port| (text, port));
    ///     missing.into_iter().map(parse).collect::<Result<Vec<_>, _>>()
    /// });
    /// let ports = results.into_iter().collect::<Result<Vec<Option<u16>>, _>>()?;
    /// assert_eq!(ports, [Some(80), Some(443)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_try_set`](Self::get_or_try_set).
    pub fn get_or_try_set_many_with<K, V, E, L>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Into<Options>,
        mut load: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
    {
        let load = |missing| ready(load(missing));
        let mode = LoadMode::FALLIBLE;
        poll_ready(self.engine.load_many(keys, &options.into(), mode, load))
            .into_iter()
            .map(|answer| answer.map_err(LoadError::from))
            .collect()
    }
}
