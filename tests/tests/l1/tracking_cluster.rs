//! The nodes of a cluster tell of changes, each of those in its own slots.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cacheio_core::Options;
use cacheio_sync::Cache;
use cacheio_tests::servers::{Proxy, Redis, RedisCluster, Reply};
use cacheio_tests::watchdog::guarded;

use crate::support::{
    LONG, SHORT, copy, get, nothing_old_after_the_bound, nothing_read_is_older_than_the_bound,
    open, until, until_batch_copied, until_copied, until_probed,
};

/// A key on each node.
const KEYS: [&str; 3] = ["d", "b", "c"];

/// Returns the key as the cluster has it.
fn stored(key: &str) -> String {
    format!("cacheio:{key}")
}

fn slot(cluster: &RedisCluster, key: &str) -> u16 {
    cluster.slot(&stored(key))
}

/// Writes to a node without following redirections.
fn write(cluster: &RedisCluster, node: usize, key: &str, value: i64) {
    let reply = cluster
        .node(node)
        .run(&format!("SET {} {value}", stored(key)));
    assert_eq!(reply, Reply::Text("OK".into()));
}

/// Gives the slot of a key to the second node, without its keys. Returns when the first node, which had it, knows.
fn reassign(cluster: &RedisCluster, key: &str) {
    let (slot, owner) = (slot(cluster, key), cluster.node(1));
    owner.run("CLUSTER BUMPEPOCH");
    let id = owner.run("CLUSTER MYID");
    for node in [1, 2] {
        let command = format!("CLUSTER SETSLOT {slot} NODE {}", id.text());
        cluster.node(node).run(&command);
    }
    let moved = || cluster.node(0).run(&format!("GET {}", stored(key)));
    while !moved().text().starts_with("MOVED") {
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_keys_are_on_different_nodes() {
    guarded(|| {
        let cluster = RedisCluster::start();
        for (node, key) in KEYS.iter().enumerate() {
            write(&cluster, node, key, 1);
        }
    });
}

#[test]
fn a_write_of_another_process_is_told() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let (cache, other) = (open(&cluster.url(), LONG), open(&cluster.url(), LONG));
        (0..3).for_each(|node| until_probed(cluster.node(node), &cache));
        for key in KEYS {
            cache.set(key, 0_i64).unwrap();
        }
        for value in 1..20 {
            match value % 2 {
                0 => KEYS
                    .iter()
                    .for_each(|key| copy(&cache, key, Some(value - 1))),
                _ => drop(cache.get_many::<i64>(KEYS).unwrap()),
            }
            let hits = cache.stats().l1_hits;
            assert_eq!(KEYS.map(|key| get(&cache, key)), [Some(value - 1); 3]);
            assert_eq!(cache.stats().l1_hits, hits + 3);
            match value % 3 {
                0 => other.set_many(KEYS.map(|key| (key, value))).unwrap(),
                1 => KEYS.iter().for_each(|key| other.set(key, value).unwrap()),
                _ => KEYS.iter().for_each(|key| {
                    assert_eq!(other.increment(key, 1).unwrap(), value);
                }),
            }
            for key in KEYS {
                until(&cache, key, Some(value));
            }
        }
        KEYS.iter().for_each(|key| copy(&cache, key, Some(19)));
        other.clear().unwrap();
        for key in KEYS {
            until(&cache, key, None);
        }
    });
}

/// Most tags are on another node than the entry.
#[test]
fn a_tag_that_another_process_invalidates_is_told() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let (cache, other) = (open(&cluster.url(), LONG), open(&cluster.url(), LONG));
        (0..3).for_each(|node| until_probed(cluster.node(node), &cache));
        for tag in ["t", "u", "v", "w"] {
            let options = || Options::new().tags([tag]);
            for key in KEYS {
                other.set_with(key, 1_i64, options()).unwrap();
                copy(&cache, key, Some(1));
            }
            let hits = cache.stats().l1_hits;
            KEYS.iter().for_each(|key| copy(&cache, key, Some(1)));
            assert_eq!(cache.stats().l1_hits, hits + 6);
            other.invalidate_tags([tag]).unwrap();
            for key in KEYS {
                until(&cache, key, None);
            }
        }
    });
}

