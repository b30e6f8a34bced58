//! What is special to Redis: how its connection is shared, breaks and mends, and where it may be.

#![cfg(not(shuttle))]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use cacheio_async::{AsyncCache, ErrorKind, Redis};
use cacheio_core::{AsyncStore, Entry, Key, Payload};
use cacheio_tests::servers::{self, Proxy, RedisCluster, Reply};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const MIN: Option<Duration> = Some(Duration::from_secs(60));

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        timeout(Duration::from_secs(60), future)
            .await
            .expect("the test hangs")
    })
}

/// Runs on one thread, whose runtime ends then.
fn on_one_thread<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        timeout(Duration::from_secs(60), future)
            .await
            .expect("the test hangs")
    })
}

/// Takes a call's first step; whether it has ended already.
async fn ends_at_once(call: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *call).poll(context)))
        .await
        .is_ready()
}

/// A store that waits for a busy machine.
fn store(url: &str) -> Redis {
    Redis::builder()
        .url(url)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

/// A store that soon gives up.
fn hasty(url: &str) -> Redis {
    Redis::builder()
        .url(url)
        .timeout(Duration::from_millis(500))
        .build()
        .unwrap()
}

fn bytes(entry: Option<Entry>) -> Option<String> {
    match entry?.payload {
        Payload::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap()),
        Payload::Object(_) => panic!("Redis keeps bytes"),
    }
}

async fn get(store: &Redis, key: &str) -> cacheio_core::Result<Option<String>> {
    Ok(bytes(store.get(&Key::new(key)).await?))
}

async fn set(store: &Redis, key: &str, value: &str) -> cacheio_core::Result<()> {
    store
        .set(&Key::new(key), Entry::bytes(value.into()), MIN)
        .await
}

/// Waits until the store answers; how long that took.
async fn until_back(store: &Redis) -> Duration {
    let start = Instant::now();
    while store.ping().await.is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it never comes back"
        );
        sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

// Reads that go out together.

#[test]
fn each_of_many_readers_gets_its_own_value() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        for n in 0..500 {
            set(&store, &format!("k{n}"), &format!("v{n}"))
                .await
                .unwrap();
        }
        let mut readers = JoinSet::new();
        for reader in 0..200 {
            let store = store.clone();
            readers.spawn(async move {
                for step in 0..200 {
                    let n = (reader * 31 + step * 7) % 600;
                    let expected = (n < 500).then(|| format!("v{n}"));
                    assert_eq!(get(&store, &format!("k{n}")).await.unwrap(), expected);
                }
            });
        }
        readers.join_all().await;
    });
}

#[test]
fn readers_that_go_away_take_nobody_with_them() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        for n in 0..100 {
            set(&store, &format!("k{n}"), &format!("v{n}"))
                .await
                .unwrap();
        }
        let mut readers = JoinSet::new();
        for reader in 0_u64..100 {
            let store = store.clone();
            readers.spawn(async move {
                for step in 0..200 {
                    let n = (reader + step * 13) % 100;
                    let key = format!("k{n}");
                    let asked = get(&store, &key);
                    if reader % 2 == 0 {
                        let patience = Duration::from_micros((reader * 7 + step * 11) % 300);
                        if let Ok(answer) = timeout(patience, asked).await {
                            assert_eq!(answer.unwrap(), Some(format!("v{n}")));
                        }
                    } else {
                        assert_eq!(asked.await.unwrap(), Some(format!("v{n}")));
                    }
                }
            });
        }
        readers.join_all().await;
        // Nothing is left that counts as under way: a get alone still goes out by itself.
        for _ in 0..10 {
            assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("v1"));
        }
    });
}

/// A `select!` that awaits something else meanwhile holds a call without polling it.
#[test]
fn what_is_held_and_not_polled_keeps_nobody_waiting() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        set(&store, "k", "value").await.unwrap();
        let mut held: Vec<_> = (0..10).map(|_| Box::pin(get(&store, "k"))).collect();
        let mut writes: Vec<_> = (0..10).map(|_| Box::pin(set(&store, "w", "1"))).collect();
        std::future::poll_fn(|context| {
            held.retain_mut(|get| get.as_mut().poll(context).is_pending());
            writes.retain_mut(|set| set.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        for _ in 0..10 {
            let began = Instant::now();
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("value"));
            set(&store, "w", "2").await.unwrap();
            assert!(began.elapsed() < Duration::from_millis(500));
        }
        for get in held {
            assert_eq!(get.await.unwrap().as_deref(), Some("value"));
        }
        for set in writes {
            set.await.unwrap();
        }
    });
}

#[test]
fn who_connects_and_is_not_polled_keeps_nobody_waiting() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut held: Vec<_> = (0..3).map(|_| Box::pin(get(&store, "k"))).collect();
        for get in &mut held {
            assert!(!ends_at_once(get).await);
        }
        let others = timeout(Duration::from_secs(5), async {
            set(&store, "k", "value").await.unwrap();
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("value"));
        });
        others.await.expect("it waits for those who are held");
        for get in held {
            get.await.unwrap();
        }
    });
}

