//! One load, whatever comes of it. (Races A and B.)

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

pub(crate) async fn get_or_set_runs_its_loader_once<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::open();
    assert_eq!(cache.get_or_set("k", stage.loader(1)).await, 1);
    assert_eq!(cache.get_or_set("k", stage.loader(2)).await, 1);
    assert_eq!(
        cache
            .get_or_try_set("k", stage.loader(Err::<i32, ()>(())))
            .await
            .unwrap(),
        1
    );
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(stage.runs(), 1);
}

pub(crate) async fn get_or_set_finds_what_was_set<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::open();
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.get_or_set("k", stage.loader(2)).await, 1);
    cache.delete("k").await.unwrap();
    assert_eq!(cache.get_or_set("k", stage.loader(3)).await, 3);
    assert_eq!(stage.runs(), 1);
}

/// Race A.
pub(crate) async fn a_1000_cold_callers_load_once<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let callers = (0..1_000).map(|i| {
        let (cache, load) = (cache.clone(), stage.loader(i));
        F::spawn(async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    // Not before all others wait does the one that loads go on.
    cache.until(|cache| cache.stats().waits == 999).await;
    stage.end();
    let values = join_all(callers).await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(stage.runs(), 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(values[0]));
}

pub(crate) async fn different_keys_load_at_the_same_time<F: Face>(place: Place<F>) {
    let barrier = Arc::new(tokio::sync::Barrier::new(50));
    let callers = (0..50).map(|i| {
        let (cache, barrier) = (place.cache.clone(), Arc::clone(&barrier));
        F::spawn(async move {
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

/// Race B.
pub(crate) async fn one_failure_reaches_1000_callers_as_one_error<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let callers = (0..1_000).map(|i| {
        let (cache, load) = (
            cache.clone(),
            stage.loader(Err::<i32, String>(format!("error of caller {i}"))),
        );
        F::spawn(async move { cache.get_or_try_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 999).await;
    stage.end();
    let mut errors = join_all(callers)
        .await
        .into_iter()
        .map(|result| match result {
            Err(LoadError::Load(error)) => error,
            other => panic!("{other:?}"),
        });
    let first = errors.next().unwrap();
    assert!(errors.all(|error| Arc::ptr_eq(&first, &error)));
    assert_eq!(stage.runs(), 1);
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.get_or_set("k", || async { 1 }).await, 1);
}

pub(crate) async fn a_failed_load_stores_nothing<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::open();
    for runs in 1..=3 {
        let error = cache
            .get_or_try_set("k", stage.loader(Err::<i32, _>("no")))
            .await
            .unwrap_err();
        assert_eq!(error.load_error(), Some(&"no"));
        assert!(!cache.has("k").await.unwrap());
        assert_eq!(stage.runs(), runs);
    }
    assert_eq!(
        cache
            .get_or_try_set("k", stage.loader(Ok::<_, &str>(4)))
            .await
            .unwrap(),
        4
    );
}

pub(crate) async fn a_failure_leaves_what_came_meanwhile<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let caller = {
        let (cache, load) = (cache.clone(), stage.loader(Err::<i32, _>("no")));
        F::spawn(async move { cache.get_or_try_set("k", load).await })
    };
    stage.begun().await;
    cache.set("k", 2).await.unwrap();
    stage.end();
    assert!(caller.join().await.is_err());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

/// What nobody can clone.
#[derive(Debug, PartialEq)]
struct NoClone(u8);

pub(crate) async fn the_sole_owner_gets_the_error_by_value<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let error = cache
        .get_or_try_set("k", || async { Err::<i32, _>(NoClone(7)) })
        .await
        .unwrap_err();
    assert_eq!(error.into_load_error().unwrap(), NoClone(7));
}

pub(crate) async fn a_shared_error_is_given_back<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let callers = (0..2).map(|_| {
        let (cache, load) = (cache.clone(), stage.loader(Err::<i32, _>(NoClone(7))));
        F::spawn(async move { cache.get_or_try_set("k", load).await.unwrap_err() })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    let mut errors = join_all(callers).await;
    let shared = errors.pop().unwrap().into_load_error().unwrap_err();
    assert_eq!(shared.load_error(), Some(&NoClone(7)));
    drop(errors);
    assert_eq!(shared.into_load_error().unwrap(), NoClone(7));
}

pub(crate) async fn an_anyhow_error_can_fail_a_load<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let load = || async { Err::<i32, _>(anyhow::anyhow!("the database is gone")) };
    let error = cache.get_or_try_set("k", load).await.unwrap_err();
    assert_eq!(error.to_string(), "the database is gone");
    let error: &dyn std::error::Error = &error;
    assert!(
        error
            .source()
            .is_none_or(|source| source.to_string() != error.to_string())
    );
}

pub(crate) async fn a_load_error_goes_through_the_question_mark<F: Face>(place: Place<F>) {
    async fn fails<F: Face>(cache: &F) -> anyhow::Result<i32> {
        let parse = || async { "x".parse::<i32>() };
        Ok(cache.get_or_try_set("k", parse).await?)
    }
    async fn fails_with_anyhow<F: Face>(cache: &F) -> anyhow::Result<i32> {
        let load = || async { Err::<i32, _>(anyhow::anyhow!("gone")) };
        Ok(cache.get_or_try_set("k", load).await?)
    }
    let error = fails(&place.cache).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid digit found in string");
    assert!(
        error
            .downcast_ref::<LoadError<std::num::ParseIntError>>()
            .is_some()
    );
    assert_eq!(
        fails_with_anyhow(&place.cache)
            .await
            .unwrap_err()
            .to_string(),
        "gone"
    );
}

pub(crate) async fn a_waiter_that_asks_for_another_type_gets_it_converted<F: Face>(
    place: Place<F>,
) {
    let cache = place.cache;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(200_u8));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    stage.begun().await;
    let waiter = {
        let (cache, load) = (cache.clone(), stage.loader(0_i64));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert_eq!(
        (leader.join().await, waiter.join().await, stage.runs()),
        (200, 200, 1)
    );
}

pub(crate) async fn a_waiter_whose_type_does_not_fit_loads_for_itself<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(String::from("text")));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    stage.begun().await;
    let waiter = {
        let (cache, load) = (cache.clone(), stage.loader(7_u64));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert_eq!(
        (
            leader.join().await.as_str(),
            waiter.join().await,
            stage.runs()
        ),
        ("text", 7, 2)
    );
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(7));
}

pub(crate) async fn a_waiter_with_another_error_type_loads_for_itself<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(Err::<i32, _>("leader's")));
        F::spawn(async move { cache.get_or_try_set("k", load).await.unwrap_err() })
    };
    stage.begun().await;
    let waiter = {
        let (cache, load) = (cache.clone(), stage.loader(Err::<i32, _>(NoClone(1))));
        F::spawn(async move { cache.get_or_try_set("k", load).await.unwrap_err() })
    };
    let infallible = {
        let (cache, load) = (cache.clone(), stage.loader(9));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    cache.until(|cache| cache.stats().waits == 2).await;
    stage.end();
    assert_eq!(leader.join().await.load_error(), Some(&"leader's"));
    let waited = waiter.outcome().await;
    assert_eq!(infallible.join().await, 9);
    // It failed by its own loader, or found what the infallible one had loaded meanwhile.
    if let Ok(error) = waited {
        assert_eq!(error.load_error(), Some(&NoClone(1)));
    }
}

pub(crate) async fn none_that_was_loaded_is_a_hit<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::open();
    assert_eq!(
        cache.get_or_set("k", stage.loader(None::<String>)).await,
        None
    );
    assert_eq!(
        cache
            .get_or_set("k", stage.loader(Some(String::new())))
            .await,
        None
    );
    assert_eq!(stage.runs(), 1);
}

/// Those who wait get the value, whether it is stored or not.
pub(crate) async fn a_waiter_gets_a_value_that_is_not_stored<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let loads = Arc::new(AtomicUsize::new(0));
    let callers = (0..20).map(|_| {
        let (cache, stage, loads) = (cache.clone(), stage.clone(), Arc::clone(&loads));
        F::spawn(async move {
            let load = || async {
                stage.play().await;
                loads.fetch_add(1, Ordering::SeqCst)
            };
            cache.get_or_set_with("k", Duration::ZERO, load).await
        })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 19).await;
    stage.end();
    assert_eq!(join_all(callers).await, [0; 20]);
    assert!(!cache.has("k").await.unwrap());
}
