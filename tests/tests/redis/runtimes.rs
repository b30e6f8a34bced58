//! The runtimes on which a store is used.

use std::future::Future;
use std::time::Duration;

use cacheio_async::{ErrorKind, Redis};
use cacheio_core::{AsyncStore, Key};
use cacheio_tests::servers;

use crate::support::{
    get, run, runtime, set, single_threaded_runtime, store, until_up, with_short_timeout,
};

#[test]
fn a_store_outlives_the_runtime_that_connected_it() {
    let server = servers::Redis::start();
    for url in [server.url(), format!("{}?protocol=resp2", server.url())] {
        let store = store(&url);
        for round in 0..5 {
            let runtime = single_threaded_runtime();
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
    run(async { assert!(until_up(&store).await < Duration::from_secs(1)) });
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
fn a_call_outside_of_a_runtime_is_an_error() {
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
