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

/// The most threads that run loads of a cache at a time, as long as loads end. Two kinds of threads
/// are not counted: those that wait for another load, because that load may itself need a thread, and
/// those whose load is overdue, because it may never end.
const MAX_THREADS: usize = 16;

/// After this time in which no load ended, one more thread runs a queued load: the loads that run may
/// wait for it on threads of their own.
const STALLED: Duration = Duration::from_millis(100);

/// The most threads of a cache, also if its loads hang. Those that wait for another load are not
/// counted.
const MAX_ALL_THREADS: usize = 256;

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
    queue: VecDeque<Queued>,
    threads: usize,
    /// Threads without a load.
    idle: usize,
    /// Threads whose load waits for another load.
    blocked: usize,
    /// When the loads that run become overdue. Loads that wait for another one are not listed.
    running: Vec<Option<Instant>>,
    /// When a load was last queued where there were none, started, or ended.
    changed_at: Option<Instant>,
    /// How many loads more than [`MAX_THREADS`] may run, because for a while none ended.
    extra: usize,
    closed: bool,
}

struct Queued {
    load: Load,
    overdue_at: Option<Instant>,
}

thread_local! {
    /// The pool that this thread belongs to, and when its load becomes overdue.
    static POOL: RefCell<Option<(Arc<Shared>, Option<Instant>)>> = const { RefCell::new(None) };
}

impl Executor for ThreadPool {
    fn spawn(&self, load: Load, overdue_at: Option<Instant>) -> Result<(), Load> {
        // The model checker only sees threads that it started itself.
        if cfg!(shuttle) {
            return Err(load);
        }
        let mut state = self.0.lock();
        if state.queue.is_empty() {
            state.changed_at = Some(Instant::now());
        }
        state.queue.push_back(Queued { load, overdue_at });
        if self.0.ensure_thread(&mut state) {
            return Ok(());
        }
        let queued = state.queue.pop_back();
        queued.map_or(Ok(()), |queued| Err(queued.load))
    }

    fn block(&self, wait: &mut dyn FnMut()) {
        let pool = POOL.try_with(|pool| pool.borrow().clone());
        let Some((pool, overdue_at)) = pool.ok().flatten() else {
            return wait();
        };
        {
            let mut state = pool.lock();
            state.blocked += 1;
            state.remove_running(overdue_at);
            pool.ensure_thread(&mut state);
        }
        wait();
        let mut state = pool.lock();
        state.blocked -= 1;
        state.running.push(overdue_at);
    }

