//! The context of a loader, and the result of `fetch_entry`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Ttl;

/// The result of `fetch_entry`: a value and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched<V> {
    /// The value.
    pub value: V,
    /// Where the value came from.
    pub source: Source,
    /// The time since the value was loaded or set. `None` if the entry does not record it: it was
    /// stored by another call than `fetch_entry`, without `stale_for` and `refresh_ahead`.
    pub age: Option<Duration>,
}

impl<V> Fetched<V> {
    pub(crate) fn new(value: V, source: Source, age: Option<Duration>) -> Self {
        Self { value, source, age }
    }
}

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A live entry.
    Hit,
    /// The load of this call.
    Loaded,
    /// A stale entry: the load failed, or took longer than a timeout.
    Stale,
    /// The load of another call, for which this call waited.
    Waited,
}

/// The argument of a loader in `fetch`: gives access to the previous value, and controls how the new
/// value is stored.
///
/// ```
/// use cacheio::LoadContext;
/// use std::time::Duration;
///
/// struct Response { body: String, max_age: Duration }
/// # fn get() -> Response { Response { body: "…".into(), max_age: Duration::ZERO } }
///
/// // The origin decides the TTL.
/// fn load(context: LoadContext<String>) -> String {
///     let response = get();
///     context.ttl(response.max_age);
///     response.body
/// }
/// ```
#[derive(Debug)]
pub struct LoadContext<V> {
    previous: Option<Arc<V>>,
    directives: LoadDirectives,
}

/// The settings that a loader made through its context.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadDirectives(Arc<Mutex<Directives>>);

#[derive(Debug, Default)]
struct Directives {
    ttl: Option<Ttl>,
    is_unmodified: bool,
}

impl LoadDirectives {
    fn lock(&self) -> MutexGuard<'_, Directives> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ttl(&self) -> Option<Ttl> {
        self.lock().ttl
    }

    /// Returns whether the loader may have returned the previous value.
    pub(crate) fn is_unmodified(&self) -> bool {
        self.lock().is_unmodified
    }
}

impl<V> LoadContext<V> {
    pub(crate) fn new(previous: Option<Arc<V>>, directives: LoadDirectives) -> Self {
        Self {
            previous,
            directives,
        }
    }

    /// Sets the TTL of the loaded value: a [`Duration`] or a [`Ttl`].
    ///
    /// ```
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let rate: u32 = cache.fetch("rate", |context| {
    ///     context.ttl(Duration::from_secs(10));
    ///     Ok::<_, std::io::Error>(108)
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ttl(&self, ttl: impl Into<Ttl>) {
        self.directives.lock().ttl = Some(ttl.into());
    }

    /// Keeps the loaded value out of the cache, and removes the entry that it would have replaced. The
    /// callers get the value.
    ///
    /// ```
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let page: String = cache.fetch("page", |context| {
    ///     context.skip();
    ///     Ok::<_, std::io::Error>(String::from("try again later"))
    /// })?;
    /// assert!(!cache.has("page")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip(&self) {
        self.ttl(Duration::ZERO);
    }

    /// Returns the value that the load will replace, if there is one: for conditional requests.
    ///
    /// With [`force_refresh`](crate::Options::force_refresh) the cache does not look for it.
    ///
    /// ```
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let options = Options::new().ttl(Duration::from_millis(1)).stale_for(Duration::from_secs(60));
    /// cache.set_with("version", 1_u32, options.clone())?;
    /// std::thread::sleep(Duration::from_millis(50));
    ///
    /// let version = cache.fetch_with("version", options, |context| {
    ///     Ok::<u32, std::io::Error>(context.stale().map_or(0, |version| version + 1))
    /// })?;
    /// assert_eq!(version, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stale(&self) -> Option<&V> {
        self.previous.as_deref()
    }

    /// Returns the value that the load will replace, for a loader whose origin reports no change.
    ///
    /// When the loader returns it, it is stored like a new value, with a new TTL.
    ///
    /// ```
    /// use cacheio::LoadContext;
    ///
    /// # #[derive(Clone)]
    /// struct Page { etag: String, body: String }
    /// # fn get_if_none_match(_: Option<&str>) -> Option<Page> { None }
    ///
    /// fn load(context: LoadContext<Page>) -> Option<Page> {
    ///     let etag = context.stale().map(|page| page.etag.as_str());
    ///     // None for a "304 Not Modified".
    ///     get_if_none_match(etag).or_else(|| context.not_modified())
    /// }
    /// ```
    pub fn not_modified(&self) -> Option<V>
    where
        V: Clone,
    {
        let previous = self.stale().cloned();
        self.directives.lock().is_unmodified |= previous.is_some();
        previous
    }
}
