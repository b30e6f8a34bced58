//! The contestants: callers, threads or tasks, that repeat one operation through one client.

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_benches::clients::{Name, Sample, TaskClient, ThreadClient};
use tokio::runtime::Runtime;

/// The number of keys of each kind of value. Each caller has an order of its own.
const KEYS: usize = 10_000;
/// The number of keys in a batch.
const BATCH: usize = 100;

/// One operation by several callers at the same time.
pub(crate) struct Row {
    server: &'static str,
    operation: Operation,
    pub(crate) callers: Callers,
    kind: &'static str,
    /// The lowest accepted ratio to the rate of the raw client.
    pub(crate) bar: Option<f64>,
}

#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Get,
    Set,
    GetMany,
}

#[derive(Clone, Copy)]
pub(crate) enum Callers {
    Threads(usize),
    Tasks(usize),
    /// Tasks on a runtime with one worker, so that the server has a core of its own.
    TasksOfOneWorker(usize),
}

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// Runs for this time and returns the entries a second.
    pub(crate) turn: Box<dyn Fn(Duration) -> f64>,
    pub(crate) rates: Vec<f64>,
}

impl Row {
    pub(crate) fn new<V: Sample>(
        server: &'static str,
        operation: Operation,
        callers: Callers,
    ) -> Self {
        Self {
            server,
            operation,
            callers,
            kind: V::KIND,
            bar: None,
        }
    }

    pub(crate) fn bar(self, bar: impl Into<Option<f64>>) -> Self {
        let bar = bar.into();
        Self { bar, ..self }
    }

    /// Callers that are tasks of one [runtime](Callers::runtime), with a clone of the client each.
    pub(crate) fn tasks<C: TaskClient, V: Sample>(
        &self,
        name: &'static str,
        client: C,
    ) -> Contestant {
        let (operation, count) = (self.operation, self.callers.count());
        let runtime = self.callers.runtime();
        let turn = move |duration| {
            let stop = Arc::new(AtomicBool::new(false));
            let start = Instant::now();
            let callers: Vec<_> = (0..count)
                .map(|caller| {
                    let (client, stop) = (client.clone(), Arc::clone(&stop));
                    runtime.spawn(task::<C, V>(client, operation, Walk::new(caller), stop))
                })
                .collect();
            thread::sleep(duration);
            stop.store(true, Ordering::Relaxed);
            let counts = callers
                .into_iter()
                .map(|caller| runtime.block_on(caller).expect("no caller panics"));
            rate(counts.sum(), start)
        };
        Contestant::new(name, turn)
    }

    /// Callers that are threads, each with its own client.
    pub(crate) fn threads<C: ThreadClient, V: Sample>(
        &self,
        name: &'static str,
        client: impl Fn() -> C + Sync + 'static,
    ) -> Contestant {
        let (operation, count) = (self.operation, self.callers.count());
        let turn = move |duration| {
            let (stop, ready) = (AtomicBool::new(false), Barrier::new(count + 1));
            thread::scope(|scope| {
                let (client, stop, ready) = (&client, &stop, &ready);
                let callers: Vec<_> = (0..count)
                    .map(|caller| {
                        scope.spawn(move || {
                            let mut client = client();
                            ready.wait();
                            threaded::<C, V>(&mut client, operation, Walk::new(caller), stop)
                        })
                    })
                    .collect();
                ready.wait();
                let start = Instant::now();
                thread::sleep(duration);
                stop.store(true, Ordering::Relaxed);
                let counts = callers
                    .into_iter()
                    .map(|caller| caller.join().expect("no caller panics"));
                rate(counts.sum(), start)
            })
        };
        Contestant::new(name, turn)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Get => "get".into(),
            Operation::Set => "set".into(),
            Operation::GetMany => format!("get_many({BATCH})"),
        };
        let callers = match self.callers {
            Callers::Threads(1) => "1 thread".into(),
            Callers::Tasks(1) => "1 task".into(),
            Callers::Threads(count) => format!("{count} threads"),
            Callers::Tasks(count) => format!("{count} tasks"),
            Callers::TasksOfOneWorker(1) => "1 task, one worker".into(),
            Callers::TasksOfOneWorker(count) => format!("{count} tasks, one worker"),
        };
        let (server, kind) = (self.server, self.kind);
        write!(f, "{server} {operation} | {callers} | {kind}")
    }
}

