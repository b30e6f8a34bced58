//! The options of one call.

use std::borrow::Cow;
use std::ops::Deref;
use std::time::Duration;

use crate::config::policies::Policies;
use crate::{RefreshAhead, Ttl};

/// The options of one call: its TTL, its tags, and policies that replace those of the cache.
///
/// Every method whose name ends in `_with` takes `impl Into<Options>`; a [`Duration`] and a
/// [`Ttl`] are options. The builders of the caches have methods of the same names, whose settings
/// apply to every call that does not set its own.
///
/// # Defaults
///
/// - `ttl`: the default TTL of the cache
/// - `tags`: none
/// - `force_refresh`, `skip_l1`: off
/// - all others: the settings of the cache
///
/// ```
/// use cacheio::{CacheFactory, Options};
/// use std::time::Duration;
///
/// let cache = CacheFactory::memory_cache();
/// let options = Options::new().ttl(Duration::from_secs(60)).tags(["users", "team:7"]);
/// cache.set_with(("user", 42), "Ada", options)?;
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) fields: Fields,
}

/// What [`Options`] consist of. `Options` dereference to it, so that there is both a function
/// `Options::ttl(ttl)` and a method `options.ttl(ttl)`.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Fields {
    pub(crate) ttl: Ttl,
    pub(crate) tags: Vec<Cow<'static, str>>,
    pub(crate) policies: Policies,
    pub(crate) force_refresh: bool,
    pub(crate) skip_l1: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// The options of calls that pass none.
#[doc(hidden)]
pub static DEFAULT_OPTIONS: Options = Options::new();

impl Options {
    /// Returns options that change nothing: the cache's defaults apply.
    ///
    /// ```
    /// use cacheio::Options;
    ///
    /// let options = Options::new().tags(["users"]);
    /// ```
    pub const fn new() -> Self {
        Self {
            fields: Fields {
                ttl: Ttl::Default,
                tags: Vec::new(),
                policies: Policies::NONE,
                force_refresh: false,
                skip_l1: false,
            },
        }
    }

    /// Returns options with a TTL, which is a [`Duration`] or a [`Ttl`]. There is a method of the same
    /// name, which sets the TTL of options.
    ///
    /// ```
    /// use cacheio::{Options, Ttl};
    /// use std::time::Duration;
    ///
    /// let options = Options::ttl(Duration::from_secs(60)).tags(["users"]);
    /// let options = Options::new().tags(["users"]).ttl(Ttl::Never);
    /// ```
    pub fn ttl(ttl: impl Into<Ttl>) -> Self {
        Self::new().ttl(ttl)
    }

