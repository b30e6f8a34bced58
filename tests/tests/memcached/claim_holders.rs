//! Which process has the claim on a key: after a write, after the death of a process, and while servers fail.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::spawn;

use cacheio_core::{ClaimMode, Claimed, KeyRule};
use cacheio_sync::store::Store;
use cacheio_tests::servers::Proxy;

use super::claims::{cache_of, claim, settle};
use super::*;

fn holder(key: &str) -> String {
    KeyRule::Wire { max: 250 }.of_holder(key)
}

fn is_claimed_by_another(store: &Memcached, name: &str) -> bool {
    match store.claim(&[key(name)], ClaimMode::Load).unwrap().pop() {
        Some(Claimed::Lost { .. }) => true,
        Some(Claimed::Won { .. }) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_process_that_claims_a_deleted_key_holds_the_claim_when_the_one_before_it_ends() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let [one, other, third] = [(); 3].map(|()| store(&server));
        let before = claim(&one, "k");
        other.delete(&key("k")).unwrap();
        let held = claim(&other, "k");
        // A younger claim is not taken over.
        sleep(SECOND * 3);
        assert!(!settle(&one, "k", before, "old"));
        // Longer than the item of a holder lives.
        let began = Instant::now();
        while began.elapsed() < SECOND * 4 {
            assert!(is_claimed_by_another(&third, "k"));
            sleep(Duration::from_millis(100));
        }
        assert!(settle(&other, "k", held, "new"));
    });
}

#[test]
fn a_process_does_not_prolong_the_claim_of_another() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let (one, other) = (store(&server), store(&server));
        let ended = claim(&one, "k");
        // As a process that has claimed the key after a write, and is dead.
        server.raw(b"md k");
        server.raw(b"mg k N60");
        let holder = holder("k");
        server.raw(format!("ms {holder} 4 T3\r\ndead").as_bytes());
        let began = Instant::now();
        while is_claimed_by_another(&other, "k") {
            assert!(began.elapsed() < SECOND * 10);
            sleep(Duration::from_millis(100));
        }
        assert!(!settle(&one, "k", ended, "old"));
    });
}

#[test]
fn the_claims_of_a_dead_batch_are_taken_over_in_one_round_trip() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        let names: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
        for name in &names {
            server.raw(format!("mg {name} N60").as_bytes());
        }
        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
        let claimed = store.claim(&keys, ClaimMode::Load).unwrap();
        assert!(
            (claimed.iter()).all(|claimed| matches!(claimed, Claimed::Won { .. })),
            "{claimed:?}"
        );
    });
}

#[test]
fn a_claim_that_was_sent_twice_does_not_wait_for_itself() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let proxy = Proxy::to(server.address());
        let store = Memcached::new(&format!("memcache://{}", proxy.address())).unwrap();
        store.ping().unwrap();
        proxy.cut_after(0);
        let won = claim(&store, "k");
        assert!(settle(&store, "k", won, "v"));
    });
}

