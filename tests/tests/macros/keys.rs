//! The keys of calls.

use std::borrow::Cow;

use crate::prelude::*;

impl Service {
    #[cached(key = "user:{user_id}", ttl = 60)]
    fn by_template(&self, user_id: u64, request_id: &str) -> String {
        format!("{user_id} {request_id} {}", self.runs.count())
    }

    #[cached(key = "{self.tenant}:{pair.0}:{pair.1:03}-{{x}}")]
    fn by_fields(&self, pair: (&str, u8)) -> usize {
        let _ = pair;
        self.runs.count()
    }

    #[cached(key = "{a}:{b}")]
    fn two_parts(&self, a: &str, b: &str) -> String {
        self.runs.count();
        format!("{a}|{b}")
    }

    #[cached(key = (user_id, request.id))]
    fn by_expression(&self, user_id: String, request: Request) -> usize {
        drop((user_id, request));
        self.runs.count()
    }

    #[cached(key = name)]
    fn by_name(&self, name: String) -> String {
        self.runs.count();
        name
    }

    #[cached(skip(request_id, _context))]
    fn skipping(&self, user_id: u64, request_id: &str, _context: &NoKey) -> String {
        self.runs.count();
        format!("{user_id} {request_id}")
    }

    #[cached]
    fn all(&self, a: u32, b: &str) -> usize {
        let _ = (a, b);
        self.runs.count()
    }

    #[cached]
    fn one(&self, id: u32) -> String {
        format!("one {id}")
    }

    #[cached]
    fn two(&self, id: u32) -> String {
        format!("two {id}")
    }
}

struct Request {
    id: u32,
    _body: NoKey,
}

/// Neither `CacheKey` nor `Clone` nor anything else.
struct NoKey;

#[test]
fn an_argument_that_the_key_does_not_name_is_not_part_of_it() {
    let service = Service::new();
    assert_eq!(service.by_template(42, "a"), "42 a 1");
    assert_eq!(service.by_template(42, "a"), "42 a 1");
    assert_eq!(service.by_template(42, "b"), "42 a 1");
    assert_eq!(service.by_template(43, "b"), "43 b 2");
    assert_eq!(
        service.cache.get::<String>("user:42").unwrap().as_deref(),
        Some("42 a 1")
    );
}

#[test]
fn all_arguments_are_the_default_key() {
    let service = Service::new();
    assert_eq!(service.all(1, "x"), 1);
    assert_eq!(service.all(1, "y"), 2);
    assert_eq!(service.all(2, "x"), 3);
    assert_eq!(service.all(1, "x"), 1);
}

#[test]
fn two_methods_of_one_cache_do_not_share() {
    let service = Service::new();
    assert_eq!(service.one(1), "one 1");
    assert_eq!(service.two(1), "two 1");
    assert_eq!(service.one(1), "one 1");
}

#[derive(Cacheable)]
struct Users {
    cache: Cache,
}

impl Users {
    #[cached]
    fn find(&self, id: u32) -> u32 {
        id
    }
}

#[test]
fn the_default_key_of_a_method_begins_with_its_name() {
    let users = Users {
        cache: CacheFactory::memory_cache(),
    };
    users.find(1);
    assert!(users.cache.has("macros.keys.Users.find:1").unwrap());
}

#[test]
fn two_caches_do_not_share() {
    let (one, other) = (Service::new(), Service::new());
    assert_eq!(one.all(1, "x"), 1);
    other.runs.count();
    assert_eq!(other.all(1, "x"), 2);
}

#[test]
fn fields_formats_and_braces_in_templates() {
    let service = Service::of("a:b");
    assert_eq!(service.by_fields(("x", 7)), 1);
    assert_eq!(service.by_fields(("x", 7)), 1);
    assert!(service.cache.has("a%3Ab:x:007-{x}").unwrap());
}

#[test]
fn template_parts_cannot_collide() {
    let service = Service::new();
    assert_eq!(service.two_parts("x:y", "z"), "x:y|z");
    assert_eq!(service.two_parts("x", "y:z"), "x|y:z");
    assert_eq!(service.two_parts("x%3Ay", "z"), "x%3Ay|z");
    assert_eq!(service.runs.get(), 3);
}

#[test]
fn a_placeholder_is_a_key_or_else_displayed() {
    struct Shown(u8);
    impl std::fmt::Display for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "<{}:{}>", self.0, self.0)
        }
    }
    #[cached(key = "{shown}/{many}/{none}", companions)]
    fn both(shown: Shown, many: &[u8], none: Option<u8>) -> usize {
        many.len() + usize::from(shown.0) + usize::from(none.is_some())
    }
    assert_eq!(both_key(Shown(1), &[2, 3], None), "<1%3A1>/[2:3]/%none");
    assert_eq!(both(Shown(1), &[2, 3], None), 3);
}

