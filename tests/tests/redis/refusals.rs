//! Servers and proxies that refuse what is not essential, and servers that are no longer what they
//! were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::ErrorKind;
use cacheio_core::{AsyncStore, Entry, Key};
use cacheio_tests::servers::{self, FakeRedis, Proxy, Reply};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{MINUTE, get, run, set, store, with_short_timeout};

#[test]
fn a_server_that_refuses_hello_in_any_words_is_used_with_resp2() {
    for refusal in [
        "-NOPROTO unsupported protocol version\r\n",
        "-ERR unsupported command\r\n",
        "-ERR unknown command 'HELLO', with args beginning with: '3'\r\n",
        "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n",
        "-ERR Protocol version is not an integer or out of range\r\n",
        "-NOPERM this user has no permissions to run the 'hello' command\r\n",
        "-NOAUTH Authentication required.\r\n",
        "-DENIED no\r\n",
        // Closes the connection.
        "",
    ] {
        let signed_in = Arc::new(AtomicBool::new(false));
        let signs_in = Arc::clone(&signed_in);
        let server = FakeRedis::start(move |command| match command[0].as_str() {
            "HELLO" if refusal.is_empty() => None,
            "HELLO" => Some(refusal.into()),
            "AUTH" => {
                signs_in.store(command[1..] == ["me", "word"], Ordering::SeqCst);
                Some("+OK\r\n".into())
            }
            _ => Some(FakeRedis::usual_reply(command)),
        });
        run(async {
            let store = store(&format!("redis://me:word@{}", server.address()));
            for _ in 0..3 {
                let found = get(&store, "k").await;
                assert_eq!(found.unwrap().as_deref(), Some("5"), "{refusal}");
            }
            assert!(signed_in.load(Ordering::SeqCst), "{refusal}");
        });
    }
}

#[test]
fn a_server_without_hello_or_client_is_used() {
    for renamed in [
        &["--rename-command", "HELLO", ""][..],
        &["--rename-command", "CLIENT", ""],
        &[
            "--rename-command",
            "HELLO",
            "hi",
            "--rename-command",
            "CLIENT",
            "c",
            "--rename-command",
            "PING",
            "p",
        ],
    ] {
        let arguments = [renamed, &["--requirepass", "word"]].concat();
        let server = servers::Redis::start_with(&arguments);
        run(async {
            let store = store(&format!("redis://:word@{}/3", server.address()));
            set(&store, "k", "v").await.unwrap();
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
            store.increment(&Key::new("n"), 1, MINUTE).await.unwrap();
        });
    }
}

#[test]
fn a_proxy_that_closes_the_connection_at_an_optional_command_is_used() {
    for optional in ["CLIENT", "PING"] {
        let server = FakeRedis::start(move |command| {
            (command[0] != optional).then(|| FakeRedis::usual_reply(command))
        });
        run(async {
            let store = store(&server.url());
            for _ in 0..10 {
                assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("5"));
                set(&store, "k", "5").await.unwrap();
            }
            assert_eq!(server.connections(), 2, "{optional}");
        });
    }
}

#[test]
fn increment_needs_no_permission_for_transactions() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER none on >pass ~* +@all -@transaction");
    server.run("ACL SETUSER half on >pass ~* +@all -multi");
    for user in ["none", "half"] {
        run(async {
            let store = store(&format!("redis://{user}:pass@{}", server.address()));
            set(&store, "k", "v").await.unwrap();
            let mut tasks = JoinSet::new();
            for _ in 0..20 {
                let store = store.clone();
                tasks.spawn(async move {
                    for _ in 0..20 {
                        store.increment(&Key::new("n"), 1, MINUTE).await.unwrap();
                        assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
                        assert!(store.touch(&Key::new("k"), None).await.unwrap());
                    }
                });
            }
            tasks.join_all().await;
            assert_eq!(get(&store, "n").await.unwrap().as_deref(), Some("400"));
            assert!(matches!(server.run("PTTL n"), Reply::Integer(1..=60_000)));
            assert_eq!(store.circuit_opens(), 0);
            store.delete(&Key::new("n")).await.unwrap();
        });
    }
}

