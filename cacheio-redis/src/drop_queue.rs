//! Drops values of users on a thread on which their code may run.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cacheio_core::__private::{RemovedCopies, runtime};

/// Values that are about to be dropped. One thread at a time drops them: a `Drop` may block, and must not
/// occupy the threads of others.
#[derive(Default)]
pub(crate) struct DropQueue(Mutex<State>);

#[derive(Default)]
struct State {
    pending: RemovedCopies,
    /// Whether a thread drops them.
    is_running: bool,
}

impl DropQueue {
    /// Drops values soon, on another thread.
    pub(crate) fn push(self: &Arc<Self>, removed: RemovedCopies) {
        if removed.is_empty() {
            return;
        }
        // If there is no runtime, this thread is one of the user, and is exiting.
        let Ok(runtime) = runtime() else {
            return;
        };
        let mut state = self.lock();
        state.pending.extend(removed);
        if !mem::replace(&mut state.is_running, true) {
            let queue = Arc::clone(self);
            runtime.spawn_blocking(move || queue.run());
        }
    }

    fn run(&self) {
        while let Some(values) = self.take() {
            for value in values {
                // A `Drop` that panics keeps no other value.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
            }
        }
    }

    fn take(&self) -> Option<RemovedCopies> {
        let mut state = self.lock();
        state.is_running = !state.pending.is_empty();
        state.is_running.then(|| mem::take(&mut state.pending))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{self, ThreadId};

    use super::*;

    struct Value {
        panics: bool,
        dropped_on: Sender<ThreadId>,
    }

    impl Drop for Value {
        fn drop(&mut self) {
            self.dropped_on.send(thread::current().id()).unwrap();
            assert!(!self.panics, "the `Drop` of a value");
        }
    }

    #[test]
    fn values_are_dropped_on_another_thread_even_if_one_panics() {
        let queue = Arc::new(DropQueue::default());
        let (dropped_on, dropped) = channel();
        for round in 0..3 {
            let value = |panics| -> Box<dyn Any + Send> {
                let dropped_on = dropped_on.clone();
                Box::new(Value { panics, dropped_on })
            };
            queue.push(vec![value(round == 1), value(false)]);
            for _ in 0..2 {
                assert_ne!(dropped.recv().unwrap(), thread::current().id());
            }
        }
    }
}
