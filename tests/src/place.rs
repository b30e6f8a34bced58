//! Where a line of the contract plays: a cache on a store, and the time that it goes by.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{
    AsyncStore, Clock, Error, Form, ManualClock, RefreshAhead, Result, Store, SystemClock, Ttl,
};
use cacheio_sync::Cache;

use crate::face::{Face, Tasks, Threads};
use crate::servers::{self, Lease, Server};
use crate::stores::{Breaker, Failing};

/// The time that a store goes by.
#[derive(Clone, Debug)]
pub enum Time {
    /// It passes when the test says so.
    Manual(Arc<ManualClock>),
    /// It passes by itself; TTLs are waited for.
    Passing(Pace),
}

/// How a store that time passes by for keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A TTL that can be waited for, long enough for a busy machine to look before it is over.
    ttl: Duration,
    /// TTLs are rounded up to multiples of this.
    tick: Duration,
    /// How long after that an entry may still be there.
    late: Duration,
}

impl Time {
    /// Time that stands still.
    pub fn manual() -> Self {
        Self::Manual(Arc::new(ManualClock::new()))
    }

    /// Time that passes by itself, and a store that goes by the same clock.
    pub fn system() -> Self {
        Self::Passing(Pace {
            ttl: Duration::from_millis(300),
            tick: Duration::from_millis(1),
            late: Duration::from_millis(5),
        })
    }

    /// That of a server which counts milliseconds.
    pub fn milliseconds() -> Self {
        Self::Passing(Pace {
            ttl: Duration::from_millis(500),
            tick: Duration::from_millis(1),
            late: Duration::from_millis(20),
        })
    }

    /// That of a server which counts seconds: an entry may live one longer than asked.
    pub fn seconds() -> Self {
        Self::Passing(Pace {
            ttl: Duration::from_secs(1),
            tick: Duration::from_secs(1),
            late: Duration::from_millis(1_500),
        })
    }

    /// Its clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::Manual(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            Self::Passing(_) => Arc::new(SystemClock),
        }
    }
}

impl Pace {
    /// When the last entry with a TTL is surely gone.
    fn over(self, ttl: Duration) -> Duration {
        let ticks = ttl.as_nanos().div_ceil(self.tick.as_nanos());
        self.tick * u32::try_from(ticks).unwrap_or(u32::MAX) + self.late
    }
}

/// What a store stands on: the time that it goes by, and a server of its own.
#[derive(Debug)]
pub struct Ground {
    time: Time,
    leases: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Ground {
    /// Ground where no server stands yet.
    pub fn new(time: Time) -> Self {
        Self {
            time,
            leases: Mutex::default(),
        }
    }

    /// The clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.time.clock()
    }

    /// A server that nobody else uses until the test is over.
    pub fn lease<S: Server>(&self) -> Arc<Lease<S>> {
        let lease = Arc::new(servers::lease());
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.push(Box::new(Arc::clone(&lease)));
        lease
    }
}

/// What a cache is built with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The namespace, if not the default one.
    pub namespace: Option<&'static str>,
    /// The default TTL, if not the configured one.
    pub default_ttl: Option<Ttl>,
    /// The jitter.
    pub jitter: f64,
    /// For how long entries outlive their TTL.
    pub stale_for: Duration,
    /// How long after a failed load none is tried.
    pub retry_after: Option<Duration>,
    /// When what is live is loaded anew.
    pub refresh_ahead: Option<RefreshAhead>,
    /// How long to wait when there is something stale.
    pub soft_timeout: Option<Duration>,
    /// How long to wait in any case.
    pub hard_timeout: Option<Duration>,
    /// How long a load may take.
    pub max_load: Option<Duration>,
    /// The TTL of none.
    pub ttl_none: Option<Ttl>,
}

type Make<T> = Arc<dyn Fn() -> T + Send + Sync>;
type With<A, T> = Arc<dyn Fn(A) -> T + Send + Sync>;

/// What a line of the contract is given.
#[derive(Clone)]
pub struct Place<F> {
    /// A cache, empty and with the default settings.
    pub cache: F,
    /// In which form its store keeps values.
    pub form: Form,
    open: With<Setup, Result<F>>,
    sharing: With<Vec<Setup>, Vec<F>>,
    breakable: Make<(F, Arc<Breaker>)>,
    // The last to go: servers outlive the caches that use them.
    ground: Arc<Ground>,
}

impl<F> fmt::Debug for Place<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

macro_rules! policies {
    ($builder:ident, $setup:ident, $($policy:ident)*) => {$(
        if let Some(policy) = $setup.$policy {
            $builder = $builder.$policy(policy);
        }
    )*};
}

