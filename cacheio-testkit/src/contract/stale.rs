//! A stale value is served when the load that would replace it fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_failed_load_serves_the_stale_value),
        case(without_stale_for_a_failed_load_returns_its_error),
        case(only_loads_serve_stale_values),
        case(stale_values_end_after_stale_for),
        case(a_call_may_shorten_stale_for),
        case(a_call_may_set_stale_for),
        case(retry_after_delays_the_next_load),
        case(retry_after_delays_the_next_load_of_all_clients),
        case(a_successful_load_replaces_the_stale_value),
        case(all_waiters_are_served_the_same_stale_value),
        case(delete_removes_the_stale_value),
        case(clear_removes_the_stale_value),
        case(set_keeps_its_entry_as_stale_only_with_stale_for),
        case(after_a_delete_a_failed_load_returns_its_error),
        case(after_a_write_of_another_client_a_failed_load_serves_no_old_value),
        case(touch_moves_the_end_of_the_ttl_and_of_stale_for),
        case(a_loaded_integer_is_kept_as_stale_and_a_set_integer_counts).needs(Optional::Increment),
        case(a_failed_batch_serves_stale_values),
        case(an_invalidated_tag_leaves_no_stale_value),
        case(an_entry_that_never_expires_is_never_stale),
        case(the_longest_durations_are_accepted),
        case(each_waiter_decides_whether_it_accepts_stale_values),
        case(a_tag_invalidated_during_a_load_without_it_removes_the_stale_value),
        case(a_load_that_stores_nothing_removes_the_stale_value),
        case(touching_a_stale_entry_does_not_affect_a_load),
        case(touching_while_deleting_restores_nothing).needs(Optional::Touch),
        case(a_waiter_with_another_error_type_is_served_the_stale_value),
        case(retry_after_without_stale_for_is_refused),
        case(jitter_does_not_apply_to_stale_for),
        case(an_expired_entry_that_is_kept_is_absent).needs(Optional::Add),
    ]
}

/// An origin that a test can take down.
#[derive(Clone, Default)]
struct Origin {
    down: Arc<AtomicUsize>,
    loads: Arc<AtomicUsize>,
}

impl Origin {
    fn fail(&self, down: bool) {
        self.down.store(usize::from(down), Ordering::SeqCst);
    }

    fn load<T: Send + 'static>(
        &self,
        value: T,
    ) -> impl FnOnce() -> std::future::Ready<Result<T, String>> + Send + 'static {
        let origin = self.clone();
        move || {
            origin.loads.fetch_add(1, Ordering::SeqCst);
            std::future::ready(match origin.down.load(Ordering::SeqCst) {
                0 => Ok(value),
                _ => Err("the origin is down".into()),
            })
        }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

fn setup(fixture: &Fixture) -> Setup {
    Setup {
        default_ttl: Some(fixture.ttl().into()),
        stale_for: fixture.ttl() * 5,
        ..Setup::default()
    }
}

/// Opens a cache whose entry "k" is "old" and has just become stale; returns it with its origin,
/// which is down.
async fn expired(fixture: &Fixture, setup: Setup) -> (CacheApi, Origin) {
    let (cache, origin) = (fixture.open(setup).unwrap(), Origin::default());
    let old: String = cache
        .get_or_try_set("k", origin.load("old".to_owned()))
        .await
        .unwrap();
    assert_eq!(old, "old");
    fixture.expire(fixture.ttl());
    origin.fail(true);
    (cache, origin)
}

async fn get(cache: &CacheApi, origin: &Origin) -> Result<String, String> {
    let got = cache.get_or_try_set("k", origin.load("new".to_owned()));
    got.await.map_err(|error| error.to_string())
}

fn old() -> Result<String, String> {
    Ok("old".into())
}

fn down() -> Result<String, String> {
    Err("the origin is down".into())
}

async fn a_failed_load_serves_the_stale_value(fixture: Fixture) {
    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    assert_eq!(get(&cache, &origin).await, old());
    let stats = cache.stats();
    assert_eq!((stats.stale_hits, stats.load_errors), (1, 1));
    assert_eq!((stats.hits, stats.misses), (0, 2));
}

async fn without_stale_for_a_failed_load_returns_its_error(fixture: Fixture) {
    let mut setup = setup(&fixture);
    setup.stale_for = Duration::ZERO;
    let (cache, origin) = expired(&fixture, setup).await;
    assert_eq!(get(&cache, &origin).await, down());
    assert_eq!(cache.stats().stale_hits, 0);
}

