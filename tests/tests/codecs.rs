//! What holds with every codec, in memory and on a store of bytes.

#![cfg(not(shuttle))]

use std::time::Duration;

use cacheio_core::{Codec, Compressed, ErrorKind, Json, MessagePack, Options, Postcard};
use cacheio_sync::Cache;
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::{bytes, memory};

/// Opens a cache in memory and one on bytes, with each codec.
fn caches() -> Vec<Cache> {
    let mut caches = Vec::new();
    fn open(caches: &mut Vec<Cache>, codec: impl Codec + Clone) {
        let env = TestEnv::new(Time::system());
        let on_bytes = Cache::builder().store(bytes(&env)).codec(codec.clone());
        caches.push(on_bytes.build().unwrap());
        let in_memory = Cache::builder().store(memory(&env)).codec(codec);
        caches.push(in_memory.build().unwrap());
    }
    open(&mut caches, Json);
    open(&mut caches, MessagePack);
    open(&mut caches, Postcard);
    open(&mut caches, Compressed::zstd(Json).above(16));
    open(&mut caches, Compressed::lz4(MessagePack).above(16));
    open(&mut caches, Compressed::zstd(Postcard).above(16));
    caches
}

#[test]
fn counters_work_with_every_codec() {
    for cache in caches() {
        assert_eq!(cache.increment("new", 5).unwrap(), 5);
        cache.set("set", 7_u8).unwrap();
        assert_eq!(cache.increment("set", -10).unwrap(), -3);
        assert_eq!(cache.get::<i64>("set").unwrap(), Some(-3));
        assert_eq!(cache.get::<i8>("set").unwrap(), Some(-3));
        assert_eq!(
            cache.get_many::<i64>(["new", "set"]).unwrap(),
            [Some(5), Some(-3)]
        );
        cache.set("text", "5").unwrap();
        let refused = cache.increment("text", 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WrongType, "{cache:?}");
        assert_eq!(cache.get::<String>("text").unwrap().as_deref(), Some("5"));
    }
}

#[test]
fn integers_with_policies_count_with_every_codec() {
    let minute = Duration::from_secs(60);
    for cache in caches() {
        let kept = Options::new().ttl(minute).stale_for(minute);
        cache.set_with("k", 1_i32, kept.clone()).unwrap();
        assert_eq!(cache.get::<u64>("k").unwrap(), Some(1), "{cache:?}");
        assert_eq!(cache.increment("k", 41).unwrap(), 42, "{cache:?}");
        assert_eq!(cache.get::<Option<u8>>("k").unwrap(), Some(Some(42)));
        assert_eq!(cache.get_or_set_with("loaded", kept, || -5_i8), -5);
        assert_eq!(cache.increment("loaded", 6).unwrap(), 1, "{cache:?}");
    }
}

#[test]
fn an_integer_is_read_as_another_integer_type_with_every_codec() {
    for cache in caches() {
        cache.set("k", 5_u32).unwrap();
        assert_eq!(cache.get::<i64>("k").unwrap(), Some(5), "{cache:?}");
        assert_eq!(cache.get::<u8>("k").unwrap(), Some(5), "{cache:?}");
        assert_eq!(cache.get::<Option<u64>>("k").unwrap(), Some(Some(5)));
        cache.set("k", u64::MAX).unwrap();
        assert_eq!(cache.get::<u64>("k").unwrap(), Some(u64::MAX));
        let refused = cache.get::<i64>("k").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Decode, "{cache:?}");
    }
}

#[test]
fn bytes_that_look_like_an_integer_or_a_header_round_trip_with_every_codec() {
    for cache in caches() {
        // For some of these, `Postcard` and `MessagePack` write digits, `C0` or `C1`.
        for text in [
            "",
            "5",
            "-17",
            "\u{1}7",
            "a text that is long enough to be compressed",
        ] {
            cache.set("k", text).unwrap();
            assert_eq!(cache.get::<String>("k").unwrap().as_deref(), Some(text));
        }
        for byte in 0..=u8::MAX {
            let value = (byte as char, vec![byte; 3], Some(byte));
            cache.set("k", value.clone()).unwrap();
            assert_eq!(cache.get("k").unwrap(), Some(value), "{cache:?}");
            cache.set("k", byte % 2 == 0).unwrap();
            assert_eq!(cache.get("k").unwrap(), Some(byte % 2 == 0));
            cache.set("k", vec![(); usize::from(byte)]).unwrap();
            assert_eq!(cache.get("k").unwrap(), Some(vec![(); usize::from(byte)]));
        }
        cache.set("k", None::<String>).unwrap();
        assert_eq!(cache.get::<Option<String>>("k").unwrap(), Some(None));
    }
}
