//! The connections to one server.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Connection, Failure};

/// The connections to one server: those at rest, and how many are in use.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    size: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The one used last is taken first.
    idle: Vec<(Connection, Instant)>,
    in_use: usize,
    waiting: usize,
}

/// One not used for so long may have been forgotten by what stands between.
const IDLE_MAX: Duration = Duration::from_secs(90);

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self {
            state: Mutex::default(),
            freed: Condvar::new(),
            size,
        }
    }

    /// A place for a connection, by `deadline`, and a connection if one is at rest.
    pub(super) fn take(
        &self,
        deadline: Instant,
    ) -> Result<(Place<'_>, Option<Connection>), Failure> {
        let mut state = self.state();
        while state.in_use >= self.size {
            let left = super::stream::left(deadline)?;
            state.waiting += 1;
            let waited = self.freed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.in_use += 1;
        let place = Place(self);
        loop {
            let Some((connection, since)) = state.idle.pop() else {
                return Ok((place, None));
            };
            if since.elapsed() > IDLE_MAX {
                // The others have been at rest for longer.
                let old = std::mem::take(&mut state.idle);
                drop(state);
                drop(old);
                return Ok((place, None));
            }
            drop(state);
            if connection.is_quiet() {
                return Ok((place, Some(connection)));
            }
            drop(connection);
            state = self.state();
        }
    }

    /// Hangs up on all that are at rest.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        drop(idle);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have a connection.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Pool);

impl Place<'_> {
    /// Lays a connection to rest, if it can be used again.
    pub(super) fn give_back(self, connection: Connection) {
        if !connection.is_fit() {
            return;
        }
        let now = Instant::now();
        let mut state = self.0.state();
        state.idle.push((connection, now));
        let is_old = |since: &Instant| now.saturating_duration_since(*since) > IDLE_MAX;
        let oldest = state.idle.first().is_some_and(|(_, since)| is_old(since));
        let old = oldest.then(|| state.idle.remove(0));
        drop(state);
        drop(old);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_use -= 1;
        if state.waiting > 0 {
            drop(state);
            self.0.freed.notify_one();
        }
    }
}
