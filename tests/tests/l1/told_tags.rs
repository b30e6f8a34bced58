//! Tags of copies, in forced orders. The server here is a model of Redis that tells of changes: it tells a client
//! once of a key that the client has read, and forgets to tell if the client itself has written the key.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_core::__private::SharedState;
use cacheio_core::{Clock, Entry, Form, Key, KeyRule, ManualClock, Options, Result, Store};
use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::{self, Bytes};
use cacheio_tests::watchdog::guarded;

const HOUR: Duration = Duration::from_secs(3_600);
/// Much longer than the tests take.
const BOUND: Duration = Duration::from_secs(1_000);

#[derive(Debug)]
struct Server {
    clock: Arc<ManualClock>,
    entries: Bytes,
    clients: Mutex<Vec<Weak<Client>>>,
}

/// The connection of a process.
#[derive(Debug)]
struct Client {
    server: Arc<Server>,
    shared_state: Arc<SharedState>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    tracked: HashSet<String>,
    holds_pushes: bool,
    /// Those that are held.
    pushes: Vec<String>,
    /// After how many reads an answer is held.
    holds_in: Option<usize>,
    is_held: bool,
    reads: usize,
}

impl Server {
    fn new() -> Arc<Self> {
        let clock = Arc::new(ManualClock::new());
        let env = TestEnv::new(Time::Manual(Arc::clone(&clock)));
        Arc::new(Self {
            clock,
            entries: stores::bytes(&env),
            clients: Mutex::default(),
        })
    }

    /// Returns a cache of a new process, and its connection.
    fn open(self: &Arc<Self>) -> (Cache, Arc<Client>) {
        let client = Arc::new(Client {
            server: Arc::clone(self),
            shared_state: Arc::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        self.clients.lock().unwrap().push(Arc::downgrade(&client));
        let cache = Cache::builder().store(Arc::clone(&client));
        let l1 = L1::new(Memory::with_capacity(100)).max_staleness(BOUND);
        let cache = cache.l1(l1).build().unwrap();
        client.shared_state.heard(Instant::now());
        (cache, client)
    }
}

impl Client {
    fn write<T>(&self, key: &Key<'_>, written: Result<T>) -> Result<T> {
        let clients = self.server.clients.lock().unwrap();
        for client in clients.iter().filter_map(Weak::upgrade) {
            let mut state = client.state.lock().unwrap();
            let was_tracked = state.tracked.remove(key.text());
            if !was_tracked || std::ptr::eq(&*client, self) {
                continue;
            }
            if state.holds_pushes {
                state.pushes.push(key.text().to_owned());
                continue;
            }
            drop(state);
            drop(client.shared_state.changed(key.text()));
        }
        written
    }

    fn hold_pushes(&self) {
        self.state.lock().unwrap().holds_pushes = true;
    }

    fn release_pushes(&self) {
        let mut state = self.state.lock().unwrap();
        state.holds_pushes = false;
        let pushes = std::mem::take(&mut state.pushes);
        drop(state);
        for key in pushes {
            drop(self.shared_state.changed(&key));
        }
    }

    /// Runs `read` in another thread, and `meanwhile` when the server has executed one of its requests.
    fn during(&self, request: usize, read: impl FnOnce() + Send, meanwhile: impl FnOnce()) {
        self.state.lock().unwrap().holds_in = Some(request);
        thread::scope(|scope| {
            scope.spawn(read);
            let state = self.state.lock().unwrap();
            drop(self.changed.wait_while(state, |state| !state.is_held));
            meanwhile();
            self.state.lock().unwrap().is_held = false;
            self.changed.notify_all();
        });
    }

    fn reads(&self) -> usize {
        self.state.lock().unwrap().reads
    }
}

impl Store for Client {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.state.lock().unwrap().reads += 1;
        self.server.entries.get(key)
    }

    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let mut state = self.state.lock().unwrap();
        state.reads += 1;
        let mut entries = self.server.entries.get_with_ttls(keys)?;
        for (key, entry) in keys.iter().zip(&mut entries) {
            state.tracked.insert(key.text().to_owned());
            if let Some(entry) = entry {
                entry.is_watched = true;
            }
        }
        state.holds_in = match state.holds_in {
            Some(0) => {
                state.is_held = true;
                self.changed.notify_all();
                state.holds_in = None;
                drop(self.changed.wait_while(state, |state| state.is_held));
                return Ok(entries);
            }
            Some(requests) => Some(requests - 1),
            None => None,
        };
        Ok(entries)
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        self.write(key, self.server.entries.set(key, entry, ttl))
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        self.write(key, self.server.entries.delete(key))
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.server.entries.clear(prefix)
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        match self.server.entries.add(key, entry, ttl)? {
            true => self.write(key, Ok(true)),
            false => Ok(false),
        }
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        self.write(key, self.server.entries.touch(key, ttl))
    }

