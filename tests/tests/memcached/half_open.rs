//! A network that has lost a connection without a sign of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_sync::{ErrorKind, Memcached};
use cacheio_tests::servers;

use super::{cache, in_both_worlds};

/// A network between client and server, which can lose its connections: then no byte, and no end of
/// the stream, reaches the other side.
struct Network {
    address: SocketAddr,
    /// The connections with a lower number are lost.
    lost: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Network {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let network = Self {
            address: listener.local_addr().unwrap(),
            lost: Arc::default(),
            connections: Arc::default(),
        };
        let (lost, connections) = (network.lost.clone(), network.connections.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(server).unwrap();
                let number = connections.fetch_add(1, Ordering::SeqCst);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let lost = Arc::clone(&lost);
                    thread::spawn(move || relay(from, to, || number < lost.load(Ordering::SeqCst)));
                }
            }
        });
        network
    }

    /// Loses all connections that are open.
    fn lose_connections(&self) {
        let connections = self.connections.load(Ordering::SeqCst);
        self.lost.store(connections, Ordering::SeqCst);
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, is_lost: impl Fn() -> bool) {
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if is_lost() {
            // The sockets stay open.
            loop {
                thread::park();
            }
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            let _ = to.shutdown(std::net::Shutdown::Write);
            return;
        }
    }
}

#[test]
fn a_lost_connection_with_a_write_on_it_stops_no_reads_and_no_writes() {
    in_both_worlds(|world| async move {
        let server = servers::lease::<servers::Memcached>();
        let network = Network::to(server.address());
        let store = Memcached::builder()
            .server(network.address.to_string())
            .timeout(Duration::from_secs(1))
            .build()
            .unwrap();
        let cache = cache(world, store);
        let mut rounds = Vec::new();
        for _ in 0..3 {
            cache.set("k", 1).await.unwrap();
            network.lose_connections();
            let error = cache.set("k", 2).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);

            let began = Instant::now();
            while cache.get::<i32>("k").await.is_err() {
                world.sleep(Duration::from_millis(2)).await;
            }
            let until_read = began.elapsed();
            cache.set("k", 3).await.unwrap();
            let until_write = began.elapsed();
            for _ in 0..20 {
                cache.set("k", 4).await.unwrap();
                assert_eq!(cache.get("k").await.unwrap(), Some(4));
            }
            rounds.push((until_read, until_write));
        }
        // Other rounds may be slow on a busy machine.
        let (until_read, until_write) = rounds.iter().min().unwrap();
        assert!(*until_read < Duration::from_millis(300), "{rounds:?}");
        assert!(*until_write < Duration::from_millis(600), "{rounds:?}");
    });
}
