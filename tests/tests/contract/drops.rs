//! Futures that are dropped before they end: tasks only. (Race D.)

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use cacheio_tests::stores::pause;

use crate::prelude::*;

/// Polls a future so often, then drops it; what it gave if it ended before.
///
/// Between two polls it may be woken, so that each poll takes it to another await, also where a
/// server has to answer in between. What waits for somebody else is not woken.
fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    None
}

/// Race D.
pub(crate) async fn a_leader_that_is_aborted_is_replaced_by_one_of_100_waiters(
    place: Place<Tasks>,
) {
    let cache = place.cache;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(-1));
        Tasks::spawn(async move { cache.get_or_set("k", load).await })
    };
    stage.begun().await;
    let second = Stage::new();
    let waiters = (0..100).map(|i| {
        let (cache, load) = (cache.clone(), second.loader(i));
        Tasks::spawn(async move { cache.get_or_set("k", load).await })
    });
    let waiters = waiters.collect();
    cache.until(|cache| cache.stats().waits == 100).await;
    leader.abort.as_ref().unwrap().abort();
    assert_eq!(leader.outcome().await.unwrap_err(), "aborted");
    second.begun().await;
    cache.until(|cache| cache.stats().waits == 199).await;
    second.end();
    let values = join_all(waiters).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(second.runs(), 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(values[0]));
}

/// Whatever it awaits when it is dropped: the store's answer, its loader, or the storing.
pub(crate) async fn a_leader_that_is_dropped_at_any_await_harms_nobody(place: Place<Tasks>) {
    let cache = &place.cache;
    for polls in 0.. {
        let load = || async {
            for _ in 0..3 {
                pause().await;
            }
            1
        };
        let ended = polled(polls, cache.get_or_set(("k", polls), load));
        assert!(polls < 100, "it never ends");
        // Whoever comes next finds the value, or loads; nobody hangs, and nothing half done stays.
        let next = cache.get_or_set(("k", polls), || async { 2 }).await;
        assert!(matches!(next, 1 | 2), "{next}");
        assert_eq!(cache.get::<i32>(("k", polls)).await.unwrap(), Some(next));
        assert!(cache.delete(("k", polls)).await.unwrap());
        assert_eq!(cache.get_or_set(("k", polls), || async { 3 }).await, 3);
        assert_eq!(cache.get::<i32>(("k", polls)).await.unwrap(), Some(3));
        if ended.is_some() {
            break;
        }
        // With somebody waiting.
        let load = || async {
            for _ in 0..3 {
                pause().await;
            }
            1
        };
        let mut leader = Box::pin(cache.get_or_set(("waited", polls), load));
        // A server may have answered sooner this time: then there is nobody to drop.
        polled(polls, leader.as_mut());
        let mut waiter = pin!(cache.get_or_set(("waited", polls), || async { 2 }));
        let early = (0..polls).find_map(|_| {
            match waiter
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            }
        });
        drop(leader);
        let value = match early {
            Some(value) => value,
            None => waiter.await,
        };
        assert_eq!(
            cache.get::<i32>(("waited", polls)).await.unwrap(),
            Some(value)
        );
    }
}

pub(crate) async fn a_writer_that_is_dropped_at_any_await_harms_nobody(place: Place<Tasks>) {
    let cache = &place.cache;
    for polls in 0..20 {
        let key = ("k", polls);
        cache.set(key, 1).await.unwrap();
        polled(polls, cache.set(key, 2));
        assert!(
            matches!(cache.get::<i32>(key).await.unwrap(), Some(1 | 2)),
            "done or not done"
        );
        polled(polls, cache.delete(key));
        polled(polls, cache.set_many(vec![(key, 4), (("other", polls), 4)]));
        polled(polls, cache.delete_many(vec![key, ("other", polls)]));
        polled(polls, cache.add(key, 5));
        polled(polls, cache.increment(key, 1));
        polled(polls, cache.touch(key, Duration::ZERO));
        polled(polls, cache.clear());
        // No write is registered for ever: loads are stored again.
        cache.delete(key).await.unwrap();
        assert_eq!(cache.get_or_set(key, || async { 6 }).await, 6);
        assert_eq!(cache.get::<i32>(key).await.unwrap(), Some(6));
    }
}

pub(crate) async fn a_waiter_that_is_dropped_harms_nobody(place: Place<Tasks>) {
    let cache = &place.cache;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(1));
        Tasks::spawn(async move { cache.get_or_set("k", load).await })
    };
    stage.begun().await;
    for polls in 0..10 {
        assert_eq!(polled(polls, cache.get_or_set("k", stage.loader(2))), None);
    }
    let waiter = {
        let (cache, load) = (cache.clone(), stage.loader(3));
        Tasks::spawn(async move { cache.get_or_set("k", load).await })
    };
    let waits = cache.stats().waits;
    cache.until(|cache| cache.stats().waits >= waits).await;
    stage.end();
    assert_eq!((leader.join().await, waiter.join().await), (1, 1));
    assert_eq!(stage.runs(), 1);
}

pub(crate) async fn a_load_that_times_out_frees_its_key(place: Place<Tasks>) {
    let cache = &place.cache;
    let stage = Stage::new();
    let hung = tokio::time::timeout(
        Duration::from_millis(20),
        cache.get_or_set("k", stage.loader(1)),
    );
    hung.await.unwrap_err();
    assert_eq!(cache.get_or_set("k", || async { 2 }).await, 2);
}

pub(crate) async fn the_aborted_leader_of_a_nested_load_frees_both_keys(place: Place<Tasks>) {
    let cache = place.cache;
    let stage = Stage::new();
    let leader = {
        let (cache, inner, load) = (cache.clone(), cache.clone(), stage.loader(1));
        Tasks::spawn(async move {
            cache
                .get_or_set(
                    "outer",
                    || async move { inner.get_or_set("inner", load).await },
                )
                .await
        })
    };
    stage.begun().await;
    leader.abort.as_ref().unwrap().abort();
    assert!(leader.outcome().await.is_err());
    let inner = cache.clone();
    let outer = cache
        .get_or_set("outer", || async move {
            inner.get_or_set("inner", || async { 2 }).await
        })
        .await;
    assert_eq!(outer, 2);
    assert_eq!(
        cache.get_many::<i32>(vec!["outer", "inner"]).await.unwrap(),
        [Some(2), Some(2)]
    );
}

pub(crate) async fn leader_dropped_at_every_await(place: Place<Tasks>) {
    let cache = place.cache;
    for times in 0..12 {
        let key = ("k", times);
        let stage = Stage::new();
        let load = stage.loader(Ok::<_, String>(7));
        let fetched = polled(times, cache.fetch(key, move |_| load()));
        stage.end();
        if fetched.is_some() || stage.runs() > 0 {
            // A load that was begun goes on without its caller.
            while cache.get::<i32>(key).await.unwrap() != Some(7) {
                Tasks::pause().await;
            }
        }
        let next = cache.fetch(key, |_| async { Ok::<_, String>(8) }).await;
        let next = next.unwrap();
        assert!(next == 7 || (next == 8 && stage.runs() == 0), "{next}");
    }
    cache.clear().await.unwrap();
    assert!(!cache.has(("k", 0)).await.unwrap());
}
