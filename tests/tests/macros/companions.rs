//! The companions `find_key`, `find_invalidate` and `find_refresh`.

use crate::prelude::*;

impl Service {
    #[cached(key = "user:{user_id}", companions)]
    pub(crate) fn fetch(&self, user_id: u64, request_id: &str) -> String {
        format!("{request_id} {}", self.runs.count())
    }

    #[cached(skip(context), companions)]
    fn find<T: AsRef<str>>(&mut self, id: u64, context: T) -> String {
        format!("{id} {} {}", context.as_ref(), self.runs.count())
    }

    #[async_cached(key = (user_id, kind.0), companions)]
    async fn fetch_async(
        &self,
        user_id: u64,
        kind: (u8, u8),
        request_id: &str,
    ) -> anyhow::Result<String> {
        anyhow::ensure!(request_id != "fail", "failed");
        Ok(format!("{request_id} {}", self.runs.count()))
    }
}

#[test]
fn companions_take_the_arguments_of_the_key() {
    let service = Service::new();
    assert_eq!(service.fetch_key(7), "user:7");
    assert_eq!(service.fetch(7, "a"), "a 1");
    assert!(service.fetch_invalidate(7).unwrap());
    assert!(!service.fetch_invalidate(7).unwrap());
    assert_eq!(service.fetch(7, "b"), "b 2");
}

#[test]
fn companions_refresh_replaces_the_entry() {
    let service = Service::new();
    assert_eq!(service.fetch(7, "a"), "a 1");
    assert_eq!(service.fetch_refresh(7, "b"), "b 2");
    assert_eq!(service.fetch(7, "c"), "b 2");
    assert_eq!(service.runs.get(), 2);
}

#[test]
fn companions_of_the_key_of_all_arguments() {
    let mut service = Service::new();
    assert_eq!(service.find(7, "a"), "7 a 1");
    let key = service.find_key::<&str>(7);
    assert!(key.ends_with(".find<&str>:7"), "{key}");
    assert!(service.cache.has(key.as_str()).unwrap());
    assert!(service.find_invalidate::<&str>(7).unwrap());
    assert_eq!(service.find_refresh(7, "b"), "7 b 2");
    assert_eq!(service.find(7, "c"), "7 b 2");
    assert_eq!(service.find(7, String::from("c")), "7 c 3");
}

#[tokio::test]
async fn companions_of_async_functions() {
    let service = Service::new();
    assert_eq!(service.fetch_async_key(7, (1, 2)), "7:1");
    assert_eq!(service.fetch_async(7, (1, 2), "a").await.unwrap(), "a 1");
    assert_eq!(
        service.fetch_async_refresh(7, (1, 2), "b").await.unwrap(),
        "b 2"
    );
    assert!(
        service
            .fetch_async_refresh(7, (1, 2), "fail")
            .await
            .is_err()
    );
    assert_eq!(service.fetch_async(7, (1, 3), "c").await.unwrap(), "b 2");
    assert!(service.fetch_async_invalidate(7, (1, 2)).await.unwrap());
    assert_eq!(service.fetch_async(7, (1, 2), "d").await.unwrap(), "d 3");
}

static SQUARES: Runs = Runs::new();

#[cached(companions, capacity = 100)]
fn square(n: u64) -> u64 {
    SQUARES.count();
    n * n
}

#[test]
fn companions_share_the_own_cache() {
    assert_eq!((square_refresh(3), square(3), SQUARES.get()), (9, 9, 1));
    assert!(square_invalidate(3).unwrap());
    assert_eq!((square(3), SQUARES.get()), (9, 2));
    assert_eq!(square_key(3), "3");
}

struct Typed<T>(T);

impl<T: Default + std::fmt::Debug> Typed<T> {
    #[cached(companions)]
    fn shown(n: u8) -> String {
        format!("{n} {:?}", T::default())
    }
}

#[test]
fn companions_of_generic_types() {
    let _ = Typed(0).0;
    assert_eq!(
        (Typed::<u8>::shown(1), Typed::<bool>::shown(1)),
        ("1 0".into(), "1 false".into())
    );
    assert!(Typed::<u8>::shown_key(1).ends_with("Typed<u8>.shown:1"));
    assert!(Typed::<u8>::shown_invalidate(1).unwrap());
    assert!(!Typed::<u8>::shown_invalidate(1).unwrap());
    assert!(Typed::<bool>::shown_invalidate(1).unwrap());
}

