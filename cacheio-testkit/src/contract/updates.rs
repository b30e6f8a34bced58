//! `update`.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::api::block_on;

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        case(an_update_gets_the_value_and_returns_what_is_there_then),
        case(an_update_of_a_missing_key_gets_none),
        case(keep_changes_nothing),
        case(remove_removes),
        case(any_value_is_updated),
        case(an_updated_integer_counts).needs(Optional::Increment),
        case(an_updated_entry_keeps_its_ttl),
        case(a_new_entry_takes_the_ttl_of_the_call_or_of_the_cache),
        case(set_for_gives_an_entry_its_ttl),
        case(a_ttl_of_zero_removes_the_entry),
        case(an_expired_entry_is_none_to_an_update),
        case(an_expired_entry_that_is_kept_is_none_to_an_update),
        case(remove_leaves_no_stale_value),
        case(an_updated_entry_keeps_its_policies_and_tags),
        case(a_new_entry_has_the_policies_and_tags_of_the_call),
        case(an_entry_that_a_tag_invalidated_is_none_to_an_update),
        case(a_value_that_cannot_be_read_is_an_error_and_unchanged),
        case(an_invalid_option_is_an_error_and_changes_nothing),
        case(a_closure_that_panics_changes_nothing),
        case(an_update_sees_no_copy),
        case(updates_of_namespaces_do_not_meet),
        case(no_update_of_a_value_is_lost),
        case(no_update_with_policies_and_tags_is_lost),
        case(no_update_and_no_increment_of_a_key_is_lost).needs(Optional::Increment),
        case(a_bound_holds_for_all_updates_together),
        case(a_failed_update_changes_nothing),
        case(a_write_between_read_and_write_is_not_undone),
        case(a_creation_between_read_and_write_is_not_undone),
        case(a_delete_between_read_and_write_is_not_undone),
        case(a_touch_between_read_and_write_is_not_undone).needs(Optional::Touch),
        case(a_removal_removes_no_newer_value),
    ];
    let needing = |case: Case| case.needs(Optional::Update);
    cases.into_iter().map(needing).collect()
}

fn add(by: u64) -> impl FnMut(Option<u64>) -> Update<u64> + Send {
    move |old| Update::Set(old.unwrap_or(0) + by)
}

fn set<T: Clone>(value: T) -> impl FnMut(Option<T>) -> Update<T> {
    move |_| Update::Set(value.clone())
}

async fn an_update_gets_the_value_and_returns_what_is_there_then(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 5_u64).await.unwrap();
    assert_eq!(cache.update("k", add(1)).await.unwrap(), Some(6));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(6));
    assert_eq!(cache.update("k", add(2)).await.unwrap(), Some(8));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(8));
}

async fn an_update_of_a_missing_key_gets_none(fixture: Fixture) {
    let cache = fixture.cache;
    assert_eq!(cache.update("k", add(1)).await.unwrap(), Some(1));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
    for nothing in [Update::Keep, Update::Remove] {
        let updated = cache.update("other", |old: Option<u64>| {
            assert_eq!(old, None);
            nothing
        });
        assert_eq!(updated.await.unwrap(), None);
        assert!(!cache.has("other").await.unwrap());
    }
}

async fn keep_changes_nothing(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1_u64, fixture.ttl()).await.unwrap();
    let calls = AtomicUsize::new(0);
    let kept = cache.update_with("k", Ttl::Never, |old: Option<u64>| {
        calls.fetch_add(1, Ordering::SeqCst);
        assert_eq!(old, Some(1));
        Update::Keep
    });
    assert_eq!(kept.await.unwrap(), Some(1));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    fixture
        .shortly_before(fixture.ttl(), || async {
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
        })
        .await;
    assert!(!cache.has("k").await.unwrap());
}

async fn remove_removes(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1_u64).await.unwrap();
    let removed = cache.update("k", |old: Option<u64>| {
        assert_eq!(old, Some(1));
        Update::Remove
    });
    assert_eq!(removed.await.unwrap(), None);
    assert!(!cache.has("k").await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
}

