//! Origins that are slow, fail or hang: who waits for them, and for how long.

use std::sync::atomic::{AtomicUsize, Ordering};

use cacheio_core::{Fetched, LoadContext, RefreshAhead, Source};

use crate::prelude::*;

/// Long enough for what has been started to go on, if it wrongly does.
const WHILE: Duration = Duration::from_millis(30);

/// A timeout that is over soon.
const SOON: Duration = Duration::from_millis(20);

/// One that is not over while a test runs.
const LATE: Duration = Duration::from_secs(30);

type Fetch<V = String> = Result<Fetched<V>, LoadError<String>>;

/// What is kept for long after its TTL, and waited for shortly.
fn patient<F: Face>(place: &Place<F>) -> Setup {
    Setup {
        default_ttl: Some(place.ttl().into()),
        stale_for: place.ttl() * 20,
        soft_timeout: Some(SOON),
        ..Setup::default()
    }
}

/// What is loaded anew after a fortieth of its TTL.
fn ahead<F: Face>(place: &Place<F>) -> Setup {
    Setup {
        default_ttl: Some((place.ttl() * 20).into()),
        refresh_ahead: Some(RefreshAhead::Fraction(0.025)),
        ..Setup::default()
    }
}

/// A loader that makes "new" when it is told to.
fn new(stage: &Stage) -> impl FnOnce(LoadContext<String>) -> Load + Send + 'static {
    let load = stage.loader(Ok("new".to_owned()));
    move |_| load()
}

type Load = std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

fn at_once<V: Send + 'static>(
    value: V,
) -> impl FnOnce(LoadContext<V>) -> std::future::Ready<Result<V, String>> + Send + 'static {
    |_| std::future::ready(Ok(value))
}

fn failing(_: LoadContext<String>) -> std::future::Ready<Result<String, String>> {
    std::future::ready(Err("the origin is down".into()))
}

/// A cache whose entry "k" is "old"; then `passes` has passed.
async fn old<F: Face>(place: &Place<F>, setup: Setup, passes: Duration) -> F {
    let cache = place.open(setup).unwrap();
    // However long that takes.
    let options = Options::new().hard_timeout(LATE).max_load(LATE);
    let load = at_once("old".to_owned());
    let fetched = cache.fetch_entry_with("k", options, load).await.unwrap();
    assert_eq!((&*fetched.value, fetched.source), ("old", Source::Loaded));
    place.expire(passes);
    cache
}

/// A cache whose entry "k" is "old", tagged, and due; and what tags it.
async fn old_and_tagged<F: Face>(place: &Place<F>) -> (F, Options) {
    let cache = place.open(ahead(place)).unwrap();
    let tagged = Options::new().tags(["t"]);
    let load = at_once("old".to_owned());
    let fetched = cache.fetch_entry_with("k", tagged.clone(), load);
    fetched.await.unwrap();
    place.expire(place.ttl());
    (cache, tagged)
}

/// Starts a fetch of "k" beside the test.
fn fetching<F: Face>(
    cache: &F,
    load: impl FnOnce(LoadContext<String>) -> Load + Send + 'static,
) -> cacheio_tests::face::Running<Fetch> {
    let cache = cache.clone();
    F::spawn(async move { cache.fetch_entry("k", load).await })
}

#[track_caller]
fn is(fetched: Fetch, value: &str, source: Source) {
    let fetched = fetched.unwrap();
    assert_eq!((&*fetched.value, fetched.source), (value, source));
}

async fn stored<F: Face>(cache: &F) -> Option<String> {
    cache.get::<String>("k").await.unwrap()
}

async fn until_stored<F: Face>(cache: &F, value: &str) {
    while stored(cache).await.as_deref() != Some(value) {
        F::pause().await;
    }
}

pub(crate) async fn fetch_loads_once_and_then_hits<F: Face>(place: Place<F>) {
    let cache = place.cache;
    is(
        cache.fetch_entry("k", at_once("v".to_owned())).await,
        "v",
        Source::Loaded,
    );
    is(cache.fetch_entry("k", failing).await, "v", Source::Hit);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1));
}

pub(crate) async fn fetch_gives_the_value<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let stage = Stage::new();
    for _ in 0..3 {
        assert_eq!(cache.fetch("k", new(&stage)).await.unwrap(), "old");
    }
    stage.end();
    until_stored(&cache, "new").await;
    assert_eq!(cache.fetch("k", failing).await.unwrap(), "new");
    assert_eq!(stage.runs(), 1);
    let error = cache.fetch("other", failing).await.unwrap_err();
    assert_eq!(error.to_string(), "the origin is down");
}

