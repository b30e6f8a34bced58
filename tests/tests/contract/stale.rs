//! What outlives its TTL is served when the load that is to replace it fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

/// An origin that can be down.
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

fn setup<F: Face>(place: &Place<F>) -> Setup {
    Setup {
        default_ttl: Some(place.ttl().into()),
        stale_for: place.ttl() * 5,
        ..Setup::default()
    }
}

/// A cache whose entry "k" is "old" and has just expired, and its origin, which is down now.
async fn expired<F: Face>(place: &Place<F>, setup: Setup) -> (F, Origin) {
    let (cache, origin) = (place.open(setup).unwrap(), Origin::default());
    let old: String = cache
        .get_or_try_set("k", origin.load("old".to_owned()))
        .await
        .unwrap();
    assert_eq!(old, "old");
    place.expire(place.ttl());
    origin.fail(true);
    (cache, origin)
}

async fn get<F: Face>(cache: &F, origin: &Origin) -> Result<String, String> {
    let got = cache.get_or_try_set("k", origin.load("new".to_owned()));
    got.await.map_err(|error| error.to_string())
}

fn old() -> Result<String, String> {
    Ok("old".into())
}

fn down() -> Result<String, String> {
    Err("the origin is down".into())
}

pub(crate) async fn stale_on_failure<F: Face>(place: Place<F>) {
    let (cache, origin) = expired(&place, setup(&place)).await;
    assert_eq!(get(&cache, &origin).await, old());
    let stats = cache.stats();
    assert_eq!((stats.stale_hits, stats.load_errors), (1, 1));
    assert_eq!((stats.hits, stats.misses), (0, 2));
}

pub(crate) async fn without_stale_for_the_error_comes<F: Face>(place: Place<F>) {
    let mut setup = setup(&place);
    setup.stale_for = Duration::ZERO;
    let (cache, origin) = expired(&place, setup).await;
    assert_eq!(get(&cache, &origin).await, down());
    assert_eq!(cache.stats().stale_hits, 0);
}

pub(crate) async fn stale_is_for_get_or_set_alone<F: Face>(place: Place<F>) {
    let (cache, _) = expired(&place, setup(&place)).await;
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
    assert!(cache.get_arc::<String>("k").await.unwrap().is_none());
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.get_many::<String>(vec!["k"]).await.unwrap(), [None]);
    assert!(!cache.touch("k", Ttl::Never).await.unwrap());
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
}

pub(crate) async fn stale_is_bounded<F: Face>(place: Place<F>) {
    let mut setup = setup(&place);
    setup.retry_after = Some(Duration::ZERO);
    let stale_for = setup.stale_for;
    let (cache, origin) = expired(&place, setup).await;
    // Neither failures nor being served make it live longer.
    for _ in 0..3 {
        assert_eq!(get(&cache, &origin).await, old());
    }
    place.expire(stale_for);
    assert_eq!(get(&cache, &origin).await, down());
}

pub(crate) async fn a_call_may_take_less<F: Face>(place: Place<F>) {
    let (cache, origin) = expired(&place, setup(&place)).await;
    let options = Options::new().stale_for(Duration::ZERO);
    let got = cache.get_or_try_set_with("k", options, origin.load("new".to_owned()));
    assert!(got.await.is_err());
}

pub(crate) async fn a_call_may_ask_for_it<F: Face>(place: Place<F>) {
    let (cache, origin) = (place.cache.clone(), Origin::default());
    let options = Options::ttl(place.ttl()).stale_for(place.ttl() * 5);
    let get = async |value: &str| {
        let load = origin.load(value.to_owned());
        let got = cache.get_or_try_set_with("k", options.clone(), load).await;
        got.map_err(|error| error.to_string())
    };
    assert_eq!(get("old").await, old());
    place.expire(place.ttl());
    origin.fail(true);
    assert_eq!(get("new").await, old());
    assert!(!cache.has("k").await.unwrap());
}

pub(crate) async fn retry_after_throttles<F: Face>(place: Place<F>) {
    let mut setup = setup(&place);
    setup.retry_after = Some(place.ttl());
    let (cache, origin) = expired(&place, setup).await;
    for _ in 0..5 {
        assert_eq!(get(&cache, &origin).await, old());
    }
    assert_eq!(origin.loads(), 2);
    place.expire(place.ttl());
    for _ in 0..5 {
        assert_eq!(get(&cache, &origin).await, old());
    }
    assert_eq!(origin.loads(), 3);
    assert_eq!(cache.stats().stale_hits, 10);
}

