//! Counters and times are reported to the recorder that the program has installed.
//!
//! `cargo test -p cacheio-tests --features metrics --test metrics`

#![cfg(not(shuttle))]

#[path = "metrics/dashboard.rs"]
mod dashboard;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{LoadError, Options, RefreshAhead};
use cacheio_redis::Redis;
use cacheio_sync::{Cache, L1, Memcached, Memory};
use cacheio_tests::api::{CacheApi, block_on, join_all};
use cacheio_tests::fixture::{Fixture, Setup};
use cacheio_tests::gate::LoaderGate;
use cacheio_tests::{servers, watchdog};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};

fn run<F: Future<Output = ()> + 'static>(
    fixture: fn() -> Fixture,
    case: fn(Fixture, Recorded) -> F,
) {
    watchdog::guarded(move || {
        let recorded = Recorded::default();
        let fixture = with_local_recorder(&recorded, fixture);
        fixture.world.run(case(fixture, recorded));
    });
}

mod everywhere {
    cacheio_tests::in_both_worlds! {
        a_new_cache_has_all_its_counters_at_zero
        hits_misses_loads_and_errors
        waits
        stale_hits
        refreshes_and_refresh_errors
        callers_that_time_out
        loads_that_hang
        store_errors
        loads_that_panic_are_timed_too
        each_namespace_has_its_own_label
    }
}

/// A recorder of one test, by name and labels.
#[derive(Clone, Debug, Default)]
struct Recorded(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    counters: BTreeMap<(String, Labels), Arc<AtomicU64>>,
    gauges: BTreeMap<(String, Labels), Arc<AtomicU64>>,
    histograms: BTreeMap<(String, Labels), Times>,
    described: BTreeMap<String, (Option<Unit>, String)>,
}

type Labels = Vec<(String, String)>;

#[derive(Clone, Debug, Default)]
struct Times(Arc<Mutex<Vec<f64>>>);

