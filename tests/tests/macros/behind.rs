//! Bodies that may go on when their callers have left.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use cacheio::{ErrorKind, RefreshAhead};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::bytes;

use crate::prelude::*;

const SOON: Duration = Duration::from_millis(20);

/// Where bodies wait until they are let on.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }

    async fn pass_task(&self) {
        while *self.closed.lock().unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Opens a gate when a test ends, so that no thread is left.
struct Opens<'a>(&'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Failed {
    Late,
    Reentrant,
    Down(usize),
}

impl From<cacheio::Error> for Failed {
    fn from(error: cacheio::Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::Late,
            ErrorKind::Reentrant => Self::Reentrant,
            kind => panic!("{kind:?}"),
        }
    }
}

#[derive(Clone, Cacheable, AsyncCacheable)]
struct Origin {
    cache: Cache,
    #[async_cache]
    tasks: AsyncCache,
    clock: Arc<ManualClock>,
    tenant: String,
    runs: Arc<Runs>,
    gate: Arc<Gate>,
    down: Arc<std::sync::atomic::AtomicBool>,
}

impl Origin {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = || Memory::builder().clock(Arc::clone(&clock)).build();
        Self {
            cache: Cache::builder().store(memory()).build().unwrap(),
            tasks: AsyncCache::builder().store(memory()).build().unwrap(),
            clock,
            tenant: "shop".into(),
            runs: Arc::default(),
            gate: Arc::default(),
            down: Arc::default(),
        }
    }

    fn run(&self) -> Result<usize, Failed> {
        let run = self.runs.count();
        match self.down.load(Ordering::SeqCst) {
            true => Err(Failed::Down(run)),
            false => Ok(run),
        }
    }

    fn until_runs(&self, runs: usize) {
        while self.runs.get() < runs {
            std::thread::yield_now();
        }
    }

    #[cached(
        key = "user:{id}",
        ttl = "1m",
        stale_for = "1h",
        refresh_ahead = 0.8,
        jitter = 0.0,
        soft_timeout = "20ms",
        hard_timeout = "2s",
        max_load = "30s",
        ttl_none = "10s"
    )]
    fn user(&self, id: u64, request: &str, names: &[String]) -> Result<Option<String>, Failed> {
        self.gate.pass();
        let run = self.run()?;
        if id == 0 {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} {request} {} {run}",
            self.tenant,
            names.join(",")
        )))
    }

    #[async_cached(
        key = "user:{id}",
        ttl = "1m",
        stale_for = "1h",
        refresh_ahead = 0.8,
        jitter = 0.0,
        soft_timeout = "20ms",
        hard_timeout = "2s",
        max_load = "30s",
        ttl_none = "10s"
    )]
    async fn user_task(
        &self,
        id: u64,
        request: &str,
        names: &[String],
    ) -> Result<Option<String>, Failed> {
        self.gate.pass_task().await;
        let run = self.run()?;
        if id == 0 {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} {request} {} {run}",
            self.tenant,
            names.join(",")
        )))
    }

    #[cached(key = "late", hard_timeout = "20ms")]
    fn late(&self) -> Result<usize, Failed> {
        self.gate.pass();
        self.run()
    }

    #[cached(key = "late", hard_timeout = "20ms")]
    async fn late_task(&self) -> Result<usize, Failed> {
        self.gate.pass_task().await;
        self.run()
    }

    /// Cannot say that it takes too long.
    #[cached(key = "plain", ttl = "1m", stale_for = "1h", soft_timeout = SOON, max_load = "40ms")]
    fn plain(&self) -> usize {
        self.gate.pass();
        self.runs.count()
    }

    #[cached(key = "plain", ttl = "1m", stale_for = "1h", soft_timeout = SOON, max_load = "40ms")]
    async fn plain_task(&self) -> usize {
        self.gate.pass_task().await;
        self.runs.count()
    }

    /// An error that cannot be shared, and is not made of one of the cache.
    #[cached(key = "io", ttl = "1m", refresh_ahead = "xfetch")]
    fn io(&self, while_waiting: u64) -> std::io::Result<usize> {
        while self.cache.stats().waits < while_waiting {
            std::thread::yield_now();
        }
        let run = self.run();
        run.map_err(|failed| std::io::Error::other(format!("{failed:?}")))
    }
}

