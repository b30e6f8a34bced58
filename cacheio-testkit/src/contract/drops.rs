//! Futures that are dropped before they end; only tasks can be.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::world::pause;

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(an_aborted_leader_is_replaced_by_one_of_100_waiters),
        case(a_leader_dropped_at_any_await_leaves_the_key_usable),
        case(a_writer_dropped_at_any_await_leaves_the_key_usable),
        case(a_dropped_waiter_does_not_affect_the_load),
        case(a_load_dropped_by_a_timeout_frees_its_key),
        case(the_aborted_leader_of_a_nested_load_frees_both_keys),
        case(a_fetch_dropped_at_any_await_leaves_the_key_usable),
    ]
}

/// Polls a future this many times, then drops it; returns its output if it ended before.
///
/// Between two polls it waits for a wake-up for a short time, so that each poll reaches another
/// await even if a server has to respond in between. A waiter of another load is not woken.
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

async fn an_aborted_leader_is_replaced_by_one_of_100_waiters(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(-1);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    gate.started().await;
    let second = LoaderGate::new();
    let waiters = (0..100).map(|i| {
        let load = second.loader(i);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    });
    let waiters = waiters.collect();
    cache.until(|cache| cache.stats().waits == 100).await;
    leader.abort.as_ref().unwrap().abort();
    assert_eq!(leader.outcome().await.unwrap_err(), "aborted");
    second.started().await;
    cache.until(|cache| cache.stats().waits == 199).await;
    second.release();
    let values = join_all(waiters).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(second.runs(), 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(values[0]));
}

/// The leader is dropped while it awaits the read, its loader, or the write.
async fn a_leader_dropped_at_any_await_leaves_the_key_usable(fixture: Fixture) {
    let cache = &fixture.cache;
    for polls in 0.. {
        let load = || async {
            for _ in 0..3 {
                pause().await;
            }
            1
        };
        let ended = polled(polls, cache.get_or_set(("k", polls), load));
        assert!(polls < 100, "it never ends");
        // The next caller finds the value or loads it; it does not hang, and no partial state
        // remains.
        let next = cache.get_or_set(("k", polls), || async { 2 }).await;
        assert!(matches!(next, 1 | 2), "{next}");
        assert_eq!(cache.get::<i32>(("k", polls)).await.unwrap(), Some(next));
        assert!(cache.delete(("k", polls)).await.unwrap());
        assert_eq!(cache.get_or_set(("k", polls), || async { 3 }).await, 3);
        assert_eq!(cache.get::<i32>(("k", polls)).await.unwrap(), Some(3));
        if ended.is_some() {
            break;
        }
        // The same with a waiter.
        let load = || async {
            for _ in 0..3 {
                pause().await;
            }
            1
        };
        let mut leader = Box::pin(cache.get_or_set(("waited", polls), load));
        // A server may have responded sooner this time: then the leader has ended already.
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

async fn a_writer_dropped_at_any_await_leaves_the_key_usable(fixture: Fixture) {
    let cache = &fixture.cache;
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
        polled(polls, cache.update(key, |_: Option<i32>| Update::Set(7)));
        polled(polls, cache.take::<i32>(key));
        polled(polls, cache.clear());
        // No write stays registered: loads are stored again.
        cache.delete(key).await.unwrap();
        assert_eq!(cache.get_or_set(key, || async { 6 }).await, 6);
        assert_eq!(cache.get::<i32>(key).await.unwrap(), Some(6));
    }
}

async fn a_dropped_waiter_does_not_affect_the_load(fixture: Fixture) {
    let cache = &fixture.cache;
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(1);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    gate.started().await;
    for polls in 0..10 {
        assert_eq!(polled(polls, cache.get_or_set("k", gate.loader(2))), None);
    }
    let waiter = {
        let load = gate.loader(3);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    let waits = cache.stats().waits;
    cache.until(|cache| cache.stats().waits >= waits).await;
    gate.release();
    assert_eq!((leader.join().await, waiter.join().await), (1, 1));
    assert_eq!(gate.runs(), 1);
}

async fn a_load_dropped_by_a_timeout_frees_its_key(fixture: Fixture) {
    let cache = &fixture.cache;
    let gate = LoaderGate::new();
    let hung = tokio::time::timeout(
        Duration::from_millis(20),
        cache.get_or_set("k", gate.loader(1)),
    );
    hung.await.unwrap_err();
    assert_eq!(cache.get_or_set("k", || async { 2 }).await, 2);
}

async fn the_aborted_leader_of_a_nested_load_frees_both_keys(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let leader = {
        let (inner, load) = (cache.clone(), gate.loader(1));
        cache.spawn(move |cache| async move {
            cache
                .get_or_set(
                    "outer",
                    || async move { inner.get_or_set("inner", load).await },
                )
                .await
        })
    };
    gate.started().await;
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

async fn a_fetch_dropped_at_any_await_leaves_the_key_usable(fixture: Fixture) {
    let cache = fixture.cache;
    for times in 0..12 {
        let key = ("k", times);
        let gate = LoaderGate::new();
        let load = gate.loader(Ok::<_, String>(7));
        let fetched = polled(times, cache.fetch(key, move |_| load()));
        gate.release();
        if fetched.is_some() || gate.runs() > 0 {
            // A load that has started continues without its caller.
            while cache.get::<i32>(key).await.unwrap() != Some(7) {
                fixture.world.pause().await;
            }
        }
        let next = cache.fetch(key, |_| async { Ok::<_, String>(8) }).await;
        let next = next.unwrap();
        assert!(next == 7 || (next == 8 && gate.runs() == 0), "{next}");
    }
    cache.clear().await.unwrap();
    assert!(!cache.has(("k", 0)).await.unwrap());
}