async fn any_value_is_updated(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("text", "a").await.unwrap();
    let longer = |old: Option<String>| Update::Set(old.unwrap() + "bc");
    let updated = cache.update("text", longer).await.unwrap();
    assert_eq!(updated.as_deref(), Some("abc"));
    let shorter = |old: Option<String>| Update::Set(old.unwrap()[..1].to_owned());
    cache.update("text", shorter).await.unwrap();
    let text = cache.get::<String>("text").await.unwrap();
    assert_eq!(text.as_deref(), Some("a"));
    // A value of another kind.
    cache.set("k", 1).await.unwrap();
    cache.update("k", set(Some(1_u8))).await.unwrap();
    let none = cache.update("k", set(None::<u8>)).await.unwrap();
    assert_eq!(none, Some(None));
    assert_eq!(cache.get::<Option<u8>>("k").await.unwrap(), Some(None));
    // One that JSON does not keep.
    cache.set("f", 1.5).await.unwrap();
    let nan = cache.update("f", set(f64::NAN)).await.unwrap();
    assert!(nan.unwrap().is_nan());
    assert!(cache.get::<f64>("f").await.unwrap().unwrap().is_nan());
    let large = vec![7_u8; 100_000];
    cache.update("v", set(large.clone())).await.unwrap();
    let push = |old: Option<Vec<u8>>| {
        let mut bytes = old.unwrap();
        bytes.push(8);
        Update::Set(bytes)
    };
    let pushed = cache.update("v", push).await.unwrap().unwrap();
    assert_eq!(pushed, [&large[..], &[8]].concat());
    assert_eq!(cache.get::<Vec<u8>>("v").await.unwrap(), Some(pushed));
}

async fn an_updated_integer_counts(fixture: Fixture) {
    let cache = fixture.cache;
    cache.update("k", add(5)).await.unwrap();
    assert_eq!(cache.increment("k", 1).await.unwrap(), 6);
    assert_eq!(cache.update("k", add(5)).await.unwrap(), Some(11));
    assert_eq!(cache.decrement("k", 12).await.unwrap(), -1);
    let negate = |old: Option<i64>| Update::Set(-old.unwrap());
    assert_eq!(cache.update("k", negate).await.unwrap(), Some(1));
    cache.set("text", "a").await.unwrap();
    let number = |_: Option<String>| Update::Set("7".to_owned());
    cache.update("text", number).await.unwrap();
    assert!(cache.increment("text", 1).await.is_err(), "it is a text");
}

async fn an_updated_entry_keeps_its_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    let ttl = fixture.ttl();
    cache.set_with("k", 1_u64, ttl).await.unwrap();
    cache.set_with("forever", 1_u64, Ttl::Never).await.unwrap();
    cache.update("k", add(1)).await.unwrap();
    cache.update_with("k", ttl * 50, add(10)).await.unwrap();
    cache
        .update_with("k", Ttl::Never, add(1_000))
        .await
        .unwrap();
    cache.update_with("forever", ttl, add(1)).await.unwrap();
    fixture
        .shortly_before(ttl, || async {
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1_012));
        })
        .await;
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    assert_eq!(cache.get::<u64>("forever").await.unwrap(), Some(2));
}

async fn a_new_entry_takes_the_ttl_of_the_call_or_of_the_cache(fixture: Fixture) {
    let setup = Setup {
        default_ttl: Some(fixture.ttl().into()),
        ..Setup::default()
    };
    let cache = &fixture.open(setup).unwrap();
    let ttl = fixture.ttl();
    cache.update("default", add(1)).await.unwrap();
    cache.update_with("given", ttl, add(1)).await.unwrap();
    cache
        .update_with("forever", Ttl::Never, add(1))
        .await
        .unwrap();
    cache.update_with("longer", ttl * 50, add(1)).await.unwrap();
    fixture
        .shortly_before(ttl, || async {
            assert!(cache.has("default").await.unwrap() && cache.has("given").await.unwrap());
        })
        .await;
    assert!(!cache.has("default").await.unwrap() && !cache.has("given").await.unwrap());
    assert!(cache.has("forever").await.unwrap() && cache.has("longer").await.unwrap());
}

