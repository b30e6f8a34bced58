//! A value is read as it was stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use cacheio_core::{Local, Value};
use serde::{Deserialize, Serialize};

use crate::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_missing_key_is_none),
        case(a_value_is_read_as_it_was_set),
        case(a_reference_is_stored_like_its_value).needs(Optional::Add),
        case(none_is_a_value).needs(Optional::Add),
        case(set_replaces_the_value),
        case(has_agrees_with_get),
        case(get_arc_shares_the_value_on_memory),
        case(a_str_is_read_as_a_string),
        case(bytes_are_stored_as_they_are),
        case(an_integer_is_read_as_a_wider_one),
        case(a_struct_is_read_as_another_that_fits),
        case(a_wrong_type_is_a_decode_error_and_changes_nothing),
        case(get_or_set_overwrites_a_wrong_type),
        case(delete_returns_whether_an_entry_was_live),
        case(local_values_work_in_memory_only),
        case(an_unencodable_value_changes_nothing),
        case(get_or_set_returns_an_unencodable_value),
        case(what_json_does_not_keep_is_kept),
        case(what_json_does_not_keep_is_loaded_once),
        case(a_type_that_borrows_is_read_as_another),
        case(what_is_stored_can_be_read),
        case(add_stores_only_when_no_entry_is_live).needs(Optional::Add),
        case(add_is_atomic).needs(Optional::Add),
        case(a_clone_is_the_same_cache),
        case(the_store_responds_to_a_ping),
    ]
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    tags: Vec<String>,
}

fn ada() -> User {
    User {
        id: 42,
        name: "Ada".into(),
        tags: vec!["x".into(), String::new()],
    }
}

async fn a_missing_key_is_none(fixture: Fixture) {
    let cache = fixture.cache;
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
    assert!(cache.get_arc::<String>("k").await.unwrap().is_none());
    assert!(!cache.has("k").await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
}

async fn a_value_is_read_as_it_was_set(fixture: Fixture) {
    async fn round_trip<V: Value + PartialEq + std::fmt::Debug>(cache: &CacheApi, value: V) {
        cache.set("k", value.clone()).await.unwrap();
        assert_eq!(cache.get::<V>("k").await.unwrap(), Some(value.clone()));
        assert_eq!(
            cache.get_arc::<V>("k").await.unwrap().as_deref(),
            Some(&value)
        );
        assert_eq!(
            cache.get_many::<V>(vec!["k"]).await.unwrap(),
            [Some(value.clone())]
        );
        cache.delete("k").await.unwrap();
        assert_eq!(
            cache.get_or_set("k", || async { value.clone() }).await,
            value
        );
        assert_eq!(cache.get::<V>("k").await.unwrap(), Some(value));
    }
    let cache = &fixture.cache;
    round_trip(cache, true).await;
    round_trip(cache, u64::MAX).await;
    round_trip(cache, i64::MIN).await;
    round_trip(cache, -0.5_f64).await;
    round_trip(cache, f64::MAX).await;
    round_trip(cache, 'ß').await;
    round_trip(cache, ()).await;
    round_trip(cache, String::new()).await;
    round_trip(cache, String::from("7-bit, ünï, 🦀, \0, \r\n, \"quoted\"")).await;
    round_trip(cache, (1, String::from("a"), [2.5, 3.5])).await;
    round_trip(cache, vec![0_u8, 255, 128]).await;
    round_trip(
        cache,
        BTreeMap::from([(String::from("a"), vec![1]), (String::new(), vec![])]),
    )
    .await;
    round_trip(cache, Some(String::from("x"))).await;
    round_trip(cache, Ok::<u8, String>(1)).await;
    round_trip(cache, ada()).await;
    round_trip(cache, "x".repeat(1_000_000)).await;
}

async fn a_reference_is_stored_like_its_value(fixture: Fixture) {
    let cache = fixture.cache;
    let text = String::from("Ada");
    let map = HashMap::from([("a".to_owned(), vec![1]), ("b".to_owned(), vec![2, 3])]);
    cache.set("text", &text).await.unwrap();
    assert!(cache.add("number", &7_u32).await.unwrap());
    cache.set("vec", &map["b"]).await.unwrap();
    cache.set_many(map.iter().collect()).await.unwrap();
    cache.set("static", &"Eve").await.unwrap();
    cache.set("bytes", b"Eve".as_slice()).await.unwrap();
    assert_eq!(cache.get::<String>("text").await.unwrap(), Some(text));
    assert_eq!(cache.get::<u32>("number").await.unwrap(), Some(7));
    let eve = cache.get::<String>("static").await.unwrap();
    assert_eq!(eve.as_deref(), Some("Eve"));
    let bytes = cache.get::<Vec<u8>>("bytes").await.unwrap();
    assert_eq!(bytes.as_deref(), Some(b"Eve".as_slice()));
    assert_eq!(
        cache.get::<Vec<i32>>("vec").await.unwrap().as_ref(),
        Some(&map["b"])
    );
    for key in ["a", "b"] {
        assert_eq!(
            cache.get::<Vec<i32>>(key).await.unwrap().as_ref(),
            Some(&map[key])
        );
    }
}

async fn none_is_a_value(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", None::<u32>).await.unwrap();
    assert_eq!(cache.get::<Option<u32>>("k").await.unwrap(), Some(None));
    assert!(cache.has("k").await.unwrap());
    assert!(!cache.add("k", 1).await.unwrap());
    assert!(cache.delete("k").await.unwrap());
    assert_eq!(cache.get::<Option<u32>>("k").await.unwrap(), None);
}

async fn set_replaces_the_value(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    cache.set("k", "two").await.unwrap();
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("two")
    );
}

