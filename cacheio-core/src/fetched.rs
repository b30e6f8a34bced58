//! What `fetch` gives its loader, and its caller.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Ttl;

/// A value, and where it came from: what `fetch_entry` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched<V> {
    /// The value.
    pub value: V,
    /// Where it came from.
    pub source: Source,
    /// How long ago it was made; none where that is not known: of what was stored by other means
    /// than `fetch_entry`, without `stale_for` or `refresh_ahead`.
    pub age: Option<Duration>,
}

impl<V> Fetched<V> {
    pub(crate) fn new(value: V, source: Source, age: Option<Duration>) -> Self {
        Self { value, source, age }
    }
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A live entry.
    Hit,
    /// This call's own load.
    Loaded,
    /// An entry past its TTL: its load failed, or takes longer than a timeout.
    Stale,
    /// Another call's load, which this one waited for.
    Waited,
}

/// What a loader is told, and what it may say about its value.
///
/// ```
/// use cacheio::LoadContext;
/// use std::time::Duration;
///
/// struct Response { body: String, max_age: Duration }
/// # fn get() -> Response { Response { body: "…".into(), max_age: Duration::ZERO } }
///
/// // How long it lives, the origin says.
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

/// What a loader asked for through its context.
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

    /// Whether the loader may have returned the previous value.
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

    /// Gives the value that is being loaded another TTL: a [`Duration`] or a [`Ttl`].
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

    /// The value that is being loaded is not stored, and what it was to replace goes. Those who wait
    /// for it get it.
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

    /// The value that is to be replaced, if one was found: for conditional requests. With
    /// [`force_refresh`](crate::Options::force_refresh), nothing is looked for.
    ///
    /// ```
    /// use cacheio::{CacheFactory, Options};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let options = Options::ttl(Duration::from_millis(1)).stale_for(Duration::from_secs(60));
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

    /// The value that is to be replaced, to be returned: when the origin says that it has not
    /// changed. It is stored as if it were new, with a whole TTL before it.
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
