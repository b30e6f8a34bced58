//! What a function returns, taken apart by its type and not by its tokens.

use std::marker::PhantomData;
use std::time::Duration;

use crate::{Error, Result};

/// Selects the [`Output`] of the return type `R`: [`Fallible`] if it is a `Result` under any alias,
/// otherwise [`Infallible`].
///
/// The choice is made by autoref: call `(&Returns::<R>::new()).output()` with [`FallibleOutput`]
/// and [`InfallibleOutput`] in scope.
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
    type Error: Send + Sync + 'static;

    fn split(returned: Self::Returned) -> Result<Self::Value, Self::Error>;
    fn from_value(value: Self::Value) -> Self::Returned;
    fn from_error(error: Self::Error) -> Self::Returned;
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
    type Error = std::convert::Infallible;

    fn split(returned: R) -> Result<R, Self::Error> {
        Ok(returned)
    }

    #[inline]
    fn from_value(value: R) -> R {
        value
    }

    fn from_error(error: Self::Error) -> R {
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
    type Error = E;

    fn split(returned: Result<V, E>) -> Result<V, E> {
        returned
    }

    #[inline]
    fn from_value(value: V) -> Result<V, E> {
        Ok(value)
    }

    fn from_error(error: E) -> Result<V, E> {
        Err(error)
    }
}

pub trait FallibleOutput<V, E> {
    fn output(&self) -> Fallible<V, E>;
}

impl<V, E> FallibleOutput<V, E> for Returns<Result<V, E>> {
    fn output(&self) -> Fallible<V, E> {
        Fallible(PhantomData)
    }
}

pub trait InfallibleOutput<R> {
    fn output(&self) -> Infallible<R>;
}

impl<R> InfallibleOutput<R> for &Returns<R> {
    fn output(&self) -> Infallible<R> {
        Infallible(PhantomData)
    }
}

/// How a waiter gets an error of its own from the error of the load: by cloning it, if it is
/// `Clone`.
///
/// Call `(&output).clone_error()` with [`ErrorIsClone`] and [`ErrorIsNotClone`] in scope.
pub struct CloneError<E>(pub(super) Option<fn(&E) -> E>);

pub trait ErrorIsClone<E> {
    fn clone_error(&self) -> CloneError<E>;
}

impl<V, E: Clone> ErrorIsClone<E> for Fallible<V, E> {
    fn clone_error(&self) -> CloneError<E> {
        CloneError(Some(E::clone))
    }
}

pub trait ErrorIsNotClone<E> {
    fn clone_error(&self) -> CloneError<E>;
}

impl<O: Output> ErrorIsNotClone<O::Error> for &O {
    fn clone_error(&self) -> CloneError<O::Error> {
        CloneError(None)
    }
}

/// How an error of the cache becomes an error of the function: by `From`, if the function's error
/// implements it.
///
/// Call `(&output).convert_error()` with [`ErrorIsFromCache`] and [`ErrorIsNotFromCache`] in scope.
pub struct ConvertError<E>(pub(super) Option<fn(Error) -> E>);

pub trait ErrorIsFromCache<E> {
    fn convert_error(&self) -> ConvertError<E>;
}

impl<V, E: From<Error>> ErrorIsFromCache<E> for Fallible<V, E> {
    fn convert_error(&self) -> ConvertError<E> {
        ConvertError(Some(E::from))
    }
}

pub trait ErrorIsNotFromCache<E> {
    fn convert_error(&self) -> ConvertError<E>;
}

impl<O: Output> ErrorIsNotFromCache<O::Error> for &O {
    fn convert_error(&self) -> ConvertError<O::Error> {
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
