//! Every cause, and what is no removal.

use cacheio_core::{ErrorKind, Local, Options, Ttl, Update};
use cacheio_sync::RemovalCause::{Cleared, Deleted, Evicted, Expired, Invalidated, Replaced};
use cacheio_sync::{L1, Memory};

use super::*;

#[test]
fn a_value_that_is_replaced_is_told_once_by_every_call_that_stores() {
    in_both_worlds(100, |fixture| async move {
        let Fixture { cache, told, .. } = fixture;
        cache.set("k", 1).await.unwrap();
        told.assert(&[]);
        cache.set("k", 2).await.unwrap();
        told.assert(&[("k", Replaced)]);
        cache.set_many(vec![("k", 3), ("new", 1)]).await.unwrap();
        told.assert(&[("k", Replaced)]);
        cache.increment("k", 1).await.unwrap();
        told.assert(&[("k", Replaced)]);
        let add = |old: Option<i64>| Update::Set(old.unwrap_or_default() + 1);
        assert_eq!(cache.update("k", add).await.unwrap(), Some(5));
        told.assert(&[("k", Replaced)]);
        let options = Options::new().force_refresh();
        cache.get_or_set_with("k", options, || async { 6 }).await;
        told.assert(&[("k", Replaced)]);
        // The weight of this one differs.
        cache.set("k", "text").await.unwrap();
        assert_eq!(told.take()[0].value::<i32>().as_deref(), Some(&6));
    });
}

#[test]
fn an_entry_that_is_deleted_is_told_by_every_call_that_deletes() {
    in_both_worlds(100, |fixture| async move {
        let Fixture { cache, told, .. } = fixture;
        let set = || async { cache.set("k", 1).await.unwrap() };
        set().await;
        assert!(cache.delete("k").await.unwrap());
        told.assert(&[("k", Deleted)]);
        assert!(!cache.delete("k").await.unwrap());
        told.assert(&[]);
        set().await;
        cache.delete_many(vec!["k", "absent", "k"]).await.unwrap();
        told.assert(&[("k", Deleted)]);
        set().await;
        assert_eq!(cache.take("k").await.unwrap(), Some(1));
        told.assert(&[("k", Deleted)]);
        set().await;
        cache.update::<i32>("k", |_| Update::Remove).await.unwrap();
        told.assert(&[("k", Deleted)]);
        set().await;
        cache.set_with("k", 2, Duration::ZERO).await.unwrap();
        told.assert(&[("k", Deleted)]);
        set().await;
        cache.touch("k", Duration::ZERO).await.unwrap();
        told.assert(&[("k", Deleted)]);
    });
}

#[test]
fn clear_tells_each_entry_of_its_namespace() {
    in_both_worlds(100, |fixture| async move {
        let Fixture {
            cache,
            memory,
            told,
            ..
        } = fixture;
        let clear = async || {
            cache.clear().await.unwrap();
            let mut cleared = told.take();
            cleared.sort_by_key(|removal| removal.key().to_owned());
            assert!(cleared.iter().all(|removal| removal.cause() == Cleared));
            cleared
                .iter()
                .map(|removal| removal.key().to_owned())
                .collect::<Vec<_>>()
        };
        for key in ["a", "b", "c"] {
            cache.set(key, 1).await.unwrap();
        }
        assert_eq!(clear().await, ["a", "b", "c"]);
        assert!(clear().await.is_empty());
        // From now on the keys of the namespaces are told apart.
        let shop = super::cache(cache.world(), &memory, "shop");
        shop.set("a", 1).await.unwrap();
        cache.set("d", 1).await.unwrap();
        assert_eq!(clear().await, ["d"]);
        shop.clear().await.unwrap();
        let told = told.take();
        assert_eq!(
            (told[0].namespace(), told[0].key(), told.len()),
            ("shop", "a", 1)
        );
    });
}

#[test]
fn an_entry_that_makes_room_is_evicted() {
    in_both_worlds(2, |fixture| async move {
        let Fixture { cache, told, .. } = fixture;
        for key in ["a", "b", "c", "d"] {
            cache.set(key, key).await.unwrap();
        }
        let evicted = told.take();
        assert_eq!(evicted.len(), 2);
        assert_eq!(cache.stats().evictions, 2);
        for evicted in evicted {
            assert_eq!(evicted.cause(), Evicted);
            assert_eq!(evicted.value::<String>().unwrap().as_str(), evicted.key());
            assert!(!cache.has(evicted.key()).await.unwrap());
        }
    });
}

