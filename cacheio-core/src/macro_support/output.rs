//! What a function returns, taken apart by its type and not by its tokens.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Error, Result};

/// Selects the [`Output`] of the return type `R`: [`Fallible`] or [`Unshared`] if it is a
/// `Result` under any alias, otherwise [`Infallible`].
///
/// The choice is made by autoref: call `(&&&Returns::<R>::new()).__cacheio_output()` with
/// [`SharedOutput`], [`UnsharedOutput`] and [`InfallibleOutput`] in scope, for a body that may run in the
/// background with [`SentOutput`] instead of [`SharedOutput`].
pub struct Returns<R>(PhantomData<fn() -> R>);

impl<R> Returns<R> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// The parts of a return type.
pub trait Output: Copy {
    type Returned;
    type Value;
    /// The error of the function.
    type Failed;
    /// The error that the waiters of a load get.
    type Error: Send + Sync + 'static;
    /// Where the caller that runs the body keeps an error that is not for the waiters.
    type Slot: Default + Clone;

    fn split(returned: Self::Returned, slot: &Self::Slot) -> Result<Self::Value, Self::Error>;
    fn from_value(value: Self::Value) -> Self::Returned;
    fn from_error(error: Self::Error, slot: &Self::Slot) -> Self::Returned;
    fn from_failed(error: Self::Failed) -> Self::Returned;
}

/// Returns the slot of a call.
pub fn slot<O: Output>(_: &O) -> O::Slot {
    O::Slot::default()
}

/// A return type that is not a `Result`: all of it is the value.
pub struct Infallible<R>(PhantomData<fn() -> R>);

impl<R> Copy for Infallible<R> {}

impl<R> Clone for Infallible<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Output for Infallible<R> {
    type Returned = R;
    type Value = R;
    type Failed = std::convert::Infallible;
    type Error = std::convert::Infallible;
    type Slot = ();

    fn split(returned: R, (): &()) -> Result<R, Self::Error> {
        Ok(returned)
    }

    #[inline]
    fn from_value(value: R) -> R {
        value
    }

    fn from_error(error: Self::Error, (): &()) -> R {
        match error {}
    }

    fn from_failed(error: Self::Failed) -> R {
        match error {}
    }
}

/// A `Result<V, E>`: only what is `Ok` is stored.
pub struct Fallible<V, E>(PhantomData<fn() -> (V, E)>);

impl<V, E> Copy for Fallible<V, E> {}

impl<V, E> Clone for Fallible<V, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, E: Send + Sync + 'static> Output for Fallible<V, E> {
    type Returned = Result<V, E>;
    type Value = V;
    type Failed = E;
    type Error = E;
    type Slot = ();

    fn split(returned: Result<V, E>, (): &()) -> Result<V, E> {
        returned
    }

    #[inline]
    fn from_value(value: V) -> Result<V, E> {
        Ok(value)
    }

    fn from_error(error: E, (): &()) -> Result<V, E> {
        Err(error)
    }

    fn from_failed(error: E) -> Result<V, E> {
        Err(error)
    }
}

/// A `Result<V, E>` whose error is not for the waiters of a load, because it cannot be cloned or sent: each
/// waiter runs the body.
///
/// The compiler proves that the future of a call is `Send` for any lifetimes in `E`. So nothing here may
/// need `E: 'static`, which does not hold for all lifetimes of `Box<dyn Error + Send + Sync>`.
pub struct Unshared<V, E>(PhantomData<fn() -> (V, E)>);

impl<V, E> Copy for Unshared<V, E> {}

impl<V, E> Clone for Unshared<V, E> {
    fn clone(&self) -> Self {
        *self
    }
}

/// The error of a load whose error is in the slot of its caller.
pub struct InSlot(());

impl<V, E> Output for Unshared<V, E> {
    type Returned = Result<V, E>;
    type Value = V;
    type Failed = E;
    type Error = InSlot;
    type Slot = Arc<Mutex<Option<E>>>;

    fn split(returned: Result<V, E>, slot: &Self::Slot) -> Result<V, InSlot> {
        returned.map_err(|error| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            InSlot(())
        })
    }

    #[inline]
    fn from_value(value: V) -> Result<V, E> {
        Ok(value)
    }

    fn from_error(_: InSlot, slot: &Self::Slot) -> Result<V, E> {
        let kept = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kept {
            Some(error) => Err(error),
            None => unreachable!("only the caller that ran the body gets its error"),
        }
    }

    fn from_failed(error: E) -> Result<V, E> {
        Err(error)
    }
}

pub trait SharedOutput<V, E> {
    fn __cacheio_output(&self) -> Fallible<V, E>;
}

impl<V, E: Clone + Send + Sync + 'static> SharedOutput<V, E> for &&Returns<Result<V, E>> {
    fn __cacheio_output(&self) -> Fallible<V, E> {
        Fallible(PhantomData)
    }
}

pub trait SentOutput<V, E> {
    fn __cacheio_output(&self) -> Fallible<V, E>;
}

impl<V, E: Send + Sync + 'static> SentOutput<V, E> for &&Returns<Result<V, E>> {
    fn __cacheio_output(&self) -> Fallible<V, E> {
        Fallible(PhantomData)
    }
}

