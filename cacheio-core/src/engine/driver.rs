//! Calls a store for the engine, from threads or from tasks.

mod spans;

use std::fmt::{self, Debug};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use self::spans::KeyCount as _;
use crate::flight::sync::{self, EventListener, Listener};
use crate::l1::L1;
use crate::stats::{Metrics, StoreStats};
use crate::store::store_time::StoreTime;
use crate::{AsyncStore, BoxFuture, Form, KeyRule, Null, Result, Server, Store};

/// The default of `max_load` for loads of tasks.
const MAX_LOAD: Duration = Duration::from_secs(60);

/// A store, and how the engine calls it and waits.
#[derive(Clone, Debug)]
pub struct Driver {
    store: AnyStore,
    mode: Mode,
    executor: Arc<dyn Executor>,
    form: Form,
    key_rule: KeyRule,
    /// Only of a store on a server, whose operations have spans.
    server: Option<Server>,
    l1: Option<Arc<L1>>,
    metrics: Option<Metrics>,
}

#[derive(Clone)]
pub(crate) enum AnyStore {
    /// Called directly; blocks the thread or never waits.
    Direct(Arc<dyn Store>),
    /// Called directly, because it never waits.
    Immediate(Arc<dyn AsyncStore>),
    /// Returns futures.
    Suspending(Arc<dyn AsyncStore>),
}

/// Runs loads in the background, and provides the time and the timers of their callers.
pub trait Executor: Debug + Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Runs a load in the background.
    ///
    /// # Errors
    ///
    /// Returns the load if this thread or task cannot start one in the background.
    fn spawn(
        &self,
        load: BoxFuture<'static, ()>,
        overdue_at: Option<Instant>,
    ) -> Result<(), BoxFuture<'static, ()>>;

    /// Runs `wait`, which blocks the thread. `wait` may depend on loads that are queued for the thread.
    fn block(&self, wait: &mut dyn FnMut()) {
        wait();
    }

    /// Returns a future that is ready at a time. `None` if there is no timer, and for threads.
    fn sleep_until(&self, at: Instant) -> Option<BoxFuture<'static, ()>>;
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Blocking,
    Async,
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(store) => store.fmt(f),
            Self::Immediate(store) | Self::Suspending(store) => store.fmt(f),
        }
    }
}

impl Driver {
    /// Creates a driver that blocks the calling thread.
    pub fn for_threads(store: Arc<dyn Store>, executor: Arc<dyn Executor>) -> Self {
        Self::new(AnyStore::Direct(store), Mode::Blocking, executor)
    }

    /// Creates a driver that suspends the calling task.
    pub fn for_tasks(store: Arc<dyn AsyncStore>, executor: Arc<dyn Executor>) -> Self {
        let store = match store.immediate() {
            Some(_) => AnyStore::Immediate(store),
            None => AnyStore::Suspending(store),
        };
        Self::new(store, Mode::Async, executor)
    }

    fn new(store: AnyStore, mode: Mode, executor: Arc<dyn Executor>) -> Self {
        Self {
            form: store.form(),
            key_rule: store.key_rule(),
            server: store.server(),
            store,
            mode,
            executor,
            l1: None,
            metrics: None,
        }
    }

    /// Replaces the store with its view of a namespace. Returns whether it has one.
    pub(crate) fn enter_namespace(&mut self, prefix: &str) -> bool {
        let view = self.direct().and_then(|store| store.in_namespace(prefix));
        let has_view = view.is_some();
        if let Some(view) = view {
            self.store = AnyStore::Direct(view);
        }
        has_view
    }

    /// Replaces the store with one that keeps nothing.
    pub(crate) fn turn_off(&mut self) {
        self.store = AnyStore::Direct(Arc::new(Null));
        self.server = None;
    }

    /// Puts an L1 before the store.
    pub(crate) fn set_l1(&mut self, l1: Arc<L1>) {
        self.l1 = Some(l1);
    }

    pub(crate) fn l1(&self) -> Option<&Arc<L1>> {
        self.l1.as_ref()
    }

    /// Creates the metrics of a cache, to which the driver also reports the counts of the store.
    pub(crate) fn report_as(&mut self, namespace: &str) -> Metrics {
        let metrics = Metrics::new(namespace, self.store_stats());
        self.metrics.insert(metrics).clone()
    }

