//! What is needed to reach a server: its address, credentials and TLS. Connecting and login.

use std::fmt;

use super::address::Address;
use super::call::Call;
use super::connection::Connection;
use super::failure::Failure;
use super::protocol::Request;
use super::resolver::Resolver;
use super::socket::Socket;
use super::stream::Stream;
use crate::{Error, ErrorKind};

pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) resolver: Resolver,
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
    pub(super) async fn connect(&self, call: Call) -> Result<Connection, Failure> {
        let mut connection = Connection::new(self.open_stream(call).await?);
        if let Some(credentials) = &self.credentials {
            self.log_in(&mut connection, credentials, call).await?;
        }
        Ok(connection)
    }

    async fn open_stream(&self, call: Call) -> std::io::Result<Stream> {
        #[cfg_attr(not(feature = "memcached-tls"), expect(unused_mut))]
        let mut socket = Socket::connect(&self.address, &self.resolver, call).await?;
        Ok(Stream {
            #[cfg(feature = "memcached-tls")]
            session: match (&self.tls, &self.address) {
                (Some(tls), Address::Tcp { host, .. }) => {
                    Some(Box::new(tls.handshake(host, &mut socket, call).await?))
                }
                // The builder refuses TLS over a Unix socket.
                _ => None,
            },
            socket,
        })
    }

    /// Logs in the way memcached's text protocols do: by a `set` of any key.
    async fn log_in(
        &self,
        connection: &mut Connection,
        Credentials { user, password }: &Credentials,
        call: Call,
    ) -> Result<(), Failure> {
        let value = format!("{user} {password}");
        let request = Request::line(&format!("set auth 0 0 {}\r\n{value}", value.len()));
        connection.write(request.bytes(), call).await?;
        let stored = connection.read(call, |decoder| decoder.line(|line| line == b"STORED"));
        if stored.await? {
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
