//! The TTL, the tags, the policies, and which values are stored.

use crate::prelude::*;

struct Timed {
    cache: Cache,
    clock: Arc<ManualClock>,
    runs: Runs,
    ttl: Duration,
}

impl Timed {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = Memory::builder().clock(Arc::clone(&clock)).build();
        Self {
            cache: Cache::builder()
                .store(memory)
                .default_ttl(Ttl::Never)
                .build()
                .unwrap(),
            clock,
            runs: Runs::new(),
            ttl: Duration::from_secs(20),
        }
    }
}

impl Cacheable for Timed {
    type Cache = Cache;

    fn cache(&self) -> &Cache {
        &self.cache
    }
}

impl Timed {
    #[cached(ttl = 60)]
    fn seconds(&self) -> usize {
        self.runs.count()
    }

    #[cached(ttl = "1s500ms")]
    fn text(&self) -> usize {
        self.runs.count()
    }

    #[cached(ttl = self.ttl * factor, skip(factor))]
    fn expression(&self, factor: u32) -> usize {
        self.runs.count()
    }

    #[cached(ttl = Ttl::Never)]
    fn never(&self) -> usize {
        self.runs.count()
    }

    #[cached(ttl = self.counted_ttl())]
    fn on_a_miss(&self) -> u8 {
        1
    }

    fn counted_ttl(&self) -> Duration {
        self.runs.count();
        self.ttl
    }

    #[cached(tags = ["all", format!("team:{team}")])]
    fn tagged(&self, team: u8) -> usize {
        self.runs.count()
    }

    #[cached(ttl = 60, tags = self.tags(), key = "tagged")]
    fn tagged_by_expression(&self) -> usize {
        self.runs.count()
    }

    fn tags(&self) -> Vec<String> {
        vec![format!("ttl:{}", self.ttl.as_secs())]
    }

    #[cached(cache_none = false)]
    fn some(&self, n: Option<u8>) -> Option<u8> {
        self.runs.count();
        n
    }

    #[cached(cache_none = true)]
    fn any(&self, n: Option<u8>) -> Option<u8> {
        self.runs.count();
        n
    }

    #[cached(cache_none = false)]
    fn some_of_ok(&self, n: Option<u8>) -> anyhow::Result<Option<u8>> {
        self.runs.count();
        Ok(n)
    }

    #[cached(cache_if = |n| *n > limit, skip(limit))]
    fn above(&self, n: u8, limit: u8) -> u8 {
        self.runs.count();
        n
    }

    #[cached(cache_if = is_even)]
    fn even_ok(&self, n: u8) -> Result<u8, String> {
        self.runs.count();
        Ok(n)
    }

    #[cached(cache_none = false, cache_if = |list| list.as_ref().is_some_and(|list| !list.is_empty()))]
    fn both(&self, list: Option<Vec<u8>>) -> Option<Vec<u8>> {
        self.runs.count();
        list
    }
}

fn is_even(n: &u8) -> bool {
    n.is_multiple_of(2)
}

/// Returns whether a second call, this long after the first, runs the body again.
fn runs_again(timed: &Timed, after: Duration, call: impl Fn(&Timed) -> usize) -> bool {
    let first = call(timed);
    timed.clock.advance(after);
    call(timed) != first
}

#[test]
fn ttl_in_seconds() {
    assert!(!runs_again(
        &Timed::new(),
        Duration::from_secs(59),
        Timed::seconds
    ));
    assert!(runs_again(
        &Timed::new(),
        Duration::from_secs(61),
        Timed::seconds
    ));
}

#[test]
fn ttl_as_text() {
    assert!(!runs_again(
        &Timed::new(),
        Duration::from_millis(1400),
        Timed::text
    ));
    assert!(runs_again(
        &Timed::new(),
        Duration::from_millis(1600),
        Timed::text
    ));
}

#[test]
fn ttl_as_expression() {
    assert!(!runs_again(
        &Timed::new(),
        Duration::from_secs(59),
        |timed| timed.expression(3)
    ));
    assert!(runs_again(
        &Timed::new(),
        Duration::from_secs(61),
        |timed| timed.expression(3)
    ));
    assert!(!runs_again(
        &Timed::new(),
        Duration::from_secs(1 << 30),
        Timed::never
    ));
}

#[test]
fn ttl_is_evaluated_on_a_miss_only() {
    let timed = Timed::new();
    timed.on_a_miss();
    timed.on_a_miss();
    assert_eq!(timed.runs.get(), 1);
}

#[test]
fn tags_of_different_types() {
    let timed = Timed::new();
    assert_eq!((timed.tagged(1), timed.tagged(2)), (1, 2));
    timed.cache.invalidate_tags(["team:1"]).unwrap();
    assert_eq!((timed.tagged(1), timed.tagged(2)), (3, 2));
    timed.cache.invalidate_tags(["all"]).unwrap();
    assert_eq!((timed.tagged(1), timed.tagged(2)), (4, 5));
}

