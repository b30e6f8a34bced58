//! Where a server is: at an address, or wherever its sentinels say.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Client, ConnectionAddr, ErrorKind, ProtocolVersion, RedisError, RedisResult};

use crate::open::{Opened, client, open};
use crate::sentinel::{Sentinels, check_role};

pub(crate) struct Endpoint {
    location: Location,
    /// Whether the server was found not to speak RESP3.
    resp2_only: AtomicBool,
}

enum Location {
    Server(Client),
    Master(Sentinels),
}

impl Endpoint {
    pub(crate) fn server(client: Client) -> Self {
        Self::new(Location::Server(client))
    }

    pub(crate) fn master(sentinels: Sentinels) -> Self {
        Self::new(Location::Master(sentinels))
    }

    fn new(location: Location) -> Self {
        Self {
            location,
            resp2_only: AtomicBool::new(false),
        }
    }

    /// Returns the name of the server in errors and logs.
    pub(crate) fn name(&self) -> String {
        match &self.location {
            Location::Server(_) => format!("Redis at {self}"),
            Location::Master(_) => format!("Redis master {self}"),
        }
    }

    /// Returns the host, if it is always the same one.
    pub(crate) fn host(&self) -> Option<&str> {
        let Location::Server(client) = &self.location else {
            return None;
        };
        match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Returns whether the next connection may lead to another server.
    pub(crate) fn can_move(&self) -> bool {
        matches!(self.location, Location::Master(_))
    }

    /// Returns whether requests can still be on their way to the server when it has closed the
    /// connection. On a Unix socket they cannot.
    pub(crate) fn is_remote(&self) -> bool {
        match &self.location {
            Location::Server(client) => {
                !matches!(client.get_connection_info().addr(), ConnectionAddr::Unix(_))
            }
            Location::Master(_) => true,
        }
    }

    /// Returns an error of the handshake without the message of the server if that repeats the password.
    pub(crate) fn without_password(&self, error: RedisError) -> RedisError {
        let settings = match &self.location {
            Location::Server(client) => client.get_connection_info().redis_settings(),
            Location::Master(sentinels) => &sentinels.settings,
        };
        match settings.password() {
            Some(password) if error.to_string().contains(password) => RedisError::from((
                error.kind(),
                "the server's message repeats the password and is not shown",
            )),
            _ => error,
        }
    }

    /// Opens a connection. `timeout` only divides the time between the sentinels; the caller
    /// enforces it.
    pub(crate) async fn connect(&self, timeout: Duration) -> RedisResult<Opened> {
        match &self.location {
            Location::Server(client) => self.connect_to(client).await,
            Location::Master(sentinels) => {
                let address = sentinels.find_master(timeout).await?;
                let client = client(address, sentinels.settings.clone())?;
                check_role(self.connect_to(&client).await?).await
            }
        }
    }

    async fn connect_to(&self, client: &Client) -> RedisResult<Opened> {
        if !self.resp2_only.load(Ordering::Relaxed) {
            match open(client.clone()).await {
                Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                    self.resp2_only.store(true, Ordering::Relaxed);
                }
                opened => return opened,
            }
        }
        let info = client.get_connection_info().clone();
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP2);
        open(Client::open(info.set_redis_settings(settings))?).await
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Server(client) => client.get_connection_info().addr().fmt(f),
            Location::Master(sentinels) => sentinels.fmt(f),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
