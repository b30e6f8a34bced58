//! One program on any backend: a URL selects it.
//!
//! ```sh
//! cargo run --example switch_backend                                   # memory://
//! cargo run --example switch_backend -- "memory://?capacity=20"
//! cargo run --example switch_backend -- memcache://127.0.0.1:11211
//! cargo run --example switch_backend -- "redis://127.0.0.1:6379?namespace=shop&ttl=5m"
//! cargo run --example switch_backend -- redis-cluster://127.0.0.1:7000,127.0.0.1:7001
//! ```

use std::env;
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Stats};
use tokio::task::JoinSet;
use tokio::time::sleep;

const WORKERS: u64 = 8;
const REQUESTS: u64 = 100;
const PRODUCTS: u64 = 40;

/// The slow part, for example a database query.
async fn load_price(product: u64) -> u64 {
    sleep(Duration::from_millis(5)).await;
    product * 100 + 99
}

/// Workers that read the prices of some products, and sometimes change one.
async fn workload(cache: &AsyncCache) -> anyhow::Result<()> {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let cache = cache.clone();
        workers.spawn(async move {
            for request in 0..REQUESTS {
                let product = (worker * 7 + request * request) % PRODUCTS;
                let key = ("price", product);
                let price = cache.get_or_set(key, || load_price(product)).await;
                assert_eq!(price, product * 100 + 99);
                if request % 25 == 24 {
                    // Without a server this fails, and there is no entry to delete.
                    cache.delete(key).await.ok();
                }
            }
        });
    }
    while let Some(finished) = workers.join_next().await {
        finished?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = env::args().nth(1);
    let cache = AsyncCache::from_url(url.as_deref().unwrap_or("memory://"))?;
    if let Err(error) = cache.ping().await {
        println!("server absent, the program still works ({error})");
    }

    let start = Instant::now();
    workload(&cache).await?;
    let took = start.elapsed();

    let Stats {
        hits,
        misses,
        loads,
        waits,
        store_errors,
        ..
    } = cache.stats();
    println!("{} requests in {took:.0?}", WORKERS * REQUESTS);
    println!("hits {hits}, misses {misses}, loads {loads}, waits {waits}");
    println!("store errors {store_errors}");
    Ok(())
}
