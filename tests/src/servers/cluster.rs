//! A Redis Cluster.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::Server;
use super::process::Port;
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
        let deadline = Instant::now() + Duration::from_secs(20);
        while !cluster.nodes.iter().all(is_whole) {
            assert!(
                Instant::now() < deadline,
                "the nodes of the cluster do not find each other"
            );
            thread::sleep(Duration::from_millis(10));
        }
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
