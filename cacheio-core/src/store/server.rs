//! The server of a store, as tracing spans name it.

use std::borrow::Cow;
use std::sync::Arc;

/// The server of a store, for the tracing spans of its operations: see
/// [`Store::server`](crate::Store::server).
///
/// ```
/// use cacheio::store::Server;
///
/// let server = Server::new("redis").at("10.0.0.7", 6379);
/// let local = Server::new("redis").at_socket("/run/redis.sock");
/// // Several servers, or one whose address changes:
/// let cluster = Server::new("redis");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub(crate) system: Cow<'static, str>,
    pub(crate) address: Option<Arc<str>>,
    pub(crate) port: Option<u16>,
}

impl Server {
    /// Names a database system: the value of OpenTelemetry's `db.system.name`, such as `redis`.
    pub fn new(system: impl Into<Cow<'static, str>>) -> Self {
        Self {
            system: system.into(),
            address: None,
            port: None,
        }
    }

    /// Sets the host and the port.
    #[must_use]
    pub fn at(mut self, host: &str, port: u16) -> Self {
        self.address = Some(host.into());
        self.port = Some(port);
        self
    }

    /// Sets the path of a Unix socket.
    #[must_use]
    pub fn at_socket(mut self, path: &str) -> Self {
        self.address = Some(path.into());
        self.port = None;
        self
    }
}
