//! Atomic changes that depend on the value: `update` and `take`.

use cacheio_core::__private::{DEFAULT_OPTIONS, poll_ready};
use cacheio_core::{CacheKey, Options, Result, Update, Value};

use super::Cache;

impl Cache {
    /// Reads the value of a key and stores what `update` makes of it, with no other write between. Returns the
    /// value that is there then.
    ///
    /// The closure gets the value of the live entry, or `None`, and decides: [`Update::Keep`],
    /// [`Update::Set`], [`Update::SetFor`] with a TTL, or [`Update::Remove`]. No lock is held while it runs. If
    /// another thread or process writes the key at the same time, it is called again with the new value. So it
    /// must only compute.
    ///
    /// With [`Set`](Update::Set), an existing entry keeps its TTL, its tags and its policies, as with
    /// [`increment`](Self::increment); with [`SetFor`](Update::SetFor) it gets another TTL, as with
    /// [`touch`](Self::touch). A new one gets the default TTL of the cache. As every write, it beats the loads
    /// that are in progress, also with [`Remove`](Update::Remove) where there is no entry. It counts as a read for
    /// `ttl_idle`.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::{CacheFactory, Update};
    ///
    /// let cache = CacheFactory::memory_cache();
    /// let append = |name: &'static str| {
    ///     move |names: Option<Vec<String>>| {
    ///         let mut names = names.unwrap_or_default();
    ///         names.push(name.to_owned());
    ///         Update::Set(names)
    ///     }
    /// };
    /// cache.update("names", append("Ada"))?;
    /// let names = cache.update("names", append("Grace"))?;
    /// assert_eq!(names.unwrap(), ["Ada", "Grace"]);
    /// # Ok(()) }
    /// ```
    ///
    /// In memory it takes two look-ups. On a server it takes two round trips, on Memcached three if the TTL is
    /// kept; an entry with tags that the call does not name takes one more.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Decode`](crate::ErrorKind::Decode) when the stored value cannot be read as a `V`,
    /// and the errors of [`set`](Self::set). If others write the key again and again, it is
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) after the timeout of the server, or
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) after a thousand attempts. If the connection breaks,
    /// or the server does not reply in time, the value may have been stored.
    #[doc(alias = "compute")]
    #[doc(alias = "upsert")]
    #[doc(alias = "modify")]
    pub fn update<V: Value>(
        &self,
        key: impl CacheKey,
        update: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<V>> {
        poll_ready(self.engine.update(key, &DEFAULT_OPTIONS, update))
    }

    /// Updates the value of a key like [`update`](Self::update), with the TTL, the tags and the policies that a new
    /// entry gets. An existing one keeps its own; the TTL is also that of [`Update::SetFor`] with
    /// [`Ttl::Default`](crate::Ttl::Default).
    ///
    /// The versions of the tags are read together with the entry. On a server, a tag that has none takes one more round
    /// trip, also if the closure changes nothing. If a tag is invalidated while the closure runs, a new entry
    /// with it is invalid.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::{CacheFactory, Update};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// // At most three attempts a minute.
    /// let attempt = |attempts: Option<u32>| match attempts {
    ///     Some(3) => Update::Keep,
    ///     attempts => Update::Set(attempts.unwrap_or(0) + 1),
    /// };
    /// for expected in [1, 2, 3, 3] {
    ///     let attempts = cache.update_with("login:ada", Duration::from_secs(60), attempt)?;
    ///     assert_eq!(attempts, Some(expected));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`update`](Self::update), and
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an invalid option.
    pub fn update_with<V: Value>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        update: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<V>> {
        poll_ready(self.engine.update(key, &options.into(), update))
    }

    /// Removes an entry, and returns its value if it was live.
    ///
    /// It is atomic: of several callers, in any process, one gets the value. As every write, it beats the loads that
    /// are in progress. It counts as a look-up.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set(("token", "x7f"), "ada")?;
    /// assert_eq!(cache.take::<String>(("token", "x7f"))?.as_deref(), Some("ada"));
    /// assert_eq!(cache.take::<String>(("token", "x7f"))?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// On Redis it takes one round trip (`GETDEL`, of Redis 6.2), on Memcached two; for an entry with tags one more.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Decode`](crate::ErrorKind::Decode) when the stored value cannot be read as a `V`,
    /// and an error when the store fails. The entry may have been removed then.
    #[doc(alias = "pop")]
    #[doc(alias = "getdel")]
    pub fn take<V: Value>(&self, key: impl CacheKey) -> Result<Option<V>> {
        poll_ready(self.engine.take(key))
    }
}
