//! L1: memory before a server. These cases run on the rows that have it.

use serde::{Deserialize, Serialize};

use crate::api::TypedApi;
use crate::prelude::*;
use cacheio_core::{Fetched, LoadContext, Source};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_value_is_read_from_the_server_once),
        case(a_loaded_value_is_not_read_from_the_server),
        case(each_own_write_is_seen_at_once).needs(Optional::Add),
        case(an_increment_is_seen_at_once).needs(Optional::Increment),
        case(a_write_through_another_cache_on_the_store_is_seen_at_once),
        case(an_invalidated_tag_is_seen_at_once),
        case(a_tag_with_a_long_name_is_invalidated_too),
        case(tags_are_invalidated_for_other_caches_on_the_store),
        case(skip_l1_neither_reads_nor_fills_it),
        case(the_reads_of_a_handle_skip_l1_if_its_options_do),
        case(clear_l1_makes_the_next_read_ask_the_server),
        case(a_copy_of_another_type_is_no_answer),
        case(none_is_copied_and_absence_is_not),
        case(keys_that_the_server_cannot_hold_are_copied),
        case(a_key_that_looks_like_a_replacement_has_its_own_value),
        case(batches_read_only_the_missing_keys_from_the_server),
        case(an_entry_with_an_idle_ttl_is_not_copied),
        case(a_stale_entry_is_not_copied),
        case(a_touch_that_shortens_the_ttl_holds_for_copies).needs(Optional::Touch),
        case(a_copy_has_the_age_of_its_entry),
        case(while_the_store_fails_a_value_is_loaded_once),
        case(an_own_write_during_an_outage_removes_the_copy),
        case(a_load_that_loses_against_a_write_is_not_copied),
        case(namespaces_have_their_own_copies),
    ]
}

fn l1_hits(cache: &CacheApi) -> u64 {
    cache.stats().l1_hits
}

async fn get(cache: &CacheApi, key: &str) -> Option<i64> {
    cache.get::<i64>(key).await.unwrap()
}

/// Stores a value, and makes a copy of it.
async fn set_and_copy(cache: &CacheApi, key: &str, value: i64) {
    cache.set(key, value).await.unwrap();
    assert_eq!(get(cache, key).await, Some(value));
    let hits = l1_hits(cache);
    assert_eq!(get(cache, key).await, Some(value));
    assert_eq!(l1_hits(cache), hits + 1);
}

async fn a_value_is_read_from_the_server_once(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1_i64).await.unwrap();
    for _ in 0..3 {
        assert_eq!(get(&cache, "k").await, Some(1));
    }
    assert_eq!(*cache.get_arc::<i64>("k").await.unwrap().unwrap(), 1);
    assert_eq!(cache.get_or_set("k", || async { 2_i64 }).await, 1);
    assert!(cache.has("k").await.unwrap());
    let stats = cache.stats();
    assert_eq!((stats.l1_hits, stats.hits, stats.misses), (4, 5, 0));
}

async fn a_loaded_value_is_not_read_from_the_server(fixture: Fixture) {
    let cache = fixture.cache;
    assert_eq!(cache.get_or_set("k", || async { 1_i64 }).await, 1);
    assert_eq!(cache.get_or_set("k", || async { 2_i64 }).await, 1);
    assert_eq!(get(&cache, "k").await, Some(1));
    let loaded: i64 = cache
        .fetch("f", |_| async { Ok::<_, ()>(3) })
        .await
        .unwrap();
    assert_eq!((loaded, get(&cache, "f").await), (3, Some(3)));
    assert_eq!((l1_hits(&cache), cache.stats().hits), (3, 3));
}