#[test]
fn a_copy_outlives_the_bound_while_its_node_is_heard() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.url(), SHORT);
        for key in KEYS {
            cache.set(key, 1_i64).unwrap();
        }
        until_batch_copied(&KEYS, &cache, SHORT);
        for key in KEYS {
            until_copied(key, &cache, SHORT);
        }
    });
}

/// The keys of the slot are moved before it, and so told.
#[test]
fn a_slot_that_moves_is_told() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.url(), LONG);
        (0..3).for_each(|node| until_probed(cluster.node(node), &cache));
        let [key, ..] = KEYS;
        cache.set(key, 1_i64).unwrap();
        copy(&cache, key, Some(1));
        let slot = slot(&cluster, key);
        cluster.begin_migration(slot, 0, 1);
        cluster.end_migration(slot, 0, 1);
        write(&cluster, 1, key, 2);
        until(&cache, key, Some(2));
        // The new owner tells, too.
        sleep(SHORT);
        for value in 3..6 {
            copy(&cache, key, Some(value - 1));
            write(&cluster, 1, key, value);
            until(&cache, key, Some(value));
        }
    });
}

/// A node that had no slots when it was connected to tells of changes once it has some.
#[test]
fn a_node_that_gets_its_first_slot_tells_of_changes() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let node = cluster.start_node();
        let cache = open(&cluster.url(), SHORT);
        let key = KEYS[0];
        cache.set(key, 1_i64).unwrap();
        until_copied(key, &cache, SHORT);
        let slot = slot(&cluster, key);
        let ids = [cluster.node(0), &*node].map(|node| node.run("CLUSTER MYID"));
        let set = |node: &Redis, state: &str| {
            let reply = node.run(&format!("CLUSTER SETSLOT {slot} {state}"));
            assert_eq!(reply, Reply::Text("OK".into()));
        };
        set(&node, &format!("IMPORTING {}", ids[0].text()));
        set(cluster.node(0), &format!("MIGRATING {}", ids[1].text()));
        let migrate = format!("MIGRATE 127.0.0.1 {} {} 0 1000", node.port(), stored(key));
        assert_eq!(cluster.node(0).run(&migrate), Reply::Text("OK".into()));
        // It is read through a redirection.
        sleep(SHORT);
        assert_eq!(get(&cache, key), Some(1));
        for server in [&*node, cluster.node(0), cluster.node(1), cluster.node(2)] {
            set(server, &format!("NODE {}", ids[1].text()));
        }
        until_copied(key, &cache, SHORT);
        node.run(&format!("SET {} 2", stored(key)));
        assert!(until(&cache, key, Some(2)) < SHORT);
    });
}

/// While a slot moves, a key that has moved already is read through a redirection. Its copy is not trusted after
/// the bound, whichever node has the key then.
#[test]
fn a_copy_of_what_was_redirected_ends_by_itself() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.url(), SHORT);
        let [key, other, _] = KEYS;
        cache.set(key, 1_i64).unwrap();
        cache.set(other, 1_i64).unwrap();
        until_copied(key, &cache, SHORT);
        until_copied(other, &cache, SHORT);
        cluster.begin_migration(slot(&cluster, key), 0, 1);
        cluster.migrate(0, 1, &stored(key));
        let mut hits = 0;
        for _ in 0..6 {
            assert_eq!(get(&cache, key), Some(1));
            let before = cache.stats().l1_hits;
            sleep(SHORT);
            assert_eq!(cache.get_many::<i64>([key]).unwrap(), [Some(1)]);
            hits += cache.stats().l1_hits - before;
        }
        assert_eq!(hits, 0);
    });
}

/// The rest of the TTL is only for the copy.
#[test]
fn what_was_redirected_is_read_without_the_rest_of_its_ttl() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let [key, ..] = KEYS;
        for node in 0..3 {
            let node = cluster.node(node);
            node.run("ACL SETUSER plain on >pw ~* &* +@all -pttl");
        }
        let url = cluster.url().replace("://", "://plain:pw@");
        let cache = open(&url, SHORT);
        cache.set(key, 1_i64).unwrap();
        cluster.begin_migration(slot(&cluster, key), 0, 1);
        cluster.migrate(0, 1, &stored(key));
        for _ in 0..3 {
            assert_eq!(get(&cache, key), Some(1));
            cache.clear_l1();
        }
    });
}

