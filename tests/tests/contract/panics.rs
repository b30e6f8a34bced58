//! Loaders that panic. (Race C.)

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

/// Race C.
pub(crate) async fn a_loader_that_panics_panics_in_its_own_caller_only<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let panicking = {
        let (cache, stage) = (cache.clone(), stage.clone());
        F::spawn(async move {
            let load = || async {
                stage.play().await;
                panic!("the loader's own")
            };
            cache.get_or_set::<i32, _>("k", load).await
        })
    };
    stage.begun().await;
    let waiter = {
        let cache = cache.clone();
        F::spawn(async move { cache.get_or_set("k", || async { 2 }).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert_eq!(panicking.outcome().await.unwrap_err(), "the loader's own");
    assert_eq!(waiter.join().await, 2);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

pub(crate) async fn one_of_100_waiters_takes_over_from_a_panic<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let panicking = {
        let (cache, stage) = (cache.clone(), stage.clone());
        F::spawn(async move {
            let load = || async {
                stage.play().await;
                panic!("the loader's own")
            };
            cache.get_or_try_set::<i32, (), _>("k", load).await
        })
    };
    stage.begun().await;
    let second = Stage::new();
    let waiters = (0..100).map(|i| {
        let (cache, load) = (cache.clone(), second.loader(i));
        F::spawn(async move { cache.get_or_set("k", load).await })
    });
    let waiters = waiters.collect();
    cache.until(|cache| cache.stats().waits == 100).await;
    stage.end();
    second.begun().await;
    // The 99 others wait again, for the one that took over.
    cache.until(|cache| cache.stats().waits == 199).await;
    second.end();
    assert!(panicking.outcome().await.is_err());
    let values = join_all(waiters).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(second.runs(), 1);
}

pub(crate) async fn all_loaders_panic_each_in_its_own_caller<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let runs = Arc::new(AtomicUsize::new(0));
    let callers = (0..30).map(|i| {
        let (cache, runs) = (cache.clone(), Arc::clone(&runs));
        F::spawn(async move {
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

pub(crate) async fn a_panic_in_a_nested_load_frees_both_keys<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let panicking = {
        let cache = cache.clone();
        F::spawn(async move {
            let inner = cache.clone();
            let load = || async move {
                inner
                    .get_or_set::<i32, _>("inner", || async { panic!("inner") })
                    .await
            };
            cache.get_or_set("outer", load).await
        })
    };
    assert_eq!(panicking.outcome().await.unwrap_err(), "inner");
    assert_eq!(cache.get_or_set("inner", || async { 1 }).await, 1);
    assert_eq!(cache.get_or_set("outer", || async { 2 }).await, 2);
}