pub(crate) async fn a_1000_cold_callers_fetch_once<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let callers = (0..1_000).map(|_| fetching(&cache, new(&stage))).collect();
    cache.until(|cache| cache.stats().waits == 999).await;
    stage.end();
    let fetched = join_all(callers).await;
    let sources = fetched.into_iter().map(|fetched| fetched.unwrap().source);
    assert_eq!(
        sources.filter(|source| *source == Source::Loaded).count(),
        1
    );
    assert_eq!(stage.runs(), 1);
}

pub(crate) async fn one_failed_fetch_is_one_error_for_all<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let callers = (0..100).map(|_| {
        let load = stage.loader(Err("down".to_owned()));
        fetching(&cache, move |_| load())
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 99).await;
    stage.end();
    for fetched in join_all(callers).await {
        assert_eq!(fetched.unwrap_err().to_string(), "down");
    }
    assert_eq!(stage.runs(), 1);
}

pub(crate) async fn fetch_and_get_or_set_wait_for_each_other<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let fetched = fetching(&cache, new(&stage));
    stage.begun().await;
    let got = {
        let cache = cache.clone();
        F::spawn(async move {
            cache
                .get_or_set("k", || async { String::from("other") })
                .await
        })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    is(fetched.join().await, "new", Source::Loaded);
    assert_eq!(got.join().await, "new");

    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(7));
        F::spawn(async move { cache.get_or_set("n", load).await })
    };
    stage.begun().await;
    let waiter = {
        let cache = cache.clone();
        F::spawn(async move { cache.fetch_entry("n", at_once(8)).await })
    };
    cache.until(|cache| cache.stats().waits == 2).await;
    stage.end();
    assert_eq!(leader.join().await, 7);
    let waited = waiter.join().await.unwrap();
    assert_eq!((waited.value, waited.source), (7, Source::Waited));
}

pub(crate) async fn the_age_is_that_of_the_value<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let fetched = cache.fetch_entry_with(
        "k",
        Options::new().refresh_ahead(RefreshAhead::Never),
        failing,
    );
    let fetched = fetched.await.unwrap();
    assert_eq!(fetched.source, Source::Hit);
    assert!(fetched.age.unwrap() >= place.ttl(), "{:?}", fetched.age);
    cache.set("k", "set").await.unwrap();
    let fetched = cache.fetch_entry("k", failing).await.unwrap();
    assert_eq!((&*fetched.value, fetched.age), ("set", None));
}

pub(crate) async fn a_soft_timeout_serves_what_is_stale<F: Face>(place: Place<F>) {
    let cache = old(&place, patient(&place), place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(stage.runs(), 1);
    let stats = cache.stats();
    assert_eq!((stats.timeouts, stats.stale_hits), (1, 1));
    // A load that is late already is not waited for again; nor is another one begun.
    for _ in 0..3 {
        is(
            cache.fetch_entry("k", new(&stage)).await,
            "old",
            Source::Stale,
        );
    }
    assert_eq!(stage.runs(), 1);
    stage.end();
}

pub(crate) async fn timed_out_load_still_updates<F: Face>(place: Place<F>) {
    let cache = old(&place, patient(&place), place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(stored(&cache).await, None);
    stage.end();
    until_stored(&cache, "new").await;
    is(cache.fetch_entry("k", failing).await, "new", Source::Hit);
}

pub(crate) async fn no_soft_timeout_without_stale<F: Face>(place: Place<F>) {
    let cache = place.open(patient(&place)).unwrap();
    let stage = Stage::new();
    let fetched = fetching(&cache, new(&stage));
    stage.begun().await;
    F::sleep(SOON * 2).await;
    assert_eq!(cache.stats().timeouts, 0);
    stage.end();
    is(fetched.join().await, "new", Source::Loaded);
}

pub(crate) async fn hard_timeout_without_stale<F: Face>(place: Place<F>) {
    let mut setup = patient(&place);
    setup.hard_timeout = Some(SOON);
    let cache = place.open(setup).unwrap();
    let stage = Stage::new();
    let error = cache.fetch_entry("k", new(&stage)).await.unwrap_err();
    let LoadError::Timeout(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.key().unwrap().ends_with('k'));
    assert!(error.to_string().contains("hard_timeout"), "{error}");
    assert_eq!(cache.stats().timeouts, 1);
    // The load goes on.
    stage.end();
    until_stored(&cache, "new").await;
}

pub(crate) async fn a_hard_timeout_serves_what_is_stale<F: Face>(place: Place<F>) {
    let mut setup = patient(&place);
    (setup.soft_timeout, setup.hard_timeout) = (None, Some(SOON));
    let cache = old(&place, setup, place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Stale,
    );
    stage.end();
}

pub(crate) async fn a_waiter_has_its_own_timeout<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(7));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    stage.begun().await;
    let options = Options::new().hard_timeout(SOON);
    let got = cache.get_or_try_set_with("k", options, async || Ok::<_, String>(8));
    assert!(matches!(got.await, Err(LoadError::Timeout(_))));
    stage.end();
    assert_eq!(leader.join().await, 7);
}

