//! [`BlockOn`]: an asynchronous store for synchronous callers.

use std::future::Future;

use super::runtime;
use crate::{AsyncStore, Result};

/// Implements [`Store`](crate::Store) for an [`AsyncStore`]: each call blocks its thread until the
/// store's future is ready.
///
/// The calling thread polls the future. Its I/O and timers run on a tokio runtime that all caches of
/// the process share: one thread, named `cacheio`, started by the first call. So a call works on any thread, also on a thread of another runtime (which it blocks, as every call of a
/// synchronous cache does).
///
/// ```
/// use cacheio::store::{AsyncStore, BoxFuture, Entry, Form, Key, Store};
/// use cacheio::{BlockOn, Result};
/// use std::time::Duration;
///
/// #[derive(Debug)]
/// struct Nothing;
///
/// impl AsyncStore for Nothing {
///     fn form(&self) -> Form { Form::Bytes }
///     fn get<'a>(&'a self, _: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
///         Box::pin(async {
///             tokio::time::sleep(Duration::from_millis(1)).await;
///             Ok(None)
///         })
///     }
/// #   fn set<'a>(&'a self, _: &'a Key<'a>, _: Entry, _: Option<Duration>) -> BoxFuture<'a, Result<()>> { Box::pin(async { Ok(()) }) }
/// #   fn delete<'a>(&'a self, _: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> { Box::pin(async { Ok(false) }) }
/// #   fn clear<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> { Box::pin(async { Ok(()) }) }
///     // … and so on
/// }
///
/// let store = BlockOn::new(Nothing);
/// assert!(Store::get(&store, &Key::new("key"))?.is_none());
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockOn<S>(S);

impl<S: AsyncStore> BlockOn<S> {
    /// Wraps an asynchronous store.
    ///
    /// ```
    /// # use cacheio::store::{AsyncStore, Store};
    /// # use cacheio::BlockOn;
    /// fn blocking(store: impl AsyncStore) -> impl Store {
    ///     BlockOn::new(store)
    /// }
    /// ```
    pub fn new(store: S) -> Self {
        Self(store)
    }
}

/// Blocks the calling thread until a future is ready, in the context of the runtime that all
/// caches of the process share.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let _entered = runtime()?.enter();
    pollster::block_on(future)
}

/// Implements `Store` for a type by blocking on its `AsyncStore`.
#[doc(hidden)]
#[macro_export]
macro_rules! __blocking_store {
    (($($generics:tt)*) $store:ty, $this:ident => $target:expr) => {
        #[warn(clippy::missing_trait_methods)]
        impl<$($generics)*> $crate::Store for $store {
            $crate::__store_methods!('_, { $crate::__blocking_store } { $this => $target });

            fn get_fast(
                &self,
                key: &$crate::Key<'_>,
            ) -> ::std::result::Result<::std::sync::Arc<dyn $crate::Object>, $crate::FastMiss> {
                let $this = self;
                match $crate::AsyncStore::immediate($target) {
                    ::std::option::Option::Some(store) => store.get_fast(key),
                    ::std::option::Option::None => ::std::result::Result::Err($crate::FastMiss::Inspect),
                }
            }

            fn get_word(
                &self,
                key: &$crate::Key<'_>,
                stored: ::std::any::TypeId,
            ) -> ::std::result::Result<u64, $crate::FastMiss> {
                let $this = self;
                match $crate::AsyncStore::immediate($target) {
                    ::std::option::Option::Some(store) => store.get_word(key, stored),
                    ::std::option::Option::None => ::std::result::Result::Err($crate::FastMiss::Inspect),
                }
            }

            fn in_namespace(&self, prefix: &str) -> ::std::option::Option<::std::sync::Arc<dyn $crate::Store>> {
                let $this = self;
                $crate::AsyncStore::immediate($target)?.in_namespace(prefix)
            }

            fn maintain(&self) {
                let $this = self;
                if let ::std::option::Option::Some(store) = $crate::AsyncStore::immediate($target) {
                    store.maintain();
                }
            }
        }
    };
    (@methods { $this:ident => $target:expr }
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        $(fn $operation(&self, $($arg: $type),*) -> $crate::Result<$output> {
            let $this = self;
            match $crate::AsyncStore::immediate($target) {
                ::std::option::Option::Some(store) => store.$operation($($arg),*),
                ::std::option::Option::None => {
                    let future = $crate::AsyncStore::$operation($target, $($arg),*);
                    $crate::__private::block_on(future)
                }
            }
        })*
        $(fn $property(&self) -> $value {
            let $this = self;
            $crate::AsyncStore::$property($target)
        })*
    };
}

__blocking_store!((S: AsyncStore) BlockOn<S>, this => &this.0);
