//! `AsyncCache` on Redis, and what happens when Redis is absent.
//!
//! ```sh
//! cargo run --example redis                                   # redis://127.0.0.1:6379
//! cargo run --example redis -- "redis://:secret@10.0.0.7/1"   # or REDIS_URL=…
//! ```

use std::env;
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, CacheFactory};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// The slow part, for example a database query.
async fn load_user(id: u64) -> User {
    sleep(Duration::from_millis(100)).await;
    let name = format!("User {id}");
    User { id, name }
}

/// One query for all users that are missing.
async fn load_users(keys: Vec<(&str, u64)>) -> Vec<((&str, u64), User)> {
    println!("  (one query for {} users)", keys.len());
    sleep(Duration::from_millis(100)).await;
    let user = |key: (_, u64)| {
        let name = format!("User {}", key.1);
        (key, User { id: key.1, name })
    };
    keys.into_iter().map(user).collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = env::args().nth(1).or_else(|| env::var("REDIS_URL").ok());
    let url = url.as_deref().unwrap_or("redis://127.0.0.1:6379");

    // This makes no connection: a program can start while its server is absent.
    let cache = CacheFactory::async_redis_cache(url)?;
    match cache.ping().await {
        Ok(()) => by_hand(&cache).await?,
        Err(error) => println!("server absent, the program still works ({error})"),
    }
    // The rest works with and without the server; only the time differs.
    slow_loader(&cache).await;
    batch(&cache).await;
    println!("{:?}", cache.stats());
    Ok(())
}

/// These calls return the server's errors, so they need the server.
async fn by_hand(cache: &AsyncCache) -> anyhow::Result<()> {
    cache
        .set_with("greeting", "hello", Duration::from_secs(60))
        .await?;
    let greeting: Option<String> = cache.get("greeting").await?;
    let visits = cache.increment("visits", 1).await?;
    println!("get:              {greeting:?}; visits: {visits}");
    println!("in redis-cli:     GET {}:greeting", cache.namespace());
    // The next run of the example should load again.
    cache.delete_many((1..=5).map(|id| ("user", id))).await?;
    Ok(())
}

/// `get_or_set` always returns a value: without the server, each call runs the loader.
async fn slow_loader(cache: &AsyncCache) {
    for attempt in ["first", "second"] {
        let start = Instant::now();
        let user: User = cache.get_or_set(("user", 1), || load_user(1)).await;
        let took = start.elapsed();
        println!("get_or_set:       {user:?}, {attempt} time: {took:.1?}");
    }
}

/// Many keys: one round trip to read, one load for all that are missing, one round trip to store.
async fn batch(cache: &AsyncCache) {
    let keys = (1..=5).map(|id| ("user", id));
    let start = Instant::now();
    let users: Vec<Option<User>> = cache.get_or_set_many(keys, load_users).await;
    println!(
        "get_or_set_many:  {} users, {:.1?}",
        users.iter().flatten().count(),
        start.elapsed()
    );
}