async fn each_own_write_is_seen_at_once(fixture: Fixture) {
    let cache = fixture.cache.clone();
    set_and_copy(&cache, "k", 1).await;
    cache.set("k", 2_i64).await.unwrap();
    assert_eq!(get(&cache, "k").await, Some(2));
    cache.set_many(vec![("k", 3_i64)]).await.unwrap();
    assert_eq!(get(&cache, "k").await, Some(3));
    let force = Options::new().force_refresh();
    assert_eq!(
        cache.get_or_set_with("k", force, || async { 4_i64 }).await,
        4
    );
    assert_eq!(get(&cache, "k").await, Some(4));
    assert!(cache.delete("k").await.unwrap());
    assert_eq!(get(&cache, "k").await, None);
    set_and_copy(&cache, "k", 5).await;
    assert_eq!(cache.delete_many(vec!["k"]).await.unwrap(), 1);
    assert!(!cache.has("k").await.unwrap());
    set_and_copy(&cache, "k", 6).await;
    cache.set_with("k", 7_i64, Duration::ZERO).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    set_and_copy(&cache, "k", 8).await;
    cache.clear().await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    assert!(cache.add("k", 9_i64).await.unwrap());
    assert_eq!(get(&cache, "k").await, Some(9));
}

async fn an_increment_is_seen_at_once(fixture: Fixture) {
    let cache = fixture.cache;
    for count in 1..4 {
        assert_eq!(cache.increment("n", 1).await.unwrap(), count);
        assert_eq!(get(&cache, "n").await, Some(count));
    }
}

async fn a_write_through_another_cache_on_the_store_is_seen_at_once(fixture: Fixture) {
    if !fixture.shares_state() {
        return;
    }
    let [cache, other] = fixture.twins(Setup::default());
    for value in 0..3 {
        set_and_copy(&cache, "k", value).await;
        set_and_copy(&other, "k", value + 10).await;
        assert_eq!(get(&cache, "k").await, Some(value + 10));
        assert!(cache.delete("k").await.unwrap());
        assert_eq!(get(&other, "k").await, None);
        assert_eq!(cache.get_or_set("k", || async { 5_i64 }).await, 5);
        assert_eq!(get(&other, "k").await, Some(5));
        let force = Options::new().force_refresh();
        assert_eq!(
            cache.get_or_set_with("k", force, || async { 6_i64 }).await,
            6
        );
        assert_eq!(get(&other, "k").await, Some(6));
        cache.clear().await.unwrap();
        assert_eq!(get(&other, "k").await, None);
    }
}

fn tagged(tag: &'static str) -> Options {
    Options::new().tags([tag])
}

async fn an_invalidated_tag_is_seen_at_once(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set_with("set", 1_i64, tagged("t")).await.unwrap();
    cache
        .get_or_set_with("loaded", tagged("t"), || async { 2_i64 })
        .await;
    cache.set_with("other", 3_i64, tagged("u")).await.unwrap();
    for key in ["set", "loaded", "other"] {
        get(&cache, key).await.unwrap();
        let hits = l1_hits(&cache);
        get(&cache, key).await.unwrap();
        assert_eq!(l1_hits(&cache), hits + 1, "{key}");
    }
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert_eq!(get(&cache, "set").await, None);
    assert!(!cache.has("loaded").await.unwrap());
    let hits = l1_hits(&cache);
    assert_eq!(get(&cache, "other").await, Some(3));
    assert_eq!(l1_hits(&cache), hits + 1);
}