#[test]
fn a_get_sees_what_its_own_task_wrote_before() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut tasks = JoinSet::new();
        for task in 0..64 {
            let store = store.clone();
            tasks.spawn(async move {
                let key = format!("own{task}");
                for step in 0..200 {
                    let value = step.to_string();
                    set(&store, &key, &value).await.unwrap();
                    assert_eq!(get(&store, &key).await.unwrap(), Some(value));
                    assert!(store.delete(&Key::new(&key)).await.unwrap());
                    assert_eq!(get(&store, &key).await.unwrap(), None);
                }
            });
        }
        tasks.join_all().await;
    });
}

#[test]
fn readers_wait_no_longer_than_their_timeout_for_a_server_that_hangs() {
    let server = servers::Redis::start();
    run(async {
        let store = hasty(&server.url());
        set(&store, "k", "v").await.unwrap();
        server.pause();
        let mut readers = JoinSet::new();
        for _ in 0..100 {
            let store = store.clone();
            readers.spawn(async move {
                let start = Instant::now();
                let error = get(&store, "k").await.unwrap_err();
                (error.kind(), start.elapsed())
            });
        }
        for (kind, took) in readers.join_all().await {
            assert!(
                matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable),
                "{kind:?}"
            );
            assert!(took < Duration::from_millis(900), "{took:?}");
        }
        let start = Instant::now();
        assert_eq!(
            get(&store, "k").await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        assert!(
            start.elapsed() < Duration::from_millis(250),
            "the circuit is open"
        );
        server.resume();
        assert!(until_back(&store).await < Duration::from_secs(1));
        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    });
}

// A server that is away, and comes back.

#[test]
fn a_server_that_is_absent_at_the_start_is_used_when_it_comes() {
    let server = servers::Redis::start();
    server.kill();
    run(async {
        let store = hasty(&server.url());
        let start = Instant::now();
        let error = get(&store, "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(start.elapsed() < Duration::from_millis(600));
        server.restart();
        assert!(until_back(&store).await < Duration::from_secs(1));
        set(&store, "k", "v").await.unwrap();
    });
}

#[test]
fn nobody_notices_a_restart_while_the_store_is_idle() {
    let server = servers::Redis::start();
    for url in [server.url(), format!("{}?protocol=resp2", server.url())] {
        run(async {
            let store = store(&url);
            set(&store, "k", "v").await.unwrap();
            server.kill();
            server.restart();
            assert_eq!(get(&store, "k").await.unwrap(), None);
            set(&store, "k", "v").await.unwrap();
            server.kill();
            server.restart();
            assert!(!store.delete(&Key::new("k")).await.unwrap());
        });
    }
}

#[test]
fn a_counter_survives_an_idle_restart_without_an_error() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        store.increment(&Key::new("n"), 1, None).await.unwrap();
        server.kill();
        server.restart();
        // That the connection is gone was heard of in the meantime.
        sleep(Duration::from_millis(50)).await;
        assert_eq!(store.increment(&Key::new("n"), 1, None).await.unwrap(), 1);
    });
}

#[test]
fn many_callers_survive_a_server_that_is_killed_and_back() {
    let server = servers::Redis::start();
    run(async {
        let store = hasty(&server.url());
        set(&store, "k", "v").await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let longest = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..200 {
            let (store, stop, longest) = (store.clone(), Arc::clone(&stop), Arc::clone(&longest));
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let _ = get(&store, "k").await;
                    longest.fetch_max(start.elapsed().as_millis() as usize, Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                }
            });
        }
        sleep(Duration::from_millis(100)).await;
        server.kill();
        sleep(Duration::from_millis(700)).await;
        server.restart();
        let back = until_back(&store).await;
        stop.store(true, Ordering::Relaxed);
        callers.join_all().await;
        assert!(back < Duration::from_secs(1), "{back:?}");
        let longest = longest.load(Ordering::Relaxed);
        assert!(longest < 800, "a call took {longest} ms");
    });
}

#[test]
fn a_connection_that_is_cut_is_replaced_within_the_call() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    run(async {
        let store = store(&format!("redis://{}", proxy.address()));
        set(&store, "k", "v").await.unwrap();
        for _ in 0..20 {
            proxy.cut_now();
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
        }
    });
}

// Writes in doubt.

