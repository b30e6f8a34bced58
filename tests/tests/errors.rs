//! The messages of errors.

#![cfg(not(shuttle))]

use std::error::Error as StdError;
use std::sync::Arc;

use cacheio_core::{Error, ErrorKind, LoadError, Operation, Options};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::{self, Failing};

fn memory() -> Cache {
    Cache::builder()
        .store(Memory::with_capacity(10))
        .build()
        .unwrap()
}

fn bytes() -> Cache {
    let store = stores::bytes(&TestEnv::new(Time::manual()));
    Cache::builder().store(store).build().unwrap()
}

/// Checks what holds for every error.
fn reads_well(error: &Error, kind: ErrorKind, begins: &str, contains: &str) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(
        text.starts_with(begins),
        "`{text}` does not begin with `{begins}`"
    );
    assert!(
        text.contains(contains),
        "`{text}` does not contain `{contains}`"
    );
    assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
    let mut source = error.source();
    while let Some(cause) = source {
        assert!(
            !text.contains(&cause.to_string()),
            "`{text}` repeats its source `{cause}`"
        );
        source = cause.source();
    }
    let debug = format!("{error:?}");
    assert!(debug.contains(&format!("{kind:?}")), "{debug}");
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    let cache = memory();
    cache.set("text", "no number").unwrap();
    cache.set("max", i64::MAX).unwrap();
    reads_well(
        &cache.get::<u64>("text").unwrap_err(),
        ErrorKind::Decode,
        "get `text`: ",
        "get_or_set and set replace it",
    );
    reads_well(
        &cache.get_many::<u64>(["text"]).unwrap_err(),
        ErrorKind::Decode,
        "get_many `text`: ",
        "u64",
    );
    reads_well(
        &bytes()
            .set("k", f64::NAN)
            .and_then(|()| bytes().get::<u8>("k"))
            .map(drop)
            .err()
            .unwrap_or_else(wrong),
        ErrorKind::Decode,
        "get",
        "u8",
    );
    reads_well(
        &cache.increment("text", 1).unwrap_err(),
        ErrorKind::WrongType,
        "increment `text`: ",
        "String",
    );
    reads_well(
        &cache.increment("max", 1).unwrap_err(),
        ErrorKind::Overflow,
        "increment `max`: ",
        "has not changed",
    );
    reads_well(
        &cache
            .set_with("k", 1, Options::new().jitter(7.0))
            .unwrap_err(),
        ErrorKind::Config,
        "set `k`: ",
        "between 0 and 1",
    );
    let unencodable = (0..200).fold(serde_json::json!(1), |value, _| serde_json::json!([value]));
    reads_well(
        &bytes().set("k", unencodable).unwrap_err(),
        ErrorKind::Encode,
        "set `cacheio:k`: ",
        "cannot be encoded",
    );
    let local = bytes().set("k", cacheio_core::Local::new(1)).unwrap_err();
    reads_well(
        &local,
        ErrorKind::Unsupported,
        "set `cacheio:k`: ",
        "cannot be stored on a server",
    );
    let refused = Cache::builder().jitter(2.0).build().unwrap_err();
    reads_well(&refused, ErrorKind::Config, "build: ", "between 0 and 1");
    let heavy = Memory::builder().max_weight(1, |_, _| 2).build();
    let heavy = Cache::builder()
        .store(heavy)
        .build()
        .unwrap()
        .set("k", 1)
        .unwrap_err();
    reads_well(
        &heavy,
        ErrorKind::TooLarge,
        "set `k`: ",
        "`max_weight` of 1",
    );
}

/// A value that is stored as `null` cannot be read as a `u8`.
fn wrong() -> Error {
    let cache = bytes();
    cache.set("k", f64::NAN).unwrap();
    cache.get::<u8>("k").unwrap_err()
}