async fn a_tag_with_a_long_name_is_invalidated_too(fixture: Fixture) {
    let cache = fixture.cache;
    let tag = "long".repeat(100);
    let options = Options::new().tags([tag.clone()]);
    cache.set_with("k", 1_i64, options).await.unwrap();
    for _ in 0..2 {
        assert_eq!(get(&cache, "k").await, Some(1));
    }
    assert_eq!(l1_hits(&cache), 1);
    cache.invalidate_tags(vec![tag]).await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

async fn tags_are_invalidated_for_other_caches_on_the_store(fixture: Fixture) {
    if !fixture.shares_state() {
        return;
    }
    let [cache, other] = fixture.twins(Setup::default());
    cache.set_with("k", 1_i64, tagged("t")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(get(&other, "k").await, Some(1));
    }
    assert_eq!(l1_hits(&other), 1);
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert_eq!(get(&other, "k").await, None);
}

async fn skip_l1_neither_reads_nor_fills_it(fixture: Fixture) {
    let cache = fixture.cache;
    let skip = || Options::new().skip_l1();
    for _ in 0..2 {
        let value = cache.get_or_set_with("k", skip(), || async { 1_i64 });
        assert_eq!(value.await, 1);
        let fetched =
            cache.fetch_entry_with("k", skip(), |_: LoadContext<i64>| async { Ok::<_, ()>(2) });
        assert_eq!(fetched.await.unwrap().value, 1);
        let many = cache.get_or_set_many_with(vec!["k"], skip(), async |_| vec![("k", 3_i64)]);
        assert_eq!(many.await, [Some(1)]);
    }
    assert_eq!((l1_hits(&cache), cache.stats().hits), (0, 5));
    assert_eq!(get(&cache, "k").await, Some(1));
    assert_eq!(l1_hits(&cache), 0);
    assert_eq!(get(&cache, "k").await, Some(1));
    assert_eq!(l1_hits(&cache), 1);
    let value = cache.get_or_set_with("k", skip(), || async { 4_i64 });
    assert_eq!((value.await, l1_hits(&cache)), (1, 1));
}

async fn the_reads_of_a_handle_skip_l1_if_its_options_do(fixture: Fixture) {
    let cache = fixture.cache;
    // One that the server can hold, and one that it cannot.
    for key in ["k", "a b"] {
        let copying: TypedApi<String, i64> = cache.typed("number");
        let skipping = copying.clone().options(Options::new().skip_l1());
        let read = async || {
            let key = || String::from(key);
            assert_eq!(skipping.get(key()).await.unwrap(), Some(1));
            assert_eq!(skipping.get_arc(key()).await.unwrap().as_deref(), Some(&1));
            let many = skipping.get_many(vec![key(), key()]).await.unwrap();
            assert_eq!(many, [Some(1), Some(1)]);
            let each = skipping.get_each(vec![key()]).await.unwrap();
            assert_eq!(each[0].as_ref().unwrap(), &Some(1));
            assert!(skipping.has(key()).await.unwrap());
        };
        copying.set(key.into(), 1).await.unwrap();
        let hits = l1_hits(&cache);
        read().await;
        // They left no copy.
        assert_eq!(copying.get(key.into()).await.unwrap(), Some(1));
        assert_eq!(l1_hits(&cache), hits);
        assert_eq!(copying.get(key.into()).await.unwrap(), Some(1));
        assert_eq!(l1_hits(&cache), hits + 1);
        // They use none.
        read().await;
        assert_eq!(l1_hits(&cache), hits + 1);
    }
}

async fn clear_l1_makes_the_next_read_ask_the_server(fixture: Fixture) {
    let cache = fixture.cache;
    set_and_copy(&cache, "k", 1).await;
    let hits = l1_hits(&cache);
    cache.clear_l1();
    assert_eq!(get(&cache, "k").await, Some(1));
    assert_eq!(l1_hits(&cache), hits);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Full {
    name: String,
    email: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    name: String,
}

async fn a_copy_of_another_type_is_no_answer(fixture: Fixture) {
    let cache = fixture.cache;
    let ada = Full {
        name: "Ada".into(),
        email: "ada@example.org".into(),
    };
    cache.set("k", ada.clone()).await.unwrap();
    for _ in 0..2 {
        let part = cache.get::<Part>("k").await.unwrap();
        assert_eq!(part.unwrap().name, "Ada");
        let full = cache.get::<Full>("k").await.unwrap();
        assert_eq!(full.unwrap(), ada);
    }
    assert_eq!(l1_hits(&cache), 0);
    assert_eq!(cache.get::<Full>("k").await.unwrap().unwrap(), ada);
    assert_eq!(l1_hits(&cache), 1);
}

async fn none_is_copied_and_absence_is_not(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("none", None::<i64>).await.unwrap();
    for _ in 0..3 {
        let none = cache.get::<Option<i64>>("none").await.unwrap();
        assert_eq!(none, Some(None));
        assert_eq!(get(&cache, "absent").await, None);
    }
    let stats = cache.stats();
    assert_eq!((stats.l1_hits, stats.misses), (2, 3));
}

async fn keys_that_the_server_cannot_hold_are_copied(fixture: Fixture) {
    let cache = fixture.cache;
    let long = "long".repeat(1_000);
    let keys = ["a b", "line\nbreak", &long];
    for (value, key) in (0..).zip(keys) {
        cache.set(key, value).await.unwrap();
        assert_eq!(get(&cache, key).await, Some(value));
    }
    for (value, key) in (0..).zip(keys) {
        assert_eq!(get(&cache, key).await, Some(value));
        assert!(cache.has(key).await.unwrap());
        assert_eq!(cache.get_or_set(key, || async { 9_i64 }).await, value);
        let many = cache.get_many::<i64>(vec![key]).await.unwrap();
        assert_eq!(many, [Some(value)]);
    }
    assert_eq!(l1_hits(&cache), 9);
    cache.delete("a b").await.unwrap();
    assert_eq!(get(&cache, "a b").await, None);
}

async fn a_key_that_looks_like_a_replacement_has_its_own_value(fixture: Fixture) {
    let cache = fixture.cache;
    let rule = cacheio_core::KeyRule::Wire { max: 250 };
    let prefix = format!("{}:", cache.namespace());
    let stored = rule.legal(&format!("{prefix}a b")).into_owned();
    let lookalike = &stored[prefix.len()..];
    cache.set("a b", 1_i64).await.unwrap();
    cache.set(lookalike, 2_i64).await.unwrap();
    for _ in 0..3 {
        assert_eq!(get(&cache, lookalike).await, Some(2));
        assert_eq!(get(&cache, "a b").await, Some(1));
        assert_eq!(cache.get_or_set(lookalike, || async { 3_i64 }).await, 2);
        assert_eq!(cache.get_or_set("a b", || async { 3_i64 }).await, 1);
    }
}

async fn batches_read_only_the_missing_keys_from_the_server(fixture: Fixture) {
    let cache = fixture.cache;
    let entries = vec![("a", 1_i64), ("b", 2), ("c", 3)];
    cache.set_many(entries).await.unwrap();
    assert_eq!(get(&cache, "b").await, Some(2));
    let keys = || vec!["a", "b", "none", "a", "c"];
    let expected = [Some(1), Some(2), None, Some(1), Some(3)];
    assert_eq!(cache.get_many::<i64>(keys()).await.unwrap(), expected);
    assert_eq!(l1_hits(&cache), 1);
    assert_eq!(cache.get_many::<i64>(keys()).await.unwrap(), expected);
    assert_eq!(l1_hits(&cache), 5);
    let loaded = cache.get_or_set_many(keys(), async |missing: Vec<&'static str>| {
        assert_eq!(missing, ["none"]);
        vec![("none", 4_i64)]
    });
    let expected = [Some(1), Some(2), Some(4), Some(1), Some(3)];
    assert_eq!(loaded.await, expected);
    assert_eq!(l1_hits(&cache), 9);
    let all = cache.get_or_set_many(keys(), async |_| Vec::<(&'static str, i64)>::new());
    assert_eq!(all.await, expected);
    assert_eq!(l1_hits(&cache), 14);
}

/// The server has to hear of each read.
async fn an_entry_with_an_idle_ttl_is_not_copied(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::new()
        .ttl(Ttl::Never)
        .ttl_idle(Duration::from_secs(60));
    cache.set_with("k", 1_i64, options.clone()).await.unwrap();
    cache
        .get_or_set_with("l", options, || async { 2_i64 })
        .await;
    for _ in 0..3 {
        assert_eq!(get(&cache, "k").await, Some(1));
        assert_eq!(get(&cache, "l").await, Some(2));
    }
    assert_eq!(l1_hits(&cache), 0);
}

async fn a_stale_entry_is_not_copied(fixture: Fixture) {
    let options = || Options::ttl(fixture.ttl()).stale_for(Duration::from_secs(60));
    let cache = fixture.cache.clone();
    cache
        .get_or_set_with("k", options(), || async { 1_i64 })
        .await;
    assert_eq!(get(&cache, "k").await, Some(1));
    let hits = l1_hits(&cache);
    assert_eq!(hits, 1);
    fixture.expire(fixture.ttl());
    for _ in 0..2 {
        let failed = cache.get_or_try_set_with("k", options(), || async { Err::<i64, _>("down") });
        assert_eq!(failed.await.unwrap(), 1);
    }
    assert_eq!(get(&cache, "k").await, None);
    assert_eq!(l1_hits(&cache), hits);
}

async fn a_touch_that_shortens_the_ttl_holds_for_copies(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::ttl(Ttl::Never);
    cache.set_with("k", 1_i64, options).await.unwrap();
    assert_eq!(get(&cache, "k").await, Some(1));
    assert!(cache.touch("k", fixture.ttl()).await.unwrap());
    assert_eq!(get(&cache, "k").await, Some(1));
    fixture.expire(fixture.ttl());
    assert_eq!(get(&cache, "k").await, None);
}

async fn a_copy_has_the_age_of_its_entry(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let fetch = async || -> Fetched<i64> {
        let load = |_: LoadContext<i64>| async { Ok::<_, ()>(1) };
        cache.fetch_entry("k", load).await.unwrap()
    };
    assert_eq!(fetch().await.source, Source::Loaded);
    let time = Duration::from_millis(100);
    fixture.pass(time).await;
    let fetched = fetch().await;
    assert_eq!((fetched.value, fetched.source), (1, Source::Hit));
    assert!(fetched.age.unwrap() >= time, "{fetched:?}");
    assert_eq!(l1_hits(&cache), 1);
    // A copy of what was read has the same age.
    cache.clear_l1();
    assert_eq!(get(&cache, "k").await, Some(1));
    assert!(fetch().await.age.unwrap() >= time);
    assert_eq!(l1_hits(&cache), 2);
}

async fn while_the_store_fails_a_value_is_loaded_once(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    faults.fail_all(true);
    let gate = LoaderGate::open();
    for _ in 0..3 {
        assert_eq!(cache.get_or_set("k", gate.loader(1_i64)).await, 1);
        let many = cache.get_or_set_many(vec!["k"], async |_| vec![("k", 2_i64)]);
        assert_eq!(many.await, [Some(1)]);
    }
    assert_eq!((gate.runs(), cache.stats().loads), (1, 1));
}

async fn an_own_write_during_an_outage_removes_the_copy(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    set_and_copy(&cache, "k", 1).await;
    faults.fail_all(true);
    assert_eq!(get(&cache, "k").await, Some(1));
    cache.delete("k").await.unwrap_err();
    // Whether the server has deleted it is unknown.
    cache.get::<i64>("k").await.unwrap_err();
}

async fn a_load_that_loses_against_a_write_is_not_copied(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let load = gate.loader(1_i64);
    let loading = cache.spawn(move |cache| async move { cache.get_or_set("k", load).await });
    gate.started().await;
    cache.set("k", 2_i64).await.unwrap();
    gate.release();
    assert_eq!(loading.join().await, 1);
    assert_eq!(get(&cache, "k").await, Some(2));
}

async fn namespaces_have_their_own_copies(fixture: Fixture) {
    let [a, b] = fixture.sharing(["a", "b"]);
    set_and_copy(&a, "k", 1).await;
    set_and_copy(&b, "k", 2).await;
    assert_eq!(get(&a, "k").await, Some(1));
    a.clear().await.unwrap();
    let hits = l1_hits(&b);
    assert_eq!((get(&a, "k").await, get(&b, "k").await), (None, Some(2)));
    assert_eq!(l1_hits(&b), hits + 1);
}
