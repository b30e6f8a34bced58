//! What a case runs on: a cache on a store, and the clock of that store.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use cacheio_async::AsyncCache;
use cacheio_core::{
    AsyncStore, Clock, Error, Form, ManualClock, RefreshAhead, Result, Store, SystemClock, Ttl,
};
use cacheio_sync::{Cache, L1, Memory};

use crate::api::{CacheApi, World};
use crate::failing::{Failing, Faults};
use crate::harness::Optional;
use crate::store_api::StoreApi;

/// The time that a store uses.
///
/// ```
/// use cacheio_testkit::{Pace, Time};
/// use std::time::Duration;
///
/// // A database in another country, which removes expired rows every two seconds.
/// let time = Time::Passing(Pace {
///     ttl: Duration::from_secs(3),
///     tick: Duration::from_secs(1),
///     late: Duration::from_secs(2),
/// });
/// # let _ = time;
/// ```
#[derive(Clone, Debug)]
pub enum Time {
    /// Only the tests advance it: the store takes its clock from [`TestEnv::clock`].
    Manual(Arc<ManualClock>),
    /// It passes by itself; tests wait for TTLs.
    Passing(Pace),
}

/// How exactly a store keeps real time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A TTL that a test can wait for, long enough that a busy machine reads the entry before it
    /// ends.
    pub ttl: Duration,
    /// TTLs are rounded up to multiples of this.
    pub tick: Duration,
    /// How long after that an entry may still be live.
    pub late: Duration,
}

impl Time {
    /// Time that only the test advances.
    pub fn manual() -> Self {
        Self::Manual(Arc::new(ManualClock::new()))
    }

    /// Real time, and a store that uses the same clock.
    pub fn system() -> Self {
        Self::Passing(Pace {
            ttl: Duration::from_millis(300),
            tick: Duration::from_millis(1),
            late: Duration::from_millis(5),
        })
    }

    /// Real time, and a server that counts milliseconds.
    pub fn milliseconds() -> Self {
        Self::Passing(Pace {
            ttl: Duration::from_millis(500),
            tick: Duration::from_millis(1),
            late: Duration::from_millis(20),
        })
    }

    /// Real time, and a server that counts seconds: an entry may live up to one second longer.
    pub fn seconds() -> Self {
        Self::Passing(Pace {
            ttl: Duration::from_secs(1),
            tick: Duration::from_secs(1),
            late: Duration::from_millis(1_500),
        })
    }

    /// Returns the clock for the store.
    pub fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::Manual(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            Self::Passing(_) => Arc::new(SystemClock),
        }
    }
}

impl Pace {
    /// How long to wait until no entry with this TTL is live.
    fn over(self, ttl: Duration) -> Duration {
        let ticks = ttl.as_nanos().div_ceil(self.tick.as_nanos());
        self.tick * u32::try_from(ticks).unwrap_or(u32::MAX) + self.late
    }
}

/// What a store is built from in a test.
///
/// ```
/// use cacheio::{Memory, store::Store};
/// use cacheio_testkit::{TestEnv, Time};
///
/// fn memory(env: &TestEnv) -> Memory {
///     Memory::builder().clock(env.clock()).build()
/// }
///
/// let env = TestEnv::new(Time::manual());
/// assert_eq!(memory(&env).clock().now(), env.clock().now());
/// ```
#[derive(Debug)]
pub struct TestEnv {
    time: Time,
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl TestEnv {
    /// Creates an environment. The contract makes one for each test; others may use it for tests of their own.
    pub fn new(time: Time) -> Self {
        Self {
            time,
            kept: Mutex::default(),
        }
    }

    /// Returns the clock of the test, for a store whose contract has [`Time::Manual`]; otherwise the clock of
    /// the system.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.time.clock()
    }

    /// Keeps something until the test has ended: the guard of a temporary folder, or a server.
    ///
    /// ```
    /// use cacheio_testkit::{TestEnv, Time};
    /// use std::sync::Arc;
    ///
    /// let env = TestEnv::new(Time::manual());
    /// let server = Arc::new("a server that stops when it is dropped");
    /// env.keep(Arc::clone(&server));
    /// assert_eq!(Arc::strong_count(&server), 2);
    /// drop(env);
    /// assert_eq!(Arc::strong_count(&server), 1);
    /// ```
    pub fn keep(&self, value: impl Send + 'static) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Box::new(value));
    }
}

