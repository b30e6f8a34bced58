//! `keys`, `entries`, `len` and `weight`.

use cacheio_core::{CacheEntry, KeyRule, Operation, key_text};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    let needing = |case: Case| case.needs(Optional::Keys);
    let listing = [
        case(keys_are_those_of_the_live_entries),
        case(a_listed_key_names_its_entry),
        case(a_server_lists_no_key_that_it_cannot_hold),
        case(no_more_than_the_limit_is_listed),
        case(entries_have_their_values_and_what_is_left_of_their_ttls).needs(Optional::TtlLeft),
        case(what_has_expired_is_not_listed),
        case(what_is_kept_as_stale_is_not_listed),
        case(what_a_tag_invalidated_is_not_listed),
        case(entries_of_another_type_are_left_out).needs(Optional::TtlLeft),
        case(namespaces_do_not_list_each_other),
        case(what_is_being_loaded_is_not_listed),
        case(a_listing_is_no_lookup).needs(Optional::TtlLeft),
        case(a_listing_does_not_prolong_idle_entries).needs(Optional::TtlLeft),
        case(a_listing_sees_no_copy),
        case(each_key_that_stays_is_listed),
        case(a_failed_listing_reports_the_store),
    ];
    let mut cases: Vec<_> = listing.into_iter().map(needing).collect();
    cases.extend([
        case(len_and_weight_are_those_of_the_live_entries),
        case(len_and_weight_are_those_of_the_namespace),
        case(a_server_does_not_count_the_entries),
    ]);
    cases
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn keys_are_those_of_the_live_entries(fixture: Fixture) {
    let cache = fixture.cache;
    assert_eq!(cache.keys(100).await.unwrap(), [""; 0]);
    cache.set("b", 1).await.unwrap();
    cache.set("a", "text").await.unwrap();
    cache.set_with(("user", 42), 1, HOUR).await.unwrap();
    cache.set("deleted", 1).await.unwrap();
    cache.delete("deleted").await.unwrap();
    cache.set("a", 2).await.unwrap();
    assert_eq!(cache.keys(100).await.unwrap(), ["a", "b", "user:42"]);
    cache.clear().await.unwrap();
    assert_eq!(cache.keys(100).await.unwrap(), [""; 0]);
}

/// Keys that may confuse a server or its client.
fn hostile() -> Vec<String> {
    let digest = "0123456789abcdef0123456789abcdef01234567";
    let mut keys: Vec<_> = [
        "",
        "with space",
        "line\r\nbreak",
        "key=other exp=-1",
        "END",
        "*",
        "a[b]c?*\\",
        "%20%25",
        "ünïcödé",
        "\u{1}",
        "claim\u{1}",
        ":",
        "cacheio:",
    ]
    .map(String::from)
    .to_vec();
    keys.push(format!("replaced#{digest}"));
    keys.push("x".repeat(300));
    keys.push(key_text(("a:b", ("c", Some(1)), ["d"])));
    keys
}

async fn a_listed_key_names_its_entry(fixture: Fixture) {
    let cache = &fixture.cache;
    let keys = hostile();
    for (at, key) in keys.iter().enumerate() {
        cache.set(key, at).await.unwrap();
    }
    let listed = cache.keys(100).await.unwrap();
    for key in &listed {
        let at = cache.get::<usize>(key).await.unwrap().unwrap();
        assert_eq!(*key, key_text(&keys[at]));
    }
    if fixture.keeps_objects() {
        assert_eq!(listed.len(), keys.len(), "{listed:?}");
    }
}

async fn a_server_lists_no_key_that_it_cannot_hold(fixture: Fixture) {
    if fixture.keeps_objects() {
        return;
    }
    let cache = &fixture.cache;
    for key in hostile() {
        cache.set(key, 1).await.unwrap();
    }
    let rule = KeyRule::Wire { max: 250 };
    let is_legal = |key: &String| {
        let text = format!("{}:{key}", cache.namespace());
        rule.legal(&text) == text
    };
    let mut expected: Vec<_> = hostile()
        .into_iter()
        .map(key_text)
        .filter(is_legal)
        .collect();
    expected.sort_unstable();
    assert!(expected.contains(&String::from("*")) && !expected.contains(&String::from("\u{1}")));
    let listed = cache.keys(100).await.unwrap();
    // Memory in place of a server has no prefix in its keys, and so cannot hold the empty one.
    let is_listed = |key: &&String| listed.iter().any(|listed| listed == *key);
    let expected = expected
        .iter()
        .filter(|key| is_listed(key) || !key.is_empty());
    assert_eq!(listed, expected.cloned().collect::<Vec<_>>());
}

async fn no_more_than_the_limit_is_listed(fixture: Fixture) {
    let cache = &fixture.cache;
    let entries = (0..250).map(|key| (key, key)).collect();
    cache.set_many(entries).await.unwrap();
    for (limit, expected) in [(0, 0), (1, 1), (249, 249), (250, 250), (usize::MAX, 250)] {
        let mut keys = cache.keys(limit).await.unwrap();
        assert_eq!(keys.len(), expected);
        keys.dedup();
        assert_eq!(keys.len(), expected, "none is listed twice");
    }
}

