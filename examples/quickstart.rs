//! First steps: the same calls for threads and for tasks.
//!
//! ```sh
//! cargo run --example quickstart
//! ```

use std::time::Duration;

use cacheio::{CacheFactory, Options, config, configure};

const MIN: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Changes the defaults of all caches that are built later.
    configure(|c| {
        c.default_ttl = Duration::from_secs(600);
        c.default_threshold = 1000;
    })?;
    println!("{:?}", config());

    threads()?;
    tasks().await
}

/// `Cache`, for threads.
fn threads() -> anyhow::Result<()> {
    println!("\nCache, for threads");
    let cache = CacheFactory::memory_cache();

    cache.set_with("my_key", "my_value", 5 * MIN)?;
    let value: Option<String> = cache.get("my_key")?;
    println!("  get              {value:?}");

    cache.increment("visits", 1)?;
    let visits = cache.increment("visits", 10)?;
    println!("  increment        {visits}");

    // The first call runs the closure, the second one is a hit.
    for _ in 0..2 {
        let user: String = cache.get_or_set(("user", 42), || load_user(42));
        println!("  get_or_set       {user}");
    }

    // A tag names a group of entries, which are invalidated together.
    let options = Options::new().ttl(MIN).tags(["prices"]);
    let price: u32 = cache.get_or_try_set_with(("price", 7), options, || "1999".parse())?;
    cache.invalidate_tags(["prices"])?;
    let after: Option<u32> = cache.get(("price", 7))?;
    println!("  invalidate_tags  {price}, then {after:?}");

    let deleted = cache.delete("my_key")?;
    let again = cache.delete("my_key")?;
    println!("  delete           {deleted}, then {again}");
    Ok(())
}

/// `AsyncCache`, for tasks: the same names, plus `.await`.
async fn tasks() -> anyhow::Result<()> {
    println!("\nAsyncCache, for tasks");
    let cache = CacheFactory::async_memory_cache();

    cache.set_with("my_key", "my_value", 5 * MIN).await?;
    let value: Option<String> = cache.get("my_key").await?;
    println!("  get              {value:?}");

    cache.increment("visits", 1).await?;
    let visits = cache.increment("visits", 10).await?;
    println!("  increment        {visits}");

    for _ in 0..2 {
        let user: String = cache.get_or_set(("user", 42), async || load_user(42)).await;
        println!("  get_or_set       {user}");
    }

    let options = Options::new().ttl(MIN).tags(["prices"]);
    let price: u32 = cache
        .get_or_try_set_with(("price", 7), options, async || "1999".parse())
        .await?;
    cache.invalidate_tags(["prices"]).await?;
    let after: Option<u32> = cache.get(("price", 7)).await?;
    println!("  invalidate_tags  {price}, then {after:?}");

    let deleted = cache.delete("my_key").await?;
    let again = cache.delete("my_key").await?;
    println!("  delete           {deleted}, then {again}");
    Ok(())
}

fn load_user(id: u64) -> String {
    println!("  (loads user {id})");
    String::from("Ada")
}
