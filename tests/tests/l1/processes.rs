//! Two processes on one server, each with its L1.

use std::thread::sleep;
use std::time::Duration;

use cacheio_tests::api::World;
use cacheio_tests::process::Process;
use cacheio_tests::servers::{Memcached, Redis, RedisCluster};
use cacheio_tests::watchdog::guarded;

const BOUND: Duration = Duration::from_millis(300);

/// Lets a process read a key, so that it has a copy of this value. On a busy machine, the bound may pass
/// between two reads. Returns whether there was a hit in L1.
fn copy(process: &mut Process, key: &str, value: Option<&str>) -> bool {
    let before = process.l1_hits();
    for _ in 0..3 {
        assert_eq!(process.get(key).as_deref(), value);
    }
    process.l1_hits() > before
}

/// A write of one process is seen by the other when the bound has passed since the write returned.
fn a_write_of_another_process_is_seen_after_the_bound(url: &str, world: World) {
    let url = format!("{url}?l1=1000&max_staleness=300ms");
    let (mut one, mut other) = (Process::start(&url, world), Process::start(&url, world));
    one.run("set k 0");
    let mut copies = 0;
    for (number, (write, expected)) in [
        ("set k N", Some("N")),
        ("set_many k N", Some("N")),
        ("remove k", None),
        ("set k N", Some("N")),
        ("clear", None),
        ("set_tagged k N t", Some("N")),
        ("invalidate t", None),
        ("set_tagged k N t", Some("N")),
    ]
    .into_iter()
    .cycle()
    .take(16)
    .enumerate()
    {
        let number = number.to_string();
        let value = one.get("k");
        if value.is_some() {
            copies += usize::from(copy(&mut other, "k", value.as_deref()));
        }
        one.run(&write.replace('N', &number));
        let expected = expected.map(|text| text.replace('N', &number));
        // The process that writes sees it at once.
        assert_eq!(one.get("k"), expected, "{write}");
        sleep(BOUND);
        assert_eq!(other.get("k"), expected, "{write}");
    }
    assert!(copies > 0);
}

/// A process that was stopped serves nothing that is older than the bound when it goes on.
fn a_frozen_process_serves_nothing_old_when_it_wakes(url: &str, world: World) {
    let url = format!("{url}?l1=1000&max_staleness=300ms");
    let (mut one, mut other) = (Process::start(&url, world), Process::start(&url, world));
    one.run("set k old");
    copy(&mut other, "k", Some("old"));
    other.freeze();
    one.run("set k new");
    sleep(BOUND);
    other.thaw();
    assert_eq!(other.get("k").as_deref(), Some("new"));
}

/// The load of one process is no load of the other, which then has a copy of the value too.
fn a_loaded_value_is_copied_by_each_process(url: &str, world: World) {
    let url = format!("{url}?l1=1000&max_staleness=300ms");
    let (mut one, mut other) = (Process::start(&url, world), Process::start(&url, world));
    one.tell("load a k");
    one.expect("loading a");
    one.tell("finish a v");
    one.expect("a=v");
    assert_eq!(other.get("k").as_deref(), Some("v"));
    other.tell("load b k");
    other.expect("b=v");
    assert!(!other.has_said("loading b"));
    copy(&mut one, "k", Some("v"));
    copy(&mut other, "k", Some("v"));
}

macro_rules! rows {
    ($($row:ident on $server:ty, $world:ident;)*) => {$(
        mod $row {
            use super::*;

            #[test]
            fn a_write_of_another_process_is_seen_after_the_bound() {
                run(super::a_write_of_another_process_is_seen_after_the_bound);
            }

            #[test]
            fn a_frozen_process_serves_nothing_old_when_it_wakes() {
                run(super::a_frozen_process_serves_nothing_old_when_it_wakes);
            }

            #[test]
            fn a_loaded_value_is_copied_by_each_process() {
                run(super::a_loaded_value_is_copied_by_each_process);
            }

            fn run(case: fn(&str, World)) {
                guarded(move || {
                    let server = <$server>::start();
                    case(&server.url(), World::$world);
                    drop(server);
                });
            }
        }
    )*};
}

rows! {
    redis_for_threads on Redis, Threads;
    redis_for_tasks on Redis, Tasks;
    cluster_for_tasks on RedisCluster, Tasks;
    memcached_for_threads on Memcached, Threads;
    memcached_for_tasks on Memcached, Tasks;
}
