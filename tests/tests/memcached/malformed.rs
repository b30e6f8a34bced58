//! Servers that send malformed or unexpected responses.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::spawn;
use std::time::Duration;

use cacheio_sync::store::Store;
use cacheio_sync::{ErrorKind, Memcached};
use cacheio_tests::watchdog::guarded;

use super::{entry, key, text};

/// Starts a server that responds to every line with the same bytes. Returns its address and the
/// number of connections it accepted.
fn fake_server(response: &'static [u8]) -> (SocketAddr, &'static AtomicUsize) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connections: &AtomicUsize = Box::leak(Box::default());
    spawn(move || {
        for stream in listener.incoming() {
            connections.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            spawn(move || {
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if stream.write_all(response).is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
    });
    (address, connections)
}

#[test]
fn no_key_gets_the_value_of_another_from_malformed_responses() {
    guarded(|| {
        for response in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
            b"VA 3 O1\r\nabc\r\nVA 3 O0\r\nabc\r\nMN\r\n",
            b"VA 3 O9\r\nabc\r\nMN\r\n",
            b"VA 3\r\nabc\r\nMN\r\n",
            b"HD O0\r\nHD O1\r\nMN\r\n",
            b"VA 3 O0\r\nabcdef\r\nMN\r\n",
            b"VA 3 O0\r\nab\r\nMN\r\n",
            b"VA 1073741824 O0\r\nabc",
            b"VA 99999999999999999999 O0\r\n",
            b"CLIENT_ERROR bad command line format\r\nMN\r\n",
        ] {
            let (address, _) = fake_server(response);
            let store = Memcached::builder()
                .server(address.to_string())
                .timeout(Duration::from_millis(200))
                .build()
                .unwrap();
            let found = store.get_many(&[key("a"), key("b")]);
            assert!(found.is_err(), "{found:?}");
            if response != b"HD O0\r\nHD O1\r\nMN\r\n" {
                let deleted = store.delete_many(&[key("a"), key("b")]);
                assert!(deleted.is_err(), "{deleted:?}");
            }
        }
    });
}

#[test]
fn a_connection_with_unexpected_bytes_is_not_reused() {
    let (address, connections) = fake_server(b"VA 1\r\n1\r\nVA 1\r\n2\r\n");
    let store = Memcached::new(&format!("memcache://{address}")).unwrap();
    for _ in 0..5 {
        assert_eq!(text(store.get(&key("k")).unwrap()).as_deref(), Some("1"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[test]
fn a_connection_with_a_response_that_does_not_fit_is_not_reused() {
    type Operation = fn(&Memcached) -> cacheio_sync::Result<()>;
    let operations: [(&[u8], Operation); 9] = [
        (b"HD\r\n", |store| store.get(&key("k")).map(drop)),
        (b"VA 1\r\n1\r\n", |store| store.has(&key("k")).map(drop)),
        (b"EN\r\n", |store| store.set(&key("k"), entry("v"), None)),
        (b"EX\r\n", |store| {
            store.add(&key("k"), entry("v"), None).map(drop)
        }),
        (b"EX\r\n", |store| store.delete(&key("k")).map(drop)),
        (b"NS\r\n", |store| store.touch(&key("k"), None).map(drop)),
        (b"HD\r\n", |store| {
            store.increment(&key("k"), 1, None).map(drop)
        }),
        (b"HD\r\n", |store| {
            store.increment(&key("k"), -1, None).map(drop)
        }),
        (b"EN\r\n", |store| store.ping()),
    ];
    guarded(move || {
        for (index, (response, operation)) in operations.into_iter().enumerate() {
            let (address, connections) = fake_server(response);
            let store = Memcached::new(&format!("memcache://{address}")).unwrap();
            for count in 1..4 {
                let Err(_) = operation(&store) else {
                    panic!("operation {index} takes the response");
                };
                // An open circuit is closed by a probe, which has a connection too.
                let connections = connections.load(Ordering::SeqCst);
                assert!(connections >= count, "operation {index}: {connections}");
            }
        }
    });
}

#[test]
fn a_repeated_response_is_not_taken_for_that_to_another_request() {
    guarded(|| {
        let (address, connections) = fake_server(b"VA 1 O987654321\r\n1\r\n");
        let store = Memcached::new(&format!("memcache://{address}")).unwrap();
        for count in 1..4 {
            let found = store.get(&key("k"));
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Server);
            assert_eq!(connections.load(Ordering::SeqCst), count);
        }
    });
}

#[test]
fn a_server_that_responds_with_wrong_bytes_is_not_taken_for_one_that_is_down() {
    let responses: [&[u8]; 4] = [
        b"VA 1\r\nvalue\r\n",
        b"VA one\r\n1\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\r\n",
    ];
    guarded(move || {
        for response in responses {
            let (address, connections) = fake_server(response);
            let store = Memcached::new(&format!("memcache://{address}")).unwrap();
            for count in 1..4 {
                let found = store.get(&key("k"));
                assert_eq!(found.unwrap_err().kind(), ErrorKind::Server, "{response:?}");
                // The circuit did not open: each call reaches the server.
                assert_eq!(connections.load(Ordering::SeqCst), count, "{response:?}");
            }
        }
    });
}