impl HistogramFn for Times {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        let (name, description) = (key.as_str().to_owned(), description.into_owned());
        let described = &mut self.0.lock().unwrap().described;
        described.insert(name, (unit, description));
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe_counter(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe_counter(key, unit, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let counters = &mut self.0.lock().unwrap().counters;
        Counter::from_arc(Arc::clone(counters.entry(series(key)).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let gauges = &mut self.0.lock().unwrap().gauges;
        Gauge::from_arc(Arc::clone(gauges.entry(series(key)).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let histograms = &mut self.0.lock().unwrap().histograms;
        Histogram::from_arc(Arc::new(histograms.entry(series(key)).or_default().clone()))
    }
}

fn series(key: &Key) -> (String, Labels) {
    let label = |label: &metrics::Label| (label.key().to_owned(), label.value().to_owned());
    (key.name().to_owned(), key.labels().map(label).collect())
}

fn labels(cache: &str) -> Labels {
    vec![("cache".to_owned(), cache.to_owned())]
}

/// Returns the label of a cache: its namespace, or "default" if it has none.
fn name(cache: &CacheApi) -> &str {
    match cache.namespace() {
        "" => "default",
        namespace => namespace,
    }
}

impl Recorded {
    /// Returns a counter of a cache.
    fn count(&self, name: &str, cache: &str) -> Option<u64> {
        let table = self.0.lock().unwrap();
        let counter = table.counters.get(&(name.to_owned(), labels(cache)))?;
        Some(counter.load(Ordering::SeqCst))
    }

    /// Returns a gauge of a cache.
    fn gauge(&self, name: &str, cache: &str) -> Option<f64> {
        let table = self.0.lock().unwrap();
        let gauge = table.gauges.get(&(name.to_owned(), labels(cache)))?;
        Some(f64::from_bits(gauge.load(Ordering::SeqCst)))
    }

    /// Returns the durations of the loads of a cache.
    fn times(&self, cache: &str) -> Vec<f64> {
        let table = self.0.lock().unwrap();
        let name = "cacheio_load_duration_seconds".to_owned();
        let times = table.histograms.get(&(name, labels(cache)));
        times.map_or_else(Vec::new, |times| times.0.lock().unwrap().clone())
    }

    /// Checks that the recorder has each number of the cache's statistics.
    #[track_caller]
    fn agrees(&self, cache: &CacheApi) {
        let stats = serde_json::to_value(cache.stats()).unwrap();
        for (field, value) in stats.as_object().unwrap() {
            let metric = format!("cacheio_{field}_total");
            let count = self.count(&metric, name(cache));
            assert_eq!(count, value.as_u64(), "{metric}");
        }
    }

    fn open(&self, fixture: &Fixture, setup: Setup) -> CacheApi {
        with_local_recorder(self, || fixture.open(setup)).unwrap()
    }
}

async fn a_new_cache_has_all_its_counters_at_zero(fixture: Fixture, recorded: Recorded) {
    recorded.agrees(&fixture.cache);
    let table = recorded.0.lock().unwrap();
    let counters: Vec<_> = table.counters.keys().map(|(name, _)| &**name).collect();
    assert_eq!(
        counters,
        [
            "cacheio_circuit_opens_total",
            "cacheio_evictions_total",
            "cacheio_hits_total",
            "cacheio_invalidations_total",
            "cacheio_l1_hits_total",
            "cacheio_load_errors_total",
            "cacheio_load_timeouts_total",
            "cacheio_loads_total",
            "cacheio_misses_total",
            "cacheio_refresh_errors_total",
            "cacheio_refreshes_total",
            "cacheio_shared_waits_total",
            "cacheio_stale_hits_total",
            "cacheio_store_errors_total",
            "cacheio_timeouts_total",
            "cacheio_unstored_loads_total",
            "cacheio_waits_total",
        ]
    );
    for name in counters {
        let (unit, description) = &table.described[name];
        assert_eq!(*unit, Some(Unit::Count));
        assert!(!description.is_empty());
    }
    let (unit, _) = table.described["cacheio_load_duration_seconds"];
    assert_eq!(unit, Some(Unit::Seconds));
}

async fn hits_misses_loads_and_errors(fixture: Fixture, recorded: Recorded) {
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    cache.get::<i32>("k").await.unwrap();
    cache.get::<i32>("secret").await.unwrap();
    let slow = || async {
        fixture.world.sleep(Duration::from_millis(5)).await;
        2
    };
    cache.get_or_set("secret", slow).await;
    cache.get_or_set("secret", || async { 3 }).await;
    let failed = cache.get_or_try_set("failing", || async { Err::<i32, _>("down") });
    failed.await.unwrap_err();
    let many = cache.get_many::<i32>(vec!["k", "secret", "missing"]);
    many.await.unwrap();
    let count = |metric| recorded.count(metric, name(&cache));
    assert_eq!(count("cacheio_hits_total"), Some(4));
    assert_eq!(count("cacheio_misses_total"), Some(4));
    assert_eq!(count("cacheio_loads_total"), Some(2));
    assert_eq!(count("cacheio_load_errors_total"), Some(1));
    recorded.agrees(&cache);
    let times = recorded.times(name(&cache));
    assert_eq!(times.len(), 2);
    assert!(times[0] >= 0.005, "{times:?}");
    assert!(!format!("{recorded:?}").contains("secret"));
}

async fn waits(fixture: Fixture, recorded: Recorded) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let callers = (0..10).map(|i| {
        let load = gate.loader(i);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 9).await;
    gate.release();
    join_all(callers).await;
    assert_eq!(recorded.count("cacheio_waits_total", name(&cache)), Some(9));
    recorded.agrees(&cache);
}

async fn stale_hits(fixture: Fixture, recorded: Recorded) {
    let setup = Setup {
        namespace: Some("old"),
        default_ttl: Some(fixture.ttl().into()),
        stale_for: fixture.ttl(),
        ..Setup::default()
    };
    let cache = recorded.open(&fixture, setup);
    cache.get_or_set("k", || async { 1 }).await;
    fixture.expire(fixture.ttl());
    let stale = cache.get_or_try_set("k", || async { Err::<i32, _>("down") });
    assert_eq!(stale.await.unwrap(), 1);
    assert_eq!(recorded.count("cacheio_stale_hits_total", "old"), Some(1));
    recorded.agrees(&cache);
}

async fn refreshes_and_refresh_errors(fixture: Fixture, recorded: Recorded) {
    let setup = Setup {
        namespace: Some("fresh"),
        default_ttl: Some((fixture.ttl() * 2).into()),
        refresh_ahead: Some(RefreshAhead::Fraction(0.5)),
        retry_after: Some(Duration::from_millis(1)),
        ..Setup::default()
    };
    let cache = recorded.open(&fixture, setup);
    cache.get_or_set("k", || async { 1 }).await;
    fixture.expire(fixture.ttl());
    let failed = cache.get_or_try_set("k", || async { Err::<i32, _>("down") });
    assert_eq!(failed.await.unwrap(), 1);
    fixture.expire(Duration::from_millis(1));
    assert_eq!(cache.get_or_set("k", || async { 2 }).await, 2);
    let count = |metric| recorded.count(metric, "fresh");
    assert_eq!(count("cacheio_refreshes_total"), Some(2));
    assert_eq!(count("cacheio_refresh_errors_total"), Some(1));
    recorded.agrees(&cache);
    assert_eq!(recorded.times("fresh").len(), 3);
}

async fn callers_that_time_out(fixture: Fixture, recorded: Recorded) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let load = gate.loader(Ok::<_, String>(1));
    let options = Options::new().hard_timeout(Duration::from_millis(10));
    let fetched = cache.fetch_entry_with("k", options, move |_| load()).await;
    assert!(matches!(fetched, Err(LoadError::Timeout(_))));
    gate.started().await;
    assert_eq!(
        recorded.count("cacheio_timeouts_total", name(&cache)),
        Some(1)
    );
    recorded.agrees(&cache);
    // The load continues, and is timed until it ends.
    fixture.world.sleep(Duration::from_millis(5)).await;
    assert!(recorded.times(name(&cache)).is_empty());
    gate.release();
    cache
        .until(|cache| recorded.times(name(cache)).len() == 1)
        .await;
    assert!(recorded.times(name(&cache))[0] >= 0.005);
}

async fn loads_that_hang(fixture: Fixture, recorded: Recorded) {
    let setup = Setup {
        namespace: Some("hung"),
        max_load: Some(Duration::from_millis(100)),
        ..Setup::default()
    };
    let (cache, gate) = (recorded.open(&fixture, setup), LoaderGate::new());
    let load = gate.loader(Ok::<_, String>(1));
    let fetched = cache.fetch("k", move |_| load()).await;
    assert!(matches!(fetched, Err(LoadError::Timeout(_))));
    // The caller may be woken before the timeout is counted.
    let count = || recorded.count("cacheio_load_timeouts_total", "hung");
    cache.until(|_| count() == Some(1)).await;
    recorded.agrees(&cache);
    // A task is aborted; a thread must be released.
    gate.release();
    cache.until(|_| recorded.times("hung").len() == 1).await;
}

async fn store_errors(fixture: Fixture, recorded: Recorded) {
    let (cache, faults) = with_local_recorder(&recorded, || fixture.failing());
    faults.fail_all(true);
    cache.get_or_set("k", || async { 1 }).await;
    let errors = recorded.count("cacheio_store_errors_total", name(&cache));
    assert_eq!(errors, Some(2), "one reading, one writing");
    recorded.agrees(&cache);
}

async fn loads_that_panic_are_timed_too(fixture: Fixture, recorded: Recorded) {
    let cache = fixture.cache.clone();
    let panics = async move { cache.get_or_set::<i32, _>("k", || async { panic!() }).await };
    assert!(fixture.world.spawn(panics).outcome().await.is_err());
    assert_eq!(recorded.times(name(&fixture.cache)).len(), 1);
    recorded.agrees(&fixture.cache);
}

async fn each_namespace_has_its_own_label(fixture: Fixture, recorded: Recorded) {
    let [shop, blog] = with_local_recorder(&recorded, || fixture.sharing(["shop", "blog"]));
    shop.get::<i32>("k").await.unwrap();
    blog.set("k", 1).await.unwrap();
    blog.get::<i32>("k").await.unwrap();
    let counts = ["shop", "blog"].map(|cache| {
        ["cacheio_hits_total", "cacheio_misses_total"].map(|metric| recorded.count(metric, cache))
    });
    assert_eq!(counts, [[Some(0), Some(1)], [Some(1), Some(0)]]);
    recorded.agrees(&shop);
    recorded.agrees(&blog);
}

#[test]
fn caches_of_one_name_count_together() {
    let recorded = Recorded::default();
    let caches = [3, 4].map(|capacity| {
        let builder = Cache::builder().store(Memory::with_capacity(capacity));
        with_local_recorder(&recorded, || builder.build()).unwrap()
    });
    for cache in &caches {
        for key in 0..10 {
            cache.set(key, key).unwrap();
        }
        cache.get::<i32>("missing").unwrap();
    }
    let count = |metric| recorded.count(metric, "default");
    assert_eq!(count("cacheio_misses_total"), Some(2));
    assert_eq!(count("cacheio_evictions_total"), Some(7 + 6));
}

#[test]
fn evictions_are_reported_in_both_worlds_as_they_happen() {
    let recorded = Recorded::default();
    let memory = || Memory::with_capacity(3);
    let threads = Cache::builder().store(memory()).namespace("threads");
    let tasks = AsyncCache::builder().store(memory()).namespace("tasks");
    let threads = with_local_recorder(&recorded, || threads.build()).unwrap();
    let tasks = with_local_recorder(&recorded, || tasks.build()).unwrap();
    for key in 0..10_u64 {
        threads.set(key, key).unwrap();
        block_on(tasks.get_or_set(key, || async move { key }));
        for cache in ["threads", "tasks"] {
            let evictions = recorded.count("cacheio_evictions_total", cache);
            assert_eq!(evictions, Some((key + 1).saturating_sub(3)));
        }
    }
}

#[test]
fn evictions_before_the_cache_was_built_are_not_reported() {
    let recorded = Recorded::default();
    let memory = Arc::new(Memory::with_capacity(3));
    let cache = |namespace| {
        let builder = Cache::builder().store(Arc::clone(&memory));
        with_local_recorder(&recorded, || builder.namespace(namespace).build()).unwrap()
    };
    let first = cache("first");
    (0..10).for_each(|key| first.set(key, key).unwrap());
    let second = cache("second");
    second.set(10, 10).unwrap();
    let evictions = |cache| recorded.count("cacheio_evictions_total", cache);
    assert_eq!(
        (evictions("first"), evictions("second")),
        (Some(7), Some(1))
    );
}

#[test]
fn an_opened_circuit_is_reported() {
    watchdog::guarded(|| {
        let server = servers::Redis::start();
        let redis = Redis::new(server.url()).unwrap();
        let cache = AsyncCache::builder().store(redis);
        given_up(|| CacheApi::Tasks(cache.build().unwrap()), || server.kill());
    });
    watchdog::guarded(|| {
        let server = servers::Memcached::start();
        let memcached = Memcached::new(&server.url()).unwrap();
        let cache = Cache::builder().store(memcached);
        given_up(
            || CacheApi::Threads(cache.build().unwrap()),
            || server.kill(),
        );
    });
}

#[test]
fn the_trust_in_a_server_and_what_it_tells_are_reported() {
    watchdog::guarded(|| {
        let server = servers::Redis::start();
        let recorded = Recorded::default();
        let open = |namespace| {
            let redis = Redis::new(server.url()).unwrap();
            Cache::builder().store(redis).namespace(namespace)
        };
        let l1 = L1::new(Memory::new()).max_staleness(Duration::from_secs(50));
        let near = with_local_recorder(&recorded, || open("near").l1(l1).build().unwrap());
        with_local_recorder(&recorded, || open("far").build().unwrap());
        let trusted = |cache| recorded.gauge("cacheio_l1_trusted", cache);
        assert_eq!((trusted("near"), trusted("far")), (Some(0.0), None));
        near.set("k", 1).unwrap();
        while trusted("near") != Some(1.0) {
            assert_eq!(near.get("k").unwrap(), Some(1));
            near.get::<i32>("missing").unwrap();
        }
        near.clear_l1();
        assert_eq!(near.get("k").unwrap(), Some(1));
        server.run("SET near:k 2");
        while near.get("k").unwrap() != Some(2) {}
        near.get::<i32>("missing").unwrap();
        let told = recorded.count("cacheio_invalidations_total", "near");
        assert_eq!(told, Some(1));
        server.kill();
        while trusted("near") != Some(0.0) {
            near.get::<i32>("missing").unwrap_err();
        }
    });
}

fn given_up(build: impl FnOnce() -> CacheApi, kill: impl FnOnce()) {
    let recorded = Recorded::default();
    let cache = with_local_recorder(&recorded, build);
    cache.world().run(async {
        cache.set("k", 1).await.unwrap();
        kill();
        for _ in 0..3 {
            cache.get::<i32>("k").await.unwrap_err();
        }
        let opens = recorded.count("cacheio_circuit_opens_total", "cacheio");
        assert_eq!(opens, Some(1));
        recorded.agrees(&cache);
    });
}

#[test]
fn without_a_recorder_nothing_is_missing() {
    let cache = Cache::builder().build().unwrap();
    cache.get_or_set("k", || 1);
    cache.get_or_set("k", || 2);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1));
}

#[test]
fn a_recorder_may_be_installed_after_the_cache_was_built() {
    let cache = Cache::builder().build().unwrap();
    cache.get_or_set("k", || 1);
    cache.get_or_set("k", || 1);
    let recorded = Recorded::default();
    // Earlier events are not reported.
    with_local_recorder(&recorded, || cache.get::<i32>("k").unwrap());
    assert_eq!(recorded.count("cacheio_hits_total", "default"), Some(1));
    assert_eq!(recorded.count("cacheio_misses_total", "default"), Some(0));
    // Later ones are reported, whatever thread the cache is used on.
    std::thread::scope(|scope| {
        scope.spawn(|| cache.get::<i32>("k").unwrap());
    });
    cache.get_or_set("other", || 1);
    assert_eq!(recorded.count("cacheio_hits_total", "default"), Some(2));
    assert_eq!(recorded.count("cacheio_loads_total", "default"), Some(1));
    assert_eq!(recorded.times("default").len(), 1);
}

/// A zero-sized recorder is not mistaken for the absence of one.
#[test]
fn a_recorder_without_a_size_is_reported_to() {
    static RECORDED: Mutex<Option<Recorded>> = Mutex::new(None);

    struct Elsewhere;

    fn recorded() -> Recorded {
        RECORDED.lock().unwrap().get_or_insert_default().clone()
    }

    impl Recorder for Elsewhere {
        fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
            recorded().describe_counter(key, unit, description);
        }

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
            recorded().describe_histogram(key, unit, description);
        }

        fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
            recorded().register_counter(key, metadata)
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
            recorded().register_histogram(key, metadata)
        }
    }

    with_local_recorder(&Elsewhere, || {
        let cache = Cache::builder().build().unwrap();
        cache.get_or_set("k", || 1);
        cache.get_or_set("k", || 2);
    });
    let count = |metric| recorded().count(metric, "default");
    assert_eq!(count("cacheio_hits_total"), Some(1));
    assert_eq!(count("cacheio_misses_total"), Some(1));
    assert_eq!(recorded().times("default").len(), 1);
}