#[test]
fn both_limits_evict() {
    for world in [World::Threads, World::Tasks] {
        let weigher = |_: &str, value: &(dyn std::any::Any + Send + Sync)| {
            *value.downcast_ref::<u64>().unwrap()
        };
        let builder = Memory::builder().capacity(3).max_weight(100, weigher);
        let Fixture {
            cache,
            told,
            memory,
            ..
        } = fixture(world, builder);
        world.run(async move {
            for key in ["a", "b", "c", "d"] {
                cache.set(key, 1_u64).await.unwrap();
            }
            let by_number = told.take();
            assert_eq!((by_number.len(), by_number[0].cause()), (1, Evicted));
            cache.set("heavy", 97_u64).await.unwrap();
            assert_eq!((memory.len(), told.take().len()), (3, 1));
            cache.set("heavy", 96_u64).await.unwrap();
            let replaced = told.take();
            assert_eq!(replaced[0].value::<u64>().as_deref(), Some(&97));
            assert_eq!((replaced.len(), replaced[0].cause()), (1, Replaced));
            // The new value is not stored, and the old one is removed.
            let error = cache.set("heavy", 101_u64).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let removed = told.take();
            assert_eq!(removed[0].value::<u64>().as_deref(), Some(&96));
            assert_eq!((removed.len(), removed[0].cause()), (1, Replaced));
        });
    }
}

#[test]
fn an_entry_that_has_ended_is_expired_or_invalidated_whatever_removes_it() {
    in_both_worlds(3, |fixture| async move {
        let Fixture {
            cache,
            memory,
            clock,
            told,
        } = fixture;
        let end = async |tags: &'static [&'static str]| {
            let options = Options::ttl(TTL).tags(tags.iter().copied());
            cache.set_with("k", 1, options).await.unwrap();
            match tags {
                [] => clock.advance(TTL),
                tags => cache.invalidate_tags(tags.to_vec()).await.unwrap(),
            }
            told.assert(&[]);
        };
        for (tags, cause) in [(&[][..], Expired), (&["t"][..], Invalidated)] {
            end(tags).await;
            assert!(!cache.delete("k").await.unwrap());
            told.assert(&[("k", cause)]);
            end(tags).await;
            cache.set("k", 2).await.unwrap();
            told.assert(&[("k", cause)]);
            cache.delete("k").await.unwrap();
            told.take();
            end(tags).await;
            assert!(cache.add("k", 2).await.unwrap());
            told.assert(&[("k", cause)]);
            cache.delete("k").await.unwrap();
            told.take();
            end(tags).await;
            assert_eq!(cache.increment("k", 1).await.unwrap(), 1);
            told.assert(&[("k", cause)]);
            cache.delete("k").await.unwrap();
            told.take();
            end(tags).await;
            cache.clear().await.unwrap();
            told.assert(&[("k", cause)]);
            end(tags).await;
            memory.purge_expired();
            told.assert(&[("k", cause)]);
            memory.purge_expired();
            told.assert(&[]);
        }
        assert_eq!(cache.stats().evictions, 0);
    });
}

#[test]
fn a_stale_entry_is_kept_and_an_idle_one_expires() {
    in_both_worlds(100, |fixture| async move {
        let Fixture {
            cache,
            memory,
            clock,
            told,
        } = fixture;
        let stale = Options::ttl(TTL).stale_for(TTL);
        cache.set_with("stale", 1, stale.clone()).await.unwrap();
        cache.set_with("replaced", 1, stale).await.unwrap();
        let idle = Options::ttl(Ttl::Never).ttl_idle(TTL);
        cache.set_with("idle", 1, idle).await.unwrap();
        clock.advance(TTL / 2);
        assert_eq!(cache.get("idle").await.unwrap(), Some(1));
        clock.advance(TTL / 2);
        memory.purge_expired();
        told.assert(&[]);
        assert_eq!(cache.get_or_set("replaced", || async { 2 }).await, 2);
        told.assert(&[("replaced", Replaced)]);
        clock.advance(TTL / 2);
        memory.purge_expired();
        told.assert(&[("idle", Expired)]);
        clock.advance(TTL / 2);
        memory.purge_expired();
        told.assert(&[("stale", Expired)]);
    });
}

#[test]
fn what_was_not_stored_is_not_told() {
    in_both_worlds(100, |fixture| async move {
        let Fixture {
            cache, clock, told, ..
        } = fixture;
        cache.set_with("k", 1, TTL).await.unwrap();
        assert!(!cache.add("k", 2).await.unwrap());
        cache.touch("k", 2 * TTL).await.unwrap();
        assert_eq!(
            cache
                .update("k", |_: Option<i32>| Update::Keep)
                .await
                .unwrap(),
            Some(1)
        );
        cache.set_with("zero", 1, Duration::ZERO).await.unwrap();
        let failed = cache
            .get_or_try_set::<i32, _, _>("failed", || async { Err("no") })
            .await;
        failed.unwrap_err();
        cache.set("text", "no number").await.unwrap();
        cache.increment("text", 1).await.unwrap_err();
        clock.advance(TTL);
        assert_eq!(cache.get("k").await.unwrap(), Some(1));
        told.assert(&[]);
    });
}

