//! The threads that run loads behind their callers.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_core::__private::{Runner, now};
use cacheio_core::BoxFuture;

type Load = BoxFuture<'static, ()>;

/// How many loads of a cache run behind their callers at a time. Others wait their turn: they are
/// as many as there are keys at most.
const MOST: usize = 16;

/// How long a thread waits for more to do.
const IDLE: Duration = Duration::from_secs(10);

/// A cache's own threads: made when they are needed, gone when there has been nothing to do for
/// a while, or with the cache.
#[derive(Default)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    loads: VecDeque<Load>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Runner for Pool {
    fn spawn(&self, load: Load) -> Result<(), Load> {
        let mut state = self.0.lock();
        state.loads.push_back(load);
        if state.loads.len() <= state.idle {
            self.0.changed.notify_one();
        } else if state.threads < MOST {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("cacheio-load".into());
            match thread.spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                // Some other thread will come to it, if there is one.
                Err(_) if state.threads > 0 => {}
                Err(_) => return state.loads.pop_back().map_or(Ok(()), Err),
            }
        }
        Ok(())
    }

    fn sleep_until(&self, _: Instant) -> Option<Load> {
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(load) = state.loads.pop_front() {
                drop(state);
                // A load brings its panic to its caller; this is for what is dropped with it.
                let _ = catch_unwind(AssertUnwindSafe(|| now(load)));
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.changed.wait_timeout(state, IDLE);
            let timed_out;
            (state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            if timed_out.timed_out() && state.loads.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Pool")
            .field("threads", &state.threads)
            .field("waiting", &state.loads.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn eventually(holds: impl Fn() -> bool) {
        while !holds() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn spawn(pool: &Pool, load: impl FnOnce() + Send + 'static) {
        assert!(pool.spawn(Box::pin(async move { load() })).is_ok());
    }

    #[test]
    fn all_loads_run_on_a_bounded_number_of_threads() {
        let pool = Pool::default();
        let (gate, open) = mpsc::channel::<()>();
        let open = Arc::new(Mutex::new(open));
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let (open, ran) = (Arc::clone(&open), Arc::clone(&ran));
            spawn(&pool, move || {
                ran.fetch_add(1, Ordering::SeqCst);
                let _ = open.lock().unwrap().recv();
            });
        }
        eventually(|| ran.load(Ordering::SeqCst) == MOST);
        assert_eq!(pool.0.lock().threads, MOST);
        drop(gate);
        eventually(|| ran.load(Ordering::SeqCst) == 100);
        assert_eq!(pool.0.lock().threads, MOST);
    }

    #[test]
    fn an_idle_thread_is_used_again() {
        let pool = Pool::default();
        for _ in 0..20 {
            let (done, is_done) = mpsc::channel();
            spawn(&pool, move || done.send(()).unwrap());
            is_done.recv().unwrap();
            eventually(|| pool.0.lock().idle == 1);
        }
        assert_eq!(pool.0.lock().threads, 1);
    }

    #[test]
    fn the_threads_go_with_the_cache() {
        let pool = Pool::default();
        spawn(&pool, || {});
        let shared = Arc::clone(&pool.0);
        drop(pool);
        eventually(|| shared.lock().threads == 0);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pool = Pool::default();
        spawn(&pool, || panic!("as it may be when a value is dropped"));
        eventually(|| pool.0.lock().idle == 1);
    }
}
