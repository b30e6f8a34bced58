//! A server that several processes share: it holds their entries, and the claims on their keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cacheio_core::{
    AsyncStore, BoxFuture, Claim, ClaimMode, Claimed, Clock, Entry, Form, Key, ManualClock,
    Payload, Result, Settled, Settlement, SharedLoads, Store,
};
use shuttle::rand::{Rng as _, thread_rng};

/// What the server does wrong. A check that does not notice it checks nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mistake {
    None,
    /// It stores the value of a load whose claim has ended.
    IgnoresTheClaim,
    /// It stores the value of a load though the entry has changed since its claim.
    IgnoresTheEntry,
    /// A write ends the claim on its key after it has changed the entry, instead of before.
    EndsClaimsAfterWrites,
}

/// Whether a claim may be taken over from a process that still loads, as if that did not respond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TakesOver {
    Never,
    Sometimes,
}

/// What a process has of the server: a store of its own.
#[derive(Debug)]
pub(crate) struct Process(Arc<Server>);

#[derive(Debug)]
struct Server {
    mistake: Mistake,
    takes_over: TakesOver,
    clock: Arc<ManualClock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    holders: HashMap<String, Holder>,
    /// The claims that were dropped, and that the server has not been told of.
    dropped: Vec<(String, Holder)>,
    tokens: usize,
}

/// Who may store a value: the load with this token, or each load after one that failed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holder {
    Load(usize),
    Mark(usize),
}

/// A claim of a process.
struct Held {
    server: Arc<Server>,
    key: String,
    holder: Holder,
    /// The entry when the key was claimed, unless the claim was taken over without reading it.
    entry: Option<Option<Entry>>,
    has_failed: bool,
    is_open: bool,
}

/// Starts a server, and returns the stores of so many processes.
pub(crate) fn processes(count: usize, mistake: Mistake, takes_over: TakesOver) -> Vec<Process> {
    let server = Arc::new(Server {
        mistake,
        takes_over,
        clock: Arc::new(ManualClock::new()),
        state: Mutex::default(),
    });
    (0..count).map(|_| Process(Arc::clone(&server))).collect()
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        // A process tells in the background that it has dropped a claim.
        if !state.dropped.is_empty() && thread_rng().gen_bool(0.5) {
            state.give_back();
        }
        state
    }

    fn end_claims(&self, is_written: impl Fn(&str) -> bool, is_after: bool) {
        if is_after == (self.mistake == Mistake::EndsClaimsAfterWrites) {
            self.state().holders.retain(|key, _| !is_written(key));
        }
    }

    fn claim(self: &Arc<Self>, key: &Key<'_>, force: bool) -> Claimed {
        let mut state = self.state();
        let entry = state.entries.get(key.text()).cloned();
        let holder = match state.holders.get(key.text()) {
            Some(Holder::Load(_)) if !force && !self.has_stopped() => {
                return Claimed::Lost {
                    entry,
                    is_told: false,
                };
            }
            // A mark ends after a while.
            Some(mark @ Holder::Mark(_)) if !force && thread_rng().gen_bool(0.8) => *mark,
            _ => {
                state.tokens += 1;
                Holder::Load(state.tokens)
            }
        };
        state.holders.insert(key.text().to_owned(), holder);
        let read = (!force).then(|| entry.clone());
        let held = Held {
            server: Arc::clone(self),
            key: key.text().to_owned(),
            holder,
            entry: read,
            has_failed: false,
            is_open: matches!(holder, Holder::Load(_)),
        };
        Claimed::Won {
            claim: Claim::new(held),
            entry: entry.filter(|_| !force),
        }
    }

    fn has_stopped(&self) -> bool {
        self.takes_over == TakesOver::Sometimes && thread_rng().gen_bool(0.1)
    }

    fn settle(&self, load: Settlement<'_>) -> bool {
        let mut held: Held = load.claim.downcast().unwrap();
        let entry = match load.loaded {
            Settled::Entry(entry, _) => Some(entry),
            Settled::Removed => None,
            _ => {
                held.has_failed = true;
                return true;
            }
        };
        held.is_open = false;
        let mut state = self.state();
        let is_held = state.holders.get(&held.key) == Some(&held.holder);
        let current = state.entries.get(&held.key);
        let is_same = (held.entry.as_ref()).is_none_or(|read| is_same(read.as_ref(), current));
        if is_held {
            match entry.is_some() || !is_same {
                true => state.holders.remove(&held.key),
                false => state.holders.insert(held.key.clone(), held.mark()),
            };
        }
        let stores = (is_held || self.mistake == Mistake::IgnoresTheClaim)
            && (is_same || self.mistake == Mistake::IgnoresTheEntry);
        if stores {
            match entry {
                Some(entry) => state.entries.insert(held.key.clone(), entry),
                None => state.entries.remove(&held.key),
            };
        }
        stores
    }
}

