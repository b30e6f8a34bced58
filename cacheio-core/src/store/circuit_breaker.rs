//! When a server is not asked: the circuit breaker of remote stores, and their backoff.
//!
//! There is no I/O here and nothing waits. A store asks [`Circuit::enter`] before each call and
//! says how the call ended; when one opens the circuit, the store begins to probe the server by
//! itself, beside its callers, and closes the circuit when the server answers. So a server that is
//! down or hangs costs those who were already waiting for it one timeout, and nobody after them
//! anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::{Error, ErrorKind};

/// A circuit breaker, for a store that asks a server.
///
/// It opens when a call fails and the server has answered nobody since that call began: one slow
/// call among others that are answered is no reason, a server that hangs is one after the first
/// timeout. While it is open no call goes out but the store's own probes.
///
/// ```
/// use cacheio::__private::{Circuit, Opens};
///
/// let opens = Opens::default();
/// let circuit = Circuit::new("redis://cache:6379", &opens);
/// let call = circuit.enter()?;
/// let slow = circuit.enter()?;
/// circuit.answered();
/// assert!(!circuit.failed(slow, "it took too long")); // the server lives: the other was answered
///
/// let call = circuit.enter()?;
/// assert!(circuit.failed(call, "connection refused")); // open: whoever gets `true` starts to probe
/// assert!(circuit.enter().is_err());
/// assert_eq!(opens.count(), 1);
/// circuit.close(); // a probe was answered
/// assert!(circuit.enter().is_ok());
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Debug)]
pub struct Circuit {
    server: Box<str>,
    open: AtomicBool,
    answers: AtomicU64,
    opens: Opens,
}

/// How often the circuits of a store were opened: they share it, also those that come and go.
#[derive(Clone, Debug, Default)]
pub struct Opens(Arc<AtomicU64>);

/// A call that was let through: how many answers there were before it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt(u64);

impl Circuit {
    /// A closed circuit. `server` is how log events name it: without a password.
    pub fn new(server: impl Into<Box<str>>, opens: &Opens) -> Self {
        Self {
            server: server.into(),
            open: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            opens: opens.clone(),
        }
    }

    /// Lets a call through, unless the circuit is open.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`], at once, while it is open.
    pub fn enter(&self) -> Result<Attempt, Error> {
        if self.is_open() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{} does not answer; it is asked again by itself until it does",
                    self.server
                ),
            ));
        }
        Ok(Attempt(self.answers.load(Ordering::SeqCst)))
    }

    /// Whether calls are refused.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Says that the server answered a call, if only with an error of its own.
    pub fn answered(&self) {
        self.answers.fetch_add(1, Ordering::SeqCst);
    }

    /// Says that a call timed out or lost its connection; whether that has opened the circuit, so
    /// that this caller has to start the probing.
    #[must_use = "whoever opens the circuit starts the probing"]
    pub fn failed(&self, attempt: Attempt, reason: impl std::fmt::Display) -> bool {
        let opens = self.answers.load(Ordering::SeqCst) == attempt.0
            && !self.open.swap(true, Ordering::SeqCst);
        if opens {
            self.opens.0.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                target: "cacheio",
                server = &*self.server,
                %reason,
                "the server does not answer; calls fail at once until it does",
            );
        }
        opens
    }

    /// Says that a probe was answered: calls go out again.
    pub fn close(&self) {
        self.answered();
        if self.open.swap(false, Ordering::SeqCst) {
            tracing::info!(target: "cacheio", server = &*self.server, "the server answers again");
        }
    }
}

impl Opens {
    /// How often.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long to wait before each probe: 50 ms, then twice as long each time up to 400 ms, each
/// spread by up to a quarter more, so that many clients do not come at once.
///
/// A server that is back is so found within half a second.
///
/// ```
/// use cacheio::__private::Backoff;
/// use std::time::Duration;
///
/// let mut delays = Backoff::new();
/// assert!(delays.next() <= Duration::from_micros(62_500));
/// for _ in 0..10 {
///     assert!(delays.next() <= Duration::from_millis(500));
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    delay: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_millis(400);

    /// From the beginning.
    pub fn new() -> Self {
        Self { delay: Self::FIRST }
    }

    /// The next delay.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(Self::LONGEST);
        delay.mul_f64(1.0 + crate::config::ttl::random_fraction() / 4.0)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_of_many_failures_starts_the_probing() {
        let opens = Opens::default();
        let circuit = Circuit::new("server", &opens);
        let calls: Vec<_> = (0..10).map(|_| circuit.enter().unwrap()).collect();
        let opened = calls
            .into_iter()
            .filter(|call| circuit.failed(*call, "gone"));
        assert_eq!(opened.count(), 1);
        assert_eq!(opens.count(), 1);
        assert_eq!(circuit.enter().unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_failure_that_began_before_the_server_came_back_does_not_open_it_again() {
        let circuit = Circuit::new("server", &Opens::default());
        let (first, late) = (circuit.enter().unwrap(), circuit.enter().unwrap());
        assert!(circuit.failed(first, "gone"));
        circuit.close();
        assert!(!circuit.failed(late, "gone"));
        assert!(!circuit.is_open());
    }
}
