//! A process that does what the main one tells it, line by line.

use std::convert::Infallible;
use std::env;
use std::io::{self, stdin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Memory, Redis};
use tokio::time::sleep;

use crate::OUTAGE;

const ARGUMENT: &str = "--worker";
/// How long the slow part takes.
const LOAD: Duration = Duration::from_millis(300);
/// How long a process reads as fast as it can.
const HITS: Duration = Duration::from_millis(500);

/// What processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Entries,
    All,
}

impl Mode {
    pub(crate) const NAMES: [&str; 2] = ["shared entries", "shared loads, and L1"];

    pub(crate) fn arguments(self, url: &str) -> [&str; 3] {
        [ARGUMENT, Self::NAMES[self as usize], url]
    }
}

/// Returns how this process is to be a worker, if it is one.
pub(crate) fn asked_for() -> Option<(Mode, String)> {
    let mut arguments = env::args().skip_while(|argument| argument != ARGUMENT);
    let name = arguments.nth(1)?;
    let mode = match name == Mode::NAMES[0] {
        true => Mode::Entries,
        false => Mode::All,
    };
    Some((mode, arguments.next()?))
}

#[tokio::main]
pub(crate) async fn run(mode: Mode, url: &str) -> anyhow::Result<()> {
    let builder = AsyncCache::builder().store(Redis::new(url)?);
    let cache = match mode {
        Mode::Entries => builder
            .namespace("example-entries")
            .shared_loads(false)
            .build()?,
        Mode::All => builder
            .namespace("example-all")
            .l1(Memory::with_capacity(10_000))
            .build()?,
    };
    cache.ping().await?;
    println!("ready");
    while let Some(line) = next_line()? {
        match line.split_once(' ').unwrap_or((&line, "")) {
            // Of an earlier run.
            ("clear", _) => {
                cache.clear().await?;
                println!("cleared");
            }
            ("get", key) => get(&cache, key).await,
            ("hits", _) => hits(&cache).await?,
            ("set", number) => {
                cache.set("changed", number.to_owned()).await?;
                println!("set");
            }
            ("watch", number) => watch(&cache, number).await?,
            ("hang", _) => hang(&cache).await,
            ("outage", _) => outage(&cache).await?,
            _ => anyhow::bail!("unknown line {line:?}"),
        }
    }
    Ok(())
}

fn next_line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = stdin().read_line(&mut line)?;
    Ok((length > 0).then(|| line.trim_end().to_owned()))
}

async fn get(cache: &AsyncCache, key: &str) {
    let loads = AtomicU64::new(0);
    let value: u64 = cache
        .get_or_set(key, || async {
            loads.fetch_add(1, Ordering::Relaxed);
            sleep(LOAD).await;
            42
        })
        .await;
    assert_eq!(value, 42);
    println!("loads {}", loads.into_inner());
}

async fn hits(cache: &AsyncCache) -> anyhow::Result<()> {
    cache.get_or_set("hot", async || 42_u64).await;
    let (begun, mut hits) = (Instant::now(), 0_u32);
    while begun.elapsed() < HITS {
        for _ in 0..100 {
            assert_eq!(cache.get::<u64>("hot").await?, Some(42));
            hits += 1;
        }
    }
    println!(
        "hits {:.0}",
        f64::from(hits) / begun.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn watch(cache: &AsyncCache, number: &str) -> anyhow::Result<()> {
    // Twice: the second read finds what the first one left in memory.
    for _ in 0..2 {
        cache.get::<String>("changed").await?;
    }
    println!("watching");
    while cache.get::<String>("changed").await?.as_deref() != Some(number) {
        // Others need the processor too.
        sleep(Duration::from_micros(100)).await;
    }
    println!("seen");
    Ok(())
}

async fn hang(cache: &AsyncCache) {
    let load = || async {
        println!("loading");
        std::future::pending().await
    };
    let _: u64 = cache.get_or_set("hung", load).await;
}

async fn outage(cache: &AsyncCache) -> anyhow::Result<()> {
    let loads = AtomicU64::new(0);
    let load = || async {
        loads.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(42_u64)
    };
    cache.get_or_try_set("hot", load).await?;
    cache.get_or_try_set("hot", load).await?;
    println!("warm");
    // Until the server is dead.
    next_line()?;
    loads.store(0, Ordering::Relaxed);
    let (begun, mut calls, mut errors) = (Instant::now(), 0_u64, 0_u64);
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < OUTAGE {
        let call = Instant::now();
        if cache.get_or_try_set("hot", load).await.is_err() {
            errors += 1;
        }
        slowest = slowest.max(call.elapsed());
        calls += 1;
        sleep(Duration::from_millis(10)).await;
    }
    println!(
        "calls {calls}\nloads {}\nerrors {errors}",
        loads.into_inner()
    );
    println!("slowest {}", slowest.as_millis());
    Ok(())
}
