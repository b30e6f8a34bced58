//! A Redis Cluster whose slots move and whose nodes hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::Redis;
use cacheio_core::{AsyncStore, Entry, Key};
use cacheio_tests::BUSY;
use cacheio_tests::servers::{FakeRedis, RedisCluster, Reply};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{MINUTE, get, run, set, store, until_up, with_short_timeout, with_timeout};

fn integer(cluster: &RedisCluster, node: usize, command: &str) -> i64 {
    match cluster.node(node).run(command) {
        Reply::Integer(integer) => integer,
        other => panic!("{command}: {other:?}"),
    }
}

#[test]
fn a_cluster_serves_every_operation() {
    let cluster = RedisCluster::start();
    run(async {
        let store = Redis::builder()
            .cluster(&cluster.urls()[..1])
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..50 {
            let store = store.clone();
            tasks.spawn(async move {
                for step in 0..50 {
                    let name = format!("c:{task}:{step}");
                    let key = Key::new(&name);
                    assert_eq!(get(&store, &name).await.unwrap(), None);
                    assert!(
                        store
                            .add(&key, Entry::bytes(b"1".to_vec()), MINUTE)
                            .await
                            .unwrap()
                    );
                    assert!(
                        !store
                            .add(&key, Entry::bytes(b"2".to_vec()), MINUTE)
                            .await
                            .unwrap()
                    );
                    assert_eq!(store.increment(&key, 5, MINUTE).await.unwrap(), 6);
                    assert!(store.has(&key).await.unwrap());
                    assert!(store.touch(&key, None).await.unwrap());
                    assert_eq!(get(&store, &name).await.unwrap().as_deref(), Some("6"));
                }
            });
        }
        tasks.join_all().await;
        set(&store, "other", "1").await.unwrap();
        store.clear("c:").await.unwrap();
        let left = (0..3).map(|node| integer(&cluster, node, "DBSIZE"));
        assert_eq!(left.sum::<i64>(), 1);
        store.ping().await.unwrap();
    });
}

#[test]
fn requests_follow_a_slot_that_moves() {
    let cluster = RedisCluster::start();
    run(async {
        let store = store(&cluster.url());
        for n in 0..100 {
            set(&store, &format!("k{n}"), "v").await.unwrap();
        }
        // "k1" is in slot 12706, on the third node. It moves to the first while it has keys.
        let (slot, from, to) = (cluster.slot("k1"), 2, 0);
        cluster.begin_migration(slot, from, to);
        // The key has moved, the slot not yet: the old node replies ASK.
        cluster.migrate(from, to, "k1");
        assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("v"));
        assert_eq!(
            store
                .increment(&Key::new("{k1}n"), 2, MINUTE)
                .await
                .unwrap(),
            2
        );
        let both = [Key::new("k1"), Key::new("k2")];
        assert!(
            store
                .get_many(&both)
                .await
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
        cluster.end_migration(slot, from, to);
        assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("v"));
        assert!(
            store
                .get_many(&both)
                .await
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
        set(&store, "k1", "w").await.unwrap();
        assert_eq!(get(&store, "k1").await.unwrap().as_deref(), Some("w"));
    });
}

#[test]
fn a_hanging_node_does_not_affect_other_nodes() {
    let cluster = RedisCluster::start();
    run(async {
        let store = with_short_timeout(&cluster.url());
        for n in 0..30 {
            set(&store, &format!("k{n}"), "v").await.unwrap();
        }
        cluster.node(2).pause();
        let mut failed = 0;
        for n in 0..30 {
            let start = Instant::now();
            failed += usize::from(get(&store, &format!("k{n}")).await.is_err());
            assert!(
                start.elapsed() < Duration::from_millis(500) + BUSY,
                "{:?}",
                start.elapsed()
            );
        }
        cluster.node(2).resume();
        assert!((1..30).contains(&failed), "{failed}");
        until_up(&store).await;
        for n in 0..30 {
            assert_eq!(
                get(&store, &format!("k{n}")).await.unwrap().as_deref(),
                Some("v")
            );
        }
    });
}

/// The time before the redirect counts, also for a request that then waits for a batch.
#[test]
fn a_redirect_to_a_hanging_node_takes_no_longer_than_the_timeout() {
    let cluster = RedisCluster::start();
    run(async {
        let store = with_timeout(&cluster.url(), Duration::from_secs(2));
        for n in 0..30 {
            set(&store, &format!("k{n}"), "v").await.unwrap();
        }
        // The slot of "k1" moves from the third node to the first.
        store.delete(&Key::new("k1")).await.unwrap();
        cluster.begin_migration(cluster.slot("k1"), 2, 0);
        cluster.end_migration(cluster.slot("k1"), 2, 0);
        cluster.node(0).pause();
        cluster.node(2).pause();
        let mut readers = JoinSet::new();
        for _ in 0..30 {
            let store = store.clone();
            readers.spawn(async move {
                let began = Instant::now();
                assert!(get(&store, "k1").await.is_err());
                began.elapsed()
            });
        }
        sleep(Duration::from_millis(800)).await;
        cluster.node(2).resume();
        let waited = readers.join_all().await.into_iter().max().unwrap();
        assert!(waited < Duration::from_millis(2_500) + BUSY, "{waited:?}");
        cluster.node(0).resume();
    });
}

