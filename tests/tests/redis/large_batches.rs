//! Calls that are larger than the server can serve within one timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::ErrorKind;
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

/// A value that takes longer than the timeout: its caller gets an error, and others none.
#[test]
fn a_value_too_large_for_the_timeout_does_not_open_the_circuit() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    run(async {
        let url = format!("redis://{}", proxy.address());
        let store = with_timeout(&url, Duration::from_millis(300));
        let key = Key::new("large");
        server.plant("large", &vec![b'x'; 30 << 20]);
        get(&store, "other").await.unwrap();
        // At most 64 KiB each 2 ms.
        proxy.delay(Duration::from_millis(2));
        let read = store.get(&key).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(store.circuit_opens(), 0);
        proxy.delay(Duration::ZERO);
        let start = Instant::now();
        while get(&store, "other").await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(5), "still in the way");
        }
        assert_eq!(store.circuit_opens(), 0);
    });
}