async fn has_agrees_with_get(fixture: Fixture) {
    let cache = fixture.cache.clone();
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    assert!(cache.has("k").await.unwrap());
    fixture.expire(fixture.ttl());
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
}

async fn get_arc_shares_the_value_on_memory(fixture: Fixture) {
    let cache = fixture.cache.clone();
    cache.set("k", ada()).await.unwrap();
    let one = cache.get_arc::<User>("k").await.unwrap().unwrap();
    let two = cache.get_arc::<User>("k").await.unwrap().unwrap();
    assert_eq!((&*one, &*two), (&ada(), &ada()));
    let shares = fixture.keeps_objects() || fixture.has_l1;
    assert_eq!(Arc::ptr_eq(&one, &two), shares);
}

async fn bytes_are_stored_as_they_are(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let all: Bytes = (0..=255).cycle().take(70_000).collect();
    let policies = Options::ttl(MINUTE).stale_for(MINUTE).tags(["tag"]);
    let marks = [&[0xC1, 1, 0, 0][..], b"", b"12", b"null", b"\"text\""];
    for bytes in marks.map(Bytes::from_static).into_iter().chain([all]) {
        for options in [Options::ttl(MINUTE), policies.clone()] {
            cache.set_with("k", bytes.clone(), options).await.unwrap();
            assert_eq!(cache.get("k").await.unwrap(), Some(bytes.clone()));
            let shared = cache.get_arc::<Bytes>("k").await.unwrap();
            assert_eq!(shared.as_deref(), Some(&bytes));
            let loaded: Bytes = cache.get_or_set("k", || async { unreachable!() }).await;
            assert_eq!(loaded, bytes);
            let found: Bytes = cache.get("k").await.unwrap().unwrap();
            // Empty ones have no address of their own.
            let is_shared = found.as_ptr() == bytes.as_ptr();
            assert!(bytes.is_empty() || is_shared == fixture.keeps_objects());
        }
    }
    let optional = || async { Some(Bytes::from_static(b"null")) };
    let loaded: Option<Bytes> = cache.get_or_set("optional", optional).await;
    assert_eq!(loaded.as_deref(), Some(&b"null"[..]));
    assert_eq!(cache.get("optional").await.unwrap(), Some(loaded.clone()));
    assert_eq!(cache.get("optional").await.unwrap(), loaded);
    cache.set("optional", None::<Bytes>).await.unwrap();
    let none = cache.get::<Option<Bytes>>("optional").await;
    assert_eq!(none.unwrap(), Some(None));
    // Other types are read as what a server has of them.
    cache.set("k", 12).await.unwrap();
    let digits = cache.get::<Bytes>("k").await.unwrap();
    assert_eq!(digits.as_deref(), Some(&b"12"[..]));
    cache.set("k", Bytes::from_static(b"\xff")).await.unwrap();
    let error = cache.get::<String>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
}

async fn a_str_is_read_as_a_string(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "7-bit &str").await.unwrap();
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("7-bit &str")
    );
    let loaded: String = cache
        .get_or_set("k", || async { unreachable!("it is there") })
        .await;
    assert_eq!(loaded, "7-bit &str");
}

