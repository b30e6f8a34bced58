//! Claims: loads of several processes, each of which is a store of its own here.

use cacheio_core::{ClaimMode, Claimed, Options, Settled, Settlement, TtlChange, Update};
use cacheio_sync::store::{Claim, Store};
use cacheio_tests::gate::LoaderGate;
use cacheio_tests::servers::Proxy;

use super::*;

/// Makes a cache that shares loads, or not.
pub(crate) fn cache_of(world: World, store: Memcached, shares: bool) -> CacheApi {
    match world {
        World::Threads => {
            let builder = Cache::builder().store(store).shared_loads(shares);
            CacheApi::Threads(builder.build().unwrap())
        }
        World::Tasks => {
            let builder = AsyncCache::builder().store(store).shared_loads(shares);
            CacheApi::Tasks(builder.build().unwrap())
        }
    }
}

pub(crate) fn claim(store: &Memcached, name: &str) -> Claim {
    match store.claim(&[key(name)], ClaimMode::Load).unwrap().pop() {
        Some(Claimed::Won { claim, .. }) => claim,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn settle(store: &Memcached, name: &str, claim: Claim, value: &str) -> bool {
    let settlement = Settlement {
        key: key(name),
        claim,
        loaded: Settled::Entry(entry(value), None),
    };
    store.settle(vec![settlement]).unwrap()[0]
}

fn cas(server: &servers::Memcached, key: &str) -> u64 {
    let response = server.raw(format!("mg {key} c").as_bytes());
    let number = response
        .split(" c")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    number.expect("an item").parse().unwrap()
}

#[test]
fn a_claim_is_no_entry_to_any_operation() {
    in_both_worlds(|world| async move {
        for shares in [false, true] {
            let server = servers::lease::<servers::Memcached>();
            let cache = cache_of(world, store(&server), shares);
            // As another process has claimed the key.
            let plant = || server.plant("cacheio:k", b"");
            plant();
            assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
            assert!(!cache.has("k").await.unwrap());
            assert_eq!(cache.get_many::<i32>(vec!["k"]).await.unwrap(), [None]);
            let touched = cache.touch("k", SECOND * 60).await;
            assert!(!touched.unwrap());
            assert!(!cache.delete("k").await.unwrap());
            assert_eq!(server.raw(b"mg cacheio:k s"), "EN");
            plant();
            cache.set("other", 1).await.unwrap();
            let deleted = cache.delete_many(vec!["k", "other", "missing", "k"]).await;
            assert_eq!(deleted.unwrap(), 1);
            assert_eq!(server.raw(b"mg cacheio:k s"), "EN");
            plant();
            assert!(cache.add("k", 1).await.unwrap());
            assert!(!cache.add("k", 2).await.unwrap());
            assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
            for (by, expected) in [(5, 5), (-3, -3), (0, 0)] {
                plant();
                let options = Options::ttl(SECOND * 60);
                let count = cache.increment_with("k", by, options).await;
                assert_eq!(count.unwrap(), expected);
                let response = server.raw(b"mg cacheio:k t");
                assert!(response.starts_with("HD t6"), "{response}");
            }
            plant();
            assert_eq!(cache.ttl("k").await.unwrap(), None);
            assert_eq!(cache.take::<i32>("k").await.unwrap(), None);
            assert_eq!(server.raw(b"mg cacheio:k s"), "EN");
            plant();
            let kept = cache.update("k", |found: Option<i32>| {
                assert_eq!(found, None);
                Update::Keep
            });
            assert_eq!(kept.await.unwrap(), None);
            let updated = cache.update("k", |found: Option<i32>| {
                assert_eq!(found, None);
                Update::Set(6)
            });
            assert_eq!(updated.await.unwrap(), Some(6));
            assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(6));
            plant();
            cache.set("k", 7).await.unwrap();
            assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(7));
            plant();
            cache.clear().await.unwrap();
            assert_eq!(server.raw(b"mg cacheio:k s"), "EN");
            // A process that claims nothing does not wait either.
            plant();
            if !shares {
                assert_eq!(cache.get_or_set("k", || async { 8 }).await, 8);
                assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(8));
            }
        }
    });
}

