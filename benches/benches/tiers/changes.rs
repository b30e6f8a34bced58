//! When a process sees what another one has changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_tests::servers::{Proxy, Redis};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::clients::{Client, Near, Product, Raw, runtime};
use crate::table::{median, quantile};

/// The bound of those that have one.
pub(crate) const BOUND: Duration = Duration::from_secs(2);
/// Nothing is waited for longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(4);
/// A change that takes longer is not measured often.
const SLOW: Duration = Duration::from_millis(500);
const READERS: usize = 16;

const NEAR: Near = Near {
    capacity: 10_000,
    max_age: BOUND,
};

/// How long changes take to be seen, from the reply to the write on.
pub(crate) struct Changes {
    /// By the same client in another process: median, and 99 %.
    pub(crate) told: (Duration, Duration),
    /// By a program that does not know the client: the median.
    pub(crate) foreign: Duration,
    /// How many of the races left an old value, when all was quiet.
    pub(crate) stale: usize,
    /// How long an old value was served on a connection that has fallen silent.
    pub(crate) silent: Duration,
}

pub(crate) fn measure<C: Client>(changes: usize, race_count: usize) -> Changes {
    runtime().block_on(async {
        Changes {
            told: told::<C>(changes).await,
            foreign: foreign::<C>(changes).await,
            stale: races::<C>(race_count).await,
            silent: silent::<C>().await,
        }
    })
}

async fn told<C: Client>(rounds: usize) -> (Duration, Duration) {
    let server = Redis::start();
    let (reader, writer) = (
        connect::<C>(&server.url()).await,
        connect::<C>(&server.url()).await,
    );
    let change = async |version| {
        let changed = writer.set("k", &Product::new(version)).await;
        changed.expect("the server answers");
    };
    times(&reader, change, rounds).await
}

async fn foreign<C: Client>(rounds: usize) -> Duration {
    let server = Redis::start();
    let reader = connect::<C>(&server.url()).await;
    let raw = connect::<Raw>(&server.url()).await;
    let key = format!("{}k", C::PREFIX);
    let change = async |version| {
        let changed = raw.set(&key, &Product::new(version)).await;
        changed.expect("the server answers");
    };
    times(&reader, change, rounds).await.0
}

/// Returns how long changes take to be seen by a reader whose memory has the entry: the median, and 99 %.
async fn times<C: Client>(
    reader: &C,
    change: impl AsyncFn(u64),
    rounds: usize,
) -> (Duration, Duration) {
    // It is not measured how a client finds out that its server tells of changes.
    change(0).await;
    let _ = reader.get("k").await;
    sleep(SLOW).await;
    change(1).await;
    until_seen(reader, 1).await;
    let mut seconds = Vec::new();
    for version in 2..=rounds as u64 {
        // Some keep only a part of what they read.
        for _ in 0..50 {
            let _ = reader.get("k").await;
        }
        change(version).await;
        let took = until_seen(reader, version).await;
        seconds.push(took.as_secs_f64());
        if took > SLOW && seconds.len() >= 3 || took >= LIMIT {
            break;
        }
    }
    let seconds_of = |share| quantile(seconds.iter().copied(), share);
    (
        Duration::from_secs_f64(median(seconds.iter().copied())),
        Duration::from_secs_f64(seconds_of(0.99)),
    )
}

/// Waits until a value is read, and returns how long that took.
async fn until_seen<C: Client>(reader: &C, version: u64) -> Duration {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        match reader.get("k").await {
            Ok(Some(found)) if found.version == version => break,
            _ => yield_now().await,
        }
    }
    begun.elapsed()
}

/// Reads until something else is found than an old value, and returns when the last call began that found it.
async fn last_seen<C: Client>(reader: &C, old: u64) -> Duration {
    let begun = Instant::now();
    let mut last = Duration::ZERO;
    while last < LIMIT {
        let call = begun.elapsed();
        match reader.get("k").await {
            Ok(Some(found)) if found.version == old => last = call,
            _ => break,
        }
        yield_now().await;
    }
    last
}

/// Many callers read a key for the first time, while another process changes it.
async fn races<C: Client>(rounds: usize) -> usize {
    let server = Redis::start();
    let (reader, writer) = (
        connect::<C>(&server.url()).await,
        connect::<C>(&server.url()).await,
    );
    let mut stale = 0;
    for round in 0..rounds {
        let key: Arc<str> = format!("race:{round}").into();
        let set = async |version| {
            let set = writer.set(&key, &Product::new(version)).await;
            set.expect("the server answers");
        };
        set(1).await;
        let mut readers = JoinSet::new();
        for _ in 0..READERS {
            let (reader, key) = (reader.clone(), Arc::clone(&key));
            readers.spawn(async move { reader.get(&key).await.map(drop) });
        }
        set(2).await;
        readers.join_all().await;
        // What was told has come.
        sleep(Duration::from_millis(2)).await;
        let found = reader.get(&key).await.expect("the server answers");
        stale += usize::from(found.is_some_and(|found| found.version == 1));
    }
    stale
}

/// A connection on which nothing comes any more, and which is not closed, as behind a router that failed.
async fn silent<C: Client>() -> Duration {
    let server = Redis::start();
    let proxy = Proxy::to(server.address());
    let reader = connect::<C>(&format!("redis://{}", proxy.address())).await;
    let raw = connect::<Raw>(&server.url()).await;
    let key = format!("{}k", C::PREFIX);
    let set = async |version| {
        let set = raw.set(&key, &Product::new(version)).await;
        set.expect("the server answers");
    };
    set(1).await;
    // Until its memory has the entry, and it has found out about the server.
    let until = Instant::now() + BOUND / 2;
    while Instant::now() < until {
        let _ = reader.get("k").await;
        sleep(Duration::from_millis(1)).await;
    }
    proxy.lose_connections();
    set(2).await;
    last_seen(&reader, 1).await
}

async fn connect<C: Client>(url: &str) -> C {
    let client = C::connect(url, NEAR).await;
    client.expect("the server is there")
}
