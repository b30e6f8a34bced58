//! Servers that send malformed or unexpected responses.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::spawn;
use std::time::Duration;

use cacheio_sync::Memcached;
use cacheio_sync::store::Store;
use cacheio_tests::watchdog::guarded;

use super::{key, text};

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
            b"VA 3 O0\r\nabcdef\r\nMN\r\n",
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
