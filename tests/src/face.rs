//! One face over both worlds: every line of the contract is written once, as `async fn`.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{
    CacheKey, Encode, Fetched, LoadContext, LoadError, Options, Result, Stats, Ttl, Value,
};
use cacheio_sync::Cache;
use tokio::sync::oneshot;

/// Runs a future on this thread: the smallest executor there is.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A cache for threads. Its futures are ready at once, or block the thread.
#[derive(Clone, Debug)]
pub struct Threads(pub Cache);

/// A cache for tasks.
#[derive(Clone, Debug)]
pub struct Tasks(pub AsyncCache);

/// Something that runs beside the test: a thread or a task.
#[derive(Debug)]
pub struct Running<T> {
    end: oneshot::Receiver<std::thread::Result<T>>,
    /// Tasks can be aborted, threads cannot.
    pub abort: Option<tokio::task::AbortHandle>,
}

impl<T> Running<T> {
    /// What it returned.
    ///
    /// # Panics
    ///
    /// When it panicked or was aborted.
    pub async fn join(self) -> T {
        match self.outcome().await {
            Ok(value) => value,
            Err(message) => panic!("what ran beside the test panicked: {message}"),
        }
    }

    /// What it returned, or the message of its panic.
    ///
    /// # Errors
    ///
    /// When it panicked or was aborted.
    pub async fn outcome(self) -> Result<T, String> {
        match self.end.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(message(&*panic)),
            Err(_) => Err("aborted".into()),
        }
    }
}

/// The message of a panic.
pub fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without a message".into(),
    }
}

/// Joins all.
pub async fn join_all<T>(running: Vec<Running<T>>) -> Vec<T> {
    let mut values = Vec::with_capacity(running.len());
    for one in running {
        values.push(one.join().await);
    }
    values
}

