//! Several processes on one server load each key once, and a write of one beats the loads of the others.

#![cfg(not(shuttle))]

mod failover;
mod migration;
mod stress;

use std::time::{Duration, Instant};

use cacheio_tests::api::World;
use cacheio_tests::process::Process;
use cacheio_tests::servers::{Memcached, Redis, RedisCluster};
use cacheio_tests::watchdog::guarded;

#[test]
fn child() {
    cacheio_tests::process::child();
}

fn start(url: &str, world: World, count: usize) -> Vec<Process> {
    (0..count).map(|_| Process::start(url, world)).collect()
}

fn pair(url: &str, world: World) -> (Process, Process) {
    (Process::start(url, world), Process::start(url, world))
}

fn one_load_among_8_processes(url: &str, world: World) {
    let mut processes = start(url, world, 8);
    for (key, load) in [("k", "load"), ("f", "fetch")] {
        processes[0].tell(&format!("{load} {key} {key}"));
        processes[0].expect(&format!("loading {key}"));
        for process in &mut processes[1..] {
            let waits = process.shared_waits();
            process.tell(&format!("{load} {key} {key}"));
            process.until_shared_waits(waits + 1);
        }
        processes[0].tell(&format!("finish {key} v"));
        for process in &mut processes {
            process.expect(&format!("{key}=v"));
        }
        let loading = format!("loading {key}");
        assert!(!processes.iter().any(|process| process.has_said(&loading)));
        assert_eq!(processes[7].get(key).as_deref(), Some("v"));
    }
}

fn each_of_30_cold_keys_is_loaded_once_by_8_processes(url: &str, world: World) {
    let mut processes = start(url, world, 8);
    for process in &mut processes {
        process.tell("cold 30");
    }
    let loads: u64 = processes.iter_mut().map(Process::loaded).sum();
    assert_eq!(loads, 30);
}

fn a_process_that_is_killed_while_loading_is_replaced(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    one.tell("load a k");
    one.expect("loading a");
    other.tell("load b k");
    other.until_shared_waits(1);
    one.kill();
    let took = other.expect("loading b");
    println!("replaced after {took:?}");
    // On an idle machine it takes 3.1 s at most.
    assert!(took < Duration::from_secs(10), "{took:?}");
    other.tell("finish b v");
    other.expect("b=v");
    assert_eq!(other.get("k").as_deref(), Some("v"));
}

fn a_load_that_lasts_longer_than_a_lease_is_not_replaced(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    one.tell("load a k");
    one.expect("loading a");
    other.tell("load b k");
    other.until_shared_waits(1);
    std::thread::sleep(Duration::from_secs(5));
    assert!(!other.has_said("loading b"));
    one.tell("finish a v");
    other.expect("b=v");
    assert_eq!(other.get("k").as_deref(), Some("v"));
}

fn a_write_in_another_process_beats_a_load(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    for (number, (write, expected)) in [
        ("delete K", None),
        ("delete_many K", None),
        ("clear", None),
        ("set K new", Some("new")),
        ("set_many K new", Some("new")),
        ("add K new", Some("new")),
        ("increment K", Some("1")),
        ("update K new", Some("new")),
        ("update_remove K", None),
        ("take K", None),
    ]
    .into_iter()
    .enumerate()
    {
        for load in ["load", "fetch", "refresh", "batch", "revive"] {
            let key = format!("{load}{number}");
            if load == "revive" {
                other.run(&format!("stale {key} stale"));
                one.run(&format!("stale {key} stale"));
            }
            one.tell(&format!("{load} {key} {key}"));
            one.expect(&format!("loading {key}"));
            other.run(&write.replace('K', &key));
            one.tell(&format!("finish {key} old"));
            one.expect(&format!("{key}=old"));
            for process in [&mut one, &mut other] {
                let found = process.get(&key);
                assert_eq!(found.as_deref(), expected, "{write} during {load}");
            }
        }
    }
}

fn an_invalidation_of_tags_in_another_process_beats_a_load(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    for key in ["k1", "k2"] {
        one.tell(&format!("load_tagged {key} {key} t"));
        one.expect(&format!("loading {key}"));
        other.run("invalidate t");
        one.tell(&format!("finish {key} old"));
        one.expect(&format!("{key}=old"));
        assert_eq!(other.get(key), None);
        assert_eq!(one.get(key), None);
    }
}

fn the_value_of_a_load_is_stored_over_what_was_there(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    for load in ["load", "fetch", "refresh", "batch", "revive"] {
        match load {
            "refresh" => other.run(&format!("set {load} old")),
            "revive" => other.run(&format!("stale {load} old")),
            _ => {}
        }
        one.tell(&format!("{load} {load} {load}"));
        one.expect(&format!("loading {load}"));
        one.tell(&format!("finish {load} new"));
        one.expect(&format!("{load}=new"));
        assert_eq!(other.get(load).as_deref(), Some("new"), "{load}");
    }
}

fn a_frozen_process_stores_nothing_when_it_wakes(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    one.tell("load a k");
    one.expect("loading a");
    other.tell("load b k");
    other.until_shared_waits(1);
    one.freeze();
    other.expect("loading b");
    one.thaw();
    one.tell("finish a old");
    one.expect("a=old");
    assert_eq!(other.get("k"), None);
    other.tell("finish b new");
    other.expect("b=new");
    assert_eq!(one.get("k").as_deref(), Some("new"));
}

