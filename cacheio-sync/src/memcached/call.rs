//! How a call waits, and until when: the whole difference between threads and tasks, but for the
//! sockets.
//!
//! Everything above the sockets is written once, as `async fn`s. For a thread, the innermost ones
//! block instead of suspending, so that one poll runs the call to its end.

use std::io;
use std::time::{Duration, Instant};

use cacheio_core::__private::deadline;
#[cfg(feature = "tokio")]
use cacheio_core::__private::{sleep_until, within};
use event_listener::{EventListener, Listener as _};

/// After how long a wait for a response is interrupted: see [`Lease::read`](super::lease::Lease::read).
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// What waits for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// A thread, which blocks.
    Threads,
    /// A task, which is suspended.
    #[cfg(feature = "tokio")]
    Tasks,
}

/// One operation of the store. All its waits end by its deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) driver: Driver,
    deadline: Instant,
}

impl Call {
    /// Creates a call that starts now, or that is a part of an earlier one.
    pub(super) fn new(driver: Driver, timeout: Duration) -> Self {
        Self {
            driver,
            deadline: deadline(timeout),
        }
    }

    /// Returns this call with an earlier deadline, if `longest` from now is earlier.
    pub(super) fn at_most(self, longest: Duration) -> Self {
        let deadline = self.deadline.min(Instant::now() + longest);
        Self { deadline, ..self }
    }

    /// Returns this call with a later deadline, if `shortest` from now is later.
    pub(super) fn at_least(self, shortest: Duration) -> Self {
        let deadline = self.deadline.max(Instant::now() + shortest);
        Self { deadline, ..self }
    }

    /// Returns the time that is left, or an error if there is none: sockets take a timeout of zero
    /// for "forever".
    pub(super) fn time_left(self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }

    /// Waits for a notification.
    pub(super) async fn wait(self, listener: EventListener) -> io::Result<()> {
        match self.driver {
            Driver::Threads => listener
                .wait_deadline(self.deadline)
                .ok_or_else(|| io::ErrorKind::TimedOut.into()),
            #[cfg(feature = "tokio")]
            Driver::Tasks => self.until_deadline(listener).await,
        }
    }

    /// Lets other callers run.
    pub(super) async fn yield_now(self) {
        match self.driver {
            Driver::Threads => std::thread::yield_now(),
            #[cfg(feature = "tokio")]
            Driver::Tasks => tokio::task::yield_now().await,
        }
    }

    /// Sleeps after a write that was refused because others write too.
    pub(super) async fn pause_after_conflict(self, conflicts: u32) {
        if conflicts > 2 {
            // One of the writers succeeds if they wait for different times.
            self.sleep(random_pause(conflicts)).await;
        }
    }

    /// Sleeps, also past the deadline.
    pub(super) async fn sleep(self, duration: Duration) {
        match self.driver {
            Driver::Threads => std::thread::sleep(duration),
            #[cfg(feature = "tokio")]
            Driver::Tasks => {
                if let Ok(timer) = sleep_until(Instant::now() + duration) {
                    timer.await;
                }
            }
        }
    }

    /// Returns the output of a future that is ready before the deadline.
    #[cfg(feature = "tokio")]
    pub(super) async fn until_deadline<F: Future>(self, future: F) -> io::Result<F::Output> {
        let output = within(self.deadline, future).await;
        output.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

/// Returns a random time, which is longer after each conflict.
fn random_pause(conflicts: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let longest = 50 * u64::from(conflicts.min(20));
    Duration::from_micros(RandomState::new().hash_one(conflicts) % longest)
}
