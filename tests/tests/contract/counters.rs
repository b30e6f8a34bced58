//! Counters.

use crate::prelude::*;

pub(crate) async fn a_missing_counter_counts_from_zero<F: Face>(place: Place<F>) {
    let cache = place.cache;
    assert_eq!(cache.increment("up", 5).await.unwrap(), 5);
    assert_eq!(cache.increment("up", 1).await.unwrap(), 6);
    assert_eq!(cache.decrement("down", 5).await.unwrap(), -5);
    assert_eq!(cache.decrement("down", 1).await.unwrap(), -6);
}

pub(crate) async fn a_counter_goes_below_zero<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("k", 3).await.unwrap();
    assert_eq!(cache.decrement("k", 8).await.unwrap(), -5);
    assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(-5));
    assert_eq!(cache.increment("k", -5).await.unwrap(), -10);
    assert_eq!(cache.decrement("k", -30).await.unwrap(), 20);
}

pub(crate) async fn by_zero_makes_a_counter<F: Face>(place: Place<F>) {
    let cache = place.cache;
    assert_eq!(cache.increment("k", 0).await.unwrap(), 0);
    assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(0));
    assert_eq!(cache.decrement("k", 0).await.unwrap(), 0);
}

pub(crate) async fn a_counter_keeps_its_ttl<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("k", 1, place.ttl()).await.unwrap();
    cache.set_with("for ever", 1, Ttl::Never).await.unwrap();
    cache.increment("k", 1).await.unwrap();
    cache.decrement("k", 1).await.unwrap();
    cache.increment_with("k", 1, Ttl::Never).await.unwrap();
    cache
        .increment_with("k", 1, place.ttl() * 50)
        .await
        .unwrap();
    cache
        .increment_with("for ever", 1, place.ttl())
        .await
        .unwrap();
    place
        .shortly_before(place.ttl(), || async {
            assert_eq!(cache.get::<i64>("k").await.unwrap(), Some(3));
        })
        .await;
    assert_eq!(cache.get::<i64>("k").await.unwrap(), None);
    assert_eq!(cache.get::<i64>("for ever").await.unwrap(), Some(2));
}

pub(crate) async fn a_new_counter_takes_the_default_ttl<F: Face>(place: Place<F>) {
    let setup = Setup {
        default_ttl: Some(place.ttl().into()),
        ..Setup::default()
    };
    let cache = &place.open(setup).unwrap();
    cache.increment("up", 1).await.unwrap();
    cache.decrement("down", 1).await.unwrap();
    place
        .shortly_before(place.ttl(), || async {
            assert!(cache.has("up").await.unwrap() && cache.has("down").await.unwrap());
        })
        .await;
    assert!(!cache.has("up").await.unwrap() && !cache.has("down").await.unwrap());
}

pub(crate) async fn a_new_counter_takes_the_ttl_it_is_given<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.increment_with("up", 1, place.ttl()).await.unwrap();
    cache.decrement_with("down", 1, place.ttl()).await.unwrap();
    cache
        .increment_with("for ever", 1, Ttl::Never)
        .await
        .unwrap();
    place.expire(place.ttl());
    assert!(!cache.has("up").await.unwrap() && !cache.has("down").await.unwrap());
    assert!(cache.has("for ever").await.unwrap());
}

pub(crate) async fn an_expired_counter_begins_anew<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("k", 100, place.ttl()).await.unwrap();
    place.expire(place.ttl());
    assert_eq!(cache.increment("k", 1).await.unwrap(), 1);
    place.expire(place.ttl());
    assert_eq!(
        cache.increment("k", 1).await.unwrap(),
        2,
        "its TTL is the default one, not the old"
    );
}

/// A counter that would be gone at once counts nothing.
pub(crate) async fn a_ttl_of_zero_is_refused_and_changes_nothing<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache.set_with("old", 10, place.ttl()).await.unwrap();
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
        assert!(error.to_string().contains("TTL of zero"), "{error}");
    }
    assert!(!cache.has("new").await.unwrap());
    assert_eq!(cache.get::<i64>("old").await.unwrap(), Some(10));
    place.expire(place.ttl());
    assert!(!cache.has("old").await.unwrap(), "its TTL is left too");
}

pub(crate) async fn any_stored_integer_counts<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("u8", 255_u8).await.unwrap();
    assert_eq!(cache.increment("u8", 1).await.unwrap(), 256);
    cache.set("u64", 1_u64).await.unwrap();
    assert_eq!(cache.decrement("u64", 2).await.unwrap(), -1);
    cache.set("some", Some(7_i16)).await.unwrap();
    assert_eq!(cache.increment("some", 1).await.unwrap(), 8);
    cache.get_or_set("loaded", || async { 41_u32 }).await;
    assert_eq!(cache.increment("loaded", 1).await.unwrap(), 42);
}

pub(crate) async fn a_counter_is_read_as_any_integer_that_fits<F: Face>(place: Place<F>) {
    let cache = place.cache;
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

pub(crate) async fn what_is_no_integer_is_refused_and_unchanged<F: Face>(place: Place<F>) {
    let cache = place.cache;
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

pub(crate) async fn overflow_is_refused_and_changes_nothing<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    cache
        .set_with("max", i64::MAX - 1, place.ttl())
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
    place.expire(place.ttl());
    assert!(
        !cache.has("max").await.unwrap(),
        "nothing is changed: the TTL neither"
    );
}

pub(crate) async fn the_smallest_integer_counts_but_cannot_be_subtracted<F: Face>(place: Place<F>) {
    let cache = place.cache;
    assert_eq!(cache.increment("k", i64::MIN).await.unwrap(), i64::MIN);
    let error = cache.decrement("new", i64::MIN).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overflow);
    assert!(!cache.has("new").await.unwrap());
}

pub(crate) async fn a_counter_is_replaced_by_set_and_removed_by_delete<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.increment("k", 5).await.unwrap();
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.increment("k", 1).await.unwrap(), 2);
    assert!(cache.delete("k").await.unwrap());
    assert_eq!(cache.increment("k", 1).await.unwrap(), 1);
    assert!(!cache.add("k", 9).await.unwrap());
}

pub(crate) async fn no_update_is_lost<F: Face>(place: Place<F>) {
    let counting = (0..8).map(|_| {
        let cache = place.cache.clone();
        F::spawn(async move {
            for _ in 0..100 {
                cache.increment("k", 3).await.unwrap();
                cache.decrement("k", 2).await.unwrap();
            }
        })
    });
    join_all(counting.collect()).await;
    assert_eq!(place.cache.get::<i64>("k").await.unwrap(), Some(800));
}

pub(crate) async fn a_counter_has_no_tags<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let error = cache
        .increment_with("k", 1, Options::new().tags(["t"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!cache.has("k").await.unwrap());
}

pub(crate) async fn a_ttl_that_is_too_long_makes_no_counter<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let error = cache
        .increment_with("k", 1, Duration::MAX)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!cache.has("k").await.unwrap());
}