/// The settings of a cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// The namespace, if not the default one.
    pub namespace: Option<&'static str>,
    /// The default TTL, if not the configured one.
    pub default_ttl: Option<Ttl>,
    /// The jitter.
    pub jitter: f64,
    /// How long entries are kept after their TTL, as stale.
    pub stale_for: Duration,
    /// How long after a failed load the next one waits.
    pub retry_after: Option<Duration>,
    /// When a live entry is refreshed.
    pub refresh_ahead: Option<RefreshAhead>,
    /// How long a caller waits when there is a stale entry.
    pub soft_timeout: Option<Duration>,
    /// How long a caller waits in any case.
    pub hard_timeout: Option<Duration>,
    /// How long a load may take.
    pub max_load: Option<Duration>,
    /// The TTL of `None`.
    pub ttl_none: Option<Ttl>,
}

/// What the caches of a row have that others do not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// Memory before the store.
    pub has_l1: bool,
    /// Loads that are shared on request.
    pub shares_loads: bool,
    /// Entries that other stores see, so that each needs namespaces of its own.
    pub shares_entries: bool,
}

/// What a case is given: a cache on an empty store, and control over time.
#[derive(Clone)]
pub struct Fixture {
    /// A cache with the default settings.
    pub cache: CacheApi,
    /// The world that the test runs in.
    pub world: World,
    /// The form in which the store keeps values.
    pub form: Form,
    /// Whether the caches have memory before the store.
    pub has_l1: bool,
    /// Whether other tests use the same entries, in other namespaces.
    pub shares_entries: bool,
    /// The operations that the store does not support.
    pub missing: Vec<Optional>,
    shares_loads: bool,
    make_store: Arc<dyn Fn() -> TestStore + Send + Sync>,
    // The last field, because it is dropped last: servers outlive the caches that use them.
    env: Arc<TestEnv>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("world", &self.world)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// Opens a cache of either world: their builders have the same methods.
macro_rules! open {
    ($cache:ident, $store:expr, $namespace:expr, $setup:expr, $l1:expr, $shares_loads:expr) => {{
        let mut builder = $cache::builder()
            .store($store)
            .jitter($setup.jitter)
            .stale_for($setup.stale_for);
        if let Some(l1) = $l1 {
            builder = builder.l1(l1);
        }
        if $shares_loads {
            builder = builder.shared_loads(true);
        }
        if let Some(namespace) = $namespace {
            builder = builder.namespace(namespace);
        }
        if let Some(ttl) = $setup.default_ttl {
            builder = builder.default_ttl(ttl);
        }
        if let Some(retry_after) = $setup.retry_after {
            builder = builder.retry_after(retry_after);
        }
        if let Some(refresh_ahead) = $setup.refresh_ahead {
            builder = builder.refresh_ahead(refresh_ahead);
        }
        if let Some(soft_timeout) = $setup.soft_timeout {
            builder = builder.soft_timeout(soft_timeout);
        }
        if let Some(hard_timeout) = $setup.hard_timeout {
            builder = builder.hard_timeout(hard_timeout);
        }
        if let Some(max_load) = $setup.max_load {
            builder = builder.max_load(max_load);
        }
        if let Some(ttl_none) = $setup.ttl_none {
            builder = builder.ttl_none(ttl_none);
        }
        builder.build()
    }};
}

impl Fixture {
    /// Opens a cache for threads on a kind of store.
    pub fn threads<S: Store>(
        time: Time,
        store: impl Fn(&TestEnv) -> S + Send + Sync + 'static,
    ) -> Self {
        Self::for_threads(time, store, Features::default())
    }

    /// Opens a cache for tasks on a kind of store.
    pub fn tasks<S: AsyncStore>(
        time: Time,
        store: impl Fn(&TestEnv) -> S + Send + Sync + 'static,
    ) -> Self {
        Self::for_tasks(time, store, Features::default())
    }