pub(crate) async fn retry_after_throttles_all_clients<F: Face>(place: Place<F>) {
    let [one, other] = place.twins(setup(&place));
    let origin = Origin::default();
    assert!(get(&one, &origin).await.is_ok());
    place.expire(place.ttl());
    origin.fail(true);
    for _ in 0..3 {
        assert_eq!(get(&one, &origin).await, Ok("new".into()));
        assert_eq!(get(&other, &origin).await, Ok("new".into()));
    }
    assert_eq!(origin.loads(), 2);
}

pub(crate) async fn a_load_that_succeeds_ends_it<F: Face>(place: Place<F>) {
    let mut setup = setup(&place);
    setup.retry_after = Some(Duration::ZERO);
    let (cache, origin) = expired(&place, setup).await;
    assert_eq!(get(&cache, &origin).await, old());
    origin.fail(false);
    assert_eq!(get(&cache, &origin).await, Ok("new".into()));
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("new")
    );
}

pub(crate) async fn all_who_wait_are_served_the_same<F: Face>(place: Place<F>) {
    let (cache, origin) = expired(&place, setup(&place)).await;
    let callers = (0..100).map(|_| {
        let (cache, origin) = (cache.clone(), origin.clone());
        F::spawn(async move { get(&cache, &origin).await })
    });
    for got in join_all(callers.collect()).await {
        assert_eq!(got, old());
    }
    assert_eq!(origin.loads(), 2);
    assert_eq!(cache.stats().stale_hits, 100);
}

pub(crate) async fn delete_ends_it<F: Face>(place: Place<F>) {
    let (cache, origin) = expired(&place, setup(&place)).await;
    assert_eq!(get(&cache, &origin).await, old());
    cache.delete("k").await.unwrap();
    assert_eq!(get(&cache, &origin).await, down());
}

pub(crate) async fn clear_ends_it<F: Face>(place: Place<F>) {
    let (cache, origin) = expired(&place, setup(&place)).await;
    assert_eq!(get(&cache, &origin).await, old());
    cache.clear().await.unwrap();
    assert_eq!(get(&cache, &origin).await, down());
}

pub(crate) async fn a_set_keeps_its_entry_only_if_it_is_told<F: Face>(place: Place<F>) {
    let cache = place.open(setup(&place)).unwrap();
    let origin = Origin::default();
    origin.fail(true);
    let options = Options::new().stale_for(place.ttl() * 5);
    cache.set("k", "old").await.unwrap();
    place.expire(place.ttl());
    assert_eq!(get(&cache, &origin).await, down());
    cache.set_with("k", "old", options.clone()).await.unwrap();
    assert!(cache.has("k").await.unwrap());
    place.expire(place.ttl());
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(get(&cache, &origin).await, old());
    cache
        .set_many_with(vec![("k", "older")], options)
        .await
        .unwrap();
    place.expire(place.ttl());
    assert_eq!(get(&cache, &origin).await, Ok("older".into()));
}

pub(crate) async fn a_delete_during_a_load_that_fails_leaves_the_error<F: Face>(place: Place<F>) {
    let (cache, _) = expired(&place, setup(&place)).await;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(Err::<String, _>("down")));
        F::spawn(async move { cache.get_or_try_set("k", load).await })
    };
    stage.begun().await;
    cache.delete("k").await.unwrap();
    stage.end();
    assert!(leader.join().await.is_err());
}

pub(crate) async fn a_touch_moves_both_ends<F: Face>(place: Place<F>) {
    let (cache, origin) = (place.open(setup(&place)).unwrap(), Origin::default());
    let loaded: Result<String, _> = cache
        .get_or_try_set("k", origin.load("old".to_owned()))
        .await;
    assert!(loaded.is_ok());
    assert!(cache.touch("k", place.ttl() * 4).await.unwrap());
    place.expire(place.ttl());
    let found = cache.get::<String>("k").await.unwrap();
    assert_eq!(found.as_deref(), Some("old"));
    origin.fail(true);
    place.expire(place.ttl() * 4);
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
    assert_eq!(get(&cache, &origin).await, old());
}

pub(crate) async fn an_integer_that_was_loaded_is_kept_and_one_that_was_set_counts<F: Face>(
    place: Place<F>,
) {
    let (cache, origin) = (place.open(setup(&place)).unwrap(), Origin::default());
    let load = async || cache.get_or_try_set("n", origin.load(7_i64)).await;
    assert_eq!(load().await.unwrap(), 7);
    assert_eq!(cache.get::<u8>("n").await.unwrap(), Some(7));
    place.expire(place.ttl());
    origin.fail(true);
    assert_eq!(load().await.unwrap(), 7);
    cache.set("n", 1).await.unwrap();
    assert_eq!(cache.increment("n", 1).await.unwrap(), 2);
}