fn a_loader_asking_across_processes_is_no_deadlock(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    one.tell("nest a k1 k2");
    other.tell("nest b k2 k1");
    one.expect("loading a");
    other.expect("loading b");
    // These callers wait for the other process, and the loaders then ask for what they wait for.
    one.tell("load c k2");
    one.until_shared_waits(1);
    other.tell("load d k1");
    other.until_shared_waits(1);
    one.tell("finish a 1");
    other.tell("finish b 2");
    one.expect("loading ai");
    other.expect("loading bi");
    one.tell("finish ai 3");
    other.tell("finish bi 4");
    one.expect("a=1+3");
    other.expect("b=2+4");
    one.expect("c=2+4");
    other.expect("d=1+3");
    assert!(!one.has_said("loading c") && !other.has_said("loading d"));
}

fn loads_without_a_value_to_store_serialise_nobody(url: &str, world: World) {
    for (load, end, result) in [
        ("load", "fail", "failed"),
        ("skip", "finish", "v"),
        ("fetch", "fail", "failed"),
    ] {
        let mut processes = start(url, world, 8);
        let key = format!("{load}{end}");
        processes[0].tell(&format!("{load} x {key}"));
        processes[0].expect("loading x");
        for process in &mut processes[1..] {
            process.tell(&format!("{load} x {key}"));
            process.until_shared_waits(1);
        }
        let finish = match end {
            "fail" => "fail x",
            _ => "finish x v",
        };
        processes[0].tell(finish);
        // All of the others load now, and none of them ends before all have begun.
        let begun = Instant::now();
        for process in &mut processes[1..] {
            process.expect("loading x");
        }
        println!("{load} {end}: all load after {:?}", begun.elapsed());
        for process in &mut processes[1..] {
            process.tell(finish);
        }
        for process in &mut processes {
            process.expect(&format!("x={result}"));
        }
    }
}

fn after_failed_loads_the_first_value_is_stored(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    one.tell("load a k");
    one.expect("loading a");
    other.tell("load b k");
    other.until_shared_waits(1);
    one.tell("fail a");
    other.expect("loading b");
    other.tell("finish b v");
    other.expect("b=v");
    assert_eq!(one.get("k").as_deref(), Some("v"));
}

fn a_batch_loads_what_others_load_and_does_not_store_it(url: &str, world: World) {
    let (mut one, mut other) = pair(url, world);
    one.tell("load a k1");
    one.expect("loading a");
    other.tell("batch b k1,k2");
    other.expect("loading b");
    other.tell("finish b batch");
    other.expect("b=batch,batch");
    assert_eq!(other.get("k1"), None);
    assert_eq!(other.get("k2").as_deref(), Some("batch"));
    one.tell("finish a one");
    one.expect("a=one");
    assert_eq!(other.get("k1").as_deref(), Some("one"));
}

fn a_cache_that_shares_no_loads_waits_for_none(url: &str, world: World) {
    let alone = url.replace("shared_loads=true", "shared_loads=false");
    let (mut one, mut other) = (Process::start(url, world), Process::start(&alone, world));
    one.tell("load a k");
    one.expect("loading a");
    other.tell("load b k");
    other.expect("loading b");
    // Its plain write ends the claim.
    other.tell("finish b b");
    other.expect("b=b");
    one.tell("finish a a");
    one.expect("a=a");
    assert_eq!(one.get("k").as_deref(), Some("b"));
}

macro_rules! rows {
    ($($row:ident on $server:ty, $world:ident: $($case:ident)*;)*) => {$(
        mod $row {
            use super::*;

            $(#[test]
            fn $case() {
                guarded(|| {
                    let server = <$server>::start();
                    let url = format!("{}?shared_loads=true", server.url());
                    super::$case(&url, World::$world);
                });
            })*
        }
    )*};
}

/// All cases on one server.
macro_rules! on {
    ($server:ident, $row:ident, $world:ident) => {
        rows! {
            $row on $server, $world:
                one_load_among_8_processes
                each_of_30_cold_keys_is_loaded_once_by_8_processes
                a_process_that_is_killed_while_loading_is_replaced
                a_load_that_lasts_longer_than_a_lease_is_not_replaced
                a_write_in_another_process_beats_a_load
                an_invalidation_of_tags_in_another_process_beats_a_load
                the_value_of_a_load_is_stored_over_what_was_there
                a_frozen_process_stores_nothing_when_it_wakes
                a_loader_asking_across_processes_is_no_deadlock
                loads_without_a_value_to_store_serialise_nobody
                after_failed_loads_the_first_value_is_stored
                a_batch_loads_what_others_load_and_does_not_store_it
                a_cache_that_shares_no_loads_waits_for_none;
        }
    };
}

on!(Redis, redis_for_threads, Threads);
on!(Redis, redis_for_tasks, Tasks);
on!(Memcached, memcached_for_threads, Threads);
on!(Memcached, memcached_for_tasks, Tasks);

rows! {
    cluster_for_tasks on RedisCluster, Tasks:
        one_load_among_8_processes
        each_of_30_cold_keys_is_loaded_once_by_8_processes
        a_process_that_is_killed_while_loading_is_replaced
        a_write_in_another_process_beats_a_load
        the_value_of_a_load_is_stored_over_what_was_there
        a_frozen_process_stores_nothing_when_it_wakes
        a_batch_loads_what_others_load_and_does_not_store_it;
}
