//! The connection pool of one server: keeps idle connections, and limits how many are in use.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::stream::time_left;

#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    max_connections: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The idle connections, each with the time at which it was last used; the latest is last.
    idle: Vec<(Connection, Instant)>,
    in_use: usize,
    waiters: usize,
}

/// A firewall or a load balancer may have dropped a connection that was idle for longer than this.
const IDLE_MAX: Duration = Duration::from_secs(90);

impl Pool {
    pub(super) fn new(max_connections: usize) -> Self {
        Self {
            state: Mutex::default(),
            freed: Condvar::new(),
            max_connections,
        }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Waits for a permit. Returns it with the idle connection that was used last, if there is one.
    pub(super) fn acquire(
        &self,
        deadline: Instant,
    ) -> io::Result<(Permit<'_>, Option<Connection>)> {
        let mut state = self.state();
        while state.in_use >= self.max_connections {
            let left = time_left(deadline)?;
            state.waiters += 1;
            let waited = self.freed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
        state.in_use += 1;
        let permit = Permit(self);
        // Connections are checked and closed without the lock: both are system calls.
        loop {
            let Some((connection, since)) = state.idle.pop() else {
                return Ok((permit, None));
            };
            if since.elapsed() > IDLE_MAX {
                // The others have been idle for even longer.
                let expired = std::mem::take(&mut state.idle);
                drop(state);
                drop(expired);
                return Ok((permit, None));
            }
            drop(state);
            if connection.is_quiet() {
                return Ok((permit, Some(connection)));
            }
            drop(connection);
            state = self.state();
        }
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

impl Permit<'_> {
    /// Puts a connection into the pool if it is reusable. Closes the oldest one if it was idle for too
    /// long.
    pub(super) fn give_back(self, connection: Connection) {
        if !connection.is_reusable() {
            return;
        }
        let now = Instant::now();
        let mut state = self.0.state();
        state.idle.push((connection, now));
        let is_expired = |since: &Instant| now.saturating_duration_since(*since) > IDLE_MAX;
        let expired = state
            .idle
            .first()
            .is_some_and(|(_, since)| is_expired(since));
        let expired = expired.then(|| state.idle.remove(0));
        drop(state);
        drop(expired);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_use -= 1;
        if state.waiters > 0 {
            drop(state);
            self.0.freed.notify_one();
        }
    }
}
