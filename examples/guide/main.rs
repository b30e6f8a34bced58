//! A product page over a slow database: from no cache to one that works when the database fails or
//! hangs, and when Redis is away. Each step prints what its users saw; these are the numbers of the
//! chapter `cacheio::guide::slow_database`.
//!
//! ```sh
//! cargo run --release --example guide
//! ```
//!
//! The last two steps start their own `redis-server`; they are skipped if it is not installed.

mod database;
mod redis_server;
mod shop;
mod users;

use std::io;
use std::time::Duration;

use cacheio::{AsyncCache, AsyncCacheBuilder, Redis};
use tokio::join;
use tokio::time::sleep;

use crate::database::{Database, Health};
use crate::redis_server::RedisServer;
use crate::shop::{PRODUCTS, Shop};
use crate::users::{Seen, head, row, visit};

/// Short, so that entries expire often while the program runs. A real shop would use a minute.
const TTL: Duration = ms(300);

/// The time between two requests: 300 a second.
const PACE: Duration = Duration::from_micros(3_333);

const NO_PAUSE: Duration = Duration::ZERO;

/// How long Redis is away, and the number of requests before, during and after.
const OUTAGE: Duration = ms(300);
const VISITS: u64 = 360;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    head();
    no_cache().await?;
    get_or_set().await?;
    stampede().await?;
    stale().await?;
    hot_keys().await?;
    timeouts().await?;
    match RedisServer::start()? {
        Some(mut server) => {
            redis(&server).await?;
            redis_fails(&mut server).await
        }
        None => {
            println!("\nSteps 6 and 7 are skipped: redis-server is not installed.");
            Ok(())
        }
    }
}

// The settings of the cache, step by step.

fn with_ttl() -> AsyncCacheBuilder {
    AsyncCache::builder().default_ttl(TTL)
}

fn with_stale() -> AsyncCacheBuilder {
    with_ttl().stale_for(60 * TTL).retry_after(ms(150))
}

fn with_refresh() -> AsyncCacheBuilder {
    with_stale().refresh_ahead(0.5)
}

fn with_timeouts() -> AsyncCacheBuilder {
    with_refresh().soft_timeout(ms(100)).hard_timeout(ms(200))
}

fn with_max_load() -> AsyncCacheBuilder {
    with_timeouts().max_load(ms(400))
}

// The steps.

/// Sends requests for one second, for one product after another.
async fn visit_for_a_second<F, V, E>(page: impl Fn(u64) -> F) -> Seen
where
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    visit(300, PACE, |n| page(n % PRODUCTS)).await
}

async fn no_cache() -> anyhow::Result<()> {
    let shop = Shop::new(with_ttl())?;
    let seen = visit_for_a_second(|id| shop.clone().uncached(id)).await;
    row("0 no cache", &shop.database, &seen);
    Ok(())
}

async fn get_or_set() -> anyhow::Result<()> {
    let shop = Shop::new(with_ttl())?;
    let seen = visit_for_a_second(|id| shop.clone().get_or_set(id)).await;
    row("1 `get_or_try_set`", &shop.database, &seen);
    Ok(())
}

/// A hundred concurrent requests for a product that is not cached, and a hundred when it has expired.
async fn stampede() -> anyhow::Result<()> {
    let shop = Shop::new(with_ttl())?;
    let seen = twice(|| visit(100, NO_PAUSE, |_| shop.clone().by_hand(1))).await;
    row("2 stampede, `get` and `set`", &shop.database, &seen);

    let shop = Shop::new(with_ttl())?;
    let seen = twice(|| visit(100, NO_PAUSE, |_| shop.clone().get_or_set(1))).await;
    row("2 stampede, `get_or_try_set`", &shop.database, &seen);
    Ok(())
}

async fn twice<F: Future<Output = Seen>>(visits: impl Fn() -> F) -> Seen {
    let first = visits().await;
    sleep(TTL + ms(20)).await;
    first.and(visits().await)
}

/// The database refuses all queries for half a second.
async fn stale() -> anyhow::Result<()> {
    for (step, cache) in [
        ("3 database down", with_ttl()),
        ("3 database down, `stale_for`", with_stale()),
    ] {
        let shop = Shop::new(cache)?.warm().await?;
        let visits = visit_for_a_second(|id| shop.clone().get_or_set(id));
        let down = shop.database.fail_for(Health::Failing, ms(200), ms(500));
        let (seen, ()) = join!(visits, down);
        row(step, &shop.database, &seen);
    }
    Ok(())
}

