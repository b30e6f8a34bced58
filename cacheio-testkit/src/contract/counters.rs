//! Counters.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    let counting = vec![
        case(a_missing_counter_counts_from_zero),
        case(a_counter_goes_below_zero),
        case(incrementing_by_zero_creates_a_counter),
        case(a_counter_keeps_its_ttl),
        case(a_new_counter_takes_the_default_ttl),
        case(a_new_counter_takes_the_given_ttl),
        case(an_expired_counter_starts_again),
        case(any_stored_integer_counts),
        case(a_counter_is_read_as_any_integer_that_fits),
        case(a_value_that_is_not_an_integer_is_refused_and_unchanged),
        case(overflow_is_refused_and_changes_nothing),
        case(the_smallest_integer_counts_but_cannot_be_subtracted),
        case(a_counter_is_replaced_by_set_and_removed_by_delete).needs(Optional::Add),
        case(no_update_is_lost),
        case(an_integer_counts_whatever_its_policies),
        case(a_counter_keeps_its_policies),
        case(a_counter_that_has_expired_but_is_kept_starts_again),
        case(no_update_of_a_counter_with_a_policy_is_lost),
        case(a_value_with_a_policy_that_is_not_an_integer_is_refused_and_unchanged),
    ];
    let counting = counting
        .into_iter()
        .map(|case| case.needs(Optional::Increment));
    let others = [
        case(a_ttl_of_zero_is_refused_and_changes_nothing),
        case(a_counter_has_no_tags),
    ];
    counting.chain(others).collect()
}

async fn a_missing_counter_counts_from_zero(fixture: Fixture) {
    let cache = fixture.cache;
    assert_eq!(cache.increment("up", 5).await.unwrap(), 5);
    assert_eq!(cache.increment("up", 1).await.unwrap(), 6);
    assert_eq!(cache.decrement("down", 5).await.unwrap(), -5);
    assert_eq!(cache.decrement("down", 1).await.unwrap(), -6);
}

async fn a_counter_goes_below_zero(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 3).await.unwrap();
    assert_eq!(cache.decrement("k", 8).await.unwrap(), -5);
    assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(-5));
    assert_eq!(cache.increment("k", -5).await.unwrap(), -10);
    assert_eq!(cache.decrement("k", -30).await.unwrap(), 20);
}

async fn incrementing_by_zero_creates_a_counter(fixture: Fixture) {
    let cache = fixture.cache;
    assert_eq!(cache.increment("k", 0).await.unwrap(), 0);
    assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(0));
    assert_eq!(cache.decrement("k", 0).await.unwrap(), 0);
}

async fn a_counter_keeps_its_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    cache.set_with("forever", 1, Ttl::Never).await.unwrap();
    cache.increment("k", 1).await.unwrap();
    cache.decrement("k", 1).await.unwrap();
    cache.increment_with("k", 1, Ttl::Never).await.unwrap();
    cache
        .increment_with("k", 1, fixture.ttl() * 50)
        .await
        .unwrap();
    cache
        .increment_with("forever", 1, fixture.ttl())
        .await
        .unwrap();
    fixture
        .shortly_before(fixture.ttl(), || async {
            assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(3));
        })
        .await;
    assert_eq!(cache.get::<i64>("k").await.unwrap(), None);
    assert_eq!(cache.get::<i64>("forever").await.unwrap(), Some(2));
}

async fn a_new_counter_takes_the_default_ttl(fixture: Fixture) {
    let setup = Setup {
        default_ttl: Some(fixture.ttl().into()),
        ..Setup::default()
    };
    let cache = &fixture.open(setup).unwrap();
    cache.increment("up", 1).await.unwrap();
    cache.decrement("down", 1).await.unwrap();
    fixture
        .shortly_before(fixture.ttl(), || async {
            assert!(cache.has("up").await.unwrap() && cache.has("down").await.unwrap());
        })
        .await;
    assert!(!cache.has("up").await.unwrap() && !cache.has("down").await.unwrap());
}

