//! A call ends within its timeout, however slowly the server sends.

use std::time::{Duration, Instant};

use cacheio_sync::{ErrorKind, Memcached};
use cacheio_tests::BUSY;
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::servers::{self, Proxy};

use super::endpoints::ServerProcess;
use super::{cache, in_both_worlds};

const TIMEOUT: Duration = Duration::from_millis(300);

/// Checks that each call fails within its timeout.
async fn each_call_ends_in_time(calls: &CacheApi, fresh: impl Fn() -> CacheApi) {
    for round in 0..5 {
        // The circuit of a new cache is closed.
        let new = fresh();
        let cache = if round == 0 { calls } else { &new };
        let began = Instant::now();
        let outcome = match round {
            0 | 1 => cache.get::<String>("k").await.map(drop),
            2 => cache.set("k", "v").await,
            3 => cache.get_many::<String>(vec!["a", "b"]).await.map(drop),
            _ => {
                let loaded = cache.get_or_set("k", || async { "v".to_owned() }).await;
                assert_eq!(loaded, "v");
                assert!(
                    began.elapsed() < TIMEOUT * 2 + BUSY,
                    "{:?}",
                    began.elapsed()
                );
                continue;
            }
        };
        let took = began.elapsed();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout, "{round}");
        assert!(took < TIMEOUT + BUSY, "{round}: {took:?}");
    }
}

#[test]
fn a_server_that_sends_byte_by_byte_does_not_prolong_a_call() {
    in_both_worlds(|world| async move {
        let server = servers::lease::<servers::Memcached>();
        let proxy = Proxy::to(server.address());
        let fresh = || cache(world, plain(&proxy));
        let warm = fresh();
        warm.set("k", "x".repeat(10_000)).await.unwrap();
        proxy.drip(Duration::from_millis(100));
        each_call_ends_in_time(&warm, fresh).await;
    });
}

fn plain(proxy: &Proxy) -> Memcached {
    Memcached::builder()
        .server(proxy.address().to_string())
        .timeout(TIMEOUT)
        .build()
        .unwrap()
}

fn with_tls(server: &ServerProcess, proxy: &Proxy) -> Memcached {
    Memcached::builder()
        .server(format!("localhost:{}", proxy.address().port()))
        .tls_ca(server.file("ca.pem"))
        .tls_identity(server.file("client.pem"), server.file("client.key"))
        .timeout(TIMEOUT)
        .build()
        .unwrap()
}

#[test]
fn a_tls_server_that_sends_byte_by_byte_does_not_prolong_a_call() {
    in_both_worlds(|world: World| async move {
        let server = ServerProcess::start_with_tls();
        let proxy = Proxy::to(([127, 0, 0, 1], server.port).into());
        let fresh = || cache(world, with_tls(&server, &proxy));
        let warm = fresh();
        let value = "x".repeat(10_000);
        warm.set("k", value.clone()).await.unwrap();
        assert_eq!(warm.get("k").await.unwrap(), Some(value));
        // The warm cache has a connection, so its responses arrive slowly; those of the others are
        // in their handshakes.
        proxy.drip(Duration::from_millis(100));
        each_call_ends_in_time(&warm, fresh).await;
    });
}
