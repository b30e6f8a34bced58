//! How long entries live.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(an_entry_lives_until_its_ttl_is_over_to_the_millisecond),
        case(an_entry_without_a_ttl_lives_for_the_default_one)
            .needs(Optional::Add)
            .needs(Optional::Touch),
        case(the_default_ttl_is_300_seconds),
        case(never_outlives_the_default_ttl),
        case(a_default_ttl_of_never),
        case(a_default_ttl_of_zero_is_refused),
        case(set_replaces_the_ttl),
        case(set_many_gives_all_their_ttl),
        case(a_ttl_of_zero_stores_nothing_and_removes_the_entry),
        case(add_with_a_ttl_of_zero_stores_nothing),
        case(touch_gives_a_live_entry_a_new_ttl).needs(Optional::Touch),
        case(touch_can_make_an_entry_never_expire).needs(Optional::Touch),
        case(touch_with_zero_removes),
        case(touch_of_a_missing_entry_is_false).needs(Optional::Touch),
        case(touch_leaves_the_value).needs(Optional::Touch),
        case(delete_of_an_expired_entry_is_false),
        case(add_replaces_an_expired_entry).needs(Optional::Add),
        case(get_or_set_stores_with_its_ttl),
        case(get_or_set_with_a_ttl_of_zero_stores_nothing),
        case(a_ttl_above_the_maximum_means_never)
            .needs(Optional::Add)
            .needs(Optional::Increment)
            .needs(Optional::Touch),
        case(an_invalid_option_is_refused_or_ignored),
        case(the_longest_ttl_is_accepted),
        case(jitter_only_shortens),
        case(an_idle_entry_expires),
        case(an_entry_that_is_read_stays),
        case(an_entry_that_is_read_still_ends_with_its_ttl),
        case(entries_that_are_read_in_batches_stay),
        case(touch_is_no_read),
        case(a_read_leaves_the_ttl_of_the_next_entry),
    ]
}

const TOO_LONG: Duration = Duration::MAX;

async fn live(cache: &CacheApi, key: &'static str) -> bool {
    let has = cache.has(key).await.unwrap();
    assert_eq!(cache.get::<i64>(key).await.unwrap().is_some(), has);
    has
}

async fn is_live(cache: &CacheApi, key: &'static str) {
    assert!(live(cache, key).await, "`{key}` expired too early");
}

async fn is_gone(cache: &CacheApi, key: &'static str) {
    assert!(!live(cache, key).await, "`{key}` is still live");
}

async fn an_entry_lives_until_its_ttl_is_over_to_the_millisecond(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    fixture
        .shortly_before(fixture.ttl(), || is_live(cache, "k"))
        .await;
    is_gone(cache, "k").await;
    let tiny = Duration::from_millis(1);
    cache.set_with("tiny", 1, tiny).await.unwrap();
    fixture.expire(tiny);
    is_gone(cache, "tiny").await;
}

async fn an_entry_without_a_ttl_lives_for_the_default_one(fixture: Fixture) {
    let cache = &fixture
        .open(Setup {
            default_ttl: Some(fixture.ttl().into()),
            ..Setup::default()
        })
        .unwrap();
    cache.set("set", 1).await.unwrap();
    cache.set_with("default", 1, Ttl::Default).await.unwrap();
    cache.set_many(vec![("set_many", 1)]).await.unwrap();
    cache.add("add", 1).await.unwrap();
    cache.get_or_set("get_or_set", || async { 1 }).await;
    cache
        .set_with("longer", 1, fixture.ttl() * 50)
        .await
        .unwrap();
    cache.set("touched", 1).await.unwrap();
    let all = ["set", "default", "set_many", "add", "get_or_set"];
    fixture
        .shortly_before(fixture.ttl(), || async {
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
    fixture.expire(fixture.ttl());
    is_gone(cache, "touched").await;
}

async fn the_default_ttl_is_300_seconds(fixture: Fixture) {
    let five_minutes = Duration::from_secs(300);
    assert_eq!(cacheio_core::config().default_ttl, five_minutes);
    // In real time this would take too long.
    if !fixture.stops_time() {
        return;
    }
    let cache = &fixture.cache;
    cache.set("k", 1).await.unwrap();
    fixture
        .shortly_before(five_minutes, || is_live(cache, "k"))
        .await;
    is_gone(cache, "k").await;
}

async fn never_outlives_the_default_ttl(fixture: Fixture) {
    let cache = &fixture
        .open(Setup {
            default_ttl: Some(fixture.ttl().into()),
            ..Setup::default()
        })
        .unwrap();
    cache.set_with("k", 1, Ttl::Never).await.unwrap();
    fixture.expire(fixture.ttl() * 2);
    is_live(cache, "k").await;
}

async fn a_default_ttl_of_never(fixture: Fixture) {
    let cache = &fixture
        .open(Setup {
            default_ttl: Some(Ttl::Never),
            ..Setup::default()
        })
        .unwrap();
    cache.set("k", 1).await.unwrap();
    cache.set_with("short", 1, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    is_live(cache, "k").await;
    is_gone(cache, "short").await;
}

async fn a_default_ttl_of_zero_is_refused(fixture: Fixture) {
    let open = |ttl: Duration| {
        fixture.open(Setup {
            default_ttl: Some(ttl.into()),
            ..Setup::default()
        })
    };
    let refused = open(Duration::ZERO).err();
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Config));
    // Above the maximum, it means never.
    let cache = &open(TOO_LONG).unwrap();
    cache.set("k", 1).await.unwrap();
    is_live(cache, "k").await;
}

async fn set_replaces_the_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    for key in ["set", "default", "set_many"] {
        cache.set_with(key, 1, fixture.ttl()).await.unwrap();
    }
    cache.set_with("set", 2, fixture.ttl() * 50).await.unwrap();
    cache.set("default", 2).await.unwrap();
    cache
        .set_many_with(vec![("set_many", 2)], Ttl::Never)
        .await
        .unwrap();
    cache.set_with("shorter", 1, Ttl::Never).await.unwrap();
    cache.set_with("shorter", 2, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    for key in ["set", "default", "set_many"] {
        is_live(cache, key).await;
    }
    is_gone(cache, "shorter").await;
}

async fn set_many_gives_all_their_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    cache
        .set_many_with(vec![("a", 1), ("b", 2)], fixture.ttl())
        .await
        .unwrap();
    fixture
        .shortly_before(fixture.ttl(), || async {
            is_live(cache, "a").await;
            is_live(cache, "b").await;
        })
        .await;
    is_gone(cache, "a").await;
    is_gone(cache, "b").await;
}