#[test]
fn each_write_of_another_process_ends_a_claim() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let (one, other) = (store(&server), store(&server));
        type Write = fn(&Memcached);
        let writes: [(&str, Write); 12] = [
            ("set", |store| {
                store.set(&key("ns:k"), entry("w"), None).unwrap();
            }),
            ("set_many", |store| {
                store
                    .set_many(vec![(key("ns:k"), entry("w"), None)])
                    .unwrap();
            }),
            ("add", |store| {
                assert!(store.add(&key("ns:k"), entry("w"), None).unwrap());
            }),
            ("increment", |store| {
                assert_eq!(store.increment(&key("ns:k"), 1, None).unwrap(), 1);
            }),
            ("decrement", |store| {
                assert_eq!(store.increment(&key("ns:k"), -1, None).unwrap(), -1);
            }),
            ("delete", |store| {
                assert!(!store.delete(&key("ns:k")).unwrap());
            }),
            ("delete_many", |store| {
                assert_eq!(store.delete_many(&[key("ns:k")]).unwrap(), 0);
            }),
            ("clear", |store| store.clear("ns:").unwrap()),
            ("take", |store| {
                assert!(store.take(&key("ns:k")).unwrap().is_none());
            }),
            ("update", |store| {
                let new = Some((entry("w"), TtlChange::Set(None)));
                let swapped = store.compare_and_swap(&key("ns:k"), None, new);
                assert!(swapped.unwrap());
            }),
            ("update, then take", |store| {
                let new = Some((entry("w"), TtlChange::Keep));
                let swapped = store.compare_and_swap(&key("ns:k"), None, new);
                assert!(swapped.unwrap());
                assert_eq!(
                    text(store.take(&key("ns:k")).unwrap()).as_deref(),
                    Some("w")
                );
            }),
            ("update, then remove", |store| {
                let new = Some((entry("w"), TtlChange::Keep));
                let swapped = store.compare_and_swap(&key("ns:k"), None, new);
                assert!(swapped.unwrap());
                let found = store.get(&key("ns:k")).unwrap();
                let swapped = store.compare_and_swap(&key("ns:k"), found, None);
                assert!(swapped.unwrap());
            }),
        ];
        for (name, write) in writes {
            let claim = claim(&one, "ns:k");
            write(&other);
            let written = text(other.get(&key("ns:k")).unwrap());
            assert!(!settle(&one, "ns:k", claim, "old"), "{name}");
            assert_eq!(text(one.get(&key("ns:k")).unwrap()), written, "{name}");
            one.delete(&key("ns:k")).unwrap();
        }
        // A touch is no write.
        let claim = claim(&one, "ns:k");
        assert!(!other.touch(&key("ns:k"), Some(SECOND * 60)).unwrap());
        assert!(settle(&one, "ns:k", claim, "new"));
        assert_eq!(
            text(other.get(&key("ns:k")).unwrap()).as_deref(),
            Some("new")
        );
    });
}

#[test]
fn one_of_two_processes_wins_and_the_other_learns_when_that_has_ended() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let (one, other) = (store(&server), store(&server));
        let keys = [key("k")];
        let won = claim(&one, "k");
        let claimed = other.claim(&keys, ClaimMode::Load).unwrap().pop();
        assert!(
            matches!(claimed, Some(Claimed::Lost { entry: None, .. })),
            "{claimed:?}"
        );
        assert!(settle(&one, "k", won, "v"));
        // It finds the value, and that nothing is loaded.
        let Some(Claimed::Won { claim: won, entry }) =
            other.claim(&keys, ClaimMode::Load).unwrap().pop()
        else {
            panic!("another process loads");
        };
        assert_eq!(text(entry).as_deref(), Some("v"));
        let Some(Claimed::Lost { entry, .. }) = one.claim(&keys, ClaimMode::Load).unwrap().pop()
        else {
            panic!("both load");
        };
        assert_eq!(text(entry).as_deref(), Some("v"));
        // What is given up is free at once.
        drop(won);
        drop(claim(&other, "k"));
        let Some(Claimed::Won {
            claim: taken_over, ..
        }) = one.claim(&keys, ClaimMode::TakeOver).unwrap().pop()
        else {
            panic!("not taken over");
        };
        assert!(settle(&one, "k", taken_over, "new"));
    });
}

