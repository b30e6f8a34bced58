//! The server goes down and comes up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::ErrorKind;
use cacheio_core::{AsyncStore, Key};
use cacheio_tests::BUSY;
use cacheio_tests::servers::{self, Proxy};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{get, run, set, store, until_up, with_short_timeout, with_timeout};

#[test]
fn a_server_that_is_down_at_start_is_used_once_it_is_up() {
    let server = servers::Redis::start();
    server.kill();
    run(async {
        let store = with_short_timeout(&server.url());
        let start = Instant::now();
        let error = get(&store, "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(start.elapsed() < Duration::from_millis(500) + BUSY);
        server.restart();
        assert!(until_up(&store).await < Duration::from_secs(1) + BUSY);
        set(&store, "k", "v").await.unwrap();
    });
}

#[test]
fn a_restart_while_idle_causes_no_error() {
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
fn a_restart_while_idle_causes_no_error_for_increment() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        store.increment(&Key::new("n"), 1, None).await.unwrap();
        server.kill();
        server.restart();
        // Time for the store to notice that the connection is closed.
        sleep(Duration::from_millis(50)).await;
        assert_eq!(store.increment(&Key::new("n"), 1, None).await.unwrap(), 1);
    });
}

#[test]
fn callers_wait_no_longer_than_their_timeout_while_the_server_restarts() {
    let server = servers::Redis::start();
    run(async {
        let store = with_short_timeout(&server.url());
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
        let back = until_up(&store).await;
        stop.store(true, Ordering::Relaxed);
        callers.join_all().await;
        assert!(back < Duration::from_secs(1), "{back:?}");
        let longest = longest.load(Ordering::Relaxed);
        assert!(longest < 800, "a call took {longest} ms");
    });
}

#[test]
fn a_cut_connection_is_replaced_within_the_call() {
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

/// What is sent into a broken network never gets a reply, and TCP tries again ever later.
#[test]
fn a_server_is_used_soon_after_a_black_hole_whatever_the_timeout() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    run(async {
        let url = format!("redis://{}", proxy.address());
        let store = with_timeout(&url, Duration::from_secs(4));
        set(&store, "k", "v").await.unwrap();
        for hole in [3, 5] {
            proxy.swallow(true);
            let error = get(&store, "k").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            sleep(Duration::from_secs(hole)).await;
            proxy.swallow(false);
            let back = until_up(&store).await;
            assert!(back < Duration::from_millis(800), "{back:?}");
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
        }
    });
}

/// No other reply of that connection shows that one was lost.
#[test]
fn a_reply_that_is_lost_while_connecting_delays_callers_little() {
    let server = servers::Redis::start();
    for url in [String::new(), "?protocol=resp2".into()] {
        let proxy = Proxy::to(server.address());
        run(async {
            let store = with_timeout(
                &format!("redis://{}{url}", proxy.address()),
                Duration::from_secs(20),
            );
            proxy.lose_reply();
            let start = Instant::now();
            assert_eq!(get(&store, "k").await.unwrap(), None);
            // A quarter of a second, and a busy machine.
            assert!(start.elapsed() < Duration::from_secs(10));
        });
    }
}

/// The first two attempts are all the clients that the server allows.
#[test]
fn a_refused_attempt_to_connect_ends_no_other() {
    for url in [String::new(), "?protocol=resp2".into()] {
        let server = servers::Redis::start_with(&["--maxclients", "2"]);
        let proxy = Proxy::to(server.address());
        run(async {
            let store = with_timeout(
                &format!("redis://{}{url}", proxy.address()),
                Duration::from_secs(20),
            );
            // A refusal is shorter than the replies to the first attempt.
            proxy.drip(Duration::from_millis(5));
            assert_eq!(get(&store, "k").await.unwrap(), None);
            assert!(proxy.connections() > 2);
        });
    }
}

#[test]
fn a_refused_connection_fails_at_once() {
    let server = servers::Redis::start_with(&["--maxclients", "1"]);
    run(async {
        let first = store(&server.url());
        until_up(&first).await;
        let second = with_timeout(&server.url(), Duration::from_secs(20));
        let start = Instant::now();
        let error = get(&second, "k").await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}
