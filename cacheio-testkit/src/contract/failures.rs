//! Stores that fail: loads still return values, other operations return the error.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(get_or_set_survives_a_store_that_fails),
        case(a_store_that_cannot_be_read_still_loads_one_at_a_time),
        case(a_store_that_cannot_be_written_is_still_read),
        case(operations_report_a_store_that_fails),
        case(a_failed_write_does_not_affect_later_loads),
        case(a_store_that_recovers_is_used_again),
        case(store_errors_are_counted_once_each),
        case(a_wrong_type_is_counted_once),
        case(a_loader_error_is_returned_although_the_store_fails),
    ]
}

async fn get_or_set_survives_a_store_that_fails(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    faults.fail_all(true);
    let gate = LoaderGate::open();
    assert_eq!(cache.get_or_set("k", gate.loader(1)).await, 1);
    cache.clear_l1();
    assert_eq!(
        cache
            .get_or_try_set("k", gate.loader(Ok::<_, ()>(2)))
            .await
            .unwrap(),
        2
    );
    assert_eq!(gate.runs(), 2, "nothing was stored");
    assert!(cache.stats().store_errors > 0);
}

async fn a_store_that_cannot_be_read_still_loads_one_at_a_time(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    faults.fail_all(true);
    let gate = LoaderGate::new();
    let callers = (0..100).map(|i| {
        let load = gate.loader(i);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 99).await;
    gate.release();
    let values = join_all(callers).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(gate.runs(), 1);
}

async fn a_store_that_cannot_be_written_is_still_read(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    cache.set("there", 1).await.unwrap();
    faults.fail_writes(true);
    assert_eq!(cache.get_or_set("there", || async { 2 }).await, 1);
    assert_eq!(cache.get_or_set("k", || async { 3 }).await, 3);
    cache.clear_l1();
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.stats().store_errors, 1);
}

async fn operations_report_a_store_that_fails(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    cache.set("k", 1).await.unwrap();
    faults.fail_all(true);
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
        cache.ttl("k").await.unwrap_err(),
        cache
            .update("k", |_: Option<i32>| Update::Set(2))
            .await
            .unwrap_err(),
        cache.take::<i32>("k").await.unwrap_err(),
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
        "ttl",
        "update",
        "take",
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
        "an error that the caller gets is not counted"
    );
    faults.fail_all(false);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
}

/// In `FusionCache`, a failed write leaked a lock (#646).
async fn a_failed_write_does_not_affect_later_loads(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    faults.fail_all(true);
    cache.set("k", 1).await.unwrap_err();
    cache.delete("k").await.unwrap_err();
    cache.delete_many(vec!["k", "k"]).await.unwrap_err();
    cache.clear().await.unwrap_err();
    cache.get_or_set("k", || async { 2 }).await;
    faults.fail_all(false);
    cache.clear_l1();
    assert_eq!(cache.get_or_set("k", || async { 3 }).await, 3);
    assert_eq!(
        cache.get::<i32>("k").await.unwrap(),
        Some(3),
        "no write stays registered"
    );
}

async fn a_store_that_recovers_is_used_again(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    let gate = LoaderGate::open();
    faults.fail_all(true);
    assert_eq!(cache.get_or_set("k", gate.loader(1)).await, 1);
    faults.fail_all(false);
    cache.clear_l1();
    assert_eq!(cache.get_or_set("k", gate.loader(2)).await, 2);
    assert_eq!(cache.get_or_set("k", gate.loader(3)).await, 2);
}

async fn store_errors_are_counted_once_each(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    faults.fail_all(true);
    cache.get_or_set("k", || async { 1 }).await;
    let stats = cache.stats();
    assert_eq!(
        (stats.store_errors, stats.loads, stats.misses),
        (2, 1, 1),
        "one read and one write"
    );
}

async fn a_wrong_type_is_counted_once(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "text").await.unwrap();
    cache.get_or_set("k", || async { 1 }).await;
    let stats = cache.stats();
    assert_eq!(
        (stats.store_errors, stats.loads, stats.misses, stats.hits),
        (1, 1, 1, 0)
    );
}

async fn a_loader_error_is_returned_although_the_store_fails(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    faults.fail_all(true);
    let error = cache
        .get_or_try_set("k", || async { Err::<i32, _>("no") })
        .await
        .unwrap_err();
    assert_eq!(error.load_error(), Some(&"no"));
}