#[test]
fn a_write_that_timed_out_does_not_come_after_a_later_delete() {
    let server = servers::Redis::start();
    run(async {
        for round in 0..5 {
            let store = hasty(&server.url());
            let key = format!("doubt{round}");
            set(&store, &key, "old").await.unwrap();
            server.pause();
            assert_eq!(
                set(&store, &key, "late").await.unwrap_err().kind(),
                ErrorKind::Timeout
            );
            sleep(Duration::from_millis(300 * round)).await;
            server.resume();
            until_back(&store).await;
            store.delete(&Key::new(&key)).await.unwrap();
            assert_eq!(get(&store, &key).await.unwrap(), None);
            sleep(Duration::from_millis(50)).await;
            assert_eq!(server.run(&format!("EXISTS {key}")), Reply::Integer(0));
        }
    });
}

#[test]
fn a_write_on_a_connection_that_was_given_up_never_lands() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    run(async {
        let store = hasty(&format!("redis://{}", proxy.address()));
        set(&store, "k", "old").await.unwrap();
        // The request arrives; its answer, and whether the connection lives, does not.
        server.pause();
        assert!(set(&store, "k", "late").await.is_err());
        proxy.cut_now();
        sleep(Duration::from_millis(200)).await;
        server.resume();
        until_back(&store).await;
        store.delete(&Key::new("k")).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(server.run("EXISTS k"), Reply::Integer(0));
    });
}

#[test]
fn a_write_that_is_still_on_its_way_is_turned_back() {
    let server = servers::Redis::start();
    let (road, address) = Road::to(server.address());
    run(async {
        let store = hasty(&format!("redis://{address}"));
        set(&store, "k", "old").await.unwrap();
        road.hold_back();
        assert_eq!(
            set(&store, "k", "late").await.unwrap_err().kind(),
            ErrorKind::Timeout
        );
        // Another connection gets through, and takes the place of the first.
        until_back(&store).await;
        assert!(store.delete(&Key::new("k")).await.unwrap());
        road.let_go();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(server.run("EXISTS k"), Reply::Integer(0));
    });
}

#[test]
fn writes_whose_callers_go_away_keep_their_order() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        for step in 0..500_u64 {
            let patience = Duration::from_micros(step % 120);
            let _ = timeout(patience, set(&store, "k", "late")).await;
            store.delete(&Key::new("k")).await.unwrap();
            assert_eq!(get(&store, "k").await.unwrap(), None);
        }
    });
}

/// The same in a crowd, where writes wait for company before they go out.
#[test]
fn writes_that_wait_for_company_keep_their_order_when_their_callers_go_away() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut writers = JoinSet::new();
        for writer in 0_u64..100 {
            let store = store.clone();
            writers.spawn(async move {
                let key = format!("k{writer}");
                for step in 0..150 {
                    let patience = Duration::from_micros((writer * 7 + step * 11) % 400);
                    let _ = timeout(patience, set(&store, &key, "late")).await;
                    if step % 3 == 0 {
                        let seen = get(&store, &key).await.unwrap();
                        sleep(Duration::from_micros(200)).await;
                        assert_eq!(get(&store, &key).await.unwrap(), seen, "{step}");
                    }
                    if step % 2 == 0 {
                        store.delete(&Key::new(&key)).await.unwrap();
                    } else {
                        // Goes out by itself.
                        store.delete_many(&[Key::new(&key)]).await.unwrap();
                    }
                    assert_eq!(get(&store, &key).await.unwrap(), None, "{step}");
                }
            });
        }
        writers.join_all().await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(server.run("DBSIZE"), Reply::Integer(0));
    });
}

/// The connection takes no more: whoever has something to send waits.
#[test]
fn a_write_that_was_given_up_comes_no_later_on_a_full_connection() {
    // As a task, whose turn comes before that of the task that sends what has waited.
    on_one_thread(async { tokio::spawn(overtaking()).await.unwrap() });
}

