//! The circuit breaker of remote stores, and the backoff of its probes.
//!
//! There is no I/O here. A store calls [`Circuit::enter`] before each call and reports the result. When
//! a failure opens the circuit, the store probes the server in the background, and closes the circuit
//! on the first response. So a server that is down or hangs costs the calls in progress one timeout,
//! and later calls no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{TEXT_SHOWN, shortened};
use crate::{Error, ErrorKind};

/// A circuit breaker for the calls to one server.
///
/// It opens when a call fails and the server has not responded to any call since that call began. So
/// one slow call does not open it, and the first timeout of a server that hangs does. While it is open,
/// only probes are sent.
///
/// ```
/// use cacheio::__private::{Circuit, Opens};
///
/// let opens = Opens::default();
/// let circuit = Circuit::new("redis://cache:6379", &opens);
/// let call = circuit.enter()?;
/// let slow = circuit.enter()?;
/// circuit.responded();
/// assert!(!circuit.failed(slow, "timeout")); // the server has responded to the other call
///
/// let call = circuit.enter()?;
/// assert!(circuit.failed(call, "connection refused")); // opened: this caller starts the probes
/// assert!(circuit.enter().is_err());
/// assert_eq!(opens.count(), 1);
/// circuit.close(); // the server has responded to a probe
/// assert!(circuit.enter().is_ok());
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Debug)]
pub struct Circuit {
    server: Box<str>,
    open: AtomicBool,
    responses: AtomicU64,
    opens: Opens,
}

/// The number of times that circuits opened. All circuits of a store share it.
#[derive(Clone, Debug, Default)]
pub struct Opens(Arc<AtomicU64>);

/// A call that was allowed, with the number of responses before it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt(u64);

impl Circuit {
    /// Creates a closed circuit. `server` is its name in errors and logs, without a password.
    pub fn new(server: impl Into<Box<str>>, opens: &Opens) -> Self {
        Self {
            server: server.into(),
            open: AtomicBool::new(false),
            responses: AtomicU64::new(0),
            opens: opens.clone(),
        }
    }

    /// Allows a call, unless the circuit is open.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unavailable`] while the circuit is open.
    pub fn enter(&self) -> Result<Attempt, Error> {
        if self.is_open() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{} does not respond; calls fail until a probe in the background succeeds",
                    self.server
                ),
            ));
        }
        Ok(Attempt(self.responses.load(Ordering::SeqCst)))
    }

    /// Returns whether calls are refused.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Records that the server responded to a call, also with an error.
    pub fn responded(&self) {
        self.responses.fetch_add(1, Ordering::SeqCst);
    }

    /// Records that a call timed out or lost its connection. Returns whether this opened the circuit:
    /// then the caller starts the probes.
    #[must_use = "the caller that opens the circuit starts the probes"]
    pub fn failed(&self, attempt: Attempt, reason: impl std::fmt::Display) -> bool {
        let opens = self.responses.load(Ordering::SeqCst) == attempt.0
            && !self.open.swap(true, Ordering::SeqCst);
        if opens {
            self.opens.0.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                target: "cacheio",
                server = &*self.server,
                reason = shortened(reason, TEXT_SHOWN),
                "server does not respond; circuit opened",
            );
        }
        opens
    }

    /// Records that the server responded to a probe, and allows calls again.
    pub fn close(&self) {
        self.responded();
        if self.open.swap(false, Ordering::SeqCst) {
            tracing::info!(target: "cacheio", server = &*self.server, "server responds again; circuit closed");
        }
    }
}

impl Opens {
    /// Returns the number of times that circuits opened.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The delays between probes: 50 ms, then twice the last one up to 300 ms, each with up to a quarter of
/// random jitter, so that clients do not probe at the same time.
///
/// A client notices that a server is back within half a second.
///
/// ```
/// use cacheio::__private::Backoff;
/// use std::time::Duration;
///
/// let mut delays = Backoff::new();
/// assert!(delays.next() <= Duration::from_micros(62_500));
/// for _ in 0..10 {
///     assert!(delays.next() <= Duration::from_millis(375));
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    delay: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_millis(300);

    /// Creates a backoff with the first delay.
    pub fn new() -> Self {
        Self { delay: Self::FIRST }
    }

    /// Returns the next delay.
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
    fn only_one_of_many_failures_opens_the_circuit() {
        let opens = Opens::default();
        let circuit = Circuit::new("server", &opens);
        let calls: Vec<_> = (0..10).map(|_| circuit.enter().unwrap()).collect();
        let opened = calls
            .into_iter()
            .filter(|call| circuit.failed(*call, "connection reset"));
        assert_eq!(opened.count(), 1);
        assert_eq!(opens.count(), 1);
        assert_eq!(circuit.enter().unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_call_from_before_the_recovery_does_not_open_the_circuit_again() {
        let circuit = Circuit::new("server", &Opens::default());
        let (first, late) = (circuit.enter().unwrap(), circuit.enter().unwrap());
        assert!(circuit.failed(first, "connection reset"));
        circuit.close();
        assert!(!circuit.failed(late, "connection reset"));
        assert!(!circuit.is_open());
    }
}
