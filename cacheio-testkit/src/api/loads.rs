//! The operations that load.

use std::future::Future;

use cacheio_core::{BoxFuture, CacheKey, Fetched, LoadContext, LoadError, Options, Result, Value};

use super::{CacheApi, DynKey};
use crate::world::block_on;

type DynLoad<'a, T> = Box<dyn FnOnce() -> BoxFuture<'a, T> + Send + 'a>;
type DynBatchLoad<'a, K, T> = Box<dyn FnMut(Vec<K>) -> BoxFuture<'a, T> + Send + 'a>;
type DynFetch<V, E> =
    Box<dyn FnOnce(LoadContext<V>) -> BoxFuture<'static, Result<V, E>> + Send + 'static>;

fn erase_load<'a, T, F: Future<Output = T> + Send + 'a>(
    load: impl FnOnce() -> F + Send + 'a,
) -> DynLoad<'a, T> {
    Box::new(move || Box::pin(load()))
}

fn erase_batch_load<'a, K, T, F: Future<Output = T> + Send + 'a>(
    mut load: impl FnMut(Vec<K>) -> F + Send + 'a,
) -> DynBatchLoad<'a, K, T> {
    Box::new(move |keys| Box::pin(load(keys)))
}

fn erase_fetch<V, E, F: Future<Output = Result<V, E>> + Send + 'static>(
    load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
) -> DynFetch<V, E> {
    Box::new(move |context| Box::pin(load(context)))
}

impl CacheApi {
    /// See [`Cache::get_or_set`](cacheio_sync::Cache::get_or_set).
    pub async fn get_or_set<V: Value, F: Future<Output = V> + Send>(
        &self,
        key: impl CacheKey + Send + Sync,
        load: impl FnOnce() -> F + Send,
    ) -> V {
        self.get_or_set_erased(&key, erase_load(load)).await
    }

    /// See [`Cache::get_or_try_set`](cacheio_sync::Cache::get_or_try_set).
    pub async fn get_or_try_set<
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send,
    >(
        &self,
        key: impl CacheKey + Send + Sync,
        load: impl FnOnce() -> F + Send,
    ) -> Result<V, LoadError<E>> {
        self.get_or_try_set_erased(&key, erase_load(load)).await
    }

    /// See [`Cache::get_or_set_with`](cacheio_sync::Cache::get_or_set_with).
    pub async fn get_or_set_with<V: Value, F: Future<Output = V> + Send>(
        &self,
        key: impl CacheKey + Send + Sync,
        options: impl Into<Options> + Send,
        load: impl FnOnce() -> F + Send,
    ) -> V {
        self.get_or_set_with_erased(&key, options.into(), erase_load(load))
            .await
    }

    /// See [`Cache::get_or_try_set_with`](cacheio_sync::Cache::get_or_try_set_with).
    pub async fn get_or_try_set_with<
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send,
    >(
        &self,
        key: impl CacheKey + Send + Sync,
        options: impl Into<Options> + Send,
        load: impl FnOnce() -> F + Send,
    ) -> Result<V, LoadError<E>> {
        self.get_or_try_set_with_erased(&key, options.into(), erase_load(load))
            .await
    }

    /// See [`Cache::get_or_set_many`](cacheio_sync::Cache::get_or_set_many).
    pub async fn get_or_set_many<
        K: CacheKey + Send + Sync,
        V: Value,
        F: Future<Output = Vec<(K, V)>> + Send,
    >(
        &self,
        keys: Vec<K>,
        load: impl FnMut(Vec<K>) -> F + Send,
    ) -> Vec<Option<V>> {
        self.get_or_set_many_erased(keys, erase_batch_load(load))
            .await
    }

    /// See [`Cache::get_or_set_many_with`](cacheio_sync::Cache::get_or_set_many_with).
    pub async fn get_or_set_many_with<
        K: CacheKey + Send + Sync,
        V: Value,
        F: Future<Output = Vec<(K, V)>> + Send,
    >(
        &self,
        keys: Vec<K>,
        options: impl Into<Options> + Send,
        load: impl FnMut(Vec<K>) -> F + Send,
    ) -> Vec<Option<V>> {
        self.get_or_set_many_with_erased(keys, options.into(), erase_batch_load(load))
            .await
    }