async fn set_for_gives_an_entry_its_ttl(fixture: Fixture) {
    let cache = &fixture.cache;
    let ttl = fixture.ttl();
    let set_for = |ttl: Ttl| move |old: Option<u64>| Update::SetFor(old.unwrap_or(0) + 1, ttl);
    for key in ["short", "forever", "call"] {
        let before = if key == "forever" {
            ttl.into()
        } else {
            Ttl::Never
        };
        cache.set_with(key, 1_u64, before).await.unwrap();
    }
    for key in ["short", "new"] {
        let updating = cache.update_with(key, Ttl::Never, set_for(ttl.into()));
        assert!(updating.await.unwrap().is_some());
    }
    cache.update("forever", set_for(Ttl::Never)).await.unwrap();
    let updating = cache.update_with("call", ttl, set_for(Ttl::Default));
    assert_eq!(updating.await.unwrap(), Some(2));
    fixture
        .shortly_before(ttl, || async {
            for (key, value) in [("short", 2), ("new", 1), ("call", 2)] {
                assert_eq!(cache.get::<u64>(key).await.unwrap(), Some(value));
            }
        })
        .await;
    for key in ["short", "new", "call"] {
        assert!(!cache.has(key).await.unwrap(), "{key}");
    }
    assert_eq!(cache.get::<u64>("forever").await.unwrap(), Some(2));
}

async fn a_ttl_of_zero_removes_the_entry(fixture: Fixture) {
    let cache = fixture.cache;
    let zero = Ttl::After(Duration::ZERO);
    cache.set("k", 1_u64).await.unwrap();
    let updated = cache.update_with("k", zero, add(1)).await.unwrap();
    assert_eq!(updated, Some(2), "an existing entry keeps its TTL");
    let set_for = |old: Option<u64>| Update::SetFor(old.unwrap_or(0), zero);
    assert_eq!(cache.update("k", set_for).await.unwrap(), None);
    assert_eq!(cache.update("new", set_for).await.unwrap(), None);
    let updated = cache.update_with("new", zero, add(1)).await.unwrap();
    assert_eq!(updated, None);
    assert!(!cache.has("k").await.unwrap() && !cache.has("new").await.unwrap());
}

async fn an_expired_entry_is_none_to_an_update(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 100_u64, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.update("k", add(1)).await.unwrap(), Some(1));
    fixture.expire(fixture.ttl());
    assert_eq!(cache.update("k", add(1)).await.unwrap(), Some(2));
}

fn stale(fixture: &Fixture) -> Options {
    Options::ttl(fixture.ttl()).stale_for(fixture.ttl() * 50)
}

async fn an_expired_entry_that_is_kept_is_none_to_an_update(fixture: Fixture) {
    let cache = &fixture.cache;
    for key in ["set", "kept"] {
        cache.set_with(key, 100_u64, stale(&fixture)).await.unwrap();
    }
    fixture.expire(fixture.ttl());
    assert_eq!(cache.update("set", add(1)).await.unwrap(), Some(1));
    assert_eq!(cache.get::<u64>("set").await.unwrap(), Some(1));
    let keep = |old: Option<u64>| {
        assert_eq!(old, None);
        Update::Keep
    };
    assert_eq!(cache.update("kept", keep).await.unwrap(), None);
    let down = || std::future::ready(Err::<u64, _>("down"));
    let served = cache.get_or_try_set_with("kept", stale(&fixture), down);
    assert_eq!(served.await.unwrap(), 100, "it is still there");
}

async fn remove_leaves_no_stale_value(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 100_u64, stale(&fixture)).await.unwrap();
    fixture.expire(fixture.ttl());
    let removed = cache.update("k", |old: Option<u64>| {
        assert_eq!(old, None);
        Update::Remove
    });
    assert_eq!(removed.await.unwrap(), None);
    let down = || std::future::ready(Err::<u64, _>("down"));
    let served = cache.get_or_try_set_with("k", stale(&fixture), down).await;
    assert_eq!(served.unwrap_err().into_load_error().unwrap(), "down");
}

