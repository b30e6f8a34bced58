//! Runs each case on each contract, and reports each as a test.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cacheio_core::{AsyncStore, Store};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::busy::repeat_if_busy;
use crate::contract;
use crate::fixture::{Features, Fixture, TestEnv, Time};
use crate::watchdog::guarded_as;
use crate::world::{World, panic_message};

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// An operation that a store may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Optional {
    /// `Store::add`.
    Add,
    /// `Store::increment`.
    Increment,
    /// `Store::touch`.
    Touch,
    /// `Store::compare_and_swap`, which the `update` of a cache needs.
    Update,
    /// `Store::take`.
    Take,
    /// The TTLs that `Store::get_with_ttls` finds, which the `ttl` of a cache needs.
    TtlLeft,
    /// `Store::scan`, which the `keys` and `entries` of a cache need.
    Keys,
}

/// One promise.
#[derive(Clone)]
pub(crate) struct Case {
    /// Its path below `contract`: `counters::a_missing_counter_counts_from_zero`.
    pub(crate) name: &'static str,
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
        name: path
            .split_once("::contract::")
            .map_or(path, |(_, name)| name),
        needs: Vec::new(),
        body: Arc::new(move |fixture| Box::pin(body(fixture))),
    }
}

/// What one kind of store promises, for threads or for tasks: everything, except what it
/// [is](Self::without) [declared](Self::without_case) to leave out.
///
/// ```no_run
/// use cacheio::Memory;
/// use cacheio_testkit::{Contract, Time};
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     let memory = Contract::threads("memory", |env| Memory::builder().clock(env.clock()).build());
///     cacheio_testkit::run([memory.time(Time::manual)])
/// }
/// ```
#[derive(Clone)]
pub struct Contract {
    name: String,
    world: World,
    time: fn() -> Time,
    missing: Vec<Optional>,
    left_out: Vec<String>,
    features: Features,
    fixture: Arc<dyn Fn(Time, Features) -> Fixture + Send + Sync>,
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("name", &self.name)
            .field("missing", &self.missing)
            .field("left_out", &self.left_out)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl Contract {
    /// Creates the contract of a [`Store`], which a `Cache` for threads uses.
    ///
    /// `make` is called once or more often in each test, on any thread. Each store that it returns must be empty and
    /// see the entries of no other one, unless the contract says [`shares_entries`](Self::shares_entries). The name
    /// becomes part of the names of the tests.
    pub fn threads<S: Store>(
        name: &str,
        make: impl Fn(&TestEnv) -> S + Send + Sync + 'static,
    ) -> Self {
        let make = Arc::new(make);
        Self::new(
            format!("threads::{name}"),
            World::Threads,
            move |time, features| {
                let make = Arc::clone(&make);
                Fixture::for_threads(time, move |env| make(env), features)
            },
        )
    }

    /// Creates the contract of an [`AsyncStore`], which an `AsyncCache` for tasks uses. The tests run on tokio's
    /// runtime with several threads.
    ///
    /// `make` is called as by [`threads`](Self::threads), within the runtime. If it has to wait for a future, it does so
    /// with `tokio::task::block_in_place(|| Handle::current().block_on(future))`.
    pub fn tasks<S: AsyncStore>(
        name: &str,
        make: impl Fn(&TestEnv) -> S + Send + Sync + 'static,
    ) -> Self {
        let make = Arc::new(make);
        Self::new(
            format!("tasks::{name}"),
            World::Tasks,
            move |time, features| {
                let make = Arc::clone(&make);
                Fixture::for_tasks(time, move |env| make(env), features)
            },
        )
    }

    fn new(
        name: String,
        world: World,
        fixture: impl Fn(Time, Features) -> Fixture + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            world,
            time: Time::milliseconds,
            missing: Vec::new(),
            left_out: Vec::new(),
            features: Features::default(),
            fixture: Arc::new(fixture),
        }
    }

