//! Prints how soon after `max_load` the key of a hanging load is free: when the next caller has
//! loaded its own value.
//!
//! `cargo bench --bench hangs`; a number after `--` sets how many loads hang.

use std::future::pending;
use std::thread;
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Cache, LoadError};

const MAX_LOAD: Duration = Duration::from_millis(50);

fn main() {
    let loads = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(200);
    println!(
        "{loads} hanging loads, max_load {} ms: time from then until the key is free, in ms",
        MAX_LOAD.as_millis()
    );
    print("async", (0..loads).map(tasks()).collect());
    print("sync", (0..loads).map(threads()).collect());
}

fn tasks() -> impl FnMut(u32) -> Duration {
    let cache = AsyncCache::builder().max_load(MAX_LOAD);
    let cache = cache.build().expect("valid settings");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    move |key| {
        let late = runtime.block_on(async {
            let start = Instant::now();
            let hangs = cache.fetch(key, |_| pending::<Result<u32, String>>()).await;
            assert!(matches!(hangs, Err(LoadError::Timeout(_))));
            let loaded = cache.fetch(key, |_| async { Ok::<u32, String>(1) }).await;
            assert!(loaded.is_ok());
            start.elapsed().saturating_sub(MAX_LOAD)
        });
        // The hanging task must end too.
        while runtime.metrics().num_alive_tasks() > 0 {
            thread::yield_now();
        }
        late
    }
}

fn threads() -> impl FnMut(u32) -> Duration {
    let cache = Cache::builder().max_load(MAX_LOAD);
    let cache = cache.build().expect("valid settings");
    move |key| {
        let start = Instant::now();
        // A closure cannot be stopped: this one ends after `max_load`.
        let hangs = cache.fetch(key, |_| {
            thread::sleep(MAX_LOAD * 2);
            Ok::<u32, String>(0)
        });
        assert!(matches!(hangs, Err(LoadError::Timeout(_))));
        let loaded = cache.fetch(key, |_| Ok::<u32, String>(1));
        assert!(loaded.is_ok());
        start.elapsed().saturating_sub(MAX_LOAD)
    }
}

fn print(world: &str, mut late: Vec<Duration>) {
    late.sort();
    let at = |part: usize| late[(late.len() - 1) * part / 100].as_secs_f64() * 1_000.0;
    println!(
        "{world:<6} median {:.2}   p99 {:.2}   max {:.2}",
        at(50),
        at(99),
        at(100)
    );
}
