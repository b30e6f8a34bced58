//! What a store promises to the cache: the contract of `Store` and `AsyncStore`, tested without a cache. So a
//! case that fails names the method at fault.

mod atomicity;
mod optional;

use cacheio_core::{Entry, Form, KeyRule, Payload, TtlChange};

use crate::prelude::*;
use crate::store_api::{StoreApi, text, texts};

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        case(get_returns_what_set_stored),
        case(get_of_a_missing_key_is_none),
        case(values_come_back_in_the_form_of_the_store),
        case(bytes_come_back_unchanged),
        case(set_replaces_the_value),
        case(set_replaces_the_ttl),
        case(an_entry_is_live_until_its_ttl_ends),
        case(no_method_finds_an_entry_whose_ttl_has_ended),
        case(the_shortest_ttl_ends),
        case(an_entry_without_a_ttl_stays),
        case(the_longest_ttl_is_no_error),
        case(has_tells_whether_there_is_an_entry),
        case(delete_removes_one_entry),
        case(delete_tells_whether_the_entry_was_live),
        case(clear_removes_the_keys_with_the_prefix_and_no_others),
        case(clear_takes_its_prefix_literally),
        case(keys_are_compared_byte_by_byte),
        case(a_key_may_be_as_long_as_the_key_rule_says),
        case(get_many_keeps_the_order_of_the_keys),
        case(get_with_ttls_keeps_the_order_of_the_keys),
        case(set_many_stores_each_entry_with_its_ttl),
        case(set_many_stores_the_last_entry_of_a_key),
        case(delete_many_counts_the_entries_that_were_live),
    ];
    [cases, optional::cases(), atomicity::cases()].concat()
}

/// Checks what `get` returns.
async fn check(store: &StoreApi, key: &str, expected: Option<&str>, promise: &str) {
    let found = store.get(key).await.unwrap();
    assert_eq!(found.as_deref(), expected, "{promise}");
}

async fn get_returns_what_set_stored(fixture: Fixture) {
    let store = fixture.store();
    store.set("a", "first", None).await.unwrap();
    store.set("b", "second", Some(HOUR)).await.unwrap();
    let promise = "`get` returns the entry that `set` stored under the key";
    check(&store, "a", Some("first"), promise).await;
    check(&store, "b", Some("second"), promise).await;
    let large = "0123456789".repeat(10_000);
    store.set("large", &large, None).await.unwrap();
    check(&store, "large", Some(&large), promise).await;
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn get_of_a_missing_key_is_none(fixture: Fixture) {
    let store = fixture.store();
    let promise = "`get` returns `Ok(None)` for a key without an entry: that is no error";
    check(&store, "missing", None, promise).await;
    store.set("k", "value", None).await.unwrap();
    check(&store, "missing", None, promise).await;
}

async fn values_come_back_in_the_form_of_the_store(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "value", None).await.unwrap();
    let entry = store.get_entry("k").await.unwrap().unwrap();
    let form = match entry.payload {
        Payload::Bytes(_) => Form::Bytes,
        _ => Form::Objects,
    };
    assert_eq!(
        form,
        store.form(),
        "entries have the form that `form` returns"
    );
}

async fn bytes_come_back_unchanged(fixture: Fixture) {
    let store = fixture.store();
    if store.form() != Form::Bytes {
        return;
    }
    let all: Vec<u8> = (0..=255).collect();
    for bytes in [&b"\0"[..], b"\r\n", b" padded ", b"\xC3\x28", &all] {
        let entry = Entry::bytes(bytes.to_vec());
        store.set_entry("k", entry, None).await.unwrap();
        let entry = store.get_entry("k").await.unwrap().unwrap();
        let same = matches!(&entry.payload, Payload::Bytes(found) if found == bytes);
        assert!(
            same,
            "`get` returns exactly the bytes that `set` got: {bytes:?}"
        );
    }
}

async fn set_replaces_the_value(fixture: Fixture) {
    let store = fixture.store();
    store
        .set("k", "a value that is longer", None)
        .await
        .unwrap();
    store.set("k", "shorter", None).await.unwrap();
    let promise = "`set` replaces the value of an existing entry";
    check(&store, "k", Some("shorter"), promise).await;
}

async fn set_replaces_the_ttl(fixture: Fixture) {
    let store = fixture.store();
    let ttl = Some(fixture.ttl());
    for (key, before, after) in [
        ("shorter", None, ttl),
        ("forever", ttl, None),
        ("longer", ttl, Some(HOUR)),
    ] {
        store.set(key, "old", before).await.unwrap();
        store.set(key, "new", after).await.unwrap();
    }
    fixture.expire(fixture.ttl());
    let promise = "`set` replaces the TTL of an existing entry";
    check(&store, "shorter", None, promise).await;
    check(&store, "forever", Some("new"), promise).await;
    check(&store, "longer", Some("new"), promise).await;
}

