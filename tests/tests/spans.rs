//! The tracing spans of operations on servers: their names, fields and parents.

#![cfg(not(shuttle))]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use cacheio_async::AsyncCache;
use cacheio_core::{Options, Update};
use cacheio_redis::Redis;
use cacheio_sync::{Cache, Memcached};
use cacheio_tests::api::CacheApi;
use cacheio_tests::servers::{self, RedisCluster};
use cacheio_tests::watchdog;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Instrument as _, Level, Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// A span of a test.
#[derive(Clone, Debug)]
struct Seen {
    test: u64,
    id: u64,
    name: &'static str,
    parent: &'static str,
    level: Level,
    target: &'static str,
    fields: Fields,
}

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.0.get(name).map(String::as_str)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// The test that a span belongs to, which its children inherit.
struct TestId(u64);

struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let (Some(span), mut fields) = (context.span(id), Fields::default()) else {
            return;
        };
        attributes.record(&mut fields);
        let own = fields.0.get("test").and_then(|test| test.parse().ok());
        let parent = span.parent();
        let inherited = || Some(parent.as_ref()?.extensions().get::<TestId>()?.0);
        let Some(test) = own.or_else(inherited) else {
            return;
        };
        span.extensions_mut().insert(TestId(test));
        let metadata = attributes.metadata();
        SEEN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Seen {
                test,
                id: id.into_u64(),
                name: metadata.name(),
                parent: parent.map_or("", |parent| parent.name()),
                level: *metadata.level(),
                target: metadata.target(),
                fields,
            });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Identifiers are used again after a span has ended.
        if let Some(span) = seen.iter_mut().rev().find(|span| span.id == id.into_u64()) {
            values.record(&mut span.fields);
        }
    }
}

/// The spans of one test.
struct Trace {
    test: u64,
    root: Span,
}

impl Trace {
    fn begin() -> Self {
        static TESTS: AtomicU64 = AtomicU64::new(1);
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            tracing::subscriber::set_global_default(Registry::default().with(Recorder)).unwrap();
        });
        let test = TESTS.fetch_add(1, Ordering::Relaxed);
        Self {
            test,
            root: tracing::info_span!("test", test),
        }
    }

    /// Returns the spans of operations up to now.
    fn operations(&self) -> Vec<Seen> {
        let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_operation = |span: &&Seen| span.test == self.test && span.name == "store_operation";
        seen.iter().filter(is_operation).cloned().collect()
    }

    /// Returns a field of each of the spans up to now.
    fn fields(&self, name: &str) -> Vec<String> {
        let operations = self.operations();
        let fields = operations.iter().filter_map(|span| span.field(name));
        fields.map(str::to_owned).collect()
    }
}

/// Runs a case in both worlds, in a span.
fn in_both_worlds<F: Future<Output = ()> + Send + 'static>(
    caches: impl Fn() -> (Cache, AsyncCache),
    case: impl Fn(CacheApi, Trace) -> F + Clone + Send + 'static,
) {
    let (threads, tasks) = caches();
    for cache in [CacheApi::Threads(threads), CacheApi::Tasks(tasks)] {
        let case = case.clone();
        watchdog::guarded(move || {
            let (trace, world) = (Trace::begin(), cache.world());
            let root = trace.root.clone();
            world.run(case(cache, trace).instrument(root));
        });
    }
}

fn from_url(url: &str) -> (Cache, AsyncCache) {
    (
        Cache::from_url(url).unwrap(),
        AsyncCache::from_url(url).unwrap(),
    )
}

