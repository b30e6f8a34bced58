//! One API over both worlds: a case is written once, as an `async fn`, and compiled once.

mod entries;
mod loads;
mod typed;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_core::{CacheKey, Encode, Options, Result, Stats, Ttl, Update, Value};
use cacheio_sync::Cache;

pub use self::typed::{Loaded, LoadingApi, TypedApi};
pub use crate::world::{Spawned, World, block_on, join_all};

/// A cache of either world. In the world of threads its futures never wait: they block the thread.
///
/// Keys and loaders are erased before the cache is called. This keeps the build of the tests short:
/// an operation is compiled once for each type of value, not once for each call.
#[derive(Clone, Debug)]
pub enum CacheApi {
    /// A cache for threads.
    Threads(Cache),
    /// A cache for tasks.
    Tasks(AsyncCache),
}

type DynKey<'a> = &'a (dyn CacheKey + Send + Sync);
type DynUpdate<'a, V> = &'a mut (dyn FnMut(Option<V>) -> Update<V> + Send);

fn erase_keys<K: CacheKey + Send + Sync>(keys: &[K]) -> Vec<DynKey<'_>> {
    keys.iter().map(|key| key as DynKey<'_>).collect()
}

impl CacheApi {
    /// Returns the world that the cache belongs to.
    pub fn world(&self) -> World {
        match self {
            Self::Threads(_) => World::Threads,
            Self::Tasks(_) => World::Tasks,
        }
    }

    /// Runs something concurrently with the test, and gives it a clone of the cache.
    pub fn spawn<T, F>(&self, body: impl FnOnce(Self) -> F) -> Spawned<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.world().spawn(body(self.clone()))
    }

    /// Waits until a condition holds that other threads or tasks bring about.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool + Send + Sync) {
        while !holds(self) {
            self.world().pause().await;
        }
    }

    /// Waits until the cache stores and returns values again; returns how long that took.
    pub async fn used_again(&self) -> Duration {
        let start = Instant::now();
        for attempt in 0_u64.. {
            let set = self.set("used again", attempt).await.is_ok();
            if set && self.get::<u64>("used again").await.ok().flatten() == Some(attempt) {
                break;
            }
            self.world().sleep(Duration::from_millis(2)).await;
        }
        start.elapsed()
    }

    /// See [`Cache::stats`].
    pub fn stats(&self) -> Stats {
        match self {
            Self::Threads(cache) => cache.stats(),
            Self::Tasks(cache) => cache.stats(),
        }
    }

    /// Returns the statistics without those that change while the server is heard for the first time.
    pub fn stats_of_calls(&self) -> Stats {
        let mut stats = self.stats();
        (stats.l1_trusted, stats.invalidations) = Default::default();
        stats
    }

    /// See [`Cache::namespace`].
    pub fn namespace(&self) -> &str {
        match self {
            Self::Threads(cache) => cache.namespace(),
            Self::Tasks(cache) => cache.namespace(),
        }
    }
}