async fn a_new_counter_takes_the_given_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.increment_with("up", 1, fixture.ttl()).await.unwrap();
    cache
        .decrement_with("down", 1, fixture.ttl())
        .await
        .unwrap();
    cache
        .increment_with("forever", 1, Ttl::Never)
        .await
        .unwrap();
    fixture.expire(fixture.ttl());
    assert!(!cache.has("up").await.unwrap() && !cache.has("down").await.unwrap());
    assert!(cache.has("forever").await.unwrap());
}

async fn an_expired_counter_starts_again(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 100, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.increment("k", 1).await.unwrap(), 1);
    fixture.expire(fixture.ttl());
    assert_eq!(
        cache.increment("k", 1).await.unwrap(),
        2,
        "it has the default TTL, not the old one"
    );
}

/// A counter that expires at once would count nothing.
async fn a_ttl_of_zero_is_refused_and_changes_nothing(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("old", 10, fixture.ttl()).await.unwrap();
    let refused = [
        cache
            .increment_with("new", 5, Duration::ZERO)
            .await
            .unwrap_err(),
        cache
            .decrement_with("new", 5, Duration::ZERO)
            .await
            .unwrap_err(),
        cache
            .increment_with("old", 1, Duration::ZERO)
            .await
            .unwrap_err(),
        cache
            .decrement_with("old", 1, Duration::ZERO)
            .await
            .unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("greater than zero"), "{error}");
    }
    assert!(!cache.has("new").await.unwrap());
    assert_eq!(cache.get::<i64>("old").await.unwrap(), Some(10));
    fixture.expire(fixture.ttl());
    assert!(!cache.has("old").await.unwrap(), "its TTL is unchanged too");
}

async fn any_stored_integer_counts(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("u8", 255_u8).await.unwrap();
    assert_eq!(cache.increment("u8", 1).await.unwrap(), 256);
    cache.set("u64", 1_u64).await.unwrap();
    assert_eq!(cache.decrement("u64", 2).await.unwrap(), -1);
    cache.set("some", Some(7_i16)).await.unwrap();
    assert_eq!(cache.increment("some", 1).await.unwrap(), 8);
    cache.get_or_set("loaded", || async { 41_u32 }).await;
    assert_eq!(cache.increment("loaded", 1).await.unwrap(), 42);
}

async fn a_counter_is_read_as_any_integer_that_fits(fixture: Fixture) {
    let cache = fixture.cache;
    cache.increment("k", 9).await.unwrap();
    assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(9));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(9));
    assert_eq!(cache.get::<u8>("k").await.unwrap(), Some(9));
    cache.decrement("k", 10).await.unwrap();
    assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(-1));
    assert_eq!(
        cache.get::<u64>("k").await.unwrap_err().kind(),
        ErrorKind::Decode
    );
}

async fn a_value_that_is_not_an_integer_is_refused_and_unchanged(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("text", "5").await.unwrap();
    cache.set("float", 5.5).await.unwrap();
    cache.set("none", None::<i64>).await.unwrap();
    cache.set("true", true).await.unwrap();
    cache.set("list", vec![5]).await.unwrap();
    cache.set("too large", u64::MAX).await.unwrap();
    for key in ["text", "float", "none", "true", "list", "too large"] {
        assert_eq!(
            cache.increment(key, 1).await.unwrap_err().kind(),
            ErrorKind::WrongType,
            "{key}"
        );
        assert_eq!(
            cache.decrement(key, 1).await.unwrap_err().kind(),
            ErrorKind::WrongType,
            "{key}"
        );
    }
    assert_eq!(
        cache.get::<String>("text").await.unwrap().as_deref(),
        Some("5")
    );
    assert_eq!(cache.get::<f64>("float").await.unwrap(), Some(5.5));
    assert_eq!(cache.get::<Option<i64>>("none").await.unwrap(), Some(None));
    assert_eq!(cache.get::<bool>("true").await.unwrap(), Some(true));
    assert_eq!(cache.get::<Vec<i32>>("list").await.unwrap(), Some(vec![5]));
    assert_eq!(cache.get::<u64>("too large").await.unwrap(), Some(u64::MAX));
}

