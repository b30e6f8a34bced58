//! A cache that is used while its thread ends, by the destructor of a thread-local that is dropped
//! after the cache's own thread-locals.

#![cfg(not(shuttle))]

use std::cell::RefCell;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use cacheio_core::ErrorKind;
use cacheio_sync::{Cache, Memory};
use cacheio_tests::watchdog::guarded;

#[test]
fn a_plain_key_is_looked_up_while_the_thread_ends() {
    in_a_child("a_plain_key_is_looked_up_while_the_thread_ends", || {
        while_a_thread_ends(&cache(), |cache| {
            assert_eq!(cache.get("there").unwrap(), Some(1));
        });
    });
}

#[test]
fn a_composed_key_is_looked_up_while_the_thread_ends() {
    in_a_child("a_composed_key_is_looked_up_while_the_thread_ends", || {
        while_a_thread_ends(&cache(), |cache| {
            assert_eq!(cache.get(("there", 1)).unwrap(), Some(1));
        });
    });
}

#[test]
fn a_load_while_the_thread_ends_is_stored() {
    in_a_child("a_load_while_the_thread_ends_is_stored", || {
        let cache = cache();
        while_a_thread_ends(&cache, |cache| {
            assert_eq!(cache.get_or_set("loaded", || 2), 2);
        });
        assert_eq!(cache.get("loaded").unwrap(), Some(2));
    });
}

#[test]
fn a_panic_in_a_load_while_the_thread_ends_frees_its_key() {
    in_a_child(
        "a_panic_in_a_load_while_the_thread_ends_frees_its_key",
        || {
            let cache = cache();
            while_a_thread_ends(&cache, |cache| {
                let load = || -> i32 { panic!("the loader panics") };
                let loaded = std::panic::AssertUnwindSafe(|| cache.get_or_set("loaded", load));
                assert!(std::panic::catch_unwind(loaded).is_err());
            });
            assert_eq!(cache.get_or_set("loaded", || 3), 3);
        },
    );
}

#[test]
fn a_load_of_another_thread_is_waited_for_while_the_thread_ends() {
    in_a_child(
        "a_load_of_another_thread_is_waited_for_while_the_thread_ends",
        || {
            while_a_thread_ends(&cache(), |cache| {
                let (leader, (started, has_started)) = (cache.clone(), channel());
                let leader = std::thread::spawn(move || {
                    leader.get_or_set("slow", || {
                        started.send(()).unwrap();
                        std::thread::sleep(Duration::from_millis(50));
                        7
                    })
                });
                has_started.recv().unwrap();
                assert_eq!(cache.get_or_set("slow", || 8), 7);
                assert_eq!(leader.join().unwrap(), 7);
            });
        },
    );
}

#[test]
fn a_server_is_unavailable_while_the_thread_ends() {
    in_a_child("a_server_is_unavailable_while_the_thread_ends", || {
        // No server is needed: the call must fail, and must not end the process.
        let cache = Cache::from_url("redis://127.0.0.1:1?timeout=100ms").unwrap();
        let thread = std::thread::spawn(move || {
            AT_EXIT.set(Some(AtExit(cache.clone(), |cache| {
                let error = cache.get::<i32>("k").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert_eq!(cache.get_or_set("k", || 7), 7);
            })));
            cache.get::<i32>("k").unwrap_err();
        });
        thread.join().unwrap();
    });
}

/// Runs the body of `test` in its own process: a destructor that panics at the end of a thread
/// ends the process.
fn in_a_child(test: &str, body: fn()) {
    const CHILD: &str = "CACHEIO_TESTS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        guarded(body);
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test);
    let ended = child.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert!(ended.status.success(), "{}\n{stderr}", ended.status);
    assert!(
        stdout.contains("1 passed"),
        "no test is called {test:?}: {stdout}"
    );
}

fn cache() -> Cache {
    let cache = Cache::builder()
        .store(Memory::with_capacity(10))
        .build()
        .unwrap();
    cache.set("there", 1).unwrap();
    cache.set(("there", 1), 1).unwrap();
    cache
}

/// Calls a closure when the thread ends.
struct AtExit(Cache, fn(&Cache));

impl Drop for AtExit {
    fn drop(&mut self) {
        (self.1)(&self.0);
    }
}

thread_local! {
    static AT_EXIT: RefCell<Option<AtExit>> = const { RefCell::new(None) };
}

fn while_a_thread_ends(cache: &Cache, at_exit: fn(&Cache)) {
    let cache = cache.clone();
    let thread = std::thread::spawn(move || {
        // Registered first, it is destroyed last, after the thread-locals that the cache keeps.
        AT_EXIT.set(Some(AtExit(cache.clone(), at_exit)));
        cache.get::<i32>(("used", 1)).unwrap();
        cache.get_or_set("used", || 1);
    });
    thread.join().unwrap();
}
