//! Loads of two stores against deletes: two stores of one server are as two processes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_sync::Cache;
use cacheio_tests::servers::{Memcached, Redis, RedisCluster};
use cacheio_tests::watchdog::guarded;

const DURATION: Duration = Duration::from_secs(4);
const KEYS: u64 = 4;

/// A value of the origin, and the last one whose predecessor was deleted from the cache.
#[derive(Default)]
struct Origin {
    version: AtomicU64,
    deleted: AtomicU64,
}

/// A value that was loaded before a delete began is never read after the delete has returned.
fn no_value_from_before_a_delete_is_read_after_it(url: &str) {
    let origins: Vec<_> = (0..KEYS).map(|_| Origin::default()).collect();
    let (has_ended, reads, hits) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let caches: Vec<_> = (0..3).map(|_| Cache::from_url(url).unwrap()).collect();
    thread::scope(|scope| {
        let (origins, has_ended, reads, hits) = (&origins, &has_ended, &reads, &hits);
        for (number, cache) in caches.iter().enumerate() {
            scope.spawn(move || {
                for round in 0.. {
                    if has_ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let key = (round + number as u64) % KEYS;
                    let origin = &origins[key as usize];
                    cache.get_or_set(key, || {
                        let version = origin.version.load(Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(round * 7 % 900));
                        version
                    });
                }
            });
            scope.spawn(move || {
                for round in 0.. {
                    if has_ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let key = (round * 3 + number as u64) % KEYS;
                    let floor = origins[key as usize].deleted.load(Ordering::SeqCst);
                    let found = cache.get::<u64>(key).unwrap();
                    reads.fetch_add(1, Ordering::Relaxed);
                    if let Some(version) = found {
                        hits.fetch_add(1, Ordering::Relaxed);
                        assert!(
                            version >= floor,
                            "{version} was read after {floor} was deleted"
                        );
                    }
                }
            });
        }
        let begun = Instant::now();
        let writer = &caches[0];
        for round in 0_u64.. {
            if begun.elapsed() > DURATION {
                break;
            }
            let key = round % KEYS;
            let origin = &origins[key as usize];
            let version = origin.version.fetch_add(1, Ordering::SeqCst) + 1;
            writer.delete(key).unwrap();
            origin.deleted.store(version, Ordering::SeqCst);
            thread::sleep(Duration::from_micros(round * 13 % 1_500));
        }
        has_ended.store(true, Ordering::SeqCst);
    });
    let (reads, hits) = (reads.into_inner(), hits.into_inner());
    println!("{reads} reads, {hits} hits");
    assert!(hits > 100, "{reads} reads, {hits} hits");
}

#[test]
fn no_value_from_before_a_delete_is_read_after_it_on_redis() {
    guarded(|| {
        let server = Redis::start();
        no_value_from_before_a_delete_is_read_after_it(&server.url());
    });
}

#[test]
fn no_value_from_before_a_delete_is_read_after_it_on_memcached() {
    guarded(|| {
        let server = Memcached::start();
        let url = format!("{}?shared_loads=true", server.url());
        no_value_from_before_a_delete_is_read_after_it(&url);
    });
}

#[test]
fn no_value_from_before_a_delete_is_read_after_it_in_a_cluster() {
    guarded(|| {
        let server = RedisCluster::start();
        no_value_from_before_a_delete_is_read_after_it(&server.url());
    });
}
