//! Invalidation beats loads. (Races E and F.)

use std::sync::atomic::{AtomicU64, Ordering};

use crate::prelude::*;

/// Something that makes what is being loaded obsolete.
trait Invalidate<F>: AsyncFnOnce(F) {}
impl<F, I: AsyncFnOnce(F)> Invalidate<F> for I {}

/// Runs `invalidate` while "k" is loaded as 1, with somebody waiting; what is there afterwards.
async fn during_a_load<F: Face>(
    place: &Place<F>,
    options: Options,
    invalidate: impl Invalidate<F>,
) -> Option<i64> {
    let cache = &place.cache;
    let stage = Stage::new();
    let load = |options: Options| {
        let (cache, load) = (cache.clone(), stage.loader(1));
        F::spawn(async move { cache.get_or_set_with("k", options, load).await })
    };
    let leader = load(options.clone());
    stage.begun().await;
    let waiter = load(options);
    cache.until(|cache| cache.stats().waits == 1).await;
    invalidate(cache.clone()).await;
    let before = cache.get::<i64>("k").await.unwrap();
    stage.end();
    assert_eq!(
        (leader.join().await, waiter.join().await),
        (1, 1),
        "those who waited get what was loaded"
    );
    let after = cache.get::<i64>("k").await.unwrap();
    assert_eq!(before, after, "the load is not stored");
    assert_eq!(stage.runs(), 1);
    // And the key is as good as new.
    assert_eq!(
        cache.get_or_set("k", || async { 3 }).await,
        after.unwrap_or(3)
    );
    after
}

/// Race E.
pub(crate) async fn delete_during_load_is_not_overwritten<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        assert!(!cache.delete("k").await.unwrap());
    });
    assert_eq!(after.await, None);
}

pub(crate) async fn delete_many_during_load_is_not_overwritten<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        cache.delete_many(vec!["other", "k"]).await.unwrap();
    });
    assert_eq!(after.await, None);
}

pub(crate) async fn clear_during_load_is_not_overwritten<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        cache.clear().await.unwrap();
    });
    assert_eq!(after.await, None);
}

pub(crate) async fn tag_invalidation_during_load_is_not_overwritten<F: Face>(place: Place<F>) {
    if !place.keeps_objects() {
        assert_eq!(
            place
                .cache
                .invalidate_tags(vec!["t"])
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Unsupported
        );
        return;
    }
    let after = during_a_load(&place, Options::new().tags(["t"]), async |cache: F| {
        cache.invalidate_tags(vec!["t"]).await.unwrap();
    });
    assert_eq!(after.await, None);
}

pub(crate) async fn touch_to_zero_during_load_is_not_overwritten<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        cache.touch("k", Duration::ZERO).await.unwrap();
    });
    assert_eq!(after.await, None);
}

pub(crate) async fn set_with_zero_ttl_during_load_is_not_overwritten<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        cache.set_with("k", 2, Duration::ZERO).await.unwrap();
    });
    assert_eq!(after.await, None);
}

/// Race F.
pub(crate) async fn set_during_load_stays<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        cache.set("k", 2).await.unwrap();
    });
    assert_eq!(after.await, Some(2));
}

pub(crate) async fn set_many_during_load_stays<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        cache.set_many(vec![("other", 1), ("k", 2)]).await.unwrap();
    });
    assert_eq!(after.await, Some(2));
}

pub(crate) async fn add_during_load_stays<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        assert!(cache.add("k", 2).await.unwrap());
    });
    assert_eq!(after.await, Some(2));
}

pub(crate) async fn increment_during_load_stays<F: Face>(place: Place<F>) {
    let after = during_a_load(&place, Options::new(), async |cache: F| {
        assert_eq!(cache.increment("k", 5).await.unwrap(), 5);
        assert_eq!(cache.decrement("k", 3).await.unwrap(), 2);
    });
    assert_eq!(after.await, Some(2));
}

pub(crate) async fn a_loader_may_write_its_own_key<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let load = || async {
        cache.set("k", 2).await.unwrap();
        1
    };
    assert_eq!(cache.get_or_set("k", load).await, 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

pub(crate) async fn a_loader_may_delete_its_own_key<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let load = || async {
        cache.delete("k").await.unwrap();
        cache.clear().await.unwrap();
        1
    };
    assert_eq!(cache.get_or_set("k", load).await, 1);
    assert!(!cache.has("k").await.unwrap());
}

pub(crate) async fn callers_after_an_invalidation_load_anew<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let (first, second) = (Stage::new(), Stage::new());
    let caller = |stage: &Stage, value: i32| {
        let (cache, load) = (cache.clone(), stage.loader(value));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    let before = caller(&first, 1);
    first.begun().await;
    cache.delete("k").await.unwrap();
    let after = caller(&second, 2);
    second.begun().await;
    // The obsolete load ends first, or last: it is not stored.
    first.end();
    assert_eq!(before.join().await, 1);
    assert!(!cache.has("k").await.unwrap());
    let waiter = caller(&second, 3);
    cache.until(|cache| cache.stats().waits == 1).await;
    second.end();
    assert_eq!((after.join().await, waiter.join().await), (2, 2));
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

pub(crate) async fn another_keys_write_leaves_a_load_alone<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let load = || async {
        for i in 0..100 {
            cache.set(("other", i), 2).await.unwrap();
            cache.delete(("another", i)).await.unwrap();
        }
        1
    };
    assert_eq!(cache.get_or_set("k", load).await, 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
}

pub(crate) async fn another_namespaces_clear_leaves_a_load_alone<F: Face>(place: Place<F>) {
    let [one, other] = place.sharing(["one", "other"]);
    let load = || async {
        other.clear().await.unwrap();
        other.delete("k").await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(one.get::<i32>("k").await.unwrap(), Some(1));
}

/// After `delete` returns, no read returns what was loaded before it: under load, with the truth
/// counting up. (Most libraries fail this.)
pub(crate) async fn deleting_while_loading_never_leaves_what_was_loaded_before<F: Face>(
    place: Place<F>,
) {
    let truth = Arc::new(AtomicU64::new(0));
    let readers = (0..3).map(|_| {
        let (cache, truth) = (place.cache.clone(), Arc::clone(&truth));
        F::spawn(async move {
            while truth.load(Ordering::SeqCst) < 2_000 {
                let load = || async {
                    let value = truth.load(Ordering::SeqCst);
                    F::pause().await;
                    value
                };
                cache.get_or_set("k", load).await;
                F::pause().await;
            }
        })
    });
    let readers = readers.collect();
    for now in 1..=2_000 {
        truth.store(now, Ordering::SeqCst);
        if now % 100 == 0 {
            place.cache.clear().await.unwrap();
        } else {
            place.cache.delete("k").await.unwrap();
        }
        let load = || async { truth.load(Ordering::SeqCst) };
        let seen = if now % 2 == 0 {
            place.cache.get::<u64>("k").await.unwrap()
        } else {
            Some(place.cache.get_or_set("k", load).await)
        };
        assert!(
            seen.is_none_or(|seen| seen == now),
            "{seen:?} was loaded before the delete of {now}"
        );
    }
    join_all(readers).await;
}
