//! An invalidation wins over a load that started before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(delete_during_load_is_not_overwritten),
        case(delete_many_during_load_is_not_overwritten),
        case(clear_during_load_is_not_overwritten),
        case(tag_invalidation_during_load_is_not_overwritten),
        case(touch_to_zero_during_load_is_not_overwritten),
        case(set_with_zero_ttl_during_load_is_not_overwritten),
        case(set_during_load_stays),
        case(set_many_during_load_stays),
        case(add_during_load_stays).needs(Optional::Add),
        case(increment_during_load_stays).needs(Optional::Increment),
        case(update_during_load_stays).needs(Optional::Update),
        case(update_to_nothing_during_load_is_not_overwritten)
            .needs(Optional::Update)
            .needs(Optional::Add),
        case(update_of_nothing_to_nothing_during_load_is_not_overwritten).needs(Optional::Update),
        case(take_during_load_is_not_overwritten).needs(Optional::Take),
        case(a_loader_may_write_its_own_key),
        case(a_loader_may_delete_its_own_key),
        case(callers_after_an_invalidation_load_again),
        case(a_write_to_another_key_does_not_affect_a_load),
        case(a_clear_of_another_namespace_does_not_affect_a_load),
        case(deleting_while_loading_never_leaves_an_older_value),
    ]
}

/// A write that makes a running load obsolete.
trait Invalidate: AsyncFnOnce(CacheApi) {}
impl<I: AsyncFnOnce(CacheApi)> Invalidate for I {}

/// Runs `invalidate` while "k" is loaded as 1 and a waiter waits; returns the value afterwards.
async fn during_a_load(
    fixture: &Fixture,
    options: Options,
    invalidate: impl Invalidate,
) -> Option<i64> {
    let cache = &fixture.cache;
    let gate = LoaderGate::new();
    let waits = cache.stats().waits;
    let load = |options: Options| {
        let load = gate.loader(1);
        cache.spawn(move |cache| async move { cache.get_or_set_with("k", options, load).await })
    };
    let leader = load(options.clone());
    gate.started().await;
    let waiter = load(options);
    cache.until(|cache| cache.stats().waits == waits + 1).await;
    invalidate(cache.clone()).await;
    let before = cache.get::<i64>("k").await.unwrap();
    gate.release();
    assert_eq!(
        (leader.join().await, waiter.join().await),
        (1, 1),
        "the leader and the waiter get the loaded value"
    );
    let after = cache.get::<i64>("k").await.unwrap();
    assert_eq!(before, after, "the load is not stored");
    assert_eq!(gate.runs(), 1);
    // Later loads of the key work as usual.
    assert_eq!(
        cache.get_or_set("k", || async { 3 }).await,
        after.unwrap_or(3)
    );
    after
}

async fn delete_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        assert!(!cache.delete("k").await.unwrap());
    });
    assert_eq!(after.await, None);
}

async fn delete_many_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        cache.delete_many(vec!["other", "k"]).await.unwrap();
    });
    assert_eq!(after.await, None);
}

async fn clear_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        cache.clear().await.unwrap();
    });
    assert_eq!(after.await, None);
}

async fn tag_invalidation_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(
        &fixture,
        Options::new().tags(["t"]),
        async |cache: CacheApi| {
            cache.invalidate_tags(vec!["t"]).await.unwrap();
        },
    );
    assert_eq!(after.await, None);
}

async fn touch_to_zero_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        cache.touch("k", Duration::ZERO).await.unwrap();
    });
    assert_eq!(after.await, None);
}

async fn set_with_zero_ttl_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        cache.set_with("k", 2, Duration::ZERO).await.unwrap();
    });
    assert_eq!(after.await, None);
}

async fn set_during_load_stays(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        cache.set("k", 2).await.unwrap();
    });
    assert_eq!(after.await, Some(2));
}

async fn set_many_during_load_stays(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        cache.set_many(vec![("other", 1), ("k", 2)]).await.unwrap();
    });
    assert_eq!(after.await, Some(2));
}

async fn add_during_load_stays(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        assert!(cache.add("k", 2).await.unwrap());
    });
    assert_eq!(after.await, Some(2));
}

async fn increment_during_load_stays(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        assert_eq!(cache.increment("k", 5).await.unwrap(), 5);
        assert_eq!(cache.decrement("k", 3).await.unwrap(), 2);
    });
    assert_eq!(after.await, Some(2));
}

async fn update_during_load_stays(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        let updated = cache.update("k", |old: Option<i64>| {
            assert_eq!(old, None, "the load has not ended");
            Update::Set(2)
        });
        assert_eq!(updated.await.unwrap(), Some(2));
    });
    assert_eq!(after.await, Some(2));
}

