//! The peers: other ways to have memory before Redis.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use multi_tier_cache::{
    CacheManager, CacheStrategy, InvalidationConfig, L1Cache, L2Cache, MokaCacheConfig,
};
use redis::caching::CacheConfig;
use rustis::commands::{ClientTrackingOptions, SetExpiration, StringCommands};
use rustis::resp::BulkString;

use crate::clients::{Client, Failure, Loader, Near, Product, Raw, TTL, config, decode, encode};

/// The client-side cache of the `redis` crate.
#[derive(Clone)]
pub(crate) struct CacheAio(Raw);

impl Client for CacheAio {
    const NAME: &'static str = "redis 1.8, `cache-aio`";

    async fn connect(url: &str, near: Near) -> Result<Self, Failure> {
        let client = redis::Client::open(format!("{url}?protocol=resp3"))?;
        let size = NonZeroUsize::new(near.capacity).unwrap_or(NonZeroUsize::MIN);
        // Its TTL remains the default one, 30 minutes: the server tells of changes.
        let cache = CacheConfig::new().set_size(size);
        let config = config().set_cache_config(cache);
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self(connection.await?.into()))
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Product>>, Failure> {
        self.0.read(key).await
    }

    async fn set(&self, key: &str, product: &Product) -> Result<(), Failure> {
        self.0.write(key, product).await
    }
}

/// A map with a TTL before the raw client, as programs have it that made it themselves.
#[derive(Clone)]
pub(crate) struct ByHand {
    memory: Arc<quick_cache::sync::Cache<String, (Instant, Arc<Product>)>>,
    redis: Raw,
    near: Near,
}

impl ByHand {
    fn keep(&self, key: &str, product: &Arc<Product>) {
        let until = Instant::now() + self.near.max_age;
        self.memory
            .insert(key.to_owned(), (until, Arc::clone(product)));
    }
}

impl Client for ByHand {
    const NAME: &'static str = "quick_cache + redis by hand";

    async fn connect(url: &str, near: Near) -> Result<Self, Failure> {
        Ok(Self {
            memory: Arc::new(quick_cache::sync::Cache::new(near.capacity)),
            redis: Raw::connect(url, near).await?,
            near,
        })
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Product>>, Failure> {
        if let Some((until, product)) = self.memory.get(key)
            && Instant::now() < until
        {
            return Ok(Some(product));
        }
        let found = self.redis.read(key).await?;
        if let Some(product) = &found {
            self.keep(key, product);
        }
        Ok(found)
    }

    async fn set(&self, key: &str, product: &Product) -> Result<(), Failure> {
        self.redis.write(key, product).await?;
        self.keep(key, &Arc::new(product.clone()));
        Ok(())
    }
}

/// The client-side cache of `rustis`.
#[derive(Clone)]
pub(crate) struct Rustis {
    cache: Arc<rustis::cache::Cache>,
    client: rustis::client::Client,
}

impl Client for Rustis {
    const NAME: &'static str = "rustis 0.22, `client-cache`";

    /// Its capacity is always 10,000.
    async fn connect(url: &str, _: Near) -> Result<Self, Failure> {
        let client = rustis::client::Client::connect(url).await?;
        let options = ClientTrackingOptions::default();
        let cache = rustis::cache::Cache::new(client.clone(), TTL.as_secs(), options).await?;
        Ok(Self { cache, client })
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Product>>, Failure> {
        let bytes: Option<BulkString> = self.cache.get(key).await?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    async fn set(&self, key: &str, product: &Product) -> Result<(), Failure> {
        let value = BulkString::from(encode(product));
        let expiration = SetExpiration::Ex(TTL.as_secs());
        let set = self.client.set_with_options(key, value, None, expiration);
        set.await?;
        Ok(())
    }
}

/// `multi-tier-cache`, whose processes tell each other of changes.
#[derive(Clone)]
pub(crate) struct MultiTier(Arc<CacheManager>);

impl Client for MultiTier {
    const NAME: &'static str = "multi-tier-cache 0.6";

    async fn connect(url: &str, near: Near) -> Result<Self, Failure> {
        let config = MokaCacheConfig {
            max_capacity: near.capacity as u64,
            time_to_idle: TTL,
            ..MokaCacheConfig::default()
        };
        let memory = Arc::new(L1Cache::new(config)?);
        let redis = Arc::new(L2Cache::with_url(url).await?);
        let config = InvalidationConfig::default();
        let manager = CacheManager::new_with_invalidation(memory, redis, url, config);
        Ok(Self(Arc::new(manager.await?)))
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Product>>, Failure> {
        let bytes = self.0.get(key).await?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    async fn set(&self, key: &str, product: &Product) -> Result<(), Failure> {
        let bytes = Bytes::from(encode(product));
        let updated = self.0.update_cache(key, bytes, Some(TTL));
        Ok(updated.await?)
    }

    async fn get_or_load(&self, key: &str, loader: &Loader) -> Arc<Product> {
        let strategy = CacheStrategy::Custom(TTL);
        let encoded = || async { Ok(Bytes::from(encode(&loader.load().await))) };
        let loaded = self.0.get_or_compute_with(key, strategy, encoded).await;
        match loaded.map(|bytes| decode(&bytes)) {
            Ok(Ok(product)) => product,
            _ => Arc::new(loader.load().await),
        }
    }
}
