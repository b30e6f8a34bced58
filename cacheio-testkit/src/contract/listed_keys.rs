//! Keys that `keys` and `entries` list, as arguments of the other methods.

use std::collections::HashSet;

use cacheio_core::ListedKey;

use crate::api::TypedApi;
use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        case(every_listed_key_can_be_deleted),
        case(listed_keys_can_be_deleted_together),
        case(a_listed_key_finds_just_its_entry),
        case(a_listed_key_writes_its_entry),
        case(listed_entries_have_such_keys).needs(Optional::TtlLeft),
        case(a_listed_key_has_a_ttl).needs(Optional::TtlLeft),
        case(a_listed_key_is_touched).needs(Optional::Touch),
    ];
    let needing = |case: Case| case.needs(Optional::Keys);
    cases.into_iter().map(needing).collect()
}

/// The texts of the keys that `store` stores, except those of the handle.
const TEXTS: [&str; 9] = [
    "a",
    ":",
    ":a",
    "::a",
    ":::a",
    ":user:1",
    "user:1",
    "user:(1:2)",
    ":user",
];

/// How many entries `store` stores.
const COUNT: usize = TEXTS.len() + 4;

/// Stores an entry with a number of its own under keys of every kind. The keys of handles and those of others look
/// alike.
async fn store(cache: &CacheApi) {
    for (number, text) in TEXTS.into_iter().enumerate() {
        cache.set(text, number).await.unwrap();
    }
    cache.set(("", "user", 2), TEXTS.len()).await.unwrap();
    cache.set(("user", "a:b"), TEXTS.len() + 1).await.unwrap();
    let users: TypedApi<u64, usize> = cache.typed("user");
    users.set(1, TEXTS.len() + 2).await.unwrap();
    let unnamed: TypedApi<String, usize> = cache.typed("");
    unnamed.set(":a".into(), TEXTS.len() + 3).await.unwrap();
}

async fn stored(fixture: &Fixture) -> Vec<ListedKey> {
    store(&fixture.cache).await;
    let keys = fixture.cache.keys(100).await.unwrap();
    assert_eq!(keys.len(), COUNT, "{keys:?}");
    keys
}

async fn every_listed_key_can_be_deleted(fixture: Fixture) {
    let cache = &fixture.cache;
    for (at, key) in stored(&fixture).await.into_iter().enumerate() {
        let was_live = match at % 2 {
            0 => cache.delete(&key).await.unwrap(),
            _ => cache.delete(key.clone()).await.unwrap(),
        };
        assert!(was_live, "{key}");
        assert!(!cache.has(key).await.unwrap());
        assert_eq!(cache.keys(100).await.unwrap().len(), COUNT - 1 - at);
    }
}

async fn listed_keys_can_be_deleted_together(fixture: Fixture) {
    let cache = &fixture.cache;
    let keys = stored(&fixture).await;
    assert_eq!(cache.delete_many(keys).await.unwrap(), COUNT);
    assert_eq!(cache.keys(100).await.unwrap(), [""; 0]);
}

async fn a_listed_key_finds_just_its_entry(fixture: Fixture) {
    let cache = &fixture.cache;
    let keys = stored(&fixture).await;
    let many = cache.get_many::<usize>(keys.clone()).await.unwrap();
    let mut found = HashSet::new();
    for (key, of_many) in keys.iter().zip(many) {
        let value = cache.get::<usize>(key).await.unwrap();
        assert_eq!(value, of_many);
        assert!(cache.has(key).await.unwrap());
        let shared = cache.get_arc::<usize>(key).await.unwrap();
        assert_eq!(shared.as_deref(), value.as_ref());
        let loaded = cache.get_or_set(key, || async { usize::MAX }).await;
        assert_eq!(Some(loaded), value);
        found.extend(value);
    }
    assert_eq!(found.len(), COUNT);
}

async fn a_listed_key_writes_its_entry(fixture: Fixture) {
    let cache = &fixture.cache;
    let keys = stored(&fixture).await;
    for key in &keys {
        cache.set(key, 100_usize).await.unwrap();
    }
    for text in TEXTS {
        assert_eq!(cache.get::<usize>(text).await.unwrap(), Some(100), "{text}");
    }
    let users: TypedApi<u64, usize> = cache.typed("user");
    assert_eq!(users.get(1).await.unwrap(), Some(100));
    let entries = keys.iter().map(|key| (key, 200_usize)).collect();
    cache.set_many(entries).await.unwrap();
    assert_eq!(users.get(1).await.unwrap(), Some(200));
    assert_eq!(cache.keys(100).await.unwrap(), keys);
}

async fn listed_entries_have_such_keys(fixture: Fixture) {
    let keys = stored(&fixture).await;
    let cache = &fixture.cache;
    let entries = cache.entries::<usize>(100).await.unwrap();
    assert_eq!(entries.len(), COUNT);
    for (entry, key) in entries.iter().zip(&keys) {
        assert_eq!(&entry.key, key);
        let value = cache.get::<usize>(&entry.key).await.unwrap();
        assert_eq!(value, Some(entry.value));
    }
}

async fn a_listed_key_has_a_ttl(fixture: Fixture) {
    for key in stored(&fixture).await {
        assert!(fixture.cache.ttl(&key).await.unwrap().is_some(), "{key}");
    }
}

async fn a_listed_key_is_touched(fixture: Fixture) {
    let cache = &fixture.cache;
    for key in stored(&fixture).await {
        assert!(cache.touch(&key, fixture.ttl()).await.unwrap(), "{key}");
    }
    fixture.expire(fixture.ttl());
    assert_eq!(cache.keys(100).await.unwrap(), [""; 0]);
}
