//! `retain`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(retain_removes_what_the_closure_does_not_keep),
        case(a_server_does_not_judge_its_entries),
        case(retain_judges_one_namespace),
        case(retain_judges_what_is_kept_as_stale),
        case(retain_keeps_entries_of_another_type),
        case(an_entry_that_a_tag_invalidated_is_not_judged),
        case(an_entry_that_is_replaced_meanwhile_is_judged_again),
        case(an_entry_that_is_touched_meanwhile_is_removed_all_the_same),
        case(an_entry_that_is_deleted_meanwhile_is_not_counted),
        case(a_load_of_a_removed_key_is_not_stored),
        case(a_load_of_a_key_without_an_entry_is_stored),
        case(the_closure_may_use_the_cache),
        case(a_closure_that_panics_harms_nothing),
        case(retain_is_no_lookup),
    ]
}

/// Runs an operation within a closure, which cannot wait: on memory none has to.
fn at_once<F: Future>(operation: F) -> F::Output {
    let mut operation = pin!(operation);
    loop {
        if let Poll::Ready(output) = operation
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return output;
        }
    }
}

async fn retain_removes_what_the_closure_does_not_keep(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    let keep = |_: &str, _: &u64| false;
    assert_eq!(cache.retain(keep).await.unwrap(), 0);
    let entries = (0..1_000_u64).map(|key| (("k", key), key)).collect();
    cache.set_many(entries).await.unwrap();
    let mut judged = 0;
    let keep = |key: &str, value: &u64| {
        judged += 1;
        assert_eq!(key, format!("k:{value}"));
        value % 10 == 3
    };
    assert_eq!(cache.retain(keep).await.unwrap(), 900);
    assert_eq!(judged, 1_000);
    assert_eq!(cache.len().await.unwrap(), 100);
    assert_eq!(cache.get::<u64>(("k", 13)).await.unwrap(), Some(13));
    assert!(!cache.has(("k", 14)).await.unwrap());
}

async fn a_server_does_not_judge_its_entries(fixture: Fixture) {
    if fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    let error = cache.retain(|_, _: &u8| false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("invalidate the tag"), "{error}");
    assert!(cache.has("k").await.unwrap());
}

async fn retain_judges_one_namespace(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let [a, ab, a_b] = fixture.sharing(["a", "ab", "a:b"]);
    for cache in [&a, &ab, &a_b] {
        cache.set("k", 1).await.unwrap();
    }
    let removed = a.retain(|key, _: &u8| key != "k").await.unwrap();
    assert_eq!(removed, 1);
    assert!(!a.has("k").await.unwrap());
    assert!(ab.has("k").await.unwrap() && a_b.has("k").await.unwrap());
}

async fn retain_judges_what_is_kept_as_stale(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = &fixture.cache;
    let stale = || Options::ttl(fixture.ttl()).stale_for(fixture.ttl() * 50);
    cache.set_with("k", 1, stale()).await.unwrap();
    cache.set("live", 2).await.unwrap();
    fixture.expire(fixture.ttl());
    let mut judged = Vec::new();
    let keep = |key: &str, _: &u8| {
        judged.push(key.to_owned());
        false
    };
    assert_eq!(cache.retain(keep).await.unwrap(), 1, "one was live");
    judged.sort_unstable();
    assert_eq!(judged, ["k", "live"]);
    let down = || std::future::ready(Err::<u8, _>("down"));
    let served = cache.get_or_try_set_with("k", stale(), down).await;
    assert_eq!(served.unwrap_err().into_load_error().unwrap(), "down");
}

async fn retain_keeps_entries_of_another_type(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    cache.set("number", 7).await.unwrap();
    cache.set("text", "seven").await.unwrap();
    assert_eq!(cache.retain(|_, _: &u64| false).await.unwrap(), 1);
    assert_eq!(cache.keys(10).await.unwrap(), ["text"]);
}

async fn an_entry_that_a_tag_invalidated_is_not_judged(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    cache
        .set_with("k", 1, Options::new().tags(["t"]))
        .await
        .unwrap();
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    let keep = |_: &str, _: &u8| -> bool { panic!("it is judged") };
    assert_eq!(cache.retain(keep).await.unwrap(), 0);
}

