//! Operations on several keys.

use super::values::too_deep;
use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(get_many_keeps_the_order_and_duplicates),
        case(get_many_distinguishes_none_from_missing),
        case(get_many_of_a_wrong_type_names_the_key),
        case(get_each_returns_what_can_be_read),
        case(empty_batches_do_nothing),
        case(set_many_replaces_and_keeps_the_later_duplicate),
        case(set_many_stores_nothing_if_one_value_cannot_be_encoded),
        case(delete_many_counts_live_entries_once),
        case(delete_many_does_not_count_expired_entries),
        case(a_batch_of_a_thousand),
    ]
}

async fn get_many_keeps_the_order_and_duplicates(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set_many(vec![("a", 1), ("b", 2)]).await.unwrap();
    let values = cache
        .get_many::<i32>(vec!["b", "missing", "a", "b", "b"])
        .await
        .unwrap();
    assert_eq!(values, [Some(2), None, Some(1), Some(2), Some(2)]);
}

async fn get_many_distinguishes_none_from_missing(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("none", None::<u8>).await.unwrap();
    let values = cache
        .get_many::<Option<u8>>(vec!["missing", "none"])
        .await
        .unwrap();
    assert_eq!(values, [None, Some(None)]);
}

async fn get_each_returns_what_can_be_read(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("one", 1).await.unwrap();
    cache.set("words", "some words").await.unwrap();
    cache.set("two", 2).await.unwrap();
    let keys = vec!["one", "words", "missing", "two", "words"];
    let before = cache.stats();
    let each = cache.get_each::<i32>(keys).await.unwrap();
    let values: Vec<_> = each.iter().map(|value| value.as_ref().ok()).collect();
    assert_eq!(
        values,
        [Some(&Some(1)), None, Some(&None), Some(&Some(2)), None]
    );
    let error = each[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("words"), "{error}");
    let after = cache.stats();
    assert_eq!(
        (after.hits - before.hits, after.misses - before.misses),
        (2, 1)
    );
    let none: Vec<&str> = Vec::new();
    assert!(cache.get_each::<i32>(none).await.unwrap().is_empty());
}

async fn get_many_of_a_wrong_type_names_the_key(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("number", 1).await.unwrap();
    cache.set("words", "not a number").await.unwrap();
    let error = cache
        .get_many::<i32>(vec!["number", "words"])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.key().unwrap().ends_with("words"), "{error}");
}

async fn empty_batches_do_nothing(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    // Not even one request to the store.
    faults.fail_all(true);
    assert_eq!(cache.get_many::<i32>(Vec::<&str>::new()).await.unwrap(), []);
    cache.set_many(Vec::<(&str, i32)>::new()).await.unwrap();
    cache
        .set_many_with(Vec::<(&str, i32)>::new(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(cache.delete_many(Vec::<&str>::new()).await.unwrap(), 0);
}

async fn set_many_replaces_and_keeps_the_later_duplicate(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("a", 0).await.unwrap();
    cache
        .set_many(vec![("a", 1), ("b", 2), ("a", 3)])
        .await
        .unwrap();
    assert_eq!(
        cache.get_many::<i32>(vec!["a", "b"]).await.unwrap(),
        [Some(3), Some(2)]
    );
}

async fn set_many_stores_nothing_if_one_value_cannot_be_encoded(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let values = vec![("good", serde_json::json!(1)), ("bad", too_deep())];
    let set = cache.set_many(values).await;
    if fixture.keeps_objects() {
        set.unwrap();
        return;
    }
    let error = set.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert!(error.key().unwrap().ends_with("bad"), "{error}");
    assert!(!cache.has("good").await.unwrap());
}

async fn delete_many_counts_live_entries_once(fixture: Fixture) {
    let cache = fixture.cache;
    cache
        .set_many(vec![("a", Some(1)), ("b", None), ("c", Some(3))])
        .await
        .unwrap();
    assert_eq!(
        cache
            .delete_many(vec!["a", "missing", "b", "a"])
            .await
            .unwrap(),
        2
    );
    assert_eq!(cache.delete_many(vec!["a", "b"]).await.unwrap(), 0);
    assert!(cache.has("c").await.unwrap());
}

async fn delete_many_does_not_count_expired_entries(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("expired", 1, fixture.ttl()).await.unwrap();
    cache.set_with("live", 1, Ttl::Never).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.delete_many(vec!["expired", "live"]).await.unwrap(), 1);
}

async fn a_batch_of_a_thousand(fixture: Fixture) {
    let cache = fixture.cache;
    let keys: Vec<_> = (0..1_000).map(|i| ("key", i)).collect();
    cache
        .set_many(keys.iter().map(|key| (*key, key.1)).collect())
        .await
        .unwrap();
    let values = cache.get_many::<i32>(keys.clone()).await.unwrap();
    assert_eq!(values, (0..1_000).map(Some).collect::<Vec<_>>());
    assert_eq!(cache.delete_many(keys).await.unwrap(), 1_000);
}
