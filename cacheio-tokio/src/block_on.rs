//! A store for tasks, made one for threads.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::SharedState;
use cacheio_core::{
    AsyncStore, Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, Object, Result, Store,
};
use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};

/// A store for tasks, made one for threads: each call blocks until its future is ready.
///
/// The futures are polled on the calling thread, in the context of a runtime that the process
/// makes once, on the first call, for all such stores: one thread, named `cacheio`, that does the
/// I/O and the timers. So it works in any thread, also in one of another runtime (which it blocks,
/// as every call of a cache for threads does).
///
/// ```
/// use cacheio_core::{AsyncStore, BoxFuture, Entry, Form, Key, Result, Store};
/// use cacheio_tokio::BlockOn;
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
/// # Ok::<(), cacheio_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockOn<S>(S);

impl<S: AsyncStore> BlockOn<S> {
    /// Makes it one for threads.
    pub fn new(store: S) -> Self {
        Self(store)
    }
}

/// Waits for a future, in the context of the process's runtime for such waits.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
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
            "the thread that talks to the servers cannot be started",
        )
        .with_source(error)
    })
}

/// Implements [`Store`] by blocking on an [`AsyncStore`].
macro_rules! blocking_store {
    (($($generics:tt)*) $store:ty, $this:ident => $target:expr) => {
        #[warn(clippy::missing_trait_methods)]
        impl<$($generics)*> Store for $store {
            blocking_store! { @methods $this => $target;
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

            fn get_fast(&self, key: &Key<'_>) -> Option<Arc<dyn Object>> {
                let $this = self;
                AsyncStore::immediate($target)?.get_fast(key)
            }

            blocking_store! { @settings $this => $target;
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
    (@methods $this:ident => $target:expr; $($method:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {$(
        fn $method(&self, $($arg: $type),*) -> Result<$output> {
            let $this = self;
            match AsyncStore::immediate($target) {
                Some(store) => store.$method($($arg),*),
                None => $crate::block_on::block_on(AsyncStore::$method($target, $($arg),*)),
            }
        }
    )*};
    (@settings $this:ident => $target:expr; $($method:ident() -> $output:ty;)*) => {$(
        fn $method(&self) -> $output {
            let $this = self;
            AsyncStore::$method($target)
        }
    )*};
}

blocking_store!((S: AsyncStore) BlockOn<S>, this => &this.0);

#[cfg(feature = "redis")]
blocking_store!(() crate::Redis, this => this);
