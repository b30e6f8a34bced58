//! A product page over a slow database: from no cache to one that holds when the database fails or
//! hangs, and when Redis goes away. Each step prints what its users saw; these are the numbers of
//! the guide, `cacheio::guide`.
//!
//! ```sh
//! cargo run --release --example guide
//! ```
//!
//! The last two steps start a `redis-server` of their own; where it is not installed, they are left
//! out.

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

/// Short, so that many of them end while the program runs. A shop would say a minute.
const TTL: Duration = ms(300);

/// The time between two requests: 300 a second.
const PACE: Duration = Duration::from_micros(3_333);

const AT_ONCE: Duration = Duration::ZERO;

/// For how long Redis is away, and how many visits see it go and come.
const AWAY: Duration = ms(300);
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
    ahead().await?;
    timeouts().await?;
    match RedisServer::start()? {
        Some(mut server) => {
            redis(&server).await?;
            redis_goes_away(&mut server).await
        }
        None => {
            println!("\nSteps 6 and 7 are left out: redis-server is not installed.");
            Ok(())
        }
    }
}

// The cache, as it grows.

fn plain() -> AsyncCacheBuilder {
    AsyncCache::builder().default_ttl(TTL)
}

fn serving_stale() -> AsyncCacheBuilder {
    plain().stale_for(60 * TTL).retry_after(ms(150))
}

fn refreshing() -> AsyncCacheBuilder {
    serving_stale().refresh_ahead(0.5)
}

fn patient() -> AsyncCacheBuilder {
    refreshing().soft_timeout(ms(100)).hard_timeout(ms(200))
}

fn bounded() -> AsyncCacheBuilder {
    patient().max_load(ms(400))
}

// The steps.

/// A second of requests, for one product after another.
async fn a_second<F, V, E>(page: impl Fn(u64) -> F) -> Seen
where
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    visit(300, PACE, |n| page(n % PRODUCTS)).await
}

async fn no_cache() -> anyhow::Result<()> {
    let shop = Shop::new(plain())?;
    let seen = a_second(|id| shop.clone().uncached(id)).await;
    row("0 no cache", &shop.database, &seen);
    Ok(())
}

async fn get_or_set() -> anyhow::Result<()> {
    let shop = Shop::new(plain())?;
    let seen = a_second(|id| shop.clone().get_or_set(id)).await;
    row("1 `get_or_try_set`", &shop.database, &seen);
    Ok(())
}

/// A hundred users at once ask for a product that is not there, and a hundred when it has expired.
async fn stampede() -> anyhow::Result<()> {
    let shop = Shop::new(plain())?;
    let seen = twice(|| visit(100, AT_ONCE, |_| shop.clone().by_hand(1))).await;
    row("2 stampede, `get` and `set`", &shop.database, &seen);

    let shop = Shop::new(plain())?;
    let seen = twice(|| visit(100, AT_ONCE, |_| shop.clone().get_or_set(1))).await;
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
        ("3 database down", plain()),
        ("3 database down, `stale_for`", serving_stale()),
    ] {
        let shop = Shop::new(cache)?.warm().await?;
        let visits = a_second(|id| shop.clone().get_or_set(id));
        let down = shop.database.falls_ill(Health::Failing, ms(200), ms(500));
        let (seen, ()) = join!(visits, down);
        row(step, &shop.database, &seen);
    }
    Ok(())
}

/// All is well, but entries expire.
async fn ahead() -> anyhow::Result<()> {
    let shop = Shop::new(serving_stale())?.warm().await?;
    let seen = a_second(|id| shop.clone().get_or_set(id)).await;
    row("4 entries expire", &shop.database, &seen);

    let shop = Shop::new(refreshing())?.warm().await?;
    let seen = a_second(|id| shop.clone().fetch(id)).await;
    row("4 `fetch`, `refresh_ahead`", &shop.database, &seen);
    Ok(())
}

/// For 300 ms, the database takes queries that it never answers. Just then a product is launched:
/// nobody has asked for it before.
async fn timeouts() -> anyhow::Result<()> {
    for (step, cache) in [
        ("5 database hangs", refreshing()),
        ("5 `soft_timeout`, `hard_timeout`", patient()),
        ("5 and `max_load`", bounded()),
    ] {
        let shop = Shop::new(cache)?.warm().await?;
        let visits = a_second(|id| shop.clone().fetch(id));
        let launch = async {
            sleep(ms(250)).await;
            visit(30, ms(25), |_| shop.clone().fetch(PRODUCTS)).await
        };
        let hanging = shop.database.falls_ill(Health::Hanging, ms(200), ms(300));
        let (seen, launch, ()) = join!(visits, launch, hanging);
        row(step, &shop.database, &seen.and(launch));
    }
    Ok(())
}

/// One instance has been running for a while. After a third of the time a second one joins; after
/// another third the first one is started anew.
async fn redis(server: &RedisServer) -> anyhow::Result<()> {
    deploy("6 deployment, memory", || Ok(bounded())).await?;
    let on_redis = || Ok(bounded().store(Redis::new(server.url())?));
    deploy("6 deployment, Redis", on_redis).await
}

async fn deploy(
    step: &str,
    cache: impl Fn() -> cacheio::Result<AsyncCacheBuilder>,
) -> anyhow::Result<()> {
    let database = Database::new();
    // Nothing expires meanwhile: all loads are those of new instances.
    let instance = || Shop::over(database.clone(), cache()?.default_ttl(10 * TTL));
    let first = instance()?.warm().await?;
    let (second, first_again) = (instance()?, instance()?);
    let seen = visit(300, PACE, |n| {
        let shop = match (n / 100, n % 2) {
            (0, _) | (1, 0) => &first,
            (2, 0) => &first_again,
            _ => &second,
        };
        shop.clone().fetch(n / 2 % PRODUCTS)
    })
    .await;
    row(step, &database, &seen);
    Ok(())
}

/// Redis is killed and comes back, empty; or it answers nobody for a while.
async fn redis_goes_away(server: &mut RedisServer) -> anyhow::Result<()> {
    let url = format!("{}?timeout=50ms", server.url());
    let shop = async || Shop::new(bounded().store(Redis::new(&url)?))?.warm().await;

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
    sleep(AWAY).await;
    server.restart()
}

async fn hang(server: &RedisServer) -> io::Result<()> {
    sleep(ms(200)).await;
    server.hang(AWAY)
}