#[test]
fn the_entries_that_are_left_are_not_told_when_memory_is_dropped() {
    in_both_worlds(100, |fixture| async move {
        let Fixture {
            cache,
            memory,
            told,
            ..
        } = fixture;
        cache.set("k", 1).await.unwrap();
        drop((cache, memory));
        told.assert(&[]);
    });
}

#[test]
fn a_removal_has_the_key_and_the_namespace_of_the_caller() {
    in_both_worlds(1_000, |fixture| async move {
        let Fixture {
            cache,
            memory,
            told,
            ..
        } = fixture;
        let long = "a key that is too long to be stored in place";
        for namespace in ["", "shop", "my shop: 100 %", "ü"] {
            let cache = super::cache(cache.world(), &memory, namespace);
            let check = |key: &str| {
                let removal = told.take().remove(0);
                assert_eq!((removal.namespace(), removal.key()), (namespace, key));
            };
            cache.set(("user", 42), 1).await.unwrap();
            cache.delete(("user", 42)).await.unwrap();
            check("user:42");
            cache.set(("a:b", "c"), 1).await.unwrap();
            cache.delete("a%3Ab:c").await.unwrap();
            check("a%3Ab:c");
            for key in [long, "", "ÿ", "a\nb"] {
                cache.set(key, 1).await.unwrap();
                cache.delete(key).await.unwrap();
                check(key);
            }
        }
        // More namespaces than have short codes.
        for number in 0..100 {
            let namespace = format!("namespace {number}");
            let cache = super::cache(cache.world(), &memory, &namespace);
            cache.set("k", number).await.unwrap();
            cache.clear().await.unwrap();
            let removal = told.take().remove(0);
            assert_eq!((removal.namespace(), removal.key()), (&*namespace, "k"));
        }
    });
}

#[test]
fn a_removal_has_the_value_as_its_type() {
    in_both_worlds(100, |fixture| async move {
        let Fixture { cache, told, .. } = fixture;
        let mut removals = Vec::new();
        cache.set("text", "text").await.unwrap();
        cache.set("number", 7_u64).await.unwrap();
        cache.increment("count", 3).await.unwrap();
        cache.set("list", vec![Some(1), None]).await.unwrap();
        cache.set("local", Local::new(1)).await.unwrap();
        for key in ["text", "number", "count", "list", "local"] {
            cache.delete(key).await.unwrap();
            removals.extend(told.take());
        }
        let [text, number, count, list, local] = &removals[..] else {
            panic!("{removals:?}");
        };
        assert_eq!(text.value::<String>().unwrap().as_str(), "text");
        assert!(text.value::<u64>().is_none());
        assert_eq!(number.value::<u64>().as_deref(), Some(&7));
        assert!(number.value::<i64>().is_none() && number.value::<Local<u64>>().is_none());
        assert_eq!(count.value::<i64>().as_deref(), Some(&3));
        assert_eq!(*list.value::<Vec<Option<i32>>>().unwrap(), [Some(1), None]);
        assert_eq!(**local.value::<Local<i32>>().unwrap(), 1);
        assert!(format!("{text:?}").contains("text") && format!("{text:?}").contains("Deleted"));
    });
}

#[test]
fn the_value_is_not_copied() {
    in_both_worlds(100, |fixture| async move {
        let Fixture { cache, told, .. } = fixture;
        cache.set("k", vec![0_u8; 100]).await.unwrap();
        let read = cache.get_arc::<Vec<u8>>("k").await.unwrap().unwrap();
        cache.delete("k").await.unwrap();
        let told = told.take()[0].value::<Vec<u8>>().unwrap();
        assert!(Arc::ptr_eq(&read, &told));
    });
}

#[test]
fn memory_that_is_like_a_server_has_no_listener() {
    let refused = |error: cacheio_core::Error, expected: &str| {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(expected), "{error}");
    };
    let listening = || Memory::builder().on_removal(drop);
    let encoded = || listening().through_codec(true).build();
    refused(
        Cache::builder().store(encoded()).build().unwrap_err(),
        "remove `on_removal`",
    );
    refused(
        AsyncCache::builder().store(encoded()).build().unwrap_err(),
        "remove `on_removal`",
    );
    let server = || Memory::builder().through_codec(true).build();
    let l1 = Cache::builder().store(server()).l1(listening().build());
    refused(l1.build().unwrap_err(), "no `on_removal`");
    let l1 = AsyncCache::builder()
        .store(server())
        .l1(L1::new(listening().build()));
    refused(l1.build().unwrap_err(), "no `on_removal`");
}
