//! Loaders that would wait for themselves.

use std::future::Future;
use std::pin::Pin;

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_loader_that_loads_its_own_key_gets_an_error),
        case(an_infallible_call_within_its_own_load_loads_for_itself),
        case(a_call_with_the_loader_of_the_load_around_it_loads_for_itself),
        case(a_loader_that_calls_itself_gets_an_error),
        case(an_infallible_loader_that_calls_itself_panics_with_a_message),
        case(a_clone_does_not_hide_a_cycle),
        case(a_cycle_through_another_key_is_an_error),
        case(a_cycle_of_two_loaders_fails_in_one_of_them),
        case(a_loader_may_load_other_keys),
        case(a_loader_may_load_the_same_key_from_another_cache),
        case(a_loader_may_read_its_own_key),
        case(waiting_twice_for_another_key_is_no_cycle),
    ]
}

fn is_reentrant<E: std::fmt::Debug>(result: Result<i32, LoadError<E>>) -> bool {
    match result {
        Err(LoadError::Reentrant(error)) => {
            assert_eq!(error.kind(), ErrorKind::Reentrant);
            true
        }
        Ok(_) => false,
        other => panic!("{other:?}"),
    }
}

async fn a_loader_that_loads_its_own_key_gets_an_error(fixture: Fixture) {
    let cache = &fixture.cache;
    let load = || async {
        let own = cache
            .get_or_try_set("own key", || async { Ok::<_, String>(1) })
            .await;
        let message = own.as_ref().unwrap_err().to_string();
        assert!(
            message.contains("own") && message.contains("would wait for"),
            "{message}"
        );
        assert!(is_reentrant(own));
        Ok::<_, ()>(2)
    };
    assert_eq!(cache.get_or_try_set("own key", load).await.unwrap(), 2);
    assert_eq!(cache.get::<i32>("own key").await.unwrap(), Some(2));
}

type Loading<'a> = Pin<Box<dyn Future<Output = Result<i32, LoadError<String>>> + Send + 'a>>;

/// Loads a key, and within the load again: with the same code, as a stolen job does. Returns the
/// number of the load that gave the value.
fn nested(cache: &CacheApi, levels: i32) -> Loading<'_> {
    Box::pin(async move {
        let load = || async move {
            match levels {
                0 => Ok(0),
                _ => match nested(cache, levels - 1).await {
                    Ok(value) => Ok(value + 1),
                    Err(error) => Err(error.to_string()),
                },
            }
        };
        cache.get_or_try_set("k", load).await
    })
}

async fn a_call_with_the_loader_of_the_load_around_it_loads_for_itself(fixture: Fixture) {
    let cache = &fixture.cache;
    assert_eq!(nested(cache, 1).await.unwrap(), 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(cache.stats().loads, 2);
}

async fn a_loader_that_calls_itself_gets_an_error(fixture: Fixture) {
    let cache = &fixture.cache;
    let error = nested(cache, i32::MAX).await.unwrap_err();
    assert!(error.to_string().contains("would wait for"), "{error}");
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.stats().loads, 2);
}

/// A thread that steals work may only seem to run the loader.
async fn an_infallible_call_within_its_own_load_loads_for_itself(fixture: Fixture) {
    let cache = &fixture.cache;
    let nested = || async { cache.get_or_set("k", || async { 1 }).await + 1 };
    assert_eq!(cache.get_or_set("k", nested).await, 2);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
    let batch = |keys: Vec<&'static str>| async move {
        let nested = cache.get_or_set_many(keys, async |keys| {
            keys.into_iter().map(|key| (key, 1)).collect()
        });
        let nested: Vec<Option<i32>> = nested.await;
        ["a", "b"]
            .into_iter()
            .zip(nested.into_iter().flatten())
            .collect()
    };
    let values = cache.get_or_set_many(vec!["a", "b"], batch).await;
    assert_eq!(values, [Some(1), Some(1)]);
}