async fn only_loads_serve_stale_values(fixture: Fixture) {
    let (cache, _) = expired(&fixture, setup(&fixture)).await;
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
    assert!(cache.get_arc::<String>("k").await.unwrap().is_none());
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.get_many::<String>(vec!["k"]).await.unwrap(), [None]);
    assert!(!cache.touch("k", Ttl::Never).await.unwrap());
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
}

async fn stale_values_end_after_stale_for(fixture: Fixture) {
    let mut setup = setup(&fixture);
    setup.retry_after = Some(Duration::ZERO);
    let stale_for = setup.stale_for;
    let (cache, origin) = expired(&fixture, setup).await;
    // Neither a failed load nor a stale hit extends it.
    for _ in 0..3 {
        assert_eq!(get(&cache, &origin).await, old());
    }
    fixture.expire(stale_for);
    assert_eq!(get(&cache, &origin).await, down());
}

async fn a_call_may_shorten_stale_for(fixture: Fixture) {
    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    let options = Options::new().stale_for(Duration::ZERO);
    let got = cache.get_or_try_set_with("k", options, origin.load("new".to_owned()));
    assert!(got.await.is_err());
}

async fn a_call_may_set_stale_for(fixture: Fixture) {
    let (cache, origin) = (fixture.cache.clone(), Origin::default());
    let options = Options::new()
        .ttl(fixture.ttl())
        .stale_for(fixture.ttl() * 5);
    let get = async |value: &str| {
        let load = origin.load(value.to_owned());
        let got = cache.get_or_try_set_with("k", options.clone(), load).await;
        got.map_err(|error| error.to_string())
    };
    assert_eq!(get("old").await, old());
    fixture.expire(fixture.ttl());
    origin.fail(true);
    assert_eq!(get("new").await, old());
    assert!(!cache.has("k").await.unwrap());
}

async fn retry_after_delays_the_next_load(fixture: Fixture) {
    let mut setup = setup(&fixture);
    setup.retry_after = Some(fixture.ttl());
    let (cache, origin) = expired(&fixture, setup).await;
    for _ in 0..5 {
        assert_eq!(get(&cache, &origin).await, old());
    }
    assert_eq!(origin.loads(), 2);
    fixture.expire(fixture.ttl());
    for _ in 0..5 {
        assert_eq!(get(&cache, &origin).await, old());
    }
    assert_eq!(origin.loads(), 3);
    assert_eq!(cache.stats().stale_hits, 10);
}

async fn retry_after_delays_the_next_load_of_all_clients(fixture: Fixture) {
    let [one, other] = fixture.twins(setup(&fixture));
    let origin = Origin::default();
    assert!(get(&one, &origin).await.is_ok());
    fixture.expire(fixture.ttl());
    origin.fail(true);
    for _ in 0..3 {
        assert_eq!(get(&one, &origin).await, Ok("new".into()));
        assert_eq!(get(&other, &origin).await, Ok("new".into()));
    }
    assert_eq!(origin.loads(), 2);
}

async fn a_successful_load_replaces_the_stale_value(fixture: Fixture) {
    let mut setup = setup(&fixture);
    setup.retry_after = Some(Duration::ZERO);
    let (cache, origin) = expired(&fixture, setup).await;
    assert_eq!(get(&cache, &origin).await, old());
    origin.fail(false);
    assert_eq!(get(&cache, &origin).await, Ok("new".into()));
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("new")
    );
}

async fn all_waiters_are_served_the_same_stale_value(fixture: Fixture) {
    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    let callers = (0..100).map(|_| {
        let origin = origin.clone();
        cache.spawn(move |cache| async move { get(&cache, &origin).await })
    });
    for got in join_all(callers.collect()).await {
        assert_eq!(got, old());
    }
    assert_eq!(origin.loads(), 2);
    assert_eq!(cache.stats().stale_hits, 100);
}

async fn delete_removes_the_stale_value(fixture: Fixture) {
    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    assert_eq!(get(&cache, &origin).await, old());
    cache.delete("k").await.unwrap();
    assert_eq!(get(&cache, &origin).await, down());
}

async fn clear_removes_the_stale_value(fixture: Fixture) {
    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    assert_eq!(get(&cache, &origin).await, old());
    cache.clear().await.unwrap();
    assert_eq!(get(&cache, &origin).await, down());
}

