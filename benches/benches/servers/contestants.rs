//! The contestants: callers, threads or tasks, that repeat one operation through one client.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_benches::clients::{Name, Sample, TaskClient, ThreadClient};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// The number of keys in a batch.
const BATCH: usize = 100;

/// One operation by several callers at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    server: &'static str,
    operation: Operation,
    pub(crate) callers: Callers,
    kind: &'static str,
    place: &'static str,
    /// The lowest accepted ratio to the rate of the raw client.
    pub(crate) goal: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Set,
    /// A hit.
    GetOrSet,
    GetMany,
    SetMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    Threads(usize),
    Tasks(usize, Workers),
}

/// The runtime of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    CurrentThread,
    /// So that the server has a core of its own.
    One,
    Two,
}

/// What a contestant did in a turn.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    /// Entries a second.
    pub(crate) rate: f64,
    /// The time of this process' CPUs for an entry, in microseconds.
    pub(crate) cpu: f64,
}

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// Runs for this time.
    pub(crate) turn: Box<dyn Fn(Duration) -> Turn>,
    pub(crate) turns: Vec<Turn>,
}

impl Row {
    pub(crate) fn new<V: Sample>(
        server: &'static str,
        operation: Operation,
        callers: Callers,
        place: &'static str,
    ) -> Self {
        Self {
            server,
            operation,
            callers,
            kind: V::KIND,
            place,
            goal: 0.95,
        }
    }

    pub(crate) fn goal(self, goal: f64) -> Self {
        Self { goal, ..self }
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
            let client = client.clone();
            // A runtime of the current thread runs its tasks only meanwhile.
            runtime.block_on(async move {
                let stopwatch = Stopwatch::start();
                let mut callers = JoinSet::new();
                for caller in 0..count {
                    let (client, stop) = (client.clone(), Arc::clone(&stop));
                    callers.spawn(task::<C, V>(
                        client,
                        operation,
                        Walk::new::<V>(caller),
                        stop,
                    ));
                }
                tokio::time::sleep(duration).await;
                stop.store(true, Ordering::Relaxed);
                let counts = callers.join_all().await;
                stopwatch.stop(counts.into_iter().sum())
            })
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
                            threaded::<C, V>(&mut client, operation, Walk::new::<V>(caller), stop)
                        })
                    })
                    .collect();
                ready.wait();
                let stopwatch = Stopwatch::start();
                thread::sleep(duration);
                stop.store(true, Ordering::Relaxed);
                let counts = callers
                    .into_iter()
                    .map(|caller| caller.join().expect("no caller panics"));
                stopwatch.stop(counts.sum())
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
            Operation::GetOrSet => "get_or_set".into(),
            Operation::GetMany => format!("get_many({BATCH})"),
            Operation::SetMany => format!("set_many({BATCH})"),
        };
        let Self {
            server,
            kind,
            place,
            callers,
            ..
        } = self;
        write!(f, "{server} {operation} | {callers} | {kind} | {place}")
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count() == 1 { "" } else { "s" };
        match self {
            Self::Threads(count) => write!(f, "{count} thread{plural}"),
            Self::Tasks(count, workers) => {
                let workers = match workers {
                    Workers::CurrentThread => "current_thread",
                    Workers::One => "one worker",
                    Workers::Two => "two workers",
                };
                write!(f, "{count} task{plural}, {workers}")
            }
        }
    }
}

impl Callers {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Threads(count) | Self::Tasks(count, _) => count,
        }
    }

    /// The runtime of the tasks: a client stays on the runtime where it connected.
    pub(crate) fn runtime(self) -> &'static Runtime {
        static CURRENT_THREAD: OnceLock<Runtime> = OnceLock::new();
        static ONE: OnceLock<Runtime> = OnceLock::new();
        static TWO: OnceLock<Runtime> = OnceLock::new();
        let multi = |workers| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        };
        let (runtime, mut builder) = match self {
            Self::Tasks(_, Workers::CurrentThread) => {
                (&CURRENT_THREAD, Builder::new_current_thread())
            }
            Self::Tasks(_, Workers::One) => (&ONE, multi(1)),
            _ => (&TWO, multi(2)),
        };
        runtime.get_or_init(|| builder.enable_all().build().expect("a runtime"))
    }
}

impl Contestant {
    fn new(name: &'static str, turn: impl Fn(Duration) -> Turn + 'static) -> Self {
        Self {
            name,
            turn: Box::new(turn),
            turns: Vec::new(),
        }
    }
}

/// Measures a turn.
struct Stopwatch {
    start: Instant,
    cpu: f64,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            cpu: cpu_microseconds(),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn stop(&self, count: usize) -> Turn {
        Turn {
            rate: count as f64 / self.start.elapsed().as_secs_f64(),
            cpu: (cpu_microseconds() - self.cpu) / count as f64,
        }
    }
}

/// Returns the CPU time of this process.
#[allow(clippy::cast_precision_loss)]
fn cpu_microseconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
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
            Operation::GetOrSet => {
                let value: V = client.get_or_set(names[walk.step()]).await;
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
            Operation::SetMany => {
                let batch: [Name; BATCH] = std::array::from_fn(|_| names[walk.step()]);
                client.set_many(&batch, sample).await;
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
            Operation::GetOrSet => {
                let value: V = client.get_or_set(names[walk.step()]);
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
            Operation::SetMany => {
                let batch: [Name; BATCH] = std::array::from_fn(|_| names[walk.step()]);
                client.set_many(&batch, sample);
                BATCH
            }
        };
    }
    count
}

/// A random order of the keys (xorshift). Each caller has an order of its own.
struct Walk {
    state: u64,
    keys: u64,
}

impl Walk {
    fn new<V: Sample>(caller: usize) -> Self {
        Self {
            state: 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(caller as u64 + 1),
            keys: V::COUNT as u64,
        }
    }

    fn step(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % self.keys).expect("there are few keys")
    }
}

pub(crate) fn names<V: Sample>() -> &'static [Name] {
    static NAMES: OnceLock<Mutex<HashMap<&'static str, &'static [Name]>>> = OnceLock::new();
    let names = NAMES.get_or_init(Mutex::default);
    let mut names = names.lock().expect("no caller panics");
    names
        .entry(V::KIND)
        .or_insert_with(|| Name::all(V::KIND, V::COUNT).leak())
}

/// Returns the value of every entry, which callers share without cloning it.
pub(crate) fn sample<V: Sample>() -> &'static V {
    type Shared = &'static (dyn Any + Send + Sync);
    static SAMPLES: OnceLock<Mutex<HashMap<&'static str, Shared>>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(Mutex::default);
    let mut samples = samples.lock().expect("no caller panics");
    let sample = samples.entry(V::KIND);
    let sample = *sample.or_insert_with(|| Box::leak(Box::new(V::sample())));
    sample.downcast_ref().expect("each kind is one type")
}
