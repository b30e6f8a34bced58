//! The runtime of the process, for what must not depend on the runtime of a caller: that one may
//! have no timers or no I/O, a paused clock, or end or stand still at any time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Instant;

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Sleep;

use crate::{BoxFuture, Error, ErrorKind, Result};

/// Returns the runtime that all caches of the process share: one thread for I/O and timers, started
/// by the first call. Its clock is never paused. No code of a user may run on that thread, except for
/// wakers.
///
/// # Errors
///
/// Returns [`ErrorKind::Unavailable`] when its thread cannot be started, or this thread is exiting.
pub fn runtime() -> Result<&'static Handle> {
    // While a thread exits, tokio cannot be entered any more: `enter` would panic, in a destructor.
    let current = Handle::try_current();
    if current.is_err_and(|error| error.is_thread_local_destroyed()) {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the thread is exiting; use the cache before its thread-locals are destroyed",
        ));
    }
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
            "cannot start the thread that runs the I/O and the timers of caches",
        )
        .with_source(error)
    })
}

/// Returns the runtime for a connection that this caller needs.
///
/// It is the caller's if that has several threads and I/O: these threads run without the caller, and a
/// request does not have to switch to another thread. Otherwise it is the shared [runtime]. The caller
/// must take into account that its runtime has no timers, and may end.
///
/// # Errors
///
/// Fails when the shared runtime is not available.
#[cfg(feature = "__net")]
pub fn io_runtime() -> Result<Handle> {
    let shared = runtime()?;
    match Handle::try_current() {
        Ok(current) if has_threads_and_io(&current) => Ok(current),
        _ => Ok(shared.clone()),
    }
}

#[cfg(feature = "__net")]
fn has_threads_and_io(runtime: &Handle) -> bool {
    use std::panic::catch_unwind;
    use std::sync::{Mutex, PoisonError};

    use tokio::runtime::{Id, RuntimeFlavor};

    // Nothing but a panic tells that a runtime has no I/O.
    if runtime.runtime_flavor() != RuntimeFlavor::MultiThread || cfg!(panic = "abort") {
        return false;
    }
    static WITHOUT_IO: Mutex<Vec<Id>> = Mutex::new(Vec::new());
    let without_io = || WITHOUT_IO.lock().unwrap_or_else(PoisonError::into_inner);
    if without_io().contains(&runtime.id()) {
        return false;
    }
    match catch_unwind(|| {
        let _entered = runtime.enter();
        open_socket()
    }) {
        // An error means that the runtime is shutting down.
        Ok(opened) => opened.is_ok(),
        Err(_) => {
            without_io().push(runtime.id());
            false
        }
    }
}

/// Opens any socket on the runtime that is entered.
#[cfg(feature = "__net")]
fn open_socket() -> std::io::Result<()> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket).map(drop)
}

/// Returns a timer of the shared runtime.
///
/// # Errors
///
/// Fails when the [runtime] is not available.
pub fn sleep_until(at: Instant) -> Result<Sleep> {
    let _entered = runtime()?.enter();
    Ok(tokio::time::sleep_until(at.into()))
}

/// Returns the output of a future that is ready before the deadline. The future is polled at least
/// once.
pub async fn within<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let (mut future, mut timer) = (pin!(future), pin!(None));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if timer.is_none() {
            timer.set(sleep_until(deadline).ok());
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(context).map(|()| None),
            None => Poll::Ready(None),
        }
    })
    .await
}

/// Runs work that blocks, on a thread of the [runtime]. It goes on if the future is dropped.
///
/// # Errors
///
/// Fails when the [runtime] is not available.
///
/// # Panics
///
/// Panics when the work does.
pub async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let done = runtime()?.spawn_blocking(work).await;
    done.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => {
            let message = "the thread for blocking work was stopped";
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        }
    })
}

/// How many loads run on threads of the [runtime] at a time. It has threads left for the stores of these
/// loads, which may block too.
const MAX_LOADS: usize = 128;

/// The number of loads on threads of the [runtime].
static LOADS: AtomicUsize = AtomicUsize::new(0);

/// Counts a load until it is dropped.
struct CountedLoad;

impl Drop for CountedLoad {
    fn drop(&mut self) {
        LOADS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs a load of a caller outside of tokio, on a thread that may block.
///
/// # Errors
///
/// Returns the load when the [runtime] is not available, or runs as many loads as it may.
pub fn spawn_load(load: BoxFuture<'static, ()>) -> Result<(), BoxFuture<'static, ()>> {
    let Ok(runtime) = runtime() else {
        return Err(load);
    };
    let counted = CountedLoad;
    if LOADS.fetch_add(1, Ordering::SeqCst) >= MAX_LOADS {
        return Err(load);
    }
    runtime.spawn_blocking(move || {
        let _counted = counted;
        pollster::block_on(load);
    });
    Ok(())
}