    fn key_rule(&self) -> KeyRule {
        self.server.entries.key_rule()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.server.entries.clock()
    }

    fn shared_state(&self) -> Option<Arc<SharedState>> {
        Some(Arc::clone(&self.shared_state))
    }
}

fn tagged(ttl: Duration) -> Options {
    Options::new().ttl(ttl).tags(["t"])
}

fn get(cache: &Cache, key: &str) -> Option<i32> {
    cache.get(key).unwrap()
}

/// Makes a copy, and checks that it is one.
fn copy(cache: &Cache, key: &str) {
    assert_eq!(get(cache, key), Some(1));
    let hits = cache.stats().l1_hits;
    assert_eq!(get(cache, key), Some(1));
    assert_eq!(cache.stats().l1_hits, hits + 1, "{key}");
}

#[test]
fn a_tag_that_another_process_invalidates_ends_copies() {
    guarded(|| {
        let server = Server::new();
        let ((cache, client), (other, _)) = (server.open(), server.open());
        let options = || Options::new().ttl(HOUR).tags(["t", "u"]);
        for tag in ["t", "u", "t"] {
            other.set_with("k", 1, options()).unwrap();
            other.set_with("l", 1, tagged(HOUR)).unwrap();
            assert_eq!(cache.get_many::<i32>(["k", "l"]).unwrap(), [Some(1); 2]);
            let reads = client.reads();
            assert_eq!(cache.get_many::<i32>(["k", "l"]).unwrap(), [Some(1); 2]);
            assert_eq!(client.reads(), reads);
            other.invalidate_tags([tag]).unwrap();
            assert_eq!(get(&cache, "k"), None);
            assert_eq!(get(&cache, "l"), (tag == "u").then_some(1));
        }
    });
}

/// The versions of tags are in L1, too.
#[test]
fn the_versions_of_tags_are_read_once() {
    guarded(|| {
        let server = Server::new();
        let ((cache, client), (other, _)) = (server.open(), server.open());
        for key in ["a", "b", "c"] {
            other.set_with(key, 1, tagged(HOUR)).unwrap();
        }
        // The entry, and the version.
        for (key, expected) in [("a", 2), ("b", 1), ("c", 1), ("a", 0)] {
            let reads = client.reads();
            assert_eq!(get(&cache, key), Some(1));
            assert_eq!(client.reads(), reads + expected, "{key}");
        }
        other.invalidate_tags(["t"]).unwrap();
        for (key, expected) in [("a", 2), ("b", 2)] {
            let reads = client.reads();
            assert_eq!(get(&cache, key), None);
            assert_eq!(client.reads(), reads + expected, "{key}");
        }
    });
}

/// The push comes before the answer.
#[test]
fn an_invalidation_while_an_answer_is_on_its_way_leaves_no_copy() {
    guarded(|| {
        // The first request reads the entry, and the second the version.
        for (knows_version, request) in [(true, 0), (false, 0), (false, 1)] {
            let server = Server::new();
            let ((cache, client), (other, _)) = (server.open(), server.open());
            other.set_with("k", 1, tagged(HOUR)).unwrap();
            other.set_with("l", 1, tagged(HOUR)).unwrap();
            if knows_version {
                copy(&cache, "l");
            }
            let read = || assert!(get(&cache, "k").is_none_or(|value| value == 1));
            client.during(request, read, || other.invalidate_tags(["t"]).unwrap());
            for key in ["k", "l"] {
                assert_eq!(get(&cache, key), None, "{knows_version} {request}");
            }
        }
    });
}