async fn an_updated_entry_keeps_its_policies_and_tags(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = || stale(&fixture).tags(["t"]);
    for key in ["stale", "invalid"] {
        cache.set_with(key, 1_u64, options()).await.unwrap();
        let other = Options::ttl(fixture.ttl() * 50).tags(["u"]);
        let updated = cache.update_with(key, other, add(1)).await.unwrap();
        assert_eq!(updated, Some(2));
    }
    cache.invalidate_tags(vec!["u"]).await.unwrap();
    assert_eq!(cache.get::<u64>("stale").await.unwrap(), Some(2));
    fixture.expire(fixture.ttl());
    assert_eq!(cache.get::<u64>("stale").await.unwrap(), None);
    let down = || std::future::ready(Err::<u64, _>("down"));
    let served = cache.get_or_try_set_with("stale", options(), down).await;
    assert_eq!(served.unwrap(), 2);
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    let served = cache.get_or_try_set_with("invalid", options(), down).await;
    assert_eq!(served.unwrap_err().into_load_error().unwrap(), "down");
}

async fn a_new_entry_has_the_policies_and_tags_of_the_call(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = || stale(&fixture).tags(["t"]);
    let set_for = |old: Option<u64>| Update::SetFor(old.unwrap_or(0) + 1, Ttl::Default);
    for key in ["stale", "invalid"] {
        let updated = cache.update_with(key, options(), add(1)).await.unwrap();
        assert_eq!(updated, Some(1));
    }
    let updated = cache.update_with("set for", options(), set_for).await;
    assert_eq!(updated.unwrap(), Some(1));
    fixture.expire(fixture.ttl());
    let down = || std::future::ready(Err::<u64, _>("down"));
    for key in ["stale", "set for"] {
        assert_eq!(cache.get::<u64>(key).await.unwrap(), None);
        let served = cache.get_or_try_set_with(key, options(), down).await;
        assert_eq!(served.unwrap(), 1);
    }
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    let served = cache.get_or_try_set_with("invalid", options(), down).await;
    assert_eq!(served.unwrap_err().into_load_error().unwrap(), "down");
}

async fn an_entry_that_a_tag_invalidated_is_none_to_an_update(fixture: Fixture) {
    let cache = fixture.cache;
    let tagged = || Options::new().tags(["t"]);
    cache.set_with("k", 100_u64, tagged()).await.unwrap();
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    let updated = cache.update_with("k", tagged(), add(1)).await.unwrap();
    assert_eq!(updated, Some(1));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
    // Invalidated between the read and the write: so is the new value.
    cache.set_with("k", 1_u64, tagged()).await.unwrap();
    let updated = cache.update_with("k", tagged(), |old: Option<u64>| {
        meanwhile(&cache, |cache| async move {
            cache.invalidate_tags(vec!["t"]).await.unwrap();
        });
        Update::SetFor(old.unwrap_or(0) + 1, Ttl::Never)
    });
    updated.await.unwrap();
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
}

async fn a_value_that_cannot_be_read_is_an_error_and_unchanged(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "text").await.unwrap();
    let error = cache.update("k", add(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().starts_with("update `"), "{error}");
    let text = cache.get::<String>("k").await.unwrap();
    assert_eq!(text.as_deref(), Some("text"));
}

async fn an_invalid_option_is_an_error_and_changes_nothing(fixture: Fixture) {
    let cache = fixture.cache;
    let invalid = Options::new().refresh_ahead(7.0);
    let error = cache.update_with("k", invalid, add(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!cache.has("k").await.unwrap());
}

async fn a_closure_that_panics_changes_nothing(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1_u64).await.unwrap();
    let panicking = cache.spawn(|cache| async move {
        let update = |_: Option<u64>| -> Update<u64> { panic!("the closure's own") };
        cache.update("k", update).await
    });
    assert_eq!(panicking.outcome().await.unwrap_err(), "the closure's own");
    assert_eq!(cache.update("k", add(1)).await.unwrap(), Some(2));
}