/// The operations of a cache, without loads.
impl CacheApi {
    /// See [`Cache::has`].
    pub async fn has(&self, key: impl CacheKey + Send + Sync) -> Result<bool> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.has(key),
            Self::Tasks(cache) => cache.has(key).await,
        }
    }

    /// See [`Cache::get`].
    pub async fn get<V: Value>(&self, key: impl CacheKey + Send + Sync) -> Result<Option<V>> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.get(key),
            Self::Tasks(cache) => cache.get(key).await,
        }
    }

    /// See [`Cache::get_arc`].
    pub async fn get_arc<V: Value>(
        &self,
        key: impl CacheKey + Send + Sync,
    ) -> Result<Option<Arc<V>>> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.get_arc(key),
            Self::Tasks(cache) => cache.get_arc(key).await,
        }
    }

    /// See [`Cache::get_many`].
    pub async fn get_many<V: Value>(
        &self,
        keys: Vec<impl CacheKey + Send + Sync>,
    ) -> Result<Vec<Option<V>>> {
        let keys = erase_keys(&keys);
        match self {
            Self::Threads(cache) => cache.get_many(keys),
            Self::Tasks(cache) => cache.get_many(keys).await,
        }
    }

    /// See [`Cache::get_each`].
    pub async fn get_each<V: Value>(
        &self,
        keys: Vec<impl CacheKey + Send + Sync>,
    ) -> Result<Vec<Result<Option<V>>>> {
        let keys = erase_keys(&keys);
        match self {
            Self::Threads(cache) => cache.get_each(keys),
            Self::Tasks(cache) => cache.get_each(keys).await,
        }
    }

    /// See [`Cache::set`].
    pub async fn set<By>(
        &self,
        key: impl CacheKey + Send + Sync,
        value: impl Encode<By>,
    ) -> Result<()> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.set(key, value),
            Self::Tasks(cache) => cache.set(key, value).await,
        }
    }

    /// See [`Cache::set_with`].
    pub async fn set_with<By>(
        &self,
        key: impl CacheKey + Send + Sync,
        value: impl Encode<By>,
        options: impl Into<Options> + Send,
    ) -> Result<()> {
        let key: DynKey<'_> = &key;
        let options: Options = options.into();
        match self {
            Self::Threads(cache) => cache.set_with(key, value, options),
            Self::Tasks(cache) => cache.set_with(key, value, options).await,
        }
    }

    /// See [`Cache::set_many`].
    pub async fn set_many<By>(
        &self,
        entries: Vec<(impl CacheKey + Send + Sync, impl Encode<By>)>,
    ) -> Result<()> {
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let entries: Vec<_> = erase_keys(&keys).into_iter().zip(values).collect();
        match self {
            Self::Threads(cache) => cache.set_many(entries),
            Self::Tasks(cache) => cache.set_many(entries).await,
        }
    }

    /// See [`Cache::set_many_with`].
    pub async fn set_many_with<By>(
        &self,
        entries: Vec<(impl CacheKey + Send + Sync, impl Encode<By>)>,
        options: impl Into<Options> + Send,
    ) -> Result<()> {
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let entries: Vec<_> = erase_keys(&keys).into_iter().zip(values).collect();
        let options: Options = options.into();
        match self {
            Self::Threads(cache) => cache.set_many_with(entries, options),
            Self::Tasks(cache) => cache.set_many_with(entries, options).await,
        }
    }

    /// See [`Cache::add`].
    pub async fn add<By>(
        &self,
        key: impl CacheKey + Send + Sync,
        value: impl Encode<By>,
    ) -> Result<bool> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.add(key, value),
            Self::Tasks(cache) => cache.add(key, value).await,
        }
    }

    /// See [`Cache::add_with`].
    pub async fn add_with<By>(
        &self,
        key: impl CacheKey + Send + Sync,
        value: impl Encode<By>,
        options: impl Into<Options> + Send,
    ) -> Result<bool> {
        let key: DynKey<'_> = &key;
        let options: Options = options.into();
        match self {
            Self::Threads(cache) => cache.add_with(key, value, options),
            Self::Tasks(cache) => cache.add_with(key, value, options).await,
        }
    }

    /// See [`Cache::delete`].
    pub async fn delete(&self, key: impl CacheKey + Send + Sync) -> Result<bool> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.delete(key),
            Self::Tasks(cache) => cache.delete(key).await,
        }
    }

    /// See [`Cache::delete_many`].
    pub async fn delete_many(&self, keys: Vec<impl CacheKey + Send + Sync>) -> Result<usize> {
        let keys = erase_keys(&keys);
        match self {
            Self::Threads(cache) => cache.delete_many(keys),
            Self::Tasks(cache) => cache.delete_many(keys).await,
        }
    }

    /// See [`Cache::increment`].
    pub async fn increment(&self, key: impl CacheKey + Send + Sync, by: i64) -> Result<i64> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.increment(key, by),
            Self::Tasks(cache) => cache.increment(key, by).await,
        }
    }

    /// See [`Cache::increment_with`].
    pub async fn increment_with(
        &self,
        key: impl CacheKey + Send + Sync,
        by: i64,
        options: impl Into<Options> + Send,
    ) -> Result<i64> {
        let key: DynKey<'_> = &key;
        let options: Options = options.into();
        match self {
            Self::Threads(cache) => cache.increment_with(key, by, options),
            Self::Tasks(cache) => cache.increment_with(key, by, options).await,
        }
    }

    /// See [`Cache::decrement`].
    pub async fn decrement(&self, key: impl CacheKey + Send + Sync, by: i64) -> Result<i64> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.decrement(key, by),
            Self::Tasks(cache) => cache.decrement(key, by).await,
        }
    }

    /// See [`Cache::decrement_with`].
    pub async fn decrement_with(
        &self,
        key: impl CacheKey + Send + Sync,
        by: i64,
        options: impl Into<Options> + Send,
    ) -> Result<i64> {
        let key: DynKey<'_> = &key;
        let options: Options = options.into();
        match self {
            Self::Threads(cache) => cache.decrement_with(key, by, options),
            Self::Tasks(cache) => cache.decrement_with(key, by, options).await,
        }
    }

    /// See [`Cache::touch`].
    pub async fn touch(
        &self,
        key: impl CacheKey + Send + Sync,
        ttl: impl Into<Ttl> + Send,
    ) -> Result<bool> {
        let key: DynKey<'_> = &key;
        let ttl: Ttl = ttl.into();
        match self {
            Self::Threads(cache) => cache.touch(key, ttl),
            Self::Tasks(cache) => cache.touch(key, ttl).await,
        }
    }

    /// See [`Cache::ttl`].
    pub async fn ttl(&self, key: impl CacheKey + Send + Sync) -> Result<Option<Ttl>> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.ttl(key),
            Self::Tasks(cache) => cache.ttl(key).await,
        }
    }

    /// See [`Cache::update`].
    pub async fn update<V: Value>(
        &self,
        key: impl CacheKey + Send + Sync,
        mut update: impl FnMut(Option<V>) -> Update<V> + Send,
    ) -> Result<Option<V>> {
        let key: DynKey<'_> = &key;
        let update: DynUpdate<'_, V> = &mut update;
        match self {
            Self::Threads(cache) => cache.update(key, update),
            Self::Tasks(cache) => cache.update(key, update).await,
        }
    }

    /// See [`Cache::update_with`].
    pub async fn update_with<V: Value>(
        &self,
        key: impl CacheKey + Send + Sync,
        options: impl Into<Options> + Send,
        mut update: impl FnMut(Option<V>) -> Update<V> + Send,
    ) -> Result<Option<V>> {
        let key: DynKey<'_> = &key;
        let options: Options = options.into();
        let update: DynUpdate<'_, V> = &mut update;
        match self {
            Self::Threads(cache) => cache.update_with(key, options, update),
            Self::Tasks(cache) => cache.update_with(key, options, update).await,
        }
    }

    /// See [`Cache::take`].
    pub async fn take<V: Value>(&self, key: impl CacheKey + Send + Sync) -> Result<Option<V>> {
        let key: DynKey<'_> = &key;
        match self {
            Self::Threads(cache) => cache.take(key),
            Self::Tasks(cache) => cache.take(key).await,
        }
    }

    /// See [`Cache::clear`].
    pub async fn clear(&self) -> Result<()> {
        match self {
            Self::Threads(cache) => cache.clear(),
            Self::Tasks(cache) => cache.clear().await,
        }
    }

    /// See [`Cache::invalidate_tags`].
    pub async fn invalidate_tags(
        &self,
        tags: Vec<impl Into<Cow<'static, str>> + Send>,
    ) -> Result<()> {
        let tags: Vec<Cow<'static, str>> = tags.into_iter().map(Into::into).collect();
        match self {
            Self::Threads(cache) => cache.invalidate_tags(tags),
            Self::Tasks(cache) => cache.invalidate_tags(tags).await,
        }
    }

    /// See [`Cache::clear_l1`]. Cases of the contract call it before they find out what the store has, or what
    /// it is asked: on a row with L1, copies would answer. Does nothing on other rows.
    pub fn clear_l1(&self) {
        match self {
            Self::Threads(cache) => cache.clear_l1(),
            Self::Tasks(cache) => cache.clear_l1(),
        }
    }

    /// See [`Cache::ping`].
    pub async fn ping(&self) -> Result<()> {
        match self {
            Self::Threads(cache) => cache.ping(),
            Self::Tasks(cache) => cache.ping().await,
        }
    }
}
