//! Any key is legal on any store, and different keys never collide.

use std::collections::HashSet;

use cacheio_core::{KeyRule, key_text};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(nasty_keys_are_distinct_and_round_trip).needs(Optional::Add),
        case(nasty_keys_in_batches),
        case(nasty_keys_can_be_counted_loaded_touched_and_deleted)
            .needs(Optional::Touch)
            .needs(Optional::Increment),
        case(different_tuples_are_different_keys).needs(Optional::Add),
        case(a_tuple_is_its_parts_joined),
        case(every_type_of_key_works),
        case(a_key_that_looks_like_a_replaced_key_is_another_key).needs(Optional::Add),
    ]
}

/// Keys that servers do not accept, that inject commands, or that are easily confused.
fn nasty() -> Vec<String> {
    let long = "x".repeat(300);
    let mut keys: Vec<String> = [
        "",
        " ",
        "  ",
        "a b",
        "a_b",
        "a  b",
        "a b ",
        " a b",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "a\0b",
        "a\x7Fb",
        "\x01",
        "nokey\r\nset pwn 0 0 5\r\nOWNED",
        "nokey\r\nflush_all",
        "a:b",
        "a%3Ab",
        "a%3ab",
        "%",
        "%none",
        "()",
        "[]",
        "a#b",
        "#",
        "ä",
        "a\u{308}",
        "🦀",
        "\u{A0}",
        "\u{2028}",
        "\u{202E}",
        "*",
        "?",
        "user:*",
        "{tag}",
        "cacheio:a",
        ":",
        "::",
        "Key",
        "key",
        "KEY",
    ]
    .map(String::from)
    .into();
    keys.extend([
        long.clone(),
        format!("{long}y"),
        format!("{long} "),
        "ä".repeat(150),
        "🦀".repeat(100),
    ]);
    keys.extend((240..=260).map(|len| "k".repeat(len)));
    keys.extend([
        format!("{}a", "m".repeat(1 << 20)),
        format!("{}b", "m".repeat(1 << 20)),
    ]);
    keys
}

async fn nasty_keys_are_distinct_and_round_trip(fixture: Fixture) {
    let cache = fixture.cache;
    for (i, key) in nasty().iter().enumerate() {
        assert!(
            cache.add(key, i).await.unwrap(),
            "{:?} is another's",
            &key[..key.len().min(300)]
        );
    }
    for (i, key) in nasty().iter().enumerate() {
        assert_eq!(cache.get::<usize>(key).await.unwrap(), Some(i));
    }
}

async fn nasty_keys_in_batches(fixture: Fixture) {
    let cache = fixture.cache;
    cache
        .set_many(
            nasty()
                .into_iter()
                .zip(0..)
                .collect::<Vec<(String, usize)>>(),
        )
        .await
        .unwrap();
    let values = cache.get_many::<usize>(nasty()).await.unwrap();
    assert_eq!(values, (0..nasty().len()).map(Some).collect::<Vec<_>>());
    assert_eq!(cache.delete_many(nasty()).await.unwrap(), nasty().len());
}

async fn nasty_keys_can_be_counted_loaded_touched_and_deleted(fixture: Fixture) {
    let cache = fixture.cache;
    for key in nasty() {
        assert_eq!(cache.increment(&key, 1).await.unwrap(), 1);
        assert_eq!(cache.get_or_set(&key, || async { 0 }).await, 1);
        assert!(cache.touch(&key, Ttl::Never).await.unwrap());
        assert!(cache.has(&key).await.unwrap());
        assert!(cache.delete(&key).await.unwrap());
        assert_eq!(cache.get_or_set(&key, || async { 7 }).await, 7);
        assert_eq!(cache.get::<i32>(&key).await.unwrap(), Some(7));
    }
}

