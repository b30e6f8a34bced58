//! The primitives that flights are built on: those of the standard library and event-listener, or,
//! under `--cfg shuttle`, the model checker's versions of them.

#[cfg(all(shuttle, not(feature = "__shuttle")))]
compile_error!(
    "`--cfg shuttle` is for cacheio's own model checks: `cargo test -p cacheio-tests --test shuttle`"
);

#[cfg(shuttle)]
pub(crate) use self::model::*;
#[cfg(not(shuttle))]
pub(crate) use self::real::*;

#[cfg(not(shuttle))]
mod real {
    pub(crate) use event_listener::{Event, EventListener, Listener};
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread::sleep;
    pub(crate) use std::thread_local;

    use crate::BoxFuture;

    /// Waits for a timer. Returns `false` if there is none.
    pub(crate) async fn pause(timer: Option<BoxFuture<'static, ()>>) -> bool {
        match timer {
            Some(timer) => {
                timer.await;
                true
            }
            None => false,
        }
    }
}

#[cfg(shuttle)]
mod model {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use shuttle::thread_local;

    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use crate::BoxFuture;

    /// Lets other threads run: time does not pass under the model checker.
    pub(crate) fn sleep(_: Duration) {
        shuttle::thread::yield_now();
    }

    /// Lets other tasks run.
    pub(crate) async fn pause(_: Option<BoxFuture<'static, ()>>) -> bool {
        shuttle::future::yield_now().await;
        true
    }

    /// As `event_listener::Event`, as far as it is used here: all are notified, or none.
    #[derive(Debug, Default)]
    pub(crate) struct Event(Arc<Inner>);

    #[derive(Debug, Default)]
    struct Inner {
        state: Mutex<State>,
        changed: shuttle::sync::Condvar,
    }

    #[derive(Debug, Default)]
    struct State {
        notified: u64,
        wakers: Vec<Waker>,
    }

    impl Event {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn listen(&self) -> EventListener {
            EventListener {
                event: Arc::clone(&self.0),
                seen: self.0.state.lock().unwrap().notified,
            }
        }

        pub(crate) fn notify(&self, _all: usize) -> usize {
            let mut state = self.0.state.lock().unwrap();
            state.notified += 1;
            for waker in state.wakers.drain(..) {
                waker.wake();
            }
            self.0.changed.notify_all();
            0
        }
    }

    #[derive(Debug)]
    pub(crate) struct EventListener {
        event: Arc<Inner>,
        seen: u64,
    }

    pub(crate) trait Listener: Sized {
        fn wait(self);

        /// Waits without a deadline.
        fn wait_deadline(self, _: std::time::Instant) -> Option<()> {
            self.wait();
            Some(())
        }
    }

    impl Listener for EventListener {
        fn wait(self) {
            let mut state = self.event.state.lock().unwrap();
            while state.notified == self.seen {
                state = self.event.changed.wait(state).unwrap();
            }
        }
    }

    impl Future for EventListener {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let mut state = self.event.state.lock().unwrap();
            if state.notified == self.seen {
                state.wakers.push(context.waker().clone());
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }
    }
}
