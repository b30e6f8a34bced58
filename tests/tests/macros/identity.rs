//! Types and functions that have the same name do not share entries.

use std::fmt::Debug;
use std::sync::LazyLock;

use crate::prelude::*;

static SHARED: LazyLock<Cache> = LazyLock::new(CacheFactory::memory_cache);

/// Calls `$function` with two types of one name.
macro_rules! with_two_types {
    ($function:ident) => {{
        let first = {
            #[derive(Default, Debug)]
            struct Local(#[allow(dead_code)] u8);
            [$function::<Local>(1), $function::<Local>(1)]
        };
        let second = {
            #[derive(Default, Debug)]
            struct Local(#[allow(dead_code)] bool);
            [$function::<Local>(1), $function::<Local>(1)]
        };
        assert_eq!(first, ["1 Local(0)", "1 Local(0)"]);
        assert_eq!(second, ["1 Local(false)", "1 Local(false)"]);
    }};
}

#[test]
fn types_of_one_name_do_not_share() {
    #[cached]
    fn own<T: Default + Debug>(n: u8) -> String {
        format!("{n} {:?}", T::default())
    }
    #[cached(cache = SHARED)]
    fn shared<T: Default + Debug>(n: u8) -> String {
        format!("{n} {:?}", T::default())
    }
    #[cached(refresh_ahead = 0.5)]
    fn background<T: Default + Debug>(n: u8) -> String {
        format!("{n} {:?}", T::default())
    }
    with_two_types!(own);
    with_two_types!(shared);
    with_two_types!(background);
}

#[test]
fn companions_of_types_of_one_name_do_not_share() {
    #[cached(companions)]
    fn own<T: Default + Debug>(n: u8) -> String {
        format!("{n} {:?}", T::default())
    }
    #[cached(cache = SHARED, companions)]
    fn shared<T: Default + Debug>(n: u8) -> String {
        format!("{n} {:?}", T::default())
    }
    with_two_types!(own_refresh);
    with_two_types!(shared_refresh);
    with_two_types!(own);
    with_two_types!(shared);
    {
        #[derive(Default, Debug)]
        struct Local;
        assert!(!own_invalidate::<Local>(1).unwrap());
        assert!(!shared_invalidate::<Local>(1).unwrap());
        assert_eq!(own::<Local>(1), "1 Local");
        assert!(
            SHARED
                .get::<String>(shared_key::<Local>(1))
                .unwrap()
                .is_none()
        );
        assert_eq!(shared::<Local>(1), "1 Local");
        assert_eq!(
            SHARED.get(shared_key::<Local>(1)).unwrap(),
            Some("1 Local".to_owned())
        );
        assert!(own_invalidate::<Local>(1).unwrap());
        assert!(shared_invalidate::<Local>(1).unwrap());
    }
}

#[test]
fn closures_do_not_share() {
    #[cached(skip(make))]
    fn own(n: u8, make: impl Fn() -> u8) -> u8 {
        n + make()
    }
    #[cached(cache = SHARED, skip(make))]
    fn shared(n: u8, make: impl Fn() -> u8) -> u8 {
        n + make()
    }
    assert_eq!((own(1, || 1), own(1, || 2)), (2, 3));
    assert_eq!((shared(1, || 1), shared(1, || 2)), (2, 3));
}

#[test]
fn functions_of_one_name_do_not_share() {
    let first = {
        #[cached(cache = SHARED)]
        fn local(n: u8) -> u8 {
            n
        }
        local(1)
    };
    let second = {
        #[cached(cache = SHARED)]
        fn local(n: u8) -> u8 {
            n + 1
        }
        local(1)
    };
    let third = {
        #[cached(cache = SHARED, companions)]
        fn local(n: u8) -> u8 {
            n + 2
        }
        local(1);
        local_refresh(1)
    };
    assert_eq!((first, second, third), (1, 2, 3));
}

#[test]
fn methods_of_types_of_one_name_do_not_share() {
    let cache = CacheFactory::memory_cache();
    let first = {
        #[derive(Cacheable)]
        struct Local {
            cache: Cache,
        }
        impl Local {
            #[cached]
            fn find(&self, n: u8) -> u8 {
                n
            }
        }
        let local = Local {
            cache: cache.clone(),
        };
        local.find(1)
    };
    let second = {
        #[derive(Cacheable)]
        struct Local {
            cache: Cache,
        }
        impl Local {
            #[cached]
            fn find(&self, n: u8) -> u8 {
                n + 1
            }
        }
        Local { cache }.find(1)
    };
    assert_eq!((first, second), (1, 2));
}