async fn names_and_fields(cache: CacheApi, trace: Trace, system: &'static str, port: u16) {
    cache.set("k", 1_u64).await.unwrap();
    cache.get::<u64>("k").await.unwrap();
    cache.has("k").await.unwrap();
    cache.set_many(vec![("k", 1_u64), ("l", 2)]).await.unwrap();
    cache.get_many::<u64>(vec!["k", "l", "m"]).await.unwrap();
    cache.get_many::<u64>(vec!["k"]).await.unwrap();
    cache
        .update("k", |old: Option<u64>| Update::Set(old.unwrap() + 1))
        .await
        .unwrap();
    cache.take::<u64>("k").await.unwrap();
    cache.delete_many(vec!["k", "l"]).await.unwrap();
    cache.clear().await.unwrap();
    let named = [
        ("set", None),
        ("get", None),
        ("has", None),
        ("BATCH set", Some("2")),
        ("BATCH get", Some("3")),
        ("get", None),
        ("get", None),
        ("compare_and_swap", None),
        ("take", None),
        ("BATCH delete", Some("2")),
        ("clear", None),
    ];
    let operations = trace.operations();
    let found: Vec<_> = operations
        .iter()
        .filter_map(|span| {
            Some((
                span.field("db.operation.name")?,
                span.field("db.operation.batch.size"),
            ))
        })
        .collect();
    assert_eq!(found, named);
    for span in &operations {
        let (name, address) = (
            span.field("db.operation.name").unwrap(),
            format!("127.0.0.1:{port}"),
        );
        assert_eq!(span.field("otel.name"), Some(&*format!("{name} {address}")));
        assert_eq!(span.field("otel.kind"), Some("client"));
        assert_eq!(span.field("db.system.name"), Some(system));
        assert_eq!(span.field("server.address"), Some("127.0.0.1"));
        assert_eq!(span.field("server.port"), Some(&*port.to_string()));
        assert_eq!((span.level, span.target), (Level::DEBUG, "cacheio"));
        assert_eq!(span.parent, "test");
        assert_eq!(span.field("error.type"), None);
        assert_eq!(span.field("otel.status_code"), None);
    }
}

#[test]
fn operations_on_redis_have_the_names_of_opentelemetry() {
    let server = servers::Redis::start();
    let port = server.port();
    in_both_worlds(
        || from_url(&server.url()),
        move |cache, trace| names_and_fields(cache, trace, "redis", port),
    );
}

#[test]
fn operations_on_memcached_have_the_names_of_opentelemetry() {
    let server = servers::Memcached::start();
    let port = server.port();
    in_both_worlds(
        || from_url(&server.url()),
        move |cache, trace| names_and_fields(cache, trace, "memcached", port),
    );
}

/// The address of a store with several servers is that of none of them.
#[test]
fn several_servers_have_no_address() {
    async fn case(cache: CacheApi, trace: Trace) {
        cache.set("k", 1_u64).await.unwrap();
        cache.get_many::<u64>(vec!["k", "l", "m"]).await.unwrap();
        assert_eq!(trace.fields("otel.name"), ["set", "BATCH get"]);
        assert!(trace.fields("server.address").is_empty());
        assert!(trace.fields("server.port").is_empty());
    }
    let cluster = RedisCluster::start();
    in_both_worlds(|| from_url(&cluster.url()), case);
    let [a, b] = [(); 2].map(|()| servers::Memcached::start());
    let url = format!("memcache://{},{}", a.address(), b.address());
    in_both_worlds(|| from_url(&url), case);
}

#[test]
fn a_failure_is_recorded() {
    async fn case(cache: CacheApi, trace: Trace) {
        let error = cache.get::<u64>("k").await.unwrap_err();
        assert_eq!(trace.fields("error.type"), [format!("{:?}", error.kind())]);
        assert_eq!(trace.fields("otel.status_code"), ["ERROR"]);
    }
    let (redis, memcached) = (servers::Redis::start(), servers::Memcached::start());
    redis.kill();
    memcached.kill();
    in_both_worlds(|| from_url(&redis.url()), case);
    in_both_worlds(|| from_url(&memcached.url()), case);
}

#[test]
fn memory_and_l1_have_no_spans() {
    async fn memory(cache: CacheApi, trace: Trace) {
        cache.set("k", 1_u64).await.unwrap();
        cache.get::<u64>("k").await.unwrap();
        cache.get_or_set("l", || async { 2_u64 }).await;
        assert!(trace.operations().is_empty());
    }
    async fn l1(cache: CacheApi, trace: Trace) {
        cache.set("k", 1_u64).await.unwrap();
        cache.get::<u64>("k").await.unwrap();
        assert_eq!(trace.fields("db.operation.name"), ["set", "get"]);
        for _ in 0..3 {
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
        }
        assert_eq!(trace.operations().len(), 2);
    }
    in_both_worlds(|| from_url("memory://"), memory);
    let server = servers::Redis::start();
    in_both_worlds(
        || from_url(&format!("{}?l1=100&max_staleness=1h", server.url())),
        l1,
    );
}