pub trait UnsharedOutput<V, E> {
    fn __cacheio_output(&self) -> Unshared<V, E>;
}

impl<V, E> UnsharedOutput<V, E> for &Returns<Result<V, E>> {
    fn __cacheio_output(&self) -> Unshared<V, E> {
        Unshared(PhantomData)
    }
}

pub trait InfallibleOutput<R> {
    fn __cacheio_output(&self) -> Infallible<R>;
}

impl<R> InfallibleOutput<R> for Returns<R> {
    fn __cacheio_output(&self) -> Infallible<R> {
        Infallible(PhantomData)
    }
}

/// A return type of a body that may run in the background.
#[diagnostic::on_unimplemented(
    message = "with `refresh_ahead`, `soft_timeout`, `hard_timeout` or `max_load`, the body may run in the background, \
               so that its error must be `Send + Sync + 'static`",
    label = "the error of this function cannot be sent to its caller",
    note = "write `Box<dyn Error + Send + Sync>` instead of `Box<dyn Error>`, or return an error type of your own"
)]
pub trait InBackground: Output<Slot = ()> {}

#[diagnostic::do_not_recommend]
impl<O: Output<Slot = ()>> InBackground for O {}

/// How a waiter gets an error of its own from the error of the load: by cloning it, if it is
/// `Clone`.
///
/// Call `(&output).__cacheio_clone_error()` with [`ErrorIsClone`] and [`ErrorIsNotClone`] in scope.
pub struct CloneError<E>(pub(super) Option<fn(&E) -> E>);

pub trait ErrorIsClone<E> {
    fn __cacheio_clone_error(&self) -> CloneError<E>;
}

impl<V, E: Clone> ErrorIsClone<E> for Fallible<V, E> {
    fn __cacheio_clone_error(&self) -> CloneError<E> {
        CloneError(Some(E::clone))
    }
}

pub trait ErrorIsNotClone<E> {
    fn __cacheio_clone_error(&self) -> CloneError<E>;
}

impl<O: Output> ErrorIsNotClone<O::Error> for &O {
    fn __cacheio_clone_error(&self) -> CloneError<O::Error> {
        CloneError(None)
    }
}

/// How an error of the cache becomes an error of the function: by `From`, if the function's error
/// implements it.
///
/// Call `(&output).__cacheio_convert_error()` with [`ErrorIsFromCache`] and [`ErrorIsNotFromCache`] in scope.
pub struct ConvertError<E>(pub(super) Option<fn(Error) -> E>);

pub trait ErrorIsFromCache<E> {
    fn __cacheio_convert_error(&self) -> ConvertError<E>;
}

impl<V, E: From<Error>> ErrorIsFromCache<E> for Fallible<V, E> {
    fn __cacheio_convert_error(&self) -> ConvertError<E> {
        ConvertError(Some(E::from))
    }
}

impl<V, E: From<Error>> ErrorIsFromCache<E> for Unshared<V, E> {
    fn __cacheio_convert_error(&self) -> ConvertError<E> {
        ConvertError(Some(E::from))
    }
}

pub trait ErrorIsNotFromCache<E> {
    fn __cacheio_convert_error(&self) -> ConvertError<E>;
}

impl<O: Output> ErrorIsNotFromCache<O::Failed> for &O {
    fn __cacheio_convert_error(&self) -> ConvertError<O::Failed> {
        ConvertError(None)
    }
}

/// Returns the timeout, if the function can return it as an error.
pub fn hard_timeout<O: TimesOut>(_: O, timeout: Duration) -> Duration {
    timeout
}

/// A return type that can hold a timeout.
#[diagnostic::on_unimplemented(
    message = "`hard_timeout` needs a function that returns a `Result`",
    label = "the function does not return a `Result`",
    note = "return a `Result`, or use `soft_timeout` with `stale_for`, which returns a stale value instead of an error"
)]
pub trait TimesOut: Output {}

impl<V, E: FromCacheError + Send + Sync + 'static> TimesOut for Fallible<V, E> {}

impl<V, E: FromCacheError> TimesOut for Unshared<V, E> {}

/// An error type that can hold a timeout.
#[diagnostic::on_unimplemented(
    message = "`hard_timeout` needs an error type that implements `From<cacheio::Error>`, and `{Self}` does not",
    label = "`{Self}` does not implement `From<cacheio::Error>`",
    note = "write `impl From<cacheio::Error> for {Self}`, or return a type that holds any error, such as `anyhow::Error`"
)]
pub trait FromCacheError {}

#[diagnostic::do_not_recommend]
impl<E: From<Error>> FromCacheError for E {}

/// A value that may be `None`.
#[diagnostic::on_unimplemented(
    message = "`cache_none` and `ttl_none` need a function that returns `Option<T>` or `Result<Option<T>, E>`",
    label = "not an `Option`",
    note = "to decide for each value whether it is stored, write `cache_if = |value| …`"
)]
pub trait Optional {
    fn is_some(&self) -> bool;
}

impl<T> Optional for Option<T> {
    fn is_some(&self) -> bool {
        self.is_some()
    }
}