    fn sleep_until(&self, _: Instant) -> Option<Load> {
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes or starts a thread for the queued loads. Returns false if there is none and none can
    /// start.
    fn ensure_thread(self: &Arc<Self>, state: &mut State) -> bool {
        if state.idle > 0 {
            self.changed.notify_one();
        }
        if state.queue.len() <= state.idle {
            return true;
        }
        let overdue = state.overdue(Instant::now());
        // One thread more than may run loads: it waits until a load becomes overdue, or none has ended
        // for a while.
        let most = (MAX_THREADS + state.extra + overdue + 1).min(MAX_ALL_THREADS);
        if state.threads - state.blocked < most {
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
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.stalled_at().is_some_and(|at| at <= now) {
                state.extra += 1;
            }
            let is_free = state.running.len() < MAX_THREADS + state.extra + state.overdue(now);
            if is_free && let Some(Queued { load, overdue_at }) = state.queue.pop_front() {
                state.running.push(overdue_at);
                state.changed_at = Some(now);
                // The next load may need a thread that waits for this one to become overdue.
                if !state.queue.is_empty() {
                    self.ensure_thread(&mut state);
                }
                drop(state);
                POOL.set(Some((Arc::clone(&self), overdue_at)));
                // A panic of a load goes to its caller; this catches one of a destructor.
                let _ = catch_unwind(AssertUnwindSafe(|| poll_ready(load)));
                POOL.set(None);
                state = self.lock();
                state.remove_running(overdue_at);
                state.changed_at = Some(Instant::now());
                if state.running.len() < MAX_THREADS {
                    state.extra = 0;
                }
                self.changed.notify_one();
                continue;
            }
            if state.closed && state.queue.is_empty() {
                break;
            }
            let until = match state.queue.is_empty() {
                true => IDLE,
                false => {
                    let next = state
                        .next_overdue(now)
                        .into_iter()
                        .chain(state.stalled_at());
                    let next = next.min();
                    next.map_or(IDLE, |at| at.saturating_duration_since(now))
                }
            };
            state.idle += 1;
            let waited = self.changed.wait_timeout(state, until);
            let timed_out;
            (state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            if timed_out.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

impl State {
    /// Returns the number of running loads that are overdue.
    fn overdue(&self, now: Instant) -> usize {
        let overdue = self.running.iter().flatten().filter(|at| **at <= now);
        overdue.count()
    }

    /// Returns when the next running load becomes overdue.
    fn next_overdue(&self, now: Instant) -> Option<Instant> {
        let later = self.running.iter().flatten().filter(|at| **at > now);
        later.min().copied()
    }

    /// Returns when one more load may start, if none ends until then.
    fn stalled_at(&self) -> Option<Instant> {
        let is_waiting = !self.queue.is_empty() && self.running.len() < MAX_ALL_THREADS;
        self.changed_at
            .filter(|_| is_waiting)
            .map(|at| at + STALLED)
    }

    fn remove_running(&mut self, overdue_at: Option<Instant>) {
        if let Some(index) = self.running.iter().position(|other| *other == overdue_at) {
            self.running.swap_remove(index);
        }
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
            .field("queued", &state.queue.len())
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
        assert!(pool.spawn(Box::pin(async move { load() }), None).is_ok());
    }

    #[test]
    fn all_loads_run_on_a_bounded_number_of_threads() {
        let pool = ThreadPool::default();
        let (gate, open) = mpsc::channel::<()>();
        let open = Arc::new(Mutex::new(open));
        let ran = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        for _ in 0..100 {
            let (open, ran) = (Arc::clone(&open), Arc::clone(&ran));
            spawn(&pool, move || {
                ran.fetch_add(1, Ordering::SeqCst);
                let _ = open.lock().unwrap().recv();
            });
        }
        eventually(|| ran.load(Ordering::SeqCst) > MAX_THREADS);
        // None of them ends, so one more may be started, but only after a while.
        assert!(start.elapsed() >= STALLED);
        let running = pool.0.lock().running.len();
        let extra = start.elapsed().as_millis() / STALLED.as_millis();
        assert!(running <= MAX_THREADS + extra as usize);
        drop(gate);
        eventually(|| ran.load(Ordering::SeqCst) == 100);
    }

    #[test]
    fn loads_that_wait_for_others_on_other_threads_end() {
        let pool = Arc::new(ThreadPool::default());
        let (outer, all) = mpsc::channel();
        for _ in 0..MAX_THREADS {
            let (nested, outer) = (Arc::clone(&pool), outer.clone());
            spawn(&pool, move || {
                let (done, is_done) = mpsc::channel();
                // The pool does not see that this load waits.
                thread::spawn(move || spawn(&nested, move || done.send(()).unwrap()));
                is_done.recv().unwrap();
                outer.send(()).unwrap();
            });
        }
        for _ in 0..MAX_THREADS {
            all.recv_timeout(Duration::from_secs(30)).unwrap();
        }
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
    fn overdue_loads_do_not_occupy_a_thread() {
        let pool = ThreadPool::default();
        let (gate, open) = mpsc::channel::<()>();
        let open = Arc::new(Mutex::new(open));
        for _ in 0..MAX_THREADS {
            let open = Arc::clone(&open);
            let hanging = Box::pin(async move {
                let _ = open.lock().unwrap().recv();
            });
            let overdue_at = Instant::now() + Duration::from_millis(50);
            assert!(pool.spawn(hanging, Some(overdue_at)).is_ok());
        }
        let (done, is_done) = mpsc::channel();
        for _ in 0..MAX_THREADS {
            let done = done.clone();
            spawn(&pool, move || done.send(()).unwrap());
        }
        for _ in 0..MAX_THREADS {
            is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        eventually(|| pool.0.lock().running.len() == MAX_THREADS);
        drop(gate);
        eventually(|| pool.0.lock().running.is_empty());
    }

    #[test]
    fn a_panic_does_not_end_a_thread() {
        let pool = ThreadPool::default();
        spawn(&pool, || panic!("a destructor panics"));
        eventually(|| pool.0.lock().idle == 1);
    }
}
