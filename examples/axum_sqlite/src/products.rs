//! Products with a cache.

use cacheio::{AsyncCache, LoadError, Options, Stats};

use crate::{Database, Product, Result};

/// The tag of everything that is made from products.
const PRODUCTS: &str = "products";

/// Products with a cache. Clones share the database and the cache.
#[derive(Clone, Debug)]
pub struct Products {
    database: Database,
    cache: AsyncCache,
}

impl Products {
    /// Puts a cache in front of a database. The TTL and the policies are those of the cache.
    pub fn new(database: Database, cache: AsyncCache) -> Self {
        Self { database, cache }
    }

    /// Returns one product.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no product with this id, or when the database fails and there is no
    /// stale value.
    pub async fn find(&self, id: u32) -> Result<Product> {
        let (key, options) = (("product", id), Options::new().tags([PRODUCTS]));
        // The load owns what it uses, so it can run in the background.
        let database = self.database.clone();
        let load = move |_| async move { database.find(id).await };
        let found = self.cache.fetch_with(key, options, load).await;
        found.map_err(LoadError::into_error)
    }

    /// Returns all products.
    ///
    /// # Errors
    ///
    /// Returns an error when the database fails and there is no stale value.
    pub async fn list(&self) -> Result<Vec<Product>> {
        let options = Options::new().tags([PRODUCTS, "list"]);
        let database = self.database.clone();
        let load = move |_| async move { database.list().await };
        let found = self.cache.fetch_with("list", options, load).await;
        found.map_err(LoadError::into_error)
    }

    /// Renames a product. It changes the database first and then invalidates, so that no later call
    /// reads the old name.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no product with this id, or when the database or the cache fails.
    pub async fn rename(&self, id: u32, name: String) -> Result<()> {
        self.database.rename(id, name).await?;
        self.cache.delete(("product", id)).await?;
        Ok(self.cache.invalidate_tags(["list"]).await?)
    }

    /// Removes all products from the cache, as after an import.
    ///
    /// # Errors
    ///
    /// Returns an error when the cache fails.
    pub async fn invalidate_all(&self) -> Result<()> {
        Ok(self.cache.invalidate_tags([PRODUCTS]).await?)
    }

    /// Returns what the cache has done so far.
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }
}
