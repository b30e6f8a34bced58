//! `get_or_set_many`: one reading, one load for all that miss, and still one load a key.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::load::{Landing, Manner, Older, Patience};
use super::stale::{Found, Kept, Settled};
use super::{Engine, Failure, Making, Prepared, about};
use crate::config::ttl::Lifetime;
use crate::error::{Limit, reentrant, timed_out};
use crate::flight::deadlock::LoadScope;
use crate::flight::{Join, Leader, Outcome, Waiter};
use crate::key::Key;
use crate::stats::Count;
use crate::{CacheKey, Entry, Object, Operation, Options, Ttl, Value};

/// What becomes of a key: its value, none if the loader had none, or why there is none.
type Answer<V, E> = Result<Option<Arc<<V as Value>::Stored>>, Failure<E>>;

/// What goes to the store in one writing.
type Entries<'a> = Vec<(Key<'a>, Entry)>;

/// A key that was asked for, once however often it was.
struct Asked<'a, K, V: Value, E> {
    /// As the caller gave it, until a loader gets it.
    key: Option<K>,
    at: Key<'a>,
    /// How many loads and writes of it had epoch before the store was read.
    epoch: Option<u64>,
    /// Whether there is one past its TTL.
    stale: bool,
    found: Option<Answer<V, E>>,
}

