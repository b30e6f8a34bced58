//! `fetch` and `fetch_entry`.

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(fetch_loads_once_and_then_hits),
        case(fetch_returns_the_value),
        case(a_thousand_cold_callers_fetch_once),
        case(one_failed_fetch_is_one_error_for_all),
        case(fetch_and_get_or_set_wait_for_each_other),
        case(the_age_is_the_age_of_the_value),
        case(a_failed_fetch_serves_the_stale_value),
        case(a_panic_reaches_the_leader),
        case(a_fetch_of_its_own_key_is_an_error),
        case(waiters_with_another_error_type_load_once),
        case(touch_extends_a_fetched_entry).needs(Optional::Touch),
        case(many_nested_loads_finish),
    ]
}

async fn fetch_loads_once_and_then_hits(fixture: Fixture) {
    let cache = fixture.cache;
    assert_is(
        cache.fetch_entry("k", at_once("v".to_owned())).await,
        "v",
        Source::Loaded,
    );
    assert_is(cache.fetch_entry("k", failing).await, "v", Source::Hit);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1));
}

async fn fetch_returns_the_value(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    for _ in 0..3 {
        assert_eq!(cache.fetch("k", new(&gate)).await.unwrap(), "old");
    }
    gate.release();
    until_stored(&cache, "new").await;
    assert_eq!(cache.fetch("k", failing).await.unwrap(), "new");
    assert_eq!(gate.runs(), 1);
    let error = cache.fetch("other", failing).await.unwrap_err();
    assert_eq!(error.to_string(), "the origin is down");
}

async fn a_thousand_cold_callers_fetch_once(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let callers = (0..1_000).map(|_| fetching(&cache, new(&gate))).collect();
    cache.until(|cache| cache.stats().waits == 999).await;
    gate.release();
    let fetched = join_all(callers).await;
    let sources = fetched.into_iter().map(|fetched| fetched.unwrap().source);
    assert_eq!(
        sources.filter(|source| *source == Source::Loaded).count(),
        1
    );
    assert_eq!(gate.runs(), 1);
}

async fn one_failed_fetch_is_one_error_for_all(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let callers = (0..100).map(|_| {
        let load = gate.loader(Err("down".to_owned()));
        fetching(&cache, move |_| load())
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 99).await;
    gate.release();
    for fetched in join_all(callers).await {
        assert_eq!(fetched.unwrap_err().to_string(), "down");
    }
    assert_eq!(gate.runs(), 1);
}

async fn fetch_and_get_or_set_wait_for_each_other(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let fetched = fetching(&cache, new(&gate));
    gate.started().await;
    let got = cache.spawn(move |cache| async move {
        cache
            .get_or_set("k", || async { String::from("other") })
            .await
    });
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_is(fetched.join().await, "new", Source::Loaded);
    assert_eq!(got.join().await, "new");

    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(7);
        cache.spawn(move |cache| async move { cache.get_or_set("n", load).await })
    };
    gate.started().await;
    let waiter = cache.spawn(move |cache| async move { cache.fetch_entry("n", at_once(8)).await });
    cache.until(|cache| cache.stats().waits == 2).await;
    gate.release();
    assert_eq!(leader.join().await, 7);
    let waited = waiter.join().await.unwrap();
    assert_eq!((waited.value, waited.source), (7, Source::Waited));
}

async fn the_age_is_the_age_of_the_value(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let fetched = cache.fetch_entry_with(
        "k",
        Options::new().refresh_ahead(RefreshAhead::Never),
        failing,
    );
    let fetched = fetched.await.unwrap();
    assert_eq!(fetched.source, Source::Hit);
    assert!(fetched.age.unwrap() >= fixture.ttl(), "{:?}", fetched.age);
    cache.set("k", "set").await.unwrap();
    let fetched = cache.fetch_entry("k", failing).await.unwrap();
    assert_eq!((&*fetched.value, fetched.age), ("set", None));
}

async fn a_failed_fetch_serves_the_stale_value(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_soft_timeout(&fixture), fixture.ttl()).await;
    assert_is(cache.fetch_entry("k", failing).await, "old", Source::Stale);
    let again = LoaderGate::open();
    assert_is(
        cache.fetch_entry("k", new(&again)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(again.runs(), 0);
    assert_eq!(cache.stats().stale_hits, 2);
    fixture.expire(fixture.ttl() * 20);
    assert!(cache.fetch_entry("k", failing).await.is_err());
}

async fn a_panic_reaches_the_leader(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let panics = {
        let gate = gate.clone();
        move |_: LoadContext<String>| -> Load {
            Box::pin(async move {
                gate.pass().await;
                panic!("in its load")
            })
        }
    };
    let leader = fetching(&cache, panics);
    gate.started().await;
    let waiter = fetching(&cache, new(&gate));
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(leader.outcome().await.unwrap_err(), "in its load");
    assert_is(waiter.join().await, "new", Source::Loaded);
}

async fn a_fetch_of_its_own_key_is_an_error(fixture: Fixture) {
    let cache = fixture.cache;
    let again = cache.clone();
    let load = move |_: LoadContext<String>| async move {
        let inner = again.fetch_entry("k", at_once("inner".to_owned())).await;
        inner
            .map(|fetched| fetched.value)
            .map_err(|error| error.to_string())
    };
    let error = cache.fetch_entry("k", load).await.unwrap_err();
    assert!(
        error.to_string().contains("would wait for the key itself"),
        "{error}"
    );
}

async fn waiters_with_another_error_type_load_once(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let load = gate.loader(Err("down".to_owned()));
    let leader = fetching(&cache, move |_| load());
    gate.started().await;
    let second = LoaderGate::open();
    let callers = (0..100).map(|_| {
        let load = second.loader(7);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 100).await;
    gate.release();
    assert!(leader.join().await.is_err());
    assert_eq!(join_all(callers).await, [7; 100]);
    assert_eq!(second.runs(), 1);
}

async fn touch_extends_a_fetched_entry(fixture: Fixture) {
    let [one, other] = fixture.twins(Setup::default());
    let options = Options::new().ttl(fixture.ttl());
    let load = at_once("v".to_owned());
    assert_is(
        one.fetch_entry_with("k", options, load).await,
        "v",
        Source::Loaded,
    );
    assert!(other.touch("k", fixture.ttl() * 20).await.unwrap());
    fixture.expire(fixture.ttl());
    assert_is(other.fetch_entry("k", failing).await, "v", Source::Hit);
}

/// Runs more loads than there are threads for them.
async fn many_nested_loads_finish(fixture: Fixture) {
    let setup = Setup {
        hard_timeout: Some(LONG),
        ..Setup::default()
    };
    let cache = fixture.open(setup).unwrap();
    let callers = (0..50).map(|i| {
        let (cache, inner) = (cache.clone(), cache.clone());
        let load = move |_: LoadContext<i32>| async move {
            let part = inner.fetch_entry(("part", i), at_once(i)).await;
            part.map(|part| part.value + 1)
                .map_err(|error| error.to_string())
        };
        fixture
            .world
            .spawn(async move { cache.fetch_entry(("whole", i), load).await })
    });
    for (i, whole) in (0..).zip(join_all(callers.collect()).await) {
        assert_eq!(whole.unwrap().value, i + 1);
    }
}
