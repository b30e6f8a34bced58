//! The code of the macros compiles whatever is in scope, and whatever lints are forbidden.

#![cfg(not(shuttle))]
#![forbid(unused_imports, unused_variables, unused_must_use, unused_assignments)]
#![forbid(unreachable_code, unused_qualifications, unsafe_code, missing_docs)]
#![deny(warnings, clippy::all, clippy::pedantic)]

use cacheio::{CacheFactory, CacheKey, Cacheable, async_cached, cached};
use hostile::*;

/// Names that a glob import brings, as `diesel`'s `dsl::*` does, and methods of every type.
mod hostile {
    #![allow(
        non_camel_case_types,
        non_upper_case_globals,
        dead_code,
        clippy::module_name_repetitions
    )]

    pub(super) struct duration;
    pub(super) struct wrong;
    pub(super) struct str;
    pub(super) struct bool;
    pub(super) struct u64;
    pub(super) struct usize;
    pub(super) const key: u8 = 1;
    pub(super) const error: u8 = 1;
    pub(super) const value: u8 = 1;
    pub(super) struct Option;
    pub(super) struct Result;
    pub(super) struct String;
    pub(super) struct Box;
    pub(super) struct Cache;
    pub(super) mod core {}
    pub(super) mod std {}

    pub(super) trait Everything: Sized {
        fn output(&self) {}
        fn write(&self) {}
        fn get(self) {}
        fn delete(self) {}
        fn missed(self) {}
        fn clone_error(&self) {}
        fn convert_error(&self) {}
        fn map(&self) {}
        fn into(&self) {}
        fn display(&self) {}
        fn literal(&self) {}
        fn part(&self) {}
        fn placeholder(&self) {}
        fn tuple(&self) {}
        fn write_key(&self) {}
        fn ttl(&self) {}
        fn tags(&self) {}
        fn clone(&self) {}
        fn is_empty(&self) {}
    }

    impl<T> Everything for T {}
}

/// Macros with the names of those that generated code calls.
#[allow(unused_macros)]
mod shadowed {
    macro_rules! concat {
        ($($tokens:tt)*) => {};
    }
    macro_rules! format_args {
        ($($tokens:tt)*) => {};
    }
    macro_rules! module_path {
        ($($tokens:tt)*) => {};
    }
    macro_rules! panic {
        ($($tokens:tt)*) => {};
    }

    #[::cacheio::cached(key = "{n}:{n:>3}", ttl = "1m", stale_for = "1h", companions)]
    pub(super) fn find(n: u32) -> u32 {
        n
    }
}

#[allow(clippy::module_name_repetitions)]
mod without_prelude {
    #![no_implicit_prelude]

    use ::cacheio::{AsyncCacheable, CacheKey, Cacheable, cached};
    use ::core::clone::Clone;
    use ::core::primitive::u32;

    #[derive(CacheKey, Clone)]
    pub(super) enum Id {
        Number(u32),
        Nothing,
    }

    #[derive(AsyncCacheable, Cacheable)]
    pub(super) struct Service;

    impl Service {
        #[cached(key = "{id}", ttl = "1m", ttl_none = "1s", tags = ["ids"], companions)]
        pub(super) fn find(&self, id: &Id) -> ::core::option::Option<u32> {
            match id {
                Id::Number(n) => ::core::option::Option::Some(*n),
                Id::Nothing => ::core::option::Option::None,
            }
        }

        #[cached(refresh_ahead = 0.5, cache_if = |n| *n > 0, companions)]
        pub(super) async fn find_later(&self, n: u32) -> ::cacheio::Result<u32> {
            ::core::result::Result::Ok(n)
        }
    }
}

#[derive(CacheKey, Clone)]
struct Id(u32);

#[derive(CacheKey, Clone)]
struct Pair {
    first: u32,
    second: u32,
}

#[derive(Cacheable)]
struct Service {
    cache: ::cacheio::Cache,
}

impl Service {
    #[cached(ttl = "1m", stale_for = "1h", companions)]
    fn find(&self, n: u32) -> u32 {
        n
    }

    #[cached(key = "k:{type}:{id.0}", ttl = 60, tags = ["all"], companions)]
    fn by_keyword(&self, r#type: u32, id: &Id) -> u32 {
        r#type + id.0
    }
}

#[cached(ttl = "1m", ttl_none = "1s", companions)]
fn own(n: u32) -> ::core::option::Option<u32> {
    Some(n)
}

#[cached(key = "{type}")]
fn placeholder(r#type: u32) -> u32 {
    r#type
}

#[cached(skip(r#fn))]
fn skipped(n: u32, r#fn: impl Fn() -> u32) -> u32 {
    n + r#fn()
}

#[cached(refresh_ahead = 0.5, hard_timeout = "1s", max_load = "1m", companions)]
fn background(
    text: &::core::primitive::str,
    id: Id,
) -> ::core::result::Result<u32, cacheio::Error> {
    Ok(text.bytes().map(u32::from).sum::<u32>() + id.0)
}

#[async_cached]
#[rustfmt::skip]
async fn one_line(n: u32) -> u32 { n }

#[async_cached(ttl = "1m", companions)]
async fn diverging(n: u32) -> u32 {
    ::std::future::ready(()).await;
    return n;
}

#[async_cached(cache_if = |shown| format!("{shown:?}").len() < 100)]
async fn coerced(n: u32, pair: Pair) -> ::std::sync::Arc<dyn ::std::fmt::Debug + Send + Sync> {
    let sum = ::std::future::ready(n + pair.first + pair.second).await;
    if n == 0 {
        return ::std::sync::Arc::new("zero");
    }
    ::std::sync::Arc::new(sum)
}

#[tokio::test]
async fn code_of_the_macros_uses_nothing_in_scope() {
    let service = Service {
        cache: CacheFactory::memory_cache(),
    };
    // The names are in scope.
    let _ = (duration, wrong);
    let id = Id(2);
    assert_eq!(service.find(1), 1);
    assert_eq!(service.by_keyword(1, &id), 3);
    assert_eq!(service.by_keyword_key(1, &id), "k:1:2");
    assert_eq!(own(1), Some(1));
    assert!(own_invalidate(1).unwrap());
    assert_eq!(placeholder(1), 1);
    assert_eq!(skipped(1, || 2), 3);
    assert_eq!(background("\u{1}", id).unwrap(), 3);
    assert_eq!(one_line(4).await, 4);
    assert_eq!(shadowed::find(4), 4);
    assert_eq!(shadowed::find_key(4), "4:  4");
    let (service, id) = (without_prelude::Service, without_prelude::Id::Number(5));
    assert_eq!(service.find(&id), Some(5));
    assert_eq!(service.find(&without_prelude::Id::Nothing), None);
    assert!(service.find_invalidate(&id).unwrap());
    assert_eq!(service.find_later(5).await.unwrap(), 5);
    assert_eq!(diverging(4).await, 4);
    let pair = Pair {
        first: 1,
        second: 2,
    };
    assert_eq!(format!("{:?}", coerced(1, pair).await), "4");
}