fn left(fixture: &Fixture, entry: &CacheEntry<u8>) -> bool {
    let Ttl::After(left) = entry.ttl else {
        return false;
    };
    // Headers count milliseconds, and Memcached counts seconds.
    let lag = match fixture.stops_time() {
        true => Duration::from_millis(1),
        false => Duration::from_secs(60),
    };
    left + lag >= HOUR && left <= HOUR + Duration::from_secs(2)
}

async fn entries_have_their_values_and_what_is_left_of_their_ttls(fixture: Fixture) {
    let cache = &fixture.cache;
    let long = HOUR * 5;
    cache.set_with("a", 1, Ttl::Never).await.unwrap();
    cache.set_with("b", 2, HOUR).await.unwrap();
    let stale = Options::ttl(HOUR).stale_for(long).tags(["t"]);
    cache.set_with("c", 3, stale).await.unwrap();
    cache
        .set_with("d", 4, Options::ttl(long).ttl_idle(HOUR))
        .await
        .unwrap();
    let entries = cache.entries::<u8>(100).await.unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (&*entry.key, entry.value))
        .collect();
    assert_eq!(found, [("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    assert_eq!(entries[0].ttl, Ttl::Never);
    assert!(left(&fixture, &entries[1]), "{:?}", entries[1]);
    assert!(left(&fixture, &entries[2]), "{:?}", entries[2]);
    let ttl = cache.ttl("d").await.unwrap().unwrap();
    if fixture.stops_time() {
        assert_eq!(entries[3].ttl, ttl);
    }
    assert_eq!(cache.entries::<u8>(2).await.unwrap().len(), 2);
}

async fn what_has_expired_is_not_listed(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set("stays", 1).await.unwrap();
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.keys(100).await.unwrap(), ["stays"]);
}

async fn what_is_kept_as_stale_is_not_listed(fixture: Fixture) {
    let cache = &fixture.cache;
    let stale = |ttl| Options::ttl(ttl).stale_for(HOUR);
    cache.set_with("k", 1, stale(fixture.ttl())).await.unwrap();
    cache.set_with("stays", 1, stale(HOUR)).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.keys(100).await.unwrap(), ["stays"]);
    if fixture.keeps_objects() {
        assert_eq!(cache.entries::<u8>(100).await.unwrap().len(), 1);
        assert_eq!(cache.len().await.unwrap(), 1);
    }
}

async fn what_a_tag_invalidated_is_not_listed(fixture: Fixture) {
    let cache = &fixture.cache;
    let tagged = |tag| Options::ttl(HOUR).tags([tag]);
    cache.set_with("a", 1, tagged("t")).await.unwrap();
    cache.set_with("b", 1, tagged("u")).await.unwrap();
    cache.set_with("c", 1, tagged("a tag")).await.unwrap();
    assert_eq!(cache.keys(100).await.unwrap(), ["a", "b", "c"]);
    cache.invalidate_tags(vec!["t", "none"]).await.unwrap();
    assert_eq!(cache.keys(100).await.unwrap(), ["b", "c"]);
    if fixture.keeps_objects() {
        assert_eq!(cache.len().await.unwrap(), 2);
    }
}

async fn entries_of_another_type_are_left_out(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("number", 7).await.unwrap();
    cache.set("text", "seven").await.unwrap();
    let numbers = cache.entries::<u64>(100).await.unwrap();
    assert_eq!(numbers.len(), 1);
    assert_eq!((&*numbers[0].key, numbers[0].value), ("number", 7));
    assert_eq!(cache.keys(100).await.unwrap(), ["number", "text"]);
}

async fn namespaces_do_not_list_each_other(fixture: Fixture) {
    let [a, ab, a_b, star, range] = fixture.sharing(["a", "ab", "a:b", "*", "[a]"]);
    for (cache, key) in [(&a, "b:k"), (&ab, "k2"), (&a_b, "k3"), (&range, "k4")] {
        cache.set(key, 1).await.unwrap();
    }
    assert_eq!(a.keys(100).await.unwrap(), ["b:k"]);
    assert_eq!(ab.keys(100).await.unwrap(), ["k2"]);
    assert_eq!(a_b.keys(100).await.unwrap(), ["k3"]);
    assert_eq!(star.keys(100).await.unwrap(), [""; 0]);
    assert_eq!(range.keys(100).await.unwrap(), ["k4"]);
}