pub(crate) async fn background_failure_is_harmless<F: Face>(place: Place<F>) {
    let cache = old(&place, patient(&place), place.ttl()).await;
    let stage = Stage::new();
    let load = stage.loader(Err("down".to_owned()));
    let fetched: Fetch = cache.fetch_entry("k", move |_| load()).await;
    is(fetched, "old", Source::Stale);
    stage.end();
    cache.until(|cache| cache.stats().load_errors == 1).await;
    F::sleep(WHILE).await;
    // And it is not tried again at once.
    let again = Stage::open();
    is(
        cache.fetch_entry("k", new(&again)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(again.runs(), 0);
}

pub(crate) async fn fetch_is_served_what_is_stale_when_its_load_fails<F: Face>(place: Place<F>) {
    let cache = old(&place, patient(&place), place.ttl()).await;
    is(cache.fetch_entry("k", failing).await, "old", Source::Stale);
    let again = Stage::open();
    is(
        cache.fetch_entry("k", new(&again)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(again.runs(), 0);
    assert_eq!(cache.stats().stale_hits, 2);
    place.expire(place.ttl() * 20);
    assert!(cache.fetch_entry("k", failing).await.is_err());
}

pub(crate) async fn invalidation_beats_background_load<F: Face>(place: Place<F>) {
    let cache = old(&place, patient(&place), place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Stale,
    );
    cache.delete("k").await.unwrap();
    stage.end();
    F::sleep(WHILE).await;
    assert_eq!(stored(&cache).await, None);
    assert!(cache.fetch_entry("k", failing).await.is_err());
}

pub(crate) async fn a_soft_timeout_of_zero_never_waits<F: Face>(place: Place<F>) {
    let mut setup = patient(&place);
    setup.soft_timeout = Some(Duration::ZERO);
    let cache = old(&place, setup, place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Stale,
    );
    stage.end();
    until_stored(&cache, "new").await;
}

pub(crate) async fn endless_durations_are_taken<F: Face>(place: Place<F>) {
    let setup = Setup {
        stale_for: Ttl::MAX,
        retry_after: Some(Ttl::MAX),
        soft_timeout: Some(Duration::MAX),
        hard_timeout: Some(Duration::MAX),
        max_load: Some(Duration::MAX),
        default_ttl: Some(Ttl::Never),
        refresh_ahead: Some(RefreshAhead::Fraction(0.5)),
        ..Setup::default()
    };
    let cache = old(&place, setup, place.ttl()).await;
    is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    let options = Options::ttl(place.ttl());
    let load = at_once("short".to_owned());
    let short: Fetch = cache.fetch_entry_with("short", options, load).await;
    is(short, "short", Source::Loaded);
    place.expire(place.ttl());
    is(
        cache.fetch_entry("short", failing).await,
        "short",
        Source::Stale,
    );
}

pub(crate) async fn a_load_that_hangs_frees_its_key<F: Face>(place: Place<F>) {
    // Long enough for what does not hang, also on a busy machine.
    let setup = Setup {
        max_load: Some(Duration::from_millis(500)),
        ..Setup::default()
    };
    let cache = place.open(setup).unwrap();
    let hung = Stage::new();
    let callers = (0..10).map(|_| fetching(&cache, new(&hung))).collect();
    for fetched in join_all(callers).await {
        let error = fetched.unwrap_err();
        assert!(matches!(error, LoadError::Timeout(_)), "{error}");
        assert!(error.to_string().contains("max_load"), "{error}");
    }
    assert_eq!(hung.runs(), 1);
    assert_eq!(cache.stats().load_timeouts, 1);
    is(
        cache.fetch_entry("k", at_once("v".to_owned())).await,
        "v",
        Source::Loaded,
    );
    // What comes of it after all is stored no more.
    hung.end();
    F::sleep(WHILE).await;
    assert_eq!(stored(&cache).await.as_deref(), Some("v"));
}

pub(crate) async fn a_hung_get_or_set_frees_its_key<F: Face>(place: Place<F>) {
    let setup = Setup {
        max_load: Some(SOON),
        ..Setup::default()
    };
    let cache = place.open(setup).unwrap();
    let hung = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), hung.loader("late".to_owned()));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    hung.begun().await;
    // Who cannot say that it took too long takes over.
    let got = cache.get_or_set("k", async || String::from("v")).await;
    assert_eq!(got, "v");
    hung.end();
    assert_eq!(leader.join().await, "late");
    assert_eq!(stored(&cache).await.as_deref(), Some("v"));
}

pub(crate) async fn a_load_that_hangs_serves_what_is_stale<F: Face>(place: Place<F>) {
    let mut setup = patient(&place);
    (setup.soft_timeout, setup.max_load) = (None, Some(SOON));
    let cache = old(&place, setup, place.ttl()).await;
    let hung = Stage::new();
    is(
        cache.fetch_entry("k", new(&hung)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(cache.stats().load_timeouts, 1);
    // It counts as one that failed.
    is(
        cache.fetch_entry("k", new(&hung)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(hung.runs(), 1);
    hung.end();
}

pub(crate) async fn a_batch_waits_no_longer_than_its_timeout<F: Face>(place: Place<F>) {
    let setup = Setup {
        hard_timeout: Some(SOON),
        ..Setup::default()
    };
    let cache = place.open(setup).unwrap();
    cache.set("a", 1).await.unwrap();
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(2));
        F::spawn(async move { cache.get_or_set("b", load).await })
    };
    stage.begun().await;
    let answers = cache.get_or_try_set_many(vec!["a", "b", "c"], async |missing: Vec<&str>| {
        Ok::<_, String>(missing.into_iter().map(|key| (key, 3)).collect())
    });
    let answers = answers.await;
    assert_eq!(answers[0].as_ref().unwrap(), &Some(1));
    assert!(matches!(answers[1], Err(LoadError::Timeout(_))));
    assert_eq!(answers[2].as_ref().unwrap(), &Some(3));
    stage.end();
    leader.join().await;
}

pub(crate) async fn refresh_does_not_block<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let stage = Stage::new();
    for _ in 0..3 {
        is(
            cache.fetch_entry("k", new(&stage)).await,
            "old",
            Source::Hit,
        );
    }
    stage.begun().await;
    assert_eq!(stored(&cache).await.as_deref(), Some("old"));
    stage.end();
    until_stored(&cache, "new").await;
    let stats = cache.stats();
    assert_eq!(
        (stage.runs(), stats.refreshes, stats.refresh_errors),
        (1, 1, 0)
    );
    assert_eq!((stats.misses, stats.waits), (1, 0));
}

pub(crate) async fn refresh_ahead_once<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let stage = Stage::new();
    let callers = (0..100).map(|_| fetching(&cache, new(&stage))).collect();
    for fetched in join_all(callers).await {
        is(fetched, "old", Source::Hit);
    }
    stage.begun().await;
    assert_eq!(stage.runs(), 1);
    stage.end();
    until_stored(&cache, "new").await;
    // What is new is not due.
    let again = Stage::open();
    is(
        cache.fetch_entry("k", new(&again)).await,
        "new",
        Source::Hit,
    );
    assert_eq!((again.runs(), cache.stats().refreshes), (0, 1));
}

pub(crate) async fn get_or_set_refreshes_in_one_caller<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let stage = Stage::new();
    let one = {
        let (cache, load) = (cache.clone(), stage.loader("new".to_owned()));
        F::spawn(async move { cache.get_or_set("k", load).await })
    };
    stage.begun().await;
    let other = cache.get_or_set("k", async || String::from("another refreshes"));
    assert_eq!(other.await, "old");
    stage.end();
    assert_eq!(one.join().await, "new");
    assert_eq!(stored(&cache).await.as_deref(), Some("new"));
}

pub(crate) async fn a_refresh_that_fails_changes_nothing<F: Face>(place: Place<F>) {
    let mut setup = ahead(&place);
    setup.retry_after = Some(place.ttl());
    let cache = old(&place, setup, place.ttl()).await;
    is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    cache.until(|cache| cache.stats().refresh_errors == 1).await;
    F::sleep(WHILE).await;
    // It is not tried again at once …
    let stage = Stage::open();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Hit,
    );
    let got = cache.get_or_try_set("k", async || Err::<String, _>("down".to_owned()));
    assert_eq!(got.await.unwrap(), "old");
    assert_eq!((stage.runs(), cache.stats().loads), (0, 2));
    // … but after a while.
    place.expire(place.ttl());
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Hit,
    );
    until_stored(&cache, "new").await;
}

