//! What one call asks for.

use std::borrow::Cow;
use std::time::Duration;

use crate::config::policies::Policies;
use crate::{RefreshAhead, Ttl};

/// What one call asks for, where it differs from what the cache was built with.
///
/// Every method whose name ends in `_with` takes `impl Into<Options>`; a [`Duration`] and a
/// [`Ttl`] are options.
///
/// # Defaults
///
/// - `ttl`: the cache's default
/// - `tags`: none
/// - everything else: the cache's
///
/// ```
/// use cacheio_core::Options;
/// use std::time::Duration;
///
/// let options = Options::ttl(Duration::from_secs(60)).tags(["users", "team:7"]);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) ttl: Ttl,
    pub(crate) tags: Vec<Cow<'static, str>>,
    pub(crate) policies: Policies,
    pub(crate) force_refresh: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// The options of calls that take none.
#[doc(hidden)]
pub static DEFAULT_OPTIONS: Options = Options::new();

impl Options {
    /// Creates options that leave everything to the cache.
    pub const fn new() -> Self {
        Self {
            ttl: Ttl::Default,
            tags: Vec::new(),
            policies: Policies::NONE,
            force_refresh: false,
        }
    }

    /// Options with a TTL: a [`Duration`] or a [`Ttl`].
    pub fn ttl(ttl: impl Into<Ttl>) -> Self {
        Self {
            ttl: ttl.into(),
            ..Self::new()
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
        self.policies.jitter = Some(fraction);
        self
    }

    /// For how long after its TTL the entry is served when the load that is to replace it fails,
    /// or takes longer than a timeout. Zero: not at all.
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
        self.policies.stale_for = Some(duration);
        self
    }

    /// How long after a failed load, in whose place something older was served, none is tried
    /// again.
    pub fn retry_after(mut self, duration: Duration) -> Self {
        self.policies.retry_after = Some(duration);
        self
    }

    /// When the entry is loaded anew while it is still live: after a fraction of its TTL (a
    /// number), or by [`RefreshAhead::XFETCH`]. One caller of `fetch` or `get_or_set` starts it, all
    /// others go on reading; batches do not. An entry in memory is looked at as the call says that
    /// stored it.
    pub fn refresh_ahead(mut self, ahead: impl Into<RefreshAhead>) -> Self {
        self.policies.refresh_ahead = Some(ahead.into());
        self
    }

    /// How long to wait for a load when there is something stale to serve instead. Zero serves it
    /// at once. Batches wait.
    pub fn soft_timeout(mut self, duration: Duration) -> Self {
        self.policies.soft_timeout = Some(duration);
        self
    }

    /// How long to wait for a load in any case, where the call can say so: an infallible one waits.
    pub fn hard_timeout(mut self, duration: Duration) -> Self {
        self.policies.hard_timeout = Some(duration);
        self
    }

    /// How long a load may take before others load its key anew. Zero says nothing.
    pub fn max_load(mut self, duration: Duration) -> Self {
        self.policies.max_load = Some(duration);
        self
    }

    /// Another TTL for a loaded `None`; zero does not store it.
    ///
    /// A value is `None` if it serializes as such; a [`Local`](crate::Local) never is.
    pub fn ttl_none(mut self, ttl: impl Into<Ttl>) -> Self {
        self.policies.ttl_none = Some(ttl.into());
        self
    }

    /// Lets the entry expire when nobody has read it for so long, even before its TTL is over: the
    /// sliding expiry of sessions. Together with [`Ttl::Never`](crate::Ttl::Never), that alone
    /// ends it.
    ///
    /// `get`, `get_many` and `get_or_set` and its kin count as reading; `has` does not. Such an
    /// entry costs a hit in memory about double. On a server it carries a header, a reader moves
    /// its TTL there, with a further round trip at most eight times in this duration, and it may
    /// stay an eighth longer.
    ///
    /// ```
    /// use cacheio_core::{Options, Ttl};
    /// use std::time::Duration;
    ///
    /// let session = Options::ttl(Ttl::Never).ttl_idle(Duration::from_secs(30 * 60));
    /// ```
    pub fn ttl_idle(mut self, duration: Duration) -> Self {
        self.policies.ttl_idle = Some(duration);
        self
    }

    /// Loads, whatever the cache has.
    ///
    /// ```
    /// use cacheio_core::Options;
    ///
    /// let options = Options::new().force_refresh();
    /// ```
    pub fn force_refresh(mut self) -> Self {
        self.force_refresh = true;
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
