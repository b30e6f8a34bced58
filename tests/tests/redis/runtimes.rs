//! The runtimes on which a store is used.

use std::time::{Duration, Instant};

use cacheio_async::ErrorKind;
use cacheio_core::AsyncStore;
use cacheio_tests::BUSY;
use cacheio_tests::servers::{self, Proxy};
use cacheio_tests::world::block_on;
use tokio::runtime::Builder;

use crate::support::{
    get, run, runtime, set, single_threaded_runtime, store, until_up, with_short_timeout,
};

#[test]
fn a_store_outlives_the_runtime_that_connected_it() {
    let server = servers::Redis::start();
    for url in [server.url(), format!("{}?protocol=resp2", server.url())] {
        let store = store(&url);
        for round in 0..6 {
            let runtime = match round % 2 {
                0 => single_threaded_runtime(),
                _ => runtime(),
            };
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
fn probing_continues_after_its_runtime_has_ended() {
    let server = servers::Redis::start();
    let store = with_short_timeout(&server.url());
    server.kill();
    run(async { assert!(store.ping().await.is_err()) });
    server.restart();
    run(async { assert!(until_up(&store).await < Duration::from_secs(1) + BUSY) });
}

#[test]
fn probing_continues_while_its_runtime_is_blocked() {
    let server = servers::Redis::start();
    let store = with_short_timeout(&server.url());
    let running = runtime();
    running.block_on(store.ping()).unwrap();
    let blocked = single_threaded_runtime();
    server.pause();
    assert!(blocked.block_on(store.ping()).is_err());
    server.resume();
    running.block_on(async { assert!(until_up(&store).await < Duration::from_secs(4)) });
    drop(blocked);
}

#[test]
fn callers_elsewhere_are_served_while_the_runtime_of_the_connection_is_blocked() {
    let server = servers::Redis::start();
    let store = with_short_timeout(&server.url());
    let mut blocked = Builder::new_multi_thread();
    let blocked = blocked.worker_threads(1).enable_all().build().unwrap();
    blocked.block_on(set(&store, "k", "v")).unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    blocked.spawn(async move { released.recv() });
    run(async {
        assert!(until_up(&store).await < Duration::from_secs(4));
        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    });
    drop(release);
}

/// Runs a test where tokio has no timers, where its clock is paused, and without tokio.
fn on_unusual_runtimes(test: impl AsyncFn()) {
    let mut without_timers = Builder::new_current_thread();
    without_timers.enable_io().build().unwrap().block_on(test());
    let mut paused = Builder::new_current_thread();
    let paused = paused.enable_all().start_paused(true).build();
    paused.unwrap().block_on(test());
    block_on(test());
}

#[test]
fn a_slow_reply_is_awaited_on_every_runtime() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    proxy.delay(Duration::from_millis(50));
    on_unusual_runtimes(async || {
        let store = store(&format!("redis://{}", proxy.address()));
        for value in ["1", "2", "3"] {
            set(&store, "k", value).await.unwrap();
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some(value));
        }
    });
}

#[test]
fn a_hanging_server_costs_one_timeout_on_every_runtime() {
    let server = servers::Redis::start();
    on_unusual_runtimes(async || {
        let store = with_short_timeout(&server.url());
        set(&store, "k", "v").await.unwrap();
        server.pause();
        let began = Instant::now();
        let error = get(&store, "k").await.unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        let error = get(&store, "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        server.resume();
        while get(&store, "k").await.is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn many_callers_outside_of_tokio_share_batches() {
    let server = servers::Redis::start();
    let store = store(&server.url());
    let callers = (0..64).map(|caller| {
        let (store, key) = (store.clone(), format!("k{caller}"));
        std::thread::spawn(move || {
            block_on(async {
                for step in 0..50 {
                    let value = step.to_string();
                    set(&store, &key, &value).await.unwrap();
                    assert_eq!(get(&store, &key).await.unwrap(), Some(value));
                }
            });
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.join().unwrap();
    }
}

#[test]
fn calls_of_a_runtime_whose_workers_are_blocked_end_in_time() {
    let server = servers::Redis::start();
    let store = with_short_timeout(&server.url());
    let blocked = runtime();
    // Its workers drive the connection.
    blocked.block_on(set(&store, "k", "v")).unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    for _ in 0..2 {
        let released = std::sync::Arc::clone(&released);
        blocked.spawn(async move { released.lock().unwrap().recv() });
    }
    std::thread::sleep(Duration::from_millis(100));
    let (done, ended) = std::sync::mpsc::channel();
    let handle = blocked.handle().clone();
    let caller = std::thread::spawn(move || {
        let mut calls: Vec<_> = (0..12).map(|_| Box::pin(get(&store, "k"))).collect();
        let began = Instant::now();
        handle.block_on(std::future::poll_fn(|context| {
            calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
            match calls.is_empty() {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        }));
        let _ = done.send(began.elapsed());
    });
    let took = ended.recv_timeout(Duration::from_secs(5));
    drop(release);
    caller.join().unwrap();
    let took = took.expect("a call waits for the workers");
    assert!(took < BUSY, "{took:?}");
}