async fn an_integer_is_read_as_a_wider_one(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 200_u8).await.unwrap();
    assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(200));
    assert_eq!(cache.get::<u128>("k").await.unwrap(), Some(200));
    assert_eq!(cache.get::<f64>("k").await.unwrap(), Some(200.0));
    assert_eq!(
        cache.get::<Option<u64>>("k").await.unwrap(),
        Some(Some(200))
    );
    let loaded: u64 = cache
        .get_or_set("k", || async { unreachable!("it is there") })
        .await;
    assert_eq!(loaded, 200);
}

async fn a_struct_is_read_as_another_that_fits(fixture: Fixture) {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Name {
        name: String,
    }
    let cache = fixture.cache;
    cache.set("k", ada()).await.unwrap();
    let name = Name { name: "Ada".into() };
    assert_eq!(cache.get::<Name>("k").await.unwrap(), Some(name.clone()));
    assert_eq!(*cache.get_arc::<Name>("k").await.unwrap().unwrap(), name);
    assert_eq!(cache.get::<User>("k").await.unwrap(), Some(ada()));
}

async fn a_wrong_type_is_a_decode_error_and_changes_nothing(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "text").await.unwrap();
    let error = cache.get::<u64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(
        error.to_string().contains("get_or_set and set replace it"),
        "{error}"
    );
    assert_eq!(
        cache.get_arc::<User>("k").await.unwrap_err().kind(),
        ErrorKind::Decode
    );
    assert!(cache.has("k").await.unwrap());
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("text")
    );
    cache.set("k", -1).await.unwrap();
    assert_eq!(
        cache.get::<u64>("k").await.unwrap_err().kind(),
        ErrorKind::Decode
    );
    cache.set("k", 256).await.unwrap();
    assert_eq!(
        cache.get::<u8>("k").await.unwrap_err().kind(),
        ErrorKind::Decode
    );
}

async fn get_or_set_overwrites_a_wrong_type(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "text").await.unwrap();
    assert_eq!(cache.get_or_set("k", || async { 7_u64 }).await, 7);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(7));
    cache.set("k", "text").await.unwrap();
    let failed = cache
        .get_or_try_set("k", || async { Err::<u64, _>("no") })
        .await;
    assert_eq!(failed.unwrap_err().load_error(), Some(&"no"));
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("text")
    );
}

