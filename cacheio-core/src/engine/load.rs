//! One load a key: in its caller, or behind it.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tracing::Instrument as _;

use super::stale::{Kept, Settled};
use super::{Engine, Failure, Making, Missed, Prepared, about, boxed};
use crate::config::policies::Policies;
use crate::entry::expiry::Freshness;
use crate::entry::tags::Stamps;
use crate::error::{Limit, reentrant, timed_out};
use crate::fetched::Said;
use crate::flight::deadlock::LoadScope;
use crate::flight::{Join, Leader, Outcome, Schedule, Waiter};
use crate::key::{Key, KeyBuffer};
use crate::stats::Count;
use crate::{
    BoxFuture, CacheKey, Fetched, LoadContext, Object, Operation, Options, Result, Source, Ttl,
    Value,
};

/// What a loader made.
#[derive(Debug)]
pub struct Loaded<V> {
    /// The value.
    pub value: V,
    /// Another TTL than the call's; zero does not store it.
    pub ttl: Option<Ttl>,
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self { value, ttl: None }
    }
}

/// What becomes of a loader's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All who waited get it.
    Shared,
    /// It is its caller's own; those who waited run their loaders.
    Alone,
}

/// How a call answers.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// With whose error.
    pub sharing: Sharing,
    /// Whether it can say that it took too long; if not, it waits.
    pub times_out: bool,
    /// Whether it says how old its value is.
    pub dated: bool,
}

impl Manner {
    /// Of a call that can fail.
    pub const FALLIBLE: Self = Self {
        sharing: Sharing::Shared,
        times_out: true,
        dated: false,
    };
    /// Of one that cannot.
    pub const INFALLIBLE: Self = Self {
        times_out: false,
        ..Self::FALLIBLE
    };
    /// Of one that says how old its value is.
    pub const DATED: Self = Self {
        dated: true,
        ..Self::FALLIBLE
    };

    /// What a loader's error is to its own caller, and to those who wait.
    fn failure<E: Send + Sync + 'static>(self, error: E) -> (Failure<E>, Outcome) {
        match self.sharing {
            Sharing::Alone => (Failure::Own(error), Outcome::FailedAlone),
            Sharing::Shared => {
                let error = Arc::new(error);
                (Failure::Load(Arc::clone(&error)), Outcome::Failed(error))
            }
        }
    }
}

/// What a load is to replace.
pub(super) enum Older<V: Value> {
    Nothing,
    /// Something past its TTL.
    Stale(Kept<V>),
    /// Something live, ahead of its end.
    Live(Kept<V>),
    /// Whatever there is: it was asked for.
    Anything,
}

impl<V: Value> Older<V> {
    fn kept(&self) -> Option<&Kept<V>> {
        match self {
            Self::Stale(kept) | Self::Live(kept) => Some(kept),
            Self::Nothing | Self::Anything => None,
        }
    }

    fn stale(&self) -> Option<&Kept<V>> {
        match self {
            Self::Stale(kept) => Some(kept),
            _ => None,
        }
    }
}

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the beginning of a load, when there is something stale to serve.
    soft: Option<Duration>,
    /// In any case.
    pub(super) hard: Option<Instant>,
    /// Whether it looks after loads that are overdue. Unless it is said, the next caller does: a
    /// task needs no timer then.
    minds_overdue: bool,
}

/// How the waiting for a load ended.
pub(super) enum Landing {
    /// With the load; it may have been abandoned.
    Over(Option<Outcome>),
    /// Before it.
    GivenUp,
}

/// What becomes of a caller that has waited.
enum Verdict<V: Value, E> {
    Served(Arc<V::Stored>, Source, Option<Duration>),
    Failed(Failure<E>),
    /// It runs its loader for itself.
    Alone,
    /// It joins again.
    Again,
}

/// What a caller comes to before its loader runs.
enum Boarded<V: Value, E> {
    Served(Fetched<V>),
    Failed(Failure<E>),
    /// It runs its loader for itself.
    Alone(Older<V>),
    /// It runs its loader for all.
    Leads(Leader, Older<V>),
}

