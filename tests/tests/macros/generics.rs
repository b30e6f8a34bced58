//! Generics, lifetimes, `impl Trait`.

use std::fmt::{Debug, Display};
use std::marker::PhantomData;

use crate::prelude::*;

struct Typed<T>(PhantomData<T>);

impl<T: Default + Debug> Typed<T> {
    #[cached]
    fn associated(n: u64) -> String {
        format!("{n} {:?}", T::default())
    }

    #[cached]
    async fn associated_async(n: u64) -> String {
        format!("{n} {:?}", T::default())
    }
}

#[test]
fn instances_of_generic_functions_do_not_share() {
    #[cached]
    fn of_type<T: Default + Debug>() -> String {
        format!("{:?}", T::default())
    }
    #[cached]
    fn of_const<const N: usize>(n: usize) -> usize {
        n * N
    }
    #[cached]
    fn of_argument(shown: impl Display + CacheKey) -> String {
        format!("{} {shown}", std::any::type_name_of_val(&shown))
    }
    assert_eq!(
        (of_type::<u8>(), of_type::<String>(), of_type::<u8>()),
        ("0".into(), "\"\"".into(), "0".into())
    );
    assert_eq!(
        (of_const::<2>(3), of_const::<3>(3), of_const::<2>(3)),
        (6, 9, 6)
    );
    assert_eq!(
        (of_argument(1_u8), of_argument(1_u16)),
        ("u8 1".into(), "u16 1".into())
    );
    assert_eq!(Typed::<u8>::associated(1), "1 0");
    assert_eq!(Typed::<bool>::associated(1), "1 false");
    assert_eq!(Typed::<u8>::associated(1), "1 0");
}

#[tokio::test]
async fn instances_of_generic_async_functions_do_not_share() {
    #[cached]
    async fn of_type<T: Default + Debug>(n: u8) -> String {
        format!("{n} {:?}", T::default())
    }
    assert_eq!(
        (of_type::<u8>(1).await, of_type::<bool>(1).await),
        ("1 0".into(), "1 false".into())
    );
    assert_eq!(Typed::<u8>::associated_async(1).await, "1 0");
    assert_eq!(Typed::<bool>::associated_async(1).await, "1 false");
}

/// In this module, `<u8 as macros::Lab>` is as long as the path of a function that is not generic.
mod a {
    use super::*;

    impl<T: Debug> crate::Lab for T {
        #[cached]
        fn type_name() -> String {
            std::any::type_name::<T>().into()
        }
    }
}

#[test]
fn instances_with_a_name_as_long_as_the_module_path_do_not_share() {
    use crate::Lab;
    assert_eq!(
        "<u8 as macros::Lab>".len(),
        concat!(module_path!(), "::a").len()
    );
    assert_eq!(
        (<u8 as Lab>::type_name(), <i8 as Lab>::type_name()),
        ("u8".into(), "i8".into())
    );
}

trait Shown: Debug + Default {
    #[cached]
    fn shown() -> String {
        format!("{:?}", Self::default())
    }
}

#[derive(Debug, Default)]
struct One;

#[derive(Debug, Default)]
struct Two;

impl Shown for One {}
impl Shown for Two {}

#[test]
fn instances_of_a_default_method_do_not_share() {
    assert_eq!(
        (One::shown(), Two::shown(), One::shown()),
        ("One".into(), "Two".into(), "One".into())
    );
}

#[test]
fn lifetimes_and_where_clauses() {
    #[cached]
    fn longest<'a, 'b: 'a, T>(a: &'a str, b: &'b str, rest: &[T]) -> String
    where
        T: AsRef<str> + CacheKey,
    {
        let all = [a, b].into_iter().chain(rest.iter().map(AsRef::as_ref));
        all.max_by_key(|text| text.len())
            .unwrap_or_default()
            .to_owned()
    }
    assert_eq!(longest("a", "bbb", &["cc"]), "bbb");
    assert_eq!(longest("a", "bbb", &[String::from("cccc")]), "cccc");
}

#[test]
fn generic_values_and_errors() {
    fn generic<T, E>(n: u8, make: impl Fn(u8) -> Result<T, E>) -> Result<T, E>
    where
        T: Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        #[cached(skip(make))]
        fn inner<T: Clone + Send + Sync + 'static, E: Send + Sync + 'static>(
            n: u8,
            make: impl Fn(u8) -> Result<T, E>,
        ) -> Result<T, E> {
            make(n)
        }
        inner(n, make)
    }
    let runs = Runs::new();
    let make = |n: u8| -> Result<u8, String> {
        runs.count();
        Ok(n)
    };
    assert_eq!((generic(1, make), generic(1, make)), (Ok(1), Ok(1)));
    assert_eq!(runs.get(), 1);
}