#[test]
fn tags_as_expression() {
    let timed = Timed::new();
    assert_eq!(
        (timed.tagged_by_expression(), timed.tagged_by_expression()),
        (1, 1)
    );
    timed.cache.invalidate_tags(["ttl:20"]).unwrap();
    assert_eq!(timed.tagged_by_expression(), 2);
}

#[test]
fn none_is_stored_by_default() {
    let timed = Timed::new();
    assert_eq!((timed.any(None), timed.any(None)), (None, None));
    assert_eq!(timed.runs.get(), 1);
}

#[test]
fn cache_none_false_does_not_store_none() {
    let timed = Timed::new();
    assert_eq!((timed.some(None), timed.some(None)), (None, None));
    assert_eq!(timed.runs.get(), 2);
    assert_eq!(
        (timed.some(Some(1)), timed.some(Some(1))),
        (Some(1), Some(1))
    );
    assert_eq!(timed.runs.get(), 3);
    timed.some_of_ok(None).unwrap();
    timed.some_of_ok(None).unwrap();
    assert_eq!(timed.runs.get(), 5);
    timed.some_of_ok(Some(1)).unwrap();
    timed.some_of_ok(Some(1)).unwrap();
    assert_eq!(timed.runs.get(), 6);
}

#[test]
fn cache_if_chooses_what_is_stored() {
    let timed = Timed::new();
    for n in [1, 1, 9, 9] {
        assert_eq!(timed.above(n, 5), n);
    }
    assert_eq!(timed.runs.get(), 3);
    for n in [1, 1, 2, 2] {
        assert_eq!(timed.even_ok(n), Ok(n));
    }
    assert_eq!(timed.runs.get(), 6);
}

#[test]
fn cache_none_and_cache_if_are_combined() {
    let timed = Timed::new();
    for list in [
        None,
        None,
        Some(vec![]),
        Some(vec![]),
        Some(vec![1]),
        Some(vec![1]),
    ] {
        assert_eq!(timed.both(list.clone()), list);
    }
    assert_eq!(timed.runs.get(), 5);
}

#[derive(Cacheable)]
struct Rates {
    cache: Cache,
    runs: Runs,
    down: std::sync::atomic::AtomicBool,
}

impl Rates {
    #[cached(ttl = "1m", stale_for = "1h", retry_after = 30, jitter = 0.0)]
    fn rate(&self, currency: &str) -> Result<usize, String> {
        let run = self.runs.count();
        match self.down.load(Ordering::SeqCst) {
            true => Err(format!("no rate of {currency}")),
            false => Ok(run),
        }
    }

    /// Its error is not `Clone`.
    #[cached(ttl = 60, stale_for = Duration::from_secs(60))]
    fn rate_with_io_error(&self, currency: &str) -> std::io::Result<usize> {
        let rate = self.rate_now();
        rate.map_err(|()| std::io::Error::other(format!("no rate of {currency}")))
    }

    fn rate_now(&self) -> Result<usize, ()> {
        let run = self.runs.count();
        (!self.down.load(Ordering::SeqCst)).then_some(run).ok_or(())
    }
}

#[test]
fn a_failed_load_returns_the_stale_value_until_stale_for_has_passed() {
    let clock = Arc::new(ManualClock::new());
    let rates = Rates {
        cache: cache_with(&clock),
        runs: Runs::new(),
        down: false.into(),
    };
    let minute = Duration::from_secs(60);
    let first = rates.rate("EUR").unwrap();
    let with_io_error = rates.rate_with_io_error("EUR").unwrap();
    rates.down.store(true, Ordering::SeqCst);
    clock.advance(minute);
    let runs = rates.runs.get();
    assert_eq!(rates.rate("EUR").unwrap(), first);
    assert_eq!(rates.rate("EUR").unwrap(), first);
    assert_eq!(rates.rate_with_io_error("EUR").unwrap(), with_io_error);
    assert_eq!(rates.runs.get(), runs + 2, "each body ran once more");
    clock.advance(minute);
    assert!(rates.rate_with_io_error("EUR").is_err());
    assert_eq!(rates.rate("EUR").unwrap(), first);
    clock.advance(minute * 60);
    assert_eq!(rates.rate("EUR").unwrap_err(), "no rate of EUR");
}