#[test]
fn a_refused_command_costs_no_other_caller_its_connection() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER reader on >pass ~* -@all +get +mget +ping");
    let proxy = Proxy::to(server.address());
    run(async {
        let store = store(&format!("redis://reader:pass@{}", proxy.address()));
        get(&store, "k").await.unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..40 {
            let store = store.clone();
            tasks.spawn(async move {
                let key = Key::new("n");
                for _ in 0..10 {
                    let refused = match task % 4 {
                        0 => store.increment(&key, 1, MINUTE).await.map(drop),
                        1 => store.touch(&key, None).await.map(drop),
                        2 => {
                            store
                                .set_many(vec![(key, Entry::bytes(b"1".to_vec()), None)])
                                .await
                        }
                        _ => store.delete(&key).await.map(drop),
                    };
                    let error = refused.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
                    assert!(error.to_string().contains("ACL"), "{error:?}");
                    get(&store, "k").await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(store.circuit_opens(), 0);
        assert_eq!(proxy.connections(), 1);
    });
}

/// One address leads to the master: a name, or a service of Kubernetes.
#[test]
fn after_a_failover_at_one_address_writes_reach_the_new_master() {
    let (old, new) = (servers::Redis::start(), servers::Redis::start());
    let proxy = Proxy::to(old.address());
    run(async {
        let store = store(&format!("redis://{}", proxy.address()));
        set(&store, "k", "v").await.unwrap();
        old.run(&format!("REPLICAOF 127.0.0.1 {}", new.port()));
        // The address follows later.
        for _ in 0..20 {
            assert!(set(&store, "k", "w").await.is_err());
        }
        proxy.lead_to(new.address());
        let start = Instant::now();
        while set(&store, "k", "w").await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "still refused");
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(new.run("EXISTS k"), Reply::Integer(1));
    });
}

#[test]
fn every_write_that_a_replica_refuses_looks_for_the_master() {
    type Write = fn(&cacheio_async::Redis) -> cacheio_core::BoxFuture<'_, bool>;
    let writes: [Write; 5] = [
        |store| Box::pin(async { set(store, "k", "w").await.is_ok() }),
        |store| {
            Box::pin(async {
                let entries = (0..9).map(|_| (Key::new("k"), Entry::bytes(b"1".to_vec()), MINUTE));
                store.set_many(entries.collect()).await.is_ok()
            })
        },
        |store| Box::pin(async { store.delete_many(&[Key::new("k")]).await.is_ok() }),
        |store| Box::pin(async { store.increment(&Key::new("n"), 1, MINUTE).await.is_ok() }),
        |store| Box::pin(async { store.touch(&Key::new("k"), None).await.is_ok() }),
    ];
    let (old, new) = (servers::Redis::start(), servers::Redis::start());
    old.run(&format!("REPLICAOF 127.0.0.1 {}", new.port()));
    for write in writes {
        let proxy = Proxy::to(old.address());
        run(async {
            let store = store(&format!("redis://{}", proxy.address()));
            store.ping().await.unwrap();
            proxy.lead_to(new.address());
            assert!(write(&store).await);
        });
    }
}

#[test]
fn a_replica_for_good_is_read_and_not_connected_to_again_and_again() {
    for refusal in [
        "-READONLY You can't write against a read only replica.\r\n",
        "-MASTERDOWN Link with MASTER is down.\r\n",
    ] {
        let server = FakeRedis::start(move |command| {
            Some(match command[0].as_str() {
                "SET" => refusal.into(),
                _ => FakeRedis::usual_reply(command),
            })
        });
        run(async {
            let store = store(&server.url());
            let start = Instant::now();
            for _ in 0..300 {
                assert!(set(&store, "k", "v").await.is_err());
                assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("5"));
            }
            let most = 6 + start.elapsed().as_millis() as usize / 400;
            assert!(server.connections() <= most, "{}", server.connections());
            assert_eq!(store.circuit_opens(), 0);
        });
    }
}

#[test]
fn a_connection_closed_while_idle_costs_increment_nothing() {
    let server = servers::Redis::start_with(&["--timeout", "1"]);
    for url in [server.url(), format!("{}?protocol=resp2", server.url())] {
        run(async {
            let store = store(&url);
            let n = Key::new("n");
            let first = store.increment(&n, 1, MINUTE).await.unwrap();
            sleep(Duration::from_millis(2_500)).await;
            assert_eq!(store.increment(&n, 1, MINUTE).await.unwrap(), first + 1);
            assert_eq!(store.circuit_opens(), 0);
        });
    }
}

#[test]
fn one_broken_connection_does_not_open_the_circuit() {
    let server = FakeRedis::start(|command| {
        (command[0] != "INCRBY").then(|| FakeRedis::usual_reply(command))
    });
    for protocol in ["resp2", "resp3"] {
        run(async {
            let store = store(&format!("{}?protocol={protocol}", server.url()));
            for _ in 0..5 {
                let error = store.increment(&Key::new("n"), 1, None).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("5"));
            }
            assert_eq!(store.circuit_opens(), 0);
        });
    }
}

#[test]
fn after_a_change_of_the_password_the_error_says_so() {
    let changed = Arc::new(AtomicBool::new(false));
    let change = Arc::clone(&changed);
    let server = FakeRedis::start(move |command| {
        Some(match (command[0].as_str(), change.load(Ordering::SeqCst)) {
            ("HELLO", true) => "-WRONGPASS invalid username-password pair\r\n".into(),
            ("GET" | "PING", true) => String::new(),
            _ => FakeRedis::usual_reply(command),
        })
    });
    run(async {
        let store = with_short_timeout(&format!("redis://:word@{}", server.address()));
        get(&store, "k").await.unwrap();
        changed.store(true, Ordering::SeqCst);
        // The old connection hangs, and opens the circuit.
        assert_eq!(
            get(&store, "k").await.unwrap_err().kind(),
            ErrorKind::Timeout
        );
        sleep(Duration::from_secs(1)).await;
        for _ in 0..5 {
            let error = get(&store, "k").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
            assert!(error.to_string().contains("password"), "{error:?}");
        }
        changed.store(false, Ordering::SeqCst);
        get(&store, "k").await.unwrap();
    });
}
