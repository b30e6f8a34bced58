//! The servers that the tests start: they come up, can be harmed, and stop with the test.

#![cfg(not(shuttle))]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cacheio_tests::servers::{Memcached, Proxy, Redis, RedisCluster, Reply, lease};
use cacheio_tests::watchdog::guarded;

#[test]
fn a_memcached_is_killed_and_restarted_empty() {
    let server = Memcached::start();
    server.plant("k", b"v");
    assert_eq!(server.raw(b"get k"), "VALUE k 0 1");
    server.kill();
    assert!(TcpStream::connect(server.address()).is_err());
    server.restart();
    assert_eq!(server.raw(b"get k"), "END");
    assert_eq!(
        server.url(),
        format!("memcache://127.0.0.1:{}", server.port())
    );
}

#[test]
fn a_redis_is_killed_and_restarted_empty() {
    let server = Redis::start();
    server.plant("k", b"v");
    assert_eq!(server.run("GET k"), Reply::Text("v".into()));
    server.kill();
    assert!(TcpStream::connect(server.address()).is_err());
    server.restart();
    assert_eq!(server.run("GET k"), Reply::Nil);
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
}

#[test]
fn a_redis_with_a_password_starts() {
    let server = Redis::start_with(&["--requirepass", "secret"]);
    assert!(server.run("GET k").text().starts_with("NOAUTH"));
}

#[test]
fn a_paused_server_accepts_connections_and_responds_when_it_is_resumed() {
    let server = Redis::start();
    server.pause();
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.write_all(b"PING\r\n").unwrap();
    connection
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(connection.read(&mut [0; 1]).is_err());
    server.resume();
    connection
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut pong = [0; 7];
    connection.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"+PONG\r\n");
}

#[test]
fn a_cluster_is_complete() {
    let cluster = RedisCluster::start();
    let of_another = |i: usize| {
        cluster
            .node(i)
            .run("SET some-key v")
            .text()
            .starts_with("MOVED")
    };
    assert_eq!((0..3).filter(|&i| of_another(i)).count(), 2);
    assert_eq!(cluster.urls().len(), 3);
    assert!(cluster.url().starts_with("redis-cluster://127.0.0.1:"));
}

#[test]
fn a_leased_server_is_empty() {
    for _ in 0..3 {
        let (memcached, redis) = (lease::<Memcached>(), lease::<Redis>());
        assert_eq!(memcached.raw(b"get k"), "END");
        assert_eq!(redis.run("GET k"), Reply::Nil);
        memcached.plant("k", b"v");
        redis.plant("k", b"v");
    }
}

#[test]
fn a_paused_or_killed_server_is_not_leased_again() {
    let ports = [(); 2].map(|()| {
        let leased = lease::<Redis>();
        leased.pause();
        leased.port()
    });
    let leased = lease::<Redis>();
    leased.kill();
    assert!(!ports.contains(&leased.port()));
    drop(leased);
    assert_eq!(lease::<Redis>().run("PING"), Reply::Text("PONG".into()));
}

#[test]
fn a_proxy_counts_delays_and_cuts() {
    let server = Redis::start();
    let proxy = Proxy::to(server.address());
    let connect = || {
        let connection = TcpStream::connect(proxy.address()).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        connection
    };
    let ping = |connection: &mut TcpStream| {
        connection.write_all(b"PING\r\n").unwrap();
        let mut reply = String::new();
        let _ = BufReader::new(connection).read_line(&mut reply);
        reply
    };
    let mut connection = connect();
    assert_eq!(
        [ping(&mut connection), ping(&mut connection)],
        ["+PONG\r\n"; 2]
    );
    assert_eq!((proxy.connections(), proxy.round_trips()), (1, 2));
    assert_eq!((proxy.bytes_sent(), proxy.bytes_received()), (12, 14));

    proxy.cut_after(3);
    assert_eq!(ping(&mut connection), "+PO");
    assert_eq!(ping(&mut connect()), "+PONG\r\n");

    proxy.drip(Duration::from_millis(10));
    let start = Instant::now();
    assert_eq!(ping(&mut connect()), "+PONG\r\n");
    assert!(start.elapsed() >= Duration::from_millis(70));
    proxy.drip(Duration::ZERO);

    proxy.swallow(true);
    let mut connection = connect();
    connection
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert_eq!(ping(&mut connection), "");
    proxy.swallow(false);
    proxy.cut_now();
    assert_eq!(connection.read(&mut [0; 1]).unwrap_or(0), 0);
}

/// A server stops however the test process ends: here by SIGKILL.
#[test]
fn servers_stop_with_their_process() {
    const CHILD: &str = "CACHEIO_TEST_SERVERS_OF_A_CHILD";
    if env::var_os(CHILD).is_some() {
        let (memcached, redis) = (Memcached::start(), Redis::start());
        redis.pause();
        println!("\nservers {} {}", memcached.address(), redis.address());
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    guarded(|| {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "servers_stop_with_their_process", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("servers "))
            .unwrap();
        let addresses: Vec<SocketAddr> = line
            .split(' ')
            .skip(1)
            .map(|address| address.parse().unwrap())
            .collect();
        assert!(
            addresses
                .iter()
                .all(|address| TcpStream::connect(address).is_ok())
        );
        child.kill().unwrap();
        child.wait().unwrap();
        // The watchdog ends this loop if the server does not stop.
        while addresses
            .iter()
            .any(|address| TcpStream::connect(address).is_ok())
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}
