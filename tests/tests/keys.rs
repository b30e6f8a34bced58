//! Different keys have different texts, and any text becomes a legal key.

#![cfg(not(shuttle))]

use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{
    CacheKey, Entry, ErrorKind, Form, Key, KeyRule, Operation, Result, Store, key_text,
};
use cacheio_sync::Cache;
use cacheio_tests::stores::Yielding;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Texts that look like a join, an escape, or a missing value.
fn nasty() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[:%()\\[\\]# \r\n\t_a0]{0,6}",
        Just(String::from("%none")),
        Just(String::from("none")),
        Just(String::from("%3A")),
        Just(String::from("()")),
        Just(String::from("[]")),
        "[ä🦀\u{0}\u{7f}\u{a0}:%]{0,4}",
        Just("x".repeat(300)),
    ];
    prop_oneof![4 => part.clone(), 1 => (part.clone(), part).prop_map(|(a, b)| a + &b)]
}

fn differ<K: CacheKey + PartialEq + std::fmt::Debug>(
    one: &K,
    two: &K,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        one == two,
        key_text(one) == key_text(two),
        "{:?} and {:?}",
        key_text(one),
        key_text(two)
    );
    // Also inside another tuple.
    prop_assert_eq!(one == two, key_text((1, one, 2)) == key_text((1, two, 2)));
    Ok(())
}

const WIRE: KeyRule = KeyRule::Wire { max: 250 };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn different_pairs_are_different_keys(one in (nasty(), nasty()), two in (nasty(), nasty())) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_nested_tuples_are_different_keys(
        one in ((nasty(), nasty()), nasty(), (nasty(),)),
        two in ((nasty(), nasty()), nasty(), (nasty(),)),
    ) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_options_are_different_keys(
        one in (option::of(nasty()), option::of(nasty())),
        two in (option::of(nasty()), option::of(nasty())),
    ) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_lists_are_different_keys(one in (vec(nasty(), 0..4), nasty()), two in (vec(nasty(), 0..4), nasty())) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_lists_of_lists_are_different_keys(
        one in vec(vec(option::of(nasty()), 0..3), 0..3),
        two in vec(vec(option::of(nasty()), 0..3), 0..3),
    ) {
        differ(&one, &two)?;
    }

    #[test]
    fn a_pair_is_no_triple(one in (nasty(), nasty()), two in (nasty(), nasty(), nasty())) {
        prop_assert_ne!(key_text(&one), key_text(&two));
        prop_assert_ne!(key_text((0, &one)), key_text((0, &two)));
        let nested = ((two.0.clone(), two.1.clone()), two.2.clone());
        prop_assert_ne!(key_text(&two), key_text(nested));
    }

    #[test]
    fn any_text_is_made_legal(text in nasty(), more in ".{0,300}") {
        for text in [text.clone(), more.clone(), format!("{text}{more}")] {
            let legal = WIRE.legal(&text);
            prop_assert!((1..=250).contains(&legal.len()));
            prop_assert!(!legal.chars().any(|c| c == ' ' || c.is_ascii_control()), "{legal:?}");
            // A replacement used as a key is replaced again: no caller can name a replaced key.
            if legal != text {
                prop_assert_ne!(WIRE.legal(&legal), legal.clone());
            }
            prop_assert_eq!(WIRE.legal(&text), legal, "it is the same each time");
            prop_assert_eq!(KeyRule::Any.legal(&text), text.as_str());
        }
    }

    #[test]
    fn different_texts_stay_different(one in nasty(), two in nasty(), max in 64_usize..300) {
        let rule = KeyRule::Wire { max };
        prop_assert_eq!(one == two, rule.legal(&one) == rule.legal(&two));
        prop_assert!(rule.legal(&one).len() <= max);
    }
}

/// Different values of one type, each alone and as a part.
#[track_caller]
fn all_differ<K: CacheKey>(keys: &[K]) {
    for (i, one) in keys.iter().enumerate() {
        for two in &keys[i + 1..] {
            assert_ne!(key_text(one), key_text(two));
            assert_ne!(key_text((one, 1)), key_text((two, 1)));
            assert_ne!(key_text((1, (one, 1))), key_text((1, (two, 1))));
            assert_ne!(key_text([one]), key_text([two]));
            assert_ne!(key_text(Some(one)), key_text(Some(two)));
        }
    }
}

#[test]
fn the_nones_of_a_nested_option_are_different_keys() {
    all_differ(&[None, Some(None), Some(Some(None)), Some(Some(Some(1)))]);
    all_differ(&[
        None,
        Some(None),
        Some(Some("%none")),
        Some(Some("%some")),
        Some(Some("%some%none")),
        Some(Some("")),
    ]);
    all_differ(&[
        vec![],
        vec![None],
        vec![Some(None)],
        vec![None, None],
        vec![Some(Some(1))],
    ]);
}

#[test]
fn an_empty_list_differs_from_a_list_of_an_empty_text() {
    all_differ(&[vec![], vec![""], vec!["", ""], vec!["%"], vec!["%25"]]);
    all_differ(&[
        vec![],
        vec![vec![]],
        vec![vec![""]],
        vec![vec![], vec![]],
        vec![vec!["%"]],
        vec![vec!["[%]"]],
    ]);
    all_differ(&[None, Some(vec![]), Some(vec![""]), Some(vec!["%none"])]);
}

