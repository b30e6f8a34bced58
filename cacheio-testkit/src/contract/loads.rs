//! One load for each key, whether it succeeds or fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(get_or_set_runs_its_loader_once),
        case(get_or_set_finds_what_was_set),
        case(a_thousand_cold_callers_load_once),
        case(different_keys_load_at_the_same_time),
        case(a_failed_load_is_one_error_for_a_thousand_callers),
        case(a_failed_load_stores_nothing),
        case(a_failed_load_keeps_a_value_that_was_set_meanwhile),
        case(the_sole_owner_gets_the_error_by_value),
        case(a_shared_error_is_returned_unchanged),
        case(an_anyhow_error_can_fail_a_load),
        case(a_load_error_works_with_the_question_mark),
        case(a_waiter_for_another_type_gets_the_value_converted),
        case(a_waiter_whose_type_does_not_fit_loads_for_itself),
        case(a_waiter_with_another_error_type_loads_for_itself),
        case(a_loaded_none_is_a_hit),
        case(a_waiter_gets_a_value_that_is_not_stored),
    ]
}

async fn get_or_set_runs_its_loader_once(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::open();
    assert_eq!(cache.get_or_set("k", gate.loader(1)).await, 1);
    assert_eq!(cache.get_or_set("k", gate.loader(2)).await, 1);
    assert_eq!(
        cache
            .get_or_try_set("k", gate.loader(Err::<i32, ()>(())))
            .await
            .unwrap(),
        1
    );
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(gate.runs(), 1);
}

async fn get_or_set_finds_what_was_set(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::open();
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.get_or_set("k", gate.loader(2)).await, 1);
    cache.delete("k").await.unwrap();
    assert_eq!(cache.get_or_set("k", gate.loader(3)).await, 3);
    assert_eq!(gate.runs(), 1);
}