async fn overtaking() {
    let server = servers::Redis::start();
    let store = store(&server.url());
    store.ping().await.unwrap();
    server.pause();
    let big = Entry::bytes(vec![1; 32 << 20]);
    let mut unread = store.set_many(vec![(Key::new("big"), big)], None);
    assert!(!ends_at_once(&mut unread).await);
    sleep(Duration::from_millis(300)).await;
    let other = [Key::new("other")];
    let mut gets: Vec<_> = (0..60).map(|_| store.get_many(&other)).collect();
    for get in &mut gets {
        assert!(!ends_at_once(get).await);
    }
    // The last ones wait for company.
    let keys: Vec<_> = (0..8).map(|n| format!("k{n}")).collect();
    let mut sets: Vec<_> = keys
        .iter()
        .map(|key| Box::pin(set(&store, key, "late")))
        .collect();
    for set in &mut sets {
        assert!(!ends_at_once(set).await);
    }
    sleep(Duration::from_millis(50)).await;
    server.resume();
    // As soon as there is room for the last one who waits.
    let mut last = gets.pop().unwrap();
    let mut steps = 0;
    std::future::poll_fn(|context| {
        steps += 1;
        let done = last.as_mut().poll(context).is_ready();
        if done || steps == 2 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    drop(sets.pop());
    store.delete_many(&[Key::new("k7")]).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.run("EXISTS k7"), Reply::Integer(0));
}

/// Within one machine a connection that is closed may be unread yet.
#[test]
fn a_write_whose_runtime_has_ended_never_lands() {
    let socket = std::env::temp_dir().join(format!("cacheio-road-{}.sock", std::process::id()));
    let server = servers::Redis::start();
    let road = Road::from_socket(&socket, server.address());
    let store = store(&format!("redis+unix://{}", socket.to_str().unwrap()));
    on_one_thread(async {
        set(&store, "k", "old").await.unwrap();
        road.hold_back();
        let late = timeout(Duration::from_millis(100), set(&store, "k", "late"));
        assert!(late.await.is_err());
    });
    on_one_thread(async {
        assert!(store.delete(&Key::new("k")).await.unwrap());
        road.let_go();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(server.run("EXISTS k"), Reply::Integer(0));
    });
    std::fs::remove_file(socket).unwrap();
}

#[test]
fn long_writes_keep_their_order_among_short_ones() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut writers = JoinSet::new();
        for writer in 0_u64..50 {
            let store = store.clone();
            writers.spawn(async move {
                let key = format!("k{writer}");
                let long = "long ".repeat(10_000);
                for step in 0..30 {
                    let patience = Duration::from_micros((writer * 7 + step * 11) % 400);
                    let _ = timeout(patience, set(&store, &key, "short")).await;
                    set(&store, &key, &long).await.unwrap();
                    assert_eq!(get(&store, &key).await.unwrap().as_ref(), Some(&long));
                    let _ = timeout(patience, set(&store, &key, &long)).await;
                    set(&store, &key, "last").await.unwrap();
                    assert_eq!(get(&store, &key).await.unwrap().as_deref(), Some("last"));
                }
            });
        }
        writers.join_all().await;
    });
}

// Runtimes.

#[test]
fn a_store_outlives_the_runtime_that_connected_it() {
    let server = servers::Redis::start();
    for url in [server.url(), format!("{}?protocol=resp2", server.url())] {
        let store = store(&url);
        for round in 0..5 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                set(&store, "k", "v").await.unwrap();
                assert_eq!(
                    get(&store, "k").await.unwrap().as_deref(),
                    Some("v"),
                    "{round}"
                );
            });
        }
    }
}

#[test]
fn probing_goes_on_when_the_runtime_that_began_it_has_ended() {
    let server = servers::Redis::start();
    let store = hasty(&server.url());
    server.kill();
    run(async { assert!(store.ping().await.is_err()) });
    server.restart();
    run(async { assert!(until_back(&store).await < Duration::from_secs(1)) });
}

#[test]
fn probing_goes_on_when_the_runtime_that_began_it_stands_still() {
    let server = servers::Redis::start();
    let store = hasty(&server.url());
    let driven = runtime();
    driven.block_on(store.ping()).unwrap();
    let still = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    server.pause();
    assert!(still.block_on(store.ping()).is_err());
    server.resume();
    driven.block_on(async { assert!(until_back(&store).await < Duration::from_secs(4)) });
    drop(still);
}

#[test]
fn outside_of_a_runtime_it_is_an_error() {
    let store = Redis::new("redis://127.0.0.1:1").unwrap();
    let key = Key::new("k");
    let mut future = std::pin::pin!(store.get(&key));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("runtime"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

// Operations.

#[test]
fn counters_are_exact_and_take_their_ttl_once() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            tasks.spawn(async move {
                for _ in 0..10_000 {
                    store.increment(&Key::new("n"), 1, MIN).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(get(&store, "n").await.unwrap().as_deref(), Some("80000"));
        assert!(matches!(server.run("PTTL n"), Reply::Integer(1..=60_000)));
        assert_eq!(server.run("PERSIST n"), Reply::Integer(1));
        assert_eq!(
            store.increment(&Key::new("n"), -80_001, MIN).await.unwrap(),
            -1
        );
        assert_eq!(
            server.run("PTTL n"),
            Reply::Integer(-1),
            "an existing counter keeps its TTL"
        );
    });
}

#[test]
fn a_counter_at_its_end_and_what_is_none() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let n = Key::new("n");
        assert_eq!(store.increment(&n, i64::MIN, MIN).await.unwrap(), i64::MIN);
        for ttl in [None, MIN] {
            let error = store.increment(&n, -1, ttl).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overflow);
            set(&store, "text", "\"seven\"").await.unwrap();
            let error = store
                .increment(&Key::new("text"), 1, ttl)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType);
            server.run("RPUSH list a");
            let error = store
                .increment(&Key::new("list"), 1, ttl)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType);
        }
        assert_eq!(get(&store, "n").await.unwrap(), Some(i64::MIN.to_string()));
        let error = get(&store, "list").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        assert!(error.to_string().contains("another type"), "{error}");
    });
}