async fn an_infallible_loader_that_calls_itself_panics_with_a_message(fixture: Fixture) {
    fn endless(cache: CacheApi) -> cacheio_core::BoxFuture<'static, i32> {
        Box::pin(async move {
            let inner = cache.clone();
            cache.get_or_set("k", || endless(inner)).await
        })
    }
    let cache = fixture.cache;
    let caller = cache.spawn(endless);
    let message = caller.outcome().await.unwrap_err();
    assert!(
        message.contains('k') && message.contains("would wait for"),
        "{message}"
    );
    assert_eq!(cache.get_or_set("k", || async { 3 }).await, 3);
}

async fn a_clone_does_not_hide_a_cycle(fixture: Fixture) {
    let cache = &fixture.cache;
    let clone = cache.clone();
    let load = || async {
        Ok::<_, ()>(is_reentrant(
            clone.get_or_try_set("k", || async { Ok::<_, ()>(1) }).await,
        ))
    };
    assert!(cache.get_or_try_set("k", load).await.unwrap());
}

async fn a_cycle_through_another_key_is_an_error(fixture: Fixture) {
    let cache = &fixture.cache;
    let back = || async {
        Ok::<_, ()>(is_reentrant(
            cache.get_or_try_set("a", || async { Ok::<_, ()>(1) }).await,
        ))
    };
    let there = || async { Ok::<_, ()>(cache.get_or_try_set("b", back).await.unwrap()) };
    assert!(cache.get_or_try_set("a", there).await.unwrap());
}

/// A loads B while B loads A: one of them gets the error, and none hangs.
async fn a_cycle_of_two_loaders_fails_in_one_of_them(fixture: Fixture) {
    let cache = fixture.cache;
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let caller = |own: &'static str, other: &'static str| {
        let both = Arc::clone(&both);
        cache.spawn(move |cache| async move {
            let load = || async {
                both.wait().await;
                let nested = cache
                    .get_or_try_set(other, || async { Ok::<_, ()>(0) })
                    .await;
                Ok::<_, ()>(i32::from(is_reentrant(nested)))
            };
            cache.get_or_try_set(own, load).await.unwrap()
        })
    };
    let (a, b) = (caller("a", "b"), caller("b", "a"));
    assert_eq!(a.join().await + b.join().await, 1);
    assert!(cache.has("a").await.unwrap() && cache.has("b").await.unwrap());
}

async fn a_loader_may_load_other_keys(fixture: Fixture) {
    let cache = &fixture.cache;
    let leaf = || async { 1 };
    let middle =
        || async { cache.get_or_set("leaf", leaf).await + cache.get_or_set("leaf", leaf).await };
    let load = || async {
        cache.get_or_set("middle", middle).await + cache.get_or_set("leaf", leaf).await
    };
    assert_eq!(cache.get_or_set("root", load).await, 3);
    assert_eq!(
        cache
            .get_many::<i32>(vec!["root", "middle", "leaf"])
            .await
            .unwrap(),
        [Some(3), Some(2), Some(1)]
    );
}

async fn a_loader_may_load_the_same_key_from_another_cache(fixture: Fixture) {
    let [one, other] = fixture.sharing(["one", "other"]);
    let load = || async { other.get_or_set("k", || async { 1 }).await + 1 };
    assert_eq!(one.get_or_set("k", load).await, 2);
    assert_eq!(other.get::<i32>("k").await.unwrap(), Some(1));
}

/// A read never waits for a load.
async fn a_loader_may_read_its_own_key(fixture: Fixture) {
    let cache = &fixture.cache;
    let load = || async {
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
        assert!(!cache.has("k").await.unwrap());
        1
    };
    assert_eq!(cache.get_or_set("k", load).await, 1);
}

async fn waiting_twice_for_another_key_is_no_cycle(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let slow = {
        let load = gate.loader(1);
        cache.spawn(move |cache| async move { cache.get_or_set("slow", load).await })
    };
    gate.started().await;
    let nested = (0..2).map(|i| {
        cache.spawn(move |cache| async move {
            let load = || async { cache.get_or_set("slow", || async { 0 }).await };
            cache.get_or_set(("outer", i), load).await
        })
    });
    let nested = nested.collect();
    cache.until(|cache| cache.stats().waits == 2).await;
    gate.release();
    assert_eq!(slow.join().await, 1);
    assert_eq!(join_all(nested).await, [1, 1]);
}