async fn different_tuples_are_different_keys(fixture: Fixture) {
    let cache = fixture.cache;
    assert!(cache.add(("a", "b:c"), 0).await.unwrap());
    assert!(cache.add(("a:b", "c"), 0).await.unwrap());
    assert!(cache.add(("a", "b", "c"), 0).await.unwrap());
    assert!(cache.add((("a", "b"), "c"), 0).await.unwrap());
    assert!(cache.add(("a", ("b", "c")), 0).await.unwrap());
    assert!(cache.add(("(a:b)", "c"), 0).await.unwrap());
    assert!(cache.add((["a", "b"], "c"), 0).await.unwrap());
    assert!(cache.add(("[a:b]", "c"), 0).await.unwrap());
    assert!(cache.add(("a", ""), 0).await.unwrap());
    assert!(cache.add(("", "a"), 0).await.unwrap());
    assert!(cache.add(("", ""), 0).await.unwrap());
    assert!(cache.add(("", "", ""), 0).await.unwrap());
    assert!(cache.add(("a", None::<&str>), 0).await.unwrap());
    assert!(cache.add(("a", Some("%none")), 0).await.unwrap());
    assert!(cache.add(("a", Some("none")), 0).await.unwrap());
    assert!(cache.add(("a b", "c"), 0).await.unwrap());
    assert!(cache.add(("a_b", "c"), 0).await.unwrap());
    assert!(cache.add(("a%3Ab", "c"), 0).await.unwrap());
    assert!(cache.add((1, 23), 0).await.unwrap());
    assert!(cache.add((12, 3), 0).await.unwrap());
}

async fn a_tuple_is_its_parts_joined(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set(("user", 42), "Ada").await.unwrap();
    assert_eq!(
        cache.get::<String>("user:42").await.unwrap().as_deref(),
        Some("Ada")
    );
    assert_eq!(
        cache
            .get::<String>(("user", "42"))
            .await
            .unwrap()
            .as_deref(),
        Some("Ada")
    );
}

async fn every_type_of_key_works(fixture: Fixture) {
    let cache = fixture.cache;
    let uuid = uuid::Uuid::from_u128(7);
    let parts = (
        "text",
        String::from("text"),
        -1_i8,
        u128::MAX,
        true,
        'ß',
        uuid,
        Some(1),
    );
    cache.set(parts.clone(), 1).await.unwrap();
    assert!(cache.delete(&parts).await.unwrap());
    cache.set(i128::MIN, 1).await.unwrap();
    cache.set(false, 2).await.unwrap();
    cache.set('ß', 3).await.unwrap();
    cache.set(uuid, 4).await.unwrap();
    cache.set([1_u8, 2], 5).await.unwrap();
    cache.set(vec!["a"], 6).await.unwrap();
    cache.set((), 7).await.unwrap();
    cache.set(Box::new("boxed"), 8).await.unwrap();
    cache.set(Arc::new(("shared", 1)), 9).await.unwrap();
    let texts: HashSet<String> = [
        key_text(i128::MIN),
        key_text(false),
        key_text('ß'),
        key_text(uuid),
        key_text([1, 2]),
        key_text(["a"]),
        key_text(()),
        key_text("boxed"),
        key_text(("shared", 1)),
    ]
    .into();
    assert_eq!(
        cache
            .delete_many(texts.into_iter().collect())
            .await
            .unwrap(),
        9
    );
}

/// A caller cannot reach the entry of a replaced key by its replacement.
async fn a_key_that_looks_like_a_replaced_key_is_another_key(fixture: Fixture) {
    let cache = fixture.cache;
    let prefix = match cache.namespace() {
        "" => String::new(),
        namespace => format!("{namespace}:"),
    };
    let replaced = KeyRule::Wire { max: 250 }
        .legal(&format!("{prefix}a b"))
        .into_owned();
    let forged = replaced.strip_prefix(&prefix).unwrap();
    cache.set("a b", 1).await.unwrap();
    assert!(cache.add(forged, 2).await.unwrap());
    assert_eq!(cache.get::<i32>("a b").await.unwrap(), Some(1));
    assert_eq!(cache.get::<i32>(forged).await.unwrap(), Some(2));
}
