//! A slot of a cluster moves while processes load keys in it. A script on a key and its claim is refused
//! then, because they may be on two nodes.

use cacheio_tests::api::World;
use cacheio_tests::servers::RedisCluster;
use cacheio_tests::watchdog::guarded;

use crate::pair;
use cacheio_tests::process::Process;

/// The slot of keys with the tag `{k1}` moves between these nodes.
const FROM: usize = 2;
const TO: usize = 0;

struct Migration {
    cluster: RedisCluster,
    slot: u16,
}

impl Migration {
    fn new() -> Self {
        let cluster = RedisCluster::start();
        let slot = cluster.slot("k1");
        Self { cluster, slot }
    }

    fn begin(&self) {
        self.cluster.begin_migration(self.slot, FROM, TO);
    }

    fn end(&self) {
        self.cluster.end_migration(self.slot, FROM, TO);
    }

    fn pair(&self, world: World) -> (Process, Process) {
        pair(&self.cluster.url(), world)
    }
}

/// Neither waits for the other, and nothing is stored: a write could not prevent it.
fn a_load_during_a_migration_is_served_and_not_stored(world: World) {
    let migration = Migration::new();
    let (mut one, mut other) = migration.pair(world);
    migration.begin();
    for load in ["load", "fetch", "batch"] {
        let key = format!("{{k1}}{load}");
        one.tell(&format!("{load} a {key}"));
        one.expect("loading a");
        other.tell(&format!("{load} b {key}"));
        other.expect("loading b");
        one.tell("finish a v");
        one.expect("a=v");
        other.tell("finish b w");
        other.expect("b=w");
        assert_eq!(other.get(&key), None, "{load}");
    }
    migration.end();
    next_load_works(&mut one, &mut other);
}

/// The claim was made before the slot began to move.
fn a_load_that_ends_during_a_migration_is_served(world: World) {
    let migration = Migration::new();
    let (mut one, mut other) = migration.pair(world);
    for load in ["load", "fetch", "batch"] {
        one.tell(&format!("{load} {load} {{k1}}{load}"));
        one.expect(&format!("loading {load}"));
    }
    migration.begin();
    for load in ["load", "fetch", "batch"] {
        let key = format!("{{k1}}{load}");
        one.tell(&format!("finish {load} v"));
        one.expect(&format!("{load}=v"));
        let found = other.get(&key);
        assert!(matches!(found.as_deref(), None | Some("v")), "{found:?}");
    }
    migration.end();
    next_load_works(&mut one, &mut other);
}

/// The claim moves with its key.
fn a_load_that_outlasts_a_migration_is_stored(world: World) {
    let migration = Migration::new();
    let (mut one, mut other) = migration.pair(world);
    one.tell("load a {k1}k");
    one.expect("loading a");
    other.tell("load b {k1}k");
    other.until_shared_waits(1);
    migration.begin();
    migration.end();
    one.tell("finish a v");
    one.expect("a=v");
    other.expect("b=v");
    assert!(!other.has_said("loading b"));
    assert_eq!(other.get("{k1}k").as_deref(), Some("v"));
    next_load_works(&mut one, &mut other);
}

/// The write finds the key on either node, and no load is stored over it.
fn a_write_during_a_migration_beats_loads(world: World) {
    let migration = Migration::new();
    let (mut one, mut other) = migration.pair(world);
    other.run("set {k1}moved old");
    one.tell("load a {k1}k");
    one.expect("loading a");
    one.tell("refresh b {k1}moved");
    one.expect("loading b");
    migration.begin();
    migration.cluster.migrate(FROM, TO, "cacheio:{k1}moved");
    other.run("set {k1}k new");
    other.run("set {k1}moved new");
    for load in ["a", "b"] {
        one.tell(&format!("finish {load} old"));
        one.expect(&format!("{load}=old"));
    }
    one.tell("load c {k1}other");
    one.expect("loading c");
    other.run("set {k1}other new");
    migration.end();
    one.tell("finish c old");
    one.expect("c=old");
    for key in ["{k1}k", "{k1}moved", "{k1}other"] {
        assert_eq!(one.get(key).as_deref(), Some("new"), "{key}");
        assert_eq!(other.get(key).as_deref(), Some("new"), "{key}");
    }
    next_load_works(&mut one, &mut other);
}