async fn an_entry_is_live_until_its_ttl_ends(fixture: Fixture) {
    let store = fixture.store();
    let ttl = fixture.ttl();
    store.set("k", "value", Some(ttl)).await.unwrap();
    let promise = "an entry is live from the time when `set` returns until its TTL ends";
    check(&store, "k", Some("value"), promise).await;
    fixture
        .shortly_before(ttl, || check(&store, "k", Some("value"), promise))
        .await;
    check(&store, "k", None, promise).await;
}

async fn no_method_finds_an_entry_whose_ttl_has_ended(fixture: Fixture) {
    let store = fixture.store();
    for key in ["a", "b", "c"] {
        store.set(key, "old", Some(fixture.ttl())).await.unwrap();
    }
    fixture.expire(fixture.ttl());
    let promise = "no method treats an entry whose TTL has ended as present";
    check(&store, "a", None, &format!("`get`: {promise}")).await;
    assert!(!store.has("a").await.unwrap(), "`has`: {promise}");
    let found = store.get_many(&["a", "b"]).await.unwrap();
    assert_eq!(found, [None, None], "`get_many`: {promise}");
    let found = store.get_with_ttls(&["a", "b"]).await.unwrap();
    assert_eq!(texts(&found), [None, None], "`get_with_ttls`: {promise}");
    assert!(!store.delete("a").await.unwrap(), "`delete`: {promise}");
    let deleted = store.delete_many(&["b", "c"]).await.unwrap();
    assert_eq!(deleted, 0, "`delete_many`: {promise}");
}

async fn the_shortest_ttl_ends(fixture: Fixture) {
    let store = fixture.store();
    let ttl = Duration::from_nanos(1);
    store.set("k", "value", Some(ttl)).await.unwrap();
    fixture.expire(ttl);
    let promise = "a TTL is greater than zero, and ends however short it is: \
        a store that counts larger units rounds up, and never down to \"forever\"";
    check(&store, "k", None, promise).await;
}

async fn an_entry_without_a_ttl_stays(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "value", None).await.unwrap();
    fixture.expire(fixture.ttl());
    let promise = "an entry whose TTL is `None` lives forever";
    check(&store, "k", Some("value"), promise).await;
}

async fn the_longest_ttl_is_no_error(fixture: Fixture) {
    let store = fixture.store();
    let promise = "a TTL may be as long as `Ttl::MAX`, and never ends if that is too long for the \
        clock of the store";
    store
        .set("k", "value", Some(Ttl::MAX))
        .await
        .expect(promise);
    check(&store, "k", Some("value"), promise).await;
}

async fn has_tells_whether_there_is_an_entry(fixture: Fixture) {
    let store = fixture.store();
    let promise = "`has` returns whether there is a live entry";
    assert!(!store.has("k").await.unwrap(), "{promise}");
    store.set("k", "value", None).await.unwrap();
    assert!(store.has("k").await.unwrap(), "{promise}");
    store.delete("k").await.unwrap();
    assert!(!store.has("k").await.unwrap(), "{promise}");
}

async fn delete_removes_one_entry(fixture: Fixture) {
    let store = fixture.store();
    for key in ["k", "k2", "other"] {
        store.set(key, key, None).await.unwrap();
    }
    store.delete("k").await.unwrap();
    let promise = "`delete` removes the entry of its key, and no other";
    check(&store, "k", None, promise).await;
    check(&store, "k2", Some("k2"), promise).await;
    check(&store, "other", Some("other"), promise).await;
}

async fn delete_tells_whether_the_entry_was_live(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "value", None).await.unwrap();
    let deleted = store.delete("k").await.unwrap();
    assert!(deleted, "`delete` returns `true` when it removed an entry");
    let promise = "`delete` returns `false` when there was no entry";
    assert!(!store.delete("k").await.unwrap(), "{promise}");
    assert!(!store.delete("missing").await.unwrap(), "{promise}");
}

async fn clear_removes_the_keys_with_the_prefix_and_no_others(fixture: Fixture) {
    let store = fixture.store();
    for key in ["shop:a", "shop:b", "shop:", "shop", "shopping:a", "a:shop:"] {
        store.set(key, key, None).await.unwrap();
    }
    store.clear("shop:").await.unwrap();
    for key in ["shop:a", "shop:b", "shop:"] {
        let promise = "`clear` removes all entries whose keys begin with the prefix";
        check(&store, key, None, promise).await;
    }
    for key in ["shop", "shopping:a", "a:shop:"] {
        let promise = "`clear` removes no entry whose key does not begin with the prefix";
        check(&store, key, Some(key), promise).await;
    }
    store
        .clear("shop:")
        .await
        .expect("nothing is left to clear");
}

