//! One timeout for all that a call does in its store.
//!
//! A store limits the time of each operation, and a load takes several: a look-up, and a write after the
//! loader. So the engine runs the steps of a load with a [`StoreTime`], and stores get the end of an
//! operation from [`deadline`].

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

thread_local! {
    /// When the operations of the current step count as started.
    static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time that a call has spent in its store, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct StoreTime(AtomicU64);

impl StoreTime {
    /// Runs a step of the call: its operations have the time that the earlier steps have left.
    ///
    /// The step is pinned by its caller: a future that takes another by value holds it twice.
    pub(crate) async fn run<F: Future + Unpin>(&self, mut step: F) -> F::Output {
        let spent = self.spent();
        let begun = Instant::now();
        let current = begun.checked_sub(spent).unwrap_or(begun);
        let output = poll_fn(|context| {
            let _entered = Entered::new(current);
            Pin::new(&mut step).poll(context)
        })
        .await;
        let spent = (spent + begun.elapsed()).as_nanos();
        self.0
            .store(u64::try_from(spent).unwrap_or(u64::MAX), Ordering::Relaxed);
        output
    }

    fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Clone for StoreTime {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// Returns the deadline of an operation that a store begins now. It is earlier than the timeout from
/// now on if earlier operations of the same call have taken time.
pub fn deadline(timeout: Duration) -> Instant {
    let started_at = current().unwrap_or_else(Instant::now);
    // Clocks do not count much further than a lifetime.
    started_at
        .checked_add(timeout)
        .unwrap_or_else(|| started_at + Duration::from_secs(100 * 365 * 24 * 60 * 60))
}

fn current() -> Option<Instant> {
    // While a thread exits, its thread-locals may be destroyed.
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// Makes a step the current one until it is dropped.
struct Entered(Option<Instant>);

impl Entered {
    fn new(started_at: Instant) -> Self {
        let outer = CURRENT.try_with(|current| current.replace(Some(started_at)));
        Self(outer.unwrap_or_default())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.set(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::poll_ready;
    use std::pin::pin;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn a_step_has_the_time_that_the_earlier_ones_have_left() {
        let time = StoreTime::default();
        let begun = Instant::now();
        poll_ready(time.run(pin!(async {
            std::thread::sleep(Duration::from_millis(30));
        })));
        // This takes no time of the store.
        std::thread::sleep(Duration::from_millis(30));
        let now = Instant::now();
        let next = poll_ready(time.run(pin!(async { deadline(TIMEOUT) })));
        assert!(next <= now + TIMEOUT - Duration::from_millis(20));
        assert!(next > begun + TIMEOUT, "the time between the steps counts");
        assert!(deadline(TIMEOUT) >= now + TIMEOUT);
    }
}