pub(crate) async fn a_batch_is_served_what_is_stale<F: Face>(place: Place<F>) {
    let (cache, origin) = expired(&place, setup(&place)).await;
    let fail = async |missing: Vec<&'static str>| -> Result<Vec<(&'static str, String)>, String> {
        origin.loads.fetch_add(1, Ordering::SeqCst);
        Err(format!("no {missing:?}"))
    };
    let answers = cache.get_or_try_set_many(vec!["k", "other"], fail).await;
    assert_eq!(answers[0].as_ref().unwrap().as_deref(), Some("old"));
    assert!(answers[1].is_err());
    assert_eq!((origin.loads(), cache.stats().stale_hits), (2, 1));
    // The single form is throttled by that, and the other way round.
    assert_eq!(get(&cache, &origin).await, old());
    let answers = cache.get_or_try_set_many(vec!["k"], fail).await;
    assert_eq!(answers[0].as_ref().unwrap().as_deref(), Some("old"));
    assert_eq!(origin.loads(), 2);
}

pub(crate) async fn an_invalidated_tag_leaves_nothing_stale<F: Face>(place: Place<F>) {
    if !place.keeps_objects() {
        return;
    }
    let (cache, origin) = (place.open(setup(&place)).unwrap(), Origin::default());
    let options = Options::new().tags(["group"]);
    let load = async || {
        let load = origin.load("old".to_owned());
        let got = cache.get_or_try_set_with("k", options.clone(), load).await;
        got.map_err(|error| error.to_string())
    };
    assert_eq!(load().await, old());
    place.expire(place.ttl());
    origin.fail(true);
    assert_eq!(load().await, old());
    cache.invalidate_tags(vec!["group"]).await.unwrap();
    assert_eq!(load().await, down());
}

pub(crate) async fn never_is_never_stale<F: Face>(place: Place<F>) {
    let mut setup = setup(&place);
    setup.default_ttl = Some(Ttl::Never);
    let (cache, origin) = expired(&place, setup).await;
    assert_eq!(get(&cache, &origin).await, old());
    assert_eq!((origin.loads(), cache.stats().stale_hits), (1, 0));
}

pub(crate) async fn retry_after_without_stale_for_is_refused<F: Face>(place: Place<F>) {
    let refused = place.open(Setup {
        retry_after: Some(place.ttl()),
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

pub(crate) async fn the_longest_times_are_taken<F: Face>(place: Place<F>) {
    let (cache, origin) = (place.cache.clone(), Origin::default());
    let options = Options::ttl(Ttl::MAX)
        .stale_for(Duration::MAX)
        .retry_after(Duration::MAX);
    let load = async || {
        let load = origin.load("old".to_owned());
        cache.get_or_try_set_with("k", options.clone(), load).await
    };
    assert_eq!(load().await.unwrap(), "old");
    assert_eq!(load().await.unwrap(), "old");
    assert_eq!((origin.loads(), cache.stats().store_errors), (1, 0));
    let refused = place.open(Setup {
        stale_for: Duration::MAX,
        ..Setup::default()
    });
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Config);
}

pub(crate) async fn a_waiter_with_another_error_type_is_served_what_is_stale<F: Face>(
    place: Place<F>,
) {
    let (cache, _) = expired(&place, setup(&place)).await;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(Err::<String, _>("down")));
        // It wants nothing stale.
        let options = Options::new().stale_for(Duration::ZERO);
        F::spawn(async move { cache.get_or_try_set_with("k", options, load).await })
    };
    stage.begun().await;
    let waiter = {
        let cache = cache.clone();
        F::spawn(async move {
            cache
                .get_or_try_set("k", || async { Err::<String, _>(7) })
                .await
        })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert!(leader.join().await.is_err());
    assert_eq!(waiter.join().await.unwrap(), "old");
}

pub(crate) async fn each_waiter_gets_what_it_takes<F: Face>(place: Place<F>) {
    for leader_takes_it in [false, true] {
        let (cache, _) = expired(&place, setup(&place)).await;
        let stage = Stage::new();
        let options = |takes_it| match takes_it {
            true => Options::new(),
            false => Options::new().stale_for(Duration::ZERO),
        };
        let load = |takes_it| {
            let (cache, load) = (cache.clone(), stage.loader(Err::<String, _>("down")));
            F::spawn(async move {
                let got = cache.get_or_try_set_with("k", options(takes_it), load);
                got.await.is_ok()
            })
        };
        let leader = load(leader_takes_it);
        stage.begun().await;
        let waiter = load(!leader_takes_it);
        cache.until(|cache| cache.stats().waits == 1).await;
        stage.end();
        assert_eq!(leader.join().await, leader_takes_it);
        assert_eq!(waiter.join().await, !leader_takes_it);
        assert_eq!(stage.runs(), 1);
    }
}

pub(crate) async fn a_tag_that_is_invalidated_during_a_load_of_other_tags_counts<F: Face>(
    place: Place<F>,
) {
    if !place.keeps_objects() {
        return;
    }
    let cache = place.open(setup(&place)).unwrap();
    let options = Options::new().tags(["group"]).stale_for(place.ttl() * 5);
    cache.set_with("k", "old", options).await.unwrap();
    place.expire(place.ttl());
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (cache.clone(), stage.loader(Err::<String, _>("down")));
        F::spawn(async move { cache.get_or_try_set("k", load).await })
    };
    stage.begun().await;
    cache.invalidate_tags(vec!["group"]).await.unwrap();
    stage.end();
    assert!(leader.join().await.is_err());
}

