//! Reads whose answers are on their way while the key is written, in forced orders.

use std::thread;
use std::time::Duration;

use cacheio_core::{Options, Update};
use cacheio_sync::Cache;
use cacheio_tests::watchdog::guarded;

use crate::server::Server;

type Write = fn(&Cache);

/// Writes after which a read must not return the value 1, and the value that it returns.
const WRITES: [(&str, Write, Option<i64>); 13] = [
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
        "a load that is not stored",
        |cache| {
            let not_stored = Options::ttl(Duration::ZERO).force_refresh();
            assert_eq!(cache.get_or_set_with("k", not_stored, || 2_i64), 2);
        },
        None,
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
    server.answers.close();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(&cache));
        server.answers.wait_until_held(1);
        server.answers.let_others_pass();
        write(&writer);
        server.answers.open();
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

/// The read begins during the write, before the server has executed it. Its answer is put in during the write,
/// or after it.
fn race_within(
    read: Read,
    write: Write,
    expected: Option<i64>,
    is_same: bool,
    is_late: bool,
    what: &str,
) {
    let server = Server::new();
    let cache = server.open();
    let writer = match is_same {
        true => cache.clone(),
        false => server.open(),
    };
    cache.set("k", 1_i64).unwrap();
    drop(server.tell());
    server.writes.close();
    thread::scope(|scope| {
        let writing = scope.spawn(|| write(&writer));
        server.writes.wait_until_held(1);
        if is_late {
            server.answers.close();
        }
        let reading = scope.spawn(|| read(&cache));
        if is_late {
            server.answers.wait_until_held(1);
            server.answers.let_others_pass();
            server.writes.open();
            writing.join().unwrap();
            server.answers.open();
            reading.join().unwrap();
        } else {
            reading.join().unwrap();
            server.writes.open();
            writing.join().unwrap();
        }
    });
    for _ in 0..2 {
        assert_eq!(cache.get::<i64>("k").unwrap(), expected, "{what}");
        assert_eq!(writer.get::<i64>("k").unwrap(), expected, "{what}");
    }
}

#[test]
fn a_read_during_a_write_does_not_leave_the_old_value() {
    guarded(|| {
        for (read_name, read) in READS {
            for (write_name, write, expected) in WRITES {
                for (is_same, is_late) in
                    [(true, true), (true, false), (false, true), (false, false)]
                {
                    let what = format!(
                        "{read_name} during {write_name}, same cache: {is_same}, late: {is_late}"
                    );
                    race_within(read, write, expected, is_same, is_late, &what);
                }
            }
        }
    });
}

/// The server executes a write whose caller gets an error: the read that was on its way is of before.
#[test]
fn a_write_whose_answer_is_lost_leaves_no_old_value() {
    let lost: [(&str, Write, Option<i64>); 4] = [
        (
            "set",
            |cache| drop(cache.set("k", 2_i64).unwrap_err()),
            Some(2),
        ),
        (
            "set_many",
            |cache| drop(cache.set_many([("k", 2_i64)]).unwrap_err()),
            Some(2),
        ),
        (
            "increment",
            |cache| drop(cache.increment("k", 1).unwrap_err()),
            Some(2),
        ),
        ("delete", |cache| drop(cache.delete("k").unwrap_err()), None),
    ];
    guarded(move || {
        for (name, write, expected) in lost {
            let server = Server::new();
            let cache = server.open();
            cache.set("k", 1_i64).unwrap();
            drop(server.tell());
            server.lose_answers(true);
            server.writes.close();
            thread::scope(|scope| {
                let writing = scope.spawn(|| write(&cache));
                server.writes.wait_until_held(1);
                server.answers.close();
                let reading = scope.spawn(|| cache.get::<i64>("k").unwrap());
                server.answers.wait_until_held(1);
                server.answers.let_others_pass();
                server.writes.open();
                writing.join().unwrap();
                server.answers.open();
                assert_eq!(reading.join().unwrap(), Some(1));
            });
            server.lose_answers(false);
            assert_eq!(cache.get::<i64>("k").unwrap(), expected, "{name}");
        }
    });
}

/// Recording a failed refresh writes the header of the entry. The server does not tell the connection of its own
/// writes, and forgets that the connection has read the key.
#[test]
fn a_failed_refresh_that_is_recorded_during_a_read_leaves_no_copy() {
    guarded(|| {
        let ttl = Duration::from_secs(1_000);
        let options = || Options::ttl(ttl).refresh_ahead(0.1);
        for is_late in [true, false] {
            let server = Server::new();
            let cache = server.open();
            assert_eq!(cache.get_or_set_with("k", options(), || 1_i64), 1);
            server.clock.advance(ttl / 2);
            cache.clear_l1();
            drop(server.tell());
            server.writes.close();
            thread::scope(|scope| {
                let refreshing = scope.spawn(|| {
                    let fail = || Err::<i64, _>("down");
                    cache.get_or_try_set_with("k", options(), fail).unwrap()
                });
                server.writes.wait_until_held(1);
                cache.clear_l1();
                if is_late {
                    server.answers.close();
                }
                let reading = scope.spawn(|| cache.get::<i64>("k").unwrap());
                if is_late {
                    server.answers.wait_until_held(1);
                    server.answers.let_others_pass();
                } else {
                    assert_eq!(reading.join().unwrap(), Some(1));
                }
                server.writes.open();
                assert_eq!(refreshing.join().unwrap(), 1);
                server.answers.open();
            });
            assert_eq!(cache.stats().refresh_errors, 1);
            // No change of this is told.
            server.set_elsewhere("k", 2);
            assert_eq!(cache.get::<i64>("k").unwrap(), Some(2), "late: {is_late}");
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
            server.answers.close();
            thread::scope(|scope| {
                // The read of the entry is held, and the versions of its tags are read after that.
                let reading = scope.spawn(|| cache.get::<i64>("k").unwrap());
                server.answers.wait_until_held(1);
                server.answers.let_others_pass();
                writer.invalidate_tags(["t"]).unwrap();
                server.answers.open();
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
        server.answers.close();
        thread::scope(|scope| {
            let reading = scope.spawn(|| cache.get::<i64>("k").unwrap());
            server.answers.wait_until_held(1);
            cache.clear_l1();
            server.answers.open();
            reading.join().unwrap();
        });
        // As another process would.
        server.set_elsewhere("k", 2);
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
