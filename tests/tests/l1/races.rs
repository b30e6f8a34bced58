//! Reads whose answers are on their way while the key is written, in forced orders.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use cacheio_core::__private::SharedState;
use cacheio_core::{
    Clock, Entry, Form, Key, KeyRule, ManualClock, Options, Result, Store, TtlChange, Update,
};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::{self, Bytes};
use cacheio_tests::watchdog::guarded;

/// A server whose answers to reads the test can hold back: the server has executed the read by then.
#[derive(Debug)]
struct Server {
    entries: Bytes,
    state: Mutex<State>,
    changed: Condvar,
    shared_state: Arc<SharedState>,
}

#[derive(Debug, Default)]
struct State {
    holds_answers: bool,
    held: usize,
}

impl Server {
    fn new() -> Arc<Self> {
        let env = TestEnv::new(Time::Manual(Arc::new(ManualClock::new())));
        Arc::new(Self {
            entries: stores::bytes(&env),
            state: Mutex::default(),
            changed: Condvar::new(),
            shared_state: Arc::default(),
        })
    }

    fn open(self: &Arc<Self>) -> Cache {
        let cache = Cache::builder().store(Arc::clone(self));
        cache.l1(Memory::with_capacity(100)).build().unwrap()
    }

    /// Holds back the answers to the next reads.
    fn hold_answers(&self) {
        self.state.lock().unwrap().holds_answers = true;
    }

    /// Lets the reads that follow pass, while those of before are still held.
    fn let_new_reads_pass(&self) {
        self.state.lock().unwrap().holds_answers = false;
    }

    fn wait_until_held(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.held < count);
        drop(state.unwrap());
    }

    fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.holds_answers = false;
        state.held = 0;
        self.changed.notify_all();
    }
}

impl Store for Server {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.entries.get(key)
    }

    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let entries = self.entries.get_with_ttls(keys);
        let mut state = self.state.lock().unwrap();
        if state.holds_answers {
            state.held += 1;
            self.changed.notify_all();
            let released = self.changed.wait_while(state, |state| state.held > 0);
            drop(released.unwrap());
        }
        entries
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        self.entries.set(key, entry, ttl)
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        self.entries.delete(key)
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.entries.clear(prefix)
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        self.entries.add(key, entry, ttl)
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        self.entries.increment(key, by, ttl)
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        self.entries.touch(key, ttl)
    }

    fn take(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.entries.take(key)
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        self.entries.compare_and_swap(key, current, new)
    }

    fn key_rule(&self) -> KeyRule {
        self.entries.key_rule()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.entries.clock()
    }

    fn shared_state(&self) -> Option<Arc<SharedState>> {
        Some(Arc::clone(&self.shared_state))
    }
}

type Write = fn(&Cache);

/// Writes after which a read must not return the value 1, and the value that it returns.
const WRITES: [(&str, Write, Option<i64>); 12] = [
    ("set", |cache| cache.set("k", 2).unwrap(), Some(2)),
    (
        "set_many",
        |cache| cache.set_many([("k", 2)]).unwrap(),
        Some(2),
    ),
    (
        "set with a TTL of zero",
        |cache| cache.set_with("k", 2, Duration::ZERO).unwrap(),
        None,
    ),
    ("delete", |cache| assert!(cache.delete("k").unwrap()), None),
    (
        "delete_many",
        |cache| assert_eq!(cache.delete_many(["k"]).unwrap(), 1),
        None,
    ),
    (
        "increment",
        |cache| assert_eq!(cache.increment("k", 1).unwrap(), 2),
        Some(2),
    ),
    (
        "update",
        |cache| {
            let updated = cache.update("k", |old: Option<i64>| Update::Set(old.unwrap() + 1));
            assert_eq!(updated.unwrap(), Some(2));
        },
        Some(2),
    ),
    (
        "update to nothing",
        |cache| {
            let removed = cache.update("k", |_: Option<i64>| Update::Remove);
            assert_eq!(removed.unwrap(), None);
        },
        None,
    ),
    (
        "take",
        |cache| assert_eq!(cache.take::<i64>("k").unwrap(), Some(1)),
        None,
    ),
    ("clear", |cache| cache.clear().unwrap(), None),
    (
        "a load",
        |cache| {
            let force = Options::new().force_refresh();
            assert_eq!(cache.get_or_set_with("k", force, || 2_i64), 2);
        },
        Some(2),
    ),
    (
        "touch",
        |cache| assert!(cache.touch("k", Duration::ZERO).unwrap()),
        None,
    ),
];

type Read = fn(&Cache);

/// Calls that read the value 1.
const READS: [(&str, Read); 4] = [
    ("get", |cache| {
        assert_eq!(cache.get::<i64>("k").unwrap(), Some(1));
    }),
    ("get_many", |cache| {
        assert_eq!(cache.get_many::<i64>(["k", "l"]).unwrap(), [Some(1), None]);
    }),
    ("get_or_set", |cache| {
        assert_eq!(cache.get_or_set("k", || 9_i64), 1);
    }),
    ("get_or_set_many", |cache| {
        let load = |_| vec![("k", 9_i64)];
        assert_eq!(cache.get_or_set_many(["k"], load), [Some(1)]);
    }),
];

