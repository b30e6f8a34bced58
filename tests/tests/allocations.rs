//! A hit in memory allocates nothing, and evicted entries are freed. This is its own binary,
//! because its allocator counts by thread.

#![cfg(not(shuttle))]
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{AsyncStore, BoxFuture, Entry, Form, Key, Local, Options, Result, Server, Ttl};
use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores;
use cacheio_tests::world::block_on;

/// Returns how often the second of two runs allocates.
fn allocations<T>(run: impl Fn() -> T) -> u64 {
    drop(run());
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(run()));
    drop(result);
    counted.count_total
}

/// Polls a future that is ready at once, without moving it to the heap.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit on memory suspends"),
    }
}

const LONG: &str = "a key that is too long to be kept in place, and is looked up all the same";

fn values() -> Vec<(&'static str, String)> {
    vec![("text", "x".repeat(1_000)), (LONG, "y".repeat(1_000))]
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Box::new(1)), 1);
    assert_eq!(allocations(|| 1), 0);
}

#[test]
fn a_hit_allocates_nothing_in_threads() {
    for namespace in ["", "shop"] {
        let cache = Cache::builder().namespace(namespace).build().unwrap();
        cache.set_many(values()).unwrap();
        cache.set(("user", 42), String::from("Ada")).unwrap();
        cache.set("number", 7_u64).unwrap();
        cache
            .set("local", Local::new(String::from("kept")))
            .unwrap();
        let owned = String::from("text");
        let numbers = cache.typed::<String, u64>("number");
        numbers.set(LONG, 7).unwrap();
        let loading = numbers.clone().loader(|text| text.parse::<u64>());
        let hits = [
            (
                "get of a handle",
                allocations(|| numbers.get(LONG).unwrap().unwrap()),
            ),
            (
                "get of a handle with a loader",
                allocations(|| loading.get(LONG).unwrap()),
            ),
            ("a clone of a handle", allocations(|| loading.clone())),
            (
                "get_arc",
                allocations(|| cache.get_arc::<String>("text").unwrap().unwrap()),
            ),
            (
                "get_arc, long key",
                allocations(|| cache.get_arc::<String>(LONG).unwrap().unwrap()),
            ),
            (
                "get_arc, &String",
                allocations(|| cache.get_arc::<String>(&owned).unwrap().unwrap()),
            ),
            (
                "get_arc, tuple",
                allocations(|| cache.get_arc::<String>(("user", 42)).unwrap().unwrap()),
            ),
            (
                "get",
                allocations(|| cache.get::<u64>("number").unwrap().unwrap()),
            ),
            (
                "get, local",
                allocations(|| cache.get::<Local<String>>("local").unwrap().unwrap()),
            ),
            ("has", allocations(|| assert!(cache.has("text").unwrap()))),
            (
                "has, tuple",
                allocations(|| assert!(cache.has(("user", 42)).unwrap())),
            ),
            (
                "get_or_set",
                allocations(|| cache.get_or_set("number", || 0_u64)),
            ),
            (
                "get_or_try_set",
                allocations(|| {
                    cache
                        .get_or_try_set("number", || Err::<u64, ()>(()))
                        .unwrap()
                }),
            ),
            (
                "a miss of get",
                allocations(|| assert!(cache.get::<u64>("missing").unwrap().is_none())),
            ),
            (
                "a miss of has",
                allocations(|| assert!(!cache.has(("user", 43)).unwrap())),
            ),
            ("a clone", allocations(|| cache.clone())),
            ("stats", allocations(|| cache.stats().hits)),
        ];
        for (hit, allocations) in hits {
            assert_eq!(allocations, 0, "{hit}, namespace `{namespace}`");
        }
    }
}

