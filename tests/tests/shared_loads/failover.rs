//! A server fails, and its replica takes over, while processes load: the replica may have the claims of the
//! loads or not.

use cacheio_tests::api::World;
use cacheio_tests::servers::{ClusterReplica, Redis, RedisCluster, Sentinel};
use cacheio_tests::watchdog::guarded;

use crate::pair;
use cacheio_tests::process::Process;

/// How the replica takes over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Takeover {
    /// It has all writes.
    Ordered,
    /// It lacks the latest ones, and their server is dead.
    AfterLoss,
}

/// A server with a replica.
trait Replicated: Sync {
    /// The tag of keys that are on the server.
    const TAG: &'static str;

    fn start() -> Self;

    fn url(&self) -> String;

    /// Cuts the replica off: it gets none of the writes from now on.
    fn cut_off(&self);

    /// Waits until the replica has all writes.
    fn until_replicated(&self);

    /// Makes the replica the master.
    fn fail_over(&self, takeover: Takeover);
}

struct WithSentinel {
    master: Redis,
    replica: Redis,
    sentinel: Sentinel,
}

impl Replicated for WithSentinel {
    const TAG: &'static str = "";

    fn start() -> Self {
        let master = Redis::start();
        let replica = master.start_replica();
        let sentinel = Sentinel::start(&master);
        sentinel.until_it_knows_a_replica();
        Self {
            master,
            replica,
            sentinel,
        }
    }

    fn url(&self) -> String {
        format!("redis-sentinel://{}/main", self.sentinel.address())
    }

    fn cut_off(&self) {
        self.master.cut_off(&self.replica);
    }

    fn until_replicated(&self) {
        self.master.until_replicated("");
    }

    fn fail_over(&self, takeover: Takeover) {
        match takeover {
            Takeover::Ordered => self.sentinel.fail_over(&self.replica),
            Takeover::AfterLoss => {
                self.master.kill();
                self.replica.resume();
                self.sentinel.until_master(&self.replica);
            }
        }
    }
}

struct InCluster {
    cluster: RedisCluster,
    replica: ClusterReplica,
}

impl InCluster {
    /// The node of the keys with the tag.
    const NODE: usize = 2;
}

impl Replicated for InCluster {
    const TAG: &'static str = "{k1}";

    fn start() -> Self {
        let cluster = RedisCluster::start();
        let replica = cluster.start_replica(Self::NODE);
        Self { cluster, replica }
    }

    fn url(&self) -> String {
        self.cluster.url()
    }

    fn cut_off(&self) {
        self.cluster.node(Self::NODE).cut_off(&self.replica);
    }

    fn until_replicated(&self) {
        // The node has replies for keys of its own slots only.
        self.cluster.node(Self::NODE).until_replicated(Self::TAG);
    }

    fn fail_over(&self, takeover: Takeover) {
        if takeover == Takeover::AfterLoss {
            self.cluster.node(Self::NODE).kill();
            self.replica.resume();
        }
        self.replica.become_master(takeover == Takeover::Ordered);
    }
}

/// Begins a load, whose claim the replica has or not. Returns the process that loads, another one, and the key.
fn begin_load<S: Replicated>(
    server: &S,
    takeover: Takeover,
    world: World,
) -> (Process, Process, String) {
    let (mut one, other) = pair(&server.url(), world);
    let key = format!("{}k", S::TAG);
    if takeover == Takeover::AfterLoss {
        server.cut_off();
    }
    one.tell(&format!("load a {key}"));
    one.expect("loading a");
    (one, other, key)
}

/// Begins a load, and lets the replica take over before it ends. Returns what [`begin_load`] returns.
fn fail_over_during_load<S: Replicated>(
    server: &S,
    takeover: Takeover,
    world: World,
) -> (Process, Process, String) {
    let (mut one, mut other, key) = begin_load(server, takeover, world);
    if takeover == Takeover::Ordered {
        server.until_replicated();
    }
    server.fail_over(takeover);
    for process in [&mut one, &mut other] {
        process.run(&format!("until_up {}up", S::TAG));
    }
    (one, other, key)
}

/// Both processes load a key once more.
fn next_load_works(one: &mut Process, other: &mut Process, tag: &str) {
    let key = format!("{tag}next");
    one.tell(&format!("load n {key}"));
    one.expect("loading n");
    let waits = other.shared_waits();
    other.tell(&format!("load m {key}"));
    other.until_shared_waits(waits + 1);
    one.tell("finish n v");
    one.expect("n=v");
    other.expect("m=v");
    assert!(!other.has_said("loading m"));
}

fn a_load_that_outlasts_a_failover_is_served<S: Replicated>(takeover: Takeover, world: World) {
    let server = S::start();
    let (mut one, mut other, key) = fail_over_during_load(&server, takeover, world);
    one.tell("finish a v");
    one.expect("a=v");
    // Without the claim, it is not known whether another process has written the key.
    let stored = (takeover == Takeover::Ordered).then_some("v");
    assert_eq!(other.get(&key).as_deref(), stored);
    next_load_works(&mut one, &mut other, S::TAG);
}

fn a_write_after_a_failover_beats_a_load_from_before<S: Replicated>(
    takeover: Takeover,
    world: World,
) {
    let server = S::start();
    let (mut one, mut other, key) = fail_over_during_load(&server, takeover, world);
    other.run(&format!("set {key} new"));
    one.tell("finish a old");
    one.expect("a=old");
    assert_eq!(one.get(&key).as_deref(), Some("new"));
    next_load_works(&mut one, &mut other, S::TAG);
}

/// The server is gone when the load ends: its callers get the value nevertheless.
fn a_load_that_ends_during_a_failover_is_served<S: Replicated>(takeover: Takeover, world: World) {
    let server = S::start();
    let (mut one, mut other, key) = begin_load(&server, takeover, world);
    other.tell(&format!("load b {key}"));
    other.until_shared_waits(1);
    std::thread::scope(|scope| {
        scope.spawn(|| server.fail_over(takeover));
        one.tell("finish a v");
        one.expect("a=v");
        // It has the value of the other process, or has loaded its own.
        let waiting = other.find_one_of(&["b=v", "loading b"]);
        if waiting == "loading b" {
            other.tell("finish b v");
            other.expect("b=v");
        }
    });
    for process in [&mut one, &mut other] {
        process.run(&format!("until_up {}up", S::TAG));
        let found = process.get(&key);
        assert!(matches!(found.as_deref(), None | Some("v")), "{found:?}");
    }
    next_load_works(&mut one, &mut other, S::TAG);
}

macro_rules! failovers {
    ($($row:ident on $server:ty, $world:ident, $takeover:ident;)*) => {$(
        mod $row {
            use super::*;

            failovers! { @cases on $server, $world, $takeover:
                a_load_that_outlasts_a_failover_is_served
                a_write_after_a_failover_beats_a_load_from_before
                a_load_that_ends_during_a_failover_is_served
            }
        }
    )*};
    (@cases on $server:ty, $world:ident, $takeover:ident: $($case:ident)*) => {
        $(#[test]
        fn $case() {
            guarded(|| super::$case::<$server>(Takeover::$takeover, World::$world));
        })*
    };
}

failovers! {
    sentinel_for_threads on WithSentinel, Threads, Ordered;
    sentinel_for_tasks_after_loss on WithSentinel, Tasks, AfterLoss;
    cluster_for_tasks on InCluster, Tasks, Ordered;
    cluster_for_threads_after_loss on InCluster, Threads, AfterLoss;
}
