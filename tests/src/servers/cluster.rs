//! A Redis Cluster.

use std::ops::Deref;
use std::sync::Mutex;

use super::Server;
use super::process::{Port, until};
use super::redis::{Redis, Reply};

const SLOTS: u16 = 16_384;

/// Three masters that share all slots between them.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: [Redis; 3],
    /// The ports of the bus. By default they are 10,000 above the node's port, which may be in use.
    _bus: [Port; 3],
}

impl RedisCluster {
    /// Starts a cluster, and returns when it is complete.
    ///
    /// # Panics
    ///
    /// When the nodes do not find each other.
    pub fn start() -> Self {
        let bus = [(); 3].map(|()| Port::free());
        let cluster = Self {
            nodes: [0, 1, 2].map(|i| start_node(&bus[i])),
            _bus: bus,
        };
        let third = SLOTS / 3;
        let parts = [
            (0, third),
            (third + 1, 2 * third),
            (2 * third + 1, SLOTS - 1),
        ];
        for (node, (first, last)) in cluster.nodes.iter().zip(parts) {
            ok(&node.run(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")));
        }
        for other in &cluster.nodes[1..] {
            let bus = bus_port(other);
            ok(&cluster.nodes[0].run(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port())));
        }
        until("the nodes of the cluster find each other", || {
            cluster.nodes.iter().all(is_whole)
        });
        cluster
    }

    /// Returns the URLs of the nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// Returns the URL, which names all nodes.
    pub fn url(&self) -> String {
        let [a, b, c] = [0, 1, 2].map(|i| self.node(i).address());
        format!("redis-cluster://{a},{b},{c}")
    }

    /// Returns a node.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub fn node(&self, i: usize) -> &Redis {
        &self.nodes[i]
    }

    /// Starts a replica of a node, and returns when it has the node's data.
    ///
    /// # Panics
    ///
    /// When it does not get them.
    pub fn start_replica(&self, of: usize) -> ClusterReplica {
        let bus = Port::free();
        let replica = start_node(&bus);
        let bus_number = bus.number();
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus_number}", replica.port());
        ok(&self.nodes[0].run(&meet));
        let master = self.id(of);
        until("the replica knows its master", || {
            replica.run(&format!("CLUSTER REPLICATE {master}")) == Reply::Text("OK".into())
        });
        replica.until_linked();
        let id = replica.run("CLUSTER MYID");
        until("all nodes know the replica", || {
            let knows = |node: &Redis| {
                let known = node.run("CLUSTER NODES");
                let mut lines = known.text().lines();
                lines.any(|line| line.starts_with(id.text()) && line.contains("slave"))
            };
            self.nodes.iter().all(knows)
        });
        ClusterReplica {
            server: replica,
            _bus: bus,
        }
    }

    /// Starts a node without slots, and returns when the others know it.
    ///
    /// # Panics
    ///
    /// When they do not find each other.
    pub fn start_node(&self) -> ClusterReplica {
        let bus = Port::free();
        let server = start_node(&bus);
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", server.port(), bus.number());
        ok(&self.nodes[0].run(&meet));
        let id = server.run("CLUSTER MYID");
        until("all nodes know the new one", || {
            let knows = |node: &Redis| node.run("CLUSTER NODES").text().contains(id.text());
            let is_up = server
                .run("CLUSTER INFO")
                .text()
                .contains("cluster_state:ok");
            is_up && self.nodes.iter().all(knows)
        });
        ClusterReplica { server, _bus: bus }
    }

    /// Returns the slot of a key.
    ///
    /// # Panics
    ///
    /// When the cluster does not know it.
    pub fn slot(&self, key: &str) -> u16 {
        match self.nodes[0].run(&format!("CLUSTER KEYSLOT {key}")) {
            Reply::Integer(slot) => u16::try_from(slot).unwrap_or(SLOTS),
            other => panic!("{other:?}"),
        }
    }

    /// Begins to move a slot between two nodes. Its keys stay where they are.
    pub fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        let (from_id, to_id) = (self.id(from), self.id(to));
        let set = |node: usize, state: &str| {
            ok(&self.nodes[node].run(&format!("CLUSTER SETSLOT {slot} {state}")));
        };
        set(to, &format!("IMPORTING {from_id}"));
        set(from, &format!("MIGRATING {to_id}"));
    }

    /// Moves a key of a slot that moves.
    pub fn migrate(&self, from: usize, to: usize, key: &str) {
        let port = self.nodes[to].port();
        ok(&self.nodes[from].run(&format!("MIGRATE 127.0.0.1 {port} {key} 0 1000")));
    }

    /// Moves all keys of a slot that moves, and then the slot.
    ///
    /// # Panics
    ///
    /// When the node does not list the keys.
    pub fn end_migration(&self, slot: u16, from: usize, to: usize) {
        let listed = self.nodes[from].run(&format!("CLUSTER GETKEYSINSLOT {slot} 1000"));
        let Reply::Array(keys) = listed else {
            panic!("{listed:?}");
        };
        for key in keys {
            self.migrate(from, to, key.text());
        }
        let to_id = self.id(to);
        let others = (0..self.nodes.len()).filter(|node| *node != to);
        // The new owner must know it before the old one redirects to it.
        for node in [to].into_iter().chain(others) {
            ok(&self.nodes[node].run(&format!("CLUSTER SETSLOT {slot} NODE {to_id}")));
        }
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].run("CLUSTER MYID").text().to_owned()
    }
}

/// A further node of a [`RedisCluster`]: a replica, or a node without slots.
#[derive(Debug)]
pub struct ClusterReplica {
    server: Redis,
    _bus: Port,
}

impl ClusterReplica {
    /// Makes it the master, and waits until it is. It does so without its master's consent if that is
    /// paused or has been killed.
    ///
    /// # Panics
    ///
    /// When it does not become the master.
    pub fn become_master(&self, has_consent: bool) {
        let command = match has_consent {
            true => "CLUSTER FAILOVER",
            false => "CLUSTER FAILOVER TAKEOVER",
        };
        until("the replica is the master", || {
            // It may have become the master by a vote.
            self.server.run(command);
            (self.server.run("INFO replication").text()).contains("role:master")
        });
    }
}

impl Deref for ClusterReplica {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.server
    }
}

impl Server for RedisCluster {
    fn start() -> Self {
        Self::start()
    }

    fn renew(&self) -> bool {
        self.nodes.iter().all(Server::renew) && self.nodes.iter().all(is_whole)
    }

    fn idle() -> &'static Mutex<Vec<Self>> {
        static IDLE: Mutex<Vec<RedisCluster>> = Mutex::new(Vec::new());
        &IDLE
    }
}

fn start_node(bus: &Port) -> Redis {
    let bus = bus.number().to_string();
    Redis::start_with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "1000",
        "--cluster-require-full-coverage",
        "no",
    ])
}

fn bus_port(node: &Redis) -> String {
    match node.run("CONFIG GET cluster-port") {
        Reply::Array(pair) => pair[1].to_string(),
        other => panic!("no bus port: {other:?}"),
    }
}

/// Whether a node knows the owner of each slot.
fn is_whole(node: &Redis) -> bool {
    let info = node.run("CLUSTER INFO");
    let info = info.text();
    [
        "cluster_state:ok",
        "cluster_slots_ok:16384",
        "cluster_known_nodes:3",
        "cluster_size:3",
    ]
    .iter()
    .all(|line| info.contains(line))
}

fn ok(reply: &Reply) {
    assert_eq!(reply, &Reply::Text("OK".into()));
}
