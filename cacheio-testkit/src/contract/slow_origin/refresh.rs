//! Refresh ahead: a live entry that is due is loaded in the background.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(refresh_does_not_block),
        case(a_due_entry_is_refreshed_once),
        case(get_or_set_refreshes_in_one_caller),
        case(a_failed_refresh_changes_nothing),
        case(a_panic_in_the_background_changes_nothing),
        case(a_miss_waits_for_a_running_refresh),
        case(invalidation_wins_over_a_refresh),
        case(tag_invalidation_wins_over_a_refresh),
        case(set_wins_over_a_refresh),
        case(xfetch_refreshes_early_after_a_slow_load),
        case(callers_never_wait_for_a_hot_key).needs(Optional::Add),
    ]
}

async fn refresh_does_not_block(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    for _ in 0..3 {
        assert_is(cache.fetch_entry("k", new(&gate)).await, "old", Source::Hit);
    }
    gate.started().await;
    assert_eq!(stored(&cache).await.as_deref(), Some("old"));
    gate.release();
    until_stored(&cache, "new").await;
    let stats = cache.stats();
    assert_eq!(
        (gate.runs(), stats.refreshes, stats.refresh_errors),
        (1, 1, 0)
    );
    assert_eq!((stats.misses, stats.waits), (1, 0));
}

async fn a_due_entry_is_refreshed_once(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    let callers = (0..100).map(|_| fetching(&cache, new(&gate))).collect();
    for fetched in join_all(callers).await {
        assert_is(fetched, "old", Source::Hit);
    }
    gate.started().await;
    assert_eq!(gate.runs(), 1);
    gate.release();
    until_stored(&cache, "new").await;
    // A new entry is not due.
    let again = LoaderGate::open();
    assert_is(
        cache.fetch_entry("k", new(&again)).await,
        "new",
        Source::Hit,
    );
    assert_eq!((again.runs(), cache.stats().refreshes), (0, 1));
}