pub(crate) async fn loader_panics_in_background<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let panics = |_: LoadContext<String>| async { panic!("in the background") };
    let fetched: Fetch = cache.fetch_entry("k", panics).await;
    is(fetched, "old", Source::Hit);
    cache.until(|cache| cache.stats().refresh_errors == 1).await;
    F::sleep(WHILE).await;
    is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    assert_eq!(cache.stats().loads, 2);
    cache.set("k", "set").await.unwrap();
    assert_eq!(stored(&cache).await.as_deref(), Some("set"));
}

pub(crate) async fn a_panic_reaches_the_caller_that_waits<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let panics = {
        let stage = stage.clone();
        move |_: LoadContext<String>| -> Load {
            Box::pin(async move {
                stage.play().await;
                panic!("in its load")
            })
        }
    };
    let leader = fetching(&cache, panics);
    stage.begun().await;
    let waiter = fetching(&cache, new(&stage));
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert_eq!(leader.outcome().await.unwrap_err(), "in its load");
    is(waiter.join().await, "new", Source::Loaded);
}

pub(crate) async fn miss_waits_for_running_refresh<F: Face>(place: Place<F>) {
    let mut setup = ahead(&place);
    setup.default_ttl = Some((place.ttl() * 4).into());
    let cache = old(&place, setup, place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Hit,
    );
    stage.begun().await;
    place.expire(place.ttl() * 4);
    let waiter = fetching(&cache, new(&stage));
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    is(waiter.join().await, "new", Source::Waited);
    assert_eq!(stage.runs(), 1);
}