#[test]
fn a_cluster_that_is_down_at_start_is_used_once_it_is_up() {
    let cluster = RedisCluster::start();
    run(async {
        let store = with_short_timeout(&cluster.url());
        (0..3).for_each(|node| cluster.node(node).pause());
        for call in 0..5 {
            let start = Instant::now();
            assert!(get(&store, "k").await.is_err());
            let limit = if call == 0 { 500 } else { 0 };
            let took = start.elapsed();
            assert!(
                took < Duration::from_millis(limit) + BUSY,
                "call {call}: {took:?}"
            );
        }
        (0..3).for_each(|node| cluster.node(node).resume());
        assert!(until_up(&store).await < Duration::from_secs(1) + BUSY);
        set(&store, "k", "v").await.unwrap();
    });
}

#[test]
fn operations_on_several_keys_work_while_their_slot_moves() {
    let cluster = RedisCluster::start();
    run(async {
        let store = store(&cluster.url());
        let names: Vec<_> = (0..10).map(|n| format!("{{k1}}{n}")).collect();
        let keys: Vec<_> = names.iter().map(|name| Key::new(name)).collect();
        let entries = |ttl| {
            let keys = keys.iter();
            keys.map(|key| (*key, Entry::bytes(b"v".to_vec()), ttl))
                .collect()
        };
        store.set_many(entries(None)).await.unwrap();
        let (from, to) = (2, 0);
        cluster.begin_migration(cluster.slot("k1"), from, to);
        // None of the keys has moved, some, all.
        for moved in [0..0, 0..5, 5..10] {
            for name in &names[moved] {
                cluster.migrate(from, to, name);
            }
            let found = store.get_many(&keys).await.unwrap();
            assert!(found.iter().all(Option::is_some));
            for ttl in [None, MINUTE] {
                store.set_many(entries(ttl)).await.unwrap();
            }
            let found = store.get_many(&keys).await.unwrap();
            assert!(found.iter().all(Option::is_some));
        }
        assert_eq!(store.delete_many(&keys).await.unwrap(), 10);
        assert_eq!(store.delete_many(&keys).await.unwrap(), 0);
    });
}

const ALL_SLOTS: &str = "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$-1\r\n:PORT\r\n$1\r\na\r\n";

/// Starts a node that has all slots, does not tell its host, and gives other replies as `reply`
/// says.
fn fake_node(
    reply: impl Fn(&[String], u16) -> Option<String> + Send + Sync + 'static,
) -> FakeRedis {
    let port = Arc::new(AtomicU16::new(0));
    let own = Arc::clone(&port);
    let node = FakeRedis::start(move |command| {
        let port = own.load(Ordering::SeqCst);
        reply(command, port).or_else(|| {
            Some(match command[0].as_str() {
                "CLUSTER" => ALL_SLOTS.replace("PORT", &port.to_string()),
                _ => FakeRedis::usual_reply(command),
            })
        })
    });
    port.store(node.address().port(), Ordering::SeqCst);
    node
}

/// As with `cluster-preferred-endpoint-type unknown-endpoint`.
#[test]
fn a_redirect_without_a_host_leads_to_the_host_of_the_node() {
    for (redirect, host) in [("MOVED", ""), ("ASK", ""), ("MOVED", "?"), ("ASK", "?")] {
        let first = AtomicBool::new(true);
        let node = fake_node(move |command, port| {
            let redirects = command[0] == "SET" && first.swap(false, Ordering::SeqCst);
            redirects.then(|| format!("-{redirect} 1 {host}:{port}\r\n"))
        });
        run(async {
            let store = store(&format!("redis-cluster://{}", node.address()));
            let written = set(&store, "k", "5").await;
            written.unwrap_or_else(|error| panic!("{redirect} {host}: {error:?}"));
            assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("5"));
        });
    }
}

#[test]
fn a_cluster_that_is_down_costs_its_callers_no_time() {
    for refusal in [
        "-CLUSTERDOWN The cluster is down\r\n",
        "-CLUSTERDOWN Hash slot not served\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
    ] {
        let down = Arc::new(AtomicBool::new(true));
        let is_down = Arc::clone(&down);
        let node = fake_node(move |command, _| {
            let refuses = matches!(command[0].as_str(), "GET" | "SET" | "MGET" | "UNLINK");
            (refuses && is_down.load(Ordering::SeqCst)).then(|| refusal.to_owned())
        });
        run(async {
            let store = store(&format!("redis-cluster://{}", node.address()));
            assert!(get(&store, "k").await.is_err());
            let start = Instant::now();
            for n in 0..50 {
                assert!(get(&store, &format!("k{n}")).await.is_err());
                assert!(set(&store, &format!("k{n}"), "v").await.is_err());
                assert!(
                    store
                        .get_many(&[Key::new("a"), Key::new("b")])
                        .await
                        .is_err()
                );
            }
            let took = start.elapsed();
            assert!(took < Duration::from_secs(10), "{refusal}: {took:?}");
            down.store(false, Ordering::SeqCst);
            get(&store, "k").await.unwrap();
        });
    }
}

#[test]
fn a_cluster_that_changes_for_a_moment_causes_no_error() {
    let refusals = AtomicUsize::new(4);
    let node = fake_node(move |command, _| {
        let refuses = command[0] == "GET"
            && refusals
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        refuses.then(|| "-TRYAGAIN later\r\n".to_owned())
    });
    run(async {
        let store = store(&format!("redis-cluster://{}", node.address()));
        get(&store, "k").await.unwrap();
    });
}
