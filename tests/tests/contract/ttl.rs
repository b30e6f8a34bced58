//! How long entries live.

use crate::prelude::*;

const TOO_LONG: Duration = Duration::MAX;

async fn live<F: Face>(cache: &F, key: &'static str) -> bool {
    let has = cache.has(key).await.unwrap();
    assert_eq!(cache.get::<i64>(key).await.unwrap().is_some(), has);
    has
}

async fn is_live<F: Face>(cache: &F, key: &'static str) {
    assert!(live(cache, key).await, "`{key}` is gone too early");
}

async fn is_gone<F: Face>(cache: &F, key: &'static str) {
    assert!(!live(cache, key).await, "`{key}` is still there");
}

pub(crate) async fn an_entry_lives_until_its_ttl_is_over_to_the_millisecond<F: Face>(
    place: Place<F>,
) {
    let cache = &place.cache;
    cache.set_with("k", 1, place.ttl()).await.unwrap();
    place
        .shortly_before(place.ttl(), || is_live(cache, "k"))
        .await;
    is_gone(cache, "k").await;
    let tiny = Duration::from_millis(1);
    cache.set_with("tiny", 1, tiny).await.unwrap();
    place.expire(tiny);
    is_gone(cache, "tiny").await;
}

pub(crate) async fn an_entry_without_a_ttl_lives_for_the_default_one<F: Face>(place: Place<F>) {
    let cache = &place
        .open(Setup {
            default_ttl: Some(place.ttl().into()),
            ..Setup::default()
        })
        .unwrap();
    cache.set("set", 1).await.unwrap();
    cache.set_with("default", 1, Ttl::Default).await.unwrap();
    cache.set_many(vec![("set_many", 1)]).await.unwrap();
    cache.add("add", 1).await.unwrap();
    cache.get_or_set("get_or_set", || async { 1 }).await;
    cache.set_with("longer", 1, place.ttl() * 50).await.unwrap();
    cache.set("touched", 1).await.unwrap();
    let all = ["set", "default", "set_many", "add", "get_or_set"];
    place
        .shortly_before(place.ttl(), || async {
            for key in all {
                is_live(cache, key).await;
            }
            cache.touch("touched", Ttl::Default).await.unwrap();
        })
        .await;
    for key in all {
        is_gone(cache, key).await;
    }
    is_live(cache, "longer").await;
    place.expire(place.ttl());
    is_gone(cache, "touched").await;
}

pub(crate) async fn the_default_ttl_is_300_seconds<F: Face>(place: Place<F>) {
    let five_minutes = Duration::from_secs(300);
    assert_eq!(cacheio_core::config().default_ttl, five_minutes);
    // It cannot be waited for where time passes by itself.
    if !place.stops_time() {
        return;
    }
    let cache = &place.cache;
    cache.set("k", 1).await.unwrap();
    place
        .shortly_before(five_minutes, || is_live(cache, "k"))
        .await;
    is_gone(cache, "k").await;
}

pub(crate) async fn never_outlives_the_default_ttl<F: Face>(place: Place<F>) {
    let cache = &place
        .open(Setup {
            default_ttl: Some(place.ttl().into()),
            ..Setup::default()
        })
        .unwrap();
    cache.set_with("k", 1, Ttl::Never).await.unwrap();
    place.expire(place.ttl() * 2);
    is_live(cache, "k").await;
}

pub(crate) async fn a_default_ttl_of_never<F: Face>(place: Place<F>) {
    let cache = &place
        .open(Setup {
            default_ttl: Some(Ttl::Never),
            ..Setup::default()
        })
        .unwrap();
    cache.set("k", 1).await.unwrap();
    cache.set_with("short", 1, place.ttl()).await.unwrap();
    place.expire(place.ttl());
    is_live(cache, "k").await;
    is_gone(cache, "short").await;
}

pub(crate) async fn a_default_ttl_of_zero_is_refused<F: Face>(place: Place<F>) {
    for ttl in [Duration::ZERO, TOO_LONG] {
        let refused = place.open(Setup {
            default_ttl: Some(ttl.into()),
            ..Setup::default()
        });
        assert_eq!(
            refused.err().map(|error| error.kind()),
            Some(ErrorKind::Config)
        );
    }
}

pub(crate) async fn set_replaces_the_ttl<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    for key in ["set", "default", "set_many"] {
        cache.set_with(key, 1, place.ttl()).await.unwrap();
    }
    cache.set_with("set", 2, place.ttl() * 50).await.unwrap();
    cache.set("default", 2).await.unwrap();
    cache
        .set_many_with(vec![("set_many", 2)], Ttl::Never)
        .await
        .unwrap();
    cache.set_with("shorter", 1, Ttl::Never).await.unwrap();
    cache.set_with("shorter", 2, place.ttl()).await.unwrap();
    place.expire(place.ttl());
    for key in ["set", "default", "set_many"] {
        is_live(cache, key).await;
    }
    is_gone(cache, "shorter").await;
}

