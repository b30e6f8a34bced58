//! How the values of a function are stored.

use std::marker::PhantomData;
use std::sync::Arc;

use super::output::Output;
use crate::engine::FromHit;
use crate::value::{FromWord, Shared, from_word, unreadable};
use crate::{Codec, Encode, Local, Object, Result, Value};

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

/// Stores the value of an `Arc` without a second one around it: for the memory of the process. A hit clones
/// the `Arc` that the function returned, and nothing else.
#[derive(Clone, Copy)]
pub struct AsArc;

impl<T: Object> Storage<Arc<T>> for AsArc {
    type Cached = SharedValue<T>;

    fn into_cached(value: Arc<T>) -> SharedValue<T> {
        SharedValue(value)
    }

    #[inline]
    fn from_cached(cached: SharedValue<T>) -> Arc<T> {
        cached.0
    }

    #[inline]
    fn from_shared(stored: Arc<T>) -> Arc<T> {
        stored
    }

    #[inline]
    fn from_word() -> Option<FromWord<Arc<T>>> {
        None
    }
}

/// A value in memory, shared with the callers that get it.
pub struct SharedValue<T>(Arc<T>);

impl<T> Clone for SharedValue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Object> Encode for SharedValue<T> {
    fn into_object(self) -> Arc<dyn Object> {
        self.0
    }

    fn as_object(&self) -> &dyn Object {
        &*self.0
    }
}

impl<T: Object> Value for SharedValue<T> {
    type Stored = T;

    #[inline]
    fn into_stored(self) -> Arc<T> {
        self.0
    }

    #[inline]
    fn from_stored(stored: Arc<T>) -> Self {
        Self(stored)
    }

    #[inline]
    fn from_shared(stored: Arc<T>) -> Self {
        Self(stored)
    }

    #[inline]
    fn from_word() -> Option<FromWord<Self>> {
        None
    }

    fn shared(stored: Arc<T>) -> Arc<Self> {
        Arc::new(Self(stored))
    }

    fn decode(_: &[u8], _: &dyn Codec) -> Result<Arc<T>> {
        Err(unreadable::<T>())
    }
}

/// Selects how a function that has a cache of its own, in memory, stores values: [`AsArc`] if they are
/// `Arc`s of values with serde, otherwise [`AsLocal`].
///
/// The choice is made by autoref: call `(&&InMemoryOf(&output)).__cacheio_storage()` with
/// [`ArcStorage`] and [`LocalStorage`] in scope. It ignores lifetimes, so the bound must not be
/// `DeserializeOwned`, which types with a `&'static str` do not implement.
pub struct InMemoryOf<'a, O>(pub &'a O);

pub trait ArcStorage {
    fn __cacheio_storage(&self) -> AsArc {
        AsArc
    }
}

impl<T: Object, O: Output<Value = Arc<T>>> ArcStorage for &InMemoryOf<'_, O> {}

pub trait LocalStorage {
    fn __cacheio_storage(&self) -> AsLocal {
        AsLocal
    }
}

impl<O> LocalStorage for InMemoryOf<'_, O> {}

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