/// Holds back the answer to a read while the value is written through another cache on the same store, or
/// through the same one.
fn race(read: Read, write: Write, expected: Option<i64>, is_same: bool, what: &str) {
    let server = Server::new();
    let cache = server.open();
    let writer = match is_same {
        true => cache.clone(),
        false => server.open(),
    };
    cache.set("k", 1_i64).unwrap();
    server.hold_answers();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(&cache));
        server.wait_until_held(1);
        server.let_new_reads_pass();
        write(&writer);
        server.release();
        reading.join().unwrap();
    });
    for _ in 0..2 {
        assert_eq!(cache.get::<i64>("k").unwrap(), expected, "{what}");
        assert_eq!(writer.get::<i64>("k").unwrap(), expected, "{what}");
    }
}

#[test]
fn a_write_during_a_read_does_not_leave_the_old_value() {
    guarded(|| {
        for (read_name, read) in READS {
            for (write_name, write, expected) in WRITES {
                for is_same in [true, false] {
                    let what = format!("{write_name} during {read_name}, same cache: {is_same}");
                    race(read, write, expected, is_same, &what);
                }
            }
        }
    });
}

#[test]
fn a_tag_that_is_invalidated_during_a_read_leaves_no_copy() {
    guarded(|| {
        for is_same in [true, false] {
            let server = Server::new();
            let cache = server.open();
            let writer = if is_same {
                cache.clone()
            } else {
                server.open()
            };
            let options = Options::new().tags(["t"]);
            cache.set_with("k", 1_i64, options).unwrap();
            cache.get::<i64>("warm").unwrap();
            server.hold_answers();
            thread::scope(|scope| {
                // The read of the entry is held, and the versions of its tags are read after that.
                let reading = scope.spawn(|| cache.get::<i64>("k").unwrap());
                server.wait_until_held(1);
                server.let_new_reads_pass();
                writer.invalidate_tags(["t"]).unwrap();
                server.release();
                assert_eq!(reading.join().unwrap(), None);
            });
            assert_eq!(cache.get::<i64>("k").unwrap(), None);
        }
    });
}

#[test]
fn clear_l1_during_a_read_leaves_no_copy() {
    guarded(|| {
        let server = Server::new();
        let cache = server.open();
        cache.set("k", 1_i64).unwrap();
        server.hold_answers();
        thread::scope(|scope| {
            let reading = scope.spawn(|| cache.get::<i64>("k").unwrap());
            server.wait_until_held(1);
            cache.clear_l1();
            server.release();
            reading.join().unwrap();
        });
        // As another process would.
        server
            .entries
            .set(&Key::new("cacheio:k"), Entry::bytes(b"2".to_vec()), None)
            .unwrap();
        assert_eq!(cache.get::<i64>("k").unwrap(), Some(2));
    });
}

/// Many threads read, write and invalidate: after a write has returned, no read finds an older value.
#[test]
fn no_value_from_before_a_write_is_read_after_it() {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    const KEYS: usize = 3;
    guarded(|| {
        let server = Server::new();
        let caches = [server.open(), server.open()];
        let written: [AtomicI64; KEYS] = std::array::from_fn(|_| AtomicI64::new(0));
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let (caches, written, has_ended) = (&caches, &written, &has_ended);
            for (number, cache) in caches.iter().cycle().take(4).enumerate() {
                scope.spawn(move || {
                    for round in number.. {
                        if has_ended.load(Ordering::SeqCst) {
                            return;
                        }
                        let key = round % KEYS;
                        let floor = written[key].load(Ordering::SeqCst);
                        let found = match round % 5 {
                            0 => cache.get_many::<i64>([key]).unwrap()[0],
                            _ => cache.get::<i64>(key).unwrap(),
                        };
                        let found = found.unwrap_or(i64::MAX);
                        assert!(found >= floor, "{found} was read after {floor} was written");
                    }
                });
            }
            // One writer for each key, alternately through both caches.
            let writers: Vec<_> = (0..KEYS)
                .map(|key| {
                    scope.spawn(move || {
                        for value in 1..2_000 {
                            let cache = &caches[usize::try_from(value).unwrap() % 2];
                            match value % 7 {
                                0 => cache.set_many([(key, value)]).unwrap(),
                                1 => {
                                    cache.delete(key).unwrap();
                                    let loaded = cache.get_or_set(key, || value);
                                    assert_eq!(loaded, value);
                                }
                                _ => cache.set(key, value).unwrap(),
                            }
                            written[key].store(value, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.join().unwrap();
            }
            has_ended.store(true, Ordering::SeqCst);
        });
        assert!(caches.iter().all(|cache| cache.stats().l1_hits > 0));
    });
}