#[test]
fn a_touch_says_whether_there_was_anything() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let k = Key::new("k");
        for ttl in [MIN, None] {
            assert!(!store.touch(&k, ttl).await.unwrap());
        }
        set(&store, "k", "v").await.unwrap();
        for (ttl, left) in [
            (None, -1),
            (None, -1),
            (Some(Duration::from_millis(50_000)), 50_000),
        ] {
            assert!(store.touch(&k, ttl).await.unwrap());
            let Reply::Integer(now) = server.run("PTTL k") else {
                panic!("no TTL")
            };
            assert!((left - 1000..=left).contains(&now), "{now}");
        }
    });
}

#[test]
fn clear_takes_the_namespace_as_it_is_written() {
    let server = servers::Redis::start();
    run(async {
        let url = server.url();
        let cache = |namespace: &str| {
            AsyncCache::builder()
                .store(store(&url))
                .namespace(namespace)
                .build()
                .unwrap()
        };
        let names = ["a*", "ab", "a?", "[ab]", "a", "a\\", "^"];
        let caches: Vec<AsyncCache> = names.iter().map(|name| cache(name)).collect();
        for cache in &caches {
            for n in 0..20 {
                cache.set(n, n).await.unwrap();
            }
        }
        for at in 0..caches.len() {
            caches[at].clear().await.unwrap();
            for (other, cache) in caches.iter().enumerate() {
                let expected = (other > at).then_some(7);
                assert_eq!(
                    cache.get::<i32>(7).await.unwrap(),
                    expected,
                    "{} {}",
                    names[at],
                    names[other]
                );
            }
        }
        let error = store(&url).clear("").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    });
}

#[test]
fn clear_removes_everything_in_steps() {
    let server = servers::Redis::start();
    run(async {
        let store = Redis::builder()
            .url(server.url())
            .timeout(Duration::from_secs(10))
            .connections(3)
            .build()
            .unwrap();
        let names: Vec<String> = (0..10_000).map(|n| format!("big:{n}")).collect();
        let entries = names
            .iter()
            .map(|name| (Key::new(name), Entry::bytes(b"1".to_vec())));
        store.set_many(entries.collect(), MIN).await.unwrap();
        set(&store, "other:1", "1").await.unwrap();
        store.clear("big:").await.unwrap();
        assert_eq!(server.run("DBSIZE"), Reply::Integer(1));
    });
}

#[test]
fn operations_on_many_keys_keep_order_and_count() {
    let server = servers::Redis::start();
    let cluster = RedisCluster::start();
    for url in [
        server.url(),
        format!("{}?connections=4", server.url()),
        cluster.url(),
        format!("{}?connections=2", cluster.url()),
    ] {
        run(async {
            let store = store(&url);
            let names: Vec<String> = (0..3_000).map(|n| format!("many:{n}")).collect();
            let keys: Vec<Key<'_>> = names.iter().map(|name| Key::new(name)).collect();
            for ttl in [None, MIN] {
                let entries = keys
                    .iter()
                    .enumerate()
                    .map(|(n, key)| (*key, Entry::bytes(n.to_string().into_bytes())));
                store.set_many(entries.collect(), ttl).await.unwrap();
                let mut asked = keys.clone();
                asked.push(Key::new("missing"));
                asked.push(keys[17]);
                let found = store.get_many(&asked).await.unwrap();
                let found: Vec<Option<String>> = found.into_iter().map(bytes).collect();
                let mut expected: Vec<Option<String>> =
                    (0..3_000).map(|n: u32| Some(n.to_string())).collect();
                expected.extend([None, Some("17".into())]);
                assert_eq!(found, expected, "{url}");
                assert_eq!(store.delete_many(&asked).await.unwrap(), 3_000, "{url}");
            }
            assert_eq!(store.get_many(&[]).await.unwrap().len(), 0);
            assert_eq!(store.delete_many(&[]).await.unwrap(), 0);
            store.set_many(Vec::new(), None).await.unwrap();
        });
    }
}