    /// Sets how the store measures time. By default it counts [milliseconds](Time::milliseconds) of real time.
    ///
    /// With [`Time::manual`] no test waits for a TTL, but the store has to use the clock of its
    /// [`TestEnv`](TestEnv::clock).
    #[must_use]
    pub fn time(mut self, time: fn() -> Time) -> Self {
        self.time = time;
        self
    }

    /// Declares that the store does not support an operation: its methods return an error of kind
    /// [`Unsupported`](cacheio_core::ErrorKind::Unsupported), which is tested. The cases that need the operation are
    /// reported as ignored.
    #[must_use]
    pub fn without(mut self, operation: Optional) -> Self {
        self.missing.push(operation);
        self
    }

    /// Declares that the store does not keep one promise, such as
    /// `"values::a_value_is_read_as_it_was_set"` if it cannot hold its value of a megabyte. The case is reported as ignored.
    #[must_use]
    pub fn without_case(mut self, name: &str) -> Self {
        self.left_out.push(name.to_owned());
        self
    }

    /// Declares that all stores of the contract see the same entries, such as those of one server that other
    /// programs may use too. Then each test uses namespaces of its own.
    ///
    /// Tests leave entries behind, in namespaces that begin with `test-`.
    #[must_use]
    pub fn shares_entries(mut self) -> Self {
        self.features.shares_entries = true;
        self
    }

    /// Puts memory before the store: all cases run with it, and those of `l1`.
    ///
    /// The store keeps bytes, and tells [TTLs](Optional::TtlLeft): otherwise copies in memory outlive their entries.
    #[must_use]
    pub fn with_l1(mut self) -> Self {
        self.features.has_l1 = true;
        self
    }

    /// Turns on the loads that processes share, for a store that supports them on request.
    #[must_use]
    pub fn with_shared_loads(mut self) -> Self {
        self.features.shares_loads = true;
        self
    }

    /// Returns whether a case cannot run.
    fn leaves_out(&self, case: &Case) -> bool {
        let is_left_out = self.left_out.iter().any(|name| name == case.name);
        is_left_out
            || case
                .needs
                .iter()
                .any(|needed| self.missing.contains(needed))
    }

    /// Runs a case.
    ///
    /// # Panics
    ///
    /// When the store breaks the promise.
    fn check(&self, case: &Case) {
        self.world.run(async {
            let mut fixture = (self.fixture)((self.time)(), self.features);
            fixture.missing.clone_from(&self.missing);
            (case.body)(fixture).await;
        });
    }
}

