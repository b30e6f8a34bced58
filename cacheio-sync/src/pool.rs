//! The threads that run loads behind their callers.

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

/// How many loads of a cache run behind their callers at a time. Those that wait for other loads
/// are not counted: what they wait for may itself be waiting for a thread.
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
    /// Those that have nothing to do.
    idle: usize,
    /// Those whose loads wait for other loads.
    blocked: usize,
    closed: bool,
}

thread_local! {
    /// Whose thread this is.
    static HOME: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

impl Executor for Pool {
    fn spawn(&self, load: Load) -> Result<(), Load> {
        // The model checker watches its own threads alone.
        if cfg!(shuttle) {
            return Err(load);
        }
        let mut state = self.0.lock();
        state.loads.push_back(load);
        if self.0.staff(&mut state) {
            return Ok(());
        }
        state.loads.pop_back().map_or(Ok(()), Err)
    }

    fn block(&self, wait: &mut dyn FnMut()) {
        let home = HOME.with_borrow(Clone::clone);
        let Some(home) = home else {
            return wait();
        };
        {
            let mut state = home.lock();
            state.blocked += 1;
            home.staff(&mut state);
        }
        wait();
        home.lock().blocked -= 1;
    }

    fn sleep_until(&self, _: Instant) -> Option<Load> {
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody comes to the loads which wait; false if nobody ever does.
    fn staff(self: &Arc<Self>, state: &mut State) -> bool {
        if state.loads.len() <= state.idle {
            self.changed.notify_one();
        } else if state.threads - state.blocked < MOST {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("cacheio-load".into());
            match thread.spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                Err(_) => return state.threads > state.blocked,
            }
        }
        true
    }

    /// What each thread does.
    fn work(self: Arc<Self>) {
        HOME.set(Some(Arc::clone(&self)));
        let mut state = self.lock();
        loop {
            if let Some(load) = state.loads.pop_front() {
                drop(state);
                // A load brings its panic to its caller; this is for what is dropped with it.
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
    fn loads_that_wait_for_others_leave_their_place_to_them() {
        let pool = Arc::new(Pool::default());
        let (outer, all) = mpsc::channel();
        for _ in 0..MOST * 2 {
            let (nested, outer) = (Arc::clone(&pool), outer.clone());
            spawn(&pool, move || {
                let (done, is_done) = mpsc::channel();
                spawn(&nested, move || done.send(()).unwrap());
                nested.block(&mut || is_done.recv().unwrap());
                outer.send(()).unwrap();
            });
        }
        for _ in 0..MOST * 2 {
            all.recv_timeout(Duration::from_secs(30)).unwrap();
        }
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pool = Pool::default();
        spawn(&pool, || panic!("as it may be when a value is dropped"));
        eventually(|| pool.0.lock().idle == 1);
    }
}
