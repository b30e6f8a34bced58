//! Runs background loads on threads of the cache.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_core::__private::{Executor, poll_ready};
use cacheio_core::BoxFuture;

type Load = BoxFuture<'static, ()>;

/// The most threads that run loads of a cache at a time. Threads that wait for another load are not
/// counted, because that load may itself need a thread.
const MAX_THREADS: usize = 16;

/// After this time without a load, a thread ends.
const IDLE: Duration = Duration::from_secs(10);

/// The threads of a cache. They start when needed, and end when they are idle or when the cache is
/// dropped.
#[derive(Default)]
pub(crate) struct ThreadPool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    loads: VecDeque<Load>,
    threads: usize,
    /// Threads without a load.
    idle: usize,
    /// Threads whose load waits for another load.
    blocked: usize,
    closed: bool,
}

thread_local! {
    /// The pool that this thread belongs to.
    static POOL: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

impl Executor for ThreadPool {
    fn spawn(&self, load: Load) -> Result<(), Load> {
        // The model checker only sees threads that it started itself.
        if cfg!(shuttle) {
            return Err(load);
        }
        let mut state = self.0.lock();
        state.loads.push_back(load);
        if self.0.ensure_thread(&mut state) {
            return Ok(());
        }
        state.loads.pop_back().map_or(Ok(()), Err)
    }

    fn block(&self, wait: &mut dyn FnMut()) {
        let pool = POOL.with_borrow(Clone::clone);
        let Some(pool) = pool else {
            return wait();
        };
        {
            let mut state = pool.lock();
            state.blocked += 1;
            pool.ensure_thread(&mut state);
        }
        wait();
        pool.lock().blocked -= 1;
    }

    fn sleep_until(&self, _: Instant) -> Option<Load> {
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes or starts a thread for the queued loads; false if there is none and none can start.
    fn ensure_thread(self: &Arc<Self>, state: &mut State) -> bool {
        if state.loads.len() <= state.idle {
            self.changed.notify_one();
        } else if state.threads - state.blocked < MAX_THREADS {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("cacheio-load".into());
            match thread.spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                Err(_) => return state.threads > state.blocked,
            }
        }
        true
    }

    fn work(self: Arc<Self>) {
        POOL.set(Some(Arc::clone(&self)));
        let mut state = self.lock();
        loop {
            if let Some(load) = state.loads.pop_front() {
                drop(state);
                // A panic of a load goes to its caller; this catches one of a destructor.
                let _ = catch_unwind(AssertUnwindSafe(|| poll_ready(load)));
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

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("ThreadPool")
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

    fn spawn(pool: &ThreadPool, load: impl FnOnce() + Send + 'static) {
        assert!(pool.spawn(Box::pin(async move { load() })).is_ok());
    }

    #[test]
    fn all_loads_run_on_a_bounded_number_of_threads() {
        let pool = ThreadPool::default();
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
        eventually(|| ran.load(Ordering::SeqCst) == MAX_THREADS);
        assert_eq!(pool.0.lock().threads, MAX_THREADS);
        drop(gate);
        eventually(|| ran.load(Ordering::SeqCst) == 100);
        assert_eq!(pool.0.lock().threads, MAX_THREADS);
    }

    #[test]
    fn an_idle_thread_is_reused() {
        let pool = ThreadPool::default();
        for _ in 0..20 {
            let (done, is_done) = mpsc::channel();
            spawn(&pool, move || done.send(()).unwrap());
            is_done.recv().unwrap();
            eventually(|| pool.0.lock().idle == 1);
        }
        assert_eq!(pool.0.lock().threads, 1);
    }

    #[test]
    fn threads_end_with_the_cache() {
        let pool = ThreadPool::default();
        spawn(&pool, || {});
        let shared = Arc::clone(&pool.0);
        drop(pool);
        eventually(|| shared.lock().threads == 0);
    }

    #[test]
    fn loads_that_wait_for_others_do_not_occupy_a_thread() {
        let pool = Arc::new(ThreadPool::default());
        let (outer, all) = mpsc::channel();
        for _ in 0..MAX_THREADS * 2 {
            let (nested, outer) = (Arc::clone(&pool), outer.clone());
            spawn(&pool, move || {
                let (done, is_done) = mpsc::channel();
                spawn(&nested, move || done.send(()).unwrap());
                nested.block(&mut || is_done.recv().unwrap());
                outer.send(()).unwrap();
            });
        }
        for _ in 0..MAX_THREADS * 2 {
            all.recv_timeout(Duration::from_secs(30)).unwrap();
        }
    }

    #[test]
    fn a_panic_does_not_end_a_thread() {
        let pool = ThreadPool::default();
        spawn(&pool, || panic!("a destructor panics"));
        eventually(|| pool.0.lock().idle == 1);
    }
}