/// Runs the tests that the command line selects, and reports them as `cargo test` does.
///
/// A test has the name of its world, its contract, its topic and its promise, such as
/// `threads::my_store::counters::a_missing_counter_counts_from_zero`. The arguments are those of other tests: a part of
/// a name, `--exact`, `--skip`, `--list`, `--test-threads`. `cargo nextest` works too.
///
/// Most tests of a server wait for a TTL, so more of them can run at once than there are processors: the
/// environment variable `CONTRACT_THREADS` says how many, before `RUST_TEST_THREADS`.
///
/// In [real time](Time::Passing) a TTL can end before a test on a busy machine reads the entry. A test that fails while
/// threads waited for a processor for more than a quarter of its TTL runs again, and has to pass twice.
///
/// # Panics
///
/// When two contracts have the same name, when a [case to leave out](Contract::without_case) does not exist, and
/// when a contract [with L1](Contract::with_l1) is without [`Optional::TtlLeft`].
pub fn run(contracts: impl IntoIterator<Item = Contract>) -> ExitCode {
    let contracts: Vec<_> = contracts.into_iter().collect();
    for (at, contract) in contracts.iter().enumerate() {
        let same = contracts[..at].iter().any(|one| one.name == contract.name);
        assert!(!same, "two contracts have the name {:?}", contract.name);
        let tells_ttls = !contract.missing.contains(&Optional::TtlLeft);
        assert!(
            tells_ttls || !contract.features.has_l1,
            "{:?} has L1, which needs `TtlLeft`",
            contract.name
        );
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or_else(threads_by_environment);
    set_hook(Box::new(|panic| record_panic(&panic.to_string())));
    let groups = groups();
    for name in contracts.iter().flat_map(|contract| &contract.left_out) {
        let mut cases = groups.iter().flat_map(|group| &group.cases);
        assert!(
            cases.any(|case| case.name == name),
            "there is no case {name:?} to leave out"
        );
    }
    let trials = groups.iter().flat_map(|group| group.trials(&contracts));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if conclusion.has_failed() {
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        for (thread, panic) in panics.iter() {
            eprintln!("thread {thread}: {panic}");
        }
    }
    conclusion.exit_code()
}

/// Cases, and the contracts that they are for.
struct Group {
    cases: Vec<Case>,
    is_for: fn(&Contract) -> bool,
}

fn groups() -> [Group; 4] {
    [
        Group {
            cases: contract::cases(),
            is_for: |_| true,
        },
        Group {
            cases: contract::cases_for_tasks(),
            is_for: |contract| contract.world == World::Tasks,
        },
        Group {
            cases: contract::cases_with_l1(),
            is_for: |contract| contract.features.has_l1,
        },
        Group {
            cases: contract::cases_of_store(),
            // What is before the store makes no difference.
            is_for: |contract| !contract.features.has_l1 && !contract.features.shares_loads,
        },
    ]
}

impl Group {
    /// Makes a test of each case on each contract. Neighbours differ in both, so that tests that wait for a
    /// server run at the same time as tests that keep the processor busy.
    fn trials(&self, contracts: &[Contract]) -> Vec<Trial> {
        let contracts: Vec<_> = contracts
            .iter()
            .filter(|contract| (self.is_for)(contract))
            .collect();
        let mut trials = Vec::new();
        for step in 0..self.cases.len() {
            for (at, contract) in contracts.iter().enumerate() {
                let case = (step + at * self.cases.len() / contracts.len()) % self.cases.len();
                trials.push(trial(contract, &self.cases[case]));
            }
        }
        trials
    }
}

fn threads_by_environment() -> Option<usize> {
    let threads = |variable| std::env::var(variable).ok()?.parse().ok();
    threads("CONTRACT_THREADS").or_else(|| threads("RUST_TEST_THREADS"))
}

fn trial(contract: &Contract, case: &Case) -> Trial {
    let name = format!("{}::{}", contract.name, case.name);
    let is_left_out = contract.leaves_out(case);
    let (contract, case) = (contract.clone(), case.clone());
    let trial = Trial::test(name.clone(), move || {
        let test = || attempt(&name, &contract, &case);
        match (contract.time)() {
            Time::Manual(_) => test(),
            // On a busy machine a TTL may end before a case reads its entry.
            Time::Passing(pace) => repeat_if_busy(&name, pace.ttl / 4, test),
        }
    });
    trial.with_ignored_flag(is_left_out)
}

/// Runs a case as a test.
fn attempt(name: &str, contract: &Contract, case: &Case) -> Result<(), Failed> {
    let body = {
        let (contract, case) = (contract.clone(), case.clone());
        move || contract.check(&case)
    };
    let result = catch_unwind(AssertUnwindSafe(|| guarded_as(name, body)));
    let panics = take_panics(name).join("\n");
    result.map_err(|panic| {
        // A hanging test has no panic of its own.
        let message = match panics.is_empty() {
            true => panic_message(&*panic),
            false => panics,
        };
        let (promise, advice) = (promise(case), advice(&message));
        Failed::from(format!("broken promise: {promise}\n\n{message}{advice}"))
    })
}

/// Returns the promise of a case in words.
fn promise(case: &Case) -> String {
    let (_, promise) = case.name.rsplit_once("::").unwrap_or(("", case.name));
    promise.replace('_', " ")
}

/// Returns what else to tell about a failure.
fn advice(panics: &str) -> &'static str {
    match panics.contains("this store does not support") {
        true => {
            "\n\nIf the store is not meant to support the operation, declare it: `.without(Optional::…)`."
        }
        false => "",
    }
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
