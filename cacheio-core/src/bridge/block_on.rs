//! [`BlockOn`]: an asynchronous store for synchronous callers.

use std::future::Future;

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{AsyncStore, Error, ErrorKind, Result};

/// Implements [`Store`](crate::Store) for an [`AsyncStore`]: each call blocks its thread until the
/// store's future is ready.
///
/// The calling thread polls the future. Its I/O and timers run on a tokio runtime that all such
/// stores of the process share: one thread, named `cacheio`, started by the first call. So a call
/// works on any thread, also on a thread of another runtime (which it blocks, as every call of a
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
/// blocking calls of the process share.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let _entered = runtime()?.enter();
    pollster::block_on(future)
}

fn runtime() -> Result<&'static Handle> {
    // Never shut down: it lives as long as the process, which does not wait for it.
    static RUNTIME: OnceCell<Runtime> = OnceCell::new();
    let runtime = RUNTIME.get_or_try_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cacheio")
            .enable_all()
            .build()
    });
    runtime.map(Runtime::handle).map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            "cannot start the thread that runs the I/O of synchronous caches",
        )
        .with_source(error)
    })
}

/// Implements `Store` for a type by blocking on its `AsyncStore`.
#[doc(hidden)]
#[macro_export]
macro_rules! __blocking_store {
    (($($generics:tt)*) $store:ty, $this:ident => $target:expr) => {
        const _: () = {
            use ::std::option::Option;
            use ::std::sync::Arc;
            use ::std::time::Duration;
            use ::std::vec::Vec;
            use $crate::__private::SharedState;
            use $crate::{AsyncStore, Clock, Entry, FastLookup, Form, Key, KeyRule, Result, Store};

            #[warn(clippy::missing_trait_methods)]
            impl<$($generics)*> Store for $store {
                $crate::__blocking_store! { @calls $this => $target;
                    get(key: &Key<'_>) -> Option<Entry>;
                    set(key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> ();
                    delete(key: &Key<'_>) -> bool;
                    clear(prefix: &str) -> ();
                    add(key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> bool;
                    increment(key: &Key<'_>, by: i64, ttl: Option<Duration>) -> i64;
                    touch(key: &Key<'_>, ttl: Option<Duration>) -> bool;
                    has(key: &Key<'_>) -> bool;
                    get_many(keys: &[Key<'_>]) -> Vec<Option<Entry>>;
                    set_many(entries: Vec<(Key<'_>, Entry)>, ttl: Option<Duration>) -> ();
                    delete_many(keys: &[Key<'_>]) -> usize;
                    ping() -> ();
                }

                fn get_fast(&self, key: &Key<'_>) -> FastLookup {
                    let $this = self;
                    match AsyncStore::immediate($target) {
                        Some(store) => store.get_fast(key),
                        None => FastLookup::Inspect,
                    }
                }

                $crate::__blocking_store! { @properties $this => $target;
                    form() -> Form;
                    key_rule() -> KeyRule;
                    clock() -> Arc<dyn Clock>;
                    evictions() -> u64;
                    circuit_opens() -> u64;
                    shared_state() -> Option<Arc<SharedState>>;
                    check() -> Result<()>;
                }
            }
        };
    };
    (@calls $this:ident => $target:expr; $($method:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {$(
        fn $method(&self, $($arg: $type),*) -> Result<$output> {
            let $this = self;
            match AsyncStore::immediate($target) {
                Option::Some(store) => store.$method($($arg),*),
                Option::None => $crate::__private::block_on(AsyncStore::$method($target, $($arg),*)),
            }
        }
    )*};
    (@properties $this:ident => $target:expr; $($method:ident() -> $output:ty;)*) => {$(
        fn $method(&self) -> $output {
            let $this = self;
            AsyncStore::$method($target)
        }
    )*};
}

__blocking_store!((S: AsyncStore) BlockOn<S>, this => &this.0);
