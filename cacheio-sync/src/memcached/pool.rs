//! The connection pool of one server: keeps idle connections, and limits how many there are.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_listener::Event;

use super::call::{Call, Driver};
use super::connection::Connection;

#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    /// Notified when a permit is free. A caller that waits is in no other queue, and leaves this one
    /// when it stops waiting.
    freed: Event,
    max_connections: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The idle connections, each with the time at which it was last used; the latest is last.
    idle: Vec<(Connection, Instant)>,
    in_use: usize,
}

/// A firewall or a load balancer may have dropped a connection that was idle for longer than this.
const IDLE_MAX: Duration = Duration::from_secs(90);

impl Pool {
    pub(super) fn new(max_connections: usize) -> Self {
        Self {
            state: Mutex::default(),
            freed: Event::new(),
            max_connections,
        }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self, call: Call) -> io::Result<Permit<'_>> {
        loop {
            if let Some(permit) = self.try_acquire() {
                return Ok(permit);
            }
            let listener = self.freed.listen();
            if let Some(permit) = self.try_acquire() {
                return Ok(permit);
            }
            call.wait(listener).await?;
        }
    }

    fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut state = self.state();
        (state.in_use < self.max_connections).then(|| {
            state.in_use += 1;
            Permit(self)
        })
    }

    /// Returns the idle connection that a caller may use and that was used last.
    pub(super) fn take_idle(&self, driver: Driver) -> Option<Connection> {
        // Connections are checked and closed without the lock: both are system calls.
        loop {
            let mut state = self.state();
            let suitable = state.idle.iter().rposition(|(idle, _)| idle.suits(driver));
            let (connection, since) = state.idle.remove(suitable?);
            drop(state);
            if since.elapsed() <= IDLE_MAX && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Closes the oldest idle connection if a new one would be one too many.
    pub(super) fn make_room(&self) {
        let mut state = self.state();
        // The new one is among those in use, as its caller has a permit.
        let is_full = state.in_use + state.idle.len() > self.max_connections;
        let oldest = (is_full && !state.idle.is_empty()).then(|| state.idle.remove(0));
        drop(state);
        drop(oldest);
    }

    /// Keeps a connection for other calls. Closes the oldest one if it was idle for too long.
    pub(super) fn put_idle(&self, connection: Connection) {
        let now = Instant::now();
        let mut state = self.state();
        state.idle.push((connection, now));
        let expired = (state.idle)
            .first()
            .is_some_and(|(_, since)| now.saturating_duration_since(*since) > IDLE_MAX);
        let expired = expired.then(|| state.idle.remove(0));
        drop(state);
        drop(expired);
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        drop(idle);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use one connection.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Pool);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state().in_use -= 1;
        self.0.freed.notify(1);
    }
}