fn text(run: usize, request: &str) -> Result<Option<String>, Failed> {
    Ok(Some(format!("shop {request} a,b {run}")))
}

fn names() -> Vec<String> {
    vec!["a".into(), "b".into()]
}

#[test]
fn soft_timeout_returns_what_is_stale_and_stores_what_is_late() {
    let origin = Origin::new();
    let _opens = Opens(&origin.gate);
    assert_eq!(origin.user(7, "first", &names()), text(1, "first"));
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    assert_eq!(origin.user(7, "second", &names()), text(1, "first"));
    assert_eq!(origin.user(7, "third", &names()), text(1, "first"));
    origin.gate.open();
    while origin
        .cache
        .get::<Option<String>>("user:7")
        .unwrap()
        .is_none()
    {
        std::thread::yield_now();
    }
    assert_eq!(origin.user(7, "fourth", &names()), text(2, "second"));
    assert_eq!(origin.runs.get(), 2);
}

#[tokio::test]
async fn soft_timeout_of_a_task_returns_what_is_stale_and_stores_what_is_late() {
    let origin = Origin::new();
    assert_eq!(
        origin.user_task(7, "first", &names()).await,
        text(1, "first")
    );
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    assert_eq!(
        origin.user_task(7, "second", &names()).await,
        text(1, "first")
    );
    assert_eq!(
        origin.user_task(7, "third", &names()).await,
        text(1, "first")
    );
    origin.gate.open();
    while origin
        .tasks
        .get::<Option<String>>("user:7")
        .await
        .unwrap()
        .is_none()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        origin.user_task(7, "fourth", &names()).await,
        text(2, "second")
    );
    assert_eq!(origin.runs.get(), 2);
}

#[test]
fn refresh_ahead_keeps_nobody_waiting_and_runs_once() {
    let origin = Origin::new();
    let _opens = Opens(&origin.gate);
    assert_eq!(origin.user(7, "first", &names()), text(1, "first"));
    origin.clock.advance(Duration::from_secs(50));
    origin.gate.close();
    for _ in 0..10 {
        assert_eq!(origin.user(7, "second", &names()), text(1, "first"));
    }
    assert_eq!(origin.cache.stats().refreshes, 1);
    origin.gate.open();
    origin.until_runs(2);
    while origin.user(7, "third", &names()) != text(2, "second") {
        std::thread::yield_now();
    }
    assert_eq!(origin.runs.get(), 2);
}

#[tokio::test]
async fn refresh_ahead_keeps_no_task_waiting_and_runs_once() {
    let origin = Origin::new();
    assert_eq!(
        origin.user_task(7, "first", &names()).await,
        text(1, "first")
    );
    origin.clock.advance(Duration::from_secs(50));
    origin.gate.close();
    for _ in 0..10 {
        assert_eq!(
            origin.user_task(7, "second", &names()).await,
            text(1, "first")
        );
    }
    assert_eq!(origin.tasks.stats().refreshes, 1);
    origin.gate.open();
    while origin.user_task(7, "third", &names()).await != text(2, "second") {
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.runs.get(), 2);
}

#[test]
fn stale_is_returned_when_the_body_fails() {
    let origin = Origin::new();
    assert_eq!(origin.user(7, "first", &names()), text(1, "first"));
    origin.down.store(true, Ordering::SeqCst);
    origin.clock.advance(Duration::from_secs(90));
    assert_eq!(origin.user(7, "second", &names()), text(1, "first"));
    origin.clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(origin.user(7, "third", &names()), Err(Failed::Down(3)));
}

#[test]
fn hard_timeout_is_an_error_of_the_function() {
    let origin = Origin::new();
    let _opens = Opens(&origin.gate);
    origin.gate.close();
    let begun = Instant::now();
    assert_eq!(origin.late(), Err(Failed::Late));
    assert!(begun.elapsed() >= SOON);
    origin.gate.open();
    while origin.cache.get::<usize>("late").unwrap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(origin.late(), Ok(1), "what was late is stored");
}