/// All requests of a get have one timeout.
#[test]
fn a_get_that_is_redirected_keeps_to_the_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    guarded(|| {
        let cluster = RedisCluster::start();
        let proxy = announce_proxy(&cluster);
        let cache = open(&format!("{}?timeout=2s", cluster.url()), LONG);
        let [key, other, _] = KEYS;
        cache.set(key, 1_i64).unwrap();
        cache.set(other, 1_i64).unwrap();
        assert!(proxy.connections() > 0);
        cluster.begin_migration(slot(&cluster, key), 0, 1);
        cluster.migrate(0, 1, &stored(key));
        assert_eq!(get(&cache, key), Some(1));
        proxy.delay(TIMEOUT * 7 / 10);
        cluster.node(1).pause();
        cache.clear_l1();
        let begun = Instant::now();
        assert!(cache.get::<i64>(key).is_err());
        let elapsed = begun.elapsed();
        cluster.node(1).resume();
        assert!(elapsed < TIMEOUT * 7 / 5, "{elapsed:?}");
    });
}

/// A slot gets another owner without its keys: the old owner drops them, and Redis 7.0 tells no client.
#[test]
fn a_slot_that_is_reassigned_is_not_trusted_after_the_bound() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.url(), SHORT);
        let [key, ..] = KEYS;
        cache.set(key, 1_i64).unwrap();
        until_copied(key, &cache, SHORT);
        copy(&cache, key, Some(1));
        reassign(&cluster, key);
        write(&cluster, 1, key, 2);
        sleep(SHORT);
        assert_eq!(get(&cache, key), Some(2));
        until_copied(key, &cache, SHORT);
    });
}

/// A slot map with other owners leaves no copies.
#[test]
fn a_reassigned_slot_that_is_noticed_leaves_no_copies() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.url(), LONG);
        (0..3).for_each(|node| until_probed(cluster.node(node), &cache));
        let [key, other, _] = KEYS;
        cache.set(key, 1_i64).unwrap();
        cache.set(other, 1_i64).unwrap();
        copy(&cache, key, Some(1));
        copy(&cache, other, Some(1));
        reassign(&cluster, key);
        write(&cluster, 1, key, 2);
        // It loads the slot map.
        cache.ping().unwrap();
        let hits = cache.stats().l1_hits;
        assert_eq!(get(&cache, key), Some(2));
        assert_eq!(get(&cache, other), Some(1));
        assert_eq!(cache.stats().l1_hits, hits);
    });
}

/// Makes a replica of the node of a key the master while there is a copy, and writes to it.
fn nothing_old_is_served_after_a_failover(fail_over: impl FnOnce(&RedisCluster, &dyn Fn(bool))) {
    let cluster = RedisCluster::start();
    let replica = cluster.start_replica(0);
    let cache = open(&format!("{}?timeout=300ms", cluster.url()), SHORT);
    let key = KEYS[0];
    cache.set(key, 1_i64).unwrap();
    until_copied(key, &cache, SHORT);
    cluster.node(0).until_replicated("{cacheio:d}");
    nothing_old_after_the_bound(&cache, key, || {
        fail_over(&cluster, &|has_consent| replica.become_master(has_consent));
        replica.run(&format!("SET {} 2", stored(key)));
    });
    until(&cache, key, Some(2));
    until_copied(key, &cache, SHORT);
    copy(&cache, key, Some(2));
    replica.run(&format!("SET {} 3", stored(key)));
    until(&cache, key, Some(3));
}

#[test]
fn nothing_old_is_served_after_a_failover_with_consent() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|_, become_master| become_master(true));
    });
}

#[test]
fn nothing_old_is_served_after_a_master_was_killed() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|cluster, become_master| {
            cluster.node(0).kill();
            become_master(false);
        });
    });
}

#[test]
fn nothing_old_is_served_after_a_master_has_hung() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|cluster, become_master| {
            cluster.node(0).pause();
            become_master(false);
        });
    });
}