macro_rules! faces {
    ($(fn $name:ident $(<$generic:ident: $bound:path>)? ($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        /// A cache, in whichever world.
        #[allow(missing_docs)]
        pub trait Face: Clone + Send + Sync + 'static {
            $(fn $name $(<$generic: $bound>)? (&self, $($arg: $type),*) -> impl Future<Output = $output> + Send;)*

            fn get_or_set_with<V: Value, F: Future<Output = V> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce() -> F + Send,
            ) -> impl Future<Output = V> + Send;

            fn get_or_try_set_with<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce() -> F + Send,
            ) -> impl Future<Output = Result<V, LoadError<E>>> + Send;

            fn get_or_set<V: Value, F: Future<Output = V> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce() -> F + Send,
            ) -> impl Future<Output = V> + Send;

            fn get_or_try_set<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce() -> F + Send,
            ) -> impl Future<Output = Result<V, LoadError<E>>> + Send;

            fn get_or_set_many<K: CacheKey + Send + Sync, V: Value, F: Future<Output = Vec<(K, V)>> + Send>(
                &self,
                keys: Vec<K>,
                load: impl FnMut(Vec<K>) -> F + Send,
            ) -> impl Future<Output = Vec<Option<V>>> + Send;

            fn get_or_set_many_with<K: CacheKey + Send + Sync, V: Value, F: Future<Output = Vec<(K, V)>> + Send>(
                &self,
                keys: Vec<K>,
                options: impl Into<Options> + Send,
                load: impl FnMut(Vec<K>) -> F + Send,
            ) -> impl Future<Output = Vec<Option<V>>> + Send;

            fn get_or_try_set_many<K: CacheKey + Send + Sync, V: Value, E: Send + Sync + 'static, F: Future<Output = Result<Vec<(K, V)>, E>> + Send>(
                &self,
                keys: Vec<K>,
                load: impl FnMut(Vec<K>) -> F + Send,
            ) -> impl Future<Output = Vec<Result<Option<V>, LoadError<E>>>> + Send;

            fn fetch<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> impl Future<Output = Result<V, LoadError<E>>> + Send;

            fn fetch_entry_with<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> impl Future<Output = Result<Fetched<V>, LoadError<E>>> + Send;

            fn fetch_entry<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> impl Future<Output = Result<Fetched<V>, LoadError<E>>> + Send;

            fn stats(&self) -> Stats;
            fn namespace(&self) -> &str;

            /// Runs a test in this world.
            fn run<T>(test: impl Future<Output = T>) -> T;

            /// Runs something beside the test.
            fn spawn<T: Send + 'static>(body: impl Future<Output = T> + Send + 'static) -> Running<T>;

            /// Lets others run.
            fn pause() -> impl Future<Output = ()> + Send;

            /// Waits, as a loader does that asks a database.
            fn sleep(duration: Duration) -> impl Future<Output = ()> + Send;

            /// Waits until something holds that others bring about.
            fn until(&self, holds: impl Fn(&Self) -> bool + Send + Sync) -> impl Future<Output = ()> + Send {
                async move {
                    while !holds(self) {
                        Self::pause().await;
                    }
                }
            }
        }

        impl Face for Threads {
            $(async fn $name $(<$generic: $bound>)? (&self, $($arg: $type),*) -> $output {
                self.0.$name $(::<$generic>)? ($($arg),*)
            })*

            async fn get_or_set_with<V: Value, F: Future<Output = V> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce() -> F + Send,
            ) -> V {
                self.0.get_or_set_with(key, options, || block_on(load()))
            }

            async fn get_or_try_set_with<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce() -> F + Send,
            ) -> Result<V, LoadError<E>> {
                self.0.get_or_try_set_with(key, options, || block_on(load()))
            }

            async fn get_or_set<V: Value, F: Future<Output = V> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce() -> F + Send,
            ) -> V {
                self.0.get_or_set(key, || block_on(load()))
            }

            async fn get_or_try_set<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce() -> F + Send,
            ) -> Result<V, LoadError<E>> {
                self.0.get_or_try_set(key, || block_on(load()))
            }

            async fn get_or_set_many<K: CacheKey + Send + Sync, V: Value, F: Future<Output = Vec<(K, V)>> + Send>(
                &self,
                keys: Vec<K>,
                mut load: impl FnMut(Vec<K>) -> F + Send,
            ) -> Vec<Option<V>> {
                self.0.get_or_set_many(keys, |missing| block_on(load(missing)))
            }

            async fn get_or_set_many_with<K: CacheKey + Send + Sync, V: Value, F: Future<Output = Vec<(K, V)>> + Send>(
                &self,
                keys: Vec<K>,
                options: impl Into<Options> + Send,
                mut load: impl FnMut(Vec<K>) -> F + Send,
            ) -> Vec<Option<V>> {
                self.0.get_or_set_many_with(keys, options, |missing| block_on(load(missing)))
            }

            async fn get_or_try_set_many<K: CacheKey + Send + Sync, V: Value, E: Send + Sync + 'static, F: Future<Output = Result<Vec<(K, V)>, E>> + Send>(
                &self,
                keys: Vec<K>,
                mut load: impl FnMut(Vec<K>) -> F + Send,
            ) -> Vec<Result<Option<V>, LoadError<E>>> {
                self.0.get_or_try_set_many(keys, |missing| block_on(load(missing)))
            }

            async fn fetch<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> Result<V, LoadError<E>> {
                self.0.fetch(key, move |context| block_on(load(context)))
            }

            async fn fetch_entry_with<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> Result<Fetched<V>, LoadError<E>> {
                self.0.fetch_entry_with(key, options, move |context| block_on(load(context)))
            }

            async fn fetch_entry<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> Result<Fetched<V>, LoadError<E>> {
                self.0.fetch_entry(key, move |context| block_on(load(context)))
            }

            fn stats(&self) -> Stats {
                self.0.stats()
            }

            fn namespace(&self) -> &str {
                self.0.namespace()
            }

            fn run<T>(test: impl Future<Output = T>) -> T {
                block_on(test)
            }

            fn spawn<T: Send + 'static>(body: impl Future<Output = T> + Send + 'static) -> Running<T> {
                let (ended, end) = oneshot::channel();
                let thread = std::thread::Builder::new().stack_size(512 << 10);
                let spawned = thread.spawn(move || {
                    let _ = ended.send(catch_unwind(AssertUnwindSafe(|| block_on(body))));
                });
                assert!(spawned.is_ok(), "no more threads");
                Running { end, abort: None }
            }

            async fn pause() {
                std::thread::yield_now();
            }

            async fn sleep(duration: Duration) {
                std::thread::sleep(duration);
            }
        }

        impl Face for Tasks {
            $(async fn $name $(<$generic: $bound>)? (&self, $($arg: $type),*) -> $output {
                self.0.$name $(::<$generic>)? ($($arg),*).await
            })*

            async fn get_or_set_with<V: Value, F: Future<Output = V> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce() -> F + Send,
            ) -> V {
                self.0.get_or_set_with(key, options, load).await
            }

            async fn get_or_try_set_with<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce() -> F + Send,
            ) -> Result<V, LoadError<E>> {
                self.0.get_or_try_set_with(key, options, load).await
            }

            async fn get_or_set<V: Value, F: Future<Output = V> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce() -> F + Send,
            ) -> V {
                self.0.get_or_set(key, load).await
            }

            async fn get_or_try_set<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce() -> F + Send,
            ) -> Result<V, LoadError<E>> {
                self.0.get_or_try_set(key, load).await
            }

            async fn get_or_set_many<K: CacheKey + Send + Sync, V: Value, F: Future<Output = Vec<(K, V)>> + Send>(
                &self,
                keys: Vec<K>,
                load: impl FnMut(Vec<K>) -> F + Send,
            ) -> Vec<Option<V>> {
                self.0.get_or_set_many(keys, load).await
            }

            async fn get_or_set_many_with<K: CacheKey + Send + Sync, V: Value, F: Future<Output = Vec<(K, V)>> + Send>(
                &self,
                keys: Vec<K>,
                options: impl Into<Options> + Send,
                load: impl FnMut(Vec<K>) -> F + Send,
            ) -> Vec<Option<V>> {
                self.0.get_or_set_many_with(keys, options, load).await
            }

            async fn get_or_try_set_many<K: CacheKey + Send + Sync, V: Value, E: Send + Sync + 'static, F: Future<Output = Result<Vec<(K, V)>, E>> + Send>(
                &self,
                keys: Vec<K>,
                load: impl FnMut(Vec<K>) -> F + Send,
            ) -> Vec<Result<Option<V>, LoadError<E>>> {
                self.0.get_or_try_set_many(keys, load).await
            }

            async fn fetch<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> Result<V, LoadError<E>> {
                self.0.fetch(key, load).await
            }

            async fn fetch_entry_with<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                options: impl Into<Options> + Send,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> Result<Fetched<V>, LoadError<E>> {
                self.0.fetch_entry_with(key, options, load).await
            }

            async fn fetch_entry<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>> + Send + 'static>(
                &self,
                key: impl CacheKey + Send + Sync,
                load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
            ) -> Result<Fetched<V>, LoadError<E>> {
                self.0.fetch_entry(key, load).await
            }

            fn stats(&self) -> Stats {
                self.0.stats()
            }

            fn namespace(&self) -> &str {
                self.0.namespace()
            }

            fn run<T>(test: impl Future<Output = T>) -> T {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => panic!("no runtime: {error}"),
                };
                runtime.block_on(test)
            }

            fn spawn<T: Send + 'static>(body: impl Future<Output = T> + Send + 'static) -> Running<T> {
                let (ended, end) = oneshot::channel();
                let task = tokio::spawn(body);
                let abort = Some(task.abort_handle());
                tokio::spawn(async move {
                    match task.await {
                        Ok(value) => drop(ended.send(Ok(value))),
                        Err(error) => match error.try_into_panic() {
                            Ok(panic) => drop(ended.send(Err(panic))),
                            Err(_aborted) => drop(ended),
                        },
                    }
                });
                Running { end, abort }
            }

            async fn pause() {
                tokio::task::yield_now().await;
            }

            async fn sleep(duration: Duration) {
                tokio::time::sleep(duration).await;
            }
        }
    };
}