#[tokio::test]
async fn hard_timeout_of_a_task_is_an_error_of_the_function() {
    let origin = Origin::new();
    origin.gate.close();
    assert_eq!(origin.late_task().await, Err(Failed::Late));
    origin.gate.open();
    while origin.tasks.get::<usize>("late").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.late_task().await, Ok(1), "what was late is stored");
}

#[tokio::test]
async fn the_body_goes_on_when_its_task_is_dropped() {
    let origin = Origin::new();
    origin.gate.close();
    let call = async { tokio::time::timeout(SOON / 4, origin.late_task()).await };
    assert!(call.await.is_err());
    origin.gate.open();
    while origin.tasks.get::<usize>("late").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.runs.get(), 1);
}

#[test]
fn ttl_none_in_the_cache_of_a_type() {
    let origin = Origin::new();
    assert_eq!(origin.user(0, "", &[]), Ok(None));
    origin.clock.advance(Duration::from_secs(7));
    assert_eq!(origin.user(0, "", &[]), Ok(None));
    assert!(origin.cache.has("user:0").unwrap());
    origin.clock.advance(Duration::from_secs(4));
    assert!(!origin.cache.has("user:0").unwrap());
    origin.user(1, "", &[]).unwrap();
    origin.clock.advance(Duration::from_secs(50));
    assert!(origin.cache.has("user:1").unwrap());
}

#[test]
fn ttl_idle_ends_what_nobody_reads() {
    #[derive(Cacheable)]
    struct Sessions {
        cache: Cache,
        runs: Runs,
    }
    impl Sessions {
        #[cached(key = "session:{id}", ttl = "1h", ttl_idle = "10m")]
        fn session(&self, id: u8) -> u8 {
            self.runs.count();
            id
        }
    }
    let clock = Arc::new(ManualClock::new());
    let memory = Memory::builder().clock(Arc::clone(&clock)).build();
    let sessions = Sessions {
        cache: Cache::builder().store(memory).build().unwrap(),
        runs: Runs::new(),
    };
    for _ in 0..4 {
        assert_eq!(sessions.session(7), 7);
        clock.advance(Duration::from_secs(9 * 60));
    }
    assert_eq!(sessions.runs.get(), 1);
    clock.advance(Duration::from_secs(60));
    sessions.session(7);
    assert_eq!(sessions.runs.get(), 2);
}

#[test]
fn ttl_none_in_the_cache_of_a_function() {
    static RUNS: Runs = Runs::new();
    /// Nothing that serde knows.
    #[derive(Clone)]
    struct Local;
    #[cached(ttl = "1h", ttl_none = ttl, skip(ttl))]
    fn find(id: u8, ttl: Duration) -> Option<Local> {
        RUNS.count();
        (id > 0).then_some(Local)
    }
    #[cached(ttl_none = "1h", cache_if = Option::is_some)]
    fn some(id: u8) -> Option<u8> {
        RUNS.count();
        (id > 0).then_some(id)
    }
    for id in [0, 0, 1, 1] {
        assert_eq!(find(id, Duration::ZERO).is_some(), id > 0);
    }
    assert_eq!(RUNS.get(), 3, "none is not stored");
    find(0, Duration::from_secs(60));
    find(0, Duration::from_secs(60));
    assert_eq!(RUNS.get(), 4, "none is stored");
    some(0);
    some(0);
    assert_eq!(RUNS.get(), 6, "cache_if decides");
}

#[test]
fn who_cannot_say_that_it_takes_too_long_waits_while_others_take_over() {
    let origin = Origin::new();
    let _opens = Opens(&origin.gate);
    origin.gate.close();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| origin.plain());
        let second = scope.spawn(|| origin.plain());
        while origin.cache.stats().load_timeouts < 1 {
            std::thread::yield_now();
        }
        origin.gate.open();
        let mut runs = [first.join().unwrap(), second.join().unwrap()];
        runs.sort_unstable();
        assert_eq!(runs, [1, 2]);
    });
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    let stale = origin.plain();
    assert!(stale == 1 || stale == 2, "{stale}");
}

