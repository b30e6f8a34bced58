//! Timeouts of callers and of loads.

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_soft_timeout_serves_the_stale_value),
        case(a_timed_out_load_still_updates_the_cache),
        case(without_a_stale_value_there_is_no_soft_timeout),
        case(without_a_stale_value_a_hard_timeout_is_an_error),
        case(a_hard_timeout_serves_the_stale_value),
        case(a_waiter_has_its_own_timeout),
        case(a_failed_background_load_changes_nothing),
        case(invalidation_wins_over_a_background_load),
        case(a_soft_timeout_of_zero_never_waits),
        case(infinite_durations_are_accepted),
        case(a_hanging_fetch_frees_its_key),
        case(a_hanging_get_or_set_frees_its_key),
        case(a_hanging_load_serves_the_stale_value),
        case(a_batch_waits_no_longer_than_its_timeout),
        case(a_background_load_may_wait_for_a_caller_that_left_it),
        case(contradictory_settings_are_refused),
        case(nothing_is_served_after_stale_for),
        case(a_hanging_load_without_waiters_is_timed_out_by_the_next_caller),
    ]
}

async fn a_soft_timeout_serves_the_stale_value(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_soft_timeout(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(
        cache.fetch_entry("k", new(&gate)).await,
        "old",
        Source::Stale,
    );
    // On a busy machine the load may begin late.
    gate.started().await;
    let stats = cache.stats();
    assert_eq!((stats.timeouts, stats.stale_hits), (1, 1));
    // Later callers do not wait for a late load, and do not start another.
    for _ in 0..3 {
        assert_is(
            cache.fetch_entry("k", new(&gate)).await,
            "old",
            Source::Stale,
        );
    }
    assert_eq!(gate.runs(), 1);
    gate.release();
}

async fn a_timed_out_load_still_updates_the_cache(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_soft_timeout(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(
        cache.fetch_entry("k", new(&gate)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(stored(&cache).await, None);
    gate.release();
    until_stored(&cache, "new").await;
    assert_is(cache.fetch_entry("k", failing).await, "new", Source::Hit);
}

async fn without_a_stale_value_there_is_no_soft_timeout(fixture: Fixture) {
    let cache = fixture.open(with_soft_timeout(&fixture)).unwrap();
    let gate = LoaderGate::new();
    let fetched = fetching(&cache, new(&gate));
    gate.started().await;
    fixture.world.sleep(SHORT * 2).await;
    assert_eq!(cache.stats().timeouts, 0);
    gate.release();
    assert_is(fetched.join().await, "new", Source::Loaded);
}

async fn without_a_stale_value_a_hard_timeout_is_an_error(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    setup.hard_timeout = Some(SHORT);
    let cache = fixture.open(setup).unwrap();
    let gate = LoaderGate::new();
    let error = cache.fetch_entry("k", new(&gate)).await.unwrap_err();
    let LoadError::Timeout(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.key().unwrap().ends_with('k'));
    assert!(error.to_string().contains("hard_timeout"), "{error}");
    assert_eq!(cache.stats().timeouts, 1);
    // The load goes on.
    gate.release();
    until_stored(&cache, "new").await;
}

async fn a_hard_timeout_serves_the_stale_value(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    (setup.soft_timeout, setup.hard_timeout) = (None, Some(SHORT));
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(
        cache.fetch_entry("k", new(&gate)).await,
        "old",
        Source::Stale,
    );
    gate.release();
}

async fn a_waiter_has_its_own_timeout(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let leader = {
        let load = gate.loader(7);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    gate.started().await;
    let options = Options::new().hard_timeout(SHORT);
    let got = cache.get_or_try_set_with("k", options, async || Ok::<_, String>(8));
    assert!(matches!(got.await, Err(LoadError::Timeout(_))));
    gate.release();
    assert_eq!(leader.join().await, 7);
}

async fn a_failed_background_load_changes_nothing(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_soft_timeout(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    let load = gate.loader(Err("down".to_owned()));
    let fetched: Fetch = cache.fetch_entry("k", move |_| load()).await;
    assert_is(fetched, "old", Source::Stale);
    gate.release();
    cache.until(|cache| cache.stats().load_errors == 1).await;
    fixture.world.sleep(SETTLE).await;
    // The load is not retried at once.
    let again = LoaderGate::open();
    assert_is(
        cache.fetch_entry("k", new(&again)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(again.runs(), 0);
}

async fn invalidation_wins_over_a_background_load(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_soft_timeout(&fixture), fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(
        cache.fetch_entry("k", new(&gate)).await,
        "old",
        Source::Stale,
    );
    cache.delete("k").await.unwrap();
    gate.release();
    fixture.world.sleep(SETTLE).await;
    assert_eq!(stored(&cache).await, None);
    assert!(cache.fetch_entry("k", failing).await.is_err());
}

async fn a_soft_timeout_of_zero_never_waits(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    setup.soft_timeout = Some(Duration::ZERO);
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let gate = LoaderGate::new();
    assert_is(
        cache.fetch_entry("k", new(&gate)).await,
        "old",
        Source::Stale,
    );
    gate.release();
    until_stored(&cache, "new").await;
}

async fn infinite_durations_are_accepted(fixture: Fixture) {
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
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    assert_is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    let options = Options::new().ttl(fixture.ttl());
    let load = at_once("short".to_owned());
    let short: Fetch = cache.fetch_entry_with("short", options, load).await;
    assert_is(short, "short", Source::Loaded);
    fixture.expire(fixture.ttl());
    assert_is(
        cache.fetch_entry("short", failing).await,
        "short",
        Source::Stale,
    );
}

async fn a_hanging_fetch_frees_its_key(fixture: Fixture) {
    // Long enough for loads that do not hang, also on a busy machine.
    let setup = Setup {
        max_load: Some(Duration::from_millis(500)),
        ..Setup::default()
    };
    let cache = fixture.open(setup).unwrap();
    let hung = LoaderGate::new();
    let callers = (0..10).map(|_| fetching(&cache, new(&hung))).collect();
    for fetched in join_all(callers).await {
        let error = fetched.unwrap_err();
        assert!(matches!(error, LoadError::Timeout(_)), "{error}");
        assert!(error.to_string().contains("max_load"), "{error}");
    }
    assert_eq!(hung.runs(), 1);
    assert_eq!(cache.stats().load_timeouts, 1);
    assert_is(
        cache.fetch_entry("k", at_once("v".to_owned())).await,
        "v",
        Source::Loaded,
    );
    // The value of the hanging load is not stored, even if it ends.
    hung.release();
    fixture.world.sleep(SETTLE).await;
    assert_eq!(stored(&cache).await.as_deref(), Some("v"));
}

async fn a_hanging_get_or_set_frees_its_key(fixture: Fixture) {
    let setup = Setup {
        max_load: Some(Duration::from_millis(500)),
        ..Setup::default()
    };
    let cache = fixture.open(setup).unwrap();
    let hung = LoaderGate::new();
    let leader = {
        let load = hung.loader("late".to_owned());
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    };
    hung.started().await;
    // A caller that cannot return a timeout loads itself.
    let got = cache.get_or_set("k", async || String::from("v")).await;
    assert_eq!(got, "v");
    hung.release();
    assert_eq!(leader.join().await, "late");
    assert_eq!(stored(&cache).await.as_deref(), Some("v"));
}

async fn a_hanging_load_serves_the_stale_value(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    (setup.soft_timeout, setup.max_load) = (None, Some(SHORT));
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let hung = LoaderGate::new();
    assert_is(
        cache.fetch_entry("k", new(&hung)).await,
        "old",
        Source::Stale,
    );
    assert_eq!(cache.stats().load_timeouts, 1);
    // A hanging load counts as a failed one.
    assert_is(
        cache.fetch_entry("k", new(&hung)).await,
        "old",
        Source::Stale,
    );
    // On a busy machine the timeout may end before the loader begins.
    assert!(hung.runs() <= 1);
    hung.release();
}

async fn a_batch_waits_no_longer_than_its_timeout(fixture: Fixture) {
    let setup = Setup {
        hard_timeout: Some(SHORT),
        ..Setup::default()
    };
    let cache = fixture.open(setup).unwrap();
    cache.set("a", 1).await.unwrap();
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(2);
        cache.spawn(move |cache| async move { cache.get_or_set("b", load).await })
    };
    gate.started().await;
    let results = cache.get_or_try_set_many(vec!["a", "b", "c"], async |missing: Vec<&str>| {
        Ok::<_, String>(missing.into_iter().map(|key| (key, 3)).collect())
    });
    let results = results.await;
    assert_eq!(results[0].as_ref().unwrap(), &Some(1));
    assert!(matches!(results[1], Err(LoadError::Timeout(_))));
    assert_eq!(results[2].as_ref().unwrap(), &Some(3));
    gate.release();
    leader.join().await;
}

async fn a_background_load_may_wait_for_a_caller_that_left_it(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    setup.soft_timeout = Some(SHORT);
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let (inner, outer) = (LoaderGate::new(), LoaderGate::new());
    // The load of "outer" fetches "k", whose load is late: it continues with the stale value. When
    // the load of "k" then fetches "outer", there is no cycle of waiters any more.
    let nested = {
        let (cache, inner, outer) = (cache.clone(), inner.clone(), outer.clone());
        move |_: LoadContext<String>| -> Load {
            Box::pin(async move {
                let load = {
                    let cache = cache.clone();
                    move |_: LoadContext<String>| -> Load {
                        Box::pin(async move {
                            inner.pass().await;
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
                outer.pass().await;
                Ok(format!("outer of {}", old.value))
            })
        }
    };
    let fetched = cache.spawn(move |cache| async move { cache.fetch_entry("outer", nested).await });
    outer.started().await;
    inner.release();
    cache.until(|cache| cache.stats().waits == 1).await;
    outer.release();
    assert_is(fetched.join().await, "outer of old", Source::Loaded);
    until_stored(&cache, "outer of old").await;
}

async fn contradictory_settings_are_refused(fixture: Fixture) {
    let refused = |setup: Setup| {
        let error = fixture.open(setup).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let error = refused(Setup {
        soft_timeout: Some(SHORT),
        ..Setup::default()
    });
    assert!(
        error.contains("`soft_timeout` needs `stale_for`"),
        "{error}"
    );
    let error = refused(Setup {
        stale_for: LONG,
        soft_timeout: Some(LONG),
        hard_timeout: Some(SHORT),
        ..Setup::default()
    });
    assert!(
        error.contains("`soft_timeout` must not be longer than `hard_timeout`"),
        "{error}"
    );
}

async fn nothing_is_served_after_stale_for(fixture: Fixture) {
    if !fixture.stops_time() {
        return;
    }
    let mut setup = with_soft_timeout(&fixture);
    setup.hard_timeout = Some(SHORT * 2);
    let stale_for = setup.stale_for;
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let gate = LoaderGate::new();
    let load = {
        let (fixture, load) = (fixture.clone(), new(&gate));
        move |context| -> Load {
            // While this load runs, the stale entry ends.
            fixture.expire(stale_for);
            load(context)
        }
    };
    let error = cache.fetch_entry("k", load).await.unwrap_err();
    assert!(matches!(error, LoadError::Timeout(_)), "{error}");
    assert_eq!(cache.stats().stale_hits, 0);
    gate.release();
}

async fn a_hanging_load_without_waiters_is_timed_out_by_the_next_caller(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    (setup.soft_timeout, setup.max_load) = (Some(Duration::ZERO), Some(SHORT));
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let hung = LoaderGate::new();
    assert_is(
        cache.fetch_entry("k", new(&hung)).await,
        "old",
        Source::Stale,
    );
    fixture.world.sleep(SHORT * 2).await;
    // A hanging load counts as a failed one, so the next is delayed.
    for _ in 0..3 {
        assert_is(
            cache.fetch_entry("k", new(&hung)).await,
            "old",
            Source::Stale,
        );
    }
    // A timer may have ended it just before, and count it just after.
    cache.until(|cache| cache.stats().load_timeouts == 1).await;
    assert_eq!(cache.stats().load_timeouts, 1);
    // On a busy machine the timeout may end before the loader begins.
    assert!(hung.runs() <= 1);
    hung.release();
}
