//! What a Memcached store is built with.

use std::fmt;
#[cfg(any(unix, feature = "memcached-tls"))]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::Opens;
use memcache::exp::Rendezvous;

use super::address::Address;
use super::server::{Credentials, Server, Target};
use super::{Cluster, Memcached};
use crate::{Error, ErrorKind, Result};

/// Builds a [`Memcached`].
///
/// # Defaults
///
/// - servers: none; one is needed
/// - `timeout`: a second
/// - `pool_size`: 16 connections a server
/// - `credentials`: none
#[must_use]
#[derive(Clone)]
pub struct MemcachedBuilder {
    servers: Vec<Place>,
    timeout: Duration,
    pool_size: usize,
    credentials: Option<Credentials>,
    #[cfg(feature = "memcached-tls")]
    tls: Option<super::tls::TlsSettings>,
}

/// A server as it was named.
#[derive(Clone, Debug)]
enum Place {
    Text(String),
    #[cfg(unix)]
    Path(PathBuf),
}

impl MemcachedBuilder {
    /// Adds a server: `"host"`, `"host:port"` or `"[::1]:port"`; the port is 11211 unless it is
    /// said. The name is looked up whenever a connection is made.
    ///
    /// Of several servers, each key has one, found by rendezvous hashing over the names as they
    /// are given here: where one is added or taken away, only its keys move. The order does not
    /// matter.
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.servers.push(Place::Text(address.into()));
        self
    }

    /// Adds a server that listens at a unix socket.
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.servers.push(Place::Path(path.into()));
        self
    }

    /// How long an operation may take in all: connecting, waiting for a connection, and trying
    /// again included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many connections there are to a server at most. Callers beyond that wait for one,
    /// within their timeout.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// The user name and password, for servers with an `--auth-file` (`-Y`).
    ///
    /// SASL is not spoken: memcached has it in its old binary protocol only.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials {
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// Speaks TLS, and trusts the certificates that the system trusts.
    #[cfg(feature = "memcached-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "memcached-tls")))]
    pub fn tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    /// Speaks TLS, and trusts the certificates in this PEM file alone.
    #[cfg(feature = "memcached-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "memcached-tls")))]
    pub fn tls_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.get_or_insert_default().ca = Some(path.into());
        self
    }

    /// Speaks TLS, and shows the server this certificate (with its chain) and key, both PEM files.
    #[cfg(feature = "memcached-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "memcached-tls")))]
    pub fn tls_identity(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let identity = Some((certificate.into(), key.into()));
        self.tls.get_or_insert_default().identity = identity;
        self
    }

    /// The store. No connection is made: servers may be absent now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is no server, an address is none, one stands twice, the
    /// timeout or the pool is nothing, or a certificate cannot be read.
    pub fn build(self) -> Result<Memcached> {
        if self.servers.is_empty() {
            return Err(config(
                "a Memcached store needs a server, such as \"127.0.0.1:11211\"",
            ));
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err(config(
                "the timeout of a Memcached store is more than nothing and at most a day",
            ));
        }
        if self.pool_size == 0 {
            return Err(config(
                "a Memcached store needs at least one connection: the pool has 0",
            ));
        }
        if let Some(Credentials { user, .. }) = &self.credentials
            && (user.is_empty() || user.contains(char::is_whitespace))
        {
            return Err(config("a user name is not empty and has no spaces"));
        }
        #[cfg(feature = "memcached-tls")]
        let tls = self.tls.map(|settings| settings.load()).transpose()?;
        let opens = Opens::default();
        let mut servers = Vec::with_capacity(self.servers.len());
        let mut names = Vec::with_capacity(self.servers.len());
        for place in self.servers {
            let address = match place {
                Place::Text(text) => Address::parse(&text)?,
                #[cfg(unix)]
                Place::Path(path) => Address::Unix(path),
            };
            let name = address.to_string();
            if names.contains(&name) {
                return Err(config(format!("the server {name} stands there twice")));
            }
            #[cfg(all(unix, feature = "memcached-tls"))]
            if tls.is_some() && matches!(address, Address::Unix(_)) {
                return Err(config("a unix socket needs no TLS"));
            }
            names.push(name);
            let target = Target {
                address,
                credentials: self.credentials.clone(),
                #[cfg(feature = "memcached-tls")]
                tls: tls.clone(),
            };
            let server = Server::new(target, self.timeout, self.pool_size, &opens);
            servers.push(server);
        }
        Ok(Memcached(Arc::new(Cluster {
            servers,
            names,
            router: Rendezvous::new(),
            timeout: self.timeout,
            opens,
            shared_state: Arc::default(),
            // Not before the store itself has given up: what it then knows spares the next caller.
            #[cfg(feature = "tokio")]
            spawner: cacheio_core::__private::Spawner::bounded(
                self.timeout + Duration::from_millis(25),
            ),
        })))
    }
}

const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60 * 24);

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl Default for MemcachedBuilder {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(1),
            pool_size: 16,
            credentials: None,
            #[cfg(feature = "memcached-tls")]
            tls: None,
        }
    }
}

impl fmt::Debug for MemcachedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedBuilder")
            .field("servers", &self.servers)
            .field("timeout", &self.timeout)
            .field("pool_size", &self.pool_size)
            .field("credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}
