//! Operations on several keys.

use std::collections::HashMap;

use crate::prelude::*;

pub(crate) async fn get_many_keeps_the_order_and_duplicates<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set_many(vec![("a", 1), ("b", 2)]).await.unwrap();
    let values = cache
        .get_many::<i32>(vec!["b", "missing", "a", "b", "b"])
        .await
        .unwrap();
    assert_eq!(values, [Some(2), None, Some(1), Some(2), Some(2)]);
}

pub(crate) async fn get_many_tells_none_from_missing<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("none", None::<u8>).await.unwrap();
    let values = cache
        .get_many::<Option<u8>>(vec!["missing", "none"])
        .await
        .unwrap();
    assert_eq!(values, [None, Some(None)]);
}

pub(crate) async fn get_many_of_a_wrong_type_names_the_key<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("number", 1).await.unwrap();
    cache.set("words", "not a number").await.unwrap();
    let error = cache
        .get_many::<i32>(vec!["number", "words"])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.key().unwrap().ends_with("words"), "{error}");
}

pub(crate) async fn empty_batches_do_nothing<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    // Not even a question to the store.
    breaker.all_fail(true);
    assert_eq!(cache.get_many::<i32>(Vec::<&str>::new()).await.unwrap(), []);
    cache.set_many(Vec::<(&str, i32)>::new()).await.unwrap();
    cache
        .set_many_with(Vec::<(&str, i32)>::new(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(cache.delete_many(Vec::<&str>::new()).await.unwrap(), 0);
}

pub(crate) async fn set_many_replaces_and_the_later_duplicate_stays<F: Face>(place: Place<F>) {
    let cache = place.cache;
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

pub(crate) async fn set_many_stores_nothing_if_one_value_cannot_be_encoded<F: Face>(
    place: Place<F>,
) {
    let cache = place.cache.clone();
    let bad = HashMap::from([((1, 2), 3)]);
    let set = cache
        .set_many(vec![("good", HashMap::new()), ("bad", bad)])
        .await;
    if place.keeps_objects() {
        set.unwrap();
        return;
    }
    let error = set.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert!(error.key().unwrap().ends_with("bad"), "{error}");
    assert!(!cache.has("good").await.unwrap());
}

pub(crate) async fn delete_many_counts_live_entries_once<F: Face>(place: Place<F>) {
    let cache = place.cache;
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

pub(crate) async fn delete_many_does_not_count_expired_entries<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("expired", 1, place.ttl()).await.unwrap();
    cache.set_with("live", 1, Ttl::Never).await.unwrap();
    place.expire(place.ttl());
    assert_eq!(cache.delete_many(vec!["expired", "live"]).await.unwrap(), 1);
}

pub(crate) async fn a_batch_of_a_thousand<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let keys: Vec<_> = (0..1_000).map(|i| ("key", i)).collect();
    cache
        .set_many(keys.iter().map(|key| (*key, key.1)).collect())
        .await
        .unwrap();
    let values = cache.get_many::<i32>(keys.clone()).await.unwrap();
    assert_eq!(values, (0..1_000).map(Some).collect::<Vec<_>>());
    assert_eq!(cache.delete_many(keys).await.unwrap(), 1_000);
}
