//! One call of a function: its hit, or the load by its body.

use std::future::{Future, Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use super::output::{CloneError, ConvertError, InBackground, Optional, Output};
use super::storage::{ByStorage, Storage};
use crate::engine::{Engine, ErrorSharing, Failure, LoadMode, Loaded, boxed};
use crate::key::MissedKey;
use crate::{BoxFuture, CacheKey, LoadContext, Options, Result, Ttl};

/// Returns the value of a live entry in memory.
///
/// # Errors
///
/// Returns the missed key otherwise.
#[inline]
pub fn lookup<O: Output, S: Storage<O::Value>>(
    engine: &Engine,
    _: &O,
    _: &S,
    key: &impl CacheKey,
) -> Result<O::Returned, MissedKey> {
    let value = engine.probe_hit::<ByStorage<S, O::Value>>(key)?;
    Ok(O::from_value(value))
}

/// Does the same, but not in L1.
///
/// # Errors
///
/// Returns the missed key otherwise.
pub fn lookup_past_l1<O: Output, S: Storage<O::Value>>(
    engine: &Engine,
    output: &O,
    storage: &S,
    key: &impl CacheKey,
) -> Result<O::Returned, MissedKey> {
    match engine.has_l1() {
        true => Err(engine.missed(key)),
        false => lookup(engine, output, storage, key),
    }
}

/// Returns the value of the key, or runs the body in the caller.
pub async fn load<O: Output, S: Storage<O::Value>, F: Load<O, S>>(
    engine: &Engine,
    _: &O,
    _: &S,
    missed: MissedKey,
    call: Call<O>,
    loader: impl FnOnce(O::Slot) -> F,
) -> O::Returned {
    let slot = O::Slot::default();
    let loader = || loader(slot.clone());
    // Boxed, so that a recursive function does not overflow the stack.
    let loaded = boxed(|| engine.load(missed, &call.options, call.mode(), loader));
    call.returned::<S>(loaded.await, &slot)
}

/// Returns the value of the key, or runs the body, which may continue in the background.
///
/// `prepare` copies the borrowed arguments and returns the loader.
pub async fn fetch<O: InBackground, S: Storage<O::Value>, F: Load<O, S> + Send + 'static, L>(
    engine: &Arc<Engine>,
    _: &O,
    _: &S,
    missed: MissedKey,
    call: Call<O>,
    prepare: impl FnOnce() -> L,
) -> O::Returned
where
    L: FnOnce() -> F + Send + 'static,
{
    let prepare = || {
        let loader = prepare();
        |context: LoadContext<S::Cached>| async move {
            let Loaded { value, ttl } = loader().await?;
            if let Some(ttl) = ttl {
                context.ttl(ttl);
            }
            Ok(value)
        }
    };
    let fetched = boxed(|| engine.fetch(missed, &call.options, call.mode(), prepare));
    call.returned::<S>(fetched.await.map(|fetched| fetched.value), &())
}

/// What a miss needs besides the body.
pub struct Call<O: Output> {
    pub options: Options,
    pub clone_error: CloneError<O::Error>,
    pub convert_error: ConvertError<O::Failed>,
}

impl<O: Output> Call<O> {
    fn mode(&self) -> LoadMode {
        LoadMode {
            error_sharing: match self.clone_error.0 {
                Some(_) => ErrorSharing::Shared,
                None => ErrorSharing::Own,
            },
            times_out: self.convert_error.0.is_some(),
            dated: false,
        }
    }

    fn returned<S: Storage<O::Value>>(
        &self,
        loaded: Result<S::Cached, Failure<O::Error>>,
        slot: &O::Slot,
    ) -> O::Returned {
        let error = match loaded {
            Ok(cached) => return O::from_value(S::from_cached(cached)),
            Err(Failure::Own(error)) => error,
            Err(Failure::Load(error)) => match (Arc::try_unwrap(error), self.clone_error.0) {
                (Ok(error), _) => error,
                (Err(error), Some(clone)) => clone(&error),
                (Err(_), None) => unreachable!("only errors that are `Clone` are shared"),
            },
            Err(Failure::Reentrant(error) | Failure::TimedOut(error) | Failure::Config(error)) => {
                return match self.convert_error.0 {
                    Some(convert) => O::from_failed(convert(error)),
                    None => panic!("cacheio: {error}"),
                };
            }
        };
        O::from_error(error, slot)
    }
}

