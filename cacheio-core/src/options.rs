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
            tags: Vec::new(),
        }
    }

    /// Names the groups that the entry belongs to: `invalidate_tags` makes all entries of a group
    /// a miss at once, in O(1).
    pub fn tags<T: Into<Cow<'static, str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
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