#[test]
fn a_claim_under_a_mark_is_given_back() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        server.raw(format!("ms {} 1 T60\r\n-", holder("k")).as_bytes());
        drop(claim(&store, "k"));
        let began = Instant::now();
        while server.raw(b"mg k s") != "EN" {
            assert!(began.elapsed() < SECOND * 10);
            sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_server_without_cas_numbers_keeps_no_claims() {
    guarded(|| {
        let server = servers::Memcached::start_with(&["-C"]);
        let store = store(&server);
        let claimed = store.claim(&[key("a"), key("b")], ClaimMode::Load).unwrap();
        assert!(
            (claimed.iter()).all(|claimed| matches!(claimed, Claimed::Unsupported)),
            "{claimed:?}"
        );
        for name in ["a", "b"] {
            assert_eq!(server.raw(format!("mg {name} s").as_bytes()), "EN");
            assert_eq!(
                server.raw(format!("mg {} s", holder(name)).as_bytes()),
                "EN"
            );
        }
        server.plant("k", b"");
        assert!(store.add(&key("k"), entry("1"), None).unwrap());
        assert!(!store.add(&key("k"), entry("2"), None).unwrap());
    });
}

/// Opens a store on several servers.
fn store_on(servers: &[&servers::Memcached], timeout: Duration) -> Memcached {
    let addresses = servers.iter().map(|server| server.address().to_string());
    let builder = addresses.fold(Memcached::builder(), cacheio_sync::MemcachedBuilder::server);
    builder.timeout(timeout).build().unwrap()
}

/// Returns a key that the server of this number holds.
fn key_on(store: &Memcached, servers: &[&servers::Memcached], number: usize) -> String {
    let names = (0..).map(|name| format!("ns:{name}"));
    let mut names = names.filter(|name| {
        let before = servers[number].stat("cmd_set");
        store.set(&key(name), entry("v"), None).unwrap();
        store.delete(&key(name)).unwrap();
        servers[number].stat("cmd_set") > before
    });
    names.next().unwrap()
}

#[test]
fn clear_removes_the_items_of_holders_from_each_server() {
    guarded(|| {
        let servers = [(); 3].map(|()| servers::lease::<servers::Memcached>());
        let servers = servers.each_ref().map(|server| &**server);
        let (one, other) = (store_on(&servers, SECOND), store_on(&servers, SECOND));
        let names: Vec<_> = (0..20).map(|number| format!("ns:{number}")).collect();
        let claims: Vec<_> = names.iter().map(|name| claim(&one, name)).collect();
        other.clear("ns:").unwrap();
        for server in servers {
            assert_eq!(server.stat("curr_items"), 0);
        }
        drop(claims);
    });
}

#[test]
fn a_server_that_hangs_costs_no_claims_on_others() {
    guarded(|| {
        let servers = [(); 2].map(|()| servers::Memcached::start());
        let servers = servers.each_ref();
        let open = || store_on(&servers, SECOND * 10);
        let (one, other) = (open(), open());
        let names = [key_on(&one, &servers, 0), key_on(&one, &servers, 1)];
        let claims = names.each_ref().map(|name| claim(&one, name));
        servers[0].pause();
        let began = Instant::now();
        while began.elapsed() < SECOND * 7 {
            assert!(is_claimed_by_another(&other, &names[1]));
            sleep(Duration::from_millis(100));
        }
        servers[0].resume();
        drop(claims);
    });
}

#[test]
fn a_batch_is_stored_on_the_servers_that_are_up() {
    in_both_worlds(|world| async move {
        let servers = [(); 2].map(|()| servers::Memcached::start());
        let servers = servers.each_ref();
        let store = store_on(&servers, SECOND);
        servers[0].kill();
        let cache = cache_of(world, store, true);
        let keys: Vec<usize> = (0..20).collect();
        let load = |missing: Vec<usize>| {
            std::future::ready(
                missing
                    .into_iter()
                    .map(|key| (key, key))
                    .collect::<Vec<_>>(),
            )
        };
        cache.get_or_set_many(keys.clone(), load).await;
        assert!(servers[1].stat("curr_items") > 0);
    });
}

/// Starts a server that finds nothing, and removes it all the same: something is stored in between.
fn server_with_a_set_between() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            spawn(move || {
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap_or_default();
                    let token = line.split(' ').find(|flag| flag.starts_with('O'));
                    let response = match line.get(..2) {
                        Some("mg") => "EN\r\n".to_owned(),
                        Some("md") => format!("HD {}\r\n", token.unwrap()),
                        _ => "MN\r\n".to_owned(),
                    };
                    if stream.write_all(response.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_delete_reports_an_entry_that_was_set_after_its_look() {
    guarded(|| {
        let url = format!("memcache://{}", server_with_a_set_between());
        let store = Memcached::new(&url).unwrap();
        assert!(store.delete(&key("k")).unwrap());
        assert_eq!(store.delete_many(&[key("k"), key("l")]).unwrap(), 2);
    });
}
