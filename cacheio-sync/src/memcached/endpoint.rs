//! What is needed to reach a server: its address, credentials and TLS. Connecting and login.

use std::fmt;
use std::time::Instant;

use super::address::Address;
use super::connection::Connection;
use super::failure::Failure;
use super::protocol::Request;
use super::stream::Stream;
use crate::{Error, ErrorKind};

#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) credentials: Option<Credentials>,
    #[cfg(feature = "memcached-tls")]
    pub(super) tls: Option<super::tls::TlsConfig>,
}

#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl Endpoint {
    /// Opens a connection, and logs in if there are credentials, which takes one round trip.
    pub(super) fn connect(&self, deadline: Instant) -> Result<Connection, Failure> {
        let stream = Stream::connect(&self.address, deadline)?;
        #[cfg(feature = "memcached-tls")]
        let stream = match &self.tls {
            Some(tls) => stream.with_tls(tls, &self.address, deadline)?,
            None => stream,
        };
        let mut connection = Connection::new(stream);
        if let Some(credentials) = &self.credentials {
            self.log_in(&mut connection, credentials, deadline)?;
        }
        Ok(connection)
    }

    /// Logs in the way memcached's text protocols do: by a `set` of any key.
    fn log_in(
        &self,
        connection: &mut Connection,
        Credentials { user, password }: &Credentials,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let value = format!("{user} {password}");
        let request = Request::line(&format!("set auth 0 0 {}\r\n{value}", value.len()));
        connection.write(request.bytes(), deadline)?;
        if connection.read_line(deadline, |line| line == b"STORED")? {
            return Ok(());
        }
        // The response is not shown, since it may repeat the password.
        Err(Failure::Other(Error::new(
            ErrorKind::Server,
            format!("{self} rejected the user name or the password; check the credentials"),
        )))
    }
}

/// The name of the server in errors and logs.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memcached at {}", self.address)
    }
}