impl Engine {
    /// Gets values or loads those that are missing, all at once.
    ///
    /// The loader is run again for those keys alone whose loads by others were given up.
    pub async fn load_many<K, V, E, L, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: &Options,
        manner: Manner,
        mut loader: impl FnMut(Vec<K>) -> F,
    ) -> Vec<Result<Option<V>, Failure<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        let patience = self.patience(options, manner);
        let keys: Vec<K> = keys.into_iter().collect();
        let texts: Vec<Box<str>> = keys.iter().map(|key| self.text(key)).collect();
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(keys.len());
        let mut order = Vec::with_capacity(keys.len());
        let mut asked: Vec<Asked<'_, K, V, E>> = Vec::with_capacity(keys.len());
        for (key, text) in keys.into_iter().zip(&texts) {
            order.push(*places.entry(text).or_insert_with(|| {
                let at = Key::new(text);
                asked.push(Asked {
                    key: Some(key),
                    at,
                    epoch: Some(self.flights().epoch(&at)),
                    stale: false,
                    found: None,
                });
                asked.len() - 1
            }));
        }
        let all: Vec<usize> = (0..asked.len()).collect();
        let stale = match options.force_refresh {
            true => Vec::new(),
            false => self.read_many(&mut asked, &all, options).await,
        };
        for place in &order {
            self.count_lookup(asked[*place].found.as_ref());
        }
        self.serve_throttled(&mut asked, stale).await;
        loop {
            let (led, waited) = self.board_many(&mut asked, options).await;
            if !led.is_empty() {
                self.lead_many(&mut asked, led, &places, options, patience, &mut loader)
                    .await;
            }
            let alone = self
                .land_many(&mut asked, waited, options, manner, patience)
                .await;
            if !alone.is_empty() {
                let missing = take_keys(&mut asked, &alone);
                let running = self.run(async { loader(missing).await });
                let loaded = self.driver.within(patience.hard, running).await;
                let failed = !matches!(loaded, Some(Ok(_)));
                self.settle(&mut asked, &alone, &places, loaded);
                if failed {
                    self.fall_back_many(&mut asked, &alone, options).await;
                }
            }
            if asked.iter().all(|asked| asked.found.is_some()) {
                return answers(asked, &order);
            }
        }
    }

    /// Reads these; failures are as good as misses. What is past its TTL.
    async fn read_many<K, V: Value, E>(
        &self,
        asked: &mut [Asked<'_, K, V, E>],
        places: &[usize],
        options: &Options,
    ) -> Vec<(usize, Kept<V>)> {
        let mut stale = Vec::new();
        let keys: Vec<Key<'_>> = places.iter().map(|place| asked[*place].at).collect();
        if keys.is_empty() {
            return stale;
        }
        match self.driver.get_many(&keys).await {
            Ok(entries) => {
                for (place, entry) in places.iter().zip(entries) {
                    let asked = &mut asked[*place];
                    match self.found::<V>(&asked.at, Ok(entry), options) {
                        Found::Live(kept) => {
                            self.used(&asked.at, &kept).await;
                            asked.found = Some(Ok(Some(kept.value)));
                        }
                        Found::Stale(value) => {
                            asked.stale = true;
                            stale.push((*place, value));
                        }
                        Found::Nothing => {}
                    }
                }
            }
            Err(error) => self.store_failed(&error.during(Operation::GetMany)),
        }
        stale
    }

    /// Answers with what is past its TTL, where a load failed recently; the others.
    async fn serve_throttled<K, V: Value, E>(
        &self,
        asked: &mut [Asked<'_, K, V, E>],
        stale: Vec<(usize, Kept<V>)>,
    ) -> Vec<(usize, Kept<V>)> {
        let keys: Vec<Key<'_>> = stale.iter().map(|(place, _)| asked[*place].at).collect();
        let throttled = self.are_throttled(&keys, &stale).await;
        let mut others = Vec::new();
        for ((place, stale), throttled) in stale.into_iter().zip(throttled) {
            if throttled {
                asked[place].found = Some(Ok(Some(self.serve(stale).value)));
            } else {
                others.push((place, stale));
            }
        }
        others
    }

    /// Answers with what is past its TTL or came meanwhile: the loads of these keys have failed.
    async fn fall_back_many<K, V: Value, E>(
        &self,
        asked: &mut [Asked<'_, K, V, E>],
        places: &[usize],
        options: &Options,
    ) {
        if places.is_empty() || self.stale_for(options).is_zero() {
            return;
        }
        let stale = self.read_many(asked, places, options).await;
        let others = self.serve_throttled(asked, stale).await;
        let keys: Vec<Key<'_>> = others.iter().map(|(place, _)| asked[*place].at).collect();
        self.throttle_many(&keys, &others, options).await;
        for (place, stale) in others {
            asked[place].found = Some(Ok(Some(self.serve(stale).value)));
        }
    }

    /// Joins the flight of each key that is still missing, or opens one.
    async fn board_many<K: CacheKey, V: Value, E>(
        &self,
        asked: &mut [Asked<'_, K, V, E>],
        options: &Options,
    ) -> (Vec<(usize, Leader)>, Vec<(usize, Waiter)>) {
        let (mut led, mut waited) = (Vec::new(), Vec::new());
        let mut scope = None;
        for (place, asked) in asked.iter_mut().enumerate() {
            if asked.found.is_some() {
                continue;
            }
            let scope = scope.get_or_insert_with(LoadScope::new);
            if options.force_refresh {
                asked.stale = true;
                led.push((place, self.take_over(&asked.at, options, scope).await));
                continue;
            }
            let (stamps, epoch) = (self.stamp(options), asked.epoch.take());
            let schedule = self.schedule(options);
            match self
                .flights()
                .join(&asked.at, epoch, stamps, schedule, || Arc::clone(scope))
            {
                Join::Cycle => {
                    asked.found = Some(Err(Failure::Reentrant(reentrant(asked.at.text()))));
                }
                Join::Wait(wait) => {
                    self.counters.add(Count::Wait);
                    waited.push((place, wait));
                }
                Join::Lead(lead) => {
                    if lead.must_reread() {
                        let found = self.find::<V>(&asked.at, options).await;
                        match self.settled(&asked.at, found, options).await {
                            Settled::Live(kept) | Settled::Due(kept) => {
                                lead.complete(|| Outcome::Value(kept.value.clone()));
                                asked.found = Some(Ok(Some(kept.value)));
                                continue;
                            }
                            // Whoever waits looks for what it takes.
                            Settled::Stale(kept) => {
                                lead.complete(|| Outcome::FailedAlone);
                                asked.found = Some(Ok(Some(kept.value)));
                                continue;
                            }
                            Settled::Missing(older) => {
                                asked.stale = !matches!(older, Older::Nothing);
                            }
                        }
                    }
                    led.push((place, lead));
                }
            }
        }
        (led, waited)
    }

    /// Runs the loader for the keys that this caller leads, stores what it made, and lands them.
    async fn lead_many<K, V, E, L, F>(
        &self,
        asked: &mut [Asked<'_, K, V, E>],
        led: Vec<(usize, Leader)>,
        places: &HashMap<&str, usize>,
        options: &Options,
        patience: Patience,
        loader: &mut impl FnMut(Vec<K>) -> F,
    ) where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        let Some((_, first)) = led.first() else {
            return;
        };
        let scope = Arc::clone(first.scope());
        let loading: Vec<usize> = led.iter().map(|(place, _)| *place).collect();
        let missing = take_keys(asked, &loading);
        let begun = self.clock.now();
        let running = scope.run(self.run(async { loader(missing).await }));
        let loaded = self.driver.within(patience.hard, running).await;
        let load_time = self.clock.now().since(begun);
        self.settle(asked, &loading, places, loaded);
        match led.first().map(|(place, _)| &asked[*place].found) {
            // Those who wait are told that it failed, and look for themselves.
            Some(Some(Err(Failure::Load(error)))) => {
                let error = Arc::clone(error);
                self.fall_back_many(asked, &loading, options).await;
                for (_, lead) in led {
                    lead.complete(|| {
                        Outcome::Failed(Arc::clone(&error) as Arc<dyn Any + Send + Sync>)
                    });
                }
            }
            // Whoever waits takes over.
            Some(Some(Err(_))) => {
                drop(led);
                self.fall_back_many(asked, &loading, options).await;
            }
            _ => {
                self.store_many(asked, &led, options, load_time).await;
                for (place, lead) in led {
                    match &asked[place].found {
                        Some(Ok(Some(value))) => {
                            lead.complete(|| Outcome::Value(Arc::clone(value) as Arc<dyn Object>));
                        }
                        // The loader had no value for it: whoever waits for one loads it.
                        _ => drop(lead),
                    }
                }
            }
        }
    }

    /// Stores what was loaded, unless a write came between: one writing for each TTL.
    async fn store_many<K, V: Value, E>(
        &self,
        asked: &[Asked<'_, K, V, E>],
        led: &[(usize, Leader)],
        options: &Options,
        load_time: Duration,
    ) {
        let Some((_, first)) = led.first() else {
            return;
        };
        let making = self.making(options, load_time, false);
        let mut gone = Vec::new();
        let mut kept: Vec<(Option<Duration>, Entries<'_>)> = Vec::new();
        // What jitter makes of a TTL holds for all that have it.
        let mut lifetimes: Vec<(Ttl, Lifetime)> = Vec::new();
        for (place, lead) in led {
            let asked = &asked[*place];
            let entry = match &asked.found {
                Some(Ok(Some(value))) => {
                    let object = Arc::clone(value) as Arc<dyn Object>;
                    let ttl = self.ttl_of(&*object, None, options);
                    self.prepare_one(object, ttl, options, lead, making, &mut lifetimes)
                }
                _ => Ok(None),
            };
            match entry {
                Ok(Some((entry, ttl))) if lead.begin_publishing() => {
                    match kept.iter_mut().find(|(other, _)| *other == ttl) {
                        Some((_, entries)) => entries.push((asked.at, entry)),
                        None => kept.push((ttl, vec![(asked.at, entry)])),
                    }
                }
                Ok(None) if asked.stale && lead.begin_publishing() => gone.push(asked.at),
                Ok(_) => {}
                Err(error) => self.store_failed(&about(error, Operation::SetMany, &asked.at)),
            }
        }
        let scope = first.scope();
        let mut stored = Ok(());
        for (ttl, entries) in kept {
            stored = stored.and(scope.run(self.driver.set_many(entries, ttl)).await);
        }
        if !gone.is_empty() {
            let removed = scope.run(self.driver.delete_many(&gone)).await;
            stored = stored.and(removed.map(drop));
        }
        if let Err(error) = stored {
            self.store_failed(&error.during(Operation::SetMany));
        }
    }

    fn prepare_one(
        &self,
        object: Arc<dyn Object>,
        ttl: Ttl,
        options: &Options,
        lead: &Leader,
        making: Making,
        lifetimes: &mut Vec<(Ttl, Lifetime)>,
    ) -> crate::Result<Option<Prepared>> {
        let known = lifetimes.iter().find(|(other, _)| *other == ttl);
        let lifetime = match known {
            Some((_, lifetime)) => *lifetime,
            None => {
                let lifetime = self.lifetime(ttl, options)?;
                lifetimes.push((ttl, lifetime));
                lifetime
            }
        };
        let Lifetime::Live(ttl) = lifetime else {
            return Ok(None);
        };
        self.can_tag(&options.tags)?;
        let entry = self.entry(object, lead.stamps(), ttl, making)?;
        Ok(Some((entry, self.physical(ttl, making))))
    }

    /// Waits for the loads of others; the keys whose outcome is of no use to this caller.
    async fn land_many<K, V: Value, E: Send + Sync + 'static>(
        &self,
        asked: &mut [Asked<'_, K, V, E>],
        waited: Vec<(usize, Waiter)>,
        options: &Options,
        manner: Manner,
        patience: Patience,
    ) -> Vec<usize> {
        let mut alone = Vec::new();
        let mut failed = Vec::new();
        for (place, wait) in waited {
            let outcome = match self.landing::<V>(&wait, patience, None, options).await {
                Landing::Over(outcome) => outcome,
                Landing::GivenUp => {
                    self.waits_no_longer(&asked[place].at);
                    failed.push(place);
                    let error = timed_out(asked[place].at.text(), Limit::Caller);
                    asked[place].found = Some(Err(Failure::TimedOut(error)));
                    continue;
                }
            };
            match outcome {
                Some(Outcome::Value(object)) => {
                    if let Ok(value) = self.object_as::<V>(&object) {
                        asked[place].found = Some(Ok(Some(value)));
                    }
                }
                Some(Outcome::Failed(error)) => {
                    failed.push(place);
                    match error.downcast::<E>() {
                        Ok(error) => asked[place].found = Some(Err(Failure::Load(error))),
                        Err(_) => alone.push(place),
                    }
                }
                Some(Outcome::FailedAlone) => {
                    failed.push(place);
                    alone.push(place);
                }
                Some(Outcome::TimedOut) => {
                    failed.push(place);
                    if manner.times_out {
                        let error = timed_out(asked[place].at.text(), Limit::Load);
                        asked[place].found = Some(Err(Failure::TimedOut(error)));
                    }
                }
                None => {}
            }
        }
        self.fall_back_many(asked, &failed, options).await;
        alone.retain(|place| asked[*place].found.is_none());
        alone
    }

    /// Notes what a loader made of the keys that it was given.
    fn settle<K: CacheKey, V: Value, E>(
        &self,
        asked: &mut [Asked<'_, K, V, E>],
        given: &[usize],
        places: &HashMap<&str, usize>,
        loaded: Option<Result<impl IntoIterator<Item = (K, V)>, E>>,
    ) {
        match loaded {
            Some(Ok(values)) => {
                for place in given {
                    asked[*place].found = Some(Ok(None));
                }
                for (key, value) in values {
                    // What it was not asked for is none of ours.
                    if let Some(place) = places.get(&*self.text(&key))
                        && given.binary_search(place).is_ok()
                    {
                        asked[*place].found = Some(Ok(Some(value.into_stored())));
                    }
                }
            }
            Some(Err(error)) => {
                let error = Arc::new(error);
                for place in given {
                    asked[*place].found = Some(Err(Failure::Load(Arc::clone(&error))));
                }
            }
            None => {
                if let Some(first) = given.first() {
                    self.waits_no_longer(&asked[*first].at);
                }
                for place in given {
                    let error = timed_out(asked[*place].at.text(), Limit::Caller);
                    asked[*place].found = Some(Err(Failure::TimedOut(error)));
                }
            }
        }
    }
}

/// The keys of these places, for a loader.
fn take_keys<K, V: Value, E>(asked: &mut [Asked<'_, K, V, E>], places: &[usize]) -> Vec<K> {
    let keys = places.iter().map(|place| asked[*place].key.take());
    keys.flatten().collect()
}

/// What was found, in the order asked.
fn answers<K, V: Value, E>(
    mut asked: Vec<Asked<'_, K, V, E>>,
    order: &[usize],
) -> Vec<Result<Option<V>, Failure<E>>> {
    let mut left = vec![0_usize; asked.len()];
    for place in order {
        left[*place] += 1;
    }
    let mut answers = Vec::with_capacity(order.len());
    for place in order {
        left[*place] -= 1;
        let Asked { at, found, .. } = &mut asked[*place];
        // The last one gets the value itself, so that nothing is copied where nothing is shared.
        let found = match left[*place] {
            0 => found.take(),
            _ => found.as_ref().map(|found| match found {
                Ok(value) => Ok(value.clone()),
                Err(Failure::Load(error)) => Err(Failure::Load(Arc::clone(error))),
                Err(Failure::TimedOut(error)) => Err(Failure::TimedOut(error.same())),
                Err(_) => Err(Failure::Reentrant(reentrant(at.text()))),
            }),
        };
        answers.push(match found {
            Some(Ok(value)) => Ok(value.map(V::from_stored)),
            Some(Err(failure)) => Err(failure),
            None => Ok(None),
        });
    }
    answers
}
