//! Loads: one per key. This file runs them in their caller, for `get_or_set`; `background` runs
//! them for `fetch`, and `batch` for `get_or_set_many`.

mod background;
mod batch;
mod claim;
mod join;
mod mode;
mod publish;
mod stack;
mod wait;

use std::any::TypeId;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tracing::Instrument as _;

use self::claim::ProcessWaitResult;
use self::join::JoinOutcome;
use self::mode::WaitLimits;
pub use self::mode::{ErrorSharing, Failure, LoadMode, Loaded};
use self::publish::Publication;
use self::stack::with_enough_stack;
use self::wait::WaiterAction;
use super::lookup::{CachedValue, Previous};
use super::stale::FailedLoad;
use super::{Engine, boxed};
use crate::error::{Limit, timed_out};
use crate::flight::deadlock::LoadScope;
use crate::flight::{Leader, Outcome};
use crate::key::{Key, MissedKey};
use crate::stats::Count;
use crate::store::store_time::StoreTime;
use crate::{Object, Operation, Options, Source, Value};

/// What the steps of one loading call share.
#[derive(Clone, Copy)]
struct LoadCall<'a> {
    engine: &'a Engine,
    key: Key<'a>,
    options: &'a Options,
    mode: LoadMode,
    limits: WaitLimits,
    /// The type of the loader.
    loader: TypeId,
    store_time: &'a StoreTime,
    /// The key was just found to be absent.
    is_absent: bool,
}

impl Engine {
    /// Gets a value that the [probe](Self::probe_to_load) did not, or loads it in the caller: the
    /// second half of `get_or_set`.
    ///
    /// The loader may borrow, and ends when its caller is dropped.
    ///
    /// # Errors
    ///
    /// When the loader fails, takes too long, or would wait for itself. Failures of the store are
    /// not returned.
    pub async fn load<V, E, F>(
        &self,
        missed: MissedKey,
        options: &Options,
        mode: LoadMode,
        loader: impl FnOnce() -> F,
    ) -> Result<V, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let valid = self.check_options(options, mode)?;
        let options = valid.as_deref().unwrap_or(options);
        let time = StoreTime::default();
        let call = self
            .load_call(missed.key(), options, mode, &time, &loader)
            .after_miss(&missed);
        match boxed(|| call.join_or_lead(LoadScope::new)).await {
            JoinOutcome::Served(fetched) => Ok(fetched.value),
            JoinOutcome::Failed(failure) => Err(failure),
            JoinOutcome::LoadUnshared(previous, scope) => {
                let loader = async { loader().await };
                let loaded = boxed(|| call.load_unshared(&previous, scope, loader));
                loaded.await.map(|(cached, _)| V::from_stored(cached.value))
            }
            // A refresh too runs in its caller, because the loader may borrow. The other callers
            // go on reading.
            JoinOutcome::Lead(leader, previous) => {
                let loaded = boxed(|| call.load_inline(leader, previous, loader));
                loaded.await.map(V::from_stored)
            }
        }
    }

    /// Checks the options of a loading call. A call that cannot return an error runs without the
    /// invalid ones, with the options that this returns.
    fn check_options<E>(
        &self,
        options: &Options,
        mode: LoadMode,
    ) -> Result<Option<Box<Options>>, Failure<E>> {
        match options.policies.check_values() {
            Ok(()) => Ok(None),
            Err(error) if mode.times_out => Err(Failure::Config(error.during(Operation::Load))),
            Err(error) => {
                self.warn_invalid_options(&error);
                let mut options = options.clone();
                options.fields.policies = options.policies.valid();
                Ok(Some(Box::new(options)))
            }
        }
    }

    /// Warns once of an invalid option of a call.
    fn warn_invalid_options(&self, error: &crate::Error) {
        if self.warnings.is_first(error.message()) {
            tracing::warn!(
                target: "cacheio",
                namespace = self.namespace(),
                error = %error,
                "a loading call has an invalid option, which is ignored",
            );
        }
    }

    fn load_call<'a, L>(
        &'a self,
        key: Key<'a>,
        options: &'a Options,
        mode: LoadMode,
        store_time: &'a StoreTime,
        _: &L,
    ) -> LoadCall<'a> {
        LoadCall {
            engine: self,
            key,
            options,
            mode,
            limits: self.wait_limits(options, mode),
            loader: typeid::of::<L>(),
            store_time,
            is_absent: false,
        }
    }

    /// Runs a loader, with its statistics and its span.
    async fn run_loader<T, E>(&self, loader: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.counters.add(Count::Load);
        let _timer = self.counters.time_load();
        let span = tracing::debug_span!(target: "cacheio", "load");
        let loaded = with_enough_stack(loader.instrument(span)).await;
        if loaded.is_err() {
            self.counters.add(Count::LoadError);
        }
        loaded
    }
}

