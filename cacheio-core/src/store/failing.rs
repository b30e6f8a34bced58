//! A store that fails on demand.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{__store_methods, AsyncStore, Error, ErrorKind, FastMiss, Key, Object, Result, Store};

/// Wraps a store so that a test can make it fail: what a program does while its cache is down.
///
/// Clones share one switch. While it is on, each operation returns an error, and the wrapped store is not
/// called.
///
/// ```
/// use cacheio::{Cache, ErrorKind, FailingStore, Memory};
///
/// let store = FailingStore::new(Memory::new());
/// let cache = Cache::builder().store(store.clone()).build()?;
/// cache.set("k", 1)?;
///
/// store.fail(ErrorKind::Unavailable);
/// assert_eq!(cache.get::<i32>("k").unwrap_err().kind(), ErrorKind::Unavailable);
/// assert_eq!(cache.get_or_set("k", || 2), 2); // a store that fails costs a load, and no error
///
/// store.recover();
/// assert_eq!(cache.get("k")?, Some(1));
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Debug)]
pub struct FailingStore<S> {
    store: Arc<S>,
    failure: Arc<Mutex<Option<ErrorKind>>>,
}

impl<S> FailingStore<S> {
    /// Wraps a store. It does not fail yet.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            failure: Arc::default(),
        }
    }

    /// Makes the operations that begin from now on fail with an error of this kind.
    pub fn fail(&self, kind: ErrorKind) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
    }

    /// Lets operations reach the wrapped store again.
    pub fn recover(&self) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn check_failure(&self) -> Result<()> {
        let failure = *self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(kind) => Err(Error::new(
                kind,
                "the store fails because a test asked for it",
            )),
            None => Ok(()),
        }
    }
}

impl<S> Clone for FailingStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            failure: Arc::clone(&self.failure),
        }
    }
}

/// Forwards each method to the wrapped store unless it fails.
macro_rules! unless_failing {
    (@methods { Store }
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        $(fn $operation(&self, $($arg: $type),*) -> Result<$output> {
            self.check_failure()?;
            self.store.$operation($($arg),*)
        })*
        unless_failing!(@properties $($property() -> $value;)*);
    };
    (@methods { AsyncStore }
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        $(fn $operation<'a>(&'a self, $($arg: $type),*) -> crate::BoxFuture<'a, Result<$output>> {
            Box::pin(async move {
                self.check_failure()?;
                self.store.$operation($($arg),*).await
            })
        })*
        unless_failing!(@properties $($property() -> $value;)*);
    };
    (@properties $($property:ident() -> $value:ty;)*) => {
        $(fn $property(&self) -> $value {
            self.store.$property()
        })*
    };
}

// A view of a namespace would not fail, so there is none: the default of `in_namespace` says so.
#[allow(clippy::missing_trait_methods)]
impl<S: Store> Store for FailingStore<S> {
    __store_methods!('_, { unless_failing } { Store });

    fn get_fast(&self, key: &Key<'_>) -> Result<Arc<dyn Object>, FastMiss> {
        match self.check_failure() {
            Ok(()) => self.store.get_fast(key),
            Err(_) => Err(FastMiss::Inspect),
        }
    }

    fn maintain(&self) {
        self.store.maintain();
    }
}

// The futures of an immediate store would be ready as well, so it is not asked for one.
#[allow(clippy::missing_trait_methods)]
impl<S: AsyncStore> AsyncStore for FailingStore<S> {
    __store_methods!('a, { unless_failing } { AsyncStore });
}