    /// See [`Cache::get_or_try_set_many`](cacheio_sync::Cache::get_or_try_set_many).
    pub async fn get_or_try_set_many<
        K: CacheKey + Send + Sync,
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, V)>, E>> + Send,
    >(
        &self,
        keys: Vec<K>,
        load: impl FnMut(Vec<K>) -> F + Send,
    ) -> Vec<Result<Option<V>, LoadError<E>>> {
        self.get_or_try_set_many_erased(keys, erase_batch_load(load))
            .await
    }

    /// See [`Cache::get_or_try_set_many_with`](cacheio_sync::Cache::get_or_try_set_many_with).
    pub async fn get_or_try_set_many_with<
        K: CacheKey + Send + Sync,
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, V)>, E>> + Send,
    >(
        &self,
        keys: Vec<K>,
        options: impl Into<Options> + Send,
        load: impl FnMut(Vec<K>) -> F + Send,
    ) -> Vec<Result<Option<V>, LoadError<E>>> {
        self.get_or_try_set_many_with_erased(keys, options.into(), erase_batch_load(load))
            .await
    }

    /// See [`Cache::fetch`](cacheio_sync::Cache::fetch).
    pub async fn fetch<
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    >(
        &self,
        key: impl CacheKey + Send + Sync,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        self.fetch_erased(&key, erase_fetch(load)).await
    }

    /// See [`Cache::fetch_entry`](cacheio_sync::Cache::fetch_entry).
    pub async fn fetch_entry<
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    >(
        &self,
        key: impl CacheKey + Send + Sync,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        self.fetch_entry_erased(&key, erase_fetch(load)).await
    }

    /// See [`Cache::fetch_entry_with`](cacheio_sync::Cache::fetch_entry_with).
    pub async fn fetch_entry_with<
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    >(
        &self,
        key: impl CacheKey + Send + Sync,
        options: impl Into<Options> + Send,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        self.fetch_entry_with_erased(&key, options.into(), erase_fetch(load))
            .await
    }
}

