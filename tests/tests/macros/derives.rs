//! The derives.

use std::marker::PhantomData;

use crate::prelude::*;

#[derive(CacheKey)]
struct Search {
    text: String,
    page: u32,
    #[cache_key(skip)]
    _trace: PhantomData<Runs>,
}

#[derive(CacheKey)]
#[cache_key(prefix = "user")]
struct User<'a, T>(u64, &'a T);

#[derive(CacheKey)]
struct Id(u64);

#[derive(CacheKey)]
struct Unit;

#[derive(CacheKey)]
#[allow(dead_code)]
enum Kind<T: Iterator<Item = u8>, const N: usize> {
    Plain,
    Tuple(u8, T::Item),
    Named {
        a: [u8; N],
        r#type: Option<&'static str>,
    },
    #[allow(clippy::zero_sized_map_values)]
    Skipped(#[cache_key(skip)] Vec<T>),
}

type Bytes = std::vec::IntoIter<u8>;

#[test]
fn keys_of_structs() {
    let search = |text: &str| Search {
        text: text.into(),
        page: 2,
        _trace: PhantomData,
    };
    assert_eq!(key_text(search("a:b")), "a%3Ab:2");
    assert_eq!(key_text((1, search("x"))), "1:(x:2)");
    assert_eq!(key_text(User(7, &"x")), "user:7:x");
    assert_eq!(key_text(Unit), "Unit");
    assert_eq!(key_text(("id", Id(7))), "id:7");
}

#[test]
fn keys_of_enums() {
    type K = Kind<Bytes, 2>;
    assert_eq!(key_text(K::Plain), "Plain");
    assert_eq!(key_text(K::Tuple(1, 2)), "Tuple:1:2");
    let named = K::Named {
        a: [1, 2],
        r#type: None,
    };
    assert_eq!(key_text(named), "Named:[1:2]:%none");
    assert_eq!(key_text(("k", K::Tuple(1, 2))), "k:(Tuple:1:2)");
    assert_eq!(key_text(K::Skipped(Vec::new())), "Skipped");
}

#[test]
fn derived_keys_as_arguments() {
    #[cached(key = "{id}/{unit}")]
    fn by_id(id: &Id, unit: Unit) -> u64 {
        let Unit = unit;
        id.0
    }
    #[cached]
    fn by_search(search: &Search) -> String {
        search.text.clone()
    }
    assert_eq!(by_id(&Id(4), Unit), 4);
    let search = Search {
        text: "x".into(),
        page: 1,
        _trace: PhantomData,
    };
    assert_eq!(by_search(&search), "x");
}

#[derive(Cacheable)]
struct Marked<T> {
    #[cache]
    users: Arc<Cache>,
    _rest: T,
}

#[derive(Cacheable)]
struct Unnamed<'a>(u8, #[cache] &'a Cache);

#[derive(AsyncCacheable)]
struct NamedAsync {
    cache: AsyncCache,
}

#[derive(AsyncCacheable)]
struct MarkedAsync(#[cache] AsyncCache);

#[derive(Cacheable)]
#[cacheio(crate = cacheio)]
struct ByPath {
    cache: Cache,
}

impl<T> Marked<T> {
    #[cached(key = "k")]
    fn get(&self) -> u8 {
        1
    }
}

impl Unnamed<'_> {
    #[cached(key = "k")]
    fn get(&self) -> u8 {
        self.0
    }
}

impl NamedAsync {
    #[cached(key = "k")]
    async fn get(&self) -> u8 {
        1
    }
}

impl MarkedAsync {
    #[cached(key = "k")]
    async fn get(&self) -> u8 {
        1
    }
}

impl ByPath {
    #[cached(key = "k")]
    fn get(&self) -> u8 {
        1
    }
}

#[test]
fn fields_that_hold_the_cache() {
    let caches = [(); 3].map(|()| CacheFactory::memory_cache());
    let marked = Marked {
        users: Arc::new(caches[0].clone()),
        _rest: (),
    };
    marked.get();
    Unnamed(1, &caches[1]).get();
    let by_path = ByPath {
        cache: caches[2].clone(),
    };
    by_path.get();
    for cache in caches {
        assert!(cache.has("k").unwrap());
    }
}

#[tokio::test]
async fn fields_that_hold_the_async_cache() {
    let caches = [(); 2].map(|()| CacheFactory::async_memory_cache());
    let named = NamedAsync {
        cache: caches[0].clone(),
    };
    named.get().await;
    MarkedAsync(caches[1].clone()).get().await;
    for cache in caches {
        assert!(cache.has("k").await.unwrap());
    }
}

#[test]
fn types_generated_by_a_macro() {
    macro_rules! types {
        ($name:ident, $cache:ty, $key:ident, $field:ty) => {
            #[derive(Cacheable)]
            struct $name {
                cache: $cache,
            }

            #[derive(CacheKey)]
            struct $key {
                field: $field,
                other: u8,
            }
        };
    }
    types!(Written, Cache, Key, u8);
    let written = Written {
        cache: CacheFactory::memory_cache(),
    };
    assert!(
        !Cacheable::cache(&written)
            .has(Key { field: 1, other: 2 })
            .unwrap()
    );
    assert_eq!(key_text(Key { field: 1, other: 2 }), "1:2");
}