/// The future of a loader.
pub trait Load<O: Output, S: Storage<O::Value>>:
    Future<Output = Result<Loaded<S::Cached>, O::Error>>
{
}

impl<O: Output, S: Storage<O::Value>, F> Load<O, S> for F where
    F: Future<Output = Result<Loaded<S::Cached>, O::Error>>
{
}

/// Makes a loader of a function's body. `ttl` chooses the TTL of the value: one of the functions
/// below.
pub async fn loader<O: Output, S: Storage<O::Value>, F: Future<Output = O::Returned>>(
    _: O,
    _: S,
    slot: O::Slot,
    ttl: impl FnOnce(&O::Value) -> Option<Ttl>,
    body: impl FnOnce() -> F,
) -> Result<Loaded<S::Cached>, O::Error> {
    let value = O::split(body().await, &slot)?;
    let ttl = ttl(&value);
    Ok(Loaded {
        value: S::into_cached(value),
        ttl,
    })
}

/// Hides the type of a future that can be sent.
///
/// Of a future that is awaited in an `async` block, the compiler proves `Send` for any lifetimes in its
/// type. That fails for an error type such as `Box<dyn Error + Send + Sync>`, which is `'static` only.
pub fn boxed_send<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}

/// Makes a body that is not `async` return a future, as [`loader`] expects.
pub fn ready_body<R>(body: impl FnOnce() -> R) -> impl FnOnce() -> Ready<R> {
    || ready(body())
}

/// The TTL of a value that is not stored.
const NOT_STORED: Ttl = Ttl::After(Duration::ZERO);

/// Stores all values, for the TTL of the call.
pub fn store_all<O: Output>(_: O) -> impl FnOnce(&O::Value) -> Option<Ttl> + use<O> {
    |_| None
}

/// Stores `Some` for the TTL of the call, and `None` for the TTL `none`.
pub fn store_some<O: Output<Value: Optional>>(
    _: O,
    none: impl Into<Ttl>,
) -> impl FnOnce(&O::Value) -> Option<Ttl> {
    let none = none.into();
    move |value| (!value.is_some()).then_some(none)
}

/// Stores the values for which `condition` is true.
pub fn store_if<O: Output, P: FnOnce(&O::Value) -> bool>(
    _: O,
    condition: P,
) -> impl FnOnce(&O::Value) -> Option<Ttl> + use<O, P> {
    |value| (!condition(value)).then_some(NOT_STORED)
}

/// Stores what both [`store_some`] and [`store_if`] store.
pub fn store_some_if<O: Output<Value: Optional>, P: FnOnce(&O::Value) -> bool>(
    _: O,
    none: impl Into<Ttl>,
    condition: P,
) -> impl FnOnce(&O::Value) -> Option<Ttl> {
    let none = none.into();
    move |value| match value.is_some() {
        // The condition need not handle `None` where no `None` is stored.
        false if none == NOT_STORED => Some(NOT_STORED),
        _ if !condition(value) => Some(NOT_STORED),
        is_some => (!is_some).then_some(none),
    }
}

/// Stores what `stored` stores, for the TTL that `ttl` chooses unless `stored` chooses one.
pub fn store_for<O: Output, T: Into<Ttl>>(
    _: O,
    stored: impl FnOnce(&O::Value) -> Option<Ttl>,
    ttl: impl FnOnce(&O::Value) -> T,
) -> impl FnOnce(&O::Value) -> Option<Ttl> {
    |value| stored(value).or_else(|| Some(ttl(value).into()))
}

/// Returns the options of a call that may force a refresh.
pub fn refreshed(options: Options, force: bool) -> Options {
    match force {
        true => options.force_refresh(),
        false => options,
    }
}

/// Returns whether the first duration is longer, at compile time.
pub const fn is_longer(first: Duration, second: Duration) -> bool {
    first.as_nanos() > second.as_nanos()
}