async fn delete_returns_whether_an_entry_was_live(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    cache.set("other", 2).await.unwrap();
    assert!(cache.delete("k").await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    assert_eq!(cache.get::<i32>("other").await.unwrap(), Some(2));
}

async fn local_values_work_in_memory_only(fixture: Fixture) {
    #[derive(Debug, PartialEq)]
    struct NoSerde(u8);
    let cache = fixture.cache.clone();
    let set = cache.set("k", Local::new(NoSerde(1))).await;
    let added = cache.add("added", Local::new(NoSerde(2))).await;
    let loaded: Local<NoSerde> = cache
        .get_or_set("loaded", || async { Local::new(NoSerde(3)) })
        .await;
    assert_eq!(*loaded, NoSerde(3));
    if fixture.keeps_objects() {
        set.unwrap();
        assert!(added.unwrap());
        assert_eq!(
            *cache.get::<Local<NoSerde>>("k").await.unwrap().unwrap(),
            NoSerde(1)
        );
        assert_eq!(
            **cache.get_arc::<Local<NoSerde>>("k").await.unwrap().unwrap(),
            NoSerde(1)
        );
        let many = cache
            .get_many::<Local<NoSerde>>(vec!["k", "added", "loaded", "missing"])
            .await
            .unwrap();
        let many: Vec<_> = many
            .iter()
            .map(|value| value.as_ref().map(|value| value.0))
            .collect();
        assert_eq!(many, [Some(1), Some(2), Some(3), None]);
        assert_eq!(
            cache.get::<u8>("k").await.unwrap_err().kind(),
            ErrorKind::Decode
        );
        assert_eq!(
            cache.increment("k", 1).await.unwrap_err().kind(),
            ErrorKind::WrongType
        );
    } else {
        assert_eq!(set.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(added.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(!cache.has("k").await.unwrap() && !cache.has("loaded").await.unwrap());
    }
    cache.set("serde", 5).await.unwrap();
    assert_eq!(
        cache
            .get::<Local<NoSerde>>("serde")
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Decode
    );
}

/// Nested so deep that it could not be read again.
pub(crate) fn too_deep() -> serde_json::Value {
    (0..200).fold(serde_json::json!(1), |value, _| serde_json::json!([value]))
}

async fn an_unencodable_value_changes_nothing(fixture: Fixture) {
    let cache = fixture.cache.clone();
    cache.set("k", 1).await.unwrap();
    let set = cache.set("k", too_deep()).await;
    if fixture.keeps_objects() {
        set.unwrap();
        assert_eq!(
            cache.get::<serde_json::Value>("k").await.unwrap(),
            Some(too_deep())
        );
    } else {
        assert_eq!(set.unwrap_err().kind(), ErrorKind::Encode);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
        assert_eq!(
            cache.add("new", too_deep()).await.unwrap_err().kind(),
            ErrorKind::Encode
        );
        assert!(!cache.has("new").await.unwrap());
    }
}

async fn get_or_set_returns_an_unencodable_value(fixture: Fixture) {
    let cache = fixture.cache.clone();
    assert_eq!(
        cache.get_or_set("k", || async { too_deep() }).await,
        too_deep()
    );
    assert_eq!(cache.has("k").await.unwrap(), fixture.keeps_objects());
    assert_eq!(
        cache.stats().store_errors,
        u64::from(!fixture.keeps_objects())
    );
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rest {
    number: Option<u128>,
    by_number: BTreeMap<u32, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Wide {
        number: i128,
    },
    Keys {
        by_number: BTreeMap<i8, Option<Option<()>>>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Keys(BTreeMap<u16, Vec<f64>>),
    Wide(Vec<u128>),
}

/// Tells `None` from `Some(None)` by leaving the field out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Patch {
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    age: Option<Option<u8>>,
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    any: Option<Option<serde_json::Value>>,
}

fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Written as a text, and read as an enum.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
enum Level {
    Info,
}

impl Serialize for Level {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("Info")
    }
}

/// Keys that are numbers can be read in one variant, and not in the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Either {
    Plain(BTreeMap<u32, u8>),
    Tagged(Tagged),
}

async fn what_json_does_not_keep_is_kept(fixture: Fixture) {
    async fn round_trip<V: Value + PartialEq + std::fmt::Debug>(cache: &CacheApi, value: V) {
        cache.set("k", value.clone()).await.unwrap();
        assert_eq!(cache.get::<V>("k").await.unwrap().as_ref(), Some(&value));
        let many = vec![("a", value.clone()), ("b", value.clone())];
        cache.set_many(many).await.unwrap();
        let many = cache.get_many::<V>(vec!["a", "b"]).await.unwrap();
        assert_eq!(many, [Some(value.clone()), Some(value.clone())]);
        cache.delete("k").await.unwrap();
        let options = || Options::new().ttl(MINUTE).stale_for(MINUTE);
        cache.set_with("k", value.clone(), options()).await.unwrap();
        assert_eq!(cache.get::<V>("k").await.unwrap().as_ref(), Some(&value));
        let loaded = value.clone();
        let load = || async move { loaded };
        assert_eq!(cache.get_or_set_with("new", options(), load).await, value);
        assert_eq!(cache.get::<V>("new").await.unwrap(), Some(value));
        cache.clear().await.unwrap();
    }
    let cache = fixture.cache;
    round_trip(&cache, f64::INFINITY).await;
    round_trip(&cache, vec![0.5, f64::NEG_INFINITY]).await;
    round_trip(&cache, vec![Some(f32::INFINITY), None]).await;
    round_trip(&cache, Some(None::<u32>)).await;
    round_trip(&cache, None::<Option<u32>>).await;
    round_trip(&cache, Some(())).await;
    round_trip(
        &cache,
        vec![Some(Some(None)), Some(None), None, Some(Some(Some(1)))],
    )
    .await;
    round_trip(&cache, HashMap::from([((1, 2), 3)])).await;
    round_trip(&cache, HashMap::from([(None, 3), (Some('a'), 4)])).await;
    round_trip(&cache, BTreeMap::from([(Some(1), vec![f64::INFINITY])])).await;
    round_trip(&cache, vec![u128::MAX, 1]).await;
    round_trip(&cache, BTreeMap::from([(7, true)])).await;
    let by_number = BTreeMap::from([(7, 0.5), (8, f64::INFINITY)]);
    let rest = Rest {
        number: None,
        by_number,
    };
    round_trip(&cache, Flattened { rest }).await;
    let rest = Rest {
        number: None,
        by_number: BTreeMap::from([(7, 0.5)]),
    };
    round_trip(&cache, Flattened { rest }).await;
    let by_number = BTreeMap::from([(-1, Some(None)), (1, None), (2, Some(Some(())))]);
    round_trip(&cache, Tagged::Keys { by_number }).await;
    round_trip(&cache, Untagged::Keys(BTreeMap::from([(7, vec![0.5])]))).await;
    round_trip(&cache, Either::Plain(BTreeMap::from([(1, 2)]))).await;
    let by_number = BTreeMap::from([(1, None)]);
    round_trip(&cache, Either::Tagged(Tagged::Keys { by_number })).await;
    let (age, any) = (Some(None), Some(None));
    round_trip(&cache, Patch { age, any }).await;
    let (age, any) = (None, Some(Some(serde_json::json!([1]))));
    round_trip(&cache, Patch { age, any }).await;
    round_trip(&cache, vec![(Level::Info, Some(None::<u8>), None::<u8>)]).await;
    round_trip(&cache, vec![(Level::Info, Some(Some(1)))]).await;
    cache.set("k", [f64::NAN, 1.0]).await.unwrap();
    let read = cache.get::<Vec<f64>>("k").await.unwrap().unwrap();
    assert!(read[0].is_nan() && read[1] == 1.0, "{read:?}");
}

async fn what_json_does_not_keep_is_loaded_once(fixture: Fixture) {
    let cache = fixture.cache;
    let loads = Arc::new(AtomicUsize::new(0));
    for _ in 0..5 {
        let loads = Arc::clone(&loads);
        let load = || async move {
            loads.fetch_add(1, SeqCst);
            vec![0.5, f64::NAN]
        };
        assert!(cache.get_or_set("ratios", load).await[1].is_nan());
    }
    assert_eq!(loads.load(SeqCst), 1);
    assert_eq!(cache.stats().store_errors, 0);
}

/// A type that borrows is stored, and read as one that does not.
async fn a_type_that_borrows_is_read_as_another(fixture: Fixture) {
    #[derive(Serialize, Deserialize)]
    struct Borrowing {
        name: &'static str,
        by_number: BTreeMap<u32, u8>,
    }
    let cache = fixture.cache;
    let by_number = BTreeMap::from([(1, 2)]);
    let stored = Borrowing {
        name: "Ada",
        by_number,
    };
    cache.set("k", stored).await.unwrap();
    let read = cache.get::<serde_json::Value>("k").await.unwrap();
    let expected = serde_json::json!({"name": "Ada", "by_number": {"1": 2}});
    assert_eq!(read, Some(expected));
}

/// A store reports success only for values that callers can read.
async fn what_is_stored_can_be_read(fixture: Fixture) {
    async fn check<V: Value + PartialEq + std::fmt::Debug>(cache: &CacheApi, value: V) {
        cache.clear().await.unwrap();
        for stored in [
            cache.set("k", value.clone()).await,
            cache.set("k", &value).await,
            cache.set_many(vec![("k", value.clone())]).await,
        ] {
            match stored {
                Ok(()) => assert_eq!(cache.get::<V>("k").await.unwrap(), Some(value.clone())),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Encode);
                    assert!(!cache.has("k").await.unwrap());
                }
            }
        }
    }
    let cache = fixture.cache;
    check(&cache, too_deep()).await;
    let rest = Rest {
        number: Some(u128::MAX),
        by_number: BTreeMap::new(),
    };
    check(&cache, Flattened { rest: rest.clone() }).await;
    check(&cache, rest).await;
    check(&cache, Tagged::Wide { number: i128::MIN }).await;
    check(&cache, Untagged::Wide(vec![u128::MAX])).await;
    check(&cache, Untagged::Wide(vec![1])).await;
    for depth in 100..135 {
        let deep = (0..depth).fold(serde_json::json!(1), |value, _| serde_json::json!([value]));
        check(&cache, deep).await;
    }
}

async fn add_stores_only_when_no_entry_is_live(fixture: Fixture) {
    let cache = fixture.cache;
    assert!(cache.add("k", 1).await.unwrap());
    assert!(!cache.add("k", 2).await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    cache.delete("k").await.unwrap();
    assert!(cache.add("k", 3).await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(3));
}

async fn add_is_atomic(fixture: Fixture) {
    let adders = (0..32).map(|i| {
        fixture
            .cache
            .spawn(move |cache| async move { cache.add("k", i).await.unwrap().then_some(i) })
    });
    let winners: Vec<i32> = join_all(adders.collect())
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(
        fixture.cache.get::<i32>("k").await.unwrap(),
        Some(winners[0])
    );
}

async fn a_clone_is_the_same_cache(fixture: Fixture) {
    let clone = fixture.cache.clone();
    fixture.cache.set("k", 1).await.unwrap();
    assert_eq!(clone.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(fixture.cache.stats(), clone.stats());
    assert_eq!(fixture.cache.stats().hits, 1);
}

async fn the_store_responds_to_a_ping(fixture: Fixture) {
    fixture.cache.ping().await.unwrap();
}