async fn what_is_being_loaded_is_not_listed(fixture: Fixture) {
    let cache = &fixture.cache;
    let gate = LoaderGate::new();
    let loader = gate.loader(1);
    let load = cache.spawn(|cache| async move { cache.get_or_set("k", loader).await });
    gate.started().await;
    assert_eq!(cache.keys(100).await.unwrap(), [""; 0]);
    gate.release();
    assert_eq!(load.join().await, 1);
    assert_eq!(cache.keys(100).await.unwrap(), ["k"]);
    let failed = || std::future::ready(Err::<u8, _>("down"));
    cache.get_or_try_set("failed", failed).await.unwrap_err();
    assert_eq!(cache.keys(100).await.unwrap(), ["k"]);
}

async fn a_listing_is_no_lookup(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    let before = cache.stats_of_calls();
    assert_eq!(cache.keys(100).await.unwrap().len(), 1);
    assert_eq!(cache.entries::<u8>(100).await.unwrap().len(), 1);
    assert_eq!(cache.stats_of_calls(), before);
}

async fn a_listing_does_not_prolong_idle_entries(fixture: Fixture) {
    if !fixture.stops_time() {
        return;
    }
    let cache = &fixture.cache;
    let options = Options::ttl(HOUR * 10).ttl_idle(HOUR);
    cache.set_with("k", 1, options).await.unwrap();
    fixture.pass(HOUR / 4 * 3).await;
    assert_eq!(cache.keys(100).await.unwrap(), ["k"]);
    assert_eq!(cache.entries::<u8>(100).await.unwrap().len(), 1);
    fixture.pass(HOUR / 2).await;
    assert_eq!(cache.keys(100).await.unwrap(), [""; 0]);
}

async fn a_listing_sees_no_copy(fixture: Fixture) {
    let [one, other] = fixture.twins(Setup::default());
    one.set("k", 1).await.unwrap();
    assert_eq!(one.get::<u8>("k").await.unwrap(), Some(1));
    assert!(other.delete("k").await.unwrap());
    other.set("new", 1).await.unwrap();
    assert_eq!(one.keys(100).await.unwrap(), ["new"]);
}

async fn each_key_that_stays_is_listed(fixture: Fixture) {
    let cache = &fixture.cache;
    let stays: Vec<String> = (0..200).map(|key| format!("stays{key:03}")).collect();
    let entries = stays.iter().map(|key| (key.clone(), 1)).collect();
    cache.set_many(entries).await.unwrap();
    let churn = (0..4_usize).map(|thread| {
        cache.spawn(move |cache| async move {
            for round in 0..10 {
                let keys: Vec<_> = (0..50).map(|key| (thread, round, key)).collect();
                let entries = keys.iter().map(|key| (*key, 1)).collect();
                cache.set_many(entries).await.unwrap();
                cache.delete_many(keys).await.unwrap();
            }
        })
    });
    let churn: Vec<_> = churn.collect();
    for _ in 0..5 {
        let mut listed = cache.keys(usize::MAX).await.unwrap();
        listed.retain(|key| key.starts_with("stays"));
        assert_eq!(listed, stays);
    }
    join_all(churn).await;
    assert_eq!(cache.keys(usize::MAX).await.unwrap(), stays);
}

async fn a_failed_listing_reports_the_store(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    cache.set("k", 1).await.unwrap();
    faults.fail_reads(true);
    let error = cache.keys(100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.operation(), Some(Operation::Keys));
    let error = cache.entries::<u8>(100).await.unwrap_err();
    assert_eq!(error.operation(), Some(Operation::Entries));
    faults.fail_reads(false);
    assert_eq!(cache.keys(100).await.unwrap(), ["k"]);
}

async fn len_and_weight_are_those_of_the_live_entries(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let cache = &fixture.cache;
    assert_eq!(
        (cache.len().await.unwrap(), cache.weight().await.unwrap()),
        (0, 0)
    );
    let entries = (0..100).map(|key| (key, key)).collect();
    cache.set_many(entries).await.unwrap();
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    assert_eq!(cache.len().await.unwrap(), 101);
    let weight = cache.weight().await.unwrap();
    assert!(weight >= 101, "{weight}");
    cache.delete(7).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.len().await.unwrap(), 99);
    assert!(cache.weight().await.unwrap() < weight);
    let before = cache.stats();
    cache.len().await.unwrap();
    assert_eq!(cache.stats(), before);
}

async fn len_and_weight_are_those_of_the_namespace(fixture: Fixture) {
    if !fixture.keeps_objects() {
        return;
    }
    let [a, ab, none] = fixture.sharing(["a", "ab", ""]);
    a.set("k", 1).await.unwrap();
    ab.set("k", 1).await.unwrap();
    ab.set("l", 1).await.unwrap();
    assert_eq!((a.len().await.unwrap(), ab.len().await.unwrap()), (1, 2));
    assert!(a.weight().await.unwrap() < ab.weight().await.unwrap());
    none.clear().await.unwrap();
}

async fn a_server_does_not_count_the_entries(fixture: Fixture) {
    if fixture.keeps_objects() {
        return;
    }
    let cache = fixture.cache;
    for error in [
        cache.len().await.unwrap_err(),
        cache.weight().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("`keys` lists"), "{error}");
    }
}