    /// Adds tags to the entry: `invalidate_tags` makes all entries of a tag a miss at once, in O(1).
    ///
    /// On a server, loading calls ask for the versions of the tags together with their keys; writes take
    /// one more round trip.
    ///
    /// ```
    /// use cacheio::Options;
    ///
    /// let options = Options::new().tags(["users", "team:7"]);
    /// ```
    pub fn tags<T: Into<Cow<'static, str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.fields.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Shortens the TTL by a random part of this fraction of it, from 0 to 1, so that entries which
    /// were stored together do not expire together.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// // Expires after 54 to 60 seconds.
    /// let options = Options::new().ttl(Duration::from_secs(60)).jitter(0.1);
    /// ```
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.fields.policies.jitter = Some(fraction);
        self
    }

    /// Serves an expired value for this long after its TTL, when the load that is to replace it fails
    /// or exceeds a timeout. Zero: never.
    ///
    /// A value is never served later than its TTL and this duration after the load that made it. Only
    /// `get_or_set`, `get_or_try_set`, `fetch` and their variants serve it; for `get` and `has` it has
    /// expired. A setting of the cache applies to the entries that it loads. A `set` keeps its entry for
    /// this long only if its own options say so.
    ///
    /// On a server, such an entry carries a header. A cache that has this setting, or has met such an
    /// entry, reads the header: that takes one more round trip in `touch`, `delete`, `delete_many` and an
    /// `add` that finds an entry, and `has` transfers the value. To other caches the entry is present until
    /// this time is over. The clocks of all clients must agree.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let options = Options::new().ttl(minute).stale_for(60 * minute);
    /// ```
    pub fn stale_for(mut self, duration: Duration) -> Self {
        self.fields.policies.stale_for = Some(duration);
        self
    }

    /// Starts no new load for this long after a failed one, while a stale or live value can be served;
    /// by default 30 s. On a server, the pause is shared by all clients.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let options = Options::new().ttl(minute).stale_for(60 * minute).retry_after(minute / 6);
    /// ```
    pub fn retry_after(mut self, duration: Duration) -> Self {
        self.fields.policies.retry_after = Some(duration);
        self
    }

    /// Loads the entry again while it is still live: after a fraction of its TTL (a number), or at
    /// random by [`RefreshAhead::XFETCH`].
    ///
    /// One caller of `fetch` starts the load in the background, and all callers get the live value. Of
    /// the callers of `get_or_set`, the one that runs the load waits for it. A failed load changes nothing
    /// and is tried again after `retry_after`. A batch loads its due keys together with the missing ones, and
    /// waits for that load. In memory, the options of the call that stored the entry decide.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// // Loads again after 48 seconds.
    /// let options = Options::new().ttl(Duration::from_secs(60)).refresh_ahead(0.8);
    /// ```
    pub fn refresh_ahead(mut self, ahead: impl Into<RefreshAhead>) -> Self {
        self.fields.policies.refresh_ahead = Some(ahead.into());
        self
    }

    /// Limits how long a caller waits for a load when it can get a stale value instead, counted from
    /// the start of the load. Zero serves the stale value at once. Needs [`stale_for`](Self::stale_for).
    ///
    /// The load continues in the background, and its value is stored. In `get_or_set`,
    /// `get_or_try_set` and batches, the caller that runs the load waits for it.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let options = Options::new().ttl(minute).stale_for(60 * minute).soft_timeout(Duration::from_millis(100));
    /// ```
    pub fn soft_timeout(mut self, duration: Duration) -> Self {
        self.fields.policies.soft_timeout = Some(duration);
        self
    }

    /// Limits how long a caller waits for a load; then it gets a stale value or
    /// [`LoadError::Timeout`](crate::LoadError::Timeout).
    ///
    /// Calls that cannot return an error, such as `get_or_set`, keep waiting. So does a caller that runs
    /// the load of a `get_or_try_set` of `Cache` itself.
    ///
    /// The timeout frees the caller, not the key: later callers wait for a load that hangs too, until
    /// [`max_load`](Self::max_load) is over.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// let options = Options::new().hard_timeout(Duration::from_secs(2));
    /// ```
    pub fn hard_timeout(mut self, duration: Duration) -> Self {
        self.fields.policies.hard_timeout = Some(duration);
        self
    }

    /// Limits how long a load blocks its key: then the next caller starts a new load, and the waiters
    /// get a stale value or [`LoadError::Timeout`](crate::LoadError::Timeout).
    ///
    /// `AsyncCache` then drops the load of a `fetch`; its default is 60 s. `Cache` cannot stop a thread and
    /// leaves the load running; it has no limit by default. [`Duration::MAX`] means no limit.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// let options = Options::new().max_load(Duration::from_secs(10));
    /// ```
    pub fn max_load(mut self, duration: Duration) -> Self {
        self.fields.policies.max_load = Some(duration);
        self
    }

    /// Sets another TTL for a loaded `None`, which often means that something does not exist yet. Zero
    /// does not store it.
    ///
    /// A value is a `None` if it serializes as one; a [`Local`](crate::Local) never is.
    ///
    /// ```
    /// use cacheio::Options;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let options = Options::new().ttl(60 * minute).ttl_none(minute);
    /// ```
    pub fn ttl_none(mut self, ttl: impl Into<Ttl>) -> Self {
        self.fields.policies.ttl_none = Some(ttl.into());
        self
    }

    /// Expires the entry when it has not been read for this long, even before its TTL is over: the
    /// sliding expiry of sessions. With [`Ttl::Never`](crate::Ttl::Never), only this ends the entry.
    ///
    /// `get`, `get_many`, `get_or_set`, `fetch` and their variants are reads; `has` is not. A setting of
    /// the cache applies to the entries that it loads. A hit in memory takes about twice as long. On a
    /// server, the entry carries a header, and may live an eighth longer. A read is recorded there with
    /// one more round trip, unless one was recorded within an eighth of this duration by any client; the
    /// reads of a batch are recorded in one. The clocks of all clients must agree.
    ///
    /// ```
    /// use cacheio::{Options, Ttl};
    /// use std::time::Duration;
    ///
    /// let session = Options::new().ttl(Ttl::Never).ttl_idle(Duration::from_secs(30 * 60));
    /// ```
    pub fn ttl_idle(mut self, duration: Duration) -> Self {
        self.fields.policies.ttl_idle = Some(duration);
        self
    }

    /// Runs the load even if there is a live entry.
    ///
    /// ```
    /// use cacheio::Options;
    ///
    /// let options = Options::new().force_refresh();
    /// ```
    pub fn force_refresh(mut self) -> Self {
        self.fields.force_refresh = true;
        self
    }

    /// Neither reads the entry from L1, the memory before a server, nor puts it there: for values that are large
    /// or read once, and for a read that must be fresh. Calls of a cache without L1 are not affected.
    ///
    /// ```
    /// use cacheio::Options;
    ///
    /// let options = Options::new().skip_l1();
    /// ```
    pub fn skip_l1(mut self) -> Self {
        self.fields.skip_l1 = true;
        self
    }

    /// Returns these options, and those of a typed handle that are not set here. The entry has the tags of both.
    #[doc(hidden)]
    pub fn __or(mut self, handle: &Self) -> Self {
        if self.fields.ttl == Ttl::Default {
            self.fields.ttl = handle.fields.ttl;
        }
        self.fields.tags.extend_from_slice(&handle.fields.tags);
        self.fields.policies = self.fields.policies.or(&handle.fields.policies);
        self.fields.force_refresh |= handle.fields.force_refresh;
        self.fields.skip_l1 |= handle.fields.skip_l1;
        self
    }
}