#[tokio::test]
async fn a_task_that_cannot_say_that_it_takes_too_long_waits_while_others_take_over() {
    let origin = Origin::new();
    origin.gate.close();
    let opens = async {
        while origin.tasks.stats().load_timeouts < 1 {
            tokio::task::yield_now().await;
        }
        origin.gate.open();
    };
    let (first, second, ()) = tokio::join!(origin.plain_task(), origin.plain_task(), opens);
    assert_eq!((first.min(second), first.max(second)), (1, 2));
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    let stale = origin.plain_task().await;
    assert!(stale == 1 || stale == 2, "{stale}");
    origin.gate.open();
}

#[test]
fn an_error_that_is_not_clone_is_its_callers_own() {
    let origin = Origin::new();
    origin.down.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| origin.io(3))).collect();
        let errors = threads.into_iter().map(|thread| thread.join().unwrap());
        let mut errors: Vec<String> = errors.map(|error| error.unwrap_err().to_string()).collect();
        errors.sort_unstable();
        assert_eq!(errors, ["Down(1)", "Down(2)", "Down(3)", "Down(4)"]);
    });
    origin.down.store(false, Ordering::SeqCst);
    assert_eq!(origin.io(0).unwrap(), 5);
    assert_eq!(origin.io(0).unwrap(), 5);
}

#[test]
fn a_panic_is_its_callers_own() {
    #[cached(refresh_ahead = 0.5)]
    fn panics(n: u8) -> u8 {
        assert!(n > 0, "none of {n}");
        n
    }
    let panic = std::thread::spawn(|| panics(0)).join().unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "none of 0");
    assert_eq!(panics(1), 1);
}

#[test]
fn an_error_of_the_cache_is_one_of_the_function_where_it_can_be() {
    #[cached(key = "self", ttl = 60)]
    fn circle(n: u8) -> Result<u8, Failed> {
        circle(n)
    }
    #[cached(key = "self", hard_timeout = 60)]
    fn circle_behind(n: u8) -> Result<u8, Failed> {
        circle_behind(n)
    }
    assert_eq!(circle(1), Err(Failed::Reentrant));
    assert_eq!(circle_behind(1), Err(Failed::Reentrant));
}

/// An argument that counts how often it is cloned.
#[derive(Default)]
struct Counted(Arc<Runs>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.count();
        Self(Arc::clone(&self.0))
    }
}

#[test]
fn what_is_lent_is_cloned_for_the_body_alone() {
    #[cached(cache = origin.cache, key = "k", ttl = "1m", refresh_ahead = 0.5)]
    fn lent(origin: &Origin, counted: &Counted, _unused: &Counted, taken: Counted) -> usize {
        drop(taken);
        let _ = counted;
        origin.runs.count()
    }
    let (origin, counted, unused) = (Origin::new(), Counted::default(), Counted::default());
    let taken = Arc::default();
    let call = || lent(&origin, &counted, &unused, Counted(Arc::clone(&taken)));
    assert_eq!((call(), call(), call()), (1, 1, 1));
    assert_eq!((counted.0.get(), unused.0.get(), taken.get()), (1, 0, 0));
    origin.clock.advance(Duration::from_secs(40));
    assert_eq!(call(), 1);
    assert_eq!((counted.0.get(), unused.0.get(), taken.get()), (2, 0, 0));
    origin.until_runs(2);
    while call() != 2 {
        std::thread::yield_now();
    }
    assert_eq!((counted.0.get(), unused.0.get(), taken.get()), (2, 0, 0));
}

#[test]
fn what_is_lent_is_not_cloned_for_a_hit_on_a_server() {
    #[cached(cache = *cache, key = "k", ttl = "1m", hard_timeout = "1m")]
    fn lent(cache: &Cache, counted: &Counted) -> Result<usize, Failed> {
        Ok(counted.0.get())
    }
    let server = bytes(&TestEnv::new(Time::manual()));
    let server = Cache::builder().store(server).namespace("n").build();
    let (server, counted) = (server.unwrap(), Counted::default());
    for _ in 0..3 {
        assert_eq!(lent(&server, &counted), Ok(1));
    }
    assert_eq!(counted.0.get(), 1);
}