#[test]
fn a_store_failure_has_its_cause_as_source() {
    let store = stores::memory(&TestEnv::new(Time::manual()));
    let (store, faults) = Failing::new(store);
    let cache = Cache::builder().store(store).build().unwrap();
    faults.fail_all(true);
    let error = cache.get::<u8>("k").unwrap_err();
    reads_well(
        &error,
        ErrorKind::Unavailable,
        "get `k`: ",
        "cannot be reached",
    );
    assert_eq!(error.source().unwrap().to_string(), "it was unplugged");
    let chain = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(
        chain,
        "get `k`: the server cannot be reached: it was unplugged"
    );
}

#[test]
fn a_reentrant_error_names_the_key() {
    let cache = memory();
    let error = cache.get_or_try_set("k", || cache.get_or_try_set("k", || Ok::<u8, String>(1)));
    let error = error.unwrap_err().into_load_error().unwrap();
    assert!(
        matches!(&error, LoadError::Reentrant(error) if error.key() == Some("k")),
        "{error:?}"
    );
    let LoadError::Reentrant(inner) = &error else {
        unreachable!()
    };
    reads_well(
        inner,
        ErrorKind::Reentrant,
        "load `k`: ",
        "do not read the key from the cache",
    );
    assert_eq!(error.to_string(), inner.to_string());
    let copy = error.clone();
    assert_eq!(copy.to_string(), error.to_string());
    assert!(copy.load_error().is_none());
    assert!(copy.into_load_error().is_err());
}

#[test]
fn a_long_key_is_cut_at_a_character() {
    let cache = memory();
    for key in [
        "ü".repeat(1_000_000),
        "x".repeat(121),
        format!("{}🦀🦀", "x".repeat(119)),
    ] {
        cache.set(&key, "text").unwrap();
        let error = cache.get::<u64>(&key).unwrap_err();
        let shown = error.key().unwrap();
        assert!(
            shown.len() < 300 && shown.contains(&format!("({} bytes)", key.len())),
            "{shown}"
        );
        assert!(error.to_string().len() < 600);
    }
    let fits = "x".repeat(120);
    cache.set(&fits, "text").unwrap();
    assert_eq!(
        cache.get::<u64>(&fits).unwrap_err().key(),
        Some(fits.as_str())
    );
}

#[test]
fn errors_can_be_sent_and_boxed() {
    fn is_error<E: StdError + Send + Sync + 'static>() {}
    is_error::<Error>();
    is_error::<LoadError<std::io::Error>>();
    is_error::<LoadError<String>>();
    is_error::<LoadError<anyhow::Error>>();
    fn is_copy<T: Copy + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync>() {}
    is_copy::<ErrorKind>();
    is_copy::<Operation>();
    let boxed: Box<dyn StdError + Send + Sync> = Error::new(ErrorKind::Timeout, "too slow").into();
    assert_eq!(boxed.to_string(), "too slow");
}

#[test]
fn the_first_operation_and_key_are_kept() {
    let error = Error::new(ErrorKind::Server, "no")
        .during(Operation::SetMany)
        .during(Operation::Set)
        .with_key("a")
        .with_key("b");
    assert_eq!(error.to_string(), "set_many `a`: no");
    assert_eq!(
        (error.operation(), error.key()),
        (Some(Operation::SetMany), Some("a"))
    );
}

#[test]
fn a_load_error_displays_the_error_of_its_loader() {
    #[derive(Debug)]
    struct Db;
    impl std::fmt::Display for Db {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the database is down")
        }
    }
    let error = LoadError::Load(Arc::new(Db));
    assert_eq!(error.to_string(), "the database is down");
    let copy = error.clone();
    assert!(error.into_load_error().is_err(), "it is shared");
    assert!(matches!(copy.into_load_error(), Ok(Db)));
}

/// The sources of the loader's error are kept.
#[test]
fn a_load_error_keeps_the_chain_of_causes() {
    let cause = std::io::Error::other("connection refused");
    let error: LoadError<anyhow::Error> = memory()
        .get_or_try_set("k", || {
            Err::<u8, _>(anyhow::Error::from(cause).context("loading user 42"))
        })
        .unwrap_err();
    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(
        chain.contains("loading user 42") && chain.contains("connection refused"),
        "{chain}"
    );
}
