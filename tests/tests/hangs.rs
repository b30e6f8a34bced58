//! Loads that hang leave no tasks, timers or threads.

#![cfg(not(shuttle))]

use std::future::pending;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_core::{LoadError, Options};
use cacheio_sync::Cache;
use cacheio_tests::watchdog::guarded;

const SOON: Duration = Duration::from_millis(20);

#[test]
fn the_tasks_of_hanging_loads_end() {
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let cache = AsyncCache::builder().max_load(SOON).build().unwrap();
            let dropped = Arc::new(());
            for key in 0..100 {
                let (cache, held) = (cache.clone(), Arc::clone(&dropped));
                let hangs = tokio::spawn(async move {
                    let load = |_| async move {
                        let _held = held;
                        pending::<Result<u32, String>>().await
                    };
                    cache.fetch(key, load).await
                });
                // Some callers are dropped, others wait.
                if key % 2 == 0 {
                    tokio::task::yield_now().await;
                    hangs.abort();
                } else {
                    drop(hangs);
                }
            }
            let metrics = tokio::runtime::Handle::current().metrics();
            while metrics.num_alive_tasks() > 0 || Arc::strong_count(&dropped) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Every key can be loaded again.
            for key in 0..100 {
                let loaded = cache.fetch(key, |_| async { Ok::<_, String>(7) }).await;
                assert_eq!(loaded.unwrap(), 7);
            }
        });
    });
}

/// The clock of the runtime is paused, and would pass a timeout at once.
#[test]
fn a_timeout_takes_its_time_and_leaves_no_task() {
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let cache = AsyncCache::builder().build().unwrap();
            let start = Instant::now();
            let options = Options::new().max_load(SOON);
            let hangs = cache.fetch_with("k", options, |_| pending::<Result<u32, String>>());
            assert!(matches!(hangs.await, Err(LoadError::Timeout(_))));
            assert!(start.elapsed() >= SOON);
            let options = Options::new().hard_timeout(SOON);
            let hangs = cache.get_or_try_set_with("k", options, pending::<Result<u32, String>>);
            assert!(matches!(hangs.await, Err(LoadError::Timeout(_))));
            assert!(start.elapsed() >= 2 * SOON);
            let metrics = tokio::runtime::Handle::current().metrics();
            assert_eq!(metrics.num_alive_tasks(), 0);
        });
    });
}

/// Returns how many threads caches have started for their loads.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "cacheio-load").count()
}

/// A closure cannot be stopped: it keeps its thread until it ends, but its key is free.
#[cfg(target_os = "linux")]
#[test]
fn the_threads_of_hanging_loads_end_with_the_loads() {
    guarded(|| {
        let cache = Cache::builder().max_load(SOON).build().unwrap();
        let (end, ends) = channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        for key in 0..10 {
            let ends = Arc::clone(&ends);
            let hangs = cache.fetch(key, move |_| {
                let _ = ends.lock().unwrap().recv();
                Ok::<_, String>(1)
            });
            assert!(matches!(hangs, Err(LoadError::Timeout(_))));
            // On a busy machine, this load takes longer than the other may.
            let patient = Options::new().max_load(Duration::from_secs(60));
            let loaded = cache.fetch_with(key, patient, |_| Ok::<_, String>(7));
            assert_eq!(loaded.unwrap(), 7);
        }
        assert!((10..=16).contains(&threads()), "{} threads", threads());
        assert_eq!(cache.stats().load_timeouts, 10);
        drop(end);
        drop(cache);
        while threads() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
