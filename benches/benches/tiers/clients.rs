//! The clients under test, each as one process has it: memory before a server, and a way to write.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cacheio::{AsyncCache, L1, Memory, Options, Redis};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

/// The TTL of all entries.
pub(crate) const TTL: Duration = Duration::from_secs(600);

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What is cached: 500 bytes as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Product {
    /// Which of its values this is.
    pub(crate) version: u64,
    name: String,
    price: f64,
    tags: Vec<String>,
    description: String,
}

impl Product {
    pub(crate) fn new(version: u64) -> Self {
        let mut product = Self {
            version,
            name: "A \"quoted\" name, as they come".into(),
            price: 1999.95,
            tags: ["garden", "outdoor", "sale"].map(Into::into).into(),
            description: String::new(),
        };
        product.description = "d".repeat(500 - encode(&product).len());
        product
    }
}

pub(crate) fn encode(product: &Product) -> Vec<u8> {
    serde_json::to_vec(product).expect("products can be encoded")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Arc<Product>, Failure> {
    Ok(Arc::new(serde_json::from_slice(bytes)?))
}

/// The memory of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near {
    /// The number of entries.
    pub(crate) capacity: usize,
    /// How old a copy may become, where a client has such a bound.
    pub(crate) max_age: Duration,
}

/// A client under test. Its clones share one memory and its connections.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// Its name in the tables.
    const NAME: &'static str;
    /// What its keys begin with on the server.
    const PREFIX: &'static str = "";

    /// Connects.
    fn connect(url: &str, near: Near) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Reads an entry, from memory if it is there.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Arc<Product>>, Failure>> + Send;

    /// Stores an entry, and tells the others if the client has such a call.
    fn set(&self, key: &str, product: &Product)
    -> impl Future<Output = Result<(), Failure>> + Send;

    /// Returns a value in any case, as a program needs it: the best call of the client, or a get, the loader
    /// and a set.
    fn get_or_load(&self, key: &str, loader: &Loader) -> impl Future<Output = Arc<Product>> + Send {
        async move {
            if let Ok(Some(found)) = self.get(key).await {
                return found;
            }
            let product = loader.load().await;
            // A program goes on without its cache.
            let _ = self.set(key, &product).await;
            Arc::new(product)
        }
    }
}

/// Makes values, slowly, and counts them.
#[derive(Debug)]
pub(crate) struct Loader {
    takes: Duration,
    loads: AtomicU64,
    /// What to print when a load begins.
    line: Option<String>,
}

impl Loader {
    pub(crate) fn new(takes: Duration) -> Self {
        Self {
            takes,
            loads: AtomicU64::new(0),
            line: None,
        }
    }

    /// A loader that prints a line, and then never ends.
    pub(crate) fn endless(line: String) -> Self {
        Self {
            line: Some(line),
            ..Self::new(Duration::MAX)
        }
    }

    /// Returns how many loads have begun.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    pub(crate) async fn load(&self) -> Product {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if let Some(line) = &self.line {
            println!("{line}");
        }
        sleep(self.takes).await;
        Product::new(1)
    }
}

/// The runtime of the connections.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| build_runtime(2))
}

/// A runtime with one worker, so that the server has a core of its own.
pub(crate) fn one_worker() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| build_runtime(1))
}

fn build_runtime(workers: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(workers).enable_all();
    builder.build().expect("a runtime")
}

/// cacheio with L1.
#[derive(Clone)]
pub(crate) struct Cacheio(AsyncCache);

impl Cacheio {
    /// cacheio in memory alone, with the same namespace.
    pub(crate) fn in_memory(capacity: usize) -> Self {
        let memory = Memory::with_capacity(capacity);
        let cache = AsyncCache::builder().store(memory);
        Self(cache.namespace("bench").build().expect("valid settings"))
    }

    /// cacheio on Redis without L1.
    pub(crate) fn without_l1(url: &str) -> Self {
        let redis = Redis::new(url).expect("a URL");
        let cache = AsyncCache::builder().store(redis);
        Self(cache.namespace("bench").build().expect("valid settings"))
    }

    pub(crate) async fn set_tagged(&self, key: &str, product: &Product) -> cacheio::Result<()> {
        let options = Options::ttl(TTL).tags(["products"]);
        self.0.set_with(key, product, options).await
    }
}

impl Client for Cacheio {
    const NAME: &'static str = "cacheio, L1";
    const PREFIX: &'static str = "bench:";

    async fn connect(url: &str, near: Near) -> Result<Self, Failure> {
        let memory = Memory::with_capacity(near.capacity);
        let l1 = L1::new(memory).max_staleness(near.max_age);
        let cache = AsyncCache::builder().store(Redis::new(url)?).l1(l1);
        Ok(Self(cache.namespace("bench").build()?))
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Product>>, Failure> {
        Ok(self.0.get_arc(key).await?)
    }

    async fn set(&self, key: &str, product: &Product) -> Result<(), Failure> {
        Ok(self.0.set_with(key, product, TTL).await?)
    }

    async fn get_or_load(&self, key: &str, loader: &Loader) -> Arc<Product> {
        Arc::new(self.0.get_or_set_with(key, TTL, || loader.load()).await)
    }
}

/// The settings of the raw client. The machine may be busy.
pub(crate) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)))
}

/// The raw client: no memory.
#[derive(Clone)]
pub(crate) struct Raw(MultiplexedConnection);

impl Raw {
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Arc<Product>>, Failure> {
        let bytes: Option<Vec<u8>> = self.0.clone().get(key).await?;
        bytes.as_deref().map(decode).transpose()
    }

    pub(crate) async fn write(&self, key: &str, product: &Product) -> Result<(), Failure> {
        let milliseconds = TTL.as_millis().try_into()?;
        let stored = self
            .0
            .clone()
            .pset_ex(key, encode(product), milliseconds)
            .await;
        Ok(stored?)
    }
}

impl From<MultiplexedConnection> for Raw {
    fn from(connection: MultiplexedConnection) -> Self {
        Self(connection)
    }
}

impl Client for Raw {
    const NAME: &'static str = "redis, raw";

    async fn connect(url: &str, _: Near) -> Result<Self, Failure> {
        let client = redis::Client::open(url)?;
        let config = config();
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self(connection.await?))
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Product>>, Failure> {
        self.read(key).await
    }

    async fn set(&self, key: &str, product: &Product) -> Result<(), Failure> {
        self.write(key, product).await
    }
}