    /// Does the same for threads, with these features.
    pub fn for_threads<S: Store>(
        time: Time,
        store: impl Fn(&TestEnv) -> S + Send + Sync + 'static,
        features: Features,
    ) -> Self {
        let env = Arc::new(TestEnv::new(time));
        // The store as a user passes it, not in an `Arc` of ours.
        let first = store(&env);
        let form = first.form();
        let cache = open!(
            Cache,
            first,
            own_prefix(features),
            Setup::default(),
            features.has_l1.then(|| l1(&env)),
            features.shares_loads
        );
        let make_env = Arc::clone(&env);
        let make_store = move || TestStore {
            store: AnyStore::Threads(Arc::new(store(&make_env))),
            prefix: own_prefix(features),
        };
        let cache = CacheApi::Threads(built(cache));
        Self::new(cache, form, features, Arc::new(make_store), env)
    }

    /// Does the same for tasks, with these features.
    pub fn for_tasks<S: AsyncStore>(
        time: Time,
        store: impl Fn(&TestEnv) -> S + Send + Sync + 'static,
        features: Features,
    ) -> Self {
        let env = Arc::new(TestEnv::new(time));
        // The store as a user passes it, not in an `Arc` of ours.
        let first = store(&env);
        let form = first.form();
        let cache = open!(
            AsyncCache,
            first,
            own_prefix(features),
            Setup::default(),
            features.has_l1.then(|| l1(&env)),
            features.shares_loads
        );
        let make_env = Arc::clone(&env);
        let make_store = move || TestStore {
            store: AnyStore::Tasks(Arc::new(store(&make_env))),
            prefix: own_prefix(features),
        };
        let cache = CacheApi::Tasks(built(cache));
        Self::new(cache, form, features, Arc::new(make_store), env)
    }

    fn new(
        cache: CacheApi,
        form: Form,
        features: Features,
        make_store: Arc<dyn Fn() -> TestStore + Send + Sync>,
        env: Arc<TestEnv>,
    ) -> Self {
        Self {
            world: cache.world(),
            cache,
            form,
            has_l1: features.has_l1,
            shares_entries: features.shares_entries,
            missing: Vec::new(),
            shares_loads: features.shares_loads,
            make_store,
            env,
        }
    }
}

/// Returns the beginning of the namespaces of a store whose entries other stores see. No two are the same, in
/// other processes and later runs either.
fn own_prefix(features: Features) -> Option<String> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    features.shares_entries.then(|| {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        format!("test-{now:x}-{:x}-{count}", std::process::id())
    })
}

/// A store of either world.
#[derive(Clone, Debug)]
pub(crate) enum AnyStore {
    Threads(Arc<dyn Store>),
    Tasks(Arc<dyn AsyncStore>),
}

/// A store, and where its namespaces begin if other stores see its entries.
#[derive(Clone)]
struct TestStore {
    store: AnyStore,
    prefix: Option<String>,
}

impl TestStore {
    fn open(self, setup: Setup, l1: Option<L1>, shares_loads: bool) -> Result<CacheApi> {
        let namespace = match (self.prefix, setup.namespace) {
            (None, namespace) => namespace.map(str::to_owned),
            (prefix, None) => prefix,
            (Some(prefix), Some(namespace)) => Some(format!("{prefix}-{namespace}")),
        };
        match self.store {
            AnyStore::Threads(store) => {
                open!(Cache, store, namespace, setup, l1, shares_loads).map(CacheApi::Threads)
            }
            AnyStore::Tasks(store) => {
                open!(AsyncCache, store, namespace, setup, l1, shares_loads).map(CacheApi::Tasks)
            }
        }
    }

    fn failing(self) -> (Self, Arc<Faults>) {
        let (store, faults) = match self.store {
            AnyStore::Threads(store) => {
                let (store, faults) = Failing::new(store);
                (AnyStore::Threads(Arc::new(store)), faults)
            }
            AnyStore::Tasks(store) => {
                let (store, faults) = Failing::new(store);
                (AnyStore::Tasks(Arc::new(store)), faults)
            }
        };
        (Self { store, ..self }, faults)
    }
}

