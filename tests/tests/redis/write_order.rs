//! A write whose outcome is unknown never takes effect after a later one.

use std::task::Poll;
use std::time::Duration;

use cacheio_async::ErrorKind;
use cacheio_core::{AsyncStore, Entry, Key};
use cacheio_tests::servers::{self, Proxy, Reply};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::delay_proxy::DelayProxy;
use crate::support::{get, is_ready, on_one_thread, run, set, store, until_up, with_short_timeout};

#[test]
fn a_timed_out_write_does_not_overwrite_a_later_delete() {
    let server = servers::Redis::start();
    run(async {
        for round in 0..5 {
            let store = with_short_timeout(&server.url());
            let key = format!("unconfirmed{round}");
            set(&store, &key, "old").await.unwrap();
            server.pause();
            assert_eq!(
                set(&store, &key, "late").await.unwrap_err().kind(),
                ErrorKind::Timeout
            );
            sleep(Duration::from_millis(300 * round)).await;
            server.resume();
            until_up(&store).await;
            store.delete(&Key::new(&key)).await.unwrap();
            assert_eq!(get(&store, &key).await.unwrap(), None);
            sleep(Duration::from_millis(50)).await;
            assert_eq!(server.run(&format!("EXISTS {key}")), Reply::Integer(0));
        }
    });
}

#[test]
fn a_write_on_a_discarded_connection_never_takes_effect() {
    let server = servers::Redis::start();
    let proxy = Proxy::to(server.address());
    run(async {
        let store = with_short_timeout(&format!("redis://{}", proxy.address()));
        set(&store, "k", "old").await.unwrap();
        // The request reaches the server, which reads it only after the connection is cut.
        server.pause();
        assert!(set(&store, "k", "late").await.is_err());
        proxy.cut_now();
        sleep(Duration::from_millis(200)).await;
        server.resume();
        until_up(&store).await;
        store.delete(&Key::new("k")).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(server.run("EXISTS k"), Reply::Integer(0));
    });
}

#[test]
fn a_write_in_transit_never_takes_effect_after_a_reconnect() {
    let server = servers::Redis::start();
    let (proxy, address) = DelayProxy::to(server.address());
    run(async {
        let store = with_short_timeout(&format!("redis://{address}"));
        set(&store, "k", "old").await.unwrap();
        proxy.hold();
        assert_eq!(
            set(&store, "k", "late").await.unwrap_err().kind(),
            ErrorKind::Timeout
        );
        // Another connection gets through and replaces the first.
        until_up(&store).await;
        assert!(store.delete(&Key::new("k")).await.unwrap());
        proxy.release();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(server.run("EXISTS k"), Reply::Integer(0));
    });
}

#[test]
fn cancelled_writes_keep_their_order() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        for step in 0..500_u64 {
            let limit = Duration::from_micros(step % 120);
            let _ = timeout(limit, set(&store, "k", "late")).await;
            store.delete(&Key::new("k")).await.unwrap();
            assert_eq!(get(&store, "k").await.unwrap(), None);
        }
    });
}

#[test]
fn cancelled_writes_in_batches_keep_their_order() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut writers = JoinSet::new();
        for writer in 0_u64..100 {
            let store = store.clone();
            writers.spawn(async move {
                let key = format!("k{writer}");
                for step in 0..150 {
                    let limit = Duration::from_micros((writer * 7 + step * 11) % 400);
                    let _ = timeout(limit, set(&store, &key, "late")).await;
                    if step % 3 == 0 {
                        let seen = get(&store, &key).await.unwrap();
                        sleep(Duration::from_micros(200)).await;
                        assert_eq!(get(&store, &key).await.unwrap(), seen, "{step}");
                    }
                    if step % 2 == 0 {
                        store.delete(&Key::new(&key)).await.unwrap();
                    } else {
                        // Not part of a batch.
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

#[test]
fn a_cancelled_write_on_a_full_connection_does_not_overwrite_a_later_delete() {
    // A task, so that it is polled before the task that sends the waiting requests.
    on_one_thread(async { tokio::spawn(cancel_on_full_connection()).await.unwrap() });
}

async fn cancel_on_full_connection() {
    let server = servers::Redis::start();
    let store = store(&server.url());
    store.ping().await.unwrap();
    server.pause();
    let big = Entry::bytes(vec![1; 32 << 20]);
    let mut unread = store.set_many(vec![(Key::new("big"), big, None)]);
    assert!(!is_ready(&mut unread).await);
    sleep(Duration::from_millis(300)).await;
    let other = [Key::new("other")];
    let mut gets: Vec<_> = (0..60).map(|_| store.get_many(&other)).collect();
    for get in &mut gets {
        assert!(!is_ready(get).await);
    }
    // The last ones wait for a batch.
    let keys: Vec<_> = (0..8).map(|n| format!("k{n}")).collect();
    let mut sets: Vec<_> = keys
        .iter()
        .map(|key| Box::pin(set(&store, key, "late")))
        .collect();
    for set in &mut sets {
        assert!(!is_ready(set).await);
    }
    sleep(Duration::from_millis(50)).await;
    server.resume();
    // Until there is room for the last request that waits.
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

/// Also on one machine, requests on a connection that was given up may still be unread.
#[test]
fn a_write_on_a_connection_that_was_replaced_never_takes_effect() {
    let socket = std::env::temp_dir().join(format!("cacheio-proxy-{}.sock", std::process::id()));
    let server = servers::Redis::start();
    let proxy = DelayProxy::from_socket(&socket, server.address());
    let store = with_short_timeout(&format!("redis+unix://{}", socket.to_str().unwrap()));
    run(async {
        set(&store, "k", "old").await.unwrap();
        proxy.hold();
        assert!(set(&store, "k", "late").await.is_err());
        until_up(&store).await;
        assert!(store.delete(&Key::new("k")).await.unwrap());
        proxy.release();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(server.run("EXISTS k"), Reply::Integer(0));
    });
    std::fs::remove_file(socket).unwrap();
}

/// The connection does not end with the runtime of a caller.
#[test]
fn a_write_whose_runtime_has_ended_takes_effect_before_later_writes() {
    let server = servers::Redis::start();
    let (proxy, address) = DelayProxy::to(server.address());
    let store = store(&format!("redis://{address}"));
    on_one_thread(async {
        set(&store, "k", "old").await.unwrap();
        proxy.hold();
        let late = timeout(Duration::from_millis(100), set(&store, "k", "late"));
        assert!(late.await.is_err());
    });
    on_one_thread(async {
        let key = Key::new("k");
        let mut delete = store.delete(&key);
        assert!(!is_ready(&mut delete).await);
        proxy.release();
        assert!(delete.await.unwrap());
        assert_eq!(server.run("EXISTS k"), Reply::Integer(0));
    });
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
                    let limit = Duration::from_micros((writer * 7 + step * 11) % 400);
                    let _ = timeout(limit, set(&store, &key, "short")).await;
                    set(&store, &key, &long).await.unwrap();
                    assert_eq!(get(&store, &key).await.unwrap().as_ref(), Some(&long));
                    let _ = timeout(limit, set(&store, &key, &long)).await;
                    set(&store, &key, "last").await.unwrap();
                    assert_eq!(get(&store, &key).await.unwrap().as_deref(), Some("last"));
                }
            });
        }
        writers.join_all().await;
    });
}