impl LoadCall<'_> {
    /// Takes note of whether the key was just found to be absent.
    fn after_miss(self, missed: &MissedKey) -> Self {
        Self {
            is_absent: missed.is_absent() && !self.options.force_refresh,
            ..self
        }
    }

    /// Runs a step that waits for the store: all steps of the call together have one timeout. The caller
    /// pins the step.
    async fn in_store<F: Future + Unpin>(&self, step: F) -> F::Output {
        self.engine.driver.timed(self.store_time, step).await
    }

    /// Runs the loader in this caller and publishes its value. If it fails, a stale value is
    /// served.
    async fn load_inline<V, E, F>(
        &self,
        leader: Leader,
        previous: Previous<V>,
        loader: impl FnOnce() -> F,
    ) -> Result<Arc<V::Stored>, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let engine = self.engine;
        let waited = match engine.shares_loads && leader.has_lost() {
            true => boxed(|| self.wait_inline(&leader, previous)).await,
            false => ProcessWaitResult::Load(previous),
        };
        let previous = match waited {
            ProcessWaitResult::Load(previous) => previous,
            ProcessWaitResult::Serve(cached, source) => {
                leader.complete(|| claim::outcome(&cached, source));
                return Ok(cached.value);
            }
            // Dropping the leader makes a waiter take over.
            ProcessWaitResult::LimitReached(previous) => match self.stop_waiting(&previous) {
                WaiterAction::Served(cached, _) => return Ok(cached.value),
                WaiterAction::Failed(failure) => return Err(failure),
                WaiterAction::LoadUnshared | WaiterAction::JoinAgain => previous,
            },
        };
        let began = engine.begin_load();
        // On the heap: each future around it would otherwise hold it twice.
        let loader = Box::pin(async { loader().await });
        let running = leader.scope().run(engine.run_loader(loader));
        let error = match engine.driver.within(self.limits.hard, running).await {
            Some(Ok(loaded)) => {
                let policy = engine.policy_of_load(self.options, began, self.mode.dated);
                let value = loaded.value.into_stored();
                let publication = Publication {
                    leader: &leader,
                    key: self.key,
                    object: Some(Arc::clone(&value) as Arc<dyn Object>),
                    ttl: loaded.ttl,
                    may_replace: previous.may_exist(),
                };
                let after = self
                    .in_store(pin!(engine.publish(&[publication], self.options, policy)))
                    .await;
                leader.complete(|| Outcome::Value(Arc::clone(&value) as Arc<dyn Object>));
                after.run();
                return Ok(value);
            }
            Some(Err(error)) => Some(error),
            None => {
                engine.count_wait_timeout(&self.key);
                None
            }
        };
        let failed = FailedLoad {
            key: self.key,
            previous: &previous,
            leader: &leader,
        };
        let fallback = engine.on_one_load_failed(failed, self.options);
        let fallback = self.in_store(pin!(fallback)).await;
        let failure = match error {
            Some(error) => {
                self.in_store(pin!(engine.settle_failed(&[(self.key, &leader)])))
                    .await;
                let (failure, outcome) = self.mode.failure(error);
                leader.complete(|| outcome);
                failure
            }
            // Dropping the leader makes a waiter take over.
            None => Failure::TimedOut(timed_out(&self.engine.full_text(&self.key), Limit::Caller)),
        };
        let fallback = fallback.ok_or(failure)?;
        engine.count_stale_hit(&fallback);
        Ok(fallback.value)
    }

    /// Runs the loader for this caller only: the outcome of the shared load is of no use to it.
    async fn load_unshared<V: Value, E>(
        &self,
        previous: &Previous<V>,
        scope: Option<Arc<LoadScope>>,
        loader: impl Future<Output = Result<Loaded<V>, E>>,
    ) -> Result<(CachedValue<V>, Source), Failure<E>> {
        let engine = self.engine;
        let loader = engine.run_loader(Box::pin(loader));
        let running = async {
            match &scope {
                Some(scope) => scope.run(loader).await,
                None => loader.await,
            }
        };
        let failure = match engine.driver.within(self.limits.hard, running).await {
            Some(Ok(loaded)) => {
                let value = CachedValue::uncached(loaded.value.into_stored());
                return Ok((value, Source::Loaded));
            }
            Some(Err(error)) => Failure::Own(error),
            None => {
                engine.count_wait_timeout(&self.key);
                Failure::TimedOut(timed_out(&self.engine.full_text(&self.key), Limit::Caller))
            }
        };
        match self.stale_fallback(previous).await {
            Some(cached) => Ok((cached, Source::Stale)),
            None => Err(failure),
        }
    }

    /// Returns a stale value to serve instead of a load that failed, and counts it.
    async fn stale_fallback<V: Value>(&self, previous: &Previous<V>) -> Option<CachedValue<V>> {
        if !previous.allows_fallback() {
            return None;
        }
        let keys = std::slice::from_ref(&self.key);
        let fallbacks = self.engine.stale_fallbacks(keys, &[], self.options);
        let fallbacks = self.in_store(pin!(fallbacks)).await;
        let fallback = fallbacks.into_iter().next().flatten()?;
        self.engine.count_stale_hit(&fallback);
        Some(fallback)
    }
}