/// A load that may go on when its caller has left.
struct Loading<V: Value> {
    lead: Leader,
    options: Options,
    manner: Manner,
    older: Older<V>,
}

/// What such a load leaves for its own caller.
enum Left<V: Value, E> {
    Made(Arc<V::Stored>),
    Failed(Failure<E>),
    Panicked(Box<dyn Any + Send>),
}

/// Where it leaves it.
struct Place<V: Value, E>(Mutex<Option<Left<V, E>>>);

impl<V: Value, E> Place<V, E> {
    fn leave(&self, left: Left<V, E>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
    }

    fn take(&self) -> Option<Left<V, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Engine {
    /// Gets a value or loads it: the heart of `get_or_set`, after [`get_fast`](Self::get_fast).
    ///
    /// The loader runs in the caller: it may borrow, and nothing of it is left when the caller is
    /// dropped.
    ///
    /// # Errors
    ///
    /// When the loader fails, takes too long, or would wait for itself. The store's failures are
    /// none.
    pub async fn load<V, E, F>(
        &self,
        missed: Missed,
        options: &Options,
        manner: Manner,
        loader: impl FnOnce() -> F,
    ) -> Result<V, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let key = Key::new(&missed.0);
        let patience = self.patience(options, manner);
        let boarded = boxed(|| self.board(&key, options, manner, patience, false));
        match boarded.await {
            Boarded::Served(fetched) => Ok(fetched.value),
            Boarded::Failed(failure) => Err(failure),
            Boarded::Alone(_) => {
                let loaded = boxed(|| self.alone(&key, options, patience, loader()));
                loaded.await.map(|(kept, _)| V::from_stored(kept.value))
            }
            // Where it is to replace something live, others go on reading: this caller waits, since
            // its loader may borrow.
            Boarded::Leads(lead, older) => {
                let loaded =
                    boxed(|| self.lead(lead, &key, options, older, manner, patience, loader));
                loaded.await.map(V::from_stored)
            }
        }
    }