async fn an_entry_that_is_replaced_meanwhile_is_judged_again(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    let mut judged = Vec::new();
    let keep = |_: &str, value: &u8| {
        judged.push(*value);
        if *value < 3 {
            at_once(cache.set("k", value + 1)).unwrap();
        }
        *value == 3
    };
    assert_eq!(cache.retain(keep).await.unwrap(), 0);
    assert_eq!(judged, [1, 2, 3]);
    assert_eq!(cache.get::<u8>("k").await.unwrap(), Some(3));
}

async fn an_entry_that_is_touched_meanwhile_is_removed_all_the_same(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    let hour = Duration::from_secs(3_600);
    let policies = Options::ttl(hour).stale_for(hour);
    cache.set_with("k", 1, policies).await.unwrap();
    let mut touched = false;
    let keep = |_: &str, _: &u8| {
        if !std::mem::replace(&mut touched, true) {
            assert!(at_once(cache.touch("k", hour * 2)).unwrap());
        }
        false
    };
    assert_eq!(cache.retain(keep).await.unwrap(), 1);
    assert!(!cache.has("k").await.unwrap());
}

async fn an_entry_that_is_deleted_meanwhile_is_not_counted(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    let keep = |_: &str, _: &u8| {
        at_once(cache.delete("k")).unwrap();
        false
    };
    assert_eq!(cache.retain(keep).await.unwrap(), 0);
}

async fn a_load_of_a_removed_key_is_not_stored(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = &fixture.cache;
    let stale = Options::ttl(fixture.ttl()).stale_for(fixture.ttl() * 50);
    cache.set_with("k", 1, stale.clone()).await.unwrap();
    fixture.expire(fixture.ttl());
    let gate = LoaderGate::new();
    let loader = gate.loader(2);
    let load = cache.spawn(|cache| async move { cache.get_or_set_with("k", stale, loader).await });
    gate.started().await;
    cache.retain(|_, value: &i32| *value != 1).await.unwrap();
    gate.release();
    assert_eq!(load.join().await, 2);
    assert!(!cache.has("k").await.unwrap());
}

async fn a_load_of_a_key_without_an_entry_is_stored(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = &fixture.cache;
    let gate = LoaderGate::new();
    let loader = gate.loader(2);
    let load = cache.spawn(|cache| async move { cache.get_or_set("k", loader).await });
    gate.started().await;
    assert_eq!(cache.retain(|_, _: &i32| false).await.unwrap(), 0);
    gate.release();
    assert_eq!(load.join().await, 2);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

async fn the_closure_may_use_the_cache(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    let entries = (0..100_u64).map(|key| (key, key)).collect();
    cache.set_many(entries).await.unwrap();
    let keep = |key: &str, value: &u64| {
        assert_eq!(at_once(cache.get::<u64>(key)).unwrap(), Some(*value));
        at_once(cache.set(("new", key), "text")).unwrap();
        at_once(cache.len()).unwrap();
        at_once(cache.get_or_set(("loaded", key), || async { "text".to_owned() }));
        false
    };
    assert_eq!(cache.retain(keep).await.unwrap(), 100);
    assert_eq!(cache.len().await.unwrap(), 200);
}

async fn a_closure_that_panics_harms_nothing(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    let entries = (0..100_u64).map(|key| (key, key)).collect();
    cache.set_many(entries).await.unwrap();
    let mut judged = 0;
    let keep = |_: &str, _: &u64| {
        judged += 1;
        assert!(judged <= 10, "enough");
        false
    };
    let retain = AssertUnwindSafe(|| at_once(cache.retain(keep)));
    assert!(catch_unwind(retain).is_err());
    assert_eq!(cache.len().await.unwrap(), 90);
    assert_eq!(cache.retain(|_, _: &u64| false).await.unwrap(), 90);
    cache.set(1, 1).await.unwrap();
    assert_eq!(cache.get_or_set(2, || async { 2 }).await, 2);
}

async fn retain_is_no_lookup(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    let before = cache.stats();
    cache.retain(|_, _: &u8| true).await.unwrap();
    cache.retain(|_, _: &u8| false).await.unwrap();
    assert_eq!(cache.stats(), before);
}
