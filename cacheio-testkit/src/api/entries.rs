//! Looking in.

use cacheio_core::{CacheEntry, ListedKey, Result, Saved, Value};

use super::CacheApi;

type DynKeep<'a, V> = &'a mut (dyn FnMut(&str, &V) -> bool + Send);

impl CacheApi {
    /// See [`Cache::keys`](cacheio_sync::Cache::keys). Sorted.
    pub async fn keys(&self, limit: usize) -> Result<Vec<ListedKey>> {
        let mut keys = match self {
            Self::Threads(cache) => cache.keys(limit)?,
            Self::Tasks(cache) => cache.keys(limit).await?,
        };
        keys.sort_unstable();
        Ok(keys)
    }

    /// See [`Cache::entries`](cacheio_sync::Cache::entries). Sorted by the keys.
    pub async fn entries<V: Value>(&self, limit: usize) -> Result<Vec<CacheEntry<V>>> {
        let mut entries = match self {
            Self::Threads(cache) => cache.entries(limit)?,
            Self::Tasks(cache) => cache.entries(limit).await?,
        };
        entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(entries)
    }

    /// See [`Cache::len`](cacheio_sync::Cache::len).
    #[allow(clippy::len_without_is_empty)]
    pub async fn len(&self) -> Result<usize> {
        match self {
            Self::Threads(cache) => cache.len(),
            Self::Tasks(cache) => cache.len().await,
        }
    }

    /// See [`Cache::weight`](cacheio_sync::Cache::weight).
    pub async fn weight(&self) -> Result<u64> {
        match self {
            Self::Threads(cache) => cache.weight(),
            Self::Tasks(cache) => cache.weight().await,
        }
    }

    /// See [`Cache::retain`](cacheio_sync::Cache::retain).
    pub async fn retain<V: Value>(
        &self,
        mut keep: impl FnMut(&str, &V) -> bool + Send,
    ) -> Result<usize> {
        let keep: DynKeep<'_, V> = &mut keep;
        match self {
            Self::Threads(cache) => cache.retain(keep),
            Self::Tasks(cache) => cache.retain(keep).await,
        }
    }
    /// See [`Cache::save_snapshot`](cacheio_sync::Cache::save_snapshot).
    pub async fn save_snapshot(&self) -> Result<Saved> {
        match self {
            Self::Threads(cache) => cache.save_snapshot(),
            Self::Tasks(cache) => cache.save_snapshot().await,
        }
    }
}