impl Fields {
    /// Returns these options with another TTL.
    pub fn ttl(&self, ttl: impl Into<Ttl>) -> Options {
        Options {
            fields: Self {
                ttl: ttl.into(),
                ..self.clone()
            },
        }
    }
}

impl Deref for Options {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::url::CacheUrl;

    macro_rules! assert_setters {
        (@policies {} $(
            $(#[$doc:meta])*
            $name:ident($argument:ident: $argument_type:ty) -> $type:ty = $parse:path;
        )*) => {$(
            let mut url = CacheUrl::parse(concat!("memory://?", stringify!($name), "=1")).unwrap();
            let mut expected = Policies::NONE;
            expected.take_from_url(&mut url).unwrap();
            let options = Options::new().$name(expected.$name.unwrap());
            assert_eq!(options.policies.$name, expected.$name);
        )*};
    }

    #[test]
    fn the_ttl_is_set_by_a_function_and_by_a_method() {
        let options = Options::ttl(Duration::from_secs(1)).jitter(0.5);
        assert_eq!(options.fields.ttl, Ttl::After(Duration::from_secs(1)));
        let other = options.ttl(Ttl::Never);
        assert_eq!(other.fields.ttl, Ttl::Never);
        assert_eq!(other.policies.jitter, Some(0.5));
    }

    #[test]
    fn options_of_a_call_come_before_those_of_a_handle() {
        let handle = Options::ttl(Ttl::Never)
            .tags(["users"])
            .jitter(0.5)
            .skip_l1();
        let minute = Duration::from_secs(60);
        let call = Options::ttl(minute).tags(["team"]).stale_for(minute);
        let both = call.__or(&handle);
        assert_eq!(both.fields.ttl, Ttl::After(minute));
        assert_eq!(both.fields.tags, ["team", "users"]);
        assert_eq!(both.policies.jitter, Some(0.5));
        assert_eq!(both.policies.stale_for, Some(minute));
        assert!(both.fields.skip_l1 && !both.fields.force_refresh);
        assert_eq!(Options::new().__or(&handle).fields.ttl, Ttl::Never);
    }

    #[test]
    fn every_policy_has_a_setter() {
        crate::__policies!({ assert_setters } {});
    }
}