async fn overflow_is_refused_and_changes_nothing(fixture: Fixture) {
    let cache = &fixture.cache;
    cache
        .set_with("max", i64::MAX - 1, fixture.ttl())
        .await
        .unwrap();
    cache.set("min", i64::MIN + 1).await.unwrap();
    assert_eq!(
        cache.increment("max", 2).await.unwrap_err().kind(),
        ErrorKind::Overflow
    );
    assert_eq!(
        cache.decrement("min", 2).await.unwrap_err().kind(),
        ErrorKind::Overflow
    );
    assert_eq!(cache.increment("max", 1).await.unwrap(), i64::MAX);
    assert_eq!(cache.decrement("min", 1).await.unwrap(), i64::MIN);
    assert_eq!(
        cache.increment("max", i64::MAX).await.unwrap_err().kind(),
        ErrorKind::Overflow
    );
    assert_eq!(
        cache.increment("min", i64::MIN).await.unwrap_err().kind(),
        ErrorKind::Overflow
    );
    assert_eq!(cache.get::<i64>("max").await.unwrap(), Some(i64::MAX));
    assert_eq!(cache.get::<i64>("min").await.unwrap(), Some(i64::MIN));
    fixture.expire(fixture.ttl());
    assert!(
        !cache.has("max").await.unwrap(),
        "nothing changes, not even the TTL"
    );
}

async fn the_smallest_integer_counts_but_cannot_be_subtracted(fixture: Fixture) {
    let cache = fixture.cache;
    assert_eq!(cache.increment("k", i64::MIN).await.unwrap(), i64::MIN);
    let error = cache.decrement("new", i64::MIN).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overflow);
    assert!(!cache.has("new").await.unwrap());
}

async fn a_counter_is_replaced_by_set_and_removed_by_delete(fixture: Fixture) {
    let cache = fixture.cache;
    cache.increment("k", 5).await.unwrap();
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.increment("k", 1).await.unwrap(), 2);
    assert!(cache.delete("k").await.unwrap());
    assert_eq!(cache.increment("k", 1).await.unwrap(), 1);
    assert!(!cache.add("k", 9).await.unwrap());
}

async fn no_update_is_lost(fixture: Fixture) {
    let counting = (0..8).map(|_| {
        fixture.cache.spawn(move |cache| async move {
            for _ in 0..100 {
                cache.increment("k", 3).await.unwrap();
                cache.decrement("k", 2).await.unwrap();
            }
        })
    });
    join_all(counting.collect()).await;
    assert_eq!(fixture.cache.get::<i64>("k").await.unwrap(), Some(800));
}

async fn a_counter_has_no_tags(fixture: Fixture) {
    let cache = fixture.cache;
    let error = cache
        .increment_with("k", 1, Options::new().tags(["t"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!cache.has("k").await.unwrap());
}

fn policies(fixture: &Fixture) -> [Options; 4] {
    let long = fixture.ttl() * 50;
    [
        Options::new().ttl(long).stale_for(long),
        Options::new().ttl(long).refresh_ahead(0.9),
        Options::new().ttl(long).ttl_idle(long),
        Options::new()
            .ttl(Ttl::Never)
            .ttl_idle(long)
            .stale_for(long),
    ]
}

async fn an_integer_counts_whatever_its_policies(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let count = async |key: &'static str| {
        assert_eq!(cache.increment(key, 1).await.unwrap(), 6, "{key}");
        assert_eq!(cache.decrement(key, 16).await.unwrap(), -10, "{key}");
        assert_eq!(cache.get::<i64>(key).await.unwrap(), Some(-10), "{key}");
        assert_eq!(cache.increment(key, i64::MAX).await.unwrap(), i64::MAX - 10);
        let error = cache.increment(key, 11).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overflow, "{key}");
        assert_eq!(cache.get::<i64>(key).await.unwrap(), Some(i64::MAX - 10));
    };
    for options in policies(&fixture) {
        cache.set_with("set", 5, options.clone()).await.unwrap();
        count("set").await;
        cache.delete("loaded").await.unwrap();
        let load = async || 5_u8;
        let loaded = cache.get_or_set_with("loaded", options.clone(), load).await;
        assert_eq!(loaded, 5);
        count("loaded").await;
        let entries = vec![("many", Some(5_i16))];
        cache.set_many_with(entries, options).await.unwrap();
        count("many").await;
    }
    let fetched = cache.fetch_entry("fetched", async |_| Ok::<_, String>(5_i32));
    assert_eq!(fetched.await.unwrap().value, 5);
    count("fetched").await;
}

