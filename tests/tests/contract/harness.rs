//! Runs each case on each row, and reports each as a test.

use std::any::type_name;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cacheio_core::{AsyncStore, Store};
use cacheio_tests::fixture::{Features, Fixture, TestEnv, Time};
use cacheio_tests::watchdog::guarded_as;
use cacheio_tests::world::{World, panic_message};
use libtest_mimic::{Arguments, Failed, Trial};

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// An operation that a store may leave out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Optional {
    Add,
    Increment,
    Touch,
    Update,
    Take,
    /// `ttl`.
    TtlLeft,
    /// `keys` and `entries`.
    Keys,
}

/// One promise.
#[derive(Clone)]
pub(crate) struct Case {
    /// Its path in this crate: `counters::a_missing_counter_counts_from_zero`.
    name: &'static str,
    needs: Vec<Optional>,
    body: Arc<dyn Fn(Fixture) -> Running + Send + Sync>,
}

impl Case {
    /// Skips the case on stores that do not support an operation.
    pub(crate) fn needs(mut self, operation: Optional) -> Self {
        self.needs.push(operation);
        self
    }
}

/// Makes a case of a function, and names it after the function.
pub(crate) fn case<B, F>(body: B) -> Case
where
    B: Fn(Fixture) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + 'static,
{
    let path = type_name::<B>();
    Case {
        name: path.split_once("::").map_or(path, |(_, name)| name),
        needs: Vec::new(),
        body: Arc::new(move |fixture| Box::pin(body(fixture))),
    }
}

/// One kind of store in one world.
#[derive(Clone)]
pub(crate) struct Row {
    name: String,
    world: World,
    unsupported: Vec<Optional>,
    has_l1: bool,
    fixture: Arc<dyn Fn() -> Fixture + Send + Sync>,
}

impl Row {
    /// Declares that the store does not support an operation. The cases that need it are reported as
    /// ignored.
    pub(crate) fn without(mut self, operation: Optional) -> Self {
        self.unsupported.push(operation);
        self
    }
}

const WITH_L1: Features = Features {
    has_l1: true,
    shares_loads: false,
};

const WITH_SHARED_LOADS: Features = Features {
    has_l1: false,
    shares_loads: true,
};

/// Makes a row of a store for threads.
pub(crate) fn threads<S: Store>(name: &str, store: fn(&TestEnv) -> S, time: fn() -> Time) -> Row {
    Row {
        name: format!("threads::{name}"),
        world: World::Threads,
        unsupported: Vec::new(),
        has_l1: false,
        fixture: Arc::new(move || Fixture::threads(time(), store)),
    }
}

/// Makes a row of a store for threads, with memory before it.
pub(crate) fn threads_with_l1<S: Store>(
    name: &str,
    store: fn(&TestEnv) -> S,
    time: fn() -> Time,
) -> Row {
    Row {
        has_l1: true,
        fixture: Arc::new(move || Fixture::for_threads(time(), store, WITH_L1)),
        ..threads(name, store, time)
    }
}

/// Makes a row of a store for threads, with loads that are shared on request.
pub(crate) fn threads_with_shared_loads<S: Store>(
    name: &str,
    store: fn(&TestEnv) -> S,
    time: fn() -> Time,
) -> Row {
    Row {
        fixture: Arc::new(move || Fixture::for_threads(time(), store, WITH_SHARED_LOADS)),
        ..threads(name, store, time)
    }
}

/// Makes a row of a store for tasks.
pub(crate) fn tasks<S: AsyncStore>(
    name: &str,
    store: fn(&TestEnv) -> S,
    time: fn() -> Time,
) -> Row {
    Row {
        name: format!("tasks::{name}"),
        world: World::Tasks,
        unsupported: Vec::new(),
        has_l1: false,
        fixture: Arc::new(move || Fixture::tasks(time(), store)),
    }
}

/// Makes a row of a store for tasks, with memory before it.
pub(crate) fn tasks_with_l1<S: AsyncStore>(
    name: &str,
    store: fn(&TestEnv) -> S,
    time: fn() -> Time,
) -> Row {
    Row {
        has_l1: true,
        fixture: Arc::new(move || Fixture::for_tasks(time(), store, WITH_L1)),
        ..tasks(name, store, time)
    }
}

/// Makes a row of a store for tasks, with loads that are shared on request.
pub(crate) fn tasks_with_shared_loads<S: AsyncStore>(
    name: &str,
    store: fn(&TestEnv) -> S,
    time: fn() -> Time,
) -> Row {
    Row {
        fixture: Arc::new(move || Fixture::for_tasks(time(), store, WITH_SHARED_LOADS)),
        ..tasks(name, store, time)
    }
}

/// Runs the tests that the command line selects.
pub(crate) fn run(
    rows: &[Row],
    cases: &[Case],
    cases_for_tasks: &[Case],
    cases_for_l1: &[Case],
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or_else(threads_by_environment);
    set_hook(Box::new(|panic| record_panic(&panic.to_string())));
    let mut trials = spread(rows, cases);
    let rows_for_tasks: Vec<_> = rows
        .iter()
        .filter(|row| row.world == World::Tasks)
        .cloned()
        .collect();
    trials.extend(spread(&rows_for_tasks, cases_for_tasks));
    let rows_with_l1: Vec<_> = rows.iter().filter(|row| row.has_l1).cloned().collect();
    trials.extend(spread(&rows_with_l1, cases_for_l1));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed() {
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        for (thread, panic) in panics.iter() {
            eprintln!("thread {thread}: {panic}");
        }
    }
    conclusion.exit_code()
}

/// Most tests wait for the TTL of a server, so more of them can run at once than of other tests.
fn threads_by_environment() -> Option<usize> {
    let threads = |variable| std::env::var(variable).ok()?.parse().ok();
    threads("CONTRACT_THREADS").or_else(|| threads("RUST_TEST_THREADS"))
}

/// Makes a test of each case on each row. Neighbours differ in both, so that tests that wait for a
/// server run at the same time as tests that keep the processor busy.
fn spread(rows: &[Row], cases: &[Case]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for step in 0..cases.len() {
        for (at, row) in rows.iter().enumerate() {
            let case = (step + at * cases.len() / rows.len()) % cases.len();
            trials.push(trial(row, &cases[case]));
        }
    }
    trials
}

fn trial(row: &Row, case: &Case) -> Trial {
    let name = format!("{}::{}", row.name, case.name);
    let (row, case) = (row.clone(), case.clone());
    let is_unsupported = case
        .needs
        .iter()
        .any(|needed| row.unsupported.contains(needed));
    let trial = Trial::test(name.clone(), move || {
        let body = move || row.world.run((case.body)((row.fixture)()));
        let result = catch_unwind(AssertUnwindSafe(|| guarded_as(&name, body)));
        let panics = take_panics(&name);
        result.map_err(|panic| {
            let message = panic_message(&*panic);
            Failed::from(format!("{message}\n{}", panics.join("\n")))
        })
    });
    trial.with_ignored_flag(is_unsupported)
}

/// All panics, each with the name of its thread. A thread of a test has the name of the test. Many
/// panics are expected: they are shown only when a test fails.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

fn record_panic(panic: &str) {
    let thread = thread::current().name().unwrap_or("unnamed").to_owned();
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    panics.push((thread, panic.to_owned()));
}

fn take_panics(test: &str) -> Vec<String> {
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    let of_test = panics.extract_if(.., |(name, _)| name == test);
    of_test.map(|(_, panic)| panic).collect()
}
