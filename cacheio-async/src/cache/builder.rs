//! The builder of a cache for tasks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{BuilderSettings, capacity_of_a_store};
use cacheio_core::{AsyncStore, Codec, RefreshAhead, Result, Ttl};

#[cfg(feature = "memory")]
use crate::{L1, Memory};

use super::AsyncCache;

/// Builds an [`AsyncCache`].
///
/// A policy that is set here holds for every call that sets no other in its
/// [`Options`](crate::Options), where each policy is documented.
///
/// # Defaults
///
/// - `store`: memory
/// - `capacity`: [`Config::default_threshold`](crate::Config::default_threshold) entries
/// - `namespace`: empty in memory, `cacheio` on a server
/// - `default_ttl`: [`Config::default_ttl`](crate::Config::default_ttl)
/// - `codec`: [`Json`](crate::Json)
/// - `shared_loads`: `true` on Redis, `false` on Memcached
/// - `l1`: none
/// - `snapshot`: none
/// - `jitter`: 0
/// - `stale_for`: zero
/// - `retry_after`: 30 s
/// - `refresh_ahead`: never
/// - `soft_timeout`, `hard_timeout`: none
/// - `max_load`: 60 s
/// - `ttl_none`: the TTL of other values
/// - `ttl_idle`: none
///
/// ```
/// # #[tokio::main] async fn main() -> cacheio::Result<()> {
/// use cacheio::{AsyncCache, Json, Memory, RefreshAhead};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let cache = AsyncCache::builder()
///     .store(Memory::with_capacity(10_000))
///     .namespace("shop")
///     .default_ttl(10 * minute)
///     .codec(Json)
///     .jitter(0.1)
///     .stale_for(60 * minute)
///     .retry_after(minute / 2)
///     .refresh_ahead(RefreshAhead::XFETCH)
///     .soft_timeout(Duration::from_millis(100))
///     .hard_timeout(Duration::from_secs(2))
///     .max_load(minute)
///     .ttl_none(minute)
///     .ttl_idle(5 * minute)
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct AsyncCacheBuilder {
    store: Option<Arc<dyn AsyncStore>>,
    capacity: Option<usize>,
    settings: BuilderSettings,
}

impl AsyncCacheBuilder {
    /// Sets the store that keeps the entries: `Memory`, `Memcached`, `Redis`, or an
    /// [`AsyncStore`](crate::store::AsyncStore) of your own.
    pub fn store(mut self, store: impl AsyncStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets how many entries the cache holds in memory. A [`store`](Self::store) has a capacity of its
    /// own.
    ///
    /// ```
    /// use cacheio::AsyncCache;
    ///
    /// let cache = AsyncCache::builder().capacity(10_000).namespace("shop").build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    #[cfg(feature = "memory")]
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = Some(entries);
        self
    }

