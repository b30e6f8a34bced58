//! Borrowed arguments are copied for the body, and only for the body.

use std::collections::HashMap;

use cacheio::RefreshAhead;
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::bytes;

use super::*;

/// Counts how often it is cloned.
#[derive(Default)]
struct Counted(Arc<Runs>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.count();
        Self(Arc::clone(&self.0))
    }
}

#[test]
fn borrowed_arguments_are_cloned_only_for_the_body() {
    #[cached(cache = origin.cache, key = "k", skip(counted, _unused, owned), ttl = "1m", refresh_ahead = 0.5)]
    fn borrow(origin: &Origin, counted: &Counted, _unused: &Counted, owned: Counted) -> usize {
        drop(owned);
        let _ = counted;
        origin.runs.count()
    }
    let (origin, counted, unused) = (Origin::new(), Counted::default(), Counted::default());
    let owned: Arc<Runs> = Arc::default();
    let call = || borrow(&origin, &counted, &unused, Counted(Arc::clone(&owned)));
    assert_eq!((call(), call(), call()), (1, 1, 1));
    assert_eq!((counted.0.get(), unused.0.get(), owned.get()), (1, 0, 0));
    origin.clock.advance(Duration::from_secs(40));
    assert_eq!(call(), 1);
    assert_eq!((counted.0.get(), unused.0.get(), owned.get()), (2, 0, 0));
    origin.until_runs(2);
    until(|| call() == 2);
    assert_eq!((counted.0.get(), unused.0.get(), owned.get()), (2, 0, 0));
}

#[test]
fn a_hit_on_a_server_clones_no_borrowed_argument() {
    #[cached(cache = *cache, key = "k", skip(counted), ttl = "1m", hard_timeout = "1m")]
    fn borrow(cache: &Cache, counted: &Counted) -> Result<usize, OriginError> {
        Ok(counted.0.get())
    }
    let server = bytes(&TestEnv::new(Time::manual()));
    let server = Cache::builder().store(server).namespace("n").build();
    let (server, counted) = (server.unwrap(), Counted::default());
    for _ in 0..3 {
        assert_eq!(borrow(&server, &counted), Ok(1));
    }
    assert_eq!(counted.0.get(), 1);
}

#[test]
fn argument_types() {
    static RUNS: Runs = Runs::new();
    #[cached(refresh_ahead = 0.5)]
    #[allow(clippy::too_many_arguments)]
    fn all(
        mut text: &str,
        list: &[u8],
        &number: &u32,
        (a, b): (u8, String),
        mut owned: String,
        some: Option<&str>,
        fixed: &'static str,
        _: &u8,
        shown: impl std::fmt::Display + CacheKey + Send + 'static,
    ) -> String {
        RUNS.count();
        if text.is_empty() {
            text = "empty";
        }
        owned.push('!');
        format!("{text} {list:?} {number} {a} {b} {owned} {some:?} {fixed} {shown}")
    }
    for _ in 0..2 {
        let all = all(
            "",
            &[1],
            &2,
            (3, "b".into()),
            "o".into(),
            Some("s"),
            "f",
            &0,
            'x',
        );
        assert_eq!(all, r#"empty [1] 2 3 b o! Some("s") f x"#);
    }
    assert_eq!(RUNS.get(), 1);
}

#[test]
fn generic_functions() {
    #[cached(ttl = "1m", refresh_ahead = RefreshAhead::XFETCH)]
    fn longest<'a, T>(list: &'a [T], other: &T) -> Option<T>
    where
        T: AsRef<str> + CacheKey + Clone + Send + Sync + 'static,
    {
        let all = list.iter().chain([other]);
        all.max_by_key(|text| text.as_ref().len()).cloned()
    }
    assert_eq!(longest(&["a", "bb"], &"c"), Some("bb"));
    assert_eq!(
        longest(&["a".to_owned()], &"cc".to_owned()),
        Some("cc".into())
    );
}

#[tokio::test]
async fn arguments_of_async_functions() {
    #[cached(ttl = "1m", refresh_ahead = 0.5)]
    async fn all(mut text: &str, (a, b): (u8, u8), some: Option<&String>) -> HashMap<String, u8> {
        if text.is_empty() {
            text = "empty";
        }
        tokio::task::yield_now().await;
        [(format!("{text} {some:?}"), a + b)].into()
    }
    #[cached(refresh_ahead = 0.5)]
    async fn large(n: &u8) -> usize {
        let mut big = [*n; 16_384];
        tokio::task::yield_now().await;
        big[0] += 1;
        usize::from(big[0])
    }
    for _ in 0..2 {
        let all = all("", (1, 2), Some(&"s".into())).await;
        assert_eq!(all, [("empty Some(\"s\")".into(), 3)].into());
        assert_eq!(large(&1).await, 2);
    }
    let future = large(&1);
    assert!(size_of_val(&future) < 512, "{}", size_of_val(&future));
    let task = tokio::spawn(async move { large(&2).await });
    assert_eq!(task.await.unwrap(), 3);
}