#[test]
fn a_cluster_serves_every_operation() {
    let cluster = RedisCluster::start();
    run(async {
        let store = Redis::builder()
            .cluster(&cluster.urls()[..1])
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..50 {
            let store = store.clone();
            tasks.spawn(async move {
                for step in 0..50 {
                    let name = format!("c:{task}:{step}");
                    let key = Key::new(&name);
                    assert_eq!(get(&store, &name).await.unwrap(), None);
                    assert!(
                        store
                            .add(&key, Entry::bytes(b"1".to_vec()), MIN)
                            .await
                            .unwrap()
                    );
                    assert!(
                        !store
                            .add(&key, Entry::bytes(b"2".to_vec()), MIN)
                            .await
                            .unwrap()
                    );
                    assert_eq!(store.increment(&key, 5, MIN).await.unwrap(), 6);
                    assert!(store.has(&key).await.unwrap());
                    assert!(store.touch(&key, None).await.unwrap());
                    assert_eq!(get(&store, &name).await.unwrap().as_deref(), Some("6"));
                }
            });
        }
        tasks.join_all().await;
        set(&store, "other", "1").await.unwrap();
        store.clear("c:").await.unwrap();
        let left: i64 = (0..3)
            .map(|node| match cluster.node(node).run("DBSIZE") {
                Reply::Integer(size) => size,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(left, 1);
        store.ping().await.unwrap();
    });
}

#[test]
fn a_cluster_is_followed_when_a_slot_moves() {
    let cluster = RedisCluster::start();
    run(async {
        let store = store(&cluster.url());
        for n in 0..100 {
            set(&store, &format!("k{n}"), "v").await.unwrap();
        }
        // "k1" is in slot 12706, on the third node: give it to the first while it has keys.
        let slot = match cluster.node(0).run("CLUSTER KEYSLOT k1") {
            Reply::Integer(slot) => slot,
            other => panic!("{other:?}"),
        };
        let id = |node: usize| match cluster.node(node).run("CLUSTER MYID") {
            Reply::Text(id) => id,
            other => panic!("{other:?}"),
        };
        let (from, to) = (2, 0);
        cluster
            .node(to)
            .run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from)));
        cluster
            .node(from)
            .run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to)));
        let port = cluster.node(to).port();
        // It has moved already: the old node says ASK.
        cluster
            .node(from)
            .run(&format!("MIGRATE 127.0.0.1 {port} k1 0 1000"));
        assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("v"));
        assert_eq!(
            store.increment(&Key::new("{k1}n"), 2, MIN).await.unwrap(),
            2
        );
        let both = [Key::new("k1"), Key::new("k2")];
        assert!(
            store
                .get_many(&both)
                .await
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
        for node in [to, from, 1] {
            cluster
                .node(node)
                .run(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to)));
        }
        assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("v"));
        assert!(
            store
                .get_many(&both)
                .await
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
        set(&store, "k1", "w").await.unwrap();
        assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("w"));
    });
}

#[test]
fn a_node_of_a_cluster_that_hangs_harms_no_other() {
    let cluster = RedisCluster::start();
    run(async {
        let store = Redis::builder()
            .url(cluster.url())
            .timeout(Duration::from_millis(500))
            .build()
            .unwrap();
        for n in 0..30 {
            set(&store, &format!("k{n}"), "v").await.unwrap();
        }
        cluster.node(2).pause();
        let mut failed = 0;
        for n in 0..30 {
            let start = Instant::now();
            failed += usize::from(get(&store, &format!("k{n}")).await.is_err());
            assert!(
                start.elapsed() < Duration::from_millis(800),
                "{:?}",
                start.elapsed()
            );
        }
        cluster.node(2).resume();
        assert!((1..30).contains(&failed), "{failed}");
        until_back(&store).await;
        for n in 0..30 {
            assert_eq!(
                get(&store, &format!("k{n}")).await.unwrap().as_deref(),
                Some("v")
            );
        }
    });
}