impl Callers {
    fn count(self) -> usize {
        match self {
            Self::Threads(count) | Self::Tasks(count) | Self::TasksOfOneWorker(count) => count,
        }
    }

    /// The runtime of the tasks: a client stays on the runtime where it connected.
    pub(crate) fn runtime(self) -> &'static Runtime {
        static ONE: OnceLock<Runtime> = OnceLock::new();
        static TWO: OnceLock<Runtime> = OnceLock::new();
        let (runtime, workers) = match self {
            Self::TasksOfOneWorker(_) => (&ONE, 1),
            _ => (&TWO, 2),
        };
        runtime.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(workers)
                .enable_all()
                .build()
                .expect("a runtime")
        })
    }
}

impl Contestant {
    fn new(name: &'static str, turn: impl Fn(Duration) -> f64 + 'static) -> Self {
        Self {
            name,
            turn: Box::new(turn),
            rates: Vec::new(),
        }
    }
}

/// Repeats the operation in a task until `stop` is set; returns the number of entries.
async fn task<C: TaskClient, V: Sample>(
    mut client: C,
    operation: Operation,
    mut walk: Walk,
    stop: Arc<AtomicBool>,
) -> usize {
    let (names, sample) = (names::<V>(), sample::<V>());
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += match operation {
            Operation::Get => {
                let value: V = client.get(names[walk.step()]).await;
                assert_eq!(black_box(&value), sample);
                1
            }
            Operation::Set => {
                client.set(names[walk.step()], sample).await;
                1
            }
            Operation::GetMany => {
                let batch: [Name; BATCH] = std::array::from_fn(|_| names[walk.step()]);
                let values: Vec<V> = client.get_many(&batch).await;
                assert_eq!(black_box(values).last(), Some(sample));
                BATCH
            }
        };
    }
    count
}

/// Repeats the operation in a thread until `stop` is set; returns the number of entries.
fn threaded<C: ThreadClient, V: Sample>(
    client: &mut C,
    operation: Operation,
    mut walk: Walk,
    stop: &AtomicBool,
) -> usize {
    let (names, sample) = (names::<V>(), sample::<V>());
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += match operation {
            Operation::Get => {
                let value: V = client.get(names[walk.step()]);
                assert_eq!(black_box(&value), sample);
                1
            }
            Operation::Set => {
                client.set(names[walk.step()], sample);
                1
            }
            Operation::GetMany => {
                let batch: [Name; BATCH] = std::array::from_fn(|_| names[walk.step()]);
                let values: Vec<V> = client.get_many(&batch);
                assert_eq!(black_box(values).last(), Some(sample));
                BATCH
            }
        };
    }
    count
}

/// A random order of the keys (xorshift).
struct Walk(u64);

impl Walk {
    fn new(caller: usize) -> Self {
        Self(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(caller as u64 + 1))
    }

    fn step(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % KEYS as u64).expect("there are few keys")
    }
}

pub(crate) fn names<V: Sample>() -> &'static [Name] {
    static STRINGS: OnceLock<Vec<Name>> = OnceLock::new();
    static STRUCTS: OnceLock<Vec<Name>> = OnceLock::new();
    let names = if V::KIND == String::KIND {
        &STRINGS
    } else {
        &STRUCTS
    };
    names.get_or_init(|| Name::all(V::KIND, KEYS))
}

/// Leaks a value, so that callers share it without cloning it.
pub(crate) fn sample<V: Sample>() -> &'static V {
    Box::leak(Box::new(V::sample()))
}

#[allow(clippy::cast_precision_loss)]
fn rate(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}
