//! Loaders that panic.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_loader_that_panics_panics_in_its_own_caller_only),
        case(after_a_panic_one_of_100_waiters_loads),
        case(all_loaders_panic_each_in_its_own_caller),
        case(a_panic_in_a_nested_load_frees_both_keys),
    ]
}

async fn a_loader_that_panics_panics_in_its_own_caller_only(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let panicking = {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = || async {
                gate.pass().await;
                panic!("the loader's own")
            };
            cache.get_or_set::<i32, _>("k", load).await
        })
    };
    gate.started().await;
    let waiter =
        cache.spawn(move |cache| async move { cache.get_or_set("k", || async { 2 }).await });
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(panicking.outcome().await.unwrap_err(), "the loader's own");
    assert_eq!(waiter.join().await, 2);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

async fn after_a_panic_one_of_100_waiters_loads(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let panicking = {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = || async {
                gate.pass().await;
                panic!("the loader's own")
            };
            cache.get_or_try_set::<i32, (), _>("k", load).await
        })
    };
    gate.started().await;
    let second = LoaderGate::new();
    let waiters = (0..100).map(|i| {
        let load = second.loader(i);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    });
    let waiters = waiters.collect();
    cache.until(|cache| cache.stats().waits == 100).await;
    gate.release();
    second.started().await;
    // The 99 others wait again, for the new leader.
    cache.until(|cache| cache.stats().waits == 199).await;
    second.release();
    assert!(panicking.outcome().await.is_err());
    let values = join_all(waiters).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(second.runs(), 1);
}

async fn all_loaders_panic_each_in_its_own_caller(fixture: Fixture) {
    let cache = fixture.cache;
    let runs = Arc::new(AtomicUsize::new(0));
    let callers = (0..30).map(|i| {
        let runs = Arc::clone(&runs);
        cache.spawn(move |cache| async move {
            let load = || async {
                runs.fetch_add(1, Ordering::SeqCst);
                panic!("panic of {i}")
            };
            cache.get_or_set::<i32, _>("k", load).await
        })
    });
    let callers: Vec<_> = callers.collect();
    for (i, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.outcome().await.unwrap_err(), format!("panic of {i}"));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 30);
    assert_eq!(cache.get_or_set("k", || async { 1 }).await, 1);
}

async fn a_panic_in_a_nested_load_frees_both_keys(fixture: Fixture) {
    let cache = fixture.cache;
    let panicking = cache.spawn(move |cache| async move {
        let inner = cache.clone();
        let load = || async move {
            inner
                .get_or_set::<i32, _>("inner", || async { panic!("inner") })
                .await
        };
        cache.get_or_set("outer", load).await
    });
    assert_eq!(panicking.outcome().await.unwrap_err(), "inner");
    assert_eq!(cache.get_or_set("inner", || async { 1 }).await, 1);
    assert_eq!(cache.get_or_set("outer", || async { 2 }).await, 2);
}
