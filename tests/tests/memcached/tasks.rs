//! Tasks that give up, and runtimes that are busy, gone, or have a paused clock.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_sync::Memcached;
use cacheio_tests::BUSY;
use cacheio_tests::api::World;
use cacheio_tests::servers::{self, Proxy};
use cacheio_tests::watchdog::guarded;
use cacheio_tests::world::block_on;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{SECOND, cache, store};

fn single_threaded() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn callers_that_give_up_leave_no_work() {
    guarded(|| {
        World::Tasks.run(async {
            let server = servers::lease::<servers::Memcached>();
            let cache = AsyncCache::builder().store(store(&server)).build().unwrap();
            cache.set("k", 1).await.unwrap();
            let until = Instant::now() + 2 * SECOND;
            let mut storm = JoinSet::new();
            for caller in 0..300 {
                let cache = cache.clone();
                storm.spawn(async move {
                    let mut responses = 0;
                    while Instant::now() < until {
                        let call = async {
                            match caller % 3 {
                                0 => cache.set("k", 1).await.map(|()| Some(1)),
                                _ => cache.get::<i32>("k").await,
                            }
                        };
                        match timeout(Duration::from_millis(5), call).await {
                            Ok(found) => {
                                assert_eq!(found.unwrap(), Some(1));
                                responses += 1;
                            }
                            // As a client that has more to do.
                            Err(_) => tokio::task::yield_now().await,
                        }
                    }
                    responses
                });
            }
            let responses: u32 = storm.join_all().await.into_iter().sum();
            let began = Instant::now();
            assert_eq!(cache.get("k").await.unwrap(), Some(1));
            cache.set("k", 2).await.unwrap();
            let took = began.elapsed();
            assert!(
                took < SECOND / 2 + BUSY,
                "{took:?}, after {responses} responses"
            );
            assert!(responses > 0, "all calls were given up");
        });
    });
}

#[test]
fn the_program_may_use_all_threads_for_blocking_work() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (finish, finished) = std::sync::mpsc::channel::<()>();
            let blocking = tokio::task::spawn_blocking(move || finished.recv());
            let store = Memcached::new(&format!("memcache://localhost:{}", server.port()));
            let cache = AsyncCache::builder().store(store.unwrap()).build().unwrap();
            let began = Instant::now();
            for count in 0..10 {
                cache.set("k", count).await.unwrap();
                assert_eq!(cache.get("k").await.unwrap(), Some(count));
            }
            assert!(began.elapsed() < SECOND / 2 + BUSY, "{:?}", began.elapsed());
            finish.send(()).unwrap();
            blocking.await.unwrap().unwrap();
        });
    });
}

#[test]
fn a_dropped_write_is_not_carried_out_after_a_later_write() {
    guarded(|| {
        World::Tasks.run(async {
            let server = servers::lease::<servers::Memcached>();
            let cache = cache(World::Tasks, store(&server));
            for round in 0..200 {
                // The first poll sends the request on a connection that is open.
                cache.set("k", "before").await.unwrap();
                poll_once(cache.set("k", "dropped")).await;
                cache.delete("k").await.unwrap();
                for _ in 0..3 {
                    assert_eq!(cache.get::<String>("k").await.unwrap(), None, "in {round}");
                    tokio::task::yield_now().await;
                }
            }
        });
    });
}

/// Polls a future once, and drops it.
async fn poll_once(future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

#[test]
fn runtimes_that_are_gone_or_idle_do_not_matter_to_others() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let cache = AsyncCache::builder().store(store(&server)).build().unwrap();
        let idle = single_threaded();
        idle.block_on(cache.set("k", 0)).unwrap();
        for count in 1..40 {
            let runtime = single_threaded();
            runtime.block_on(cache.set("k", count)).unwrap();
            drop(runtime);
            // Without a runtime.
            assert_eq!(block_on(cache.get("k")).unwrap(), Some(count));
        }
        assert_eq!(idle.block_on(cache.get("k")).unwrap(), Some(39));
        // 16, and the one that counts.
        let connections = server.stat("curr_connections");
        assert!(connections <= 17 + 1, "{connections} connections");
    });
}

#[test]
fn a_runtime_with_a_paused_clock_does_not_shorten_timeouts() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let proxy = Proxy::to(server.address());
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Memcached::new(&format!("memcache://{}", proxy.address())).unwrap();
            let cache = AsyncCache::builder().store(store).build().unwrap();
            proxy.delay(Duration::from_millis(50));
            for count in 0..3 {
                cache.set("k", count).await.unwrap();
                assert_eq!(cache.get("k").await.unwrap(), Some(count));
            }
        });
    });
}

#[test]
fn a_runtime_without_timers_suffices() {
    guarded(|| {
        let server = servers::Memcached::start();
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let store = super::store_with_timeout(&server, Duration::from_millis(200));
            let cache = AsyncCache::builder().store(store).build().unwrap();
            cache.set("k", 1).await.unwrap();
            server.pause();
            let began = Instant::now();
            assert!(cache.get::<i32>("k").await.is_err());
            assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
            server.resume();
        });
    });
}
