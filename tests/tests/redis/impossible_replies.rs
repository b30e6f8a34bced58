//! Replies that cannot be those to what was sent: lost, or too many, or of another kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio_core::{AsyncStore, Key};
use cacheio_tests::BUSY;
use cacheio_tests::servers::{self, FakeRedis, Proxy};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{bytes, get, run, set, store, with_short_timeout};

#[test]
fn a_lost_reply_gives_no_caller_the_value_of_another_key() {
    let server = servers::Redis::start();
    let proxy = Arc::new(Proxy::to(server.address()));
    run(async {
        let url = format!("redis://{}", proxy.address());
        let store = with_short_timeout(&url);
        for n in 0..100 {
            set(&store, &format!("k{n}"), &format!("v{n}"))
                .await
                .unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut readers = JoinSet::new();
        for reader in 0..100 {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            readers.spawn(async move {
                let (mut reads, mut errors) = (0_u32, 0_u32);
                for step in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let n = (reader * 7 + step) % 100;
                    match step % 3 {
                        0 => match get(&store, &format!("k{n}")).await {
                            Ok(found) => assert_eq!(found, Some(format!("v{n}"))),
                            Err(_) => errors += 1,
                        },
                        1 => {
                            let other = (n + 1) % 100;
                            let names = [n, other].map(|n| format!("k{n}"));
                            let keys = names.each_ref().map(|name| Key::new(name));
                            match store.get_many(&keys).await {
                                Ok(found) => {
                                    let found: Vec<_> = found.into_iter().map(bytes).collect();
                                    let expected = [n, other].map(|n| Some(format!("v{n}")));
                                    assert_eq!(found, expected);
                                }
                                Err(_) => errors += 1,
                            }
                        }
                        _ => {
                            let written = set(&store, &format!("k{n}"), &format!("v{n}")).await;
                            errors += u32::from(written.is_err());
                        }
                    }
                    reads += 1;
                    // Failed calls would not give way to the probe.
                    tokio::task::yield_now().await;
                }
                (reads, errors)
            });
        }
        for _ in 0..20 {
            sleep(Duration::from_millis(50)).await;
            proxy.lose_reply();
        }
        sleep(Duration::from_millis(100)).await;
        stop.store(true, Ordering::Relaxed);
        let (reads, errors) = readers
            .join_all()
            .await
            .into_iter()
            .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        // If no other reply comes, the lost one is noticed only by its absence, and calls fail at once
        // until the server replies to a probe.
        assert!(reads - errors > 50, "{errors} of {reads} calls failed");
    });
}

#[test]
fn a_single_caller_does_not_get_the_reply_to_its_previous_request() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    run(async {
        let store = with_short_timeout(&format!("redis://{}", proxy.address()));
        for n in 0..10 {
            set(&store, &format!("k{n}"), &n.to_string()).await.unwrap();
        }
        proxy.lose_reply();
        for n in (0..10).chain(0..10) {
            if let Ok(found) = get(&store, &format!("k{n}")).await {
                assert_eq!(found, Some(n.to_string()));
            }
        }
    });
}

/// Also of a server that does not return the argument of PING.
#[test]
fn a_reply_of_another_kind_or_length_ends_the_connection() {
    for pings in [true, false] {
        for (name, wrong) in [
            ("GET", "+OK\r\n"),
            ("GET", ":1\r\n"),
            ("GET", "*1\r\n$1\r\n5\r\n"),
            ("MGET", "*1\r\n$1\r\n5\r\n"),
            ("MGET", "*3\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n7\r\n"),
            ("MGET", "*2\r\n:5\r\n:6\r\n"),
            ("MGET", "$1\r\n5\r\n"),
            ("SET", "$1\r\n5\r\n"),
            ("UNLINK", "+OK\r\n"),
            ("EXISTS", "$1\r\n5\r\n"),
            ("INCRBY", "+OK\r\n"),
        ] {
            let broken = Arc::new(AtomicBool::new(false));
            let breaks = Arc::clone(&broken);
            let server = FakeRedis::start(move |command| {
                Some(match command[0].as_str() {
                    "PING" if !pings => "+OK\r\n".into(),
                    one if one == name && breaks.swap(false, Ordering::SeqCst) => wrong.into(),
                    _ => FakeRedis::usual_reply(command),
                })
            });
            run(async {
                let store = store(&server.url());
                let (k, keys) = (Key::new("k"), [Key::new("k"), Key::new("l")]);
                store.ping().await.unwrap();
                let before = server.connections();
                broken.store(true, Ordering::SeqCst);
                let mut results = vec![get(&store, "k").await.map(|found| {
                    assert_eq!(found.as_deref(), Some("5"), "{name}: {wrong}");
                })];
                results.push(store.get_many(&keys).await.map(|found| {
                    assert!(
                        found
                            .into_iter()
                            .all(|one| bytes(one).as_deref() == Some("5"))
                    );
                }));
                results.push(set(&store, "k", "5").await);
                results.push(store.delete(&k).await.map(drop));
                results.push(store.has(&k).await.map(drop));
                results.push(store.increment(&k, 1, None).await.map(drop));
                // Only a command that must not be sent twice fails.
                let failed = results.iter().filter(|result| result.is_err()).count();
                assert_eq!(failed, usize::from(name == "INCRBY"), "{name}: {results:?}");
                assert_eq!(server.connections(), before + 1, "{name}: {wrong}");
            });
        }
    }
}

#[test]
fn all_requests_in_flight_on_an_ended_connection_fail_at_once() {
    let hangs = Arc::new(AtomicBool::new(false));
    let hanging = Arc::clone(&hangs);
    let server = FakeRedis::start(move |command| {
        Some(match command[0].as_str() {
            // Without a reply.
            "INCRBY" if hanging.load(Ordering::SeqCst) => String::new(),
            "PEXPIRE" => "+WHAT\r\n".into(),
            _ => FakeRedis::usual_reply(command),
        })
    });
    run(async {
        let store = store(&server.url());
        store.ping().await.unwrap();
        hangs.store(true, Ordering::SeqCst);
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            let store = store.clone();
            waiting.spawn(async move { store.increment(&Key::new("n"), 1, None).await });
        }
        sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        let touched = store
            .touch(&Key::new("k"), Some(Duration::from_secs(1)))
            .await;
        assert!(touched.is_err());
        for result in waiting.join_all().await {
            assert!(result.is_err());
        }
        assert!(
            start.elapsed() < Duration::from_millis(500) + BUSY,
            "{:?}",
            start.elapsed()
        );
    });
}
