//! The cache that a function uses.

use std::sync::LazyLock;

use crate::prelude::*;

static CACHE: LazyLock<Cache> = LazyLock::new(CacheFactory::memory_cache);

#[test]
fn a_static_cache() {
    #[cached(cache = CACHE, key = "static:{n}")]
    fn double(n: u32) -> u32 {
        n * 2
    }
    assert_eq!(double(4), 8);
    assert_eq!(CACHE.get::<u32>("static:4").unwrap(), Some(8));
    CACHE.set("static:4", 9).unwrap();
    assert_eq!(double(4), 9);
}

#[test]
fn expressions_for_the_cache() {
    struct Holder {
        plain: Cache,
        shared: Arc<Cache>,
    }
    impl Holder {
        fn get(&self) -> Cache {
            self.plain.clone()
        }

        #[cached(cache = self.plain, key = "{n}")]
        fn plain(&self, n: u8) -> u8 {
            n
        }

        #[cached(cache = self.shared, key = "{n}")]
        fn shared(&self, n: u8) -> u8 {
            n
        }

        #[cached(cache = self.get(), key = "{n}")]
        fn temporary(&self, n: u8) -> u8 {
            n
        }
    }
    #[cached(cache = *cache, key = "{n}")]
    fn pointed(cache: &Cache, n: u8) -> u8 {
        let _ = cache;
        n
    }
    #[cached(cache = cache, key = "{n}")]
    fn moved(cache: Cache, n: u8) -> u8 {
        drop(cache);
        n
    }
    let plain = CacheFactory::memory_cache();
    let holder = Holder {
        plain: plain.clone(),
        shared: Arc::new(plain.clone()),
    };
    holder.plain(1);
    holder.shared(2);
    holder.temporary(3);
    pointed(&plain, 4);
    moved(plain.clone(), 5);
    assert_eq!(
        plain.get_many::<u8>([1, 2, 3, 4, 5]).unwrap(),
        [1, 2, 3, 4, 5].map(Some)
    );
}

#[test]
fn receivers() {
    #[derive(Cacheable, Clone)]
    struct Counter {
        cache: Cache,
        runs: Arc<Runs>,
    }
    impl Counter {
        #[cached]
        fn by_reference(&self, n: u8) -> u8 {
            self.runs.count();
            n
        }

        #[cached]
        fn by_mutable(&mut self, n: u8) -> u8 {
            self.runs = Arc::clone(&self.runs);
            self.runs.count();
            n
        }

        #[cached]
        fn by_arc(self: Arc<Self>, n: u8) -> u8 {
            self.runs.count();
            drop(self);
            n
        }

        #[cached]
        fn by_arc_reference(self: &Arc<Self>, n: u8) -> u8 {
            self.runs.count();
            n
        }

        #[cached]
        fn by_value(self, n: u8) -> u8 {
            self.runs.count();
            drop(self);
            n
        }

        #[cached]
        fn by_mutable_value(mut self, n: u8) -> u8 {
            self.runs.count();
            self.runs = Arc::default();
            n + u8::from(self.runs.get() > 0)
        }

        #[cached]
        fn by_pin(self: std::pin::Pin<&mut Self>, n: u8) -> u8 {
            self.runs.count();
            n
        }
    }
    let runs = Arc::new(Runs::new());
    let mut counter = Counter {
        cache: CacheFactory::memory_cache(),
        runs: Arc::clone(&runs),
    };
    let arc = Arc::new(counter.clone());
    for _ in 0..2 {
        counter.by_reference(1);
        counter.by_mutable(1);
        Arc::clone(&arc).by_arc(1);
        arc.by_arc_reference(1);
        counter.clone().by_value(1);
        counter.clone().by_mutable_value(1);
        std::pin::Pin::new(&mut counter).by_pin(1);
    }
    assert_eq!(runs.get(), 7);
}

#[test]
fn capacity_bounds_the_own_cache() {
    static RUNS: Runs = Runs::new();
    const ENTRIES: usize = 10;
    #[cached(capacity = ENTRIES)]
    fn square(n: u64) -> u64 {
        RUNS.count();
        n * n
    }
    for _ in 0..2 {
        for n in 0..1000 {
            assert_eq!(square(n), n * n);
        }
    }
    assert!(RUNS.get() > 1900, "{}", RUNS.get());
}

#[test]
fn an_own_cache_needs_no_serde() {
    #[derive(Clone, Debug, PartialEq)]
    struct Plain(u8);
    static RUNS: Runs = Runs::new();
    #[cached(capacity = 10)]
    fn plain(n: u8) -> Plain {
        RUNS.count();
        Plain(n)
    }
    assert_eq!((plain(1), plain(1)), (Plain(1), Plain(1)));
    assert_eq!(RUNS.get(), 1);
}

#[test]
fn each_function_has_its_own_cache() {
    #[cached]
    fn one(n: u8) -> &'static str {
        let _ = n;
        "one"
    }
    #[cached]
    fn two(n: u8) -> &'static str {
        let _ = n;
        "two"
    }
    assert_eq!((one(1), two(1), one(1)), ("one", "two", "one"));
}

#[test]
fn another_path_to_the_crate() {
    mod mine {
        pub(super) use cacheio as theirs;
    }
    #[cached(crate = mine::theirs)]
    fn by_path(n: u8) -> u8 {
        n
    }
    #[cached(crate = "mine::theirs")]
    fn by_text(n: u8) -> u8 {
        n
    }
    assert_eq!((by_path(1), by_text(2)), (1, 2));
}