    /// What a caller comes to before its loader runs, if it is to run.
    ///
    /// `apart` says whether the load may go on when the one around this caller has ended.
    async fn board<V: Value, E: Send + Sync + 'static>(
        &self,
        key: &Key<'_>,
        options: &Options,
        manner: Manner,
        patience: Patience,
        apart: bool,
    ) -> Boarded<V, E> {
        let scope = || match apart {
            true => LoadScope::detached(),
            false => LoadScope::new(),
        };
        if options.force_refresh {
            let lead = self.take_over(key, options, &scope()).await;
            return Boarded::Leads(lead, Older::Anything);
        }
        let mut epoch = Some(self.flights().epoch(key));
        // Before the reading: a loader may give back what that finds.
        let mut stamps = Some(self.stamp(options));
        let found = self.find::<V>(key, options).await;
        self.count_lookup(found.as_live());
        let mut older = match self.settled(key, found, options).await {
            Settled::Live(kept) => return Boarded::Served(self.fetched(kept, Source::Hit)),
            Settled::Stale(kept) => return Boarded::Served(self.fetched(kept, Source::Stale)),
            Settled::Due(kept) => {
                let stamps = stamps.take().unwrap_or_default();
                let begun = self.begin_refresh(key, options, epoch, stamps, &kept, scope);
                return match begun.await {
                    Some(lead) => Boarded::Leads(lead, Older::Live(kept)),
                    None => Boarded::Served(self.fetched(kept, Source::Hit)),
                };
            }
            Settled::Missing(older) => older,
        };
        loop {
            let stamps = stamps.take().unwrap_or_else(|| self.stamp(options));
            let schedule = self.schedule(options);
            let joined = self
                .flights()
                .join(key, epoch.take(), stamps, schedule, scope);
            let wait = match joined {
                Join::Cycle => return Boarded::Failed(Failure::Reentrant(reentrant(key.text()))),
                Join::Lead(lead) => {
                    return match self.reread(lead, key, options, &mut older).await {
                        Ok(lead) => Boarded::Leads(lead, older),
                        Err((kept, source)) => Boarded::Served(self.fetched(kept, source)),
                    };
                }
                Join::Wait(wait) => wait,
            };
            self.counters.add(Count::Wait);
            let landing = self.landing(&wait, patience, older.stale(), options).await;
            let verdict = self.judge_landing(key, options, manner, landing, &older);
            match verdict.await {
                Verdict::Served(value, source, age) => {
                    let fetched = Fetched::new(V::from_stored(value), source, age);
                    return Boarded::Served(fetched);
                }
                Verdict::Failed(failure) => return Boarded::Failed(failure),
                Verdict::Alone => return Boarded::Alone(older),
                Verdict::Again => {}
            }
        }
    }

    /// The value under a key that `get_or_set` answers with at once; none says nothing.
    #[inline]
    pub fn get_or_load_plain<V: Value>(
        &self,
        key: &impl CacheKey,
        options: &Options,
    ) -> Option<Arc<V::Stored>> {
        if options.force_refresh {
            return None;
        }
        let plain = self.get_fast::<V>(key);
        plain.or_else(|| Some(self.look_plain::<V>(key, options)?.value))
    }

    /// What `fetch` answers with at once; none says nothing.
    #[inline]
    pub fn fetch_plain<V: Value>(
        &self,
        key: &impl CacheKey,
        options: &Options,
    ) -> Option<Fetched<V>> {
        if options.force_refresh {
            return None;
        }
        let kept = self.look_plain::<V>(key, options)?;
        Some(self.fetched(kept, Source::Hit))
    }

    /// What is live in memory, and need not be loaded anew.
    fn look_plain<V: Value>(&self, key: &impl CacheKey, options: &Options) -> Option<Kept<V>> {
        let store = self.driver.immediate()?;
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, key);
        let entry = store.get(&key).ok()??;
        let kept = self.look::<V>(Some(entry), Duration::ZERO).ok()?.live()?;
        if self.is_due(&kept, options) {
            return None;
        }
        self.used_here(&kept);
        self.counters.add(Count::Hit);
        Some(kept)
    }

    /// Gets a value or loads it behind its callers: the heart of `fetch`, after
    /// [`fetch_plain`](Self::fetch_plain).
    ///
    /// A call that cannot say that it took too long is behind its load only where it may leave with
    /// something stale: else it runs it, and waits for it.
    ///
    /// `prepare` makes the loader, where one is to run.
    ///
    /// # Errors
    ///
    /// When the loader fails, takes too long, or would wait for itself. The store's failures are
    /// none.
    pub async fn fetch<V, E, L, F>(
        self: &Arc<Self>,
        missed: Missed,
        options: Options,
        manner: Manner,
        prepare: impl FnOnce() -> L,
    ) -> Result<Fetched<V>, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        L: FnOnce(LoadContext<V>) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let key = Key::new(&missed.0);
        let patience = self.patience(&options, manner);
        let boarded = boxed(|| self.board(&key, &options, manner, patience, true));
        let (lead, older) = match boarded.await {
            Boarded::Served(fetched) => return Ok(fetched),
            Boarded::Failed(failure) => return Err(failure),
            Boarded::Alone(older) => {
                let (context, loader) = (context(&older, &Said::default()), prepare());
                let loading = async { loader(context).await.map(Loaded::from) };
                let loaded = boxed(|| self.alone(&key, &options, patience, loading));
                let (kept, source) = loaded.await?;
                return Ok(self.fetched(kept, source));
            }
            Boarded::Leads(lead, older) => (lead, older),
        };
        let live = match &older {
            Older::Live(kept) => Some(kept.clone()),
            _ => None,
        };
        let loading = Loading {
            lead,
            options,
            manner,
            older,
        };
        match live {
            Some(kept) => {
                self.launch(&key, loading, true, prepare()).await;
                Ok(self.fetched(kept, Source::Hit))
            }
            None => boxed(|| self.led(&key, loading, patience, prepare())).await,
        }
    }

    /// Has a load run and waits for it.
    async fn led<V, E, F>(
        self: &Arc<Self>,
        key: &Key<'_>,
        loading: Loading<V>,
        patience: Patience,
        loader: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let wait = loading.lead.subscribe();
        let (options, manner) = (loading.options.clone(), loading.manner);
        let stale = match &loading.older {
            Older::Stale(kept) => Older::Stale(kept.clone()),
            Older::Anything => Older::Anything,
            _ => Older::Nothing,
        };
        let may_be_stale = patience.soft.is_some() && stale.stale().is_some();
        let may_time_out =
            self.driver.is_async() || patience.hard.is_some() || loading.lead.overdue().is_some();
        let behind = may_be_stale || (manner.times_out && may_time_out);
        let place = self.launch(key, loading, behind, loader).await;
        let landing = self.landing(&wait, patience, stale.stale(), &options).await;
        drop(wait);
        let left = match (place.take(), &landing) {
            (Some(Left::Made(value)), _) => {
                return Ok(self.fetched(Kept::new(value), Source::Loaded));
            }
            (Some(Left::Panicked(panic)), Landing::Over(None)) => resume_unwind(panic),
            (_, Landing::Over(None)) => {
                let fallen = match stale {
                    Older::Anything => None,
                    _ => self.fall_back::<V>(key, &options).await,
                };
                return match fallen {
                    Some(kept) => Ok(self.fetched(self.serve(kept), Source::Stale)),
                    None => Err(Failure::TimedOut(timed_out(key.text(), Limit::Runtime))),
                };
            }
            (left, _) => left,
        };
        match self
            .judge_landing(key, &options, manner, landing, &stale)
            .await
        {
            Verdict::Served(value, source, age) => {
                Ok(Fetched::new(V::from_stored(value), source, age))
            }
            Verdict::Failed(failure) => Err(failure),
            Verdict::Alone | Verdict::Again => match left {
                Some(Left::Failed(failure)) => Err(failure),
                // It was given up by others, before this call itself would have left.
                _ => match self.stop_waiting(key, &options, &stale) {
                    Ok(kept) => Ok(self.fetched(kept, Source::Stale)),
                    Err(error) => Err(Failure::TimedOut(error)),
                },
            },
        }
    }

    /// Starts a load, behind its callers if it can be and is to be. Where it leaves what it comes
    /// to.
    async fn launch<V, E, F>(
        self: &Arc<Self>,
        key: &Key<'_>,
        loading: Loading<V>,
        behind: bool,
        loader: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Arc<Place<V, E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        // Whoever runs it waits for it.
        let watch = loading.lead.subscribe();
        let (engine, text) = (Arc::clone(self), Box::from(key.text()));
        let place = Arc::new(Place(Mutex::new(None)));
        let left = Arc::clone(&place);
        let load = async move {
            // It may have waited for a thread until nobody wanted it any more.
            if !behind || loading.lead.is_wanted() {
                engine.fly(text, loading, &left, loader).await;
            }
        };
        let load: BoxFuture<'static, ()> = Box::pin(load.in_current_span());
        let refused = match behind {
            true => self.driver.spawn(load).err(),
            false => Some(load),
        };
        if let Some(load) = refused {
            let _waits = watch;
            load.await;
        }
        place
    }

    /// A load on its own: what comes of it, those hear who wait for its flight.
    async fn fly<V, E, F>(
        self: Arc<Self>,
        text: Box<str>,
        loading: Loading<V>,
        place: &Place<V, E>,
        loader: impl FnOnce(LoadContext<V>) -> F,
    ) where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        let Loading {
            lead,
            options,
            manner,
            older,
        } = loading;
        let key = Key::new(&text);
        // Who cannot say that it took too long waits until it is over, while others load anew.
        let overdue = lead.overdue().filter(|_| manner.times_out);
        let flight = async {
            let said = Said::default();
            let context = context(&older, &said);
            // On the heap: each future around it would hold it twice.
            let loading = Box::pin(async {
                let value = loader(context).await?;
                let mut ttl = said.ttl();
                // What was invalidated meanwhile is not brought back.
                let is_older = said.is_unmodified();
                if is_older
                    && older
                        .kept()
                        .is_some_and(|kept| !kept.is_retained(self.clock.now()))
                {
                    ttl = Some(Ttl::After(Duration::ZERO));
                }
                Ok::<_, E>(Loaded { value, ttl })
            });
            let begun = self.clock.now();
            let running = lead.scope().run(self.run(loading));
            match self.driver.within(overdue, running).await {
                Some(Ok(loaded)) => {
                    let load_time = self.clock.now().since(begun);
                    let making = self.making(&options, load_time, manner.dated);
                    let stored = self
                        .store(&lead, &key, &options, making, &older, loaded)
                        .await;
                    place.leave(Left::Made(Arc::clone(&stored)));
                    Outcome::Value(stored)
                }
                Some(Err(error)) => {
                    self.failed(&key, &options, &older).await;
                    let (failure, outcome) = manner.failure(error);
                    place.leave(Left::Failed(failure));
                    outcome
                }
                None => {
                    self.failed(&key, &options, &older).await;
                    if lead.time_out(|| self.counters.add(Count::LoadTimeout)) {
                        self.load_timed_out(&key);
                    }
                    Outcome::TimedOut
                }
            }
        };
        match caught(flight).await {
            Ok(outcome) => lead.complete(|| outcome),
            Err(panic) => {
                tracing::error!(
                    target: "cacheio",
                    namespace = self.namespace(),
                    key = key.text(),
                    "a load panicked behind its callers",
                );
                place.leave(Left::Panicked(panic));
                self.failed(&key, &options, &older).await;
                drop(lead);
            }
        }
    }

    /// Runs the loader in its caller, and stores what it makes. When it fails, what is older is
    /// served.
    #[allow(clippy::too_many_arguments)]
    async fn lead<V, E, F>(
        &self,
        lead: Leader,
        key: &Key<'_>,
        options: &Options,
        older: Older<V>,
        manner: Manner,
        patience: Patience,
        loader: impl FnOnce() -> F,
    ) -> Result<Arc<V::Stored>, Failure<E>>
    where
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let begun = self.clock.now();
        // On the heap, as above.
        let loading = Box::pin(async { loader().await });
        let running = lead.scope().run(self.run(loading));
        let error = match self.driver.within(patience.hard, running).await {
            Some(Ok(loaded)) => {
                let load_time = self.clock.now().since(begun);
                let making = self.making(options, load_time, manner.dated);
                let stored = self
                    .store(&lead, key, options, making, &older, loaded)
                    .await;
                lead.complete(|| Outcome::Value(Arc::clone(&stored) as Arc<dyn Object>));
                return Ok(stored);
            }
            Some(Err(error)) => error,
            None => {
                self.waits_no_longer(key);
                let fallen = self.failed(key, options, &older).await;
                // Whoever waits takes over.
                drop(lead);
                return match fallen {
                    Some(kept) => Ok(self.serve(kept).value),
                    None => Err(Failure::TimedOut(timed_out(key.text(), Limit::Caller))),
                };
            }
        };
        let fallen = self.failed(key, options, &older).await;
        let (failure, outcome) = manner.failure(error);
        lead.complete(|| outcome);
        match fallen {
            Some(kept) => Ok(self.serve(kept).value),
            None => Err(failure),
        }
    }

    /// Runs the loader of a caller whom the outcome of another's load does not help.
    async fn alone<V: Value, E>(
        &self,
        key: &Key<'_>,
        options: &Options,
        patience: Patience,
        loading: impl Future<Output = Result<Loaded<V>, E>>,
    ) -> Result<(Kept<V>, Source), Failure<E>> {
        let running = self.run(Box::pin(loading));
        let error = match self.driver.within(patience.hard, running).await {
            Some(Ok(loaded)) => {
                return Ok((Kept::new(loaded.value.into_stored()), Source::Loaded));
            }
            Some(Err(error)) => Failure::Own(error),
            None => {
                self.waits_no_longer(key);
                Failure::TimedOut(timed_out(key.text(), Limit::Caller))
            }
        };
        let kept = self.fall_back::<V>(key, options).await;
        kept.map(|kept| (self.serve(kept), Source::Stale))
            .ok_or(error)
    }

    /// Runs a loader, counted and in a expiry.
    pub(super) async fn run<T, E>(
        &self,
        loading: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.counters.add(Count::Load);
        let _timer = self.counters.time_load();
        let expiry = tracing::debug_span!(target: "cacheio", "load");
        let loaded = loading.instrument(expiry).await;
        if loaded.is_err() {
            self.counters.add(Count::LoadError);
        }
        loaded
    }

    /// Stores what a load made, unless a write came between; counts it if the store fails.
    async fn store<V: Value>(
        &self,
        lead: &Leader,
        key: &Key<'_>,
        options: &Options,
        making: Making,
        older: &Older<V>,
        loaded: Loaded<V>,
    ) -> Arc<V::Stored> {
        let stored = loaded.value.into_stored();
        let object = Arc::clone(&stored) as Arc<dyn Object>;
        let ttl = self.ttl_of(&*object, loaded.ttl, options);
        // Encoding is done before anyone is kept waiting by the publishing.
        let published = match self.prepare(object, ttl, options, lead.stamps(), making) {
            Ok(prepared) => {
                let replaces = !matches!(older, Older::Nothing);
                self.publish(lead, key, prepared, replaces).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            self.store_failed(&about(error, Operation::Set, key));
        }
        stored
    }

    /// Stores what was loaded, unless a write came between. `replaces` says whether what is in the
    /// store has to go, also when nothing is to be stored.
    async fn publish(
        &self,
        lead: &Leader,
        key: &Key<'_>,
        prepared: Option<Prepared>,
        replaces: bool,
    ) -> Result<()> {
        let is_needed = prepared.is_some() || replaces;
        if !is_needed || !lead.begin_publishing() {
            return Ok(());
        }
        let publish = async {
            match prepared {
                Some((entry, ttl)) => self.driver.set(key, entry, ttl).await,
                None => self.driver.delete(key).await.map(drop),
            }
        };
        lead.scope().run(publish).await
    }

    /// What is to be served in the place of a load that failed; no other is tried for a while.
    async fn failed<V: Value>(
        &self,
        key: &Key<'_>,
        options: &Options,
        older: &Older<V>,
    ) -> Option<Kept<V>> {
        match older {
            Older::Live(kept) => {
                self.refresh_failed(key, options, kept).await;
                self.is_served(kept, options).then(|| kept.clone())
            }
            Older::Stale(_) | Older::Nothing => self.fall_back(key, options).await,
            // Whoever asks for a new value is told that there is none.
            Older::Anything => None,
        }
    }

    /// What a caller gets that waits no longer.
    fn stop_waiting<V: Value>(
        &self,
        key: &Key<'_>,
        options: &Options,
        older: &Older<V>,
    ) -> Result<Kept<V>> {
        self.waits_no_longer(key);
        match older.kept() {
            Some(kept) if self.is_served(kept, options) => Ok(self.serve(kept.clone())),
            _ => Err(timed_out(key.text(), Limit::Caller)),
        }
    }

    /// Whether what was read some time ago may still be served.
    fn is_served<V: Value>(&self, kept: &Kept<V>, options: &Options) -> bool {
        let freshness = kept.expiry.map(|expiry| {
            let stale_for = self.stale_for(options);
            expiry.freshness(self.clock.now(), stale_for)
        });
        freshness != Some(Freshness::Expired)
    }

    /// Waits for a load; `stale` is there to be served in its place.
    pub(super) async fn landing<V: Value>(
        &self,
        wait: &Waiter,
        patience: Patience,
        stale: Option<&Kept<V>>,
        options: &Options,
    ) -> Landing {
        let schedule = wait.schedule();
        let mut overdue = schedule.overdue.filter(|_| patience.minds_overdue);
        let soft = patience.soft.filter(|_| stale.is_some());
        let mut soft = soft.and_then(|soft| deadline(schedule.begins, soft));
        loop {
            let Some(listener) = wait.listener() else {
                return Landing::Over(wait.outcome());
            };
            let until = earlier(earlier(soft, patience.hard), overdue);
            if self.driver.wait(listener, until).await {
                return Landing::Over(wait.outcome());
            }
            let now = self.driver.now();
            if patience.hard.is_some_and(|at| at <= now) {
                return Landing::GivenUp;
            }
            if soft.is_some_and(|at| at <= now) {
                if stale.is_some_and(|kept| self.is_served(kept, options)) {
                    return Landing::GivenUp;
                }
                soft = None;
            }
            if overdue.is_some_and(|at| at <= now) {
                // If not, it is just being stored.
                overdue = None;
                let count = || self.counters.add(Count::LoadTimeout);
                if self.flights().time_out(wait, count) {
                    self.load_timed_out(&wait.key());
                }
            }
        }
    }

    async fn judge_landing<V: Value, E: Send + Sync + 'static>(
        &self,
        key: &Key<'_>,
        options: &Options,
        manner: Manner,
        landing: Landing,
        older: &Older<V>,
    ) -> Verdict<V, E> {
        let outcome = match landing {
            Landing::Over(Some(outcome)) => outcome,
            Landing::Over(None) => return Verdict::Again,
            Landing::GivenUp => {
                return match self.stop_waiting(key, options, older) {
                    Ok(kept) => self.verdict(kept, Source::Stale),
                    Err(error) => Verdict::Failed(Failure::TimedOut(error)),
                };
            }
        };
        if let Outcome::Value(object) = &outcome {
            // Of a type that cannot be read as this one: load it again.
            return match self.object_as::<V>(object) {
                Ok(value) => Verdict::Served(value, Source::Waited, Some(Duration::ZERO)),
                Err(_) => Verdict::Again,
            };
        }
        if !matches!(older, Older::Anything)
            && let Some(kept) = self.fall_back::<V>(key, options).await
        {
            let kept = self.serve(kept);
            return self.verdict(kept, Source::Stale);
        }
        match outcome {
            Outcome::Failed(error) if manner.sharing == Sharing::Shared => {
                match error.downcast::<E>() {
                    Ok(error) => Verdict::Failed(Failure::Load(error)),
                    // One of those with such errors loads for all of them.
                    Err(_) => Verdict::Again,
                }
            }
            Outcome::FailedAlone if manner.sharing == Sharing::Shared => Verdict::Again,
            Outcome::TimedOut if manner.times_out => {
                Verdict::Failed(Failure::TimedOut(timed_out(key.text(), Limit::Load)))
            }
            Outcome::TimedOut => Verdict::Again,
            _ => Verdict::Alone,
        }
    }

    fn verdict<V: Value, E>(&self, kept: Kept<V>, source: Source) -> Verdict<V, E> {
        let (source, age) = self.origin(&kept, source);
        Verdict::Served(kept.value, source, age)
    }

    fn fetched<V: Value>(&self, kept: Kept<V>, source: Source) -> Fetched<V> {
        let (source, age) = self.origin(&kept, source);
        Fetched::new(V::from_stored(kept.value), source, age)
    }

    /// Where a value came from, and how long ago it was made.
    fn origin<V: Value>(&self, kept: &Kept<V>, source: Source) -> (Source, Option<Duration>) {
        if source == Source::Loaded {
            return (source, Some(Duration::ZERO));
        }
        let now = self.clock.now();
        let is_live = kept.expiry.is_none_or(|expiry| now < expiry.expires_at);
        let source = match source {
            // Somebody has stored it since.
            Source::Stale if is_live => Source::Hit,
            source => source,
        };
        (
            source,
            kept.expiry.map(|expiry| now.since(expiry.created_at)),
        )
    }

    /// Reads again before loading, if another flight may have completed between the reading that
    /// missed and this one's beginning.
    async fn reread<V: Value>(
        &self,
        lead: Leader,
        key: &Key<'_>,
        options: &Options,
        older: &mut Older<V>,
    ) -> Result<Leader, (Kept<V>, Source)> {
        if lead.supersedes() {
            self.counters.add(Count::LoadTimeout);
            self.load_timed_out(key);
            if let Some(kept) = self.fall_back(key, options).await {
                lead.complete(|| Outcome::FailedAlone);
                return Err((self.serve(kept), Source::Stale));
            }
        }
        if !lead.must_reread() {
            return Ok(lead);
        }
        let found = self.find::<V>(key, options).await;
        match self.settled(key, found, options).await {
            Settled::Live(kept) | Settled::Due(kept) => {
                lead.complete(|| Outcome::Value(Arc::clone(&kept.value) as Arc<dyn Object>));
                Err((kept, Source::Hit))
            }
            // Whoever waits looks for what it takes.
            Settled::Stale(kept) => {
                lead.complete(|| Outcome::FailedAlone);
                Err((kept, Source::Stale))
            }
            Settled::Missing(found) => {
                *older = found;
                Ok(lead)
            }
        }
    }

    /// Leads the load of what is live, unless another does, or one failed recently.
    async fn begin_refresh<V: Value>(
        &self,
        key: &Key<'_>,
        options: &Options,
        epoch: Option<u64>,
        stamps: Stamps,
        kept: &Kept<V>,
        scope: impl FnOnce() -> Arc<LoadScope>,
    ) -> Option<Leader> {
        let schedule = self.schedule(options);
        let Join::Lead(lead) = self.flights().join(key, epoch, stamps, schedule, scope) else {
            return None;
        };
        if lead.supersedes() {
            self.counters.add(Count::LoadTimeout);
            self.load_timed_out(key);
            self.refresh_failed(key, options, kept).await;
            return None;
        }
        // It may just have been loaded.
        if lead.must_reread() || self.is_throttled(key, kept).await {
            return None;
        }
        self.counters.add(Count::Refresh);
        Some(lead)
    }

    /// Leads a key's flight, whatever other is under way.
    pub(super) async fn take_over(
        &self,
        key: &Key<'_>,
        options: &Options,
        scope: &Arc<LoadScope>,
    ) -> Leader {
        loop {
            let schedule = self.schedule(options);
            match self
                .flights()
                .lead(key, self.stamp(options), schedule, scope)
            {
                Ok(lead) => return lead,
                Err(publishing) => self.wait(publishing).await,
            }
        }
    }

    /// What a policy says, for a call.
    pub(super) fn policy<T>(
        &self,
        options: &Options,
        policy: impl Fn(&Policies) -> Option<T>,
    ) -> Option<T> {
        policy(&options.policies).or_else(|| policy(&self.settings.policies))
    }

    pub(super) fn patience(&self, options: &Options, manner: Manner) -> Patience {
        let hard = match manner.times_out {
            true => self.policy(options, |policies| policies.hard_timeout),
            false => None,
        };
        Patience {
            soft: self.policy(options, |policies| policies.soft_timeout),
            hard: hard.and_then(|hard| deadline(self.driver.now(), hard)),
            minds_overdue: !self.driver.is_async()
                || hard.is_some()
                || self.policy(options, |policies| policies.max_load).is_some(),
        }
    }

    pub(super) fn schedule(&self, options: &Options) -> Schedule {
        let max_load = self.policy(options, |policies| policies.max_load);
        let max_load = max_load.filter(|max_load| !max_load.is_zero());
        let max_load = max_load.or_else(|| self.driver.max_load());
        let now = self.driver.now();
        Schedule {
            begins: now,
            overdue: max_load.and_then(|max_load| deadline(now, max_load)),
        }
    }

    /// Counts a caller that stops waiting for a load.
    pub(super) fn waits_no_longer(&self, key: &Key<'_>) {
        self.counters.add(Count::Timeout);
        tracing::debug!(
            target: "cacheio",
            namespace = self.namespace(),
            key = key.text(),
            "a caller waits no longer for a load",
        );
    }

    fn load_timed_out(&self, key: &Key<'_>) {
        tracing::warn!(
            target: "cacheio",
            namespace = self.namespace(),
            key = key.text(),
            "a load took longer than max_load and was given up",
        );
    }
}

/// What a loader is told.
fn context<V: Value>(older: &Older<V>, said: &Said) -> LoadContext<V> {
    let kept = older.kept().map(|kept| V::shared(Arc::clone(&kept.value)));
    LoadContext::new(kept, said.clone())
}

/// A time from now; none if that is as good as never.
fn deadline(now: Instant, after: Duration) -> Option<Instant> {
    // Clocks and timers can count so far.
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    now.checked_add(after).filter(|_| after < CENTURY)
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a future answers, or its panic.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // After a panic it is not touched any more.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}