/// A claim makes two items, one after the other, and another process may come in between.
#[test]
fn a_claim_that_is_being_made_is_not_taken_over() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        // Another process has got the item of the key, and not yet that of the holder.
        assert!(server.raw(b"mg k N3600").contains('W'));
        let claimed = store.claim(&[key("k")], ClaimMode::Load).unwrap().pop();
        assert!(matches!(claimed, Some(Claimed::Lost { .. })), "{claimed:?}");
        // That was long ago: its holder no longer responds.
        server.raw(b"mg old N60");
        let number = cas(&server, "old");
        let won = claim(&store, "old");
        assert_ne!(cas(&server, "old"), number);
        assert!(settle(&store, "old", won, "v"));
    });
}

#[test]
fn what_a_process_has_given_up_does_not_stop_it() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        for _ in 0..50 {
            drop(claim(&store, "k"));
        }
        store.set(&key("k"), entry("v"), None).unwrap();
        for _ in 0..50 {
            drop(claim(&store, "k"));
        }
        // After a load that failed, all load.
        let failed = Settlement {
            key: key("k"),
            claim: claim(&store, "k"),
            loaded: Settled::Unchanged,
        };
        assert_eq!(store.settle(vec![failed]).unwrap(), [true]);
        let (one, other) = (claim(&store, "k"), claim(&store, "k"));
        assert!(settle(&store, "k", one, "one"));
        assert!(!settle(&store, "k", other, "other"));
    });
}

#[test]
fn who_takes_over_by_force_is_stored_and_the_other_is_not() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let (one, other) = (store(&server), store(&server));
        for value in [None, Some("v")] {
            if let Some(value) = value {
                one.set(&key("k"), entry(value), None).unwrap();
            }
            let lost = claim(&one, "k");
            let forced = other.claim(&[key("k")], ClaimMode::TakeOver).unwrap().pop();
            let Some(Claimed::Won { claim, entry: None }) = forced else {
                panic!("{forced:?}");
            };
            assert_eq!(text(one.get(&key("k")).unwrap()).as_deref(), value);
            assert!(!settle(&one, "k", lost, "old"), "{value:?}");
            assert!(settle(&other, "k", claim, "new"), "{value:?}");
            assert_eq!(text(one.get(&key("k")).unwrap()).as_deref(), Some("new"));
            one.delete(&key("k")).unwrap();
        }
    });
}

#[test]
fn a_claim_ends_with_the_server_that_has_it() {
    guarded(|| {
        let server = servers::Memcached::start();
        let (one, other) = (store(&server), store(&server));
        let claim = claim(&one, "k");
        let number = cas(&server, "k");
        server.restart();
        // The new server has given the number again.
        while server.raw(b"mg k c").starts_with("EN") || cas(&server, "k") < number {
            eventually(|| other.set(&key("k"), entry("other"), None));
        }
        assert_eq!(cas(&server, "k"), number);
        // This store has connections to the new server.
        eventually(|| one.get(&key("k")));
        assert!(!settle(&one, "k", claim, "old"));
        assert_eq!(text(one.get(&key("k")).unwrap()).as_deref(), Some("other"));
    });
}

#[test]
fn a_claim_outlives_the_connection_that_it_was_made_on() {
    in_both_worlds(|world| async move {
        let server = servers::lease::<servers::Memcached>();
        let proxy = Proxy::to(server.address());
        let store = Memcached::new(&format!("memcache://{}", proxy.address())).unwrap();
        let cache = cache_of(world, store, true);
        let load = || async {
            proxy.cut_now();
            1
        };
        assert_eq!(cache.get_or_set("k", load).await, 1);
        assert_eq!(cache.stats().unstored_loads, 0);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    });
}

#[test]
fn without_cas_numbers_loads_are_not_shared_but_stored() {
    in_both_worlds(|world| async move {
        let server = servers::Memcached::start_with(&["-C"]);
        let (one, other) = (
            cache_of(world, store(&server), true),
            cache_of(world, store(&server), true),
        );
        let failed = one.get_or_try_set::<i32, _, _>("failed", || async { Err("failed") });
        assert!(failed.await.is_err());
        assert_eq!(server.raw(b"mg cacheio:failed s"), "EN");
        for key in 0..5 {
            assert_eq!(one.get_or_set(key, || async { 1 }).await, 1);
            assert_eq!(other.get_or_set(key, || async { 2 }).await, 1);
        }
        let gate = LoaderGate::new();
        let loading = one.spawn({
            let gate = gate.clone();
            move |cache| async move { cache.get_or_set("k", gate.loader(1)).await }
        });
        gate.started().await;
        assert_eq!(other.get_or_set("k", || async { 2 }).await, 2);
        gate.release();
        assert_eq!(loading.join().await, 1);
        assert_eq!(one.stats().unstored_loads + one.stats().shared_waits, 0);
    });
}