/// A loader has a span, and the operations in it are the children of that. Those of the load itself are children of
/// the caller's span.
#[test]
fn operations_are_children_of_the_span_in_which_they_are_called() {
    async fn case(cache: CacheApi, trace: Trace) {
        let inner = cache.clone();
        let load = move || async move { inner.get::<u64>("inner").await.unwrap().unwrap_or(1) };
        cache.get_or_set("k", load).await;
        let found: Vec<_> = trace
            .operations()
            .iter()
            .map(|span| {
                (
                    span.field("db.operation.name").unwrap().to_owned(),
                    span.parent,
                )
            })
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|(name, parent)| (&**name, *parent))
            .collect();
        let expected = [
            ("get", "test"),
            ("claim", "test"),
            ("get", "load"),
            ("settle", "test"),
        ];
        assert_eq!(found, expected);

        let task = tracing::info_span!("task");
        let spawned =
            cache.spawn(|cache| async move { cache.take::<u64>("k").await }.instrument(task));
        spawned.join().await.unwrap();
        assert_eq!(trace.operations().last().unwrap().parent, "task");
    }
    let server = servers::Redis::start();
    in_both_worlds(|| from_url(&server.url()), case);
}

/// A load in the background may outlive its caller.
#[test]
fn a_load_in_the_background_belongs_to_its_caller() {
    async fn case(cache: CacheApi, trace: Trace) {
        let inner = cache.clone();
        let load = move |_| async move { inner.get::<u64>("inner").await.map(|_| 1_u64) };
        cache
            .fetch_entry_with("k", Options::new(), load)
            .await
            .unwrap();
        let parents: Vec<_> = trace.operations().iter().map(|span| span.parent).collect();
        assert_eq!(parents, ["test", "test", "load", "test"]);
        cache.delete("k").await.unwrap();
    }
    let server = servers::Redis::start();
    in_both_worlds(|| from_url(&server.url()), case);
}

#[test]
fn no_key_and_no_value_is_in_a_span() {
    async fn case(cache: CacheApi, trace: Trace) {
        cache.set("SECRET", "SECRET").await.unwrap();
        cache.get::<u64>("SECRET").await.unwrap_err();
        cache.increment("SECRET", 1).await.unwrap_err();
        cache.get_or_set("SECRET", || async { 1_u64 }).await;
        cache
            .get_many::<u64>(vec!["SECRET", "SECRET too"])
            .await
            .unwrap();
        cache.clear().await.unwrap();
        let shown = format!("{:?}", trace.operations());
        assert!(shown.contains("db.operation.name"), "{shown}");
        assert!(
            !shown.contains("SECRET") && !shown.contains("private"),
            "{shown}"
        );
    }
    let (redis, memcached) = (servers::Redis::start(), servers::Memcached::start());
    in_both_worlds(
        || from_url(&format!("{}?namespace=private", redis.url())),
        case,
    );
    in_both_worlds(
        || from_url(&format!("{}?namespace=private", memcached.url())),
        case,
    );
}

/// A password is part of the URL, not of the address.
#[test]
fn no_password_is_in_a_span() {
    async fn case(cache: CacheApi, trace: Trace) {
        cache.get::<u64>("k").await.unwrap_err();
        let shown = format!("{:?}", trace.operations());
        assert!(
            shown.contains("127.0.0.1") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    in_both_worlds(
        || {
            let cache =
                Cache::builder().store(Redis::new("redis://ada:hunter2@127.0.0.1:1").unwrap());
            let tasks = Memcached::new("memcache://ada:hunter2@127.0.0.1:1").unwrap();
            let tasks = AsyncCache::builder().store(tasks);
            (cache.build().unwrap(), tasks.build().unwrap())
        },
        case,
    );
}