/// Another client has changed the entry of which there is a copy in L1.
async fn an_update_sees_no_copy(fixture: Fixture) {
    let [one, other] = fixture.twins(Setup::default());
    one.set("k", 1_u64).await.unwrap();
    assert_eq!(one.get::<u64>("k").await.unwrap(), Some(1));
    assert_eq!(other.update("k", add(1)).await.unwrap(), Some(2));
    assert_eq!(one.update("k", add(1)).await.unwrap(), Some(3));
    assert_eq!(one.get::<u64>("k").await.unwrap(), Some(3));
    if fixture.shares_state() {
        assert_eq!(other.get::<u64>("k").await.unwrap(), Some(3));
    }
}

async fn updates_of_namespaces_do_not_meet(fixture: Fixture) {
    let [one, other] = fixture.sharing(["one", "other"]);
    assert_eq!(one.update("k", add(1)).await.unwrap(), Some(1));
    assert_eq!(other.update("k", add(2)).await.unwrap(), Some(2));
    assert_eq!(one.update("k", add(3)).await.unwrap(), Some(4));
    assert_eq!(other.get::<u64>("k").await.unwrap(), Some(2));
}

async fn no_update_of_a_value_is_lost(fixture: Fixture) {
    let appending = (0..8_u32).map(|caller| {
        fixture.cache.spawn(move |cache| async move {
            for n in 0..25_u32 {
                let append = |list: Option<Vec<(u32, u32)>>| {
                    let mut list = list.unwrap_or_default();
                    list.push((caller, n));
                    Update::Set(list)
                };
                let list = cache.update("k", append).await.unwrap().unwrap();
                assert_eq!(list.last(), Some(&(caller, n)));
            }
        })
    });
    join_all(appending.collect()).await;
    let list = fixture.cache.get::<Vec<(u32, u32)>>("k").await.unwrap();
    let list = list.unwrap();
    for caller in 0..8 {
        let of_caller = list.iter().filter(|(by, _)| *by == caller);
        let of_caller: Vec<_> = of_caller.map(|(_, n)| *n).collect();
        assert_eq!(of_caller, (0..25).collect::<Vec<_>>());
    }
    assert_eq!(list.len(), 200);
}

async fn no_update_with_policies_and_tags_is_lost(fixture: Fixture) {
    let long = fixture.ttl() * 50;
    let options = Options::ttl(long).stale_for(long).tags(["t"]);
    let updating = (0..8_u64).map(|caller| {
        let options = options.clone();
        fixture.cache.spawn(move |cache| async move {
            for n in 0..20 {
                let update = |old: Option<u64>| match (caller + n) % 2 {
                    0 => Update::Set(old.unwrap_or(0) + 1),
                    _ => Update::SetFor(old.unwrap_or(0) + 1, Ttl::Default),
                };
                cache
                    .update_with("k", options.clone(), update)
                    .await
                    .unwrap();
            }
        })
    });
    join_all(updating.collect()).await;
    assert_eq!(fixture.cache.get::<u64>("k").await.unwrap(), Some(160));
}

async fn no_update_and_no_increment_of_a_key_is_lost(fixture: Fixture) {
    let counting = (0..8).map(|caller| {
        fixture.cache.spawn(move |cache| async move {
            for _ in 0..25 {
                match caller % 2 {
                    0 => cache.update("k", add(2)).await.map(drop).unwrap(),
                    _ => cache.increment("k", 1).await.map(drop).unwrap(),
                }
            }
        })
    });
    join_all(counting.collect()).await;
    assert_eq!(fixture.cache.get::<u64>("k").await.unwrap(), Some(300));
}

/// moka's `bounded_counter`.
async fn a_bound_holds_for_all_updates_together(fixture: Fixture) {
    let taking = (0..8).map(|_| {
        fixture.cache.spawn(move |cache| async move {
            let mut taken = 0;
            for _ in 0..10 {
                let mut is_full = false;
                let take = |seats: Option<u64>| {
                    is_full = seats == Some(30);
                    match seats {
                        Some(30) => Update::Keep,
                        seats => Update::Set(seats.unwrap_or(0) + 1),
                    }
                };
                assert!(cache.update("seats", take).await.unwrap() <= Some(30));
                taken += u32::from(!is_full);
            }
            taken
        })
    });
    let taken = join_all(taking.collect()).await;
    assert_eq!(taken.into_iter().sum::<u32>(), 30);
    assert_eq!(fixture.cache.get::<u64>("seats").await.unwrap(), Some(30));
}