#[test]
fn a_hit_allocates_nothing_in_tasks() {
    for namespace in ["", "shop"] {
        let cache = AsyncCache::builder().namespace(namespace).build().unwrap();
        ready(cache.set_many(values())).unwrap();
        ready(cache.set(("user", 42), String::from("Ada"))).unwrap();
        ready(cache.set("number", 7_u64)).unwrap();
        ready(cache.set("local", Local::new(String::from("kept")))).unwrap();
        let numbers = cache.typed::<String, u64>("number");
        ready(numbers.set(LONG, 7)).unwrap();
        let loading = numbers
            .clone()
            .loader(|text| async move { text.parse::<u64>() });
        let hits = [
            (
                "get of a handle",
                allocations(|| ready(numbers.get(LONG)).unwrap().unwrap()),
            ),
            (
                "get of a handle with a loader",
                allocations(|| ready(loading.get(LONG)).unwrap()),
            ),
            (
                "get_arc",
                allocations(|| ready(cache.get_arc::<String>("text")).unwrap().unwrap()),
            ),
            (
                "get_arc, long key",
                allocations(|| ready(cache.get_arc::<String>(LONG)).unwrap().unwrap()),
            ),
            (
                "get_arc, tuple",
                allocations(|| {
                    ready(cache.get_arc::<String>(("user", 42)))
                        .unwrap()
                        .unwrap()
                }),
            ),
            (
                "get",
                allocations(|| ready(cache.get::<u64>("number")).unwrap().unwrap()),
            ),
            (
                "get, local",
                allocations(|| ready(cache.get::<Local<String>>("local")).unwrap().unwrap()),
            ),
            (
                "has",
                allocations(|| assert!(ready(cache.has("text")).unwrap())),
            ),
            (
                "has, tuple",
                allocations(|| assert!(ready(cache.has(("user", 42))).unwrap())),
            ),
            (
                "get_or_set",
                allocations(|| ready(cache.get_or_set("number", || async { 0_u64 }))),
            ),
            (
                "get_or_try_set",
                allocations(|| {
                    ready(cache.get_or_try_set("number", || async { Err::<u64, ()>(()) })).unwrap()
                }),
            ),
            (
                "a miss of get",
                allocations(|| assert!(ready(cache.get::<u64>("missing")).unwrap().is_none())),
            ),
            ("a clone", allocations(|| cache.clone())),
        ];
        for (hit, allocations) in hits {
            assert_eq!(allocations, 0, "{hit}, namespace `{namespace}`");
        }
    }
}

/// Options with every policy.
fn policies() -> Options {
    let minute = Duration::from_secs(60);
    Options::new()
        .ttl(10 * minute)
        .jitter(0.1)
        .stale_for(10 * minute)
        .retry_after(minute)
        .refresh_ahead(0.8)
        .soft_timeout(minute / 100)
        .hard_timeout(minute)
        .max_load(minute)
        .ttl_none(minute)
}

#[test]
fn a_hit_with_all_policies_allocates_nothing() {
    let cache = Cache::builder().build().unwrap();
    let tasks = AsyncCache::builder().build().unwrap();
    for (key, options) in [
        ("plain", policies()),
        ("idle", policies().ttl_idle(Duration::from_secs(60))),
        ("tagged", policies().tags(["t"])),
    ] {
        assert_eq!(cache.get_or_set_with(key, options.clone(), || 7_u64), 7);
        assert_eq!(
            ready(tasks.get_or_set_with(key, options, || async { 7_u64 })),
            7
        );
        let hits = [
            allocations(|| cache.get_or_set_with(key, policies(), || 0_u64)),
            allocations(|| cache.get::<u64>(key).unwrap().unwrap()),
            allocations(|| {
                cache
                    .fetch_with(key, policies(), |_| Err::<u64, ()>(()))
                    .unwrap()
            }),
            allocations(|| ready(tasks.get_or_set_with(key, policies(), || async { 0_u64 }))),
            allocations(|| ready(tasks.get::<u64>(key)).unwrap().unwrap()),
            allocations(|| {
                let load = |_| async { Err::<u64, ()>(()) };
                ready(tasks.fetch_with(key, policies(), load)).unwrap()
            }),
        ];
        assert_eq!(hits, [0; 6], "{key}");
    }
}

#[test]
fn get_arc_copies_nothing() {
    let cache = Cache::builder().build().unwrap();
    cache.set("k", vec![0_u8; 1 << 20]).unwrap();
    let one = cache.get_arc::<Vec<u8>>("k").unwrap().unwrap();
    let two = cache.get_arc::<Vec<u8>>("k").unwrap().unwrap();
    assert!(Arc::ptr_eq(&one, &two));
}

