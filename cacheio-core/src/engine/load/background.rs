//! Loads of `fetch`. They run in the background if a policy allows the caller to return first.
//! [`result`] has what a load leaves for its own caller.

mod result;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tracing::Instrument as _;

use self::result::{CallerAction, EndOfLoad, LoadResult, ResultSlot, caller_action};
use super::claim::{self, ProcessWait, ProcessWaitResult};
use super::join::JoinOutcome;
use super::mode::{Failure, LoadMode, Loaded};
use super::publish::Publication;
use super::wait::{Resolution, WaiterAction, earlier};
use super::{Engine, LoadCall, boxed};
use crate::engine::lookup::{CachedValue, Previous};
use crate::engine::stale::FailedLoad;
use crate::error::{Limit, timed_out};
use crate::fetched::LoadDirectives;
use crate::flight::deadlock::LoadScope;
use crate::flight::{AfterPublication, Leader, Outcome, Waiter};
use crate::key::{Key, MissedKey};
use crate::stats::Count;
use crate::store::store_time::StoreTime;
use crate::{BoxFuture, Fetched, LoadContext, Options, Source, Ttl, Value};

/// A load that may go on after its caller has left.
struct BackgroundLoad<V: Value> {
    engine: Arc<Engine>,
    key: Box<str>,
    leader: Leader,
    options: Options,
    mode: LoadMode,
    previous: Previous<V>,
    /// What its caller has spent before the load.
    store_time: StoreTime,
    /// What runs when the flight has completed.
    after: AfterPublication,
}

impl Engine {
    /// Gets a value that the probe did not, or loads it, in the background where a policy asks for
    /// it: the second half of `fetch`.
    ///
    /// A call that cannot return a timeout runs the load itself, unless it may leave with a stale
    /// value. `prepare` makes the loader if one has to run.
    ///
    /// # Errors
    ///
    /// When the loader fails, takes too long, or would wait for itself. Failures of the store are
    /// not returned.
    pub async fn fetch<V, E, L, F>(
        self: &Arc<Self>,
        missed: MissedKey,
        options: &Options,
        mode: LoadMode,
        prepare: impl FnOnce() -> L,
    ) -> Result<Fetched<V>, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        L: FnOnce(LoadContext<V>) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let valid = self.check_options(options, mode)?;
        let options = valid.as_deref().unwrap_or(options);
        let key = missed.key();
        let time = StoreTime::default();
        let call = self
            .load_call(key, options, mode, &time, &prepare)
            .after_miss(&missed);
        let (leader, previous) = match boxed(|| call.join_or_lead(|_| LoadScope::detached())).await
        {
            JoinOutcome::Served(fetched) => return Ok(fetched),
            JoinOutcome::Failed(failure) => return Err(failure),
            JoinOutcome::LoadUnshared(previous, scope) => {
                let context = load_context(&previous, &LoadDirectives::default());
                let loader = prepare();
                let loader = async { loader(context).await.map(Loaded::from) };
                let loaded = boxed(|| call.load_unshared(&previous, scope, loader));
                let (cached, source) = loaded.await?;
                return Ok(self.fetched(cached, source));
            }
            JoinOutcome::Lead(leader, previous) => (leader, previous),
        };
        let live = match &previous {
            Previous::Live(cached) => Some(cached.clone()),
            _ => None,
        };
        let load = BackgroundLoad {
            engine: Arc::clone(self),
            key: key.text().into(),
            leader,
            options: options.clone(),
            mode,
            previous,
            store_time: time.clone(),
            after: AfterPublication::default(),
        };
        match live {
            Some(cached) => {
                load.spawn::<E, F>(true, prepare()).await;
                Ok(self.fetched(cached, Source::Hit))
            }
            None => boxed(|| call.load_in_background(load, prepare())).await,
        }
    }
}

impl Engine {
    /// Returns a value that is served instead of that of a load, and counts a stale one.
    fn served<V: Value>(&self, cached: CachedValue<V>, source: Source) -> Fetched<V> {
        if source == Source::Stale {
            self.count_stale_hit(&cached);
        }
        self.fetched(cached, source)
    }
}