#[test]
fn arguments_of_all_kinds() {
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

impl Origin {
    #[cached(key = "{self.tenant}:{n}", refresh_ahead = 0.5, cache_if = |made| *made > self.limit())]
    fn with_self_in_macros(&self, n: usize) -> usize {
        struct Other(usize);
        impl Other {
            fn get(&self) -> usize {
                self.0
            }
        }
        macro_rules! runs {
            ($origin:expr) => {
                $origin.runs.count()
            };
        }
        assert!(
            !self.tenant.is_empty(),
            "{} {}",
            self.tenant,
            self::SOON.as_millis()
        );
        let made = [runs!(self), n];
        Other(made.iter().sum()).get()
    }

    fn limit(&self) -> usize {
        self.tenant.len()
    }

    #[cached(refresh_ahead = 0.5)]
    fn by_arc(self: Arc<Self>, n: usize) -> usize {
        self.runs.count() + n
    }

    #[cached(refresh_ahead = 0.5)]
    fn by_arc_reference(self: &Arc<Self>, n: usize) -> usize {
        self.runs.count() + n
    }

    #[cached(refresh_ahead = 0.5)]
    fn by_value(mut self, n: usize) -> usize {
        self.tenant.clear();
        self.runs.count() + n + self.tenant.len()
    }

    #[cached(key = "{n}", ttl = "1m", refresh_ahead = 0.5, tags = [self.tenant.clone()], companions)]
    fn accompanied(&self, n: usize, added: &usize) -> usize {
        self.runs.count() + n + added
    }
}

#[test]
fn methods_of_all_kinds() {
    let origin = Arc::new(Origin::new());
    for _ in 0..2 {
        assert_eq!(origin.with_self_in_macros(9), 10);
        assert_eq!(Arc::clone(&origin).by_arc(9), 11);
        assert_eq!(origin.by_arc_reference(9), 12);
        assert_eq!(Origin::clone(&origin).by_value(9), 13);
    }
    assert_eq!(origin.with_self_in_macros(0), 5);
    origin.cache.clear().unwrap();
    origin.runs.count();
    assert_eq!((origin.with_self_in_macros(0), origin.runs.get()), (7, 7));
}

#[test]
fn companions() {
    let origin = Origin::new();
    assert_eq!(origin.accompanied(1, &10), 12);
    assert_eq!(origin.accompanied_refresh(1, &20), 23);
    assert_eq!(origin.accompanied(1, &10), 23);
    assert_eq!(origin.accompanied_key(1), "1");
    assert!(origin.accompanied_invalidate(1).unwrap());
    assert_eq!(origin.accompanied(1, &10), 14);
}

trait Found {
    fn find(&self, id: &str) -> String;
}

impl Found for Origin {
    #[cached(refresh_ahead = 0.5)]
    fn find(&self, id: &str) -> String {
        format!("{} {id} {}", self.tenant, self.runs.count())
    }
}

trait Greets: Cacheable<Cache = Cache> + Clone + Send + Sync + 'static {
    fn runs(&self) -> &Runs;

    #[cached(refresh_ahead = 0.5)]
    fn greet(&self, name: &str) -> String {
        format!("hello {name} {}", self.runs().count())
    }
}

impl Greets for Origin {
    fn runs(&self) -> &Runs {
        &self.runs
    }
}

#[async_trait::async_trait]
trait Loaded {
    async fn load(&self, id: u32, names: &[String], owned: String) -> anyhow::Result<String>;
}

#[async_trait::async_trait]
impl Loaded for Origin {
    #[async_cached(key = "{self.tenant}:{id}", hard_timeout = "1m")]
    async fn load(&self, id: u32, names: &[String], owned: String) -> anyhow::Result<String> {
        tokio::task::yield_now().await;
        let parsed: u32 = owned.parse()?;
        let run = self.runs.count();
        Ok(format!("{id} {} {parsed} {run}", names.join(",")))
    }
}

#[test]
fn traits() {
    let origin = Origin::new();
    for _ in 0..2 {
        assert_eq!(origin.find("a"), "shop a 1");
        assert_eq!(origin.greet("Ada"), "hello Ada 2");
    }
}

#[tokio::test]
async fn async_trait_methods() {
    let origin = Origin::new();
    assert!(origin.load(1, &[], "x".into()).await.is_err());
    for _ in 0..2 {
        assert_eq!(
            origin.load(1, &names(), "5".into()).await.unwrap(),
            "1 a,b 5 1"
        );
    }
}

#[tokio::test]
async fn tasks_of_all_kinds() {
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
