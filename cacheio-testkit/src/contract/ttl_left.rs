//! `ttl`.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        case(what_is_left_of_a_ttl_is_told),
        case(an_entry_without_a_ttl_never_expires),
        case(a_missing_or_expired_entry_has_no_ttl),
        case(what_is_left_becomes_less),
        case(the_default_ttl_is_told),
        case(a_touch_changes_what_is_left).needs(Optional::Touch),
        case(what_is_kept_as_stale_does_not_count),
        case(the_time_without_a_read_limits_what_is_left),
        case(an_entry_with_tags_has_its_ttl_until_one_is_invalidated),
        case(a_loaded_entry_has_its_ttl),
        case(ttl_sees_no_copy_and_is_no_lookup),
    ];
    let needing = |case: Case| case.needs(Optional::TtlLeft);
    cases.into_iter().map(needing).collect()
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Checks what is left of a TTL: exactly where the test advances the time, else up to a busy machine and the
/// seconds of Memcached.
async fn check_left(fixture: &Fixture, cache: &CacheApi, key: &'static str, expected: Duration) {
    let left = match cache.ttl(key).await.unwrap() {
        Some(Ttl::After(left)) => left,
        other => panic!("{key}: {other:?}"),
    };
    // Headers count milliseconds.
    let lag = match fixture.stops_time() {
        true => Duration::from_millis(1),
        false => Duration::from_secs(60),
    };
    let late = match fixture.stops_time() {
        true => Duration::ZERO,
        false => Duration::from_secs(2),
    };
    assert!(
        left + lag >= expected && left <= expected + late,
        "{key}: {left:?} of {expected:?}"
    );
}

async fn what_is_left_of_a_ttl_is_told(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, HOUR).await.unwrap();
    check_left(&fixture, cache, "k", HOUR).await;
    cache.set_with("k", 1, HOUR * 24 * 60).await.unwrap();
    check_left(&fixture, cache, "k", HOUR * 24 * 60).await;
}

async fn an_entry_without_a_ttl_never_expires(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set_with("k", 1, Ttl::Never).await.unwrap();
    assert_eq!(cache.ttl("k").await.unwrap(), Some(Ttl::Never));
    let options = Options::new().ttl(Ttl::Never).tags(["t"]);
    cache.set_with("tagged", 1, options).await.unwrap();
    assert_eq!(cache.ttl("tagged").await.unwrap(), Some(Ttl::Never));
}

async fn a_missing_or_expired_entry_has_no_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    assert_eq!(cache.ttl("k").await.unwrap(), None);
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    fixture
        .shortly_before(fixture.ttl(), || async {
            assert!(matches!(cache.ttl("k").await.unwrap(), Some(Ttl::After(_))));
        })
        .await;
    assert_eq!(cache.ttl("k").await.unwrap(), None);
}

async fn what_is_left_becomes_less(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, HOUR).await.unwrap();
    if fixture.stops_time() {
        fixture.expire(HOUR / 4);
        check_left(&fixture, cache, "k", HOUR / 4 * 3).await;
    }
    cache.set_with("k", 1, fixture.ttl() * 50).await.unwrap();
    let Some(Ttl::After(first)) = cache.ttl("k").await.unwrap() else {
        panic!("no TTL");
    };
    fixture.expire(fixture.ttl());
    let Some(Ttl::After(second)) = cache.ttl("k").await.unwrap() else {
        panic!("no TTL");
    };
    assert!(second < first, "{second:?} {first:?}");
}

async fn the_default_ttl_is_told(fixture: Fixture) {
    let setup = Setup {
        default_ttl: Some(HOUR.into()),
        ..Setup::default()
    };
    let cache = &fixture.open(setup).unwrap();
    cache.set("k", 1).await.unwrap();
    check_left(&fixture, cache, "k", HOUR).await;
}

async fn a_touch_changes_what_is_left(fixture: Fixture) {
    let cache = &fixture.cache;
    for options in [Options::ttl(HOUR), Options::ttl(HOUR).stale_for(HOUR)] {
        cache.set_with("k", 1, options).await.unwrap();
        assert!(cache.touch("k", HOUR * 2).await.unwrap());
        check_left(&fixture, cache, "k", HOUR * 2).await;
        assert!(cache.touch("k", Ttl::Never).await.unwrap());
        assert_eq!(cache.ttl("k").await.unwrap(), Some(Ttl::Never));
    }
}

async fn what_is_kept_as_stale_does_not_count(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = Options::ttl(HOUR).stale_for(HOUR * 5);
    cache.set_with("k", 1, options).await.unwrap();
    check_left(&fixture, cache, "k", HOUR).await;
    let options = Options::ttl(fixture.ttl()).stale_for(HOUR * 5);
    cache.set_with("k", 1, options).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.ttl("k").await.unwrap(), None);
}

async fn the_time_without_a_read_limits_what_is_left(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = Options::new().ttl(Ttl::Never).ttl_idle(HOUR);
    cache.set_with("k", 1, options).await.unwrap();
    // A server keeps it up to an eighth longer.
    let Some(Ttl::After(left)) = cache.ttl("k").await.unwrap() else {
        panic!("no TTL");
    };
    assert!(
        left >= HOUR - HOUR / 60 && left <= HOUR + HOUR / 7,
        "{left:?}"
    );
    let options = Options::ttl(HOUR / 2).ttl_idle(HOUR);
    cache.set_with("k", 1, options).await.unwrap();
    check_left(&fixture, cache, "k", HOUR / 2).await;
}

async fn an_entry_with_tags_has_its_ttl_until_one_is_invalidated(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = Options::ttl(HOUR).tags(["t"]);
    cache.set_with("k", 1, options).await.unwrap();
    check_left(&fixture, cache, "k", HOUR).await;
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert_eq!(cache.ttl("k").await.unwrap(), None);
}

async fn a_loaded_entry_has_its_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = Options::ttl(HOUR).stale_for(HOUR).refresh_ahead(0.5);
    assert_eq!(cache.get_or_set_with("k", options, || async { 1 }).await, 1);
    check_left(&fixture, cache, "k", HOUR).await;
}

async fn ttl_sees_no_copy_and_is_no_lookup(fixture: Fixture) {
    let [one, other] = fixture.twins(Setup::default());
    one.set_with("k", 1, HOUR).await.unwrap();
    assert_eq!(one.get::<u8>("k").await.unwrap(), Some(1));
    let before = one.stats_of_calls();
    assert!(one.ttl("k").await.unwrap().is_some());
    assert!(one.ttl("missing").await.unwrap().is_none());
    assert!(other.delete("k").await.unwrap());
    assert_eq!(one.ttl("k").await.unwrap(), None);
    assert_eq!(one.stats_of_calls(), before);
}
