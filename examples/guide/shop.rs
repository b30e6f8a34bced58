//! The service, with a page for each product.

use anyhow::Context as _;
use cacheio::{AsyncCache, AsyncCacheBuilder, LoadError};
use tokio::task::JoinSet;

use crate::database::{Database, Product, Refused};

/// The number of products.
pub(crate) const PRODUCTS: u64 = 10;

/// The state of the service, which a web framework passes to every handler.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) database: Database,
    cache: AsyncCache,
}

impl Shop {
    pub(crate) fn new(cache: AsyncCacheBuilder) -> cacheio::Result<Self> {
        Self::over(Database::new(), cache)
    }

    /// Another instance of the service, over the same database.
    pub(crate) fn over(database: Database, cache: AsyncCacheBuilder) -> cacheio::Result<Self> {
        let cache = cache.build()?;
        Ok(Self { database, cache })
    }

    /// Handles a request without a cache.
    pub(crate) async fn uncached(self, id: u64) -> Result<Product, Refused> {
        self.database.product(id).await
    }

    /// Handles a request with `get` and `set`, as one would with a map.
    pub(crate) async fn by_hand(self, id: u64) -> anyhow::Result<Product> {
        let key = ("product", id);
        if let Some(product) = self.cache.get(key).await.context("get")? {
            return Ok(product);
        }
        let product = self.database.product(id).await?;
        self.cache.set(key, product.clone()).await.context("set")?;
        Ok(product)
    }

    /// Handles a request; the caller that runs the load waits for it.
    pub(crate) async fn get_or_set(self, id: u64) -> Result<Product, LoadError<Refused>> {
        let load = || self.database.product(id);
        self.cache.get_or_try_set(("product", id), load).await
    }

    /// Handles a request; loads can run in the background.
    pub(crate) async fn fetch(self, id: u64) -> Result<Product, LoadError<Refused>> {
        let database = self.database;
        let load = move |_| async move { database.product(id).await };
        self.cache.fetch(("product", id), load).await
    }

    /// Loads all products concurrently, and does not count these queries: the service has been
    /// running for a while.
    pub(crate) async fn warm(self) -> anyhow::Result<Self> {
        // Another step may have left entries on the server.
        self.cache.clear().await?;
        let mut loads = JoinSet::new();
        for id in 0..PRODUCTS {
            loads.spawn(self.clone().fetch_until_loaded(id));
        }
        while let Some(loaded) = loads.join_next().await {
            loaded??;
        }
        self.database.reset_queries();
        Ok(self)
    }

    /// Retries, because on a busy machine a load may exceed its timeout.
    async fn fetch_until_loaded(self, id: u64) -> Result<Product, LoadError<Refused>> {
        for _ in 0..10 {
            if let Ok(product) = self.clone().fetch(id).await {
                return Ok(product);
            }
        }
        self.fetch(id).await
    }
}
