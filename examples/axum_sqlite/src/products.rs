//! The products, cached.

use std::time::Duration;

use cacheio::{AsyncCache, AsyncCacheable, CacheFactory, Options, Stats, async_cached};

use crate::{Database, Product, Result};

const MIN: Duration = Duration::from_secs(60);

/// The products, cached. Cloning it gives the same products and the same cache.
#[derive(Clone, Debug, AsyncCacheable)]
pub struct Products {
    database: Database,
    cache: AsyncCache,
}

impl Products {
    /// The products of a database, with a cache in memory.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            cache: CacheFactory::async_memory_cache(),
        }
    }

    /// One product.
    ///
    /// # Errors
    ///
    /// When there is none with this id, and when the database fails.
    #[async_cached(key = "product:{id}", ttl = "5m", companions)]
    pub async fn find(&self, id: u32) -> Result<Product> {
        self.database.find(id).await
    }

    /// All products.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(&self) -> Result<Vec<Product>> {
        let options = Options::ttl(5 * MIN).tags(["lists"]);
        let load = || self.database.list();
        Ok(self
            .cache
            .get_or_try_set_with("products", options, load)
            .await?)
    }

    /// Gives a product another name. From then on nobody reads the old one: first the database,
    /// then the cache, in this order.
    ///
    /// # Errors
    ///
    /// When there is none with this id, and when the database fails.
    pub async fn rename(&self, id: u32, name: String) -> Result<()> {
        self.database.rename(id, name).await?;
        self.forget(id).await?;
        Ok(self.cache.invalidate_tags(["lists"]).await?)
    }

    /// Drops a product from the cache.
    ///
    /// # Errors
    ///
    /// When the cache fails.
    pub async fn forget(&self, id: u32) -> Result<bool> {
        Ok(self.find_invalidate(id).await?)
    }

    /// What the cache has done so far.
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// How many queries the database has run.
    pub fn queries(&self) -> u64 {
        self.database.queries()
    }
}