#[test]
fn loads_on_several_servers_are_claimed_and_stored() {
    in_both_worlds(|world| async move {
        let servers = [(); 3].map(|()| servers::lease::<servers::Memcached>());
        let open = || {
            let addresses = servers.iter().map(|server| server.address().to_string());
            let builder =
                addresses.fold(Memcached::builder(), cacheio_sync::MemcachedBuilder::server);
            cache_of(world, builder.build().unwrap(), true)
        };
        let (one, other) = (open(), open());
        let keys: Vec<usize> = (0..200).collect();
        let load = |missing: Vec<usize>| {
            let loaded = missing.into_iter().map(|key| (key, key));
            std::future::ready(loaded.collect::<Vec<_>>())
        };
        one.get_or_set_many(keys.clone(), load).await;
        let found = other.get_many::<usize>(keys.clone()).await.unwrap();
        assert_eq!(found, keys.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(one.stats().unstored_loads, 0);
        for server in &servers {
            assert!(server.stat("curr_items") > 20);
        }
    });
}

#[test]
fn a_read_that_is_recorded_during_a_refresh_does_not_prevent_its_store() {
    in_both_worlds(|world| async move {
        let server = servers::lease::<servers::Memcached>();
        let (one, other) = (
            cache_of(world, store(&server), true),
            cache_of(world, store(&server), true),
        );
        let options = Options::ttl(SECOND * 60).ttl_idle(SECOND * 2);
        one.set_with("k", 1, options.clone()).await.unwrap();
        let gate = LoaderGate::new();
        let refreshing = one.spawn({
            let (gate, options) = (gate.clone(), options.clone().force_refresh());
            move |cache| async move { cache.get_or_set_with("k", options, gate.loader(2)).await }
        });
        gate.started().await;
        let before = cas(&server, "cacheio:k");
        while cas(&server, "cacheio:k") == before {
            world.sleep(Duration::from_millis(50)).await;
            assert_eq!(other.get::<i32>("k").await.unwrap(), Some(1));
        }
        gate.release();
        assert_eq!(refreshing.join().await, 2);
        assert_eq!(one.stats().unstored_loads, 0);
        assert_eq!(other.get::<i32>("k").await.unwrap(), Some(2));
    });
}

#[test]
fn a_write_that_keeps_the_times_of_an_entry_beats_a_refresh() {
    in_both_worlds(|world| async move {
        let server = servers::lease::<servers::Memcached>();
        let (one, other) = (
            cache_of(world, store(&server), true),
            cache_of(world, store(&server), false),
        );
        let options = Options::ttl(SECOND * 60).stale_for(SECOND * 60);
        for (write, expected) in [("increment", 6), ("update", 7), ("touch", 5)] {
            one.set_with(write, 5, options.clone()).await.unwrap();
            let gate = LoaderGate::new();
            let refreshing =
                one.spawn({
                    let (gate, options) = (gate.clone(), options.clone().force_refresh());
                    move |cache| async move {
                        cache.get_or_set_with(write, options, gate.loader(9)).await
                    }
                });
            gate.started().await;
            match write {
                "increment" => assert_eq!(other.increment(write, 1).await.unwrap(), 6),
                "update" => {
                    let updated = other.update(write, |_: Option<i32>| Update::Set(7));
                    assert_eq!(updated.await.unwrap(), Some(7));
                }
                _ => assert!(other.touch(write, SECOND * 600).await.unwrap()),
            }
            gate.release();
            assert_eq!(refreshing.join().await, 9);
            let found = other.get::<i32>(write).await.unwrap();
            assert_eq!(found, Some(expected), "{write}");
        }
        assert_eq!(one.stats().unstored_loads, 3);
    });
}

#[test]
fn what_another_program_stores_during_a_load_stays() {
    in_both_worlds(|world| async move {
        let server = servers::lease::<servers::Memcached>();
        let cache = cache_of(world, store(&server), true);
        let load = || async {
            server.plant("cacheio:k", b"5");
            1
        };
        assert_eq!(cache.get_or_set("k", load).await, 1);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(5));
        assert_eq!(cache.stats().unstored_loads, 1);
    });
}