async fn a_counter_keeps_its_policies(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = Options::new()
        .ttl(fixture.ttl())
        .stale_for(fixture.ttl() * 50);
    cache.set_with("k", 9, options.clone()).await.unwrap();
    let fetched = cache.fetch_entry_with("fetched", fixture.ttl(), async |_| Ok::<_, String>(9));
    fetched.await.unwrap();
    for key in ["k", "fetched"] {
        for _ in 0..3 {
            assert!(cache.increment_with(key, 1, Ttl::Never).await.is_ok());
        }
    }
    fixture.expire(fixture.ttl());
    assert_eq!(cache.get::<i64>("k").await.unwrap(), None);
    assert_eq!(cache.get::<i64>("fetched").await.unwrap(), None);
    let fail = async || Err::<i64, _>("the origin is down");
    let stale = cache.get_or_try_set_with("k", options, fail).await;
    assert_eq!(stale.unwrap(), 12, "it is kept as a stale value");
}

async fn a_counter_that_has_expired_but_is_kept_starts_again(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = Options::new()
        .ttl(fixture.ttl())
        .stale_for(fixture.ttl() * 50);
    cache.set_with("k", 9, options.clone()).await.unwrap();
    cache.set_with("text", "nine", options).await.unwrap();
    fixture.expire(fixture.ttl());
    for key in ["k", "text"] {
        assert_eq!(
            cache.increment_with(key, 2, fixture.ttl()).await.unwrap(),
            2
        );
        assert_eq!(cache.increment(key, 1).await.unwrap(), 3);
    }
    fixture.expire(fixture.ttl());
    assert!(!cache.has("k").await.unwrap() && !cache.has("text").await.unwrap());
}

async fn no_update_of_a_counter_with_a_policy_is_lost(fixture: Fixture) {
    let options = Options::new().ttl(Ttl::Never).ttl_idle(fixture.ttl() * 50);
    fixture.cache.set_with("k", 0, options).await.unwrap();
    let counting = (0..4).map(|_| {
        fixture.cache.spawn(move |cache| async move {
            for _ in 0..25 {
                cache.increment("k", 3).await.unwrap();
                cache.decrement("k", 2).await.unwrap();
            }
        })
    });
    join_all(counting.collect()).await;
    assert_eq!(fixture.cache.get::<i64>("k").await.unwrap(), Some(100));
}

async fn a_value_with_a_policy_that_is_not_an_integer_is_refused_and_unchanged(fixture: Fixture) {
    let cache = &fixture.cache;
    for options in policies(&fixture) {
        cache.set_with("text", "5", options.clone()).await.unwrap();
        cache.set_with("large", u64::MAX, options).await.unwrap();
        for key in ["text", "large"] {
            let error = cache.increment(key, 1).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType, "{key}");
        }
        let text = cache.get::<String>("text").await.unwrap();
        assert_eq!(text.as_deref(), Some("5"));
        assert_eq!(cache.get::<u64>("large").await.unwrap(), Some(u64::MAX));
    }
}