#[test]
fn ttl_idle_expires_an_entry_that_is_not_read() {
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
    let sessions = Sessions {
        cache: cache_with(&clock),
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
fn ttl_none_of_a_function() {
    static RUNS: Runs = Runs::new();
    /// Does not implement the traits of serde.
    #[derive(Clone)]
    struct NoSerde;
    #[cached(ttl = "1h", ttl_none = ttl, skip(ttl))]
    fn find(id: u8, ttl: Duration) -> Option<NoSerde> {
        RUNS.count();
        (id > 0).then_some(NoSerde)
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
    assert_eq!(RUNS.get(), 6, "cache_if does not store None");
}

impl Timed {
    #[cached(ttl = |seconds| Duration::from_secs(*seconds))]
    fn lives_for(&self, seconds: u64) -> u64 {
        self.runs.count();
        seconds
    }

    #[cached(ttl = |found: &Option<u64>| Duration::from_secs(found.unwrap_or(1)), ttl_none = 5)]
    fn found(&self, seconds: Option<u64>) -> Result<Option<u64>, String> {
        self.runs.count();
        Ok(seconds)
    }

    #[cached(ttl = |_| Ttl::Never, cache_if = |n: &u64| *n > 1, key = "{n}")]
    fn large(&self, n: u64) -> u64 {
        self.runs.count();
        n
    }
}

#[test]
fn a_closure_chooses_the_ttl_of_a_value() {
    let timed = Timed::new();
    let lasts = |call: &dyn Fn(), seconds: u64| {
        timed.cache.clear().unwrap();
        call();
        let runs = timed.runs.get();
        timed
            .clock
            .advance(Duration::from_secs(seconds) - Duration::from_millis(1));
        call();
        assert_eq!(timed.runs.get(), runs, "a hit before {seconds} s");
        timed.clock.advance(Duration::from_millis(1));
        call();
        assert_eq!(timed.runs.get(), runs + 1, "a miss after {seconds} s");
    };
    for seconds in [1, 10, 300] {
        lasts(&|| assert_eq!(timed.lives_for(seconds), seconds), seconds);
    }
    lasts(&|| assert_eq!(timed.found(Some(7)), Ok(Some(7))), 7);
    lasts(&|| assert_eq!(timed.found(None), Ok(None)), 5);
    for (n, stored) in [(1, false), (2, true)] {
        let before = timed.runs.get();
        timed.large(n);
        timed.clock.advance(Duration::from_secs(1_000_000));
        timed.large(n);
        let expected = if stored { 1 } else { 2 };
        assert_eq!(timed.runs.get() - before, expected);
    }
    // Zero stores nothing.
    timed.lives_for(0);
    let before = timed.runs.get();
    timed.lives_for(0);
    assert_eq!(timed.runs.get(), before + 1);
}

#[test]
fn a_closure_chooses_the_ttl_in_the_background() {
    #[derive(Clone, Cacheable)]
    struct Rates {
        cache: Cache,
        ttl: Duration,
    }

    impl Rates {
        // The closure may use what the body borrows.
        #[cached(ttl = |_| self.ttl * *factor, refresh_ahead = 0.9, skip(factor), key = "rate")]
        fn rate(&self, factor: &u32) -> cacheio::Result<u32> {
            Ok(*factor)
        }
    }

    let clock = Arc::new(ManualClock::new());
    let memory = Memory::builder().clock(Arc::clone(&clock)).build();
    let cache = Cache::builder().store(memory).build().unwrap();
    let rates = Rates {
        cache,
        ttl: Duration::from_secs(20),
    };
    assert_eq!(rates.rate(&3).unwrap(), 3);
    clock.advance(Duration::from_secs(50));
    assert_eq!(rates.rate(&4).unwrap(), 3);
    clock.advance(Duration::from_secs(10));
    assert_eq!(rates.rate(&4).unwrap(), 4);
}

#[test]
fn a_flag_forces_a_refresh() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);

    #[cached(force_refresh = renew)]
    fn all_arguments(id: u8, renew: bool) -> usize {
        let _ = (id, renew);
        RUNS.fetch_add(1, Ordering::SeqCst)
    }
    #[cached(key = "{id}", force_refresh = !cached && id > 0)]
    fn by_key(id: u8, cached: bool) -> usize {
        let _ = (id, cached);
        RUNS.fetch_add(1, Ordering::SeqCst)
    }
    let first = all_arguments(1, false);
    assert_eq!(all_arguments(1, false), first);
    let renewed = all_arguments(1, true);
    assert_ne!(renewed, first);
    assert_eq!(all_arguments(1, false), renewed, "the entry was replaced");
    assert_ne!(all_arguments(2, false), renewed);

    let first = by_key(1, true);
    assert_ne!(by_key(1, false), first);
    assert_eq!(by_key(0, true), by_key(0, false));
}

#[tokio::test]
async fn a_flag_forces_a_refresh_of_a_task() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);

    #[cached(force_refresh = renew, ttl = |run| Duration::from_secs(60 + *run as u64))]
    async fn run(id: &str, renew: bool) -> Result<usize, String> {
        let _ = (id, renew);
        Ok(RUNS.fetch_add(1, Ordering::SeqCst))
    }
    assert_eq!(run("a", false).await, Ok(0));
    assert_eq!(run("a", false).await, Ok(0));
    assert_eq!(run("a", true).await, Ok(1));
    assert_eq!(run("a", false).await, Ok(1));
}