/// The push comes after the read: it ends the copy of what was read by an old version.
#[test]
fn an_invalidation_that_is_told_late_ends_the_copies_that_were_made_meanwhile() {
    guarded(|| {
        let server = Server::new();
        let ((cache, client), (other, _)) = (server.open(), server.open());
        other.set_with("k", 1, tagged(HOUR)).unwrap();
        other.set_with("l", 1, tagged(HOUR)).unwrap();
        copy(&cache, "l");
        client.hold_pushes();
        other.invalidate_tags(["t"]).unwrap();
        copy(&cache, "k");
        client.release_pushes();
        for key in ["k", "l"] {
            assert_eq!(get(&cache, key), None);
        }
    });
}

#[test]
fn an_own_invalidation_while_an_answer_is_on_its_way_leaves_no_copy() {
    guarded(|| {
        // The first request reads the entry, and the second the version.
        for (knows_version, request) in [(true, 0), (false, 0), (false, 1)] {
            let server = Server::new();
            let (cache, client) = server.open();
            cache.set_with("k", 1, tagged(HOUR)).unwrap();
            cache.set_with("l", 1, tagged(HOUR)).unwrap();
            if knows_version {
                copy(&cache, "l");
            }
            let read = || assert!(get(&cache, "k").is_none_or(|value| value == 1));
            client.during(request, read, || cache.invalidate_tags(["t"]).unwrap());
            for key in ["k", "l"] {
                assert_eq!(get(&cache, key), None, "{knows_version} {request}");
            }
        }
    });
}

/// The server forgets to tell of a version whose TTL the process itself has renewed.
#[test]
fn a_renewed_version_is_told_all_the_same() {
    guarded(|| {
        let server = Server::new();
        let ((cache, _), (other, _)) = (server.open(), server.open());
        // The version lives for four times as long.
        let ttl = 20 * HOUR;
        other.set_with("first", 1, tagged(ttl)).unwrap();
        server.clock.advance(39 * HOUR);
        other.set_with("k", 1, tagged(ttl)).unwrap();
        server.clock.advance(2 * HOUR);
        copy(&cache, "k");
        cache.set_with("l", 1, tagged(ttl)).unwrap();
        other.invalidate_tags(["t"]).unwrap();
        assert_eq!(get(&cache, "k"), None);
    });
}

/// A version that has to live longer is replaced.
#[test]
fn a_replaced_version_ends_the_copies_of_the_old_one() {
    guarded(|| {
        let server = Server::new();
        let ((cache, _), (other, _)) = (server.open(), server.open());
        other.set_with("k", 1, tagged(HOUR)).unwrap();
        copy(&cache, "k");
        cache.set_with("l", 1, tagged(100 * HOUR)).unwrap();
        assert_eq!(get(&cache, "k"), None);
        copy(&cache, "l");
        other.invalidate_tags(["t"]).unwrap();
        assert_eq!(get(&cache, "l"), None);
    });
}

/// A process that gives a tag a version again is told of its next invalidation.
#[test]
fn an_added_version_is_told() {
    guarded(|| {
        let server = Server::new();
        let ((cache, _), (other, _)) = (server.open(), server.open());
        for _ in 0..3 {
            cache.set_with("k", 1, tagged(HOUR)).unwrap();
            copy(&cache, "k");
            other.invalidate_tags(["t"]).unwrap();
            assert_eq!(get(&cache, "k"), None);
            let loaded = cache.get_or_set_with("l", tagged(HOUR), || 1);
            assert_eq!((loaded, get(&cache, "l")), (1, Some(1)));
            cache.clear_l1();
            copy(&cache, "l");
            other.invalidate_tags(["t"]).unwrap();
            assert_eq!(get(&cache, "l"), None);
        }
    });
}

/// Without the confirmation of the server nothing is served, also no version.
#[test]
fn a_version_that_is_not_told_any_more_is_not_used() {
    guarded(|| {
        let server = Server::new();
        let ((cache, client), (other, _)) = (server.open(), server.open());
        other.set_with("k", 1, tagged(HOUR)).unwrap();
        other.set_with("l", 1, tagged(HOUR)).unwrap();
        copy(&cache, "l");
        client.hold_pushes();
        other.invalidate_tags(["t"]).unwrap();
        drop(client.shared_state.unheard());
        for key in ["k", "l"] {
            assert_eq!(get(&cache, key), None);
        }
    });
}