async fn set_keeps_its_entry_as_stale_only_with_stale_for(fixture: Fixture) {
    let cache = fixture.open(setup(&fixture)).unwrap();
    let origin = Origin::default();
    origin.fail(true);
    let options = Options::new().stale_for(fixture.ttl() * 5);
    cache.set("k", "old").await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(get(&cache, &origin).await, down());
    cache.set_with("k", "old", options.clone()).await.unwrap();
    assert!(cache.has("k").await.unwrap());
    fixture.expire(fixture.ttl());
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(get(&cache, &origin).await, old());
    cache
        .set_many_with(vec![("k", "older")], options)
        .await
        .unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(get(&cache, &origin).await, Ok("older".into()));
}

async fn after_a_delete_a_failed_load_returns_its_error(fixture: Fixture) {
    let (cache, _) = expired(&fixture, setup(&fixture)).await;
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(Err::<String, _>("down"));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await })
    };
    gate.started().await;
    cache.delete("k").await.unwrap();
    gate.release();
    assert!(leader.join().await.is_err());
}

async fn after_a_write_of_another_client_a_failed_load_serves_no_old_value(fixture: Fixture) {
    for is_set in [false, true] {
        let [cache, other] = fixture.twins(setup(&fixture));
        let key = if is_set { "set" } else { "deleted" };
        let old = async || Ok::<_, String>("old".to_owned());
        assert_eq!(cache.get_or_try_set(key, old).await.unwrap(), "old");
        fixture.expire(fixture.ttl());
        let gate = LoaderGate::new();
        let leader = {
            let (cache, load) = (cache.clone(), gate.loader(Err::<String, _>("down")));
            cache.spawn(move |cache| async move { cache.get_or_try_set(key, load).await })
        };
        gate.started().await;
        match is_set {
            true => other.set(key, "new").await.unwrap(),
            false => drop(other.delete(key).await.unwrap()),
        }
        gate.release();
        let got = leader.join().await.ok();
        assert_eq!(got.as_deref(), is_set.then_some("new"));
        let found = cache.get::<String>(key).await.unwrap();
        assert_eq!(found.as_deref(), is_set.then_some("new"));
    }
}

async fn touch_moves_the_end_of_the_ttl_and_of_stale_for(fixture: Fixture) {
    let (cache, origin) = (fixture.open(setup(&fixture)).unwrap(), Origin::default());
    let loaded: Result<String, _> = cache
        .get_or_try_set("k", origin.load("old".to_owned()))
        .await;
    assert!(loaded.is_ok());
    assert!(cache.touch("k", fixture.ttl() * 4).await.unwrap());
    fixture.expire(fixture.ttl());
    let found = cache.get::<String>("k").await.unwrap();
    assert_eq!(found.as_deref(), Some("old"));
    origin.fail(true);
    fixture.expire(fixture.ttl() * 4);
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
    assert_eq!(get(&cache, &origin).await, old());
}

async fn a_loaded_integer_is_kept_as_stale_and_a_set_integer_counts(fixture: Fixture) {
    let (cache, origin) = (fixture.open(setup(&fixture)).unwrap(), Origin::default());
    let load = async || cache.get_or_try_set("n", origin.load(7_i64)).await;
    assert_eq!(load().await.unwrap(), 7);
    assert_eq!(cache.get::<u8>("n").await.unwrap(), Some(7));
    fixture.expire(fixture.ttl());
    origin.fail(true);
    assert_eq!(load().await.unwrap(), 7);
    cache.set("n", 1).await.unwrap();
    assert_eq!(cache.increment("n", 1).await.unwrap(), 2);
}

async fn a_failed_batch_serves_stale_values(fixture: Fixture) {
    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    let fail = async |missing: Vec<&'static str>| -> Result<Vec<(&'static str, String)>, String> {
        origin.loads.fetch_add(1, Ordering::SeqCst);
        Err(format!("no {missing:?}"))
    };
    let results = cache.get_or_try_set_many(vec!["k", "other"], fail).await;
    assert_eq!(results[0].as_ref().unwrap().as_deref(), Some("old"));
    assert!(results[1].is_err());
    assert_eq!((origin.loads(), cache.stats().stale_hits), (2, 1));
    // A failed batch also delays the loads of single keys, and the other way round.
    assert_eq!(get(&cache, &origin).await, old());
    let results = cache.get_or_try_set_many(vec!["k"], fail).await;
    assert_eq!(results[0].as_ref().unwrap().as_deref(), Some("old"));
    assert_eq!(origin.loads(), 2);
}

