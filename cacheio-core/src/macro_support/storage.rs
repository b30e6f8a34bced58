//! How the values of a function are stored.

use std::marker::PhantomData;
use std::sync::Arc;

use super::output::Output;
use crate::engine::FromHit;
use crate::value::{FromWord, Shared, from_word};
use crate::{Local, Value};

/// Converts the values of a function to what its cache stores, and back.
pub trait Storage<V>: Copy {
    type Cached: Value;

    fn into_cached(value: V) -> Self::Cached;
    fn from_cached(cached: Self::Cached) -> V;
    fn from_shared(stored: Arc<<Self::Cached as Value>::Stored>) -> V;
    /// As [`Value::from_word`].
    fn from_word() -> Option<FromWord<V>>;
}

/// Stores the value itself: for any cache, so the value needs serde.
#[derive(Clone, Copy)]
pub struct AsValue;

/// Returns [`AsValue`], for a value that any cache can store.
pub fn as_value<O: Output<Value: Value>>(_: &O) -> AsValue {
    AsValue
}

impl<V: Value> Storage<V> for AsValue {
    type Cached = V;

    fn into_cached(value: V) -> V {
        value
    }

    #[inline]
    fn from_cached(cached: V) -> V {
        cached
    }

    #[inline]
    fn from_shared(stored: Arc<V::Stored>) -> V {
        V::from_shared(stored)
    }

    #[inline]
    fn from_word() -> Option<FromWord<V>> {
        V::from_word()
    }
}

/// Stores the value as [`Local`]: for the memory of the process, so the value needs no serde.
#[derive(Clone, Copy)]
pub struct AsLocal;

impl<V: Clone + Send + Sync + 'static> Storage<V> for AsLocal {
    type Cached = Local<V>;

    fn into_cached(value: V) -> Local<V> {
        Local::new(value)
    }

    #[inline]
    fn from_cached(cached: Local<V>) -> V {
        cached.into_inner()
    }

    #[inline]
    fn from_shared(stored: Arc<Shared<V>>) -> V {
        stored.0.clone()
    }

    #[inline]
    fn from_word() -> Option<FromWord<V>> {
        from_word()
    }
}

/// Makes the value of a function from what its cache stores.
pub(super) struct ByStorage<S, V>(PhantomData<(S, V)>);

impl<V, S: Storage<V>> FromHit for ByStorage<S, V> {
    type Value = S::Cached;
    type Output = V;

    #[inline]
    fn from_word() -> Option<FromWord<V>> {
        S::from_word()
    }

    #[inline]
    fn from_shared(stored: Arc<<S::Cached as Value>::Stored>) -> V {
        S::from_shared(stored)
    }
}