/// Their scripts have one key each, and find it on either node.
fn an_update_and_a_take_during_a_migration_work(world: World) {
    let migration = Migration::new();
    let (mut one, mut other) = migration.pair(world);
    for key in ["stays", "moved", "taken", "taken-there"] {
        other.run(&format!("set {{k1}}{key} old"));
    }
    migration.begin();
    migration.cluster.migrate(FROM, TO, "cacheio:{k1}moved");
    migration
        .cluster
        .migrate(FROM, TO, "cacheio:{k1}taken-there");
    for key in ["stays", "moved", "created"] {
        other.run(&format!("update {{k1}}{key} new"));
        assert_eq!(one.get(&format!("{{k1}}{key}")).as_deref(), Some("new"));
    }
    for key in ["taken", "taken-there"] {
        other.run(&format!("take {{k1}}{key}"));
        assert_eq!(one.get(&format!("{{k1}}{key}")), None, "{key}");
    }
    migration.end();
    for key in ["stays", "moved", "created"] {
        assert_eq!(one.get(&format!("{{k1}}{key}")).as_deref(), Some("new"));
    }
    next_load_works(&mut one, &mut other);
}

/// As other writes do.
fn an_update_during_a_migration_beats_loads(world: World) {
    let migration = Migration::new();
    let (mut one, mut other) = migration.pair(world);
    for key in ["here", "moved", "removed", "claimed"] {
        other.run(&format!("set {{k1}}{key} old"));
    }
    one.tell("refresh a {k1}claimed");
    one.expect("loading a");
    migration.begin();
    for key in ["moved", "claimed"] {
        migration
            .cluster
            .migrate(FROM, TO, &format!("cacheio:{{k1}}{key}"));
    }
    for key in ["here", "moved", "new", "claimed"] {
        other.run(&format!("update {{k1}}{key} new"));
    }
    other.run("update_remove {k1}removed");
    migration.end();
    one.tell("finish a old");
    one.expect("a=old");
    for key in ["here", "moved", "new", "claimed"] {
        let found = one.get(&format!("{{k1}}{key}"));
        assert_eq!(found.as_deref(), Some("new"), "{key}");
    }
    assert_eq!(one.get("{k1}removed"), None);
    next_load_works(&mut one, &mut other);
}

/// The processes share loads again.
fn next_load_works(one: &mut Process, other: &mut Process) {
    one.tell("load n {k1}next");
    one.expect("loading n");
    let waits = other.shared_waits();
    other.tell("load m {k1}next");
    other.until_shared_waits(waits + 1);
    one.tell("finish n v");
    one.expect("n=v");
    other.expect("m=v");
    assert!(!other.has_said("loading m"));
    assert_eq!(one.get("{k1}next").as_deref(), Some("v"));
}

macro_rules! migrations {
    ($($row:ident, $world:ident: $($case:ident)*;)*) => {$(
        mod $row {
            use super::*;

            $(#[test]
            fn $case() {
                guarded(|| super::$case(World::$world));
            })*
        }
    )*};
}

migrations! {
    for_threads, Threads:
        a_load_during_a_migration_is_served_and_not_stored
        a_load_that_ends_during_a_migration_is_served
        a_load_that_outlasts_a_migration_is_stored
        a_write_during_a_migration_beats_loads
        an_update_and_a_take_during_a_migration_work
        an_update_during_a_migration_beats_loads;
    for_tasks, Tasks:
        a_load_during_a_migration_is_served_and_not_stored
        a_load_that_ends_during_a_migration_is_served
        a_load_that_outlasts_a_migration_is_stored
        a_write_during_a_migration_beats_loads
        an_update_and_a_take_during_a_migration_work
        an_update_during_a_migration_beats_loads;
}
