//! Atomic changes of a typed handle: `update`, `take` and counters.

use cacheio_core::__private::poll_ready;
use cacheio_core::{CacheKey, KeyOf, Options, Result, Update, Value};

use super::TypedCache;

impl<K: CacheKey, V: Value> TypedCache<K, V> {
    /// Reads the value of a key and stores what `update` makes of it, as [`Cache::update`](crate::Cache::update).
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use cacheio::Update;
    ///
    /// let names = cache.typed::<u64, Vec<String>>("names");
    /// let names = names.update(42, |names| {
    ///     let mut names = names.unwrap_or_default();
    ///     names.push("Ada".into());
    ///     Update::Set(names)
    /// })?;
    /// assert_eq!(names.unwrap(), ["Ada"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::update_with`](crate::Cache::update_with).
    #[doc(alias = "compute")]
    pub fn update<By>(
        &self,
        key: impl KeyOf<K, By>,
        update: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<V>> {
        let options = self.settings.options();
        poll_ready(self.cache.engine.update(self.key(&key), options, update))
    }

    /// Updates the value of a key like [`update`](Self::update), with more options for a new entry.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use cacheio::Update;
    /// use std::time::Duration;
    ///
    /// let attempts = cache.typed::<String, u32>("attempts");
    /// let attempt = |attempts: Option<u32>| Update::Set(attempts.unwrap_or(0) + 1);
    /// let attempts = attempts.update_with("ada", Duration::from_secs(60), attempt)?;
    /// assert_eq!(attempts, Some(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::update_with`](crate::Cache::update_with).
    pub fn update_with<By>(
        &self,
        key: impl KeyOf<K, By>,
        options: impl Into<Options>,
        update: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<V>> {
        let options = self.settings.options_with(options);
        poll_ready(self.cache.engine.update(self.key(&key), &options, update))
    }

    /// Removes an entry, and returns its value if it was live, as [`Cache::take`](crate::Cache::take).
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let tokens = cache.typed::<String, u64>("token");
    /// tokens.set("x7f", 42)?;
    /// assert_eq!(tokens.take("x7f")?, Some(42));
    /// assert_eq!(tokens.take("x7f")?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::take`](crate::Cache::take).
    #[doc(alias = "pop")]
    pub fn take<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<V>> {
        self.cache.take(self.key(&key))
    }
}

/// Counters are integers of the type `i64`.
impl<K: CacheKey> TypedCache<K, i64> {
    /// Adds `by` to an integer atomically, and returns the new value, as
    /// [`Cache::increment`](crate::Cache::increment).
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let visits = cache.typed::<String, i64>("visits");
    /// assert_eq!(visits.increment("/", 1)?, 1);
    /// assert_eq!(visits.get("/")?, Some(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::increment`](crate::Cache::increment).
    #[doc(alias = "incr")]
    pub fn increment<By>(&self, key: impl KeyOf<K, By>, by: i64) -> Result<i64> {
        self.add_to(&key, Some(by), self.settings.options())
    }

    /// Adds to an integer like [`increment`](Self::increment), with more options for a missing entry.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let calls = cache.typed::<String, i64>("calls");
    /// assert_eq!(calls.increment_with("10.0.0.1", 1, Duration::from_secs(60))?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    pub fn increment_with<By>(
        &self,
        key: impl KeyOf<K, By>,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        let options = self.settings.options_with(options);
        self.add_to(&key, Some(by), &options)
    }

    /// Subtracts `by` from an integer like [`increment`](Self::increment).
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// let stock = cache.typed::<u64, i64>("stock");
    /// assert_eq!(stock.decrement(42, 3)?, -3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    #[doc(alias = "decr")]
    pub fn decrement<By>(&self, key: impl KeyOf<K, By>, by: i64) -> Result<i64> {
        self.add_to(&key, by.checked_neg(), self.settings.options())
    }

    /// Subtracts from an integer like [`decrement`](Self::decrement), with more options for a missing entry.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::memory_cache();
    /// use std::time::Duration;
    ///
    /// let tickets = cache.typed::<u64, i64>("tickets");
    /// assert_eq!(tickets.decrement_with(42, 1, Duration::from_secs(60))?, -1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    pub fn decrement_with<By>(
        &self,
        key: impl KeyOf<K, By>,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        let options = self.settings.options_with(options);
        self.add_to(&key, by.checked_neg(), &options)
    }

    fn add_to<By>(
        &self,
        key: &impl KeyOf<K, By>,
        by: Option<i64>,
        options: &Options,
    ) -> Result<i64> {
        poll_ready(self.cache.engine.increment(self.key(key), by, options))
    }
}