async fn an_invalidated_tag_leaves_no_stale_value(fixture: Fixture) {
    let (cache, origin) = (fixture.open(setup(&fixture)).unwrap(), Origin::default());
    let options = Options::new().tags(["group"]);
    let load = async || {
        let load = origin.load("old".to_owned());
        let got = cache.get_or_try_set_with("k", options.clone(), load).await;
        got.map_err(|error| error.to_string())
    };
    assert_eq!(load().await, old());
    fixture.expire(fixture.ttl());
    origin.fail(true);
    assert_eq!(load().await, old());
    cache.invalidate_tags(vec!["group"]).await.unwrap();
    assert_eq!(load().await, down());
}

async fn an_entry_that_never_expires_is_never_stale(fixture: Fixture) {
    let mut setup = setup(&fixture);
    setup.default_ttl = Some(Ttl::Never);
    let (cache, origin) = expired(&fixture, setup).await;
    assert_eq!(get(&cache, &origin).await, old());
    assert_eq!((origin.loads(), cache.stats().stale_hits), (1, 0));
}

async fn retry_after_without_stale_for_is_refused(fixture: Fixture) {
    let refused = fixture.open(Setup {
        retry_after: Some(fixture.ttl()),
        ..Setup::default()
    });
    let error = refused.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(
        message.contains("retry_after") && message.contains("stale_for"),
        "{message}"
    );
}

async fn the_longest_durations_are_accepted(fixture: Fixture) {
    let (cache, origin) = (fixture.cache.clone(), Origin::default());
    let options = Options::new()
        .ttl(Ttl::MAX)
        .stale_for(Duration::MAX)
        .retry_after(Duration::MAX);
    let load = async || {
        let load = origin.load("old".to_owned());
        cache.get_or_try_set_with("k", options.clone(), load).await
    };
    assert_eq!(load().await.unwrap(), "old");
    assert_eq!(load().await.unwrap(), "old");
    assert_eq!((origin.loads(), cache.stats().store_errors), (1, 0));
    let setup = Setup {
        default_ttl: Some(fixture.ttl().into()),
        stale_for: Duration::MAX,
        ..Setup::default()
    };
    let (cache, origin) = expired(&fixture, setup).await;
    assert_eq!(get(&cache, &origin).await, old());
}

async fn a_waiter_with_another_error_type_is_served_the_stale_value(fixture: Fixture) {
    let (cache, _) = expired(&fixture, setup(&fixture)).await;
    let gate = LoaderGate::new();
    let leader = {
        let (cache, load) = (cache.clone(), gate.loader(Err::<String, _>("down")));
        // The leader accepts no stale value.
        let options = Options::new().stale_for(Duration::ZERO);
        fixture
            .world
            .spawn(async move { cache.get_or_try_set_with("k", options, load).await })
    };
    gate.started().await;
    let waiter = cache.spawn(move |cache| async move {
        cache
            .get_or_try_set("k", || async { Err::<String, _>(7) })
            .await
    });
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert!(leader.join().await.is_err());
    assert_eq!(waiter.join().await.unwrap(), "old");
}

async fn each_waiter_decides_whether_it_accepts_stale_values(fixture: Fixture) {
    for leader_takes_it in [false, true] {
        let (cache, _) = expired(&fixture, setup(&fixture)).await;
        let gate = LoaderGate::new();
        let options = |takes_it| match takes_it {
            true => Options::new(),
            false => Options::new().stale_for(Duration::ZERO),
        };
        let load = |takes_it| {
            let load = gate.loader(Err::<String, _>("down"));
            cache.spawn(move |cache| async move {
                let got = cache.get_or_try_set_with("k", options(takes_it), load);
                got.await.is_ok()
            })
        };
        let leader = load(leader_takes_it);
        gate.started().await;
        let waiter = load(!leader_takes_it);
        cache.until(|cache| cache.stats().waits == 1).await;
        gate.release();
        assert_eq!(leader.join().await, leader_takes_it);
        assert_eq!(waiter.join().await, !leader_takes_it);
        assert_eq!(gate.runs(), 1);
    }
}

async fn a_tag_invalidated_during_a_load_without_it_removes_the_stale_value(fixture: Fixture) {
    let cache = fixture.open(setup(&fixture)).unwrap();
    let options = Options::new().tags(["group"]).stale_for(fixture.ttl() * 5);
    cache.set_with("k", "old", options).await.unwrap();
    fixture.expire(fixture.ttl());
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(Err::<String, _>("down"));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await })
    };
    gate.started().await;
    cache.invalidate_tags(vec!["group"]).await.unwrap();
    gate.release();
    assert!(leader.join().await.is_err());
}

