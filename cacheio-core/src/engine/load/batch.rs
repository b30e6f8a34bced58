//! `get_or_set_many`: one read, and one call of the loader for all missing keys. Each key has at
//! most one load at a time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use super::join::{DueKey, LeaderAction, LedKey, MAX_UNSHARED, Seen};
use super::mode::{Failure, LoadMode};
use super::publish::Publication;
use super::wait::{Resolution, WaiterAction};
use super::{Engine, LoadCall};
use crate::engine::lookup::{LookupDecision, Previous};
use crate::engine::stale::FailedLoad;
use crate::error::{Limit, reentrant, timed_out};
use crate::flight::deadlock::LoadScope;
use crate::flight::{Join, Outcome, Waiter};
use crate::key::Key;
use crate::stats::Count;
use crate::store::store_time::StoreTime;
use crate::{CacheKey, Object, Options, Value};

/// The result for one key; `None` if the loader had no value for it.
type KeyResult<V, E> = Result<Option<Arc<<V as Value>::Stored>>, Failure<E>>;

/// A distinct key of a batch.
struct BatchKey<'a, K, V: Value, E> {
    /// As the caller gave it, until a loader takes it.
    key: Option<K>,
    text: Key<'a>,
    /// Recorded before the store was read.
    seen: Option<Seen>,
    previous: Previous<V>,
    result: Option<KeyResult<V, E>>,
}

/// The keys of one call.
struct Batch<'a, K, V: Value, E> {
    /// The call, with the first key.
    call: LoadCall<'a>,
    keys: Vec<BatchKey<'a, K, V, E>>,
    /// The index of each distinct key.
    indexes: HashMap<&'a str, usize>,
    /// The index of each key in the order of the call, with duplicates.
    order: Vec<usize>,
}

/// The keys of a batch that it does not lead.
struct Joined {
    waiters: Vec<(usize, Waiter)>,
    /// Keys that this call seems to be loading already.
    cyclic: Vec<usize>,
    /// Keys that it loads for itself only.
    alone: Vec<usize>,
}

/// A led key, with its index.
type Led<'a, V> = (usize, LedKey<'a, V>);

impl Engine {
    /// Gets values, and loads the missing ones with one call of the loader.
    ///
    /// The loader runs again only for keys whose loads by other callers were abandoned.
    pub async fn load_many<K, V, E, L, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: &Options,
        mode: LoadMode,
        mut loader: impl FnMut(Vec<K>) -> F,
    ) -> Vec<Result<Option<V>, Failure<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        let keys: Vec<K> = keys.into_iter().collect();
        let texts: Vec<Box<str>> = keys.iter().map(|key| self.text(key)).collect();
        let Some(first) = texts.first() else {
            return Vec::new();
        };
        let valid = match self.check_options::<E>(options, mode) {
            Ok(valid) => valid,
            Err(failure) => {
                let failures = keys.iter().map(|_| failure.same().map_or(Ok(None), Err));
                return failures.collect();
            }
        };
        let options = valid.as_deref().unwrap_or(options);
        let time = StoreTime::default();
        let call = self.load_call(Key::new(first), options, mode, &time, &loader);
        let mut batch = Batch::<K, V, E>::new(call, keys, &texts);
        let mut led = batch.read().await;
        loop {
            let Joined {
                waiters,
                cyclic,
                alone,
            } = batch.join(&mut led).await;
            if !led.is_empty() {
                batch.load(std::mem::take(&mut led), &mut loader).await;
            }
            if !cyclic.is_empty() {
                batch.load_cyclic(cyclic, &mut loader).await;
            }
            if !alone.is_empty() {
                batch.load_alone(alone, &mut loader).await;
            }
            batch.wait(waiters).await;
            if batch.keys.iter().all(|key| key.result.is_some()) {
                return batch.into_results();
            }
        }
    }
}