/// The same, without the types of keys and loaders.
impl CacheApi {
    fn get_or_set_erased<'a, V: Value>(
        &'a self,
        key: DynKey<'a>,
        load: DynLoad<'a, V>,
    ) -> BoxFuture<'a, V> {
        match self {
            Self::Threads(cache) => {
                Box::pin(async move { cache.get_or_set(key, || block_on(load())) })
            }
            Self::Tasks(cache) => Box::pin(cache.get_or_set(key, load)),
        }
    }

    fn get_or_try_set_erased<'a, V: Value, E: Send + Sync + 'static>(
        &'a self,
        key: DynKey<'a>,
        load: DynLoad<'a, Result<V, E>>,
    ) -> BoxFuture<'a, Result<V, LoadError<E>>> {
        match self {
            Self::Threads(cache) => {
                Box::pin(async move { cache.get_or_try_set(key, || block_on(load())) })
            }
            Self::Tasks(cache) => Box::pin(cache.get_or_try_set(key, load)),
        }
    }

    fn get_or_set_with_erased<'a, V: Value>(
        &'a self,
        key: DynKey<'a>,
        options: Options,
        load: DynLoad<'a, V>,
    ) -> BoxFuture<'a, V> {
        match self {
            Self::Threads(cache) => {
                Box::pin(async move { cache.get_or_set_with(key, options, || block_on(load())) })
            }
            Self::Tasks(cache) => Box::pin(cache.get_or_set_with(key, options, load)),
        }
    }

    fn get_or_try_set_with_erased<'a, V: Value, E: Send + Sync + 'static>(
        &'a self,
        key: DynKey<'a>,
        options: Options,
        load: DynLoad<'a, Result<V, E>>,
    ) -> BoxFuture<'a, Result<V, LoadError<E>>> {
        match self {
            Self::Threads(cache) => {
                Box::pin(
                    async move { cache.get_or_try_set_with(key, options, || block_on(load())) },
                )
            }
            Self::Tasks(cache) => Box::pin(cache.get_or_try_set_with(key, options, load)),
        }
    }

    fn get_or_set_many_erased<'a, K: CacheKey + Send + Sync + 'a, V: Value>(
        &'a self,
        keys: Vec<K>,
        mut load: DynBatchLoad<'a, K, Vec<(K, V)>>,
    ) -> BoxFuture<'a, Vec<Option<V>>> {
        match self {
            Self::Threads(cache) => {
                Box::pin(
                    async move { cache.get_or_set_many(keys, |missing| block_on(load(missing))) },
                )
            }
            Self::Tasks(cache) => Box::pin(cache.get_or_set_many(keys, load)),
        }
    }

    fn get_or_set_many_with_erased<'a, K: CacheKey + Send + Sync + 'a, V: Value>(
        &'a self,
        keys: Vec<K>,
        options: Options,
        mut load: DynBatchLoad<'a, K, Vec<(K, V)>>,
    ) -> BoxFuture<'a, Vec<Option<V>>> {
        match self {
            Self::Threads(cache) => Box::pin(async move {
                cache.get_or_set_many_with(keys, options, |missing| block_on(load(missing)))
            }),
            Self::Tasks(cache) => Box::pin(cache.get_or_set_many_with(keys, options, load)),
        }
    }

    fn get_or_try_set_many_erased<
        'a,
        K: CacheKey + Send + Sync + 'a,
        V: Value,
        E: Send + Sync + 'static,
    >(
        &'a self,
        keys: Vec<K>,
        mut load: DynBatchLoad<'a, K, Result<Vec<(K, V)>, E>>,
    ) -> BoxFuture<'a, Vec<Result<Option<V>, LoadError<E>>>> {
        match self {
            Self::Threads(cache) => Box::pin(async move {
                cache.get_or_try_set_many(keys, |missing| block_on(load(missing)))
            }),
            Self::Tasks(cache) => Box::pin(cache.get_or_try_set_many(keys, load)),
        }
    }

    fn get_or_try_set_many_with_erased<
        'a,
        K: CacheKey + Send + Sync + 'a,
        V: Value,
        E: Send + Sync + 'static,
    >(
        &'a self,
        keys: Vec<K>,
        options: Options,
        mut load: DynBatchLoad<'a, K, Result<Vec<(K, V)>, E>>,
    ) -> BoxFuture<'a, Vec<Result<Option<V>, LoadError<E>>>> {
        match self {
            Self::Threads(cache) => Box::pin(async move {
                cache.get_or_try_set_many_with(keys, options, |missing| block_on(load(missing)))
            }),
            Self::Tasks(cache) => Box::pin(cache.get_or_try_set_many_with(keys, options, load)),
        }
    }

    fn fetch_erased<'a, V: Value, E: Send + Sync + 'static>(
        &'a self,
        key: DynKey<'a>,
        load: DynFetch<V, E>,
    ) -> BoxFuture<'a, Result<V, LoadError<E>>> {
        match self {
            Self::Threads(cache) => {
                Box::pin(async move { cache.fetch(key, move |context| block_on(load(context))) })
            }
            Self::Tasks(cache) => Box::pin(cache.fetch(key, load)),
        }
    }

    fn fetch_entry_erased<'a, V: Value, E: Send + Sync + 'static>(
        &'a self,
        key: DynKey<'a>,
        load: DynFetch<V, E>,
    ) -> BoxFuture<'a, Result<Fetched<V>, LoadError<E>>> {
        match self {
            Self::Threads(cache) => {
                Box::pin(
                    async move { cache.fetch_entry(key, move |context| block_on(load(context))) },
                )
            }
            Self::Tasks(cache) => Box::pin(cache.fetch_entry(key, load)),
        }
    }

    fn fetch_entry_with_erased<'a, V: Value, E: Send + Sync + 'static>(
        &'a self,
        key: DynKey<'a>,
        options: Options,
        load: DynFetch<V, E>,
    ) -> BoxFuture<'a, Result<Fetched<V>, LoadError<E>>> {
        match self {
            Self::Threads(cache) => Box::pin(async move {
                cache.fetch_entry_with(key, options, move |context| block_on(load(context)))
            }),
            Self::Tasks(cache) => Box::pin(cache.fetch_entry_with(key, options, load)),
        }
    }
}