faces! {
    fn has(key: impl CacheKey + Send + Sync) -> Result<bool>;
    fn get<V: Value>(key: impl CacheKey + Send + Sync) -> Result<Option<V>>;
    fn get_arc<V: Value>(key: impl CacheKey + Send + Sync) -> Result<Option<Arc<V>>>;
    fn get_many<V: Value>(keys: Vec<impl CacheKey + Send + Sync>) -> Result<Vec<Option<V>>>;
    fn set(key: impl CacheKey + Send + Sync, value: impl Encode) -> Result<()>;
    fn set_with(key: impl CacheKey + Send + Sync, value: impl Encode, options: impl Into<Options> + Send) -> Result<()>;
    fn set_many(entries: Vec<(impl CacheKey + Send + Sync, impl Encode)>) -> Result<()>;
    fn set_many_with(entries: Vec<(impl CacheKey + Send + Sync, impl Encode)>, options: impl Into<Options> + Send) -> Result<()>;
    fn add(key: impl CacheKey + Send + Sync, value: impl Encode) -> Result<bool>;
    fn add_with(key: impl CacheKey + Send + Sync, value: impl Encode, options: impl Into<Options> + Send) -> Result<bool>;
    fn delete(key: impl CacheKey + Send + Sync) -> Result<bool>;
    fn delete_many(keys: Vec<impl CacheKey + Send + Sync>) -> Result<usize>;
    fn increment(key: impl CacheKey + Send + Sync, by: i64) -> Result<i64>;
    fn increment_with(key: impl CacheKey + Send + Sync, by: i64, options: impl Into<Options> + Send) -> Result<i64>;
    fn decrement(key: impl CacheKey + Send + Sync, by: i64) -> Result<i64>;
    fn decrement_with(key: impl CacheKey + Send + Sync, by: i64, options: impl Into<Options> + Send) -> Result<i64>;
    fn touch(key: impl CacheKey + Send + Sync, ttl: impl Into<Ttl> + Send) -> Result<bool>;
    fn clear() -> Result<()>;
    fn invalidate_tags(tags: Vec<impl Into<Cow<'static, str>> + Send>) -> Result<()>;
    fn ping() -> Result<()>;
}
