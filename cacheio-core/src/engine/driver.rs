//! How the engine reaches a store, from threads or from tasks.

use std::fmt::{self, Debug};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::flight::sync::{EventListener, Listener};
use crate::stats::Metrics;
use crate::{AsyncStore, BoxFuture, Form, KeyRule, Result, Store};

/// How long a task's load may take, unless it is said.
const MAX_LOAD: Duration = Duration::from_secs(60);

/// A store, and the world from which it is called.
#[derive(Clone, Debug)]
pub struct Driver {
    store: AnyStore,
    mode: Mode,
    executor: Arc<dyn Executor>,
    form: Form,
    key_rule: KeyRule,
    metrics: Option<Metrics>,
}

#[derive(Clone)]
pub(crate) enum AnyStore {
    /// Is called directly: it may block the thread, or never waits.
    Direct(Arc<dyn Store>),
    /// Never waits; is called directly too.
    Immediate(Arc<dyn AsyncStore>),
    /// Gives futures.
    Suspending(Arc<dyn AsyncStore>),
}

/// What runs loads behind their callers, and knows the time by which these wait.
pub trait Executor: Debug + Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Runs a load behind its callers.
    ///
    /// # Errors
    ///
    /// The load, if it cannot be run here.
    fn spawn(&self, load: BoxFuture<'static, ()>) -> Result<(), BoxFuture<'static, ()>>;

    /// Blocks the thread. What is waited for may itself wait to be run here.
    fn block(&self, wait: &mut dyn FnMut()) {
        wait();
    }

    /// For tasks: is ready at a time. None where nothing could wake it.
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
            store,
            mode,
            executor,
            metrics: None,
        }
    }

    /// Replaces the store with its view of a namespace; whether it has one.
    pub(crate) fn enter_namespace(&mut self, prefix: &str) -> bool {
        let view = self.direct().and_then(|store| store.in_namespace(prefix));
        let has_view = view.is_some();
        if let Some(view) = view {
            self.store = AnyStore::Direct(view);
        }
        has_view
    }

    /// Makes the metrics of a cache of this name, to which the store's own numbers go too.
    pub(crate) fn report_as(&mut self, namespace: &str) -> Metrics {
        let metrics = Metrics::new(
            namespace,
            self.store.evictions(),
            self.store.circuit_opens(),
        );
        self.metrics.insert(metrics).clone()
    }

    /// What an operation has changed may be in the store's own numbers.
    #[inline]
    fn report(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.update_from_store(|| (self.store.evictions(), self.store.circuit_opens()));
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

    /// The store, if it keeps the values themselves and answers at once.
    #[inline]
    pub(crate) fn immediate(&self) -> Option<&dyn Store> {
        match self.form {
            Form::Objects => self.direct(),
            Form::Bytes => None,
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

    /// Waits until it is notified, or until a time; whether it was notified.
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

    /// What a future answers, if it does so by a time. A thread cannot be stopped: it waits.
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

    /// How long a load may take before its key is free, unless it is said. A thread may well run
    /// for long, and goes on if it is left.
    pub(crate) fn max_load(&self) -> Option<Duration> {
        match self.mode {
            Mode::Blocking => None,
            Mode::Async => Some(MAX_LOAD),
        }
    }

    /// Whether it is called from tasks. One that is dropped takes what it polls with it, and needs
    /// a timer to wait with a deadline.
    pub(crate) fn is_async(&self) -> bool {
        matches!(self.mode, Mode::Async)
    }

    pub(crate) fn now(&self) -> Instant {
        self.executor.now()
    }

    pub(crate) fn spawn(&self, load: BoxFuture<'static, ()>) -> Result<(), BoxFuture<'static, ()>> {
        self.executor.spawn(load)
    }
}

macro_rules! driver {
    (@methods {}
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        impl Driver {
            $(pub(crate) async fn $operation(&self, $($arg: $type),*) -> Result<$output> {
                let output = match &self.store {
                    AnyStore::Direct(store) => store.$operation($($arg),*),
                    AnyStore::Immediate(store) => match store.immediate() {
                        Some(store) => store.$operation($($arg),*),
                        None => store.$operation($($arg),*).await,
                    },
                    AnyStore::Suspending(store) => store.$operation($($arg),*).await,
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
