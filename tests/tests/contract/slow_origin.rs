//! Origins that are slow, fail or hang: who waits for them, and for how long.

pub(crate) mod fetch;
pub(crate) mod load_context;
pub(crate) mod refresh;
pub(crate) mod timeouts;

use cacheio_core::{BoxFuture, Fetched, LoadContext, RefreshAhead, Source};
use cacheio_tests::world::Spawned;

use crate::prelude::*;

/// Long enough for what has been started to go on, if it wrongly does.
const WHILE: Duration = Duration::from_millis(30);

/// A timeout that is over soon.
const SOON: Duration = Duration::from_millis(20);

/// One that is not over while a test runs.
const LATE: Duration = Duration::from_secs(30);

type Fetch<V = String> = Result<Fetched<V>, LoadError<String>>;

/// What is kept for long after its TTL, and waited for shortly.
fn patient(fixture: &Fixture) -> Setup {
    Setup {
        default_ttl: Some(fixture.ttl().into()),
        stale_for: fixture.ttl() * 20,
        soft_timeout: Some(SOON),
        ..Setup::default()
    }
}

/// What is loaded anew after a fortieth of its TTL.
fn ahead(fixture: &Fixture) -> Setup {
    Setup {
        default_ttl: Some((fixture.ttl() * 20).into()),
        refresh_ahead: Some(RefreshAhead::Fraction(0.025)),
        ..Setup::default()
    }
}

/// A loader that makes "new" when it is told to.
fn new(gate: &LoaderGate) -> impl FnOnce(LoadContext<String>) -> Load + Send + 'static {
    let load = gate.loader(Ok("new".to_owned()));
    move |_| load()
}

type Load = BoxFuture<'static, Result<String, String>>;

fn at_once<V: Send + 'static>(
    value: V,
) -> impl FnOnce(LoadContext<V>) -> std::future::Ready<Result<V, String>> + Send + 'static {
    |_| std::future::ready(Ok(value))
}

fn failing(_: LoadContext<String>) -> std::future::Ready<Result<String, String>> {
    std::future::ready(Err("the origin is down".into()))
}

/// A cache whose entry "k" is "old"; then `passes` has passed.
async fn old(fixture: &Fixture, setup: Setup, passes: Duration) -> CacheApi {
    let cache = fixture.open(setup).unwrap();
    // However long that takes.
    let options = Options::new().hard_timeout(LATE).max_load(LATE);
    let load = at_once("old".to_owned());
    let fetched = cache.fetch_entry_with("k", options, load).await.unwrap();
    assert_eq!((&*fetched.value, fetched.source), ("old", Source::Loaded));
    fixture.expire(passes);
    cache
}

/// A cache whose entry "k" is "old", tagged, and due; and what tags it.
async fn old_and_tagged(fixture: &Fixture) -> (CacheApi, Options) {
    let cache = fixture.open(ahead(fixture)).unwrap();
    let tagged = Options::new().tags(["t"]);
    let load = at_once("old".to_owned());
    let fetched = cache.fetch_entry_with("k", tagged.clone(), load);
    fetched.await.unwrap();
    fixture.expire(fixture.ttl());
    (cache, tagged)
}

/// Starts a fetch of "k" beside the test.
fn fetching(
    cache: &CacheApi,
    load: impl FnOnce(LoadContext<String>) -> Load + Send + 'static,
) -> Spawned<Fetch> {
    cache.spawn(move |cache| async move { cache.fetch_entry("k", load).await })
}

#[track_caller]
fn is(fetched: Fetch, value: &str, source: Source) {
    let fetched = fetched.unwrap();
    assert_eq!((&*fetched.value, fetched.source), (value, source));
}

async fn stored(cache: &CacheApi) -> Option<String> {
    cache.get::<String>("k").await.unwrap()
}

async fn until_stored(cache: &CacheApi, value: &str) {
    while stored(cache).await.as_deref() != Some(value) {
        cache.world().pause().await;
    }
}