impl<'a, K, V, E> Batch<'a, K, V, E>
where
    K: CacheKey,
    V: Value,
    E: Send + Sync + 'static,
{
    fn new(call: LoadCall<'a>, keys: Vec<K>, texts: &'a [Box<str>]) -> Self {
        let mut batch = Self {
            call,
            indexes: HashMap::with_capacity(keys.len()),
            order: Vec::with_capacity(keys.len()),
            keys: Vec::with_capacity(keys.len()),
        };
        for (key, text) in keys.into_iter().zip(texts) {
            let index = *batch.indexes.entry(text).or_insert_with(|| {
                batch.keys.push(BatchKey {
                    key: Some(key),
                    text: Key::new(text),
                    seen: None,
                    previous: Previous::Nothing,
                    result: None,
                });
                batch.keys.len() - 1
            });
            batch.order.push(index);
        }
        batch
    }

    fn call(&self, index: usize) -> LoadCall<'a> {
        LoadCall {
            key: self.keys[index].text,
            ..self.call
        }
    }

    /// Reads all keys in one round trip. Returns the live ones that this call refreshes.
    async fn read(&mut self) -> Vec<Led<'a, V>> {
        let LoadCall {
            engine, options, ..
        } = self.call;
        if options.force_refresh {
            for key in &mut self.keys {
                key.previous = Previous::Ignored;
            }
            return Vec::new();
        }
        let texts: Vec<Key<'_>> = self.keys.iter().map(|key| key.text).collect();
        let (mut read, lookups) = engine.look_up_to_load::<V>(&texts, options).await;
        for index in &self.order {
            engine.count_lookup(lookups[*index].as_live());
        }
        let decisions = engine.decide_many(&texts, lookups, options).await;
        if decisions.iter().any(LookupDecision::needs_load) {
            engine.complete_stamps(&mut read, options).await;
        }
        for (key, seen) in self.keys.iter_mut().zip(read.seen) {
            key.seen = Some(seen);
        }
        let mut due = Vec::new();
        for (index, decision) in decisions.into_iter().enumerate() {
            let key = &mut self.keys[index];
            match decision {
                LookupDecision::Serve(cached) | LookupDecision::ServeStale(cached) => {
                    key.result = Some(Ok(Some(cached.value)));
                }
                LookupDecision::Refresh(cached) => {
                    due.push(DueKey {
                        key: key.text,
                        cached: cached.clone(),
                        seen: key.seen.take(),
                    });
                    key.result = Some(Ok(Some(Arc::clone(&cached.value))));
                    key.previous = Previous::Live(cached);
                }
                LookupDecision::Load(previous) => key.previous = previous,
            }
        }
        self.refresh(due).await
    }

    /// Leads the refreshes of live values that are due.
    async fn refresh(&mut self, due: Vec<DueKey<'a, V>>) -> Vec<Led<'a, V>> {
        if due.is_empty() {
            return Vec::new();
        }
        let LoadCall {
            engine, options, ..
        } = self.call;
        let due_keys: Vec<Key<'a>> = due.iter().map(|due| due.key).collect();
        let scope = LoadScope::new(self.call.loader);
        let leaders = engine.begin_refreshes(due, options, || Arc::clone(&scope));
        let mut led = Vec::new();
        for (key, leader) in due_keys.into_iter().zip(leaders.await) {
            if let (Some(leader), Some(index)) = (leader, self.indexes.get(key.text())) {
                let batch_key = &mut self.keys[*index];
                batch_key.result = None;
                let previous = batch_key.previous.clone();
                led.push((
                    *index,
                    LedKey {
                        key,
                        leader,
                        previous,
                    },
                ));
            }
        }
        led
    }

    /// Joins the flight of each key that has no result yet, or opens one.
    async fn join(&mut self, led: &mut Vec<Led<'a, V>>) -> Joined {
        let LoadCall {
            engine,
            options,
            loader,
            ..
        } = self.call;
        let mut scope = led.first().map(|(_, led)| Arc::clone(led.leader.scope()));
        let (mut opened, mut waiters) = (Vec::new(), Vec::new());
        let (mut cyclic, mut alone) = (Vec::new(), Vec::new());
        // The stamps of keys that were not read in this call, or not again.
        let mut unread = None;
        for (index, key) in self.keys.iter_mut().enumerate() {
            if key.result.is_some() || led.binary_search_by_key(&index, |(led, _)| *led).is_ok() {
                continue;
            }
            let scope = scope.get_or_insert_with(|| LoadScope::new(loader));
            let (epoch, stamps) = match key.seen.take() {
                Some((epoch, stamps)) => (Some(epoch), stamps),
                None => {
                    if unread.is_none() {
                        unread = Some(engine.stamp_load(options).await);
                    }
                    (None, unread.clone().unwrap_or_default())
                }
            };
            let leader = if options.force_refresh {
                engine.take_over(&key.text, stamps, options, scope).await
            } else {
                let seen = (epoch, stamps);
                match engine.join(&key.text, seen, options, || Arc::clone(scope)) {
                    Join::Lead(leader) => leader,
                    Join::Wait(waiter) => {
                        engine.counters.add(Count::Wait);
                        waiters.push((index, waiter));
                        continue;
                    }
                    Join::Cycle(_) => {
                        cyclic.push(index);
                        continue;
                    }
                    // The next round of joins does.
                    Join::ReadTagsAgain => continue,
                    Join::Alone => {
                        alone.push(index);
                        continue;
                    }
                }
            };
            let key = LedKey {
                key: key.text,
                leader,
                previous: key.previous.clone(),
            };
            opened.push((index, key));
        }
        let (indexes, opened): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        let actions = engine.confirm_leaders(opened, options).await;
        for (index, action) in indexes.into_iter().zip(actions) {
            match action {
                LeaderAction::Load(key) => led.push((index, key)),
                LeaderAction::Serve(cached, _) => {
                    self.keys[index].result = Some(Ok(Some(cached.value)));
                }
            }
        }
        led.sort_unstable_by_key(|(index, _)| *index);
        Joined {
            waiters,
            cyclic,
            alone,
        }
    }

    /// Runs the loader for keys that this call seems to be loading already: see
    /// [`LoadCall::after_cycle`].
    async fn load_cyclic<L, F>(&mut self, cyclic: Vec<usize>, loader: &mut impl FnMut(Vec<K>) -> F)
    where
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        let scope = match self.call.mode.times_out {
            true => None,
            false => LoadScope::unshared(self.call.loader, MAX_UNSHARED),
        };
        let loaded = match scope {
            Some(scope) => {
                let missing = self.take_keys(&cyclic);
                let loading = self.call.engine.run_loader(collected(loader, missing));
                scope.run(loading).await.map_err(Failure::Own)
            }
            None => Err(Failure::Reentrant(reentrant(""))),
        };
        match loaded {
            Ok(values) => self.take_values(&cyclic, values),
            Err(_) => {
                for index in cyclic {
                    let key = self.call.engine.full_text(&self.keys[index].text);
                    self.keys[index].result = Some(Err(Failure::Reentrant(reentrant(&key))));
                }
            }
        }
    }

    /// Runs the loader for keys whose loads wait for another process, which a loader may not do.
    async fn load_alone<L, F>(&mut self, alone: Vec<usize>, loader: &mut impl FnMut(Vec<K>) -> F)
    where
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        let missing = self.take_keys(&alone);
        let engine = self.call.engine;
        let loading = engine.run_loader(collected(loader, missing));
        let error = match engine.driver.within(self.call.limits.hard, loading).await {
            Some(Ok(values)) => return self.take_values(&alone, values),
            Some(Err(error)) => Some(Arc::new(error)),
            None => None,
        };
        let mut fallbacks = Vec::new();
        for index in alone {
            let failure = match &error {
                Some(error) => Failure::Load(Arc::clone(error)),
                None => {
                    let key = engine.full_text(&self.keys[index].text);
                    Failure::TimedOut(timed_out(&key, Limit::Caller))
                }
            };
            let action = WaiterAction::Failed(failure);
            match self.keys[index].previous.allows_fallback() {
                true => fallbacks.push((index, action)),
                false => self.apply(index, action),
            }
        }
        self.fall_back_or_apply(fallbacks).await;
    }

    fn take_keys(&mut self, indexes: &[usize]) -> Vec<K> {
        let keys = indexes
            .iter()
            .filter_map(|index| self.keys[*index].key.take());
        keys.collect()
    }

    /// Runs the loader for the keys that this caller leads, publishes its values and completes the
    /// flights.
    async fn load<L, F>(&mut self, led: Vec<Led<'a, V>>, loader: &mut impl FnMut(Vec<K>) -> F)
    where
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        let engine = self.call.engine;
        let Some((_, first)) = led.first() else {
            return;
        };
        let scope = Arc::clone(first.leader.scope());
        let indexes: Vec<usize> = led.iter().map(|(index, _)| *index).collect();
        let missing = self.take_keys(&indexes);
        let began = engine.begin_load();
        let running = scope.run(engine.run_loader(collected(loader, missing)));
        let loaded = engine.driver.within(self.call.limits.hard, running).await;
        match loaded {
            Some(Ok(values)) => {
                self.take_values(&indexes, values);
                let options = self.call.options;
                let policy = engine.policy_of_load(options, began, self.call.mode.dated);
                let publications: Vec<_> = led
                    .iter()
                    .map(|(index, led)| Publication {
                        leader: &led.leader,
                        key: led.key,
                        object: self.value(*index).map(|value| value as Arc<dyn Object>),
                        ttl: None,
                        may_replace: led.previous.may_exist(),
                    })
                    .collect();
                let after = engine.publish(&publications, options, policy).await;
                drop(publications);
                for (index, led) in led {
                    match self.value(index) {
                        Some(value) => led.leader.complete(|| Outcome::Value(value)),
                        None => led.leader.complete(|| Outcome::Absent),
                    }
                }
                after.run();
            }
            Some(Err(error)) => {
                let error = Arc::new(error);
                self.fail(&led, |_| Failure::Load(Arc::clone(&error))).await;
                let failed: Vec<_> = led.iter().map(|(_, led)| (led.key, &led.leader)).collect();
                engine.settle_failed(&failed).await;
                for (_, led) in led {
                    led.leader
                        .complete(|| Outcome::Failed(Arc::clone(&error) as _));
                }
            }
            None => {
                engine.count_wait_timeout(&first.key);
                self.fail(&led, |key| {
                    Failure::TimedOut(timed_out(&self.call.engine.full_text(key), Limit::Caller))
                })
                .await;
                // Waiters take over.
                drop(led);
            }
        }
    }

    /// Takes what the loader returned for the keys that it was given.
    fn take_values(&mut self, given: &[usize], values: Vec<(K, V)>) {
        for index in given {
            self.keys[*index].result = Some(Ok(None));
        }
        for (key, value) in values {
            let text = self.call.engine.text(&key);
            // Values for other keys are ignored.
            if let Some(index) = self.indexes.get(&*text)
                && given.binary_search(index).is_ok()
            {
                self.keys[*index].result = Some(Ok(Some(value.into_stored())));
            }
        }
    }

    fn value(&self, index: usize) -> Option<Arc<V::Stored>> {
        match &self.keys[index].result {
            Some(Ok(value)) => value.clone(),
            _ => None,
        }
    }

    /// Serves previous values instead of a load that failed, or fails.
    async fn fail(&mut self, led: &[Led<'a, V>], failure: impl Fn(&Key<'_>) -> Failure<E>) {
        let engine = self.call.engine;
        let failed: Vec<_> = led
            .iter()
            .map(|(_, led)| FailedLoad {
                key: led.key,
                previous: &led.previous,
                leader: &led.leader,
            })
            .collect();
        let fallbacks = engine.on_load_failed(&failed, self.call.options).await;
        for ((index, led), fallback) in led.iter().zip(fallbacks) {
            self.keys[*index].result = Some(match fallback {
                Some(cached) => {
                    engine.count_stale_hit(&cached);
                    Ok(Some(cached.value))
                }
                None => Err(failure(&led.key)),
            });
        }
    }

    /// Waits for the loads of other callers. A key without a result afterwards is joined again.
    async fn wait(&mut self, waiters: Vec<(usize, Waiter)>) {
        let mut fallbacks = Vec::new();
        for (index, waiter) in waiters {
            let call = self.call(index);
            let previous = &self.keys[index].previous;
            let waited = call.wait_for_outcome(&waiter, previous.stale()).await;
            let action = match call.resolve::<V, E>(waited) {
                Resolution::Value(value) => {
                    self.keys[index].result = Some(Ok(Some(value)));
                    continue;
                }
                Resolution::Absent => {
                    self.keys[index].result = Some(Ok(None));
                    continue;
                }
                Resolution::Abandoned | Resolution::OtherType => continue,
                Resolution::LimitReached => call.stop_waiting(previous),
                Resolution::FallBackOr(action) => {
                    fallbacks.push((index, action));
                    continue;
                }
            };
            self.apply(index, action);
        }
        self.fall_back_or_apply(fallbacks).await;
    }

    /// Serves stale values instead of loads that failed; without one, the action is applied.
    async fn fall_back_or_apply(&mut self, fallbacks: Vec<(usize, WaiterAction<V, E>)>) {
        let engine = self.call.engine;
        let keys: Vec<Key<'_>> = fallbacks
            .iter()
            .map(|(index, _)| self.keys[*index].text)
            .collect();
        let stale = engine
            .stale_fallbacks::<V>(&keys, &[], self.call.options)
            .await;
        for ((index, action), stale) in fallbacks.into_iter().zip(stale) {
            match stale {
                Some(cached) => {
                    engine.count_stale_hit(&cached);
                    self.keys[index].result = Some(Ok(Some(cached.value)));
                }
                None => self.apply(index, action),
            }
        }
    }

    fn apply(&mut self, index: usize, action: WaiterAction<V, E>) {
        self.keys[index].result = match action {
            WaiterAction::Served(cached, _) => Some(Ok(Some(cached.value))),
            WaiterAction::Failed(failure) => Some(Err(failure)),
            // The errors of batches are shared: no caller loads for itself only.
            WaiterAction::LoadUnshared | WaiterAction::JoinAgain => None,
        };
    }

    /// Returns the results in the order of the call.
    fn into_results(mut self) -> Vec<Result<Option<V>, Failure<E>>> {
        let mut uses = vec![0_usize; self.keys.len()];
        for index in &self.order {
            uses[*index] += 1;
        }
        let mut results = Vec::with_capacity(self.order.len());
        for index in &self.order {
            uses[*index] -= 1;
            let result = &mut self.keys[*index].result;
            // The last use takes the value itself, so that nothing is copied without need.
            let result = match uses[*index] {
                0 => result.take(),
                _ => result.as_ref().and_then(|result| match result {
                    Ok(value) => Some(Ok(value.clone())),
                    Err(failure) => failure.same().map(Err),
                }),
            };
            results.push(match result {
                Some(Ok(value)) => Ok(value.map(V::from_stored)),
                Some(Err(failure)) => Err(failure),
                None => Ok(None),
            });
        }
        results
    }
}

/// Runs a loader. The iterator of its values is a part of the load, since it may call the cache.
async fn collected<K, V, L, E, F>(
    loader: &mut impl FnMut(Vec<K>) -> F,
    missing: Vec<K>,
) -> Result<Vec<(K, V)>, E>
where
    L: IntoIterator<Item = (K, V)>,
    F: Future<Output = Result<L, E>>,
{
    let values = loader(missing).await?;
    Ok(values.into_iter().collect())
}
