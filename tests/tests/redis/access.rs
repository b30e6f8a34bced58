//! Passwords, permissions, databases, sockets, and clients that the user configured.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::{AsyncCache, ErrorKind, Redis};
use cacheio_core::{AsyncStore, Key, Options};
use cacheio_tests::BUSY;
use cacheio_tests::servers;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{MINUTE, get, run, set, store, with_short_timeout};

#[test]
fn a_wrong_password_is_an_error_until_it_is_right() {
    let server = servers::Redis::start_with(&["--requirepass", "secret-a"]);
    run(async {
        let at = server.address();
        for url in [format!("redis://:secret-b@{at}"), format!("redis://{at}")] {
            let store = store(&url);
            let error = set(&store, "k", "v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
            assert!(
                !format!("{error:?} {store:?}").contains("secret"),
                "{error:?}"
            );
        }
        let store = store(&format!("redis://:secret-b@{at}"));
        assert!(set(&store, "k", "v").await.is_err());
        server.run_as("secret-a", "CONFIG SET requirepass secret-b");
        set(&store, "k", "v").await.unwrap();
        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    });
}

#[test]
fn a_user_with_few_permissions_suffices() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER little on >pass ~shop:* -@all +get +mget +set +mset +unlink +exists +incrby +multi +exec +scan +ping");
    run(async {
        let store = store(&format!("redis://little:pass@{}", server.address()));
        set(&store, "shop:k", "v").await.unwrap();
        assert_eq!(get(&store, "shop:k").await.unwrap().as_deref(), Some("v"));
        assert_eq!(
            store
                .increment(&Key::new("shop:n"), 1, MINUTE)
                .await
                .unwrap(),
            1
        );
        store.clear("shop:").await.unwrap();
        let error = set(&store, "other:k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server);
        assert!(error.to_string().contains("ACL"), "{error}");
    });
}

/// The script that records the failure of a load is refused: the pause holds in this process.
#[test]
fn without_scripts_a_stale_value_is_served_and_its_load_is_delayed() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER little on >pass ~* -@all +get +set +ping");
    run(async {
        let store = store(&format!("redis://little:pass@{}", server.address()));
        let cache = AsyncCache::builder().store(store).build().unwrap();
        let second = Duration::from_secs(1);
        let options = Options::ttl(second / 10).stale_for(second * 60);
        cache.set_with("k", 1, options.clone()).await.unwrap();
        sleep(second / 5).await;
        let loads = AtomicUsize::new(0);
        for _ in 0..5 {
            let load = async || {
                loads.fetch_add(1, Ordering::Relaxed);
                Err::<i32, _>("down")
            };
            let got = cache.get_or_try_set_with("k", options.clone(), load).await;
            assert_eq!(got.unwrap(), 1);
        }
        assert_eq!(loads.into_inner(), 1);
    });
}

#[test]
fn a_forbidden_key_does_not_affect_other_readers() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER some on >pass ~ok:* +@all");
    server.run("ACL SETUSER single on >pass ~* +@all -mget");
    run(async {
        let at = server.address();
        let some = store(&format!("redis://some:pass@{at}"));
        let single = store(&format!("redis://single:pass@{at}"));
        for store in [some, single] {
            set(&store, "ok:k", "v").await.unwrap();
            let mut readers = JoinSet::new();
            for reader in 0..100 {
                let store = store.clone();
                readers.spawn(async move {
                    let key = if reader % 10 == 0 { "other" } else { "ok:k" };
                    (key, get(&store, key).await)
                });
            }
            for (key, got) in readers.join_all().await {
                match (key, got) {
                    ("ok:k", got) => assert_eq!(got.unwrap().as_deref(), Some("v")),
                    (_, Ok(got)) => assert_eq!(got, None),
                    (_, Err(error)) => assert!(error.to_string().contains("ACL"), "{error}"),
                }
            }
        }
    });
}

#[test]
fn databases_are_separate() {
    let server = servers::Redis::start();
    run(async {
        let zero = store(&server.url());
        let one = store(&format!("{}/1", server.url()));
        let same = store(&format!("{}?db=1", server.url()));
        set(&one, "k", "v").await.unwrap();
        assert_eq!(get(&zero, "k").await.unwrap(), None);
        assert_eq!(get(&same, "k").await.unwrap().as_deref(), Some("v"));
    });
}

#[test]
fn a_unix_socket_works() {
    let socket = std::env::temp_dir().join(format!("cacheio-redis-{}.sock", std::process::id()));
    let path = socket.to_str().unwrap();
    let server = servers::Redis::start_with(&["--unixsocket", path]);
    run(async {
        let store = store(&format!("redis+unix://{path}?db=2"));
        set(&store, "k", "v").await.unwrap();
        server.kill();
        server.restart();
        assert_eq!(get(&store, "k").await.unwrap(), None);
        assert!(format!("{store:?}").contains(path));
    });
}

#[test]
fn a_client_that_the_user_configured_works() {
    let server = servers::Redis::start();
    run(async {
        let client = redis::Client::open(server.url()).unwrap();
        let store = Redis::from_client(client);
        set(&store, "k", "v").await.unwrap();
        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    });
}

#[test]
fn a_server_that_is_not_redis_is_an_error() {
    let memcached = servers::Memcached::start();
    run(async {
        let store = with_short_timeout(&format!("redis://{}", memcached.address()));
        for _ in 0..3 {
            let start = Instant::now();
            assert!(get(&store, "k").await.is_err());
            assert!(start.elapsed() < Duration::from_millis(500) + BUSY);
        }
    });
}
