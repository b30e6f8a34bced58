//! Origins that are slow, fail or hang: how long callers wait for them, and what they get.

pub(crate) mod batches;
pub(crate) mod fetch;
pub(crate) mod load_context;
pub(crate) mod refresh;
pub(crate) mod timeouts;

use crate::world::Spawned;
use cacheio_core::{BoxFuture, Fetched, LoadContext, RefreshAhead, Source};

use crate::prelude::*;

/// Long enough that a background load shows its effect, if it wrongly has one.
const SETTLE: Duration = Duration::from_millis(30);

/// A short timeout, in which a load that does not hang ends also on a busy machine.
const SHORT: Duration = Duration::from_millis(100);

/// A timeout that does not end while a test runs.
const LONG: Duration = Duration::from_secs(30);

type Fetch<V = String> = Result<Fetched<V>, LoadError<String>>;

/// Entries stay stale for long, and callers wait shortly.
fn with_soft_timeout(fixture: &Fixture) -> Setup {
    Setup {
        default_ttl: Some(fixture.ttl().into()),
        stale_for: fixture.ttl() * 20,
        soft_timeout: Some(SHORT),
        ..Setup::default()
    }
}

/// Entries are refreshed after a fortieth of their TTL.
fn with_refresh_ahead(fixture: &Fixture) -> Setup {
    Setup {
        default_ttl: Some((fixture.ttl() * 20).into()),
        refresh_ahead: Some(RefreshAhead::Fraction(0.025)),
        ..Setup::default()
    }
}

/// A loader that returns "new" when the gate is released.
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

/// Opens a cache, loads "old" as its entry "k", and lets a TTL pass.
async fn cache_with_old(fixture: &Fixture, setup: Setup, passes: Duration) -> CacheApi {
    let cache = fixture.open(setup).unwrap();
    // Also on a busy machine, this load must not time out.
    let options = Options::new().hard_timeout(LONG).max_load(LONG);
    let load = at_once("old".to_owned());
    let fetched = cache.fetch_entry_with("k", options, load).await.unwrap();
    assert_eq!((&*fetched.value, fetched.source), ("old", Source::Loaded));
    fixture.expire(passes);
    cache
}

/// Opens a cache whose entry "k" is "old", tagged and due for a refresh; returns it with the tags.
async fn cache_with_tagged_old(fixture: &Fixture) -> (CacheApi, Options) {
    let cache = fixture.open(with_refresh_ahead(fixture)).unwrap();
    let tagged = Options::new().tags(["t"]);
    let load = at_once("old".to_owned());
    let fetched = cache.fetch_entry_with("k", tagged.clone(), load);
    fetched.await.unwrap();
    fixture.expire(fixture.ttl());
    (cache, tagged)
}

/// Starts a fetch of "k" concurrently with the test.
fn fetching(
    cache: &CacheApi,
    load: impl FnOnce(LoadContext<String>) -> Load + Send + 'static,
) -> Spawned<Fetch> {
    cache.spawn(move |cache| async move { cache.fetch_entry("k", load).await })
}

#[track_caller]
fn assert_is(fetched: Fetch, value: &str, source: Source) {
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
