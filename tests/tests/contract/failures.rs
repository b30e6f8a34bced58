//! The cache never breaks the call: stores that fail.

use crate::prelude::*;

pub(crate) async fn get_or_set_survives_a_store_that_fails<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    breaker.all_fail(true);
    let stage = Stage::open();
    assert_eq!(cache.get_or_set("k", stage.loader(1)).await, 1);
    assert_eq!(
        cache
            .get_or_try_set("k", stage.loader(Ok::<_, ()>(2)))
            .await
            .unwrap(),
        2
    );
    assert_eq!(stage.runs(), 2, "nothing was stored");
    assert!(cache.stats().store_errors > 0);
}

pub(crate) async fn a_store_that_cannot_be_read_still_loads_one_at_a_time<F: Face>(
    place: Place<F>,
) {
    let (cache, breaker) = place.breakable();
    breaker.all_fail(true);
    let stage = Stage::new();
    let callers = (0..100).map(|i| {
        let (cache, load) = (cache.clone(), stage.loader(i));
        F::spawn(async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 99).await;
    stage.end();
    let values = join_all(callers).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(stage.runs(), 1);
}

pub(crate) async fn a_store_that_cannot_be_written_still_answers<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    cache.set("there", 1).await.unwrap();
    breaker.writes_fail(true);
    assert_eq!(cache.get_or_set("there", || async { 2 }).await, 1);
    assert_eq!(cache.get_or_set("k", || async { 3 }).await, 3);
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.stats().store_errors, 1);
}

pub(crate) async fn operations_report_a_store_that_fails<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    cache.set("k", 1).await.unwrap();
    breaker.all_fail(true);
    let errors = [
        cache.has("k").await.unwrap_err(),
        cache.get::<i32>("k").await.unwrap_err(),
        cache.get_arc::<i32>("k").await.unwrap_err(),
        cache.get_many::<i32>(vec!["k"]).await.unwrap_err(),
        cache.set("k", 2).await.unwrap_err(),
        cache.set_many(vec![("k", 2)]).await.unwrap_err(),
        cache.add("k", 2).await.unwrap_err(),
        cache.delete("k").await.unwrap_err(),
        cache.delete_many(vec!["k"]).await.unwrap_err(),
        cache.increment("k", 1).await.unwrap_err(),
        cache.decrement("k", 1).await.unwrap_err(),
        cache.touch("k", Ttl::Never).await.unwrap_err(),
        cache.clear().await.unwrap_err(),
        cache.ping().await.unwrap_err(),
    ];
    let names = [
        "has",
        "get",
        "get",
        "get_many",
        "set",
        "set_many",
        "add",
        "delete",
        "delete_many",
        "increment",
        "increment",
        "touch",
        "clear",
        "ping",
    ];
    for (error, name) in errors.iter().zip(names) {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.operation().unwrap().to_string(), name);
        assert!(std::error::Error::source(error).is_some(), "{error}");
    }
    assert_eq!(
        cache.stats().store_errors,
        0,
        "who gets the error needs no counter"
    );
    breaker.all_fail(false);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
}

/// A lock leaked by a write that throws: `FusionCache` #646.
pub(crate) async fn a_failed_write_ends_like_any_other<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    breaker.all_fail(true);
    cache.set("k", 1).await.unwrap_err();
    cache.delete("k").await.unwrap_err();
    cache.delete_many(vec!["k", "k"]).await.unwrap_err();
    cache.clear().await.unwrap_err();
    cache.get_or_set("k", || async { 2 }).await;
    breaker.all_fail(false);
    assert_eq!(cache.get_or_set("k", || async { 3 }).await, 3);
    assert_eq!(
        cache.get::<i32>("k").await.unwrap(),
        Some(3),
        "no write is registered for ever"
    );
}

pub(crate) async fn a_store_that_recovers_is_used_again<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    let stage = Stage::open();
    breaker.all_fail(true);
    assert_eq!(cache.get_or_set("k", stage.loader(1)).await, 1);
    breaker.all_fail(false);
    assert_eq!(cache.get_or_set("k", stage.loader(2)).await, 2);
    assert_eq!(cache.get_or_set("k", stage.loader(3)).await, 2);
}

pub(crate) async fn store_errors_are_counted_once_each<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    breaker.all_fail(true);
    cache.get_or_set("k", || async { 1 }).await;
    let stats = cache.stats();
    assert_eq!(
        (stats.store_errors, stats.loads, stats.misses),
        (2, 1, 1),
        "one reading, one writing"
    );
}

pub(crate) async fn a_wrong_type_is_counted_once<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("k", "text").await.unwrap();
    cache.get_or_set("k", || async { 1 }).await;
    let stats = cache.stats();
    assert_eq!(
        (stats.store_errors, stats.loads, stats.misses, stats.hits),
        (1, 1, 1, 0)
    );
}

pub(crate) async fn a_loader_error_comes_through_a_store_that_fails<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    breaker.all_fail(true);
    let error = cache
        .get_or_try_set("k", || async { Err::<i32, _>("no") })
        .await
        .unwrap_err();
    assert_eq!(error.load_error(), Some(&"no"));
}