pub(crate) async fn invalidation_beats_refresh<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Hit,
    );
    stage.begun().await;
    cache.delete("k").await.unwrap();
    stage.end();
    F::sleep(WHILE).await;
    assert_eq!(stored(&cache).await, None);
}

/// What `FusionCache` had wrong (#628).
pub(crate) async fn tag_invalidation_beats_refresh<F: Face>(place: Place<F>) {
    if !place.keeps_objects() {
        return;
    }
    let (cache, tagged) = old_and_tagged(&place).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry_with("k", tagged, new(&stage)).await,
        "old",
        Source::Hit,
    );
    stage.begun().await;
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    stage.end();
    F::sleep(WHILE).await;
    assert_eq!(stored(&cache).await, None);
}

pub(crate) async fn a_set_beats_a_refresh<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let stage = Stage::new();
    is(
        cache.fetch_entry("k", new(&stage)).await,
        "old",
        Source::Hit,
    );
    stage.begun().await;
    cache.set("k", "set").await.unwrap();
    stage.end();
    F::sleep(WHILE).await;
    assert_eq!(stored(&cache).await.as_deref(), Some("set"));
}

pub(crate) async fn xfetch_refreshes_what_took_long<F: Face>(place: Place<F>) {
    let mut setup = ahead(&place);
    // So early that it is at once, if its load took but a moment.
    setup.refresh_ahead = Some(RefreshAhead::XFetch { beta: 1e12 });
    let cache = place.open(setup).unwrap();
    let stage = Stage::new();
    let loading = fetching(&cache, new(&stage));
    stage.begun().await;
    place.expire(Duration::from_millis(10));
    stage.end();
    is(loading.join().await, "new", Source::Loaded);
    let newer = Stage::open();
    let load = newer.loader(Ok("newer".to_owned()));
    let fetched: Fetch = cache.fetch_entry("k", move |_| load()).await;
    is(fetched, "new", Source::Hit);
    until_stored(&cache, "newer").await;
}

pub(crate) async fn adaptive_ttl<F: Face>(place: Place<F>) {
    let cache = place.open(Setup::default()).unwrap();
    let ttl = place.ttl();
    let load = move |context: LoadContext<String>| {
        context.ttl(ttl);
        std::future::ready(Ok::<_, String>("short".to_owned()))
    };
    is(cache.fetch_entry("k", load).await, "short", Source::Loaded);
    assert_eq!(stored(&cache).await.as_deref(), Some("short"));
    place.expire(ttl);
    assert_eq!(stored(&cache).await, None);
}

