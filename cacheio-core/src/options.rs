//! What one call asks for.

use std::borrow::Cow;
use std::time::Duration;

use crate::Ttl;

/// What one call asks for, where it differs from what the cache was built with.
///
/// Every method whose name ends in `_with` takes `impl Into<Options>`; a [`Duration`] and a
/// [`Ttl`] are options.
///
/// # Defaults
///
/// - `ttl`: the cache's default
/// - `tags`: none
/// - `jitter`, `stale_for`, `retry_after`: the cache's
///
/// ```
/// use cacheio_core::Options;
/// use std::time::Duration;
///
/// let options = Options::ttl(Duration::from_secs(60)).tags(["users", "team:7"]);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Options {
    pub(crate) ttl: Ttl,
    pub(crate) tags: Vec<Cow<'static, str>>,
    pub(crate) jitter: Option<f64>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) retry_after: Option<Duration>,
}

impl Options {
    /// Everything as the cache was built.
    pub fn new() -> Self {
        Self::default()
    }

    /// Options with a TTL: a [`Duration`] or a [`Ttl`].
    pub fn ttl(ttl: impl Into<Ttl>) -> Self {
        Self {
            ttl: ttl.into(),
            ..Self::default()
        }
    }

    /// Names the groups that the entry belongs to: `invalidate_tags` makes all entries of a group
    /// a miss at once, in O(1).
    pub fn tags<T: Into<Cow<'static, str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Lets the entry expire earlier, by a random part of this fraction (0 to 1) of its TTL.
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = Some(fraction);
        self
    }

    /// For how long after its TTL the entry is served when the load that is to replace it fails.
    /// Zero: not at all.
    ///
    /// It is never served later than its TTL and this together, counted from the load that made
    /// it. A `set` keeps its entry so long only if it is told so here, a load also if the cache
    /// is.
    ///
    /// ```
    /// use cacheio_core::Options;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let options = Options::ttl(minute).stale_for(minute * 60);
    /// ```
    pub fn stale_for(mut self, duration: Duration) -> Self {
        self.stale_for = Some(duration);
        self
    }

    /// How long after a failed load, for which something stale was served, none is tried again.
    pub fn retry_after(mut self, duration: Duration) -> Self {
        self.retry_after = Some(duration);
        self
    }
}

impl From<Duration> for Options {
    fn from(ttl: Duration) -> Self {
        Self::ttl(ttl)
    }
}

impl From<Ttl> for Options {
    fn from(ttl: Ttl) -> Self {
        Self::ttl(ttl)
    }
}