/// What is left of a call's time counts, also for those who wait for company.
#[test]
fn who_is_sent_to_a_node_that_hangs_waits_no_longer_than_the_timeout() {
    let cluster = RedisCluster::start();
    run(async {
        let store = Redis::builder()
            .url(cluster.url())
            .timeout(Duration::from_secs(2))
            .build()
            .unwrap();
        for n in 0..30 {
            set(&store, &format!("k{n}"), "v").await.unwrap();
        }
        // "{k1}" is on the third node, and goes to the first.
        store.delete(&Key::new("k1")).await.unwrap();
        let Reply::Text(id) = cluster.node(0).run("CLUSTER MYID") else {
            panic!("a node has no name");
        };
        let Reply::Integer(slot) = cluster.node(0).run("CLUSTER KEYSLOT k1") else {
            panic!("a key has no slot");
        };
        for node in 0..3 {
            cluster
                .node(node)
                .run(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
        }
        cluster.node(0).pause();
        cluster.node(2).pause();
        let mut readers = JoinSet::new();
        for _ in 0..30 {
            let store = store.clone();
            readers.spawn(async move {
                let began = Instant::now();
                assert!(get(&store, "k1").await.is_err());
                began.elapsed()
            });
        }
        sleep(Duration::from_millis(800)).await;
        cluster.node(2).resume();
        let waited = readers.join_all().await.into_iter().max().unwrap();
        assert!(waited < Duration::from_millis(2500), "{waited:?}");
        cluster.node(0).resume();
    });
}

#[test]
fn a_cluster_that_is_away_at_the_start_is_found_later() {
    let cluster = RedisCluster::start();
    run(async {
        let store = Redis::builder()
            .url(cluster.url())
            .timeout(Duration::from_millis(500))
            .build()
            .unwrap();
        (0..3).for_each(|node| cluster.node(node).pause());
        for call in 0..5 {
            let start = Instant::now();
            assert!(get(&store, "k").await.is_err());
            let limit = if call == 0 { 800 } else { 250 };
            let took = start.elapsed();
            assert!(took < Duration::from_millis(limit), "call {call}: {took:?}");
        }
        (0..3).for_each(|node| cluster.node(node).resume());
        assert!(until_back(&store).await < Duration::from_secs(1));
        set(&store, "k", "v").await.unwrap();
    });
}

// Who may, and where.

#[test]
fn a_wrong_password_is_an_error_until_it_is_right() {
    let server = servers::Redis::start_with(&["--requirepass", "secret-a"]);
    run(async {
        let at = server.address();
        for url in [format!("redis://:secret-b@{at}"), format!("redis://{at}")] {
            let store = store(&url);
            let error = set(&store, "k", "v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
            assert!(
                !format!("{error:?} {store:?}").contains("secret"),
                "{error:?}"
            );
        }
        let store = store(&format!("redis://:secret-b@{at}"));
        assert!(set(&store, "k", "v").await.is_err());
        server.run_as("secret-a", "CONFIG SET requirepass secret-b");
        set(&store, "k", "v").await.unwrap();
        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    });
}

#[test]
fn a_user_who_may_do_little_is_enough() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER little on >pass ~shop:* -@all +get +mget +set +mset +unlink +exists +incrby +multi +exec +scan +ping");
    run(async {
        let store = store(&format!("redis://little:pass@{}", server.address()));
        set(&store, "shop:k", "v").await.unwrap();
        assert_eq!(get(&store, "shop:k").await.unwrap().as_deref(), Some("v"));
        assert_eq!(
            store.increment(&Key::new("shop:n"), 1, MIN).await.unwrap(),
            1
        );
        store.clear("shop:").await.unwrap();
        let error = set(&store, "other:k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server);
        assert!(error.to_string().contains("ACL"), "{error}");
    });
}

#[test]
fn what_one_reader_may_not_see_is_refused_to_nobody_else() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER some on >pass ~ok:* +@all");
    server.run("ACL SETUSER single on >pass ~* +@all -mget");
    run(async {
        let at = server.address();
        let some = store(&format!("redis://some:pass@{at}"));
        let single = store(&format!("redis://single:pass@{at}"));
        for store in [some, single] {
            set(&store, "ok:k", "v").await.unwrap();
            let mut readers = JoinSet::new();
            for reader in 0..100 {
                let store = store.clone();
                readers.spawn(async move {
                    let key = if reader % 10 == 0 { "other" } else { "ok:k" };
                    (key, get(&store, key).await)
                });
            }
            for (key, got) in readers.join_all().await {
                match (key, got) {
                    ("ok:k", got) => assert_eq!(got.unwrap().as_deref(), Some("v")),
                    (_, Ok(got)) => assert_eq!(got, None),
                    (_, Err(error)) => assert!(error.to_string().contains("ACL"), "{error}"),
                }
            }
        }
    });
}

#[test]
fn databases_are_apart() {
    let server = servers::Redis::start();
    run(async {
        let zero = store(&server.url());
        let one = store(&format!("{}/1", server.url()));
        let same = store(&format!("{}?db=1", server.url()));
        set(&one, "k", "v").await.unwrap();
        assert_eq!(get(&zero, "k").await.unwrap(), None);
        assert_eq!(get(&same, "k").await.unwrap().as_deref(), Some("v"));
    });
}

#[test]
fn a_unix_socket_will_do() {
    let socket = std::env::temp_dir().join(format!("cacheio-redis-{}.sock", std::process::id()));
    let path = socket.to_str().unwrap();
    let server = servers::Redis::start_with(&["--unixsocket", path]);
    run(async {
        let store = store(&format!("redis+unix://{path}?db=2"));
        set(&store, "k", "v").await.unwrap();
        server.kill();
        server.restart();
        assert_eq!(get(&store, "k").await.unwrap(), None);
        assert!(format!("{store:?}").contains(path));
    });
}

#[test]
fn a_client_of_the_users_own_will_do() {
    let server = servers::Redis::start();
    run(async {
        let client = redis::Client::open(server.url()).unwrap();
        let store = Redis::from_client(client);
        set(&store, "k", "v").await.unwrap();
        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    });
}

#[test]
fn what_is_no_redis_is_an_error() {
    let memcached = servers::Memcached::start();
    run(async {
        let store = hasty(&format!("redis://{}", memcached.address()));
        for _ in 0..3 {
            let start = Instant::now();
            assert!(get(&store, "k").await.is_err());
            assert!(start.elapsed() < Duration::from_millis(800));
        }
    });
}

#[test]
fn the_master_is_found_through_sentinels_and_after_a_failover() {
    let master = servers::Redis::start();
    let of = master.port().to_string();
    let replica = servers::Redis::start_with(&["--replicaof", "127.0.0.1", &of]);
    let sentinel = Sentinel::start(master.port());
    run(async {
        let store = Redis::builder()
            .sentinel("main", ["redis://127.0.0.1:1".to_owned(), sentinel.url()])
            .build()
            .unwrap();
        set(&store, "k", "v").await.unwrap();
        assert_eq!(master.run("EXISTS k"), Reply::Integer(1));
        let deadline = Instant::now() + Duration::from_secs(20);
        while replica.run("EXISTS k") != Reply::Integer(1) || !sentinel.knows_a_replica() {
            assert!(Instant::now() < deadline, "the replica does not follow");
            sleep(Duration::from_millis(50)).await;
        }
        sentinel.fail_over();
        let deadline = Instant::now() + Duration::from_secs(20);
        while set(&store, "later", "v").await.is_err()
            || replica.run("EXISTS later") != Reply::Integer(1)
        {
            assert!(Instant::now() < deadline, "the new master is not found");
            sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn tls_needs_no_more_than_the_authority() {
    use redis::{Client, TlsCertificates};

    let folder = std::env::temp_dir().join(format!("cacheio-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (authority, certificate, key) = certificates();
    let authority_file = file("ca.pem", &authority);
    let certificate_file = file("server.pem", &certificate);
    let key_file = file("server.key", &key);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let server = servers::Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate_file,
        "--tls-key-file",
        &key_file,
        "--tls-ca-cert-file",
        &authority_file,
        "--tls-auth-clients",
        "no",
    ]);
    run(async {
        let url = format!("rediss://127.0.0.1:{port}");
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(authority.into_bytes()),
        };
        let client = Client::build_with_tls(url.as_str(), certificates).unwrap();
        let trusting = Redis::from_client(client);
        set(&trusting, "k", "v").await.unwrap();
        assert_eq!(get(&trusting, "k").await.unwrap().as_deref(), Some("v"));
        assert_eq!(server.run("EXISTS k"), Reply::Integer(1));
        server.kill();
        server.restart();
        assert_eq!(get(&trusting, "k").await.unwrap(), None);
        // An authority that this machine does not know.
        let doubting = Redis::new(&url).unwrap();
        assert!(get(&doubting, "k").await.is_err());
    });
    let _ = std::fs::remove_dir_all(&folder);
}

/// An authority, a certificate of it for this machine, and the key of that.
fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

/// A road to a server on which what is under way can be held back, for connections that are
/// there, even when the one who sent it has long hung up.
struct Road {
    held: Arc<AtomicUsize>,
}

impl Road {
    /// From an address of its own.
    fn to(server: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accept = move || {
            let (client, _) = listener.accept().unwrap();
            (client.try_clone().unwrap(), client)
        };
        (Self::lead(accept, server), address)
    }

    /// From a socket on this machine.
    fn from_socket(path: &std::path::Path, server: SocketAddr) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        let accept = move || {
            let (client, _) = listener.accept().unwrap();
            (client.try_clone().unwrap(), client)
        };
        Self::lead(accept, server)
    }

    fn lead<C: Read + Write + Send + 'static>(
        accept: impl Fn() -> (C, C) + Send + 'static,
        server: SocketAddr,
    ) -> Self {
        // Connections below this number are held back.
        let held = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&held);
        std::thread::spawn(move || {
            for number in 0.. {
                let (mut up, mut to) = accept();
                let mut from = TcpStream::connect(server).unwrap();
                let mut down = from.try_clone().unwrap();
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let held = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = up.read(&mut buffer) {
                        while number < held.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        let _ = down.write_all(&buffer[..length]);
                    }
                });
            }
        });
        Self { held }
    }

    /// Holds back what the first connection sends.
    fn hold_back(&self) {
        self.held.store(1, Ordering::SeqCst);
    }

    fn let_go(&self) {
        self.held.store(0, Ordering::SeqCst);
    }
}

/// A sentinel that watches a master by the name `main`.
struct Sentinel {
    process: std::process::Child,
    port: u16,
    folder: std::path::PathBuf,
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder =
            std::env::temp_dir().join(format!("cacheio-sentinel-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("sentinel.conf");
        std::fs::write(
            &config,
            format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
            ),
        )
        .unwrap();
        let process = std::process::Command::new("redis-server")
            .arg(&config)
            .arg("--sentinel")
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("redis-server must be installed: apt-get install redis-server");
        let sentinel = Self {
            process,
            port,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the sentinel does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        sentinel
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn ask(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection()?;
        redis::cmd("SENTINEL").arg(words).query(&mut connection)
    }

    fn knows_a_replica(&self) -> bool {
        matches!(self.ask(&["REPLICAS", "main"]), Ok(redis::Value::Array(known)) if !known.is_empty())
    }

    fn fail_over(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = self.ask(&["FAILOVER", "main"]) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