    /// Reports the statistics of the store, which an operation may have changed.
    #[inline]
    fn report(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.update_from_store(|| self.store_stats());
        }
    }

    /// Returns the statistics of the store and of L1.
    pub(crate) fn store_stats(&self) -> StoreStats {
        let l1 = self.l1.as_ref();
        let of_l1 = l1.map_or(0, |l1| l1.memory().evictions());
        StoreStats {
            evictions: self.store.evictions() + of_l1,
            circuit_opens: self.store.circuit_opens(),
            invalidations: l1.map_or(0, |l1| l1.invalidations()),
            l1_trusted: l1.map(|l1| l1.is_trusted()),
        }
    }

    #[inline]
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    #[inline]
    pub(crate) fn key_rule(&self) -> KeyRule {
        self.key_rule
    }

    /// Returns the store if it keeps objects and can be called directly.
    #[inline]
    pub(crate) fn immediate(&self) -> Option<&dyn Store> {
        match self.form {
            Form::Objects => self.direct(),
            Form::Bytes => None,
        }
    }

    /// Returns the memory in which a key can be looked up without I/O: the store itself, or L1.
    #[inline]
    pub(crate) fn memory(&self) -> Option<&dyn Store> {
        match self.form {
            Form::Objects => self.direct(),
            Form::Bytes => Some(self.l1.as_ref()?.memory()),
        }
    }

    #[inline]
    fn direct(&self) -> Option<&dyn Store> {
        match &self.store {
            AnyStore::Direct(store) => Some(&**store),
            AnyStore::Immediate(store) => store.immediate(),
            AnyStore::Suspending(_) => None,
        }
    }

    pub(crate) fn store(&self) -> &AnyStore {
        &self.store
    }

    /// Runs a step of a call, whose operations together have one timeout in the store. The caller pins the
    /// step.
    pub(crate) async fn timed<F: Future + Unpin>(&self, time: &StoreTime, step: F) -> F::Output {
        match self.immediate() {
            Some(_) => step.await,
            None => time.run(step).await,
        }
    }

    /// Waits for a notification, until a time. Returns whether it was notified.
    pub(crate) async fn wait(&self, listener: EventListener, until: Option<Instant>) -> bool {
        match self.mode {
            Mode::Blocking => {
                let (mut listener, mut notified) = (Some(listener), true);
                self.executor.block(&mut || match (listener.take(), until) {
                    (Some(listener), Some(until)) => {
                        notified = listener.wait_deadline(until).is_some();
                    }
                    (Some(listener), None) => listener.wait(),
                    (None, _) => {}
                });
                notified
            }
            Mode::Async => self.within(until, listener).await.is_some(),
        }
    }

    /// Pauses the caller. Returns `false` if it cannot wait.
    pub(crate) async fn pause(&self, duration: Duration) -> bool {
        match self.mode {
            Mode::Blocking => {
                self.executor.block(&mut || sync::sleep(duration));
                true
            }
            Mode::Async => sync::pause(self.executor.sleep_until(self.now() + duration)).await,
        }
    }

    /// Lets other tasks run, in a call that does much without waiting for anything.
    pub(crate) async fn yield_now(&self) {
        let mut has_yielded = !self.is_async();
        poll_fn(|context| {
            if has_yielded {
                return Poll::Ready(());
            }
            has_yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Returns the output of a future, or `None` after a time. A thread waits without a timeout, because
    /// its future blocks.
    pub(crate) async fn within<F: Future>(
        &self,
        until: Option<Instant>,
        future: F,
    ) -> Option<F::Output> {
        let sleep = match self.mode {
            Mode::Blocking => None,
            Mode::Async => until.and_then(|until| self.executor.sleep_until(until)),
        };
        let Some(mut sleep) = sleep else {
            return Some(future.await);
        };
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Returns the default of `max_load`. Threads have none, because they cannot be stopped.
    pub(crate) fn max_load(&self) -> Option<Duration> {
        match self.mode {
            Mode::Blocking => None,
            Mode::Async => Some(MAX_LOAD),
        }
    }

    /// Returns whether it is called from tasks. Then a load is dropped with its caller, and a wait with
    /// a deadline needs a timer.
    pub(crate) fn is_async(&self) -> bool {
        matches!(self.mode, Mode::Async)
    }

    pub(crate) fn now(&self) -> Instant {
        self.executor.now()
    }

    pub(crate) fn spawn(
        &self,
        load: BoxFuture<'static, ()>,
        overdue_at: Option<Instant>,
    ) -> Result<(), BoxFuture<'static, ()>> {
        self.executor.spawn(load, overdue_at)
    }
}

macro_rules! driver {
    (@methods {}
        operations { $($operation:ident($($first:ident: $first_type:ty $(, $arg:ident: $type:ty)*)?) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        impl Driver {
            $(pub(crate) async fn $operation(&self, $($first: $first_type $(, $arg: $type)*)?) -> Result<$output> {
                let (name, keys) = (stringify!($operation), 0 $(+ $first.key_count())?);
                let output = match &self.store {
                    AnyStore::Direct(store) => {
                        self.in_span(name, keys, || store.$operation($($first $(, $arg)*)?))
                    }
                    AnyStore::Immediate(store) => match store.immediate() {
                        Some(store) => {
                            self.in_span(name, keys, || store.$operation($($first $(, $arg)*)?))
                        }
                        None => store.$operation($($first $(, $arg)*)?).await,
                    },
                    AnyStore::Suspending(store) => {
                        let operation = || store.$operation($($first $(, $arg)*)?);
                        self.instrument(name, keys, operation).await
                    }
                };
                self.report();
                output
            })*
        }

        impl AnyStore {
            $(pub(crate) fn $property(&self) -> $value {
                match self {
                    Self::Direct(store) => store.$property(),
                    Self::Immediate(store) | Self::Suspending(store) => store.$property(),
                }
            })*
        }
    };
}

crate::__store_methods!('_, { driver } {});
