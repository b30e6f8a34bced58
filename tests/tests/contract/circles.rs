//! Loaders that would wait for themselves. (Race G.)

use crate::prelude::*;

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

/// Race G.
pub(crate) async fn a_loader_that_asks_for_its_own_key_gets_an_error<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let load = || async {
        let own = cache
            .get_or_try_set("own key", || async { Ok::<_, String>(1) })
            .await;
        let message = own.as_ref().unwrap_err().to_string();
        assert!(
            message.contains("own") && message.contains("wait for ever"),
            "{message}"
        );
        assert!(is_reentrant(own));
        Ok::<_, ()>(2)
    };
    assert_eq!(cache.get_or_try_set("own key", load).await.unwrap(), 2);
    assert_eq!(cache.get::<i32>("own key").await.unwrap(), Some(2));
}

pub(crate) async fn the_infallible_form_panics_with_a_message<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let caller = {
        let cache = cache.clone();
        F::spawn(async move {
            let inner = cache.clone();
            cache
                .get_or_set("k", || async move {
                    inner.get_or_set("k", || async { 1 }).await
                })
                .await
        })
    };
    let message = caller.outcome().await.unwrap_err();
    assert!(
        message.contains('k') && message.contains("wait for ever"),
        "{message}"
    );
    assert_eq!(cache.get_or_set("k", || async { 3 }).await, 3);
}

pub(crate) async fn a_clone_is_no_way_around<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let clone = cache.clone();
    let load = || async {
        Ok::<_, ()>(is_reentrant(
            clone.get_or_try_set("k", || async { Ok::<_, ()>(1) }).await,
        ))
    };
    assert!(cache.get_or_try_set("k", load).await.unwrap());
}

pub(crate) async fn a_circle_through_another_key_is_an_error<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let back = || async {
        Ok::<_, ()>(is_reentrant(
            cache.get_or_try_set("a", || async { Ok::<_, ()>(1) }).await,
        ))
    };
    let there = || async { Ok::<_, ()>(cache.get_or_try_set("b", back).await.unwrap()) };
    assert!(cache.get_or_try_set("a", there).await.unwrap());
}

/// A asks for B while B asks for A: one of them gets the error, nobody hangs.
pub(crate) async fn a_circle_of_two_loaders_is_broken_in_one_of_them<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let caller = |own: &'static str, other: &'static str| {
        let (cache, both) = (cache.clone(), Arc::clone(&both));
        F::spawn(async move {
            let load = || async {
                both.wait().await;
                let asked = cache
                    .get_or_try_set(other, || async { Ok::<_, ()>(0) })
                    .await;
                Ok::<_, ()>(i32::from(is_reentrant(asked)))
            };
            cache.get_or_try_set(own, load).await.unwrap()
        })
    };
    let (a, b) = (caller("a", "b"), caller("b", "a"));
    assert_eq!(a.join().await + b.join().await, 1);
    assert!(cache.has("a").await.unwrap() && cache.has("b").await.unwrap());
}

pub(crate) async fn a_loader_may_ask_for_other_keys<F: Face>(place: Place<F>) {
    let cache = &place.cache;
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

pub(crate) async fn a_loader_may_ask_another_cache_for_the_same_key<F: Face>(place: Place<F>) {
    let [one, other] = place.sharing(["one", "other"]);
    let load = || async { other.get_or_set("k", || async { 1 }).await + 1 };
    assert_eq!(one.get_or_set("k", load).await, 2);
    assert_eq!(other.get::<i32>("k").await.unwrap(), Some(1));
}

/// Reading waits for nobody.
pub(crate) async fn a_loader_may_read_its_own_key<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let load = || async {
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
        assert!(!cache.has("k").await.unwrap());
        1
    };
    assert_eq!(cache.get_or_set("k", load).await, 1);
}

pub(crate) async fn waiting_twice_for_one_other_key_is_no_circle<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let stage = Stage::new();
    let slow = {
        let (cache, load) = (cache.clone(), stage.loader(1));
        F::spawn(async move { cache.get_or_set("slow", load).await })
    };
    stage.begun().await;
    let nested = (0..2).map(|i| {
        let cache = cache.clone();
        F::spawn(async move {
            let load = || async { cache.get_or_set("slow", || async { 0 }).await };
            cache.get_or_set(("outer", i), load).await
        })
    });
    let nested = nested.collect();
    cache.until(|cache| cache.stats().waits == 2).await;
    stage.end();
    assert_eq!(slow.join().await, 1);
    assert_eq!(join_all(nested).await, [1, 1]);
}