async fn a_load_that_stores_nothing_removes_the_stale_value(fixture: Fixture) {
    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    origin.fail(false);
    let options = Options::new().ttl(Duration::ZERO);
    let got = cache.get_or_try_set_with("k", options, origin.load("new".to_owned()));
    assert_eq!(got.await.unwrap(), "new");
    origin.fail(true);
    assert_eq!(get(&cache, &origin).await, down());

    let (cache, origin) = expired(&fixture, setup(&fixture)).await;
    let none = async |_: Vec<&'static str>| Vec::<(&'static str, String)>::new();
    assert_eq!(cache.get_or_set_many(vec!["k"], none).await, [None]);
    assert_eq!(get(&cache, &origin).await, down());
}

async fn touching_a_stale_entry_does_not_affect_a_load(fixture: Fixture) {
    let (cache, _) = expired(&fixture, setup(&fixture)).await;
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader(Ok::<_, String>("new".to_owned()));
        cache.spawn(move |cache| async move { cache.get_or_try_set("k", load).await })
    };
    gate.started().await;
    assert!(!cache.touch("k", Ttl::Never).await.unwrap());
    gate.release();
    assert_eq!(leader.join().await.unwrap(), "new");
    let found = cache.get::<String>("k").await.unwrap();
    assert_eq!(found.as_deref(), Some("new"));
}

async fn touching_while_deleting_restores_nothing(fixture: Fixture) {
    let cache = fixture.open(setup(&fixture)).unwrap();
    let options = Options::new().ttl(Ttl::MAX).stale_for(fixture.ttl());
    for _ in 0..30 {
        cache.set_with("k", "old", options.clone()).await.unwrap();
        let touching = cache.spawn(move |cache| async move {
            for _ in 0..5 {
                cache.touch("k", Ttl::MAX).await.unwrap();
            }
        });
        fixture.world.pause().await;
        cache.delete("k").await.unwrap();
        assert!(!cache.has("k").await.unwrap());
        touching.join().await;
        assert!(!cache.has("k").await.unwrap());
    }
}

async fn jitter_does_not_apply_to_stale_for(fixture: Fixture) {
    let mut setup = setup(&fixture);
    (setup.jitter, setup.retry_after) = (0.5, Some(Duration::ZERO));
    let stale_for = setup.stale_for;
    // Past the TTL, whatever the jitter.
    let (cache, origin) = expired(&fixture, setup).await;
    assert_eq!(get(&cache, &origin).await, old());
    // A stale hit gives the entry no new end, neither a random nor a later one.
    if fixture.stops_time() {
        fixture.expire(stale_for - fixture.ttl() / 2 - Duration::from_millis(1));
        assert_eq!(get(&cache, &origin).await, old());
        fixture.expire(fixture.ttl());
    } else {
        fixture.expire(stale_for);
    }
    assert_eq!(get(&cache, &origin).await, down());
}

async fn an_expired_entry_that_is_kept_is_absent(fixture: Fixture) {
    let cache = fixture.open(setup(&fixture)).unwrap();
    let keys = ["added", "zero", "deleted", "touched", "first", "second"];
    let options = Options::new()
        .ttl(fixture.ttl())
        .stale_for(fixture.ttl() * 50);
    for key in keys {
        cache.set_with(key, "old", options.clone()).await.unwrap();
    }
    fixture.expire(fixture.ttl());
    cache.set("live", "new").await.unwrap();
    assert!(cache.add("added", "new").await.unwrap());
    assert!(!cache.add("added", "newer").await.unwrap());
    let added = cache.get::<String>("added").await.unwrap();
    assert_eq!(added.as_deref(), Some("new"));
    assert!(cache.add_with("zero", "new", Duration::ZERO).await.unwrap());
    assert!(!cache.touch("touched", Duration::ZERO).await.unwrap());
    assert!(!cache.delete("deleted").await.unwrap());
    assert!(cache.delete("added").await.unwrap());
    let many = vec!["first", "second", "first", "live", "missing"];
    assert_eq!(cache.delete_many(many).await.unwrap(), 1);
    for key in keys {
        assert!(!cache.has(key).await.unwrap(), "{key}");
    }
}