impl LoadCall<'_> {
    /// Starts a load and waits for it.
    async fn load_in_background<V, E, F>(
        &self,
        load: BackgroundLoad<V>,
        loader: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let engine = self.engine;
        let waiter = load.leader.subscribe();
        let previous = load.previous.clone();
        let in_background = self.may_leave(&load);
        let slot = load.spawn(in_background, loader).await;
        let waited = self.wait_for_outcome(&waiter, previous.stale()).await;
        let key = self.engine.full_text(&self.key);
        let mut result = slot.take();
        if let Some(LoadResult::Served(cached, source)) = result {
            return Ok(engine.served(cached, source));
        }
        let own_fallback = match &mut result {
            Some(LoadResult::Failed(_, fallback)) => Some(fallback.take()),
            _ => None,
        };
        let resolution = self.resolve(waited);
        let result = match result {
            // It is for the end, when nothing else can be returned.
            Some(LoadResult::Panicked(panic)) if !matches!(resolution, Resolution::Abandoned) => {
                slot.put(LoadResult::Panicked(panic));
                None
            }
            result => result,
        };
        let action = caller_action(result, resolution, &key);
        let mut failure = None;
        match action {
            CallerAction::Return(value, source) => {
                return Ok(engine.fetched(CachedValue::uncached(value), source));
            }
            CallerAction::ResumePanic(panic) => resume_unwind(panic),
            CallerAction::Fail(failure) => return Err(failure),
            CallerAction::StopWaiting => {}
            CallerAction::FallBackOrFail(_) | CallerAction::FallBackOrStop => {
                let fallback = match own_fallback {
                    Some(fallback) => fallback.inspect(|cached| engine.count_stale_hit(cached)),
                    None => self.stale_fallback(&previous).await,
                };
                if let Some(cached) = fallback {
                    return Ok(engine.fetched(cached, Source::Stale));
                }
                if let CallerAction::FallBackOrFail(error) = action {
                    failure = Some(error);
                }
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        match self.stop_waiting::<V, E>(&previous) {
            WaiterAction::Served(cached, source) => Ok(engine.fetched(cached, source)),
            WaiterAction::Failed(failure) => Err(failure),
            // The waiter is kept for as long: deadlocks are found by it.
            WaiterAction::LoadUnshared | WaiterAction::JoinAgain => {
                self.own_result(&slot, &waiter).await
            }
        }
    }

    /// Waits for the load of this call, which can neither serve a stale value nor return a timeout. Other callers
    /// may have a new one already.
    async fn own_result<V: Value, E>(
        &self,
        slot: &ResultSlot<V, E>,
        waiter: &Waiter,
    ) -> Result<Fetched<V>, Failure<E>> {
        let engine = self.engine;
        let overdue_at = waiter.schedule().overdue_at;
        let until = earlier(self.limits.hard, overdue_at.filter(|_| self.mode.times_out));
        if !slot.wait_for_end(&engine.driver, until).await {
            engine.count_wait_timeout(&self.key);
            let limit = match self.has_reached_hard_limit() {
                true => Limit::Caller,
                false => Limit::Load,
            };
            let error = timed_out(&engine.full_text(&self.key), limit);
            return Err(Failure::TimedOut(error));
        }
        match slot.take() {
            Some(LoadResult::Value(value)) => {
                Ok(engine.fetched(CachedValue::uncached(value), Source::Loaded))
            }
            Some(LoadResult::Served(cached, source)) => Ok(engine.served(cached, source)),
            Some(LoadResult::Failed(_, Some(cached))) => Ok(engine.served(cached, Source::Stale)),
            Some(LoadResult::Failed(failure, None)) => Err(failure),
            Some(LoadResult::Panicked(panic)) => resume_unwind(panic),
            None => {
                let limit = match self.mode.times_out {
                    true => Limit::Load,
                    false => Limit::Runtime,
                };
                let error = timed_out(&engine.full_text(&self.key), limit);
                Err(Failure::TimedOut(error))
            }
        }
    }

    /// Whether this call may return before its load ends.
    fn may_leave<V: Value>(&self, load: &BackgroundLoad<V>) -> bool {
        let has_stale_value = self.limits.soft.is_some() && load.previous.stale().is_some();
        let may_time_out = self.engine.driver.is_async()
            || self.limits.hard.is_some()
            || load.leader.overdue_at().is_some();
        has_stale_value || (self.mode.times_out && may_time_out)
    }
}

impl<V: Value> BackgroundLoad<V> {
    /// Starts the load, in the background if asked to and if the executor can. Returns where it
    /// leaves its result.
    async fn spawn<E, F>(
        self,
        in_background: bool,
        loader: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Arc<ResultSlot<V, E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let engine = Arc::clone(&self.engine);
        let overdue_at = self.leader.overdue_at();
        // A caller that runs the load itself counts as a waiter for it.
        let waiter = self.leader.subscribe();
        let slot = Arc::new(ResultSlot::new());
        let result = EndOfLoad(Arc::clone(&slot));
        let load = async move {
            // The load may have waited for a thread for longer than any caller waits for it.
            // A call that returns no error waits until its load ends, also if nothing else needs the value.
            let is_awaited = !self.mode.times_out && Arc::strong_count(&result.0) > 1;
            if !in_background || is_awaited || self.leader.is_wanted() {
                self.run(&result.0, loader).await;
            }
        };
        let load: BoxFuture<'static, ()> = Box::pin(load.in_current_span());
        let not_spawned = match in_background {
            true => engine.driver.spawn(load, overdue_at).err(),
            false => Some(load),
        };
        if let Some(load) = not_spawned {
            let _waiter = waiter;
            load.await;
        }
        slot
    }

    /// Runs the loader, publishes its value and completes the flight.
    async fn run<E, F>(mut self, slot: &ResultSlot<V, E>, loader: impl FnOnce(LoadContext<V>) -> F)
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        match caught(self.load_and_publish(slot, loader)).await {
            Ok(outcome) => {
                self.leader.complete(|| outcome);
                self.after.run();
            }
            Err(panic) => {
                tracing::error!(
                    target: "cacheio",
                    namespace = self.engine.namespace(),
                    "background load panicked",
                );
                self.engine.trace_key(&Key::new(&self.key));
                slot.put(LoadResult::Panicked(panic));
                self.on_failed().await;
            }
        }
    }

    async fn load_and_publish<E, F>(
        &mut self,
        slot: &ResultSlot<V, E>,
        loader: impl FnOnce(LoadContext<V>) -> F,
    ) -> Outcome
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        // A call that cannot return a timeout waits until its load ends, while others may start a
        // new one.
        let overdue_at = self.leader.overdue_at().filter(|_| self.mode.times_out);
        if self.engine.shares_loads
            && self.leader.has_lost()
            && let Some(outcome) = self.wait_for_process(overdue_at, slot).await
        {
            return outcome;
        }
        let engine = &self.engine;
        let began = engine.begin_load();
        // On the heap: each future around it would otherwise hold it twice.
        let loader = Box::pin(self.loaded(loader));
        let running = self.leader.scope().run(engine.run_loader(loader));
        match engine.driver.within(overdue_at, running).await {
            Some(Ok(loaded)) => {
                let policy = engine.policy_of_load(&self.options, began, self.mode.dated);
                let value = loaded.value.into_stored();
                let publication = Publication {
                    leader: &self.leader,
                    key: Key::new(&self.key),
                    object: Some(Arc::clone(&value) as _),
                    ttl: loaded.ttl,
                    may_replace: self.previous.may_exist(),
                };
                let publications = [publication];
                let publish = engine.publish(&publications, &self.options, policy);
                self.after = engine.driver.timed(&self.store_time, pin!(publish)).await;
                slot.put(LoadResult::Value(Arc::clone(&value)));
                Outcome::Value(value)
            }
            Some(Err(error)) => {
                let fallback = self.on_failed().await;
                let failed = [(Key::new(&self.key), &self.leader)];
                let settle = engine.settle_failed(&failed);
                engine.driver.timed(&self.store_time, pin!(settle)).await;
                let (failure, outcome) = self.mode.failure(error);
                slot.put(LoadResult::Failed(failure, fallback));
                outcome
            }
            None => self.on_timed_out().await,
        }
    }

    /// Waits for the load of another process. Returns the outcome of this load if it does not run.
    async fn wait_for_process<E>(
        &mut self,
        until: Option<Instant>,
        slot: &ResultSlot<V, E>,
    ) -> Option<Outcome> {
        let wait = ProcessWait {
            leader: &self.leader,
            key: Key::new(&self.key),
            options: &self.options,
            until,
        };
        let previous = std::mem::replace(&mut self.previous, Previous::Nothing);
        match self.engine.wait_for_process(wait, previous).await {
            ProcessWaitResult::Load(previous) => {
                self.previous = previous;
                None
            }
            ProcessWaitResult::Serve(cached, source) => {
                let outcome = claim::outcome(&cached, source);
                slot.put(LoadResult::Served(cached, source));
                Some(outcome)
            }
            ProcessWaitResult::LimitReached(previous) => {
                self.previous = previous;
                Some(self.on_timed_out().await)
            }
        }
    }

    /// Ends a load that exceeded `max_load`.
    async fn on_timed_out(&self) -> Outcome {
        self.on_failed().await;
        let count = || self.engine.counters.add(Count::LoadTimeout);
        if self.leader.time_out(count) {
            self.engine.warn_load_timed_out(&Key::new(&self.key));
        }
        Outcome::TimedOut
    }

    /// Runs the loader with its context.
    async fn loaded<E, F>(&self, loader: impl FnOnce(LoadContext<V>) -> F) -> Result<Loaded<V>, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let directives = LoadDirectives::default();
        let value = loader(load_context(&self.previous, &directives)).await?;
        let mut ttl = directives.ttl();
        if directives.is_unmodified()
            && let Some(previous) = self.previous.value()
        {
            // A previous value that was invalidated meanwhile is not stored again.
            let is_retained = self.engine.is_retained(previous);
            let time = &self.store_time;
            if !self.engine.driver.timed(time, pin!(is_retained)).await {
                ttl = Some(Ttl::After(Duration::ZERO));
            }
        }
        Ok(Loaded { value, ttl })
    }

    /// Returns what its caller serves instead.
    async fn on_failed(&self) -> Option<CachedValue<V>> {
        let failed = FailedLoad {
            key: Key::new(&self.key),
            previous: &self.previous,
            leader: &self.leader,
        };
        let engine = &self.engine;
        let fallback = engine.on_one_load_failed(failed, &self.options);
        engine.driver.timed(&self.store_time, pin!(fallback)).await
    }
}

fn load_context<V: Value>(previous: &Previous<V>, directives: &LoadDirectives) -> LoadContext<V> {
    let previous = previous.value();
    let previous = previous.map(|cached| V::shared(Arc::clone(&cached.value)));
    LoadContext::new(previous, directives.clone())
}

/// Returns the output of a future, or its panic.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // The future is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}