/// Memory remembers a limited number of evicted keys, however light the entries are compared to the
/// capacity.
#[test]
fn memory_with_a_weigher_remembers_a_limited_number_of_evicted_keys() {
    let memory = Memory::builder().max_weight(64 << 20, |_, _| 64 << 10);
    let cache = Cache::builder().store(memory.build()).build().unwrap();
    let fill = |keys: std::ops::Range<u64>| {
        for key in keys {
            cache.set(key, key).unwrap();
        }
    };
    fill(0..50_000);
    let more = allocation_counter::measure(|| fill(50_000..300_000));
    assert!(
        more.bytes_current < 256 << 10,
        "{} bytes more",
        more.bytes_current
    );
}

/// Decorated functions with two arguments in their keys.
mod decorated {
    use cacheio::{
        AsyncCache, AsyncCacheable, Cache, CacheFactory, Cacheable, Local, async_cached, cached,
    };
    use std::sync::Arc;

    use super::{allocations, ready};

    #[derive(Clone, Cacheable)]
    struct Shop {
        cache: Cache,
    }

    impl Shop {
        #[cached(key = "price:{region}:{id}")]
        fn price(&self, region: &str, id: u64) -> u64 {
            region.len() as u64 + id
        }

        #[cached]
        fn by_all_arguments(&self, region: &str, id: u64) -> u64 {
            region.len() as u64 + id
        }

        #[cached(key = (region, id))]
        fn page(&self, region: &str, id: u64) -> Local<String> {
            Local::new(format!("{region}: {id}"))
        }

        #[cached(key = "ahead:{region}:{id}", stale_for = "1h", refresh_ahead = 0.8)]
        fn ahead(&self, region: &str, id: u64) -> u64 {
            self.price(region, id)
        }
    }

    #[derive(Clone, AsyncCacheable)]
    struct AsyncShop {
        cache: AsyncCache,
    }

    impl AsyncShop {
        #[async_cached(key = "price:{region}:{id}")]
        async fn price(&self, region: &str, id: u64) -> u64 {
            region.len() as u64 + id
        }

        #[async_cached]
        async fn by_all_arguments(&self, region: &str, id: u64) -> u64 {
            region.len() as u64 + id
        }

        #[async_cached(key = (region, id))]
        async fn page(&self, region: &str, id: u64) -> Local<String> {
            Local::new(format!("{region}: {id}"))
        }

        #[async_cached(key = "ahead:{region}:{id}", stale_for = "1h", refresh_ahead = 0.8)]
        async fn ahead(&self, region: &str, id: u64) -> u64 {
            self.price(region, id).await
        }
    }

    #[cached]
    fn free(region: &str, id: u64) -> Arc<String> {
        Arc::new(format!("{region}: {id}"))
    }

    #[cached]
    async fn async_free(region: &str, id: u64) -> Arc<String> {
        Arc::new(format!("{region}: {id}"))
    }

    #[test]
    fn a_decorated_hit_allocates_nothing_in_threads() {
        let shop = Shop {
            cache: CacheFactory::memory_cache(),
        };
        assert_eq!(allocations(|| shop.price("eu-west", 42)), 0);
        assert_eq!(allocations(|| shop.by_all_arguments("eu-west", 42)), 0);
        assert_eq!(allocations(|| shop.page("eu-west", 42)), 0);
        assert_eq!(allocations(|| shop.ahead("eu-west", 42)), 0);
        assert_eq!(allocations(|| free("eu-west", 42)), 0);
    }

    #[test]
    fn a_decorated_hit_allocates_nothing_in_tasks() {
        let shop = AsyncShop {
            cache: CacheFactory::async_memory_cache(),
        };
        assert_eq!(allocations(|| ready(shop.price("eu-west", 42))), 0);
        assert_eq!(
            allocations(|| ready(shop.by_all_arguments("eu-west", 42))),
            0
        );
        assert_eq!(allocations(|| ready(shop.page("eu-west", 42))), 0);
        assert_eq!(allocations(|| ready(shop.ahead("eu-west", 42))), 0);
        assert_eq!(allocations(|| ready(async_free("eu-west", 42))), 0);
    }
}

