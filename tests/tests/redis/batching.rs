//! Requests at the same time share batches.

use std::task::Poll;
use std::time::{Duration, Instant};

use cacheio_async::ErrorKind;
use cacheio_core::{AsyncStore, Key};
use cacheio_tests::BUSY;
use cacheio_tests::servers;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{get, is_ready, run, set, store, until_up, with_short_timeout};

#[test]
fn each_concurrent_reader_gets_its_own_value() {
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
fn cancelled_readers_do_not_affect_others() {
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
                    let value = get(&store, &key);
                    if reader % 2 == 0 {
                        let limit = Duration::from_micros((reader * 7 + step * 11) % 300);
                        if let Ok(value) = timeout(limit, value).await {
                            assert_eq!(value.unwrap(), Some(format!("v{n}")));
                        }
                    } else {
                        assert_eq!(value.await.unwrap(), Some(format!("v{n}")));
                    }
                }
            });
        }
        readers.join_all().await;
        // Nothing still counts as in flight: a single get is sent directly.
        for _ in 0..10 {
            assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("v1"));
        }
    });
}

/// A `select!` whose handler awaits something else holds a call without polling it.
#[test]
fn calls_that_are_not_polled_do_not_delay_others() {
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
            assert!(began.elapsed() < BUSY);
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
fn a_connecting_call_that_is_not_polled_does_not_delay_others() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut held: Vec<_> = (0..3).map(|_| Box::pin(get(&store, "k"))).collect();
        for get in &mut held {
            assert!(!is_ready(get).await);
        }
        let others = timeout(Duration::from_secs(5), async {
            set(&store, "k", "value").await.unwrap();
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("value"));
        });
        others
            .await
            .expect("a call waits for one that is not polled");
        for get in held {
            get.await.unwrap();
        }
    });
}

#[test]
fn a_get_sees_earlier_writes_of_its_task() {
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
fn readers_of_a_hanging_server_wait_no_longer_than_their_timeout() {
    let server = servers::Redis::start();
    run(async {
        let store = with_short_timeout(&server.url());
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
            assert!(took < Duration::from_millis(500) + BUSY, "{took:?}");
        }
        // The circuit is open.
        assert_eq!(
            get(&store, "k").await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        server.resume();
        assert!(until_up(&store).await < Duration::from_secs(1) + BUSY);
        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    });
}