#[tokio::test]
async fn companions_take_the_cache_where_it_is_an_argument() {
    #[cached(cache = state.async_cache, key = "{id}", companions)]
    async fn load<D>(state: Arc<Service>, id: u8, shown: D) -> String
    where
        D: std::fmt::Display + Send,
    {
        drop(state);
        format!("{id} {shown}")
    }
    let state = Arc::new(Service::new());
    assert_eq!(load(Arc::clone(&state), 1, "a").await, "1 a");
    assert_eq!(load_key(1), "1");
    assert!(load_invalidate(Arc::clone(&state), 1).await.unwrap());
    assert_eq!(load_refresh(Arc::clone(&state), 1, 5).await, "1 5");
    assert_eq!(load(state, 1, "a").await, "1 5");
}

mod elsewhere {
    use super::*;

    #[cached(companions)]
    pub(super) fn visible(n: u8) -> u8 {
        n
    }
}

#[test]
fn companions_have_the_visibility_of_the_function() {
    elsewhere::visible(1);
    assert_eq!(elsewhere::visible_key(1), "1");
    assert!(elsewhere::visible_invalidate(1).unwrap());
    assert_eq!(elsewhere::visible_refresh(1), 1);
}

#[test]
fn companions_of_patterns() {
    #[cached(key = "{a}", companions)]
    fn first((a, b): (u8, u8), mut n: u8) -> u8 {
        n += a + b;
        n
    }
    #[cached(companions)]
    fn all((a, b): (u8, u8), mut n: u8) -> u8 {
        n += a + b;
        n
    }
    assert_eq!((first((1, 2), 3), first_refresh((1, 2), 4)), (6, 7));
    assert_eq!(first_key((1, 9)), "1");
    assert_eq!((all((1, 2), 3), all_refresh((1, 2), 3)), (6, 6));
    assert!(all_invalidate((1, 2), 3).unwrap());
}

#[test]
fn the_cache_of_a_function_can_be_reached() {
    #[cached(companions, capacity = 10)]
    fn square(n: u64) -> u64 {
        n * n
    }
    // The value needs no serde.
    #[derive(Clone)]
    struct Plain;
    #[cached(companions)]
    fn generic<T: std::fmt::Debug + CacheKey + 'static>(value: T) -> Plain {
        let _ = value;
        Plain
    }
    let cache: &'static Cache = square_cache();
    assert_eq!(cache.stats().loads, 0);
    square(3);
    square(3);
    assert_eq!((cache.stats().loads, cache.stats().hits), (1, 1));
    cache.clear().unwrap();
    square(3);
    assert_eq!(square_cache().stats().loads, 2);
    generic(1);
    generic("a");
    assert_eq!(generic_cache().stats().loads, 2);
}

#[tokio::test]
async fn the_cache_of_an_async_function_can_be_reached() {
    #[cached(companions)]
    async fn square(n: u64) -> u64 {
        n * n
    }
    square(3).await;
    square_cache().clear().await.unwrap();
    square(3).await;
    assert_eq!(square_cache().stats().loads, 2);
}

/// Bounds after the arguments, and an argument that only `force_refresh` uses.
#[test]
#[deny(unused_variables)]
fn companions_of_functions_with_a_where_clause() {
    #[cached(companions)]
    fn text<T>(value: T) -> String
    where
        T: std::fmt::Debug + cacheio_core::CacheKey,
    {
        format!("{value:?}")
    }
    #[cached(key = "{value}", force_refresh = renew, companions)]
    fn renewed<T>(value: T, renew: bool) -> String
    where
        T: std::fmt::Display,
    {
        value.to_string()
    }
    assert_eq!(text(7), "7");
    assert!(!text_key(7).is_empty());
    assert!(text_invalidate(7).unwrap());
    assert_eq!(renewed(7, true), "7");
    assert_eq!(renewed_refresh(7, false), "7");
    assert!(renewed_invalidate(7).unwrap());
}