macro_rules! worlds {
    ($($face:ident($cache:ident over $store:ident);)*) => {$(
        impl Place<$face> {
            /// A place on a kind of store.
            pub fn new<S: $store>(time: Time, row: fn(&Ground) -> S) -> Self {
                let ground = Arc::new(Ground::new(time));
                let build = |store: Arc<dyn $store>, setup: Setup| {
                    let mut builder =
                        $cache::builder().store(store).jitter(setup.jitter).stale_for(setup.stale_for);
                    policies!(
                        builder, setup,
                        retry_after refresh_ahead soft_timeout hard_timeout max_load ttl_none
                    );
                    if let Some(namespace) = setup.namespace {
                        builder = builder.namespace(namespace);
                    }
                    if let Some(ttl) = setup.default_ttl {
                        builder = builder.default_ttl(ttl);
                    }
                    builder.build().map($face)
                };
                let make = { let ground = Arc::clone(&ground); move || row(&ground) };
                let first = make();
                Self {
                    form: first.form(),
                    // Not behind our `Arc`: the store as a user hands it over.
                    cache: built($cache::builder().store(first).build().map($face)),
                    open: { let make = make.clone(); Arc::new(move |setup| build(Arc::new(make()), setup)) },
                    sharing: {
                        let make = make.clone();
                        Arc::new(move |setups| {
                            let store: Arc<dyn $store> = Arc::new(make());
                            setups.into_iter().map(|setup| built(build(Arc::clone(&store), setup))).collect()
                        })
                    },
                    breakable: Arc::new(move || {
                        let (store, breaker) = Failing::new(make());
                        (built(build(Arc::new(store), Setup::default())), breaker)
                    }),
                    ground,
                }
            }
        }
    )*};
}

worlds! {
    Threads(Cache over Store);
    Tasks(AsyncCache over AsyncStore);
}

fn built<T>(cache: Result<T, Error>) -> T {
    match cache {
        Ok(cache) => cache,
        Err(error) => panic!("the cache cannot be built: {error}"),
    }
}

impl<F: Face> Place<F> {
    /// A cache on a store of its own.
    ///
    /// # Errors
    ///
    /// When the settings make no sense.
    pub fn open(&self, setup: Setup) -> Result<F> {
        (self.open)(setup)
    }

    /// Two caches that are set up alike, on one store: two processes, or one before and after.
    pub fn twins(&self, setup: Setup) -> [F; 2] {
        match (self.sharing)(vec![setup.clone(), setup]).try_into() {
            Ok(caches) => caches,
            Err(_) => unreachable!("two caches"),
        }
    }

    /// Caches of these namespaces, on one store.
    pub fn sharing<const N: usize>(&self, namespaces: [&'static str; N]) -> [F; N] {
        let setup = |namespace| Setup {
            namespace: Some(namespace),
            ..Setup::default()
        };
        match (self.sharing)(namespaces.into_iter().map(setup).collect()).try_into() {
            Ok(caches) => caches,
            Err(_) => unreachable!("one cache a namespace"),
        }
    }

    /// A cache on a store that fails on demand.
    pub fn breakable(&self) -> (F, Arc<Breaker>) {
        (self.breakable)()
    }

    /// Whether values are kept themselves, in this process.
    pub fn keeps_objects(&self) -> bool {
        self.form == Form::Objects
    }

    /// Whether time passes only when the test says so.
    pub fn stops_time(&self) -> bool {
        matches!(self.ground.time, Time::Manual(_))
    }

    /// A TTL that can be waited for.
    pub fn ttl(&self) -> Duration {
        match self.ground.time {
            Time::Manual(_) => Duration::from_secs(100),
            Time::Passing(pace) => pace.ttl,
        }
    }

    /// Lets a TTL pass.
    pub fn expire(&self, ttl: Duration) {
        match &self.ground.time {
            Time::Manual(clock) => clock.advance(ttl),
            Time::Passing(pace) => std::thread::sleep(pace.over(ttl)),
        }
    }

    /// Lets time pass, and no more.
    pub async fn pass(&self, time: Duration) {
        match &self.ground.time {
            Time::Manual(clock) => clock.advance(time),
            Time::Passing(_) => F::sleep(time).await,
        }
    }

    /// Lets a TTL pass but for a millisecond, if time can be stopped so exactly: then looks.
    pub async fn shortly_before<L: Future<Output = ()>>(
        &self,
        ttl: Duration,
        look: impl FnOnce() -> L,
    ) {
        match &self.ground.time {
            Time::Manual(clock) => {
                clock.advance(ttl - Duration::from_millis(1));
                look().await;
                clock.advance(Duration::from_millis(1));
            }
            Time::Passing(_) => self.expire(ttl),
        }
    }
}