pub(crate) async fn set_many_gives_all_their_ttl<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache
        .set_many_with(vec![("a", 1), ("b", 2)], place.ttl())
        .await
        .unwrap();
    place
        .shortly_before(place.ttl(), || async {
            is_live(cache, "a").await;
            is_live(cache, "b").await;
        })
        .await;
    is_gone(cache, "a").await;
    is_gone(cache, "b").await;
}

pub(crate) async fn a_ttl_of_zero_stores_nothing_and_removes_what_was_there<F: Face>(
    place: Place<F>,
) {
    let cache = &place.cache;
    cache.set_with("new", 1, Duration::ZERO).await.unwrap();
    is_gone(cache, "new").await;
    cache.set("old", 1).await.unwrap();
    cache.set_with("old", 2, Duration::ZERO).await.unwrap();
    is_gone(cache, "old").await;
    cache
        .set_many(vec![("a", 1), ("b", 1), ("c", 1)])
        .await
        .unwrap();
    cache
        .set_many_with(vec![("a", 2), ("b", 2), ("d", 2)], Duration::ZERO)
        .await
        .unwrap();
    let left = cache
        .get_many::<i32>(vec!["a", "b", "c", "d"])
        .await
        .unwrap();
    assert_eq!(left, [None, None, Some(1), None]);
}

pub(crate) async fn add_with_a_ttl_of_zero_stores_nothing<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    assert!(cache.add_with("k", 1, Duration::ZERO).await.unwrap());
    is_gone(cache, "k").await;
    cache.set("k", 2).await.unwrap();
    assert!(!cache.add_with("k", 3, Duration::ZERO).await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

pub(crate) async fn touch_gives_a_live_entry_a_new_ttl<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("longer", 1, place.ttl()).await.unwrap();
    cache.set_with("shorter", 1, Ttl::Never).await.unwrap();
    assert!(cache.touch("longer", place.ttl() * 3).await.unwrap());
    assert!(cache.touch("shorter", place.ttl()).await.unwrap());
    place
        .shortly_before(place.ttl(), || is_live(cache, "shorter"))
        .await;
    is_gone(cache, "shorter").await;
    is_live(cache, "longer").await;
    place.expire(place.ttl() * 2);
    is_gone(cache, "longer").await;
}

pub(crate) async fn touch_can_make_an_entry_last<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("k", 1, place.ttl()).await.unwrap();
    assert!(cache.touch("k", Ttl::Never).await.unwrap());
    place.expire(place.ttl() * 3);
    is_live(cache, "k").await;
}

pub(crate) async fn touch_with_zero_removes<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set("k", 1).await.unwrap();
    assert!(cache.touch("k", Duration::ZERO).await.unwrap());
    is_gone(cache, "k").await;
    assert!(!cache.touch("k", Duration::ZERO).await.unwrap());
}

pub(crate) async fn touch_of_nothing_live_is_false<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    assert!(!cache.touch("missing", place.ttl()).await.unwrap());
    is_gone(cache, "missing").await;
    cache.set_with("expired", 1, place.ttl()).await.unwrap();
    place.expire(place.ttl());
    assert!(!cache.touch("expired", Ttl::Never).await.unwrap());
    is_gone(cache, "expired").await;
    cache.set_with("zero", 1, place.ttl()).await.unwrap();
    place.expire(place.ttl());
    assert!(!cache.touch("zero", Duration::ZERO).await.unwrap());
}

pub(crate) async fn touch_leaves_the_value<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("k", "value").await.unwrap();
    assert!(cache.touch("k", Ttl::Never).await.unwrap());
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("value")
    );
}

pub(crate) async fn delete_of_an_expired_entry_is_false<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("k", 1, place.ttl()).await.unwrap();
    place.expire(place.ttl());
    assert!(!cache.delete("k").await.unwrap());
}

pub(crate) async fn add_takes_the_place_of_an_expired_entry<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("k", 1, place.ttl()).await.unwrap();
    place.expire(place.ttl());
    assert!(cache.add("k", 2).await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

pub(crate) async fn what_get_or_set_stores_has_its_ttl<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache
        .get_or_set_with("k", place.ttl(), || async { 1 })
        .await;
    cache
        .get_or_try_set_with("tried", place.ttl(), || async { Ok::<_, ()>(1) })
        .await
        .unwrap();
    cache
        .get_or_set_with("never", Ttl::Never, || async { 1 })
        .await;
    place
        .shortly_before(place.ttl(), || async {
            is_live(cache, "k").await;
            is_live(cache, "tried").await;
        })
        .await;
    is_gone(cache, "k").await;
    is_gone(cache, "tried").await;
    is_live(cache, "never").await;
    assert_eq!(cache.get_or_set("k", || async { 2 }).await, 2);
}

pub(crate) async fn get_or_set_with_a_ttl_of_zero_stores_nothing<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    assert_eq!(
        cache
            .get_or_set_with("k", Duration::ZERO, || async { 1 })
            .await,
        1
    );
    is_gone(cache, "k").await;
    assert_eq!(cache.stats().store_errors, 0);
}