async fn a_failed_update_changes_nothing(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    cache.set("k", 1_u64).await.unwrap();
    faults.fail_writes(true);
    let error = cache.update("k", add(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("update `"), "{error}");
    faults.fail_writes(false);
    assert_eq!(cache.update("k", add(1)).await.unwrap(), Some(2));
}

/// Runs `write` in another thread or task.
fn meanwhile<F>(cache: &CacheApi, write: impl FnOnce(CacheApi) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    block_on(cache.spawn(write).join());
}

async fn a_write_between_read_and_write_is_not_undone(fixture: Fixture) {
    let cache = &fixture.cache;
    for policies in [Options::new(), stale(&fixture), Options::new().tags(["t"])] {
        cache.set_with("k", 1_u64, policies.clone()).await.unwrap();
        let mut seen = Vec::new();
        let updated = cache.update("k", |old: Option<u64>| {
            if seen.is_empty() {
                let policies = policies.clone();
                meanwhile(cache, |cache| async move {
                    cache.set_with("k", 10_u64, policies).await.unwrap();
                });
            }
            seen.push(old);
            Update::Set(old.unwrap() + 1)
        });
        assert_eq!(updated.await.unwrap(), Some(11));
        assert_eq!(seen, [Some(1), Some(10)]);
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(11));
    }
}

async fn a_creation_between_read_and_write_is_not_undone(fixture: Fixture) {
    let cache = &fixture.cache;
    let mut seen = Vec::new();
    let updated = cache.update("k", |old: Option<u64>| {
        if seen.is_empty() {
            meanwhile(cache, |cache| async move {
                cache.set("k", 10_u64).await.unwrap();
            });
        }
        seen.push(old);
        Update::Set(old.unwrap_or(0) + 1)
    });
    assert_eq!(updated.await.unwrap(), Some(11));
    assert_eq!(seen, [None, Some(10)]);
}

async fn a_delete_between_read_and_write_is_not_undone(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set("k", 1_u64).await.unwrap();
    let mut seen = Vec::new();
    let updated = cache.update("k", |old: Option<u64>| {
        if seen.is_empty() {
            meanwhile(cache, |cache| async move {
                assert!(cache.delete("k").await.unwrap());
            });
        }
        seen.push(old);
        old.map_or(Update::Keep, |old| Update::Set(old + 1))
    });
    assert_eq!(updated.await.unwrap(), None);
    assert_eq!(seen, [Some(1), None]);
    assert!(!cache.has("k").await.unwrap());
}

async fn a_touch_between_read_and_write_is_not_undone(fixture: Fixture) {
    let cache = &fixture.cache;
    let ttl = fixture.ttl();
    for (key, policies) in [
        ("plain", Options::ttl(ttl)),
        ("stale", stale(&fixture)),
        ("tagged", Options::ttl(ttl).tags(["t"])),
    ] {
        cache.set_with(key, 1_u64, policies).await.unwrap();
        let mut is_first = true;
        let updated = cache.update(key, |old: Option<u64>| {
            if std::mem::take(&mut is_first) {
                meanwhile(cache, |cache| async move {
                    assert!(cache.touch(key, ttl * 50).await.unwrap());
                });
            }
            Update::Set(old.unwrap() + 1)
        });
        assert_eq!(updated.await.unwrap(), Some(2));
    }
    fixture.expire(ttl);
    for key in ["plain", "stale", "tagged"] {
        assert_eq!(cache.get::<u64>(key).await.unwrap(), Some(2), "{key}");
    }
}

async fn a_removal_removes_no_newer_value(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set("k", 1_u64).await.unwrap();
    let mut seen = Vec::new();
    let updated = cache.update("k", |old: Option<u64>| {
        if seen.is_empty() {
            meanwhile(cache, |cache| async move {
                cache.set("k", 2_u64).await.unwrap();
            });
        }
        seen.push(old);
        match old {
            Some(1) => Update::Remove,
            _ => Update::Keep,
        }
    });
    assert_eq!(updated.await.unwrap(), Some(2));
    assert_eq!(seen, [Some(1), Some(2)]);
}
