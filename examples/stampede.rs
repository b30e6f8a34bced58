//! A thousand callers miss the same key at the same time: one loads, the others wait for its result.
//! And a key that is deleted during a load stays deleted.
//!
//! ```sh
//! cargo run --example stampede
//! ```

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use cacheio::{CacheFactory, Stats};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

const CALLERS: usize = 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    threads();
    tasks().await?;
    delete_during_a_load().await
}

/// The slow part, which must not run a thousand times.
fn slow_report() -> String {
    thread::sleep(Duration::from_millis(300));
    String::from("the report")
}

fn threads() {
    let cache = CacheFactory::memory_cache();
    let start = Barrier::new(CALLERS);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                start.wait();
                let report: String = cache.get_or_set("report", slow_report);
                assert_eq!(report, "the report");
            });
        }
    });
    show("threads", cache.stats());
}

async fn tasks() -> anyhow::Result<()> {
    let cache = CacheFactory::async_memory_cache();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let cache = cache.clone();
        callers.spawn(async move {
            let load = async || {
                sleep(Duration::from_millis(300)).await;
                String::from("the report")
            };
            cache.get_or_set("report", load).await
        });
    }
    while let Some(report) = callers.join_next().await {
        assert_eq!(report?, "the report");
    }
    show("tasks", cache.stats());
    Ok(())
}

fn show(callers: &str, stats: Stats) {
    let Stats {
        loads, waits, hits, ..
    } = stats;
    println!("{CALLERS} {callers}: {loads} load, {waits} waited for it, {hits} later hits");
}

/// The price changes after the load has read the old one, so the load's result must not be stored.
async fn delete_during_a_load() -> anyhow::Result<()> {
    let cache = CacheFactory::async_memory_cache();
    let (began, has_begun) = oneshot::channel();
    let (finish, may_finish) = oneshot::channel::<()>();

    let reader = tokio::spawn({
        let cache = cache.clone();
        async move {
            let load = async || {
                let old_price = 10;
                began.send(()).ok();
                may_finish.await.ok();
                old_price
            };
            cache.get_or_set("price", load).await
        }
    });
    has_begun.await?;
    cache.delete("price").await?;
    finish.send(()).ok();

    println!("delete during a load:");
    println!("  its caller got    {}", reader.await?);
    println!("  the cache has     {:?}", cache.get::<i32>("price").await?);
    println!(
        "  the next call got {}",
        cache.get_or_set("price", async || 12).await
    );
    Ok(())
}
