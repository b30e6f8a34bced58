//! Looking in: which entries there are, and the removal of those that a closure does not keep.

use cacheio_core::{CacheEntry, ListedKey, Result, Value};

use super::AsyncCache;

impl AsyncCache {
    /// Returns the keys of the live entries of this cache's namespace: up to `limit` of them, in no particular order.
    ///
    /// Every method takes a listed key, by value or by reference, and finds just the entry that was listed. Its text is
    /// that of [`key_text`](crate::key_text), without the namespace; see [`ListedKey`] for those that begin with `:`.
    ///
    /// Each entry that is there during the whole call is listed, unless there are more than `limit`. An entry that is
    /// written or removed meanwhile may be listed or not. An entry that is only kept for
    /// [`stale_for`](crate::Options::stale_for), or one of whose tags was invalidated, is not listed. It is no look-up:
    /// the statistics do not count it, it does not prolong [`ttl_idle`](crate::Options::ttl_idle), and L1 is not asked.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set(("user", 42), "Ada").await?;
    /// assert_eq!(cache.keys(1_000).await?, ["user:42"]);
    /// for key in cache.keys(1_000).await? {
    ///     cache.delete(key).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// In memory, the call takes time in proportion to the entries of all namespaces, until it has enough. It locks one
    /// shard of them at a time, and lets other tasks run in between.
    ///
    /// A server lists the keys of all its programs, and the cache picks out its own, until it has enough: with few
    /// entries among millions of others, that takes seconds. It does not block the server: Redis looks at 1,000 keys at a
    /// time, in a cluster on one master after another, and Memcached lists in a thread of its own. Each step has the
    /// timeout of the server. The values are transferred too, because only they tell whether an entry is live. A key that
    /// the server cannot hold, because it has more than 250 bytes, a space or a control character, is not listed: the
    /// server has only a digest of it. In a Redis Cluster, a key may be missing if its slot moves during the call, and so
    /// may any key if a replica becomes the master.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) on a server when the namespace is empty, because other
    /// programs may use the server, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the store cannot list
    /// its keys, and an error when the store fails.
    #[doc(alias = "iter")]
    #[doc(alias = "scan")]
    pub async fn keys(&self, limit: usize) -> Result<Vec<ListedKey>> {
        self.engine.keys(limit).await
    }

    /// Returns live entries of this cache's namespace, each with its key, its value and what is left of its TTL: up to
    /// `limit` of them, in no particular order.
    ///
    /// It is a snapshot of each entry, and not of all at one time: an entry is read after its key was listed. What
    /// [`keys`](Self::keys) says of listed keys, of the time and of servers holds here too. An entry that cannot be read
    /// as a `V` is left out, because a namespace may hold values of several types.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_with(("user", 42), "Ada", Duration::from_secs(60)).await?;
    /// cache.set(("age", 42), 36).await?;
    /// for user in cache.entries::<String>(1_000).await? {
    ///     println!("{} is {}, for {:?}", user.key, user.value, user.ttl);
    ///     assert_eq!(user.key, "user:42");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`keys`](Self::keys).
    #[doc(alias = "iter")]
    pub async fn entries<V: Value>(&self, limit: usize) -> Result<Vec<CacheEntry<V>>> {
        self.engine.entries(limit).await
    }

    /// Returns the number of live entries of this cache's namespace, in memory.
    ///
    /// It takes time in proportion to the entries of all namespaces, about 30 ms for a million, and locks one shard of
    /// them at a time. `Memory::len` takes no such time, but counts the entries of all namespaces, live or not.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("k", 1).await?;
    /// assert_eq!(cache.len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a server, which does not count the entries of
    /// a namespace: [`keys`](Self::keys) lists them, up to a limit.
    #[doc(alias = "entry_count")]
    // To find out whether there are none costs as much.
    #[allow(clippy::len_without_is_empty)]
    pub async fn len(&self) -> Result<usize> {
        self.engine.len().await
    }

    /// Returns the weight of the live entries of this cache's namespace, in memory: without a weigher, their number.
    ///
    /// It takes as long as [`len`](Self::len). `Memory::weight` takes no such time, but weighs the entries of all
    /// namespaces, live or not: what counts for the capacity.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::{AsyncCache, Memory};
    ///
    /// let memory = Memory::builder().max_weight(1_000, |key, _| key.len() as u64).build();
    /// let cache = AsyncCache::builder().store(memory).build()?;
    /// cache.set("abc", 1).await?;
    /// assert_eq!(cache.weight().await?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a server.
    #[doc(alias = "weighted_size")]
    pub async fn weight(&self) -> Result<u64> {
        self.engine.weight().await
    }

    /// Removes the entries of this cache's namespace for which `keep` returns `false`, in memory. Returns how many of
    /// them were live.
    ///
    /// The closure gets the text of the key, that of its [`ListedKey`], and the value. No lock is held while it runs: it may
    /// use the cache. If it panics, the entries that it has judged before are removed or kept, and all else works on.
    /// Use a `V` that is cheap to clone, such as an `Arc`: each value is cloned for the closure.
    ///
    /// Each entry that is there during the whole call is judged, also one that is only kept for
    /// [`stale_for`](crate::Options::stale_for). An entry that cannot be read as a `V` is kept. If an entry is replaced
    /// while the closure judges it, it is not removed, but judged again. As every write, the removal of an entry beats
    /// the loads of its key that are in progress. Loads of keys without an entry are not affected: their values are
    /// stored, and may be such as the closure would not keep.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("even", 2).await?;
    /// cache.set("odd", 3).await?;
    /// let removed = cache.retain(|_key, value: &u32| value % 2 == 0).await?;
    /// assert_eq!(removed, 1);
    /// assert_eq!(cache.keys(10).await?, ["even"]);
    /// # Ok(()) }
    /// ```
    ///
    /// It takes time in proportion to the entries of all namespaces.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a server, where each value would have to be
    /// transferred: give the entries a [tag](crate::Options::tags), and invalidate it.
    #[doc(alias = "invalidate_entries_if")]
    #[doc(alias = "remove_if")]
    pub async fn retain<V: Value>(&self, keep: impl FnMut(&str, &V) -> bool) -> Result<usize> {
        self.engine.retain(keep).await
    }
}
