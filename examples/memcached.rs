//! `Cache` on Memcached, and what happens when Memcached is absent.
//!
//! ```sh
//! cargo run --example memcached                                      # memcache://127.0.0.1:11211
//! cargo run --example memcached -- "memcache://10.0.0.7,10.0.0.8"    # or MEMCACHED_URL=…
//! ```

use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cacheio::{Cache, CacheFactory};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// The slow part, for example a database query.
fn load_user(id: u64) -> User {
    sleep(Duration::from_millis(100));
    let name = format!("User {id}");
    User { id, name }
}

/// One query for all users that are missing.
fn load_users(keys: Vec<(&str, u64)>) -> Vec<((&str, u64), User)> {
    println!("  (one query for {} users)", keys.len());
    sleep(Duration::from_millis(100));
    let user = |key: (_, u64)| {
        let name = format!("User {}", key.1);
        (key, User { id: key.1, name })
    };
    keys.into_iter().map(user).collect()
}

fn main() -> anyhow::Result<()> {
    let url = env::args()
        .nth(1)
        .or_else(|| env::var("MEMCACHED_URL").ok());
    let url = url.as_deref().unwrap_or("memcache://127.0.0.1:11211");

    // This makes no connection: a program can start while its server is absent.
    let cache = CacheFactory::memcached_cache(url)?;
    match cache.ping() {
        Ok(()) => by_hand(&cache)?,
        Err(error) => println!("server absent, the program still works ({error})"),
    }
    // The rest works with and without the server; only the time differs.
    slow_loader(&cache);
    batch(&cache);
    println!("{:?}", cache.stats());
    Ok(())
}

/// These calls return the server's errors, so they need the server.
fn by_hand(cache: &Cache) -> anyhow::Result<()> {
    cache.set_with("greeting", "hello", Duration::from_secs(60))?;
    let greeting: Option<String> = cache.get("greeting")?;
    let visits = cache.increment("visits", 1)?;
    println!("get:              {greeting:?}; visits: {visits}");
    // The next run of the example should load again.
    cache.delete_many((1..=5).map(|id| ("user", id)))?;
    Ok(())
}

/// `get_or_set` always returns a value: without the server, each call runs the loader.
fn slow_loader(cache: &Cache) {
    for attempt in ["first", "second"] {
        let start = Instant::now();
        let user: User = cache.get_or_set(("user", 1), || load_user(1));
        let took = start.elapsed();
        println!("get_or_set:       {user:?}, {attempt} time: {took:.1?}");
    }
}

/// Many keys: one round trip to read, one load for all that are missing, one round trip to store.
fn batch(cache: &Cache) {
    let keys = (1..=5).map(|id| ("user", id));
    let start = Instant::now();
    let users: Vec<Option<User>> = cache.get_or_set_many(keys, load_users);
    println!(
        "get_or_set_many:  {} users, {:.1?}",
        users.iter().flatten().count(),
        start.elapsed()
    );
}
