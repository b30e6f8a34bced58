//! Foreign bytes under the keys of the cache.

use std::collections::BTreeMap;
use std::time::Duration;

use cacheio_core::ErrorKind;

use crate::env::{FaultEnv, FaultyServer};

type Value = BTreeMap<String, u32>;

fn fresh() -> Value {
    Value::from([("fresh".to_owned(), 1)])
}

fn garbage<S: FaultyServer>(_: &FaultEnv<S>) -> Vec<Vec<u8>> {
    let mut garbage: Vec<Vec<u8>> = [
        &b"\0"[..],
        b"\r\n",
        b"END\r\n",
        b"{",
        b"{\"fresh\":",
        b"{\"fresh\":-1}",
        b"{\"fresh\":1}{",
        b"\xFF\xFE\x00",
        b"\xC3\x28",
        // The first byte of a header, and headers that are truncated, have a wrong length, or come
        // from a later version.
        b"\xC1",
        b"\xC1\x01",
        b"\xC1\x01\x05",
        b"\xC1\x01\x05\x00",
        b"\xC1\x01\xFF\xFF{}",
        b"\xC1\x01\x02\x00\x01\xFF{}",
        b"\xC1\x01\x01\x00\x01",
        b"\xC1\x02\x00\x00{}",
        b"\xC1\x01\x00\x00",
        b"\xC1\xC1\xC1\xC1\xC1\xC1\xC1\xC1",
        // Numbers instead of maps.
        b"5",
        b"-",
        b"-0",
        b"99999999999999999999999999999999999999",
        b"1e999",
        b"NaN",
        // A Python pickle.
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    ]
    .map(<[u8]>::to_vec)
    .into();
    if S::HAS_EMPTY_ENTRIES {
        garbage.push(Vec::new());
    }
    garbage.push(b"[".repeat(200_000));
    garbage.push(b"{\"a\":".repeat(100_000));
    garbage.push(b"9".repeat(300_000));
    garbage
}

pub(crate) async fn garbage_under_a_key_is_a_decode_error(env: FaultEnv<impl FaultyServer>) {
    let cache = env.cache(Duration::from_secs(5));
    cache.set("neighbour", 1).await.unwrap();
    for bytes in garbage(&env) {
        let shown = bytes[..bytes.len().min(20)].escape_ascii().to_string();
        env.server.plant("cacheio:k", &bytes);
        let error = cache.get::<Value>("k").await.expect_err(&shown);
        assert_eq!(error.kind(), ErrorKind::Decode, "{shown}: {error}");
        assert!(cache.has("k").await.unwrap(), "{shown}");
        let loaded = cache.get_or_set("k", || async { fresh() }).await;
        assert_eq!(loaded, fresh());
        assert_eq!(
            cache.get::<Value>("k").await.unwrap(),
            Some(fresh()),
            "{shown}"
        );

        env.server.plant("cacheio:k", &bytes);
        match cache.increment("k", 1).await {
            Ok(count) => assert!((0..=6).contains(&count), "{shown}: {count}"),
            Err(error) => {
                let kind = error.kind();
                assert!(
                    matches!(kind, ErrorKind::WrongType | ErrorKind::Overflow),
                    "{shown}: {error}"
                );
            }
        }
        cache.set("k", fresh()).await.unwrap();
        assert_eq!(
            cache.get::<Value>("k").await.unwrap(),
            Some(fresh()),
            "{shown}"
        );
    }
    for digits in [
        "99999999999999999999999999999999999999",
        "9223372036854775808",
        "-9223372036854775809",
    ] {
        env.server.plant("cacheio:n", digits.as_bytes());
        assert_eq!(
            cache.get::<i64>("n").await.unwrap_err().kind(),
            ErrorKind::Decode
        );
        assert_eq!(cache.get_or_set("n", || async { 7_i64 }).await, 7);
        assert_eq!(cache.get::<i64>("n").await.unwrap(), Some(7));
    }
    assert_eq!(cache.get::<i32>("neighbour").await.unwrap(), Some(1));
}

pub(crate) async fn garbage_in_a_batch_is_an_error_with_its_key(env: FaultEnv<impl FaultyServer>) {
    let cache = env.cache(Duration::from_secs(5));
    for bytes in garbage(&env) {
        cache
            .set_many(vec![("a", fresh()), ("z", fresh())])
            .await
            .unwrap();
        env.server.plant("cacheio:k", &bytes);
        let error = cache
            .get_many::<Value>(vec!["a", "k", "z"])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.key(), Some("cacheio:k"));
        let others = cache.get_many::<Value>(vec!["z", "a"]).await.unwrap();
        assert_eq!(others, [Some(fresh()), Some(fresh())]);
    }
    assert_eq!(cache.delete_many(vec!["a", "k", "z"]).await.unwrap(), 3);
}
