//! Bodies and patterns that work.

use crate::prelude::*;

#[test]
fn no_argument_is_cloned_on_a_hit() {
    struct Precious(u32);
    impl Clone for Precious {
        fn clone(&self) -> Self {
            panic!("cloned")
        }
    }
    impl CacheKey for Precious {
        fn write_key(&self, key: &mut cacheio::KeyWriter<'_>) {
            self.0.write_key(key);
        }
    }
    #[cached]
    fn take(precious: Precious, list: Vec<u8>) -> u32 {
        precious.0 + u32::from(list[0])
    }
    assert_eq!(take(Precious(1), vec![1]), 2);
    assert_eq!(take(Precious(1), vec![1]), 2);
}

#[test]
fn body_moves_its_arguments() {
    static RUNS: Runs = Runs::new();
    #[cached]
    fn join(mut words: Vec<String>, end: String) -> String {
        RUNS.count();
        words.push(end);
        words.into_iter().collect()
    }
    for _ in 0..2 {
        assert_eq!(join(vec!["a".into()], "b".into()), "ab");
    }
    assert_eq!(RUNS.get(), 1);
}

#[test]
fn body_returns_early() {
    #[cached]
    fn sign(n: i32) -> &'static str {
        if n < 0 {
            return "minus";
        }
        for _ in 0..1 {
            if n == 0 {
                return "zero";
            }
        }
        "plus"
    }
    assert_eq!(
        (sign(-1), sign(0), sign(1), sign(-1)),
        ("minus", "zero", "plus", "minus")
    );
}

#[test]
fn body_uses_question_marks() {
    #[cached]
    fn port(text: &str) -> Result<u16, std::num::ParseIntError> {
        let port: u16 = text.parse()?;
        Ok(port)
    }
    #[cached]
    fn first(list: &[u8]) -> Option<u8> {
        let first = list.first()?;
        Some(*first)
    }
    assert_eq!(port("80"), Ok(80));
    assert!(port("x").is_err());
    assert_eq!((first(&[3]), first(&[])), (Some(3), None));
}

#[test]
fn body_is_coerced_to_the_return_type() {
    #[cached]
    fn boxed(n: u8) -> Arc<dyn Fn() -> u8 + Send + Sync> {
        if n == 0 {
            return Arc::new(|| 0);
        }
        Arc::new(move || n)
    }
    assert_eq!((boxed(3)(), boxed(0)()), (3, 0));
}

#[test]
fn recursion() {
    static RUNS: Runs = Runs::new();
    #[cached]
    fn fib(n: u64) -> u64 {
        RUNS.count();
        if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
    }
    assert_eq!(fib(50), 12_586_269_025);
    assert_eq!(RUNS.get(), 51);
}

struct Point {
    x: i32,
    y: i32,
}

impl CacheKey for Point {
    fn write_key(&self, key: &mut cacheio::KeyWriter<'_>) {
        (self.x, self.y).write_key(key);
    }
}

#[test]
fn patterns() {
    static RUNS: Runs = Runs::new();
    #[cached]
    fn sum(
        (a, b): (i32, i32),
        Point { x, y }: Point,
        _: u8,
        mut n: i32,
        [first, ..]: [i32; 3],
    ) -> i32 {
        RUNS.count();
        n += a + b + x + y + first;
        n
    }
    let call = |ignored, y| sum((1, 2), Point { x: 3, y }, ignored, 5, [6, 0, 0]);
    assert_eq!(call(0, 4), 21);
    assert_eq!(call(0, 4), 21);
    assert_eq!(RUNS.get(), 1);
    call(1, 4);
    assert_eq!(RUNS.get(), 2, "an argument without a name counts");
    assert_eq!(call(0, 5), 22);
}

#[test]
fn patterns_with_a_key() {
    #[cached(key = "{a}:{y}")]
    fn named((a, _b): (i32, i32), Point { y, .. }: Point, _: &Runs, mut n: i32) -> i32 {
        n += a + y;
        n
    }
    #[cached(key = (a, y))]
    fn expressed((a, _b): (i32, i32), Point { y, .. }: Point, _: &Runs) -> i32 {
        a + y
    }
    assert_eq!(named((1, 2), Point { x: 0, y: 3 }, &Runs::new(), 1), 5);
    assert_eq!(named((1, 9), Point { x: 9, y: 3 }, &Runs::new(), 9), 5);
    assert_eq!(expressed((1, 2), Point { x: 0, y: 3 }, &Runs::new()), 4);
}

#[test]
fn unit_is_a_value() {
    static RUNS: Runs = Runs::new();
    #[cached]
    fn nothing(n: u8) {
        let _ = n;
        RUNS.count();
    }
    nothing(1);
    nothing(1);
    assert_eq!(RUNS.get(), 1);
}

#[test]
fn attributes_and_docs_are_kept() {
    /// Documented.
    #[cached]
    #[inline]
    #[must_use]
    #[allow(non_snake_case)]
    fn Attributed(n: u8) -> u8 {
        #![allow(unused_variables)]
        let unused = 0;
        n
    }
    assert_eq!(Attributed(1), 1);
}

#[test]
fn a_body_that_waits_for_its_own_key_panics_instead_of_hanging() {
    #[cached(key = "self", skip(n))]
    fn circle(n: u8) -> u8 {
        circle(n)
    }
    let panic = std::thread::spawn(|| circle(1)).join().unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("cacheio: "), "{message}");
}

#[test]
fn functions_generated_by_a_macro() {
    #[derive(Cacheable)]
    struct Written {
        cache: Cache,
        tenant: &'static str,
    }
    macro_rules! service {
        ($find:ident, $key:literal, $ttl:expr, $argument:ident, $body:expr) => {
            impl Written {
                #[allow(dead_code)]
                #[cached(key = $key, ttl = $ttl, companions)]
                fn $find(&self, $argument: u32) -> u32 {
                    $body
                }
            }
        };
        ($($name:ident)*) => {$(
            #[allow(dead_code)]
            #[cached(key = "{id}", companions)]
            fn $name(id: u32) -> &'static str {
                let _ = id;
                stringify!($name)
            }
        )*};
    }
    service!(
        written,
        "{self.tenant}:{id}",
        Duration::from_secs(60),
        id,
        id + 1
    );
    service!(one two);
    let service = Written {
        cache: CacheFactory::memory_cache(),
        tenant: "shop",
    };
    assert_eq!(service.written(1), 2);
    assert_eq!(service.written_key(1), "shop:1");
    assert!(service.written_invalidate(1).unwrap());
    assert_eq!((one(1), two(1), one_refresh(1)), ("one", "two", "one"));
    assert_eq!(
        (one(1), two(1)),
        ("one", "two"),
        "each has a cache of its own"
    );
}

#[test]
fn arguments_removed_by_cfg() {
    #[cached]
    fn some(a: u8, #[cfg(any())] b: Missing, #[cfg(test)] c: u8) -> u8 {
        a + c
    }
    assert_eq!((some(1, 2), some(1, 3)), (3, 4));
}

#[test]
fn values_with_lifetimes_of_their_own() {
    type Length = Arc<dyn for<'a> Fn(&'a str) -> usize + Send + Sync>;
    #[cached]
    fn aliased(n: usize) -> Length {
        Arc::new(move |text| text.len() + n)
    }
    #[cached]
    fn written(n: usize) -> Arc<dyn for<'a> Fn(&'a str) -> usize + Send + Sync> {
        Arc::new(move |text| text.len() + n)
    }
    assert_eq!((aliased(1)("ab"), written(2)("ab")), (3, 4));
}