pub(crate) async fn adaptive_ttl_in_background<F: Face>(place: Place<F>) {
    let cache = old(&place, ahead(&place), place.ttl()).await;
    let ttl = place.ttl();
    let load = move |context: LoadContext<String>| {
        context.ttl(ttl);
        std::future::ready(Ok::<_, String>("short".to_owned()))
    };
    is(cache.fetch_entry("k", load).await, "old", Source::Hit);
    until_stored(&cache, "short").await;
    place.expire(ttl);
    assert_eq!(stored(&cache).await, None);
}

pub(crate) async fn skip_gives_without_storing<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let load = |context: LoadContext<String>| {
        context.skip();
        std::future::ready(Ok::<_, String>("v".to_owned()))
    };
    is(cache.fetch_entry("k", load).await, "v", Source::Loaded);
    assert_eq!(stored(&cache).await, None);
}

pub(crate) async fn not_modified_renews<F: Face>(place: Place<F>) {
    let cache = old(&place, patient(&place), place.ttl()).await;
    let load = |context: LoadContext<String>| {
        assert_eq!(context.stale().map(String::as_str), Some("old"));
        std::future::ready(
            context
                .not_modified()
                .ok_or_else(|| "nothing older".to_owned()),
        )
    };
    is(cache.fetch_entry("k", load).await, "old", Source::Loaded);
    is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    assert_eq!(stored(&cache).await.as_deref(), Some("old"));
    // There is nothing older where nothing is.
    let load = |context: LoadContext<String>| {
        let kept = context.not_modified();
        std::future::ready(kept.ok_or_else(|| "nothing older".to_owned()))
    };
    assert!(cache.fetch_entry("other", load).await.is_err());
}

pub(crate) async fn none_has_its_own_ttl<F: Face>(place: Place<F>) {
    let setup = Setup {
        ttl_none: Some(place.ttl().into()),
        ..Setup::default()
    };
    let cache = place.open(setup).unwrap();
    assert_eq!(cache.get_or_set("none", async || None::<u8>).await, None);
    assert_eq!(cache.get_or_set("some", async || Some(1)).await, Some(1));
    let batch = cache.get_or_set_many(vec!["x", "y"], async |keys: Vec<&str>| {
        keys.into_iter()
            .map(|key| (key, (key == "x").then_some(1)))
            .collect()
    });
    assert_eq!(batch.await, [Some(Some(1)), Some(None)]);
    let all = vec!["none", "some", "x", "y"];
    let stored = cache.get_many::<Option<u8>>(all.clone()).await.unwrap();
    assert_eq!(
        stored,
        [Some(None), Some(Some(1)), Some(Some(1)), Some(None)]
    );
    place.expire(place.ttl());
    let stored = cache.get_many::<Option<u8>>(all).await.unwrap();
    assert_eq!(stored, [None, Some(Some(1)), Some(Some(1)), None]);
}

pub(crate) async fn none_may_not_be_stored_at_all<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let options = Options::new().ttl_none(Duration::ZERO);
    let got = cache.get_or_set_with("k", options.clone(), async || None::<u8>);
    assert_eq!(got.await, None);
    assert!(!cache.has("k").await.unwrap());
    let got = cache.get_or_set_with("k", options, async || Some(7));
    assert_eq!(got.await, Some(7));
    assert!(cache.has("k").await.unwrap());
}

pub(crate) async fn force_refresh_loads_what_is_live<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("k", "old").await.unwrap();
    let forced = Options::new().force_refresh();
    let load = at_once("new".to_owned());
    is(
        cache.fetch_entry_with("k", forced.clone(), load).await,
        "new",
        Source::Loaded,
    );
    assert_eq!(stored(&cache).await.as_deref(), Some("new"));
    let got = cache.get_or_set_with("k", forced.clone(), async || String::from("newer"));
    assert_eq!(got.await, "newer");
    assert_eq!(stored(&cache).await.as_deref(), Some("newer"));
    // One that fails is told so, and leaves what is there.
    assert!(cache.fetch_entry_with("k", forced, failing).await.is_err());
    assert_eq!(stored(&cache).await.as_deref(), Some("newer"));
}