    /// Sets the namespace: every key begins with it and a `:`. [`AsyncCache::clear`] removes the
    /// keys of the namespace only. At most 100 bytes.
    ///
    /// On a server the namespace must not be empty: the cache would read and replace the keys of all
    /// programs that use the server.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.set_namespace(namespace.into());
        self
    }

    /// Sets the TTL of entries that are stored without one.
    pub fn default_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.settings.set_default_ttl(ttl.into());
        self
    }

    /// Sets how values become bytes, where the store needs bytes.
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.settings.set_codec(Arc::new(codec));
        self
    }

    /// Sets whether processes share loads through the store. By default they do on Redis, and do not on
    /// Memcached. Memory does not support it, nor do most stores of your own.
    ///
    /// If several processes miss a key at the same time, one of them loads it. The others wait for it as
    /// they wait for a load of their own, within `soft_timeout`, `hard_timeout` and `max_load`, or 60 s. A
    /// process that no longer responds is replaced within 3.5 s. A write of the key by any process (`set`,
    /// `add`, `delete`, `increment`, `update`, `take`, `clear`) beats the loads that began before it: their callers get the
    /// values, but these are not stored.
    ///
    /// - After a load that failed, or whose value is not stored, all processes load at once for a second.
    /// - A loader that calls the cache does not wait for other processes, so that two processes cannot
    ///   wait for each other. It loads what another process loads, and does not store it. So does a batch.
    /// - A call that joins a load of its own process gets the value of that load, even if another
    ///   process wrote the key after the load had begun.
    /// - While the server does not respond, each process loads, and stores nothing.
    /// - Each write ends the loads of all processes, also in a cache with `shared_loads(false)`. A load of
    ///   such a cache is stored by a plain write, which other processes cannot prevent.
    /// - A load does not replace what other programs store meanwhile. On Redis it does not notice that they
    ///   delete a missing key.
    /// - After a failover of Redis, which may forget the latest writes, and after a restart of Memcached, two
    ///   processes may load the same key.
    /// - Redis needs the command EVAL. If its user may not run scripts, loads are not shared, nor are they on a
    ///   memcached that runs with `-C`.
    ///
    /// A load takes one round trip more; hits and writes take no more than without it.
    ///
    /// On Memcached a key that is being loaded holds an empty value, which every cache of this crate takes for
    /// absent. Other programs see it: their `add` stores nothing, and their `incr` is an error. It goes when the
    /// load ends. If the process is killed, it stays until the key is loaded or written again, for an hour at
    /// most. So do not set this if other programs that use the same keys cannot cope with empty values.
    ///
    /// On Memcached, too:
    ///
    /// - Each address must lead to one server, not to a proxy that spreads the keys over several.
    /// - A `touch` of a missing key that another process loads sets how long the claim lasts: if the TTL is shorter
    ///   than the load, its value is not stored.
    /// - A value that is larger than the server accepts removes the entry of the key, also one that was written after the
    ///   load had begun.
    /// - A process that stood still while it refreshed an entry, and was replaced, may store its value first. If a write
    ///   came in between, it stores nothing.
    ///
    /// ```no_run
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::{AsyncCache, Memcached};
    ///
    /// let cache = AsyncCache::builder()
    ///     .store(Memcached::new("memcache://10.0.0.7")?)
    ///     .shared_loads(true)
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn shared_loads(mut self, shared: bool) -> Self {
        self.settings.set_shared_loads(shared);
        self
    }

    /// Puts memory before the server: hits in it are as fast as those of a cache in memory. Takes a
    /// [`Memory`], or an [`L1`] with settings.
    ///
    /// A process with `l1` sees a write of another process after [`max_staleness`](L1::max_staleness) at the
    /// latest, 2 s by default, and a write of its own at once. The [`L1`] says what it holds.
    /// [`Options::skip_l1`](crate::Options::skip_l1) passes it by.
    ///
    /// ```
    /// use cacheio::{AsyncCache, Memory, Redis};
    ///
    /// let cache = AsyncCache::builder()
    ///     .store(Redis::new("redis://127.0.0.1:6379")?)
    ///     .l1(Memory::with_capacity(10_000))
    ///     .build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    #[cfg(feature = "memory")]
    pub fn l1(mut self, l1: impl Into<L1>) -> Self {
        self.settings.set_l1(l1.into().into());
        self
    }

    /// Saves the entries of the cache to a file when its last clone is dropped, and loads them when it is built: a
    /// program that restarts serves its first requests from memory. The parameter of a URL is `snapshot`.
    ///
    /// [`AsyncCache::save_snapshot`] says what is saved, and the chapter `restarts` of the guide how to end a program. The cache
    /// must keep its values in this process's memory, and no other cache may have the same path. A relative path is one
    /// in the current folder of the program.
    ///
    /// [`build`](Self::build) loads the file, and removes it: otherwise a program that is killed would later serve what
    /// it had deleted. Values are decoded by their first reads. An entry ends when it would have ended without the
    /// restart.
    ///
    /// The cache starts empty if there is no file, as on the first start. So it does if the file is damaged, cannot be
    /// read or removed, or is of a cache with another namespace or codec: then a warning is logged, and the file stays
    /// until another one replaces it. A warning is logged, too, if the file cannot be saved when the cache is dropped.
    /// A file that is not a snapshot is never replaced: `build` returns an error of kind
    /// [`Config`](crate::ErrorKind::Config).
    ///
    /// To load and to save block the thread: build and drop the cache where that does no harm, such as at the beginning
    /// and at the end of the program.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::AsyncCache;
    ///
    /// # let path = std::env::temp_dir().join(format!("cacheio-tasks-{}", std::process::id()));
    /// let cache = AsyncCache::builder().snapshot(&path).build()?;
    /// cache.set("greeting", "hello").await?;
    /// drop(cache);
    ///
    /// let restarted = AsyncCache::builder().snapshot(&path).build()?;
    /// assert_eq!(restarted.get::<String>("greeting").await?.as_deref(), Some("hello"));
    /// # drop(restarted);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok(()) }
    /// ```
    pub fn snapshot(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.set_snapshot(path.into());
        self
    }

    // The setters of the policies: `jitter`, `stale_for` and so on.
    cacheio_core::__policy_setters!();

    /// Builds the cache. Connects to a server only when an operation needs it.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) when a setting is invalid, or when
    /// it contradicts another one.
    pub fn build(self) -> Result<AsyncCache> {
        let store = match (self.store, self.capacity) {
            (Some(store), None) => store,
            (None, capacity) => default_store(capacity)?,
            (Some(_), Some(_)) => return Err(capacity_of_a_store()),
        };
        AsyncCache::with_store(store, self.settings)
    }
}

#[cfg(feature = "memory")]
#[allow(clippy::unnecessary_wraps)]
fn default_store(capacity: Option<usize>) -> Result<Arc<dyn AsyncStore>> {
    Ok(Arc::new(
        capacity.map_or_else(Memory::new, Memory::with_capacity),
    ))
}

#[cfg(not(feature = "memory"))]
fn default_store(_: Option<usize>) -> Result<Arc<dyn AsyncStore>> {
    Err(cacheio_core::Error::new(
        cacheio_core::ErrorKind::Config,
        "a cache needs a store: give the builder one, or turn on the feature `memory`",
    )
    .during(cacheio_core::Operation::Build))
}
