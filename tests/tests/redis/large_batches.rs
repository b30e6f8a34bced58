//! Calls that are larger than the server can serve within one timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::{AsyncCache, ErrorKind};
use cacheio_core::{AsyncStore, Entry, Key};
use cacheio_tests::servers::{self, Proxy, Reply};
use tokio::time::sleep;

use crate::support::{MINUTE, get, run, set, with_short_timeout, with_timeout};

const COUNT: usize = 100_000;

/// A large call goes out in parts, each with its own time, and other calls get between.
#[test]
fn a_large_batch_harms_neither_itself_nor_others() {
    let server = servers::Redis::start();
    run(async {
        // A tenth of what the call takes; still enough for a part on a busy machine.
        let store = with_short_timeout(&server.url());
        set(&store, "other", "v").await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (reader, stopped) = (store.clone(), Arc::clone(&stop));
        let others = tokio::spawn(async move {
            let mut calls = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                let found = get(&reader, "other").await;
                assert_eq!(found.unwrap().as_deref(), Some("v"));
                calls.push(start.elapsed());
                sleep(Duration::from_millis(5)).await;
            }
            calls
        });
        let names: Vec<_> = (0..COUNT).map(|n| format!("key{n}")).collect();
        let keys: Vec<_> = names.iter().map(|name| Key::new(name)).collect();
        for ttl in [MINUTE, None] {
            let entries = keys
                .iter()
                .map(|key| (*key, Entry::bytes(vec![b'x'; 1_000]), ttl));
            store.set_many(entries.collect()).await.unwrap();
        }
        assert_eq!(server.run("DBSIZE"), Reply::Integer(COUNT as i64 + 1));
        let found = store.get_many(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_some));
        drop(found);
        assert_eq!(store.delete_many(&keys).await.unwrap(), COUNT);
        stop.store(true, Ordering::Relaxed);
        let mut calls = others.await.unwrap();
        calls.sort_unstable();
        let median = calls[calls.len() / 2];
        assert!(median < Duration::from_millis(50), "{median:?}");
        assert_eq!(store.circuit_opens(), 0);
    });
}

/// The call takes several timeouts. It is stored whole, and no other caller notices.
#[test]
fn a_hundred_thousand_values_are_stored_with_a_short_timeout() {
    let server = servers::Redis::start();
    run(async {
        let store = with_timeout(&server.url(), Duration::from_millis(200));
        let cache = AsyncCache::builder().store(store).build().unwrap();
        cache.set("other", 1).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..8)
            .map(|_| {
                let (cache, stop) = (cache.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut found = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        found.push(cache.get::<i32>("other").await.unwrap());
                        sleep(Duration::from_millis(5)).await;
                    }
                    found
                })
            })
            .collect();
        let value = "v".repeat(998);
        let entries: Vec<_> = (0..COUNT).map(|key| (key, &value)).collect();
        cache.set_many(entries).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        for other in others {
            let found = other.await.unwrap();
            assert!(found.len() > 1 && found.iter().all(|found| *found == Some(1)));
        }
        assert_eq!(server.run("DBSIZE"), Reply::Integer(COUNT as i64 + 1));
        let stats = cache.stats();
        assert_eq!((stats.circuit_opens, stats.store_errors), (0, 0));
    });
}

/// A value that takes longer than the timeout: its caller gets an error, and others none.
#[test]
fn a_value_too_large_for_the_timeout_does_not_open_the_circuit() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    run(async {
        let url = format!("redis://{}", proxy.address());
        let store = with_timeout(&url, Duration::from_secs(1));
        let key = Key::new("large");
        server.plant("large", &vec![b'x'; 30 << 20]);
        get(&store, "other").await.unwrap();
        // It takes three seconds.
        proxy.limit(10 << 20);
        let read = store.get(&key).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(store.circuit_opens(), 0);
        proxy.limit(0);
        let start = Instant::now();
        while get(&store, "other").await.is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "still in the way"
            );
        }
        assert_eq!(store.circuit_opens(), 0);
    });
}