pub(crate) async fn a_fetch_of_its_own_key_is_an_error<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let again = cache.clone();
    let load = move |_: LoadContext<String>| async move {
        let inner = again.fetch_entry("k", at_once("inner".to_owned())).await;
        inner
            .map(|fetched| fetched.value)
            .map_err(|error| error.to_string())
    };
    let error = cache.fetch_entry("k", load).await.unwrap_err();
    assert!(
        error.to_string().contains("waits for the key itself"),
        "{error}"
    );
}

pub(crate) async fn a_load_behind_may_ask_for_the_key_of_who_left_it<F: Face>(place: Place<F>) {
    let mut setup = patient(&place);
    setup.soft_timeout = Some(SOON);
    let cache = old(&place, setup, place.ttl()).await;
    let (inner, outer) = (Stage::new(), Stage::new());
    // The load of "outer" asks for "k", which is late: it goes on with what is stale. When the
    // load of "k" asks for "outer", nobody waits in a circle any more.
    let asks = {
        let (cache, inner, outer) = (cache.clone(), inner.clone(), outer.clone());
        move |_: LoadContext<String>| -> Load {
            Box::pin(async move {
                let load = {
                    let cache = cache.clone();
                    move |_: LoadContext<String>| -> Load {
                        Box::pin(async move {
                            inner.play().await;
                            let outer = cache.fetch_entry("outer", failing).await;
                            outer
                                .map(|fetched| fetched.value)
                                .map_err(|error| error.to_string())
                        })
                    }
                };
                let old = cache
                    .fetch_entry("k", load)
                    .await
                    .map_err(|error| error.to_string())?;
                outer.play().await;
                Ok(format!("outer of {}", old.value))
            })
        }
    };
    let fetched = {
        let cache = cache.clone();
        F::spawn(async move { cache.fetch_entry("outer", asks).await })
    };
    outer.begun().await;
    inner.end();
    cache.until(|cache| cache.stats().waits == 1).await;
    outer.end();
    is(fetched.join().await, "outer of old", Source::Loaded);
    until_stored(&cache, "outer of old").await;
}

pub(crate) async fn settings_that_do_not_fit_are_refused<F: Face>(place: Place<F>) {
    let refused = |setup: Setup| {
        let error = place.open(setup).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let error = refused(Setup {
        soft_timeout: Some(SOON),
        ..Setup::default()
    });
    assert!(error.contains("soft_timeout needs stale_for"), "{error}");
    let error = refused(Setup {
        stale_for: LATE,
        soft_timeout: Some(LATE),
        hard_timeout: Some(SOON),
        ..Setup::default()
    });
    assert!(
        error.contains("soft_timeout is longer than hard_timeout"),
        "{error}"
    );
}

/// 24 hours, in steps of a minute.
pub(crate) async fn a_hot_key_is_never_waited_for<F: Face>(place: Place<F>) {
    if !place.stops_time() {
        return;
    }
    const MINUTE: Duration = Duration::from_secs(60);
    let setup = Setup {
        default_ttl: Some((MINUTE * 30).into()),
        refresh_ahead: Some(RefreshAhead::Fraction(0.95)),
        ..Setup::default()
    };
    let cache = place.open(setup).unwrap();
    let loads = Arc::new(AtomicUsize::new(0));
    let load = || {
        let loads = Arc::clone(&loads);
        move |_: LoadContext<usize>| async move { Ok::<_, String>(loads.fetch_add(1, Ordering::SeqCst)) }
    };
    for _ in 0..24 * 60 {
        let fetched = cache.fetch_entry("hot", load()).await.unwrap();
        assert!(fetched.age.unwrap() < MINUTE * 30);
        // A refresh that was begun has ended.
        let begun = usize::try_from(cache.stats().refreshes).unwrap();
        while cache.get::<usize>("hot").await.unwrap() != Some(begun) {
            F::pause().await;
        }
        // A write waits until it has landed; time must not pass in between.
        assert!(!cache.add("hot", 0_usize).await.unwrap());
        place.expire(MINUTE);
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.waits), (1, 0));
    // 48 TTLs.
    assert!(stats.loads <= 52, "{stats:?}");
}

pub(crate) async fn nothing_is_served_past_its_end<F: Face>(place: Place<F>) {
    if !place.stops_time() {
        return;
    }
    let mut setup = patient(&place);
    setup.hard_timeout = Some(SOON * 2);
    let stale_for = setup.stale_for;
    let cache = old(&place, setup, place.ttl()).await;
    let stage = Stage::new();
    let load = {
        let (place, load) = (place.clone(), new(&stage));
        move |context| -> Load {
            // While it runs, what is stale comes to its end.
            place.expire(stale_for);
            load(context)
        }
    };
    let error = cache.fetch_entry("k", load).await.unwrap_err();
    assert!(matches!(error, LoadError::Timeout(_)), "{error}");
    assert_eq!(cache.stats().stale_hits, 0);
    stage.end();
}

