//! Typed handles of either world.

use std::sync::Arc;

use cacheio_async::{AsyncLoadingCache, AsyncTypedCache};
use cacheio_core::{
    BoxFuture, CacheKey, LoadContext, LoadError, Options, Result, Ttl, Update, Value,
};
use cacheio_sync::{LoadingCache, TypedCache};

use super::CacheApi;
use crate::world::block_on;

/// What tests use as the errors of loaders.
pub type Loaded<V> = std::result::Result<V, String>;

/// A typed handle of either world.
#[derive(Clone, Debug)]
pub enum TypedApi<K, V> {
    /// A handle for threads.
    Threads(TypedCache<K, V>),
    /// A handle for tasks.
    Tasks(AsyncTypedCache<K, V>),
}

/// A typed handle with its loader.
#[derive(Clone, Debug)]
pub enum LoadingApi<K, V> {
    /// A handle for threads.
    Threads(LoadingCache<K, V, String>),
    /// A handle for tasks.
    Tasks(AsyncLoadingCache<K, V, String>),
}

impl CacheApi {
    /// See [`Cache::typed`](cacheio_sync::Cache::typed).
    pub fn typed<K: CacheKey, V: Value>(&self, name: &str) -> TypedApi<K, V> {
        match self {
            Self::Threads(cache) => TypedApi::Threads(cache.typed(name)),
            Self::Tasks(cache) => TypedApi::Tasks(cache.typed(name)),
        }
    }
}

/// Calls the same method in both worlds.
macro_rules! both {
    ($api:expr, $handle:ident => $($call:tt)+) => {
        match $api {
            Self::Threads($handle) => $($call)+,
            Self::Tasks($handle) => $($call)+.await,
        }
    };
}

impl<K: CacheKey + Send + Sync, V: Value> TypedApi<K, V> {
    /// See [`TypedCache::options`].
    pub fn options(self, options: impl Into<Options>) -> Self {
        match self {
            Self::Threads(handle) => Self::Threads(handle.options(options)),
            Self::Tasks(handle) => Self::Tasks(handle.options(options)),
        }
    }

    /// See [`TypedCache::has`].
    pub async fn has(&self, key: K) -> Result<bool> {
        both!(self, handle => handle.has(key))
    }

    /// See [`TypedCache::get`].
    pub async fn get(&self, key: K) -> Result<Option<V>> {
        both!(self, handle => handle.get(key))
    }

    /// See [`TypedCache::get_arc`].
    pub async fn get_arc(&self, key: K) -> Result<Option<Arc<V>>> {
        both!(self, handle => handle.get_arc(key))
    }

    /// See [`TypedCache::get_many`].
    pub async fn get_many(&self, keys: Vec<K>) -> Result<Vec<Option<V>>> {
        both!(self, handle => handle.get_many(keys))
    }

    /// See [`TypedCache::get_each`].
    pub async fn get_each(&self, keys: Vec<K>) -> Result<Vec<Result<Option<V>>>> {
        both!(self, handle => handle.get_each(keys))
    }

    /// See [`TypedCache::set`].
    pub async fn set(&self, key: K, value: V) -> Result<()> {
        both!(self, handle => handle.set(key, value))
    }

    /// See [`TypedCache::set_with`].
    pub async fn set_with(
        &self,
        key: K,
        value: V,
        options: impl Into<Options> + Send,
    ) -> Result<()> {
        let options: Options = options.into();
        both!(self, handle => handle.set_with(key, value, options))
    }

    /// See [`TypedCache::set_many`].
    pub async fn set_many(&self, entries: Vec<(K, V)>) -> Result<()> {
        both!(self, handle => handle.set_many(entries))
    }

    /// See [`TypedCache::add`].
    pub async fn add(&self, key: K, value: V) -> Result<bool> {
        both!(self, handle => handle.add(key, value))
    }

    /// See [`TypedCache::delete`].
    pub async fn delete(&self, key: K) -> Result<bool> {
        both!(self, handle => handle.delete(key))
    }

    /// See [`TypedCache::delete_many`].
    pub async fn delete_many(&self, keys: Vec<K>) -> Result<usize> {
        both!(self, handle => handle.delete_many(keys))
    }

    /// See [`TypedCache::touch`].
    pub async fn touch(&self, key: K, ttl: Ttl) -> Result<bool> {
        both!(self, handle => handle.touch(key, ttl))
    }