pub(crate) async fn a_ttl_that_is_too_long_is_refused_and_changes_nothing<F: Face>(
    place: Place<F>,
) {
    let cache = &place.cache;
    cache.set("k", 1).await.unwrap();
    let refused = [
        cache.set_with("k", 2, TOO_LONG).await.unwrap_err(),
        cache
            .set_many_with(vec![("k", 2)], TOO_LONG)
            .await
            .unwrap_err(),
        cache.add_with("new", 2, TOO_LONG).await.unwrap_err(),
        cache.increment_with("k", 2, TOO_LONG).await.unwrap_err(),
        cache.touch("k", TOO_LONG).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("Ttl::Never"), "{error}");
    }
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    is_gone(cache, "new").await;
    assert_eq!(
        cache.get_or_set_with("new", TOO_LONG, || async { 3 }).await,
        3
    );
    is_gone(cache, "new").await;
}

pub(crate) async fn the_longest_ttl_is_taken<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("k", 1, Ttl::MAX).await.unwrap();
    place.expire(place.ttl());
    is_live(cache, "k").await;
}

pub(crate) async fn jitter_only_shortens<F: Face>(place: Place<F>) {
    let cache = &place
        .open(Setup {
            jitter: 0.5,
            ..Setup::default()
        })
        .unwrap();
    let count = |cache: F| async move {
        let keys: Vec<i32> = (0..200).collect();
        cache
            .get_many::<i32>(keys)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .count()
    };
    let ttl = place.ttl() * 2;
    for key in 0..200 {
        cache.set_with(key, key, ttl).await.unwrap();
    }
    // Half of the TTL is over: nothing is gone yet. Three quarters: some.
    place
        .shortly_before(ttl / 2, || async {
            assert_eq!(count(cache.clone()).await, 200);
        })
        .await;
    place
        .shortly_before(ttl / 4, || async {
            let left = count(cache.clone()).await;
            assert!((20..180).contains(&left), "{left} of 200 are left");
        })
        .await;
    place.expire(ttl / 4);
    assert_eq!(count(cache.clone()).await, 0);
    for fraction in [-0.1, 1.1, f64::NAN] {
        let refused = place.open(Setup {
            jitter: fraction,
            ..Setup::default()
        });
        assert_eq!(
            refused.err().map(|error| error.kind()),
            Some(ErrorKind::Config)
        );
    }
}

/// Longer than it takes to look, also on a busy machine.
fn idle<F: Face>(place: &Place<F>) -> Duration {
    place.ttl() * 2
}

/// How long a server may keep what nobody reads.
fn over<F: Face>(place: &Place<F>) -> Duration {
    idle(place) + idle(place) / 8
}

pub(crate) async fn what_nobody_reads_expires<F: Face>(place: Place<F>) {
    let cache = place.cache.clone();
    let options = Options::ttl(Ttl::Never).ttl_idle(idle(&place));
    cache.set_with("k", 1, options.clone()).await.unwrap();
    cache
        .set_many_with(vec![("a", 1), ("b", 2)], options.clone())
        .await
        .unwrap();
    let loaded = cache.get_or_set_with("loaded", options, async || 3).await;
    assert_eq!(loaded, 3);
    is_live(&cache, "k").await;
    place.expire(over(&place));
    for key in ["k", "a", "b", "loaded"] {
        assert!(!cache.has(key).await.unwrap(), "{key}");
        assert_eq!(cache.get::<i64>(key).await.unwrap(), None);
    }
}

pub(crate) async fn what_is_read_stays<F: Face>(place: Place<F>) {
    let cache = place.cache.clone();
    let options = Options::ttl(Ttl::Never).ttl_idle(idle(&place));
    for key in ["got", "fetched", "seen"] {
        cache.set_with(key, "v", options.clone()).await.unwrap();
    }
    for _ in 0..4 {
        place.pass(idle(&place) / 2).await;
        assert_eq!(
            cache.get::<String>("got").await.unwrap().as_deref(),
            Some("v")
        );
        let fetched = cache.fetch("fetched", async |_| Ok::<_, String>(String::from("new")));
        assert_eq!(fetched.await.unwrap(), "v");
        cache.has("seen").await.unwrap();
    }
    // Whether it is there was asked for, but it was not read.
    place.expire(over(&place) / 2);
    assert_eq!(cache.get::<String>("seen").await.unwrap(), None);
}

pub(crate) async fn what_is_read_ends_with_its_ttl<F: Face>(place: Place<F>) {
    let cache = place.cache.clone();
    let options = Options::ttl(idle(&place)).ttl_idle(idle(&place) * 3);
    cache.set_with("k", 1, options).await.unwrap();
    place.pass(idle(&place) / 2).await;
    is_live(&cache, "k").await;
    place.expire(idle(&place) / 2);
    assert_eq!(cache.get::<i64>("k").await.unwrap(), None);
}
