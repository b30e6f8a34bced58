//! A batch that takes many times its timeout, and what other callers notice of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Redis};
use cacheio_tests::servers;

const COUNT: usize = 100_000;
const TIMEOUT: Duration = Duration::from_millis(200);
/// What another caller does between two calls.
const PAUSE: Duration = Duration::from_millis(2);
const OTHERS: usize = 8;

/// Stores 100,000 values of 1 kB in one call, while other callers read, and prints what it takes.
pub(crate) fn print() {
    let server = servers::Redis::start();
    let url = format!("{}?timeout={}ms", server.url(), TIMEOUT.as_millis());
    let store = Redis::new(url).expect("a URL");
    let cache = AsyncCache::builder().store(store).build();
    let cache = cache.expect("valid settings");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        cache.set("other", 1).await.expect("the server answers");
        let stop = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..OTHERS)
            .map(|_| tokio::spawn(read(cache.clone(), Arc::clone(&stop))))
            .collect();
        let value = "v".repeat(998);
        let entries: Vec<_> = (0..COUNT).map(|key| (key, &value)).collect();
        let start = Instant::now();
        let stored = cache.set_many(entries).await;
        let took = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        let mut reads = Vec::new();
        for other in others {
            reads.extend(other.await.expect("no caller panics"));
        }
        let failed = reads.iter().filter(|read| read.is_none()).count();
        let mut reads: Vec<Duration> = reads.into_iter().flatten().collect();
        reads.sort_unstable();
        let at = |percent: usize| reads.get((reads.len().max(1) - 1) * percent / 100);
        let at = |percent| at(percent).map_or(f64::NAN, |read| read.as_secs_f64() * 1e3);
        println!(
            "\n`set_many` of {COUNT} values of 1 kB, with a timeout of {TIMEOUT:?}: {} after {:.0} ms; {} circuits opened. \
             Meanwhile {OTHERS} callers made {} gets, of which {failed} failed: median {:.2} ms, p99 {:.2} ms, slowest {:.2} ms.",
            match &stored {
                Ok(()) => "stored".to_owned(),
                Err(error) => format!("failed ({error})"),
            },
            took.as_secs_f64() * 1e3,
            cache.stats().circuit_opens,
            reads.len() + failed,
            at(50),
            at(99),
            at(100),
        );
    });
}

/// Reads until `stop` is set; returns how long each call took, or `None` if it failed.
async fn read(cache: AsyncCache, stop: Arc<AtomicBool>) -> Vec<Option<Duration>> {
    let mut reads = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let found = cache.get::<i32>("other").await;
        reads.push(matches!(found, Ok(Some(1))).then(|| start.elapsed()));
        tokio::time::sleep(PAUSE).await;
    }
    reads
}