/// A key that servers can hold.
const LONG_ON_SERVERS: &str =
    "a-key-that-is-too-long-to-be-kept-in-place-and-is-looked-up-all-the-same";

fn values_on_servers() -> Vec<(&'static str, String)> {
    vec![
        ("text", "x".repeat(1_000)),
        (LONG_ON_SERVERS, "y".repeat(1_000)),
    ]
}

/// A map that replaces a server, with L1 before it.
fn l1() -> L1 {
    L1::new(Memory::with_capacity(100)).max_staleness(Duration::from_secs(3_600))
}

#[test]
fn a_hit_in_l1_allocates_nothing() {
    let env = TestEnv::new(Time::system());
    let cache = Cache::builder().store(stores::bytes(&env)).l1(l1());
    let cache = cache.build().unwrap();
    cache.set_many(values_on_servers()).unwrap();
    cache.set(("user", 42), String::from("Ada")).unwrap();
    cache.set("number", 7_u64).unwrap();
    let hits = [
        (
            "get_arc",
            allocations(|| cache.get_arc::<String>("text").unwrap().unwrap()),
        ),
        (
            "get_arc, long key",
            allocations(|| cache.get_arc::<String>(LONG_ON_SERVERS).unwrap().unwrap()),
        ),
        (
            "get_arc, tuple",
            allocations(|| cache.get_arc::<String>(("user", 42)).unwrap().unwrap()),
        ),
        (
            "get",
            allocations(|| cache.get::<u64>("number").unwrap().unwrap()),
        ),
        (
            "get_or_set",
            allocations(|| cache.get_or_set("number", || 0_u64)),
        ),
        ("has", allocations(|| assert!(cache.has("text").unwrap()))),
    ];
    for (hit, allocations) in hits {
        assert_eq!(allocations, 0, "{hit}");
    }
    let cache = AsyncCache::builder()
        .store(stores::yielding_bytes(&env))
        .l1(l1());
    let cache = cache.build().unwrap();
    block_on(async {
        cache.set_many(values_on_servers()).await.unwrap();
        cache
            .get_many::<String>(["text", LONG_ON_SERVERS])
            .await
            .unwrap();
    });
    for key in ["text", LONG_ON_SERVERS] {
        // Nor does it suspend.
        let get = || ready(cache.get_arc::<String>(key)).unwrap().unwrap();
        assert_eq!(allocations(get), 0, "{key}, in tasks");
    }
}

/// A store that keeps nothing, with or without a server.
#[derive(Debug)]
struct Remote(Option<Server>);

impl AsyncStore for Remote {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get<'a>(&'a self, _: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn set<'a>(
        &'a self,
        _: &'a Key<'a>,
        _: Entry,
        _: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete<'a>(&'a self, _: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn clear<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn server(&self) -> Option<Server> {
        self.0.clone()
    }
}

#[test]
fn spans_without_a_subscriber_allocate_nothing() {
    let of_a_get = |server| {
        let cache = AsyncCache::builder().store(Remote(server)).build().unwrap();
        allocations(|| ready(cache.get::<u64>("key")).unwrap())
    };
    let server = Server::new("redis").at("127.0.0.1", 6379);
    assert_eq!(of_a_get(Some(server)), of_a_get(None));
}

#[test]
fn a_hit_allocates_nothing_with_a_removal_listener() {
    let memory = Memory::builder().capacity(10_000).on_removal(drop);
    let cache = Cache::builder().store(memory.build()).build().unwrap();
    cache.set_many(values()).unwrap();
    cache.set_with("number", 7_u64, Ttl::Never).unwrap();
    assert_eq!(allocations(|| cache.get_arc::<String>(LONG)), 0);
    assert_eq!(allocations(|| cache.has("text")), 0);
    assert_eq!(allocations(|| cache.get::<u64>("number")), 0);
    assert_eq!(allocations(|| cache.get_or_set("number", || 0_u64)), 0);
    assert_eq!(allocations(|| cache.get::<u64>("absent")), 0);
}