pub(crate) async fn a_load_that_nobody_waits_for_is_given_up_by_the_next<F: Face>(place: Place<F>) {
    let mut setup = patient(&place);
    (setup.soft_timeout, setup.max_load) = (Some(Duration::ZERO), Some(SOON));
    let cache = old(&place, setup, place.ttl()).await;
    let hung = Stage::new();
    is(
        cache.fetch_entry("k", new(&hung)).await,
        "old",
        Source::Stale,
    );
    F::sleep(SOON * 2).await;
    // It counts as one that failed: none is tried for a while.
    for _ in 0..3 {
        is(
            cache.fetch_entry("k", new(&hung)).await,
            "old",
            Source::Stale,
        );
    }
    assert_eq!((hung.runs(), cache.stats().load_timeouts), (1, 1));
    hung.end();
}

pub(crate) async fn not_modified_brings_nothing_back<F: Face>(place: Place<F>) {
    if !place.keeps_objects() {
        return;
    }
    let (cache, _) = old_and_tagged(&place).await;
    let stage = Stage::new();
    let load = {
        let stage = stage.clone();
        move |context: LoadContext<String>| -> Load {
            Box::pin(async move {
                stage.play().await;
                context
                    .not_modified()
                    .ok_or_else(|| "nothing older".to_owned())
            })
        }
    };
    // Without the tag: the entry that it renews had it.
    is(cache.fetch_entry("k", load).await, "old", Source::Hit);
    stage.begun().await;
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    stage.end();
    F::sleep(WHILE).await;
    assert_eq!(stored(&cache).await, None);
}

pub(crate) async fn those_with_another_error_load_once<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let load = stage.loader(Err("down".to_owned()));
    let leader = fetching(&cache, move |_| load());
    stage.begun().await;
    let second = Stage::open();
    let callers = (0..100).map(|_| {
        let (cache, load) = (cache.clone(), second.loader(7));
        F::spawn(async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 100).await;
    stage.end();
    assert!(leader.join().await.is_err());
    assert_eq!(join_all(callers).await, [7; 100]);
    assert_eq!(second.runs(), 1);
}

pub(crate) async fn a_touch_reaches_what_was_fetched<F: Face>(place: Place<F>) {
    let [one, other] = place.twins(Setup::default());
    let options = Options::ttl(place.ttl());
    let load = at_once("v".to_owned());
    is(
        one.fetch_entry_with("k", options, load).await,
        "v",
        Source::Loaded,
    );
    assert!(other.touch("k", place.ttl() * 20).await.unwrap());
    place.expire(place.ttl());
    is(other.fetch_entry("k", failing).await, "v", Source::Hit);
}

pub(crate) async fn a_batch_may_be_forced<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set_many(vec![("a", 1), ("b", 2)]).await.unwrap();
    let forced = Options::new().force_refresh();
    let load = async |missing: Vec<&'static str>| {
        missing
            .into_iter()
            .filter(|key| *key == "a")
            .map(|key| (key, 7))
            .collect()
    };
    let loaded = cache
        .get_or_set_many_with(vec!["a", "b"], forced, load)
        .await;
    assert_eq!(loaded, [Some(7), None]);
    let stored = cache.get_many::<i32>(vec!["a", "b"]).await.unwrap();
    assert_eq!(stored, [Some(7), None]);
}

/// More than there are threads for it.
pub(crate) async fn many_loads_may_ask_for_others<F: Face>(place: Place<F>) {
    let setup = Setup {
        hard_timeout: Some(LATE),
        ..Setup::default()
    };
    let cache = place.open(setup).unwrap();
    let callers = (0..50).map(|i| {
        let (cache, inner) = (cache.clone(), cache.clone());
        let load = move |_: LoadContext<i32>| async move {
            let part = inner.fetch_entry(("part", i), at_once(i)).await;
            part.map(|part| part.value + 1)
                .map_err(|error| error.to_string())
        };
        F::spawn(async move { cache.fetch_entry(("whole", i), load).await })
    });
    for (i, whole) in (0..).zip(join_all(callers.collect()).await) {
        assert_eq!(whole.unwrap().value, i + 1);
    }
}
