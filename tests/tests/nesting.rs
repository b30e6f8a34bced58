//! Loads within loads: a cached function that calls itself.

#![cfg(not(shuttle))]

use std::panic::{AssertUnwindSafe, catch_unwind};

use cacheio::{AsyncCache, Cache, cached};
use cacheio_tests::watchdog::guarded;
use cacheio_tests::world::block_on;

/// The levels that fit into a thread with a stack of 2 MiB.
const LEVELS: u64 = if cfg!(debug_assertions) { 1_000 } else { 5_000 };

fn in_thread(body: impl FnOnce() + Send + 'static) {
    guarded(|| {
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn(body).unwrap().join().unwrap();
    });
}

#[cached]
fn fibonacci(n: u64) -> u64 {
    match n {
        0 | 1 => n,
        _ => fibonacci(n - 1).wrapping_add(fibonacci(n - 2)),
    }
}

#[test]
fn a_cached_function_calls_itself() {
    in_thread(|| {
        assert_eq!(fibonacci(90), 2_880_067_194_370_816_120);
        fibonacci(LEVELS);
    });
}

fn sum(cache: &Cache, n: u64) -> u64 {
    match n {
        0 => 0,
        _ => cache.get_or_set(n, || n + sum(cache, n - 1)),
    }
}

#[test]
fn loaders_nest() {
    in_thread(|| {
        let cache = Cache::new(1_000_000);
        assert_eq!(sum(&cache, LEVELS), LEVELS * (LEVELS + 1) / 2);
    });
}

async fn async_sum(cache: &AsyncCache, n: u64) -> u64 {
    match n {
        0 => 0,
        _ => {
            let load = async || n + Box::pin(async_sum(cache, n - 1)).await;
            cache.get_or_set(n, load).await
        }
    }
}

#[test]
fn loaders_of_tasks_nest() {
    in_thread(|| {
        let cache = AsyncCache::new(1_000_000);
        assert_eq!(
            block_on(async_sum(&cache, LEVELS)),
            LEVELS * (LEVELS + 1) / 2
        );
    });
}

fn batch_sum(cache: &Cache, n: u64) -> u64 {
    if n == 0 {
        return 0;
    }
    let load = |keys: Vec<u64>| keys.into_iter().map(|n| (n, n + batch_sum(cache, n - 1)));
    cache.get_or_set_many([n], load)[0].unwrap_or_default()
}

#[test]
fn loaders_of_batches_nest() {
    in_thread(|| {
        let cache = Cache::new(1_000_000);
        assert_eq!(batch_sum(&cache, LEVELS), LEVELS * (LEVELS + 1) / 2);
    });
}

#[test]
fn a_panic_passes_all_levels() {
    fn level(cache: &Cache, n: u64) -> u64 {
        match n {
            0 => panic!("the innermost load"),
            _ => cache.get_or_set(n, || level(cache, n - 1)),
        }
    }
    in_thread(|| {
        let cache = Cache::new(1_000_000);
        let panic = catch_unwind(AssertUnwindSafe(|| level(&cache, LEVELS))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"the innermost load"));
        // The levels load again, and the stack is as it was.
        assert_eq!(sum(&cache, LEVELS), LEVELS * (LEVELS + 1) / 2);
    });
}
