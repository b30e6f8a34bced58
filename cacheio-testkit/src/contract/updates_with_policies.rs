//! `update` of entries with tags and policies.

use crate::api::block_on;

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        case(a_longer_ttl_of_the_call_makes_no_tagged_entry_a_miss),
        case(a_longer_ttl_of_the_closure_makes_no_tagged_entry_a_miss),
        case(set_for_keeps_the_policies_and_tags_of_an_entry),
        case(an_invalidation_in_the_closure_holds_for_a_new_entry),
        case(an_update_is_a_read),
    ];
    let needing = |case: Case| case.needs(Optional::Update);
    cases.into_iter().map(needing).collect()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn tagged(ttl: impl Into<Ttl>) -> Options {
    Options::ttl(ttl.into()).tags(["t"])
}

async fn a_longer_ttl_of_the_call_makes_no_tagged_entry_a_miss(fixture: Fixture) {
    let cache = fixture.cache;
    for ttl in [Ttl::After(DAY * 30), Ttl::Never] {
        for key in ["k", "other"] {
            let options = tagged(Duration::from_secs(60));
            cache.set_with(key, 1_u64, options).await.unwrap();
        }
        let kept = cache.update_with("k", tagged(ttl), |old: Option<u64>| {
            assert_eq!(old, Some(1));
            Update::Keep
        });
        assert_eq!(kept.await.unwrap(), Some(1));
        let set = cache.update_with("k", tagged(ttl), |old: Option<u64>| {
            Update::Set(old.unwrap() + 1)
        });
        assert_eq!(set.await.unwrap(), Some(2));
        let new = cache.update_with("new", tagged(ttl), |_| Update::Set(1_u64));
        assert_eq!(new.await.unwrap(), Some(1));
        for (key, value) in [("k", 2), ("other", 1), ("new", 1)] {
            assert_eq!(cache.get::<u64>(key).await.unwrap(), Some(value), "{key}");
        }
        cache.invalidate_tags(vec!["t"]).await.unwrap();
        for key in ["k", "other", "new"] {
            assert_eq!(cache.get::<u64>(key).await.unwrap(), None, "{key}");
        }
    }
}

async fn a_longer_ttl_of_the_closure_makes_no_tagged_entry_a_miss(fixture: Fixture) {
    let cache = fixture.cache;
    let minute = || tagged(Duration::from_secs(60));
    for ttl in [Ttl::After(DAY * 30), Ttl::Never] {
        for key in ["k", "other"] {
            cache.set_with(key, 1_u64, minute()).await.unwrap();
        }
        let set_for = |old: Option<u64>| Update::SetFor(old.unwrap_or(0) + 1, ttl);
        let updated = cache.update_with("k", minute(), set_for).await.unwrap();
        assert_eq!(updated, Some(2));
        let updated = cache.update_with("new", minute(), set_for).await.unwrap();
        assert_eq!(updated, Some(1));
        for (key, value) in [("k", 2), ("other", 1), ("new", 1)] {
            assert_eq!(cache.get::<u64>(key).await.unwrap(), Some(value), "{key}");
        }
        cache.invalidate_tags(vec!["t"]).await.unwrap();
        for key in ["k", "other", "new"] {
            assert_eq!(cache.get::<u64>(key).await.unwrap(), None, "{key}");
        }
    }
}

async fn set_for_keeps_the_policies_and_tags_of_an_entry(fixture: Fixture) {
    let cache = &fixture.cache;
    let ttl = fixture.ttl();
    let options = || tagged(ttl * 50).stale_for(ttl * 50);
    let set_for = |old: Option<u64>| Update::SetFor(old.unwrap() + 1, ttl.into());
    for key in ["stale", "invalid"] {
        cache.set_with(key, 1_u64, options()).await.unwrap();
        let other = Options::new().tags(["u"]);
        let updated = cache.update_with(key, other, set_for).await.unwrap();
        assert_eq!(updated, Some(2));
    }
    cache.set("plain", 1_u64).await.unwrap();
    let updated = cache.update_with("plain", options(), set_for).await;
    assert_eq!(updated.unwrap(), Some(2));
    cache.invalidate_tags(vec!["u"]).await.unwrap();
    fixture
        .shortly_before(ttl, || async {
            for key in ["stale", "invalid", "plain"] {
                assert_eq!(cache.get::<u64>(key).await.unwrap(), Some(2), "{key}");
            }
        })
        .await;
    for key in ["stale", "invalid", "plain"] {
        assert_eq!(cache.get::<u64>(key).await.unwrap(), None, "{key}");
    }
    let down = || std::future::ready(Err::<u64, _>("down"));
    let served = cache.get_or_try_set_with("stale", options(), down).await;
    assert_eq!(served.unwrap(), 2);
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    for key in ["invalid", "plain"] {
        let served = cache.get_or_try_set_with(key, options(), down).await;
        assert_eq!(served.unwrap_err().into_load_error().unwrap(), "down");
    }
}

/// Also if the tag has never been used.
async fn an_invalidation_in_the_closure_holds_for_a_new_entry(fixture: Fixture) {
    let cache = fixture.cache;
    for (key, ttl) in [("k", Ttl::Default), ("other", Ttl::Never)] {
        let updated = cache.update_with(key, tagged(DAY), |_: Option<u64>| {
            let invalidating = cache.spawn(|cache| async move {
                cache.invalidate_tags(vec!["t"]).await.unwrap();
            });
            block_on(invalidating.join());
            Update::SetFor(1, ttl)
        });
        updated.await.unwrap();
        assert_eq!(cache.get::<u64>(key).await.unwrap(), None);
    }
}

async fn an_update_is_a_read(fixture: Fixture) {
    let cache = &fixture.cache;
    // It does not end while a busy machine reads.
    let idle = fixture.ttl() * 2;
    let options = || Options::ttl(Ttl::Never).ttl_idle(idle);
    for key in ["keep", "set", "set for", "unused"] {
        cache.set_with(key, 1_u64, options()).await.unwrap();
    }
    for count in 2..6 {
        fixture.pass(idle / 2).await;
        let kept = cache.update("keep", |old: Option<u64>| {
            assert_eq!(old, Some(1));
            Update::Keep
        });
        assert_eq!(kept.await.unwrap(), Some(1));
        let set = cache.update("set", |old: Option<u64>| Update::Set(old.unwrap() + 1));
        assert_eq!(set.await.unwrap(), Some(count));
        let set = cache.update("set for", |old: Option<u64>| {
            Update::SetFor(old.unwrap() + 1, Ttl::Never)
        });
        assert_eq!(set.await.unwrap(), Some(count));
    }
    assert!(!cache.has("unused").await.unwrap());
    fixture.expire(idle + idle / 8);
    for key in ["keep", "set", "set for"] {
        assert!(!cache.has(key).await.unwrap(), "{key}");
    }
}
