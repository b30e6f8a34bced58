//! Products with a cache.

use std::time::Duration;

use cacheio::{AsyncCache, AsyncCacheable, CacheFactory, Options, Stats, async_cached};

use crate::{Database, Product, Result};

const MIN: Duration = Duration::from_secs(60);

/// Products with a cache. Clones share the database and the cache.
#[derive(Clone, Debug, AsyncCacheable)]
pub struct Products {
    database: Database,
    cache: AsyncCache,
}

impl Products {
    /// Puts a cache in memory in front of a database.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            cache: CacheFactory::async_memory_cache(),
        }
    }

    /// Returns one product.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no product with this id, or when the database fails.
    #[async_cached(key = "product:{id}", ttl = "5m", companions)]
    pub async fn find(&self, id: u32) -> Result<Product> {
        self.database.find(id).await
    }

    /// Returns all products.
    ///
    /// # Errors
    ///
    /// Returns an error when the database fails.
    pub async fn list(&self) -> Result<Vec<Product>> {
        let options = Options::new().ttl(5 * MIN).tags(["lists"]);
        let load = || self.database.list();
        Ok(self
            .cache
            .get_or_try_set_with("products", options, load)
            .await?)
    }

    /// Renames a product. It changes the database first and then invalidates, so that no later call
    /// reads the old name.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no product with this id, or when the database fails.
    pub async fn rename(&self, id: u32, name: String) -> Result<()> {
        self.database.rename(id, name).await?;
        self.invalidate(id).await?;
        Ok(self.cache.invalidate_tags(["lists"]).await?)
    }

    /// Removes a product from the cache.
    ///
    /// # Errors
    ///
    /// Returns an error when the cache fails.
    pub async fn invalidate(&self, id: u32) -> Result<bool> {
        Ok(self.find_invalidate(id).await?)
    }

    /// Returns what the cache did so far.
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// Returns the number of queries that the database has run.
    pub fn queries(&self) -> u64 {
        self.database.queries()
    }
}