async fn a_ttl_of_zero_stores_nothing_and_removes_the_entry(fixture: Fixture) {
    let cache = &fixture.cache;
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

async fn add_with_a_ttl_of_zero_stores_nothing(fixture: Fixture) {
    let cache = &fixture.cache;
    assert!(cache.add_with("k", 1, Duration::ZERO).await.unwrap());
    is_gone(cache, "k").await;
    cache.set("k", 2).await.unwrap();
    assert!(!cache.add_with("k", 3, Duration::ZERO).await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

async fn touch_gives_a_live_entry_a_new_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("longer", 1, fixture.ttl()).await.unwrap();
    cache.set_with("shorter", 1, Ttl::Never).await.unwrap();
    assert!(cache.touch("longer", fixture.ttl() * 3).await.unwrap());
    assert!(cache.touch("shorter", fixture.ttl()).await.unwrap());
    fixture
        .shortly_before(fixture.ttl(), || is_live(cache, "shorter"))
        .await;
    is_gone(cache, "shorter").await;
    is_live(cache, "longer").await;
    fixture.expire(fixture.ttl() * 2);
    is_gone(cache, "longer").await;
}

async fn touch_can_make_an_entry_never_expire(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    assert!(cache.touch("k", Ttl::Never).await.unwrap());
    fixture.expire(fixture.ttl() * 3);
    is_live(cache, "k").await;
}

async fn touch_with_zero_removes(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set("k", 1).await.unwrap();
    assert!(cache.touch("k", Duration::ZERO).await.unwrap());
    is_gone(cache, "k").await;
    assert!(!cache.touch("k", Duration::ZERO).await.unwrap());
}

async fn touch_of_a_missing_entry_is_false(fixture: Fixture) {
    let cache = &fixture.cache;
    assert!(!cache.touch("missing", fixture.ttl()).await.unwrap());
    is_gone(cache, "missing").await;
    cache.set_with("expired", 1, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert!(!cache.touch("expired", Ttl::Never).await.unwrap());
    is_gone(cache, "expired").await;
    cache.set_with("zero", 1, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert!(!cache.touch("zero", Duration::ZERO).await.unwrap());
}

async fn touch_leaves_the_value(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "value").await.unwrap();
    assert!(cache.touch("k", Ttl::Never).await.unwrap());
    assert_eq!(
        cache.get::<String>("k").await.unwrap().as_deref(),
        Some("value")
    );
}

async fn delete_of_an_expired_entry_is_false(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert!(!cache.delete("k").await.unwrap());
}

async fn add_replaces_an_expired_entry(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert!(cache.add("k", 2).await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

async fn get_or_set_stores_with_its_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    cache
        .get_or_set_with("k", fixture.ttl(), || async { 1 })
        .await;
    cache
        .get_or_try_set_with("tried", fixture.ttl(), || async { Ok::<_, ()>(1) })
        .await
        .unwrap();
    cache
        .get_or_set_with("never", Ttl::Never, || async { 1 })
        .await;
    fixture
        .shortly_before(fixture.ttl(), || async {
            is_live(cache, "k").await;
            is_live(cache, "tried").await;
        })
        .await;
    is_gone(cache, "k").await;
    is_gone(cache, "tried").await;
    is_live(cache, "never").await;
    assert_eq!(cache.get_or_set("k", || async { 2 }).await, 2);
}

async fn get_or_set_with_a_ttl_of_zero_stores_nothing(fixture: Fixture) {
    let cache = &fixture.cache;
    assert_eq!(
        cache
            .get_or_set_with("k", Duration::ZERO, || async { 1 })
            .await,
        1
    );
    is_gone(cache, "k").await;
    assert_eq!(cache.stats().store_errors, 0);
}

async fn a_ttl_above_the_maximum_means_never(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("set", 1, TOO_LONG).await.unwrap();
    let many = vec![("many", 1)];
    cache.set_many_with(many, TOO_LONG).await.unwrap();
    assert!(cache.add_with("added", 1, TOO_LONG).await.unwrap());
    let count = cache.increment_with("counter", 1, TOO_LONG).await;
    assert_eq!(count.unwrap(), 1);
    cache.set_with("touched", 1, fixture.ttl()).await.unwrap();
    assert!(cache.touch("touched", TOO_LONG).await.unwrap());
    for _ in 0..2 {
        let loaded = cache.get_or_set_with("loaded", TOO_LONG, || async { 1 });
        assert_eq!(loaded.await, 1);
        let load = async |context: cacheio_core::LoadContext<i32>| {
            context.ttl(TOO_LONG);
            Ok::<_, String>(1)
        };
        assert_eq!(cache.fetch("context", load).await.unwrap(), 1);
    }
    assert_eq!(cache.stats().loads, 2);
    fixture.expire(fixture.ttl());
    for key in [
        "set", "many", "added", "counter", "touched", "loaded", "context",
    ] {
        is_live(cache, key).await;
    }
}

/// The same value is refused in every call that can return an error, and ignored in the others.
async fn an_invalid_option_is_refused_or_ignored(fixture: Fixture) {
    let cache = &fixture.cache;
    let ttl = || Options::new().ttl(Duration::from_secs(60));
    for invalid in [
        ttl().jitter(7.0),
        ttl().jitter(f64::NAN),
        ttl().jitter(-0.1),
        ttl().ttl_idle(Duration::ZERO),
        ttl().refresh_ahead(7.0),
        ttl().hard_timeout(Duration::ZERO),
    ] {
        let refused = [
            cache.set_with("k", 2, invalid.clone()).await.unwrap_err(),
            cache
                .set_many_with(vec![("k", 2)], invalid.clone())
                .await
                .unwrap_err(),
            cache.add_with("k", 2, invalid.clone()).await.unwrap_err(),
            cache
                .increment_with("k", 2, invalid.clone())
                .await
                .unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::Config);
        }
        let loaded: Result<i32, LoadError<String>> = cache
            .get_or_try_set_with("k", invalid.clone(), async || Ok(1))
            .await;
        assert!(matches!(loaded, Err(LoadError::Config(_))), "{loaded:?}");
        let fetched: Result<_, LoadError<String>> = cache
            .fetch_entry_with("k", invalid.clone(), async |_| Ok(1))
            .await;
        assert!(matches!(fetched, Err(LoadError::Config(_))), "{fetched:?}");
        is_gone(cache, "k").await;
        for _ in 0..2 {
            let loaded = cache.get_or_set_with("k", invalid.clone(), || async { 1 });
            assert_eq!(loaded.await, 1);
        }
        is_live(cache, "k").await;
        assert!(cache.delete("k").await.unwrap());
    }
    assert_eq!(cache.stats().loads, 6);
}

async fn the_longest_ttl_is_accepted(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, Ttl::MAX).await.unwrap();
    fixture.expire(fixture.ttl());
    is_live(cache, "k").await;
}

async fn jitter_only_shortens(fixture: Fixture) {
    let cache = &fixture
        .open(Setup {
            jitter: 0.5,
            ..Setup::default()
        })
        .unwrap();
    let count = |cache: CacheApi| async move {
        let keys: Vec<i32> = (0..200).collect();
        cache
            .get_many::<i32>(keys)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .count()
    };
    let ttl = fixture.ttl() * 2;
    for key in 0..200 {
        cache.set_with(key, key, ttl).await.unwrap();
    }
    // After half of the TTL no entry has expired; after three quarters, some have.
    fixture
        .shortly_before(ttl / 2, || async {
            assert_eq!(count(cache.clone()).await, 200);
        })
        .await;
    fixture
        .shortly_before(ttl / 4, || async {
            let left = count(cache.clone()).await;
            assert!((20..180).contains(&left), "{left} of 200 are left");
        })
        .await;
    fixture.expire(ttl / 4);
    assert_eq!(count(cache.clone()).await, 0);
    for fraction in [-0.1, 1.1, f64::NAN] {
        let refused = fixture.open(Setup {
            jitter: fraction,
            ..Setup::default()
        });
        assert_eq!(
            refused.err().map(|error| error.kind()),
            Some(ErrorKind::Config)
        );
    }
}

/// An idle TTL that does not end while a busy machine reads.
fn idle(fixture: &Fixture) -> Duration {
    fixture.ttl() * 2
}

/// The time after which an entry that is not read has expired on every server.
fn over(fixture: &Fixture) -> Duration {
    idle(fixture) + idle(fixture) / 8
}

async fn an_idle_entry_expires(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::new().ttl(Ttl::Never).ttl_idle(idle(&fixture));
    cache.set_with("k", 1, options.clone()).await.unwrap();
    cache
        .set_many_with(vec![("a", 1), ("b", 2)], options.clone())
        .await
        .unwrap();
    let loaded = cache.get_or_set_with("loaded", options, async || 3).await;
    assert_eq!(loaded, 3);
    is_live(&cache, "k").await;
    fixture.expire(over(&fixture));
    for key in ["k", "a", "b", "loaded"] {
        assert!(!cache.has(key).await.unwrap(), "{key}");
        assert_eq!(cache.get::<i64>(key).await.unwrap(), None);
    }
}

async fn an_entry_that_is_read_stays(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::new().ttl(Ttl::Never).ttl_idle(idle(&fixture));
    for key in ["got", "fetched", "seen"] {
        cache.set_with(key, "v", options.clone()).await.unwrap();
    }
    for _ in 0..4 {
        fixture.pass(idle(&fixture) / 2).await;
        assert_eq!(
            cache.get::<String>("got").await.unwrap().as_deref(),
            Some("v")
        );
        let fetched = cache.fetch("fetched", async |_| Ok::<_, String>(String::from("new")));
        assert_eq!(fetched.await.unwrap(), "v");
        cache.has("seen").await.unwrap();
    }
    // `has` is no read.
    fixture.expire(over(&fixture) / 2);
    assert_eq!(cache.get::<String>("seen").await.unwrap(), None);
}

async fn an_entry_that_is_read_still_ends_with_its_ttl(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::new()
        .ttl(idle(&fixture))
        .ttl_idle(idle(&fixture) * 3);
    cache.set_with("k", 1, options).await.unwrap();
    fixture.pass(idle(&fixture) / 2).await;
    is_live(&cache, "k").await;
    fixture.expire(idle(&fixture) / 2);
    assert_eq!(cache.get::<i64>("k").await.unwrap(), None);
}

async fn entries_that_are_read_in_batches_stay(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::new().ttl(Ttl::Never).ttl_idle(idle(&fixture));
    let entries = vec![("a", 1), ("b", 2), ("c", 3), ("unread", 4)];
    cache.set_many_with(entries, options.clone()).await.unwrap();
    for _ in 0..4 {
        fixture.pass(idle(&fixture) / 2).await;
        let got = cache.get_many::<i64>(vec!["a", "b", "a"]).await.unwrap();
        assert_eq!(got, [Some(1), Some(2), Some(1)]);
        let load = async |missing: Vec<&'static str>| -> Vec<(&'static str, i64)> {
            panic!("{missing:?} are live")
        };
        let keys = vec!["b", "c"];
        let got = cache
            .get_or_set_many_with(keys, options.clone(), load)
            .await;
        assert_eq!(got, [Some(2), Some(3)]);
    }
    assert_eq!(cache.get::<i64>("unread").await.unwrap(), None);
}

async fn touch_is_no_read(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::new().ttl(Ttl::Never).ttl_idle(idle(&fixture));
    cache.set_with("k", 1, options).await.unwrap();
    fixture.pass(idle(&fixture) / 2).await;
    assert!(cache.touch("k", Ttl::Never).await.unwrap());
    fixture.expire(over(&fixture) - idle(&fixture) / 2);
    assert!(!cache.has("k").await.unwrap());
}

async fn a_read_leaves_the_ttl_of_the_next_entry(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let options = Options::new().ttl(Ttl::Never).ttl_idle(fixture.ttl() * 50);
    for _ in 0..20 {
        cache.set_with("k", 1, options.clone()).await.unwrap();
        // On a server, each read of an entry of this age is recorded.
        if fixture.stops_time() {
            fixture.pass(fixture.ttl() * 10).await;
        }
        let reading = cache.spawn(async |cache| cache.get::<i64>("k").await.unwrap());
        cache.set_with("k", 2, fixture.ttl()).await.unwrap();
        assert!(matches!(reading.join().await, Some(1 | 2)));
    }
    fixture.expire(fixture.ttl());
    assert_eq!(cache.get::<i64>("k").await.unwrap(), None);
}