#[test]
fn none_differs_from_every_text() {
    all_differ(&[None, Some("%none"), Some("none"), Some("%25none"), Some("")]);
    all_differ(&[None, Some(("%none",)), Some(("none",)), Some(("",))]);
}

#[test]
fn an_optional_text_is_written_like_a_part() {
    assert_eq!(key_text(Some("a:b")), "a%3Ab");
    assert_eq!(key_text((Some("a:b"), 1)), "a%3Ab:1");
    assert_eq!(key_text(Some(("a", "b"))), "(a:b)");
    assert_eq!(key_text(Some(7)), "7");
    assert_eq!(key_text("a:b"), "a:b");
}

#[test]
fn unit_and_none_are_written_as_text() {
    assert_eq!(key_text(()), "%unit");
    assert_eq!(key_text(((),)), "%unit");
    assert_eq!(key_text(("a", ())), "a:%unit");
    assert_eq!(key_text([(); 0]), "[%]");
    assert_eq!(key_text(None::<()>), "%none");
    all_differ(&[vec![], vec![()], vec![(), ()]]);
    all_differ(&[vec![], vec![((),)], vec![((),), ((),)]]);
    all_differ(&[None, Some(())]);
    all_differ(&[None, Some(((),))]);
}

#[test]
fn a_legal_key_is_not_changed() {
    for text in ["user:42", "a", "%3A", "#", "ünï:🦀", &"x".repeat(250)] {
        assert_eq!(WIRE.legal(text), text);
    }
}

/// A store with the shortest permitted limit for keys. It never gets an entry.
#[derive(Debug)]
struct ShortKeys;

impl Store for ShortKeys {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn key_rule(&self) -> KeyRule {
        KeyRule::Wire { max: 64 }
    }

    fn get(&self, _: &Key<'_>) -> Result<Option<Entry>> {
        Ok(None)
    }

    fn set(&self, _: &Key<'_>, _: Entry, _: Option<Duration>) -> Result<()> {
        Ok(())
    }

    fn delete(&self, _: &Key<'_>) -> Result<bool> {
        Ok(false)
    }

    fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

/// A replaced key keeps the namespace as its prefix, because `clear` needs it. Of 64 bytes, the
/// replacement takes 41, and one joins the namespace.
#[test]
fn a_namespace_too_long_for_the_stores_keys_is_refused() {
    let build = |namespace: &str| {
        let threads = Cache::builder()
            .store(ShortKeys)
            .namespace(namespace)
            .build();
        let tasks = AsyncCache::builder()
            .store(Yielding(ShortKeys))
            .namespace(namespace)
            .build();
        [threads.map(drop), tasks.map(drop)]
    };
    let escaped = format!("{}:", "n".repeat(20));
    for namespace in ["n".repeat(50), "n".repeat(23), escaped] {
        for refused in build(&namespace) {
            let error = refused.unwrap_err();
            assert_eq!(
                (error.kind(), error.operation()),
                (ErrorKind::Config, Some(Operation::Build))
            );
            assert!(error.to_string().contains("namespace"), "{error}");
        }
    }
    for built in build(&"n".repeat(22)) {
        built.unwrap();
    }
}

#[test]
fn keys_from_the_standard_library() {
    use std::ffi::OsStr;
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::num::NonZero;
    use std::path::{Path, PathBuf};

    assert_eq!(key_text((Path::new("a/b:c"), 1)), "a/b%3Ac:1");
    assert_eq!(key_text(PathBuf::from("/a/b")), "/a/b");
    // Equal paths are one key.
    assert_eq!(key_text(Path::new("a//b/./c/")), "a/b/c");
    assert_eq!(key_text(OsStr::new("a")), "a");
    assert_eq!(key_text(Duration::from_millis(1)), "1000000");
    assert_eq!(key_text(NonZero::new(7_u64).unwrap()), "7");
    assert_eq!(key_text(NonZero::new(-7_i8).unwrap()), "-7");
    let v4: SocketAddrV4 = "10.0.0.1:80".parse().unwrap();
    let v6: SocketAddrV6 = "[::1]:80".parse().unwrap();
    assert_eq!(key_text(v4), "10.0.0.1:80");
    assert_eq!(key_text(v6), key_text(SocketAddr::V6(v6)));
    let with_flow = SocketAddrV6::new(*v6.ip(), 80, 5, 0);
    assert_ne!(key_text(with_flow), key_text(v6));
    assert_eq!(
        key_text((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)),
        "1:2:3:4:5:6:7:8:9:10:11:12"
    );
}

#[cfg(unix)]
#[test]
fn paths_that_are_not_text_are_different_keys() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    let path = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
    assert_eq!(key_text((path(b"\xff"), 1)), "%bytesff:1");
    assert_ne!(key_text(path(b"a\xff")), key_text(path(b"a\xfe")));
    assert_ne!(key_text((path(b"\xff"), 1)), key_text(("%bytesff", 1)));
    assert_ne!(key_text(path(b"\xff")), key_text(path(b"%bytesff")));
}