/// Memory before a store, with the clock of the test. The bound is as long as no case lasts: so no case
/// depends on it, on a busy machine either.
fn l1(env: &TestEnv) -> L1 {
    let memory = Memory::builder().capacity(10_000).clock(env.clock());
    L1::new(memory.build()).max_staleness(Duration::from_secs(3_600))
}

fn built<T>(cache: Result<T, Error>) -> T {
    match cache {
        Ok(cache) => cache,
        Err(error) => panic!("the cache cannot be built: {error}"),
    }
}

impl Fixture {
    /// Opens a cache on a store of its own.
    ///
    /// # Errors
    ///
    /// When the settings are refused.
    pub fn open(&self, setup: Setup) -> Result<CacheApi> {
        (self.make_store)().open(setup, self.l1(), self.shares_loads)
    }

    /// Opens two caches with the same settings on one store, as two processes do.
    pub fn twins(&self, setup: Setup) -> [CacheApi; 2] {
        let store = (self.make_store)();
        [store.clone(), store].map(|store| built(store.open(setup, self.l1(), self.shares_loads)))
    }

    /// Opens caches of these namespaces on one store.
    pub fn sharing<const N: usize>(&self, namespaces: [&'static str; N]) -> [CacheApi; N] {
        let store = (self.make_store)();
        namespaces.map(|namespace| {
            let setup = Setup {
                namespace: Some(namespace),
                ..Setup::default()
            };
            built(store.clone().open(setup, self.l1(), self.shares_loads))
        })
    }

    /// Opens a cache on a store that fails on demand.
    pub fn failing(&self) -> (CacheApi, Arc<Faults>) {
        let (store, faults) = (self.make_store)().failing();
        (
            built(store.open(Setup::default(), self.l1(), self.shares_loads)),
            faults,
        )
    }

    /// Whether the caches on one store know of each other.
    pub fn shares_state(&self) -> bool {
        match (self.make_store)().store {
            AnyStore::Threads(store) => store.shared_state().is_some(),
            AnyStore::Tasks(store) => store.shared_state().is_some(),
        }
    }

    /// Returns a store of its own, without a cache.
    pub(crate) fn store(&self) -> StoreApi {
        let TestStore { store, prefix } = (self.make_store)();
        StoreApi::new(store, prefix.as_deref().unwrap_or("contract"))
    }

    fn l1(&self) -> Option<L1> {
        self.has_l1.then(|| l1(&self.env))
    }

    /// Whether the store keeps the values themselves, in this process.
    pub fn keeps_objects(&self) -> bool {
        self.form == Form::Objects
    }

    /// Whether only the test advances the time.
    pub fn stops_time(&self) -> bool {
        matches!(self.env.time, Time::Manual(_))
    }

    /// Returns a TTL that a test can wait for.
    pub fn ttl(&self) -> Duration {
        match self.env.time {
            Time::Manual(_) => Duration::from_secs(100),
            Time::Passing(pace) => pace.ttl,
        }
    }

    /// Lets time pass until no entry with this TTL is live.
    pub fn expire(&self, ttl: Duration) {
        match &self.env.time {
            Time::Manual(clock) => clock.advance(ttl),
            Time::Passing(pace) => std::thread::sleep(pace.over(ttl)),
        }
    }

    /// Lets exactly this time pass.
    pub async fn pass(&self, time: Duration) {
        match &self.env.time {
            Time::Manual(clock) => clock.advance(time),
            Time::Passing(_) => self.world.sleep(time).await,
        }
    }

    /// Lets a TTL pass, and calls `check` one millisecond before its end where the time is manual.
    pub async fn shortly_before<C: Future<Output = ()>>(
        &self,
        ttl: Duration,
        check: impl FnOnce() -> C,
    ) {
        match &self.env.time {
            Time::Manual(clock) => {
                clock.advance(ttl - Duration::from_millis(1));
                check().await;
                clock.advance(Duration::from_millis(1));
            }
            Time::Passing(_) => self.expire(ttl),
        }
    }
}