async fn update_to_nothing_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        assert!(cache.add("k", 2).await.unwrap());
        let updated = cache.update("k", |_: Option<i64>| Update::Remove);
        assert_eq!(updated.await.unwrap(), None);
    });
    assert_eq!(after.await, None);
}

async fn update_of_nothing_to_nothing_during_load_is_not_overwritten(fixture: Fixture) {
    for nothing in [Update::Remove, Update::SetFor(2, Duration::ZERO.into())] {
        let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
            let updated = cache.update("k", |_: Option<i64>| nothing);
            assert_eq!(updated.await.unwrap(), None);
        });
        assert_eq!(after.await, None);
        fixture.cache.delete("k").await.unwrap();
    }
}

async fn take_during_load_is_not_overwritten(fixture: Fixture) {
    let after = during_a_load(&fixture, Options::new(), async |cache: CacheApi| {
        assert_eq!(cache.take::<i64>("k").await.unwrap(), None);
    });
    assert_eq!(after.await, None);
}

async fn a_loader_may_write_its_own_key(fixture: Fixture) {
    let cache = &fixture.cache;
    let load = || async {
        cache.set("k", 2).await.unwrap();
        1
    };
    assert_eq!(cache.get_or_set("k", load).await, 1);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

async fn a_loader_may_delete_its_own_key(fixture: Fixture) {
    let cache = &fixture.cache;
    let load = || async {
        cache.delete("k").await.unwrap();
        cache.clear().await.unwrap();
        1
    };
    assert_eq!(cache.get_or_set("k", load).await, 1);
    assert!(!cache.has("k").await.unwrap());
}

async fn callers_after_an_invalidation_load_again(fixture: Fixture) {
    let cache = &fixture.cache;
    let (first, second) = (LoaderGate::new(), LoaderGate::new());
    let caller = |gate: &LoaderGate, value: i32| {
        let load = gate.loader(value);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    let before = caller(&first, 1);
    first.started().await;
    cache.delete("k").await.unwrap();
    let after = caller(&second, 2);
    second.started().await;
    // The obsolete load is not stored, whether it ends first or last.
    first.release();
    assert_eq!(before.join().await, 1);
    assert!(!cache.has("k").await.unwrap());
    let waiter = caller(&second, 3);
    cache.until(|cache| cache.stats().waits == 1).await;
    second.release();
    assert_eq!((after.join().await, waiter.join().await), (2, 2));
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

async fn a_write_to_another_key_does_not_affect_a_load(fixture: Fixture) {
    let cache = &fixture.cache;
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

async fn a_clear_of_another_namespace_does_not_affect_a_load(fixture: Fixture) {
    let [one, other] = fixture.sharing(["one", "other"]);
    let load = || async {
        other.clear().await.unwrap();
        other.delete("k").await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(one.get::<i32>("k").await.unwrap(), Some(1));
}

/// After `delete` returns, no read returns an older value. Tested under load, with a source of
/// truth that counts up.
async fn deleting_while_loading_never_leaves_an_older_value(fixture: Fixture) {
    const ROUNDS: u64 = 2_000;
    // On a busy machine there are fewer, but always some of each kind.
    const LEAST_ROUNDS: u64 = 200;
    let until = Instant::now() + Duration::from_secs(40);
    let truth = Arc::new(AtomicU64::new(0));
    let readers = (0..3).map(|_| {
        let truth = Arc::clone(&truth);
        fixture.cache.spawn(move |cache| async move {
            while truth.load(Ordering::SeqCst) < ROUNDS {
                let load = || async {
                    let value = truth.load(Ordering::SeqCst);
                    fixture.world.pause().await;
                    value
                };
                cache.get_or_set("k", load).await;
                fixture.world.pause().await;
            }
        })
    });
    let readers = readers.collect();
    for now in 1..=ROUNDS {
        if now > LEAST_ROUNDS && Instant::now() > until {
            break;
        }
        truth.store(now, Ordering::SeqCst);
        if now % 100 == 0 {
            fixture.cache.clear().await.unwrap();
        } else {
            fixture.cache.delete("k").await.unwrap();
        }
        let load = || async { truth.load(Ordering::SeqCst) };
        let seen = if now % 2 == 0 {
            fixture.cache.get::<u64>("k").await.unwrap()
        } else {
            Some(fixture.cache.get_or_set("k", load).await)
        };
        assert!(
            seen.is_none_or(|seen| seen == now),
            "{seen:?} was loaded before the delete of {now}"
        );
    }
    truth.store(ROUNDS, Ordering::SeqCst);
    join_all(readers).await;
}