/// The database works, but entries expire.
async fn hot_keys() -> anyhow::Result<()> {
    let shop = Shop::new(with_stale())?.warm().await?;
    let seen = visit_for_a_second(|id| shop.clone().get_or_set(id)).await;
    row("4 entries expire", &shop.database, &seen);

    let shop = Shop::new(with_refresh())?.warm().await?;
    let seen = visit_for_a_second(|id| shop.clone().fetch(id)).await;
    row("4 `fetch`, `refresh_ahead`", &shop.database, &seen);
    Ok(())
}

/// For 300 ms, queries that begin never end. At the same time a product is launched that is not in
/// the cache.
async fn timeouts() -> anyhow::Result<()> {
    for (step, cache) in [
        ("5 database hangs", with_refresh()),
        ("5 `soft_timeout`, `hard_timeout`", with_timeouts()),
        ("5 and `max_load`", with_max_load()),
    ] {
        let shop = Shop::new(cache)?.warm().await?;
        let visits = visit_for_a_second(|id| shop.clone().fetch(id));
        let launch = async {
            sleep(ms(250)).await;
            visit(30, ms(25), |_| shop.clone().fetch(PRODUCTS)).await
        };
        let hanging = shop.database.fail_for(Health::Hanging, ms(200), ms(300));
        let (seen, launch, ()) = join!(visits, launch, hanging);
        row(step, &shop.database, &seen.and(launch));
    }
    Ok(())
}

/// One instance is running. After a third of the time a second one starts; after another third the
/// first one restarts.
async fn redis(server: &RedisServer) -> anyhow::Result<()> {
    deploy("6 deployment, memory", || Ok(with_max_load())).await?;
    let on_redis = || Ok(with_max_load().store(Redis::new(server.url())?));
    deploy("6 deployment, Redis", on_redis).await
}

async fn deploy(
    step: &str,
    cache: impl Fn() -> cacheio::Result<AsyncCacheBuilder>,
) -> anyhow::Result<()> {
    let database = Database::new();
    // Nothing expires in this step: all loads come from new instances.
    let instance = || Shop::over(database.clone(), cache()?.default_ttl(10 * TTL));
    let first = instance()?.warm().await?;
    let (second, first_restarted) = (instance()?, instance()?);
    let seen = visit(300, PACE, |n| {
        let shop = match (n / 100, n % 2) {
            (0, _) | (1, 0) => &first,
            (2, 0) => &first_restarted,
            _ => &second,
        };
        shop.clone().fetch(n / 2 % PRODUCTS)
    })
    .await;
    row(step, &database, &seen);
    Ok(())
}

/// Redis is killed and restarts, empty; or it hangs for a while.
async fn redis_fails(server: &mut RedisServer) -> anyhow::Result<()> {
    let url = format!("{}?timeout=50ms", server.url());
    let shop = async || {
        Shop::new(with_max_load().store(Redis::new(&url)?))?
            .warm()
            .await
    };

    let by_hand = shop().await?;
    let visits = visit(VISITS, PACE, |n| by_hand.clone().by_hand(n % PRODUCTS));
    let (seen, killed) = join!(visits, kill(server));
    killed?;
    row("7 Redis killed, `get` and `set`", &by_hand.database, &seen);

    let fetching = shop().await?;
    let visits = visit(VISITS, PACE, |n| fetching.clone().fetch(n % PRODUCTS));
    let (seen, killed) = join!(visits, kill(server));
    killed?;
    row("7 Redis killed, `fetch`", &fetching.database, &seen);

    let fetching = shop().await?;
    let visits = visit(VISITS, PACE, |n| fetching.clone().fetch(n % PRODUCTS));
    let (seen, hung) = join!(visits, hang(server));
    hung?;
    row("7 Redis hangs, `fetch`", &fetching.database, &seen);
    Ok(())
}

async fn kill(server: &mut RedisServer) -> io::Result<()> {
    sleep(ms(200)).await;
    server.kill()?;
    sleep(OUTAGE).await;
    server.restart()
}

async fn hang(server: &RedisServer) -> io::Result<()> {
    sleep(ms(200)).await;
    server.hang(OUTAGE)
}