    /// See [`TypedCache::ttl`].
    pub async fn ttl(&self, key: K) -> Result<Option<Ttl>> {
        both!(self, handle => handle.ttl(key))
    }

    /// See [`TypedCache::get_or_set`].
    pub async fn get_or_set(&self, key: K, value: V) -> V {
        match self {
            Self::Threads(handle) => handle.get_or_set(key, || value),
            Self::Tasks(handle) => handle.get_or_set(key, || async { value }).await,
        }
    }

    /// See [`TypedCache::get_or_set_many`]. The loader makes the values from the keys.
    pub async fn get_or_set_many(&self, keys: Vec<K>, load: fn(&K) -> V) -> Vec<Option<V>> {
        let load = |keys: Vec<K>| keys.into_iter().map(|key| (load(&key), key));
        let load = |keys| {
            load(keys)
                .map(|(value, key)| (key, value))
                .collect::<Vec<_>>()
        };
        match self {
            Self::Threads(handle) => handle.get_or_set_many(keys, load),
            Self::Tasks(handle) => {
                let load = |keys| std::future::ready(load(keys));
                handle.get_or_set_many(keys, load).await
            }
        }
    }

    /// See [`TypedCache::update`].
    pub async fn update(
        &self,
        key: K,
        update: impl FnMut(Option<V>) -> Update<V> + Send,
    ) -> Result<Option<V>> {
        both!(self, handle => handle.update(key, update))
    }

    /// See [`TypedCache::take`].
    pub async fn take(&self, key: K) -> Result<Option<V>> {
        both!(self, handle => handle.take(key))
    }
}

impl<K: CacheKey + Send + Sync> TypedApi<K, i64> {
    /// See [`TypedCache::increment`].
    pub async fn increment(&self, key: K, by: i64) -> Result<i64> {
        both!(self, handle => handle.increment(key, by))
    }

    /// See [`TypedCache::decrement`].
    pub async fn decrement(&self, key: K, by: i64) -> Result<i64> {
        both!(self, handle => handle.decrement(key, by))
    }
}

impl<K: CacheKey + Send + Sync + 'static, V: Value> TypedApi<K, V> {
    /// See [`TypedCache::loader_with_context`].
    pub fn loader(
        self,
        load: impl Fn(K, LoadContext<V>) -> BoxFuture<'static, Loaded<V>> + Send + Sync + 'static,
    ) -> LoadingApi<K, V> {
        match self {
            Self::Threads(handle) => {
                let load = move |key, context| block_on(load(key, context));
                LoadingApi::Threads(handle.loader_with_context(load))
            }
            Self::Tasks(handle) => LoadingApi::Tasks(handle.loader_with_context(load)),
        }
    }
}

impl<K: CacheKey + Send + Sync + 'static, V: Value> LoadingApi<K, V> {
    /// See [`LoadingCache::batch_loader`].
    pub fn batch_loader(
        self,
        load: impl Fn(Vec<K>) -> BoxFuture<'static, Loaded<Vec<(K, V)>>> + Send + Sync + 'static,
    ) -> Self {
        match self {
            Self::Threads(handle) => {
                Self::Threads(handle.batch_loader(move |keys| block_on(load(keys))))
            }
            Self::Tasks(handle) => Self::Tasks(handle.batch_loader(load)),
        }
    }

    /// See [`LoadingCache::typed`].
    pub fn typed(&self) -> TypedApi<K, V> {
        match self {
            Self::Threads(handle) => TypedApi::Threads(handle.typed().clone()),
            Self::Tasks(handle) => TypedApi::Tasks(handle.typed().clone()),
        }
    }

    /// See [`LoadingCache::get`].
    pub async fn get(&self, key: K) -> Result<V, LoadError<String>> {
        both!(self, handle => handle.get(key))
    }

    /// See [`LoadingCache::get_many`].
    pub async fn get_many(&self, keys: Vec<K>) -> Vec<Result<Option<V>, LoadError<String>>> {
        both!(self, handle => handle.get_many(keys))
    }

    /// See [`LoadingCache::refresh`].
    pub async fn refresh(&self, key: K) -> Result<V, LoadError<String>> {
        both!(self, handle => handle.refresh(key))
    }

    /// See [`LoadingCache::invalidate`].
    pub async fn invalidate(&self, key: K) -> Result<()> {
        both!(self, handle => handle.invalidate(key))
    }
}