async fn a_thousand_cold_callers_load_once(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let callers = (0..1_000).map(|i| {
        let load = gate.loader(i);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    // The leader continues when all others wait.
    cache.until(|cache| cache.stats().waits == 999).await;
    gate.release();
    let values = join_all(callers).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(gate.runs(), 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(values[0]));
}

async fn different_keys_load_at_the_same_time(fixture: Fixture) {
    let barrier = Arc::new(tokio::sync::Barrier::new(50));
    let callers = (0..50).map(|i| {
        let barrier = Arc::clone(&barrier);
        fixture.cache.spawn(move |cache| async move {
            cache
                .get_or_set(("k", i), || async {
                    barrier.wait().await;
                    i
                })
                .await
        })
    });
    assert_eq!(
        join_all(callers.collect()).await,
        (0..50).collect::<Vec<_>>()
    );
}

async fn a_failed_load_is_one_error_for_a_thousand_callers(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let callers = (0..1_000).map(|i| {
        let load = gate.loader(Err::<i32, String>(format!("error of caller {i}")));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 999).await;
    gate.release();
    let mut errors = join_all(callers)
        .await
        .into_iter()
        .map(|result| match result {
            Err(LoadError::Load(error)) => error,
            other => panic!("{other:?}"),
        });
    let first = errors.next().unwrap();
    assert!(errors.all(|error| Arc::ptr_eq(&first, &error)));
    assert_eq!(gate.runs(), 1);
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.get_or_set("k", || async { 1 }).await, 1);
}

async fn a_failed_load_stores_nothing(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::open();
    for runs in 1..=3 {
        let error = cache
            .get_or_try_set("k", gate.loader(Err::<i32, _>("no")))
            .await
            .unwrap_err();
        assert_eq!(error.load_error(), Some(&"no"));
        assert!(!cache.has("k").await.unwrap());
        assert_eq!(gate.runs(), runs);
    }
    assert_eq!(
        cache
            .get_or_try_set("k", gate.loader(Ok::<_, &str>(4)))
            .await
            .unwrap(),
        4
    );
}

async fn a_failed_load_keeps_a_value_that_was_set_meanwhile(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let caller = {
        let load = gate.loader(Err::<i32, _>("no"));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await })
    };
    gate.started().await;
    cache.set("k", 2).await.unwrap();
    gate.release();
    assert!(caller.join().await.is_err());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

/// A value without `Clone`.
#[derive(Debug, PartialEq)]
struct NoClone(u8);

async fn the_sole_owner_gets_the_error_by_value(fixture: Fixture) {
    let cache = fixture.cache;
    let error = cache
        .get_or_try_set("k", || async { Err::<i32, _>(NoClone(7)) })
        .await
        .unwrap_err();
    assert_eq!(error.into_load_error().unwrap(), NoClone(7));
}

async fn a_shared_error_is_returned_unchanged(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let callers = (0..2).map(|_| {
        let load = gate.loader(Err::<i32, _>(NoClone(7)));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await.unwrap_err() })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    let mut errors = join_all(callers).await;
    let shared = errors.pop().unwrap().into_load_error().unwrap_err();
    assert_eq!(shared.load_error(), Some(&NoClone(7)));
    drop(errors);
    assert_eq!(shared.into_load_error().unwrap(), NoClone(7));
}

async fn an_anyhow_error_can_fail_a_load(fixture: Fixture) {
    let cache = fixture.cache;
    let load = || async { Err::<i32, _>(anyhow::anyhow!("the database is down")) };
    let error = cache.get_or_try_set("k", load).await.unwrap_err();
    assert_eq!(error.to_string(), "the database is down");
    let error: &dyn std::error::Error = &error;
    assert!(
        error
            .source()
            .is_none_or(|source| source.to_string() != error.to_string())
    );
}

async fn a_load_error_works_with_the_question_mark(fixture: Fixture) {
    async fn fails(cache: &CacheApi) -> anyhow::Result<i32> {
        let parse = || async { "x".parse::<i32>() };
        Ok(cache.get_or_try_set("k", parse).await?)
    }
    async fn fails_with_anyhow(cache: &CacheApi) -> anyhow::Result<i32> {
        let load = || async { Err::<i32, _>(anyhow::anyhow!("down")) };
        Ok(cache.get_or_try_set("k", load).await?)
    }
    let error = fails(&fixture.cache).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid digit found in string");
    assert!(
        error
            .downcast_ref::<LoadError<std::num::ParseIntError>>()
            .is_some()
    );
    assert_eq!(
        fails_with_anyhow(&fixture.cache)
            .await
            .unwrap_err()
            .to_string(),
        "down"
    );
}

async fn a_waiter_for_another_type_gets_the_value_converted(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(200_u8);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    gate.started().await;
    let waiter = {
        let load = gate.loader(0_i64);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(
        (leader.join().await, waiter.join().await, gate.runs()),
        (200, 200, 1)
    );
}

async fn a_waiter_whose_type_does_not_fit_loads_for_itself(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(String::from("text"));
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    gate.started().await;
    let waiter = {
        let load = gate.loader(7_u64);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(
        (
            leader.join().await.as_str(),
            waiter.join().await,
            gate.runs()
        ),
        ("text", 7, 2)
    );
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(7));
}

async fn a_waiter_with_another_error_type_loads_for_itself(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(Err::<i32, _>("leader's"));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await.unwrap_err() })
    };
    gate.started().await;
    let waiter = {
        let load = gate.loader(Err::<i32, _>(NoClone(1)));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await.unwrap_err() })
    };
    let infallible = {
        let load = gate.loader(9);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    cache.until(|cache| cache.stats().waits == 2).await;
    gate.release();
    assert_eq!(leader.join().await.load_error(), Some(&"leader's"));
    let waited = waiter.outcome().await;
    assert_eq!(infallible.join().await, 9);
    // Its own loader failed, or it found the value that the infallible caller loaded meanwhile.
    if let Ok(error) = waited {
        assert_eq!(error.load_error(), Some(&NoClone(1)));
    }
}

async fn a_loaded_none_is_a_hit(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::open();
    assert_eq!(
        cache.get_or_set("k", gate.loader(None::<String>)).await,
        None
    );
    assert_eq!(
        cache
            .get_or_set("k", gate.loader(Some(String::new())))
            .await,
        None
    );
    assert_eq!(gate.runs(), 1);
}

async fn a_waiter_gets_a_value_that_is_not_stored(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let loads = Arc::new(AtomicUsize::new(0));
    let callers = (0..20).map(|_| {
        let (gate, loads) = (gate.clone(), Arc::clone(&loads));
        cache.spawn(move |cache| async move {
            let load = || async {
                gate.pass().await;
                loads.fetch_add(1, Ordering::SeqCst)
            };
            cache.get_or_set_with("k", Duration::ZERO, load).await
        })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 19).await;
    gate.release();
    assert_eq!(join_all(callers).await, [0; 20]);
    assert!(!cache.has("k").await.unwrap());
}