async fn clear_takes_its_prefix_literally(fixture: Fixture) {
    let store = fixture.store();
    for prefix in ["*:", "?:", "[a-z]:", "_:", "%:", ".:", "a\\:", "A:"] {
        store.set("a:k", "value", None).await.unwrap();
        store
            .set(&format!("{prefix}k"), "value", None)
            .await
            .unwrap();
        store.clear(prefix).await.unwrap();
        let promise = format!("the prefix {prefix:?} of `clear` is a text, and no pattern");
        check(&store, "a:k", Some("value"), &promise).await;
        check(&store, &format!("{prefix}k"), None, &promise).await;
    }
}

async fn keys_are_compared_byte_by_byte(fixture: Fixture) {
    let store = fixture.store();
    let keys = [
        "key",
        "KEY",
        "Key",
        "ke",
        "key1",
        "ké",
        "ke\u{301}",
        "a/b",
        "a.b",
        "..",
        "%6B",
    ];
    for key in keys {
        store.set(key, key, None).await.unwrap();
    }
    for key in keys {
        let promise = "different keys have different entries, also if they differ in case only";
        check(&store, key, Some(key), promise).await;
    }
}

async fn a_key_may_be_as_long_as_the_key_rule_says(fixture: Fixture) {
    let store = fixture.store();
    let longest = match store.key_rule() {
        KeyRule::Wire { max } => max,
        _ => 10_000,
    };
    let rest = longest - store.key("").len();
    let keys = ["a", "b"].map(|last| format!("{}{last}", "k".repeat(rest - 1)));
    for key in &keys {
        let stored = store.set(key, &key[rest - 1..], None).await;
        stored.expect("a key that the key rule allows can be stored");
    }
    let promise = "long keys are stored in full";
    check(&store, &keys[0], Some("a"), promise).await;
    check(&store, &keys[1], Some("b"), promise).await;
}

const BATCH: [&str; 6] = ["c", "missing", "a", "b", "c", "none"];

async fn store_batch(store: &StoreApi) -> [Option<String>; 6] {
    for key in ["a", "b", "c"] {
        store.set(key, key, None).await.unwrap();
    }
    ["c", "", "a", "b", "c", ""].map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

async fn get_many_keeps_the_order_of_the_keys(fixture: Fixture) {
    let store = fixture.store();
    let expected = store_batch(&store).await;
    let found = store.get_many(&BATCH).await.unwrap();
    assert_eq!(
        found, expected,
        "`get_many` returns one result for each key, in the order of the keys"
    );
}

async fn get_with_ttls_keeps_the_order_of_the_keys(fixture: Fixture) {
    let store = fixture.store();
    let expected = store_batch(&store).await;
    let found = store.get_with_ttls(&BATCH).await.unwrap();
    assert_eq!(
        texts(&found),
        expected,
        "`get_with_ttls` returns one result for each key, in the order of the keys"
    );
}

async fn set_many_stores_each_entry_with_its_ttl(fixture: Fixture) {
    let store = fixture.store();
    let entries = [
        ("short", "1", Some(fixture.ttl())),
        ("forever", "2", None),
        ("long", "3", Some(HOUR)),
    ];
    store.set_many(&entries).await.unwrap();
    for (key, value, _) in entries {
        check(&store, key, Some(value), "`set_many` stores all entries").await;
    }
    fixture.expire(fixture.ttl());
    let promise = "`set_many` stores each entry with its own TTL";
    check(&store, "short", None, promise).await;
    check(&store, "forever", Some("2"), promise).await;
    check(&store, "long", Some("3"), promise).await;
}

async fn set_many_stores_the_last_entry_of_a_key(fixture: Fixture) {
    let store = fixture.store();
    let entries = [("k", "1", None), ("other", "2", None), ("k", "3", None)];
    store.set_many(&entries).await.unwrap();
    let promise = "if a key occurs twice, `set_many` stores its last entry";
    check(&store, "k", Some("3"), promise).await;
}

async fn delete_many_counts_the_entries_that_were_live(fixture: Fixture) {
    let store = fixture.store();
    for key in ["a", "b", "kept"] {
        store.set(key, key, None).await.unwrap();
    }
    let deleted = store.delete_many(&["a", "missing", "b"]).await.unwrap();
    assert_eq!(
        deleted, 2,
        "`delete_many` counts the entries that were live"
    );
    let promise = "`delete_many` removes the entries of its keys, and no others";
    check(&store, "a", None, promise).await;
    check(&store, "b", None, promise).await;
    check(&store, "kept", Some("kept"), promise).await;
}
