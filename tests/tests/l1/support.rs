//! Caches on servers that tell of changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::servers::Redis;

/// Much longer than a change takes to be told.
pub(crate) const LONG: Duration = Duration::from_secs(50);
pub(crate) const SHORT: Duration = Duration::from_millis(400);

pub(crate) fn open(url: &str, bound: Duration) -> Cache {
    let l1 = L1::new(Memory::with_capacity(1_000)).max_staleness(bound);
    let redis = cacheio_sync::Redis::new(url).unwrap();
    Cache::builder().store(redis).l1(l1).build().unwrap()
}

pub(crate) fn get(cache: &Cache, key: &str) -> Option<i64> {
    cache.get(key).unwrap()
}

/// Waits until the server is heard: then a copy outlives the bound.
pub(crate) fn until_heard(cache: &Cache, bound: Duration) {
    cache.set("heard", 1).unwrap();
    until_copied("heard", cache, bound);
}

/// Does the same for the server of this key, which exists.
pub(crate) fn until_copied(key: &str, cache: &Cache, bound: Duration) {
    until_batch_copied(&[key], cache, bound);
}

/// Waits until the copies that a batch makes outlive the bound.
pub(crate) fn until_batch_copied(keys: &[&str], cache: &Cache, bound: Duration) {
    let read = || cache.get_many::<i64>(keys.iter().copied()).unwrap();
    loop {
        cache.clear_l1();
        let found = read();
        let before = cache.stats().l1_hits;
        sleep(bound + bound / 4);
        assert_eq!(read(), found);
        if cache.stats().l1_hits == before + keys.len() as u64 {
            return;
        }
    }
}

/// Waits until the server has replied to the first probe.
pub(crate) fn until_probed(server: &Redis, cache: &Cache) {
    cache.ping().unwrap();
    while !server
        .run("INFO commandstats")
        .text()
        .contains("cmdstat_eval:")
    {
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(100));
}

/// Makes a copy of a value.
pub(crate) fn copy(cache: &Cache, key: &str, value: Option<i64>) {
    for _ in 0..2 {
        assert_eq!(get(cache, key), value);
    }
}

/// Waits until a cache reads this, and returns how long that took.
pub(crate) fn until(cache: &Cache, key: &str, value: Option<i64>) -> Duration {
    let begun = Instant::now();
    while cache.get(key).ok() != Some(value) {
        assert!(begun.elapsed() < LONG / 2, "{key} is not {value:?}");
        thread::yield_now();
    }
    begun.elapsed()
}

/// Writes a value, and checks that after the bound the cache does not serve the old one any more.
pub(crate) fn nothing_old_after_the_bound(cache: &Cache, key: &str, write: impl FnOnce()) {
    copy(cache, key, Some(1));
    write();
    sleep(SHORT);
    let until = Instant::now() + SHORT * 3;
    while Instant::now() < until {
        let found = cache.get::<i64>(key);
        assert!(!matches!(found, Ok(Some(1))), "older than the bound");
    }
}

/// Checks that no read returns a value that was replaced more than the bound ago, while `disturb` is called
/// between the writes.
pub(crate) fn nothing_read_is_older_than_the_bound(
    cache: &Cache,
    writer: &Cache,
    mut disturb: impl FnMut(usize),
) {
    const KEYS: usize = 8;
    // When each value was replaced, in microseconds: values count from 0.
    let begun = Instant::now();
    let micros = || u64::try_from(begun.elapsed().as_micros()).unwrap();
    let replaced: Vec<Vec<AtomicU64>> = (0..KEYS)
        .map(|_| (0..100_000).map(|_| AtomicU64::new(u64::MAX)).collect())
        .collect();
    let (has_ended, hits) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..3 {
            let (replaced, has_ended, hits) = (&replaced, &has_ended, &hits);
            scope.spawn(move || {
                for round in reader.. {
                    if has_ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let key = round % KEYS;
                    let at = micros();
                    let Ok(Some(found)) = cache.get::<usize>(key) else {
                        continue;
                    };
                    hits.fetch_add(1, Ordering::Relaxed);
                    let end = replaced[key][found].load(Ordering::SeqCst);
                    let age = at.saturating_sub(end);
                    let bound = u64::try_from(SHORT.as_micros()).unwrap();
                    assert!(age <= bound, "{age} µs after it was replaced");
                }
            });
        }
        for value in 0.. {
            if begun.elapsed() > Duration::from_secs(8) {
                break;
            }
            for (key, replaced) in replaced.iter().enumerate() {
                writer.set(key, value).unwrap();
                if value > 0 {
                    replaced[value - 1].store(micros(), Ordering::SeqCst);
                }
            }
            disturb(value);
        }
        has_ended.store(true, Ordering::SeqCst);
    });
    assert!(hits.load(Ordering::SeqCst) > 0);
    assert!(cache.stats().l1_hits > 0, "{:?}", cache.stats());
}
