//! Atomic changes of a typed handle: `update`, `take` and counters.

use cacheio_core::{CacheKey, KeyOf, Options, Result, Update, Value};

use super::AsyncTypedCache;

impl<K: CacheKey, V: Value> AsyncTypedCache<K, V> {
    /// Reads the value of a key and stores what `update` makes of it, as [`AsyncCache::update`](crate::AsyncCache::update).
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use cacheio::Update;
    ///
    /// let names = cache.typed::<u64, Vec<String>>("names");
    /// let names = names.update(42, |names| {
    ///     let mut names = names.unwrap_or_default();
    ///     names.push("Ada".into());
    ///     Update::Set(names)
    /// }).await?;
    /// assert_eq!(names.unwrap(), ["Ada"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::update_with`](crate::AsyncCache::update_with).
    #[doc(alias = "compute")]
    pub async fn update<By>(
        &self,
        key: impl KeyOf<K, By>,
        update: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<V>> {
        let options = self.settings.options();
        self.cache
            .engine
            .update(self.key(&key), options, update)
            .await
    }

    /// Updates the value of a key like [`update`](Self::update), with more options for a new entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use cacheio::Update;
    /// use std::time::Duration;
    ///
    /// let attempts = cache.typed::<String, u32>("attempts");
    /// let attempt = |attempts: Option<u32>| Update::Set(attempts.unwrap_or(0) + 1);
    /// let attempts = attempts.update_with("ada", Duration::from_secs(60), attempt).await?;
    /// assert_eq!(attempts, Some(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::update_with`](crate::AsyncCache::update_with).
    pub async fn update_with<By>(
        &self,
        key: impl KeyOf<K, By>,
        options: impl Into<Options>,
        update: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<V>> {
        let options = self.settings.options_with(options);
        self.cache
            .engine
            .update(self.key(&key), &options, update)
            .await
    }

    /// Removes an entry, and returns its value if it was live, as [`AsyncCache::take`](crate::AsyncCache::take).
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let tokens = cache.typed::<String, u64>("token");
    /// tokens.set("x7f", 42).await?;
    /// assert_eq!(tokens.take("x7f").await?, Some(42));
    /// assert_eq!(tokens.take("x7f").await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::take`](crate::AsyncCache::take).
    #[doc(alias = "pop")]
    pub async fn take<By>(&self, key: impl KeyOf<K, By>) -> Result<Option<V>> {
        self.cache.take(self.key(&key)).await
    }
}

/// Counters are integers of the type `i64`.
impl<K: CacheKey> AsyncTypedCache<K, i64> {
    /// Adds `by` to an integer atomically, and returns the new value, as
    /// [`AsyncCache::increment`](crate::AsyncCache::increment).
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let visits = cache.typed::<String, i64>("visits");
    /// assert_eq!(visits.increment("/", 1).await?, 1);
    /// assert_eq!(visits.get("/").await?, Some(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::increment`](crate::AsyncCache::increment).
    #[doc(alias = "incr")]
    pub async fn increment<By>(&self, key: impl KeyOf<K, By>, by: i64) -> Result<i64> {
        self.add_to(&key, Some(by), self.settings.options()).await
    }

    /// Adds to an integer like [`increment`](Self::increment), with more options for a missing entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use std::time::Duration;
    ///
    /// let calls = cache.typed::<String, i64>("calls");
    /// assert_eq!(calls.increment_with("10.0.0.1", 1, Duration::from_secs(60)).await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    pub async fn increment_with<By>(
        &self,
        key: impl KeyOf<K, By>,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        let options = self.settings.options_with(options);
        self.add_to(&key, Some(by), &options).await
    }

    /// Subtracts `by` from an integer like [`increment`](Self::increment).
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// let stock = cache.typed::<u64, i64>("stock");
    /// assert_eq!(stock.decrement(42, 3).await?, -3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    #[doc(alias = "decr")]
    pub async fn decrement<By>(&self, key: impl KeyOf<K, By>, by: i64) -> Result<i64> {
        self.add_to(&key, by.checked_neg(), self.settings.options())
            .await
    }

    /// Subtracts from an integer like [`decrement`](Self::decrement), with more options for a missing entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// # let cache = cacheio::CacheFactory::async_memory_cache();
    /// use std::time::Duration;
    ///
    /// let tickets = cache.typed::<u64, i64>("tickets");
    /// assert_eq!(tickets.decrement_with(42, 1, Duration::from_secs(60)).await?, -1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`increment`](Self::increment).
    pub async fn decrement_with<By>(
        &self,
        key: impl KeyOf<K, By>,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        let options = self.settings.options_with(options);
        self.add_to(&key, by.checked_neg(), &options).await
    }

    async fn add_to<By>(
        &self,
        key: &impl KeyOf<K, By>,
        by: Option<i64>,
        options: &Options,
    ) -> Result<i64> {
        self.cache
            .engine
            .increment(self.key(key), by, options)
            .await
    }
}