async fn get_or_set_refreshes_in_one_caller(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    let one = {
        let load = gate.loader("new".to_owned());
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    gate.started().await;
    let other = cache.get_or_set("k", async || String::from("another refreshes"));
    assert_eq!(other.await, "old");
    gate.release();
    assert_eq!(one.join().await, "new");
    assert_eq!(stored(&cache).await.as_deref(), Some("new"));
}

async fn a_failed_refresh_changes_nothing(fixture: Fixture) {
    let mut setup = with_refresh_ahead(&fixture);
    setup.retry_after = Some(fixture.ttl());
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    assert_is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    cache.until(|cache| cache.stats().refresh_errors == 1).await;
    fixture.world.sleep(SETTLE).await;
    // The refresh is not retried at once …
    let gate = LoaderGate::open();
    assert_is(cache.fetch_entry("k", new(&gate)).await, "old", Source::Hit);
    let got = cache.get_or_try_set("k", async || Err::<String, _>("down".to_owned()));
    assert_eq!(got.await.unwrap(), "old");
    assert_eq!((gate.runs(), cache.stats().loads), (0, 2));
    // … but after `retry_after`.
    fixture.expire(fixture.ttl());
    cache.clear_l1();
    assert_is(cache.fetch_entry("k", new(&gate)).await, "old", Source::Hit);
    until_stored(&cache, "new").await;
}

async fn a_panic_in_the_background_changes_nothing(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let panics = |_: LoadContext<String>| async { panic!("in the background") };
    let fetched: Fetch = cache.fetch_entry("k", panics).await;
    assert_is(fetched, "old", Source::Hit);
    cache.until(|cache| cache.stats().refresh_errors == 1).await;
    fixture.world.sleep(SETTLE).await;
    assert_is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    assert_eq!(cache.stats().loads, 2);
    cache.set("k", "set").await.unwrap();
    assert_eq!(stored(&cache).await.as_deref(), Some("set"));
}

async fn a_miss_waits_for_a_running_refresh(fixture: Fixture) {
    let mut setup = with_refresh_ahead(&fixture);
    setup.default_ttl = Some((fixture.ttl() * 4).into());
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(cache.fetch_entry("k", new(&gate)).await, "old", Source::Hit);
    gate.started().await;
    fixture.expire(fixture.ttl() * 4);
    let waiter = fetching(&cache, new(&gate));
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_is(waiter.join().await, "new", Source::Waited);
    assert_eq!(gate.runs(), 1);
}

async fn invalidation_wins_over_a_refresh(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(cache.fetch_entry("k", new(&gate)).await, "old", Source::Hit);
    gate.started().await;
    cache.delete("k").await.unwrap();
    gate.release();
    fixture.world.sleep(SETTLE).await;
    assert_eq!(stored(&cache).await, None);
}

/// `FusionCache` had this bug (#628).
async fn tag_invalidation_wins_over_a_refresh(fixture: Fixture) {
    let (cache, tagged) = cache_with_tagged_old(&fixture).await;
    let gate = LoaderGate::new();
    assert_is(
        cache.fetch_entry_with("k", tagged, new(&gate)).await,
        "old",
        Source::Hit,
    );
    gate.started().await;
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    gate.release();
    fixture.world.sleep(SETTLE).await;
    assert_eq!(stored(&cache).await, None);
}

async fn set_wins_over_a_refresh(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(cache.fetch_entry("k", new(&gate)).await, "old", Source::Hit);
    gate.started().await;
    cache.set("k", "set").await.unwrap();
    gate.release();
    fixture.world.sleep(SETTLE).await;
    assert_eq!(stored(&cache).await.as_deref(), Some("set"));
}

async fn xfetch_refreshes_early_after_a_slow_load(fixture: Fixture) {
    let mut setup = with_refresh_ahead(&fixture);
    // With this beta, an entry is due at once even if its load was short.
    setup.refresh_ahead = Some(RefreshAhead::XFetch { beta: 1e12 });
    let cache = fixture.open(setup).unwrap();
    let gate = LoaderGate::new();
    let loading = fetching(&cache, new(&gate));
    gate.started().await;
    fixture.expire(Duration::from_millis(10));
    gate.release();
    assert_is(loading.join().await, "new", Source::Loaded);
    let newer = LoaderGate::open();
    cache.clear_l1();
    let load = newer.loader(Ok("newer".to_owned()));
    let fetched: Fetch = cache.fetch_entry("k", move |_| load()).await;
    assert_is(fetched, "new", Source::Hit);
    until_stored(&cache, "newer").await;
}

/// Simulates 24 hours, in steps of a minute.
async fn callers_never_wait_for_a_hot_key(fixture: Fixture) {
    if !fixture.stops_time() {
        return;
    }
    const MINUTE: Duration = Duration::from_secs(60);
    let setup = Setup {
        default_ttl: Some((MINUTE * 30).into()),
        refresh_ahead: Some(RefreshAhead::Fraction(0.95)),
        ..Setup::default()
    };
    let cache = fixture.open(setup).unwrap();
    let loads = Arc::new(AtomicUsize::new(0));
    let load = || {
        let loads = Arc::clone(&loads);
        move |_: LoadContext<usize>| async move { Ok::<_, String>(loads.fetch_add(1, Ordering::SeqCst)) }
    };
    for _ in 0..24 * 60 {
        let fetched = cache.fetch_entry("hot", load()).await.unwrap();
        assert!(fetched.age.unwrap() < MINUTE * 30);
        // Waits until each refresh that started has ended.
        let begun = usize::try_from(cache.stats().refreshes).unwrap();
        while cache.get::<usize>("hot").await.unwrap() != Some(begun) {
            fixture.world.pause().await;
        }
        // A write waits until the refresh is complete; time must not pass before.
        assert!(!cache.add("hot", 0_usize).await.unwrap());
        fixture.expire(MINUTE);
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.waits), (1, 0));
    // 48 TTLs.
    assert!(stats.loads <= 52, "{stats:?}");
}