#[test]
fn a_format_may_name_another_argument() {
    #[cached(key = "{n:>width$}", companions)]
    fn wide(n: u8, width: usize, _rest: u8) -> usize {
        usize::from(n) + width
    }
    assert_eq!(wide_key(7, 3), "  7");
    assert_eq!(wide(7, 3, 0), 10);
}

#[test]
fn a_template_without_arguments_is_a_constant() {
    let service = Service::new();
    #[cached(key = "all", skip(page), cache = service.cache)]
    fn constant(service: &Service, page: u32) -> u32 {
        service.runs.count();
        page
    }
    assert_eq!((constant(&service, 1), constant(&service, 2)), (1, 1));
    assert!(service.cache.has("all").unwrap());
}

#[test]
fn a_key_expression_moves_nothing() {
    let service = Service::new();
    let request = |id| Request { id, _body: NoKey };
    assert_eq!(service.by_expression("u".into(), request(1)), 1);
    assert_eq!(service.by_expression("u".into(), request(1)), 1);
    assert_eq!(service.by_expression("u".into(), request(2)), 2);
    assert!(service.cache.has(("u", 2)).unwrap());
    assert_eq!(service.by_name("n".into()), "n");
    assert_eq!(service.by_name("n".into()), "n");
    assert!(service.cache.has("n").unwrap());
    assert_eq!(service.runs.get(), 3);
}

#[test]
fn skipped_arguments_are_not_part_of_the_key() {
    let service = Service::new();
    assert_eq!(service.skipping(1, "a", &NoKey), "1 a");
    assert_eq!(service.skipping(1, "b", &NoKey), "1 a");
    assert_eq!(service.skipping(2, "b", &NoKey), "2 b");
}

#[test]
fn argument_types() {
    static RUNS: Runs = Runs::new();
    #[cached]
    #[allow(clippy::too_many_arguments)]
    fn many(
        text: &str,
        owned: String,
        reference: &String,
        numbers: &[u64],
        maybe: Option<i8>,
        cow: Cow<'_, str>,
        array: [u8; 2],
        tuple: (bool, char),
    ) -> usize {
        drop((text, owned, reference, numbers, maybe, cow, array, tuple));
        RUNS.count()
    }
    let call = |text, maybe| {
        many(
            text,
            "o".into(),
            &"r".into(),
            &[1],
            maybe,
            "c".into(),
            [1, 2],
            (true, 'x'),
        )
    };
    assert_eq!(call("a", None), 1);
    assert_eq!(call("a", Some(1)), 2);
    assert_eq!(call("b", Some(1)), 3);
    assert_eq!(call("a", None), 1);
}

#[test]
fn a_single_string_is_the_key() {
    #[cached(companions)]
    fn by_text(text: &str) -> String {
        text.to_uppercase()
    }
    #[cached(companions)]
    fn by_string(text: String) -> String {
        text
    }
    assert_eq!(
        (by_text("a"), by_text("b"), by_text("a")),
        ("A".into(), "B".into(), "A".into())
    );
    assert_eq!(
        (by_string("a".into()), by_string("b".into())),
        ("a".into(), "b".into())
    );
    assert!(
        by_text_key("x:y").ends_with(".by_text:x%3Ay"),
        "{}",
        by_text_key("x:y")
    );
}

#[cached(companions)]
fn number(n: u64) -> u64 {
    n
}

#[cached(companions)]
fn text(text: &str) -> String {
    text.into()
}

#[cached(companions)]
async fn async_number(n: u64) -> u64 {
    n
}

#[test]
fn the_key_of_a_function_that_is_not_generic_has_no_prefix() {
    assert_eq!(number_key(7), "7");
    assert_eq!(text_key("a:b"), "a:b");
    assert_eq!(async_number_key(7), "7");
    // The companion and the function use the same key.
    assert_eq!((number(7), text("a:b")), (7, "a:b".into()));
    assert!(number_invalidate(7).unwrap());
    assert!(text_invalidate("a:b").unwrap());
}

#[tokio::test]
async fn the_key_of_an_async_fn_that_is_not_generic_has_no_prefix() {
    async_number(8).await;
    assert!(async_number_invalidate(8).await.unwrap());
}

#[test]
fn arguments_may_have_any_name() {
    #[cached]
    #[allow(clippy::too_many_arguments)]
    fn names(
        key: u8,
        cache: u8,
        engine: u8,
        missed: u8,
        parts: u8,
        w: u8,
        e: u8,
        value: u8,
    ) -> u32 {
        [key, cache, engine, missed, parts, w, e, value]
            .into_iter()
            .map(u32::from)
            .sum()
    }
    #[cached(key = "{key}:{r#type}:{parts}")]
    fn in_template(key: u8, r#type: u8, parts: u8) -> u8 {
        key + r#type + parts
    }
    assert_eq!(names(1, 2, 3, 4, 5, 6, 7, 8), 36);
    assert_eq!(in_template(1, 2, 3), 6);
}