/// A node that is cut off from the others refuses requests, also those of the keeper: others may have taken over its
/// slots.
#[test]
fn a_node_that_is_cut_off_is_not_trusted() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.url(), SHORT);
        let key = KEYS[0];
        cache.set(key, 1_i64).unwrap();
        until_copied(key, &cache, SHORT);
        copy(&cache, key, Some(1));
        cluster.node(1).pause();
        cluster.node(2).pause();
        let is_cut_off = || {
            let info = cluster.node(0).run("CLUSTER INFO");
            info.text().contains("cluster_state:fail")
        };
        while !is_cut_off() {
            sleep(Duration::from_millis(10));
        }
        sleep(SHORT);
        let before = cache.stats().l1_hits;
        assert!(cache.get::<i64>(key).is_err(), "it is not trusted");
        assert_eq!(cache.stats().l1_hits, before);
        cluster.node(1).resume();
        cluster.node(2).resume();
        until(&cache, key, Some(1));
        until_copied(key, &cache, SHORT);
    });
}

/// The same, with a node that goes on replying to reads.
#[test]
fn what_a_node_says_that_is_cut_off_is_not_copied() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.url(), SHORT);
        let key = KEYS[0];
        cache.set(key, 1_i64).unwrap();
        until_copied(key, &cache, SHORT);
        let node = cluster.node(0);
        node.run("CONFIG SET cluster-allow-reads-when-down yes");
        cluster.node(1).pause();
        cluster.node(2).pause();
        while !node
            .run("CLUSTER INFO")
            .text()
            .contains("cluster_state:fail")
        {
            sleep(Duration::from_millis(10));
        }
        sleep(SHORT);
        let before = cache.stats().l1_hits;
        for _ in 0..20 {
            copy(&cache, key, Some(1));
            assert_eq!(cache.get_many::<i64>([key]).unwrap(), [Some(1)]);
        }
        assert_eq!(cache.stats().l1_hits, before);
        cluster.node(1).resume();
        cluster.node(2).resume();
        until_copied(key, &cache, SHORT);
    });
}

/// Has the first node announce a proxy as its address.
fn announce_proxy(cluster: &RedisCluster) -> Proxy {
    let proxy = Proxy::to(cluster.node(0).address());
    let port = proxy.address().port();
    let announce = format!("CONFIG SET cluster-announce-port {port}");
    cluster.node(0).run(&announce);
    let knows = |node: usize| {
        let nodes = cluster.node(node).run("CLUSTER NODES");
        nodes.text().contains(&format!(":{port}@"))
    };
    while !(0..3).all(knows) {
        sleep(Duration::from_millis(10));
    }
    proxy
}

/// The connection to one node falls silent.
#[test]
fn a_node_that_falls_silent_is_not_trusted_after_the_bound() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let proxy = announce_proxy(&cluster);
        let cache = open(&format!("{}?timeout=200ms", cluster.url()), SHORT);
        let key = KEYS[0];
        cache.set(key, 1_i64).unwrap();
        until_copied(key, &cache, SHORT);
        assert!(proxy.connections() > 0);
        nothing_old_after_the_bound(&cache, key, || {
            proxy.lose_connections();
            write(&cluster, 0, key, 2);
        });
        until(&cache, key, Some(2));
        until_copied(key, &cache, SHORT);
    });
}

/// Slots move, and nodes stop.
#[test]
fn no_read_is_older_than_the_bound() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&format!("{}?timeout=300ms", cluster.url()), SHORT);
        let writer = Cache::from_url(&format!("{}?timeout=20s", cluster.url())).unwrap();
        let slots = [0, 1, 2, 3].map(|key| slot(&cluster, &key.to_string()));
        let mut owners = slots.map(|slot| usize::from(slot) * 3 / 16_384);
        nothing_read_is_older_than_the_bound(&cache, &writer, |round| match round % 60 {
            part @ (10 | 20 | 30 | 40) => {
                let moved = part / 10 - 1;
                let (from, to) = (owners[moved], (owners[moved] + 1) % 3);
                owners[moved] = to;
                cluster.begin_migration(slots[moved], from, to);
                if round % 120 < 60 {
                    cluster.migrate(from, to, &stored(&moved.to_string()));
                    writer.set(moved, round).unwrap();
                }
                cluster.end_migration(slots[moved], from, to);
            }
            50 => {
                let node = cluster.node(round % 3);
                node.pause();
                sleep(SHORT * 2);
                node.resume();
            }
            _ => sleep(Duration::from_millis(2)),
        });
    });
}
