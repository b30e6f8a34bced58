//! What a cache shows of keys and values: no value in an event, an error or `Debug`, and no key in
//! an event above TRACE.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cacheio_core::{RefreshAhead, Result};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing::Level;

use crate::log::Log;
use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(values_of_another_type_are_not_shown),
        case(values_that_cannot_be_encoded_are_not_shown),
        case(values_are_not_shown_when_the_store_fails),
        case(keys_and_values_are_not_shown_when_loads_fail),
        case(keys_and_values_are_not_shown_when_loads_are_slow),
        case(large_values_make_short_errors),
    ]
}

/// A key and a value that no other test uses.
struct Secrets {
    key: String,
    value: String,
    number: u64,
    /// The number of events before. All tests together have very many.
    start: usize,
}

impl Secrets {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1_000);
        let start = log().lock().len();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            key: format!("KEY<{count}>"),
            value: format!("VALUE, expected <{count}>"),
            number: 777_000_000_000 + count,
            start,
        }
    }

    /// Checks that a text does not show the value.
    fn hidden_in(&self, text: &str) {
        let shown = [&self.value[..], &self.value[7..], &self.number.to_string()];
        for secret in shown {
            assert!(!text.contains(secret), "{secret} is in: {text}");
        }
    }

    fn check_error(&self, error: &(dyn StdError + 'static)) {
        for text in [error.to_string(), format!("{error:?}")] {
            self.hidden_in(&text);
            assert!(text.len() < 3_000, "{} bytes: {text}", text.len());
        }
        if let Some(source) = error.source() {
            self.check_error(source);
        }
    }

    fn fails<T: Debug>(&self, result: Result<T>) {
        self.check_error(&result.unwrap_err());
    }

    /// Checks the events since the secrets exist. Each of `events` must have been logged.
    fn check_log(&self, events: &[&str]) {
        let log = log().lock();
        for logged in &log[self.start..] {
            self.hidden_in(&logged.text);
            if logged.level < Level::TRACE {
                assert!(!logged.text.contains(&self.key), "{logged:?}");
                // Keys that a store replaced or escaped show their beginning.
                assert!(!logged.text.contains(&self.key[4..]), "{logged:?}");
            }
        }
        for event in events {
            // Some are logged once in a process.
            let is_logged = log.iter().rev().any(|logged| logged.text.contains(event));
            assert!(is_logged, "no event: {event}");
        }
    }

    fn is_logged(&self, event: &str) -> bool {
        let log = log().lock();
        let mut since = log[self.start..].iter();
        since.any(|logged| logged.text.contains(event))
    }
}

async fn values_of_another_type_are_not_shown(fixture: Fixture) {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Named {
        #[serde(rename = "n")]
        name: u8,
    }
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}
    #[derive(Clone, Debug, Serialize, Deserialize)]
    enum Choice {
        One,
        Two(u8),
    }
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }

    let secrets = Secrets::new();
    let (cache, key, text) = (fixture.cache, &secrets.key[..], secrets.value.clone());
    cache.set(key, text.clone()).await.unwrap();
    secrets.fails(cache.get::<u64>(key).await);
    secrets.fails(cache.get::<bool>(key).await);
    secrets.fails(cache.get::<char>(key).await);
    secrets.fails(cache.get::<(String, u8)>(key).await);
    secrets.fails(cache.get::<Named>(key).await);
    secrets.fails(cache.get::<Choice>(key).await);
    secrets.fails(cache.get::<Untagged>(key).await);
    secrets.fails(cache.get::<Quoting>(key).await);
    secrets.fails(cache.get_arc::<u64>(key).await);
    secrets.fails(cache.get_many::<u64>(vec![key]).await);
    secrets.fails(cache.increment(key, 1).await);
    secrets.fails(cache.decrement(key, 1).await);
    secrets.fails(cache.update(key, |_: Option<u64>| Update::Keep).await);
    secrets.fails(cache.take::<u64>(key).await);
    cache.set(key, text.clone()).await.unwrap();
    assert_eq!(cache.get_or_set(key, || async { 1_u64 }).await, 1);
    cache.set(key, secrets.number).await.unwrap();
    secrets.fails(cache.get::<u8>(key).await);
    secrets.fails(cache.get::<String>(key).await);
    secrets.fails(cache.get::<Named>(key).await);
    cache.set(key, i64::MAX).await.unwrap();
    secrets.fails(cache.increment(key, 1).await);
    let map = std::collections::HashMap::from([(text.clone(), text.clone())]);
    cache.set(key, map.clone()).await.unwrap();
    secrets.fails(cache.get::<Named>(key).await);
    secrets.fails(cache.get::<Empty>(key).await);
    secrets.fails(cache.get::<Choice>(key).await);
    secrets.fails(cache.get::<Vec<u8>>(key).await);
    cache.set(key, vec![map; 3]).await.unwrap();
    secrets.fails(cache.get::<[Named; 3]>(key).await);
    cache.get_or_set(key, || async { Choice::Two(1) }).await;
    cache.set(key, text).await.unwrap();
    cache
        .get_or_set(key, || async { Quoting(String::new()) })
        .await;
    let batch = cache.get_or_set_many(vec![key], |keys| async move {
        keys.into_iter().map(|key| (key, Choice::One)).collect()
    });
    drop(batch.await);
    secrets.hidden_in(&format!("{cache:?}"));
    secrets.check_log(&["store operation failed"]);
}

