//! The servers of a store: which of them holds a key, and how to run a command there.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tokio")]
use cacheio_core::__private::Spawner;
use cacheio_core::__private::{Opens, SharedState};
use memcache::exp::{MetaOp, ReturnCode};

use super::exptime::exptime;
use super::protocol::{Request, Response};
use super::retry::Retry;
use super::router::Router;
use super::server::Server;
use crate::store::{Entry, Key, Payload};
use crate::{Error, ErrorKind, Result};

pub(super) struct Cluster {
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) router: Router,
    pub(super) timeout: Duration,
    pub(super) opens: Opens,
    pub(super) shared_state: Arc<SharedState>,
    #[cfg(feature = "tokio")]
    pub(super) spawner: Spawner,
}

/// Whether a write replaces a live entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteMode {
    Set,
    Add,
}

impl Cluster {
    /// Returns the deadline of an operation that starts now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Returns the index of the server that holds a key: the same in every process.
    pub(super) fn route(&self, key: &Key<'_>) -> usize {
        self.router.route(key.text())
    }

    pub(super) fn server(&self, key: &Key<'_>) -> &Arc<Server> {
        &self.servers[self.route(key)]
    }

    /// Runs one command on the server of a key, and returns what `read` makes of the response:
    /// `None` if the response does not fit the command.
    pub(super) fn execute<T>(
        &self,
        key: &Key<'_>,
        retry: Retry,
        request: &Request,
        read: impl FnOnce(&mut Response) -> Option<T>,
    ) -> Result<T> {
        let server = self.server(key);
        let response = server.execute(retry, request, server.deadline());
        let mut response = response.map_err(|failure| server.error(failure))?;
        read(&mut response).ok_or_else(|| server.unexpected(&response))
    }

    /// Writes a value, and returns whether it was stored.
    pub(super) fn write(
        &self,
        key: &Key<'_>,
        value: &[u8],
        ttl: Option<Duration>,
        mode: WriteMode,
    ) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + value.len() + 64);
        let command = request.command(MetaOp::Set, key.text())?.length(value)?;
        let (command, retry) = match mode {
            WriteMode::Set => (command, Retry::Idempotent),
            WriteMode::Add => (command.flag("ME"), Retry::Never),
        };
        command.number('T', exptime(ttl)).value(value);
        self.execute(key, retry, &request, |response| {
            response.succeeded(ReturnCode::Ns)
        })
    }

    /// Sends a no-op to every server, and returns the first error.
    pub(super) fn ping(&self) -> Result<()> {
        let mut request = Request::default();
        request.noop();
        let mut result = Ok(());
        for server in &self.servers {
            let response = server.execute(Retry::Read, &request, server.deadline());
            let pong = response.map(drop).map_err(|failure| server.error(failure));
            result = result.and(pong);
        }
        result
    }
}

/// Returns the bytes that are stored for an entry.
pub(super) fn into_bytes(entry: Entry) -> Result<Vec<u8>> {
    match entry.payload {
        Payload::Bytes(bytes) => Ok(bytes),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "a Memcached store holds bytes, not objects; encode the value first",
        )),
    }
}
