//! Where a server is: at an address, or wherever its sentinels say.

use std::fmt;
use std::time::Duration;

use cacheio_core::Server;
use redis::{Client, ConnectionAddr, RedisError, RedisResult};

use crate::open::{Observers, Opened, client, open, open_as_configured};
use crate::sentinel::{NamedMaster, Sentinels, check_role};

pub(crate) enum Endpoint {
    Server(Client),
    /// A client of the user's, which knows how to connect.
    Client(Client),
    Master(Sentinels),
}

impl Endpoint {
    /// Returns the name of the server in errors and logs.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Server(_) | Self::Client(_) => format!("Redis at {self}"),
            Self::Master(_) => format!("Redis master {self}"),
        }
    }

    /// Returns the host, if it is always the same one.
    pub(crate) fn host(&self) -> Option<&str> {
        match self.address()? {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Returns the server as spans name it: without an address if that can change.
    pub(crate) fn server(&self) -> Server {
        let server = Server::new("redis");
        match self.address() {
            Some(ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) => {
                server.at(host, *port)
            }
            Some(ConnectionAddr::Unix(path)) => server.at_socket(&path.to_string_lossy()),
            _ => server,
        }
    }

    /// Returns whether requests can still be on their way to the server when it has closed the
    /// connection. On a Unix socket they cannot.
    pub(crate) fn is_remote(&self) -> bool {
        !matches!(self.address(), Some(ConnectionAddr::Unix(_)))
    }

    fn address(&self) -> Option<&ConnectionAddr> {
        match self {
            Self::Server(client) | Self::Client(client) => {
                Some(client.get_connection_info().addr())
            }
            Self::Master(_) => None,
        }
    }

    /// Returns an error of the handshake without the message of the server if that repeats the password.
    pub(crate) fn without_password(&self, error: RedisError) -> RedisError {
        let settings = match self {
            Self::Server(client) | Self::Client(client) => {
                client.get_connection_info().redis_settings()
            }
            Self::Master(sentinels) => &sentinels.settings,
        };
        // The text of these errors is fixed, and may contain a short password by chance.
        if matches!(error.code(), Some("WRONGPASS" | "NOAUTH")) {
            return error;
        }
        match settings.password() {
            Some(password) if error.to_string().contains(password) => RedisError::from((
                error.kind(),
                "the server's message repeats the password and is not shown",
            )),
            _ => error,
        }
    }

    /// Opens a connection. `timeout` only divides the time between the sentinels, and between the
    /// handshakes; the caller enforces it.
    pub(crate) async fn connect(
        &self,
        timeout: Duration,
        observers: Observers<'_>,
    ) -> RedisResult<Opened> {
        match self {
            Self::Server(client) => open(client, timeout, observers).await,
            Self::Client(client) => open_as_configured(client).await,
            Self::Master(sentinels) => {
                let untracked = Observers {
                    tracker: None,
                    ..observers
                };
                let address = sentinels.find_master(timeout, untracked).await?;
                let client = client(address.clone(), sentinels.settings.clone())?;
                let opened = check_role(open(&client, timeout, observers).await?).await?;
                if let Some(link) = &opened.link {
                    link.set_named_master(NamedMaster::new(sentinels, address));
                }
                Ok(opened)
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(client) | Self::Client(client) => {
                client.get_connection_info().addr().fmt(f)
            }
            Self::Master(sentinels) => sentinels.fmt(f),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