async fn values_that_cannot_be_encoded_are_not_shown(fixture: Fixture) {
    let secrets = Secrets::new();
    let (cache, key) = (fixture.cache, &secrets.key[..]);
    let value = || Quoting(secrets.value.clone());
    if !matches!(fixture.form, cacheio_core::Form::Objects) {
        secrets.fails(cache.set(key, value()).await);
        secrets.fails(cache.add(key, value()).await);
        secrets.fails(cache.set_many(vec![(key, value())]).await);
        secrets.check_log(&[]);
    }
    let loaded = cache.get_or_set(key, || async { value() }).await;
    assert_eq!(loaded.0, secrets.value);
    secrets.check_log(&[]);
    // In memory the value is encoded when it is read as another type.
    if matches!(fixture.form, cacheio_core::Form::Objects) {
        secrets.fails(cache.get::<String>(key).await);
        cache.get_or_set(key, || async { String::new() }).await;
        secrets.check_log(&["store operation failed"]);
    }
}

async fn values_are_not_shown_when_the_store_fails(fixture: Fixture) {
    let secrets = Secrets::new();
    let (key, text) = (&secrets.key[..], secrets.value.clone());
    let (cache, faults) = fixture.failing();
    cache.set(key, text.clone()).await.unwrap();
    faults.fail_all(true);
    secrets.fails(cache.has(key).await);
    secrets.fails(cache.get::<String>(key).await);
    secrets.fails(cache.get_many::<String>(vec![key]).await);
    secrets.fails(cache.set(key, text.clone()).await);
    secrets.fails(cache.set_many(vec![(key, text.clone())]).await);
    secrets.fails(cache.add(key, text.clone()).await);
    secrets.fails(cache.delete(key).await);
    secrets.fails(cache.delete_many(vec![key]).await);
    secrets.fails(cache.increment(key, 1).await);
    secrets.fails(cache.touch(key, Ttl::Never).await);
    let load = || async { secrets.value.clone() };
    assert_eq!(cache.get_or_set(key, load).await, text);
    let value = secrets.value.clone();
    let fetched = cache.fetch(key, |_| async { Ok::<_, ()>(value) }).await;
    assert_eq!(fetched.unwrap(), text);
    let batch = cache.get_or_set_many(vec![key], |keys| async {
        keys.into_iter().map(|key| (key, text.clone())).collect()
    });
    assert_eq!(batch.await, [Some(text.clone())]);
    secrets.hidden_in(&format!("{cache:?}"));
    secrets.check_log(&["store operation failed", "it was unplugged"]);
}

