//! Loads of single keys: `get_or_set`, `get_or_try_set`, `fetch` and `fetch_entry`.

use std::convert::Infallible;

use cacheio_core::__private::{DEFAULT_OPTIONS, Failure, LoadMode, Loaded, MissedKey, poll_ready};
use cacheio_core::{CacheKey, Fetched, LoadContext, LoadError, Options, Result, Value};

use super::Cache;

impl Cache {
    /// Returns the value of a live entry, or runs `load` and stores its result.
    ///
    /// When many threads miss a key at the same time, one of them runs its `load`; the others wait
    /// for the result. If the key is written, deleted or invalidated during the load, the result is
    /// returned and not stored. A failing store does not fail the call: `load` runs, and the
    /// failure is counted and logged.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let user: String = cache.get_or_set(("user", 42), || String::from("Ada"));
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
    pub fn get_or_set<V: Value>(&self, key: impl CacheKey, load: impl FnOnce() -> V) -> V {
        self.load_infallible(key, &DEFAULT_OPTIONS, load)
    }

    /// Returns or loads a value like [`get_or_set`](Self::get_or_set), with options for the load
    /// and its entry.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let rate: u32 = cache.get_or_set_with(("rate", "EUR"), minute, || 108);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_with<V: Value>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce() -> V,
    ) -> V {
        self.load_infallible(key, &options.into(), load)
    }

    #[inline]
    pub(super) fn load_infallible<V: Value>(
        &self,
        key: impl CacheKey,
        options: &Options,
        load: impl FnOnce() -> V,
    ) -> V {
        let load = || Ok::<_, Infallible>(load());
        match self.load(key, options, LoadMode::INFALLIBLE, load) {
            Ok(value) => value,
            Err(failure) => failure.panic(),
        }
    }

    /// Returns or loads a value like [`get_or_set`](Self::get_or_set), with a `load` that may fail.
    ///
    /// A failed load stores nothing, and every waiter gets its error.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let port = cache.get_or_try_set("port", || "80x".parse::<u16>());
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
    pub fn get_or_try_set<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        self.load(key, &DEFAULT_OPTIONS, LoadMode::FALLIBLE, load)
            .map_err(LoadError::from)
    }

    /// Returns or loads a value like [`get_or_try_set`](Self::get_or_try_set), with options for the
    /// load and its entry.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let options = Options::new().ttl(Duration::from_secs(60)).tags(["ports"]);
    /// let load = || "80".parse::<u16>();
    /// let port: u16 = cache.get_or_try_set_with("port", options, load)?;
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
    pub fn get_or_try_set_with<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        self.load(key, &options.into(), LoadMode::FALLIBLE, load)
            .map_err(LoadError::from)
    }

    #[inline]
    pub(super) fn load<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: &Options,
        mode: LoadMode,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, Failure<E>> {
        match self.engine.probe_to_load::<V>(&key, options) {
            Ok(value) => Ok(value),
            Err(missed) => self.load_missed(missed, options, mode, load),
        }
    }

    /// Loads after a look-up in memory that found no value. A hit in memory does not pay for its
    /// stack.
    #[inline(never)]
    fn load_missed<V: Value, E: Send + Sync + 'static>(
        &self,
        missed: MissedKey,
        options: &Options,
        mode: LoadMode,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, Failure<E>> {
        let loader = || async { load().map(Loaded::from) };
        poll_ready(self.engine.load(missed, options, mode, loader))
    }

    /// Returns or loads a value like [`get_or_try_set`](Self::get_or_try_set), with a `load` that
    /// can continue in the background.
    ///
    /// `load` must own what it uses. In return, `soft_timeout`, `hard_timeout`, `max_load` and
    /// `refresh_ahead` of the cache or of the call's [`Options`] hold for every caller. In
    /// `get_or_set` and `get_or_try_set`, whose `load` may borrow, the caller that runs the load
    /// waits until it ends; the other callers are served as here. The [`LoadContext`] tells `load`
    /// which value it replaces, and lets it choose the TTL of its own.
    ///
    /// `load` runs in the background when a timeout applies or when it refreshes a live entry, on a
    /// thread of the cache: normally at most 16, and up to 256 if loads hang, started when needed and
    /// stopped after 10 s without work.
    /// Otherwise it runs in its caller. A thread cannot be stopped: a load that hangs keeps its
    /// thread, and its key until [`max_load`](Options::max_load), which has no limit by default.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let port: u16 = cache.fetch("port", |_| { "80".parse() })?;
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
    pub fn fetch<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        self.fetch_with(key, Options::new(), load)
    }

    /// Returns or loads a value like [`fetch`](Self::fetch), with options for the load and its
    /// entry.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let options = Options::new().ttl(minute)
    ///     .refresh_ahead(0.8)
    ///     .stale_for(60 * minute)
    ///     .soft_timeout(Duration::from_millis(100))
    ///     .hard_timeout(Duration::from_secs(2));
    /// let user = cache.fetch_with(("user", 42), options, |context| {
    ///     // A new user may change soon.
    ///     context.ttl(Duration::from_secs(10));
    ///     Ok::<_, std::io::Error>(String::from("Ada"))
    /// })?;
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
    pub fn fetch_with<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        let options = options.into();
        match self.engine.probe_to_load::<V>(&key, &options) {
            Ok(value) => Ok(value),
            Err(missed) => {
                let load = || |context| async { load(context) };
                let fetched = self
                    .engine
                    .fetch(missed, &options, LoadMode::FALLIBLE, load);
                Ok(poll_ready(fetched)?.value)
            }
        }
    }

    /// Returns or loads a value like [`fetch`](Self::fetch), together with its source and its age.
    ///
    /// A hit in memory takes about twice as long as with `fetch`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::{CacheFactory, Source};
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let port = cache.fetch_entry("port", |_| { "80".parse::<u16>() })?;
    /// assert_eq!((port.value, port.source), (80, Source::Loaded));
    ///
    /// let port = cache.fetch_entry("port", |_| { "80".parse::<u16>() })?;
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
    pub fn fetch_entry<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        self.fetch_entry_with(key, Options::new(), load)
    }

    /// Returns or loads a value like [`fetch_entry`](Self::fetch_entry), with options for the load
    /// and its entry.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let minute = Duration::from_secs(60);
    /// let page = cache.fetch_entry_with("page", minute, |_| {
    ///     Ok::<_, std::io::Error>(String::from("<html>…"))
    /// })?;
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
    pub fn fetch_entry_with<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        let options = options.into();
        match self.engine.probe_to_fetch::<V>(&key, &options) {
            Ok(fetched) => Ok(fetched),
            Err(missed) => {
                let load = || |context| async { load(context) };
                let fetched = self.engine.fetch(missed, &options, LoadMode::DATED, load);
                poll_ready(fetched).map_err(LoadError::from)
            }
        }
    }
}