impl State {
    fn give_back(&mut self) {
        for (key, holder) in std::mem::take(&mut self.dropped) {
            let (Holder::Load(token) | Holder::Mark(token)) = holder;
            if self.holders.get(&key) == Some(&Holder::Load(token)) {
                match holder {
                    Holder::Load(_) => self.holders.remove(&key),
                    mark @ Holder::Mark(_) => self.holders.insert(key, mark),
                };
            }
        }
    }
}

impl Held {
    fn mark(&self) -> Holder {
        let (Holder::Load(token) | Holder::Mark(token)) = self.holder;
        Holder::Mark(token)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_open {
            let holder = if self.has_failed {
                self.mark()
            } else {
                self.holder
            };
            let dropped = (std::mem::take(&mut self.key), holder);
            self.server.state.lock().unwrap().dropped.push(dropped);
        }
    }
}

fn is_same(read: Option<&Entry>, current: Option<&Entry>) -> bool {
    let identity = |entry: &Entry| match &entry.payload {
        Payload::Bytes(bytes) => bytes[entry.identity()].to_vec(),
        _ => unreachable!("a server has bytes"),
    };
    read.map(identity) == current.map(identity)
}

/// What a process tells of its server, for threads and for tasks.
macro_rules! properties {
    () => {
        fn form(&self) -> Form {
            Form::Bytes
        }

        fn shared_loads(&self) -> SharedLoads {
            SharedLoads::ByDefault
        }

        fn clock(&self) -> Arc<dyn Clock> {
            Arc::clone(&self.0.clock) as _
        }
    };
}

/// Makes each operation of steps, between which other processes run, for threads and for tasks.
macro_rules! operations {
    ($($this:ident.$name:ident($($arg:ident: $type:ty | $async_type:ty),*) -> $output:ty {
        $($step:expr;)* => $last:expr
    })*) => {
        impl Store for Process {
            $(fn $name(&self, $($arg: $type),*) -> Result<$output> {
                let $this = &self.0;
                shuttle::thread::yield_now();
                $($step; shuttle::thread::yield_now();)*
                let output = $last;
                shuttle::thread::yield_now();
                Ok(output)
            })*

            properties!();
        }

        impl AsyncStore for Process {
            $(fn $name<'a>(&'a self, $($arg: $async_type),*) -> BoxFuture<'a, Result<$output>> {
                Box::pin(async move {
                    let $this = &self.0;
                    shuttle::future::yield_now().await;
                    $($step; shuttle::future::yield_now().await;)*
                    let output = $last;
                    shuttle::future::yield_now().await;
                    Ok(output)
                })
            })*

            properties!();
        }
    };
}

operations! {
    server.get(key: &Key<'_> | &'a Key<'a>) -> Option<Entry> {
        => server.state().entries.get(key.text()).cloned()
    }

    server.set(key: &Key<'_> | &'a Key<'a>, entry: Entry | Entry, _ttl: Option<Duration> | Option<Duration>) -> () {
        server.end_claims(|written| written == key.text(), false);
        drop(server.state().entries.insert(key.text().to_owned(), entry));
        => server.end_claims(|written| written == key.text(), true)
    }

    server.delete(key: &Key<'_> | &'a Key<'a>) -> bool {
        server.end_claims(|written| written == key.text(), false);
        drop(server.state().entries.remove(key.text()));
        => {
            server.end_claims(|written| written == key.text(), true);
            true
        }
    }

    server.clear(prefix: &str | &'a str) -> () {
        server.end_claims(|written| written.starts_with(prefix), false);
        server.state().entries.retain(|key, _| !key.starts_with(prefix));
        => server.end_claims(|written| written.starts_with(prefix), true)
    }

    // Each is one script.
    server.claim(keys: &[Key<'_>] | &'a [Key<'a>], mode: ClaimMode | ClaimMode) -> Vec<Claimed> {
        => keys.iter().map(|key| server.claim(key, mode == ClaimMode::TakeOver)).collect()
    }

    server.settle(loads: Vec<Settlement<'_>> | Vec<Settlement<'a>>) -> Vec<bool> {
        => loads.into_iter().map(|load| server.settle(load)).collect()
    }
}
