//! The two worlds, threads and tasks: how a test runs in them, spawns, and lets time pass.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use cacheio_core::BoxFuture;
use tokio::sync::oneshot;

/// Runs a future on the current thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Suspends once.
pub async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A waker that unparks a thread.
#[derive(Debug)]
pub struct Unpark(pub Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Threads that block.
    Threads,
    /// Tasks on tokio's runtime.
    Tasks,
}

impl World {
    /// Runs a test in this world.
    ///
    /// # Panics
    ///
    /// When the test panics.
    pub fn run<T>(self, test: impl Future<Output = T>) -> T {
        match self {
            Self::Threads => block_on(test),
            Self::Tasks => runtime().block_on(test),
        }
    }

    /// Runs something concurrently with the test: on a thread, or as a task.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl Future<Output = T> + Send + 'static,
    ) -> Spawned<T> {
        let body: BoxFuture<'static, T> = Box::pin(body);
        match self {
            Self::Threads => spawn_thread(body),
            Self::Tasks => spawn_task(body),
        }
    }

    /// Lets other threads or tasks run.
    pub async fn pause(self) {
        match self {
            Self::Threads => thread::yield_now(),
            Self::Tasks => tokio::task::yield_now().await,
        }
    }

    /// Sleeps, as a loader does that queries a database.
    pub async fn sleep(self, duration: Duration) {
        match self {
            Self::Threads => thread::sleep(duration),
            Self::Tasks => tokio::time::sleep(duration).await,
        }
    }
}

/// Threads are named like the test that starts them: a panic then says which test it belongs to.
fn thread_name() -> String {
    thread::current().name().unwrap_or("test").to_owned()
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_name(thread_name())
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    }
}

fn spawn_thread<T: Send + 'static>(body: BoxFuture<'static, T>) -> Spawned<T> {
    let (sender, outcome) = oneshot::channel();
    let thread = thread::Builder::new()
        .name(thread_name())
        .stack_size(512 << 10);
    let spawned = thread.spawn(move || {
        let _ = sender.send(catch_unwind(AssertUnwindSafe(|| block_on(body))));
    });
    assert!(spawned.is_ok(), "no more threads");
    Spawned {
        outcome,
        abort: None,
    }
}

fn spawn_task<T: Send + 'static>(body: BoxFuture<'static, T>) -> Spawned<T> {
    let (sender, outcome) = oneshot::channel();
    let task = tokio::spawn(body);
    let abort = Some(task.abort_handle());
    tokio::spawn(async move {
        match task.await {
            Ok(value) => drop(sender.send(Ok(value))),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => drop(sender.send(Err(panic))),
                Err(_aborted) => drop(sender),
            },
        }
    });
    Spawned { outcome, abort }
}

/// A thread or a task that runs concurrently with the test.
#[derive(Debug)]
pub struct Spawned<T> {
    outcome: oneshot::Receiver<thread::Result<T>>,
    /// Aborts a task; threads cannot be aborted.
    pub abort: Option<tokio::task::AbortHandle>,
}

impl<T> Spawned<T> {
    /// Waits for the result.
    ///
    /// # Panics
    ///
    /// When the thread or task panicked or was aborted.
    pub async fn join(self) -> T {
        match self.outcome().await {
            Ok(value) => value,
            Err(message) => panic!("a spawned thread or task panicked: {message}"),
        }
    }

    /// Waits for the result, or for the message of the panic.
    ///
    /// # Errors
    ///
    /// When the thread or task panicked or was aborted.
    pub async fn outcome(self) -> Result<T, String> {
        match self.outcome.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(panic_message(&*panic)),
            Err(_) => Err("aborted".into()),
        }
    }
}

/// Returns the message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without a message".into(),
    }
}

/// Joins all.
///
/// # Panics
///
/// When one of them panicked or was aborted.
pub async fn join_all<T>(spawned: Vec<Spawned<T>>) -> Vec<T> {
    let mut values = Vec::with_capacity(spawned.len());
    for one in spawned {
        values.push(one.join().await);
    }
    values
}