pub(crate) async fn a_load_that_stores_nothing_leaves_nothing_stale<F: Face>(place: Place<F>) {
    let (cache, origin) = expired(&place, setup(&place)).await;
    origin.fail(false);
    let options = Options::ttl(Duration::ZERO);
    let got = cache.get_or_try_set_with("k", options, origin.load("new".to_owned()));
    assert_eq!(got.await.unwrap(), "new");
    origin.fail(true);
    assert_eq!(get(&cache, &origin).await, down());

    let (cache, origin) = expired(&place, setup(&place)).await;
    let none = async |_: Vec<&'static str>| Vec::<(&'static str, String)>::new();
    assert_eq!(cache.get_or_set_many(vec!["k"], none).await, [None]);
    assert_eq!(get(&cache, &origin).await, down());
}

pub(crate) async fn a_touch_of_what_is_stale_leaves_a_load_alone<F: Face>(place: Place<F>) {
    let (cache, _) = expired(&place, setup(&place)).await;
    let stage = Stage::new();
    let leader = {
        let (cache, load) = (
            cache.clone(),
            stage.loader(Ok::<_, String>("new".to_owned())),
        );
        F::spawn(async move { cache.get_or_try_set("k", load).await })
    };
    stage.begun().await;
    assert!(!cache.touch("k", Ttl::Never).await.unwrap());
    stage.end();
    assert_eq!(leader.join().await.unwrap(), "new");
    let found = cache.get::<String>("k").await.unwrap();
    assert_eq!(found.as_deref(), Some("new"));
}

pub(crate) async fn touching_while_deleting_brings_nothing_back<F: Face>(place: Place<F>) {
    let cache = place.open(setup(&place)).unwrap();
    let options = Options::ttl(Ttl::MAX).stale_for(place.ttl());
    for _ in 0..30 {
        cache.set_with("k", "old", options.clone()).await.unwrap();
        let touching = {
            let cache = cache.clone();
            F::spawn(async move {
                for _ in 0..5 {
                    cache.touch("k", Ttl::MAX).await.unwrap();
                }
            })
        };
        F::pause().await;
        cache.delete("k").await.unwrap();
        assert!(!cache.has("k").await.unwrap());
        touching.join().await;
        assert!(!cache.has("k").await.unwrap());
    }
}

pub(crate) async fn jitter_not_on_stale<F: Face>(place: Place<F>) {
    let mut setup = setup(&place);
    (setup.jitter, setup.retry_after) = (0.5, Some(Duration::ZERO));
    let stale_for = setup.stale_for;
    // Past its TTL, whatever jitter made of it.
    let (cache, origin) = expired(&place, setup).await;
    assert_eq!(get(&cache, &origin).await, old());
    // Being served gives it no new end: neither another random one nor a later one.
    if place.stops_time() {
        place.expire(stale_for - place.ttl() / 2 - Duration::from_millis(1));
        assert_eq!(get(&cache, &origin).await, old());
        place.expire(place.ttl());
    } else {
        place.expire(stale_for);
    }
    assert_eq!(get(&cache, &origin).await, down());
}