async fn keys_and_values_are_not_shown_when_loads_fail(fixture: Fixture) {
    let secrets = Secrets::new();
    let key = secrets.key.clone();
    let cache = fixture.open(Setup {
        stale_for: fixture.ttl() * 100,
        retry_after: Some(Duration::ZERO),
        refresh_ahead: Some(RefreshAhead::Fraction(0.01)),
        default_ttl: Some(fixture.ttl().into()),
        ..Setup::default()
    });
    let cache = cache.unwrap();
    let load = || async { secrets.value.clone() };
    assert_eq!(cache.get_or_set(&key, load).await, secrets.value);
    fixture.pass(fixture.ttl() / 10).await;
    // The copy of an entry that is due so soon may have been due when it was made.
    cache.clear_l1();
    let fail = |_| async { Err::<String, ()>(()) };
    assert_eq!(cache.fetch(&key, fail).await.unwrap(), secrets.value);
    cache.until(|cache| cache.stats().refresh_errors > 0).await;
    fixture.expire(fixture.ttl());
    assert_eq!(cache.fetch(&key, fail).await.unwrap(), secrets.value);
    let fail = |_| async { Err::<Vec<(String, String)>, ()>(()) };
    let batch = cache.get_or_try_set_many(vec![key.clone()], fail).await;
    let [Ok(Some(value))] = &batch[..] else {
        panic!("{batch:?}");
    };
    assert_eq!(*value, secrets.value);
    let panicking = {
        let key = key.clone();
        cache.spawn(|cache| async move {
            let options = Options::new().force_refresh();
            let load = |_| async { panic!("the loader's own") };
            let fetched = cache.fetch_entry_with::<String, (), _>(&key, options, load);
            drop(fetched.await);
        })
    };
    drop(panicking.outcome().await);
    secrets.check_log(&["refresh failed", "load failed", "panicked"]);
}

async fn keys_and_values_are_not_shown_when_loads_are_slow(fixture: Fixture) {
    let secrets = Secrets::new();
    let cache = fixture.open(Setup {
        hard_timeout: Some(Duration::from_millis(20)),
        max_load: Some(Duration::from_millis(40)),
        ..Setup::default()
    });
    let cache = cache.unwrap();
    let gate = LoaderGate::new();
    // On a busy machine, several calls may end before the first load begins.
    while cache.stats().load_timeouts == 0 {
        let load = gate.loader(Ok::<_, String>(secrets.value.clone()));
        let fetched = cache.fetch(&secrets.key, move |_| load()).await;
        secrets.check_error(&fetched.unwrap_err());
    }
    // The event comes after its statistic.
    let event = "load exceeded max_load";
    cache.until(|_| secrets.is_logged(event)).await;
    gate.release();
    secrets.check_log(&["timed out waiting for a load", event]);
}

async fn large_values_make_short_errors(fixture: Fixture) {
    let secrets = Secrets::new();
    let (cache, key) = (fixture.cache, &secrets.key[..]);
    let large = secrets.value.repeat(10_000);
    cache.set(key, large).await.unwrap();
    secrets.fails(cache.get::<u64>(key).await);
    secrets.fails(cache.get::<Quoting>(key).await);
    secrets.fails(cache.get_many::<(u8, u8)>(vec![key]).await);
    secrets.fails(cache.increment(key, 1).await);
    cache.get_or_set(key, || async { 1 }).await;
    secrets.check_log(&[]);
    let longest = log().lock().iter().map(|logged| logged.text.len()).max();
    assert!(longest < Some(4_000), "an event of {longest:?} bytes");
}

/// A type whose errors quote the value.
#[derive(Clone, Debug)]
struct Quoting(String);

impl Serialize for Quoting {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(format!("cannot write {}", self.0)))
    }
}

impl<'de> Deserialize<'de> for Quoting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Err(D::Error::custom(format!("cannot read {text}")))
    }
}

/// Returns the events of all tests. A case finds its own by its key and value.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        // Another subscriber would hide the events.
        assert!(tracing::subscriber::set_global_default(log.clone()).is_ok());
        log
    })
}
