//! `AsyncCache` in a tokio program: many tasks, one cache.
//!
//! ```sh
//! cargo run --example async_quickstart
//! ```

use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Memory, Options, Ttl};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[derive(Debug)]
struct NoSuchUser(u64);

impl std::fmt::Display for NoSuchUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no user {}", self.0)
    }
}

/// The slow part, for example a database query.
async fn load_user(id: u64) -> Result<User, NoSuchUser> {
    sleep(Duration::from_millis(100)).await;
    match id {
        0 => Err(NoSuchUser(id)),
        id => Ok(User {
            id,
            name: format!("User {id}"),
        }),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Entries live for at most a minute; the jitter lets each expire at a different time.
    let cache = AsyncCache::builder()
        .store(Memory::with_capacity(10_000))
        .namespace("shop")
        .default_ttl(Duration::from_secs(60))
        .jitter(0.1)
        .build()?;

    // A hundred tasks request ten users: ten concurrent loads, and every task gets its user.
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let cache = cache.clone();
        tasks.spawn(async move {
            let id = n % 10 + 1;
            cache.get_or_try_set(("user", id), || load_user(id)).await
        });
    }
    while let Some(user) = tasks.join_next().await {
        user??;
    }
    let stats = cache.stats();
    println!(
        "100 calls: {} loads, {} waits, {:.0?}",
        stats.loads,
        stats.waits,
        start.elapsed()
    );

    // The next calls are hits.
    let start = Instant::now();
    let user: User = cache.get_or_try_set(("user", 7), || load_user(7)).await?;
    println!("a hit:     {user:?}, {:.0?}", start.elapsed());

    // A failed load stores nothing, and its error is returned to the caller.
    let missing = cache.get_or_try_set(("user", 0), || load_user(0)).await;
    println!("an error:  {}", missing.unwrap_err());

    // Several keys in one call, in their order.
    let users: Vec<Option<User>> = cache
        .get_many([("user", 3), ("user", 0), ("user", 1)])
        .await?;
    let names: Vec<_> = users
        .iter()
        .map(|user| user.as_ref().map(|user| &user.name))
        .collect();
    println!("get_many:  {names:?}");

    // TTLs are exact to a millisecond in memory.
    cache
        .set_with("token", "s3cret", Duration::from_millis(50))
        .await?;
    cache.set_with("colour", "green", Ttl::Never).await?;
    sleep(Duration::from_millis(80)).await;
    let (token, colour) = (cache.has("token").await?, cache.has("colour").await?);
    println!("expiry:    token {token}, colour {colour}");

    // `add` stores only if there is no live entry: one of two workers gets the job.
    let first = cache
        .add_with("job:7", "worker A", Duration::from_secs(5))
        .await?;
    let second = cache
        .add_with("job:7", "worker B", Duration::from_secs(5))
        .await?;
    println!("add:       A {first}, B {second}");

    // Tags: one call invalidates a whole group.
    for id in 1..=3 {
        let options = Options::new().tags(["carts"]);
        cache.set_with(("cart", id), id * 10, options).await?;
    }
    cache.invalidate_tags(["carts"]).await?;
    let carts: Vec<Option<u64>> = cache.get_many((1..=3).map(|id| ("cart", id))).await?;
    println!("tags:      {carts:?}");

    println!("{:?}", cache.stats());
    Ok(())
}
