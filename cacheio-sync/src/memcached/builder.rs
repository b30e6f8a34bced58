//! `MemcachedBuilder`: the settings of a Memcached store, and their validation.

use std::fmt;
#[cfg(any(unix, feature = "memcached-tls"))]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::Opens;

use super::Memcached;
use super::address::Address;
use super::claims::Claims;
use super::cluster::Cluster;
use super::endpoint::{Credentials, Endpoint};
use super::resolver::Resolver;
use super::router::Router;
use super::server::Server;
use crate::{Error, ErrorKind, Result};

const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60 * 24);

/// Builds a [`Memcached`] store.
///
/// # Defaults
///
/// - servers: none; at least one is required
/// - `timeout`: 1 second
/// - `connections`: 16 to each server
/// - `credentials`: none
/// - TLS: off
///
/// ```
/// use cacheio::Memcached;
/// use std::time::Duration;
///
/// let store = Memcached::builder()
///     .server("10.0.0.7")
///     .server("10.0.0.8:11212")
///     .timeout(Duration::from_millis(200))
///     .connections(8)
///     .build()?;
/// # Ok::<(), cacheio::Error>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
#[derive(Clone)]
pub struct MemcachedBuilder {
    servers: Vec<ServerAddress>,
    timeout: Duration,
    connections: usize,
    credentials: Option<Credentials>,
    #[cfg(feature = "memcached-tls")]
    tls: Option<super::tls::TlsSettings>,
}

/// A server address as the caller gave it, which `build` parses.
#[derive(Clone)]
enum ServerAddress {
    Text(String),
    #[cfg(unix)]
    Path(PathBuf),
}

impl MemcachedBuilder {
    /// Adds a server: `"host"`, `"host:port"` or `"[::1]:port"`. The port is 11211 by default. The
    /// host name is looked up each time a connection is opened.
    ///
    /// With several servers, each key belongs to one of them, chosen by rendezvous hashing over the
    /// addresses as they are given here. Adding or removing a server moves only the keys of this
    /// server. The order of the servers does not matter. The hash is fixed: processes on any platform
    /// find a key on the same server.
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let store = Memcached::builder()
    ///     .server("10.0.0.7")
    ///     .server("[::1]:11212")
    ///     .build()?;
    /// assert!(format!("{store:?}").contains("[10.0.0.7:11211, [::1]:11212]"));
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.servers.push(ServerAddress::Text(address.into()));
        self
    }

    /// Adds a server that listens on a Unix socket.
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let store = Memcached::builder().unix_socket("/run/memcached.sock").build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.servers.push(ServerAddress::Path(path.into()));
        self
    }

    /// Sets the maximum duration of an operation, including connecting, waiting for a connection,
    /// and retrying. At most a day.
    ///
    /// ```
    /// use cacheio::Memcached;
    /// use std::time::Duration;
    ///
    /// let store = Memcached::builder()
    ///     .server("10.0.0.7")
    ///     .timeout(Duration::from_millis(200))
    ///     .build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the maximum number of connections to each server. Further callers wait for a free one,
    /// within their timeout.
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let store = Memcached::builder().server("10.0.0.7").connections(8).build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets the user name and password, for servers with an `--auth-file` (`-Y`).
    ///
    /// SASL is not supported, since memcached has it only in its old binary protocol.
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let store = Memcached::builder()
    ///     .server("10.0.0.7")
    ///     .credentials("user", "secret")
    ///     .build()?;
    /// assert!(!format!("{store:?}").contains("secret"));
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials {
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// Enables TLS, and trusts the certificates that the system trusts.
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let builder = Memcached::builder().server("cache.example.com").tls();
    /// ```
    #[cfg(feature = "memcached-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "memcached-tls")))]
    pub fn tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    /// Enables TLS, and trusts only the certificates in this PEM file. [`build`](Self::build) reads
    /// it.
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let builder = Memcached::builder()
    ///     .server("cache.example.com")
    ///     .tls_ca("/etc/ssl/cache-ca.pem");
    /// ```
    #[cfg(feature = "memcached-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "memcached-tls")))]
    pub fn tls_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.get_or_insert_default().ca = Some(path.into());
        self
    }

    /// Enables TLS, and presents this certificate (with its chain) to the server. Certificate and
    /// key are PEM files. [`build`](Self::build) reads them.
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let builder = Memcached::builder()
    ///     .server("cache.example.com")
    ///     .tls_identity("/etc/ssl/client.pem", "/etc/ssl/client.key");
    /// ```
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

    /// Builds the store. Opens no connection, so the servers may be down.
    ///
    /// ```
    /// use cacheio::{ErrorKind, Memcached};
    ///
    /// let store = Memcached::builder().server("10.0.0.7").build()?;
    ///
    /// let error = Memcached::builder().build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is no server, an address is not valid or given twice, the
    /// timeout or the number of connections is zero, the timeout is longer than a day, the user name
    /// is empty or has spaces, a Unix socket is combined with TLS, or a certificate cannot be read.
    pub fn build(self) -> Result<Memcached> {
        self.validate()?;
        #[cfg(feature = "memcached-tls")]
        let tls = self.tls.map(|files| files.load()).transpose()?;
        let opens = Opens::default();
        let mut servers = Vec::with_capacity(self.servers.len());
        let mut names = Vec::with_capacity(self.servers.len());
        for address in self.servers {
            let address = address.parse()?;
            let name = address.to_string();
            if names.contains(&name) {
                return Err(config_error(format!("duplicate server {name}")));
            }
            names.push(name);
            let endpoint = Endpoint {
                address,
                resolver: Resolver::default(),
                credentials: self.credentials.clone(),
                #[cfg(feature = "memcached-tls")]
                tls: tls.clone(),
            };
            let server = Server::new(endpoint, self.timeout, self.connections, &opens);
            servers.push(server);
        }
        Ok(Memcached(Arc::new(Cluster {
            claims: Claims::new(servers.len()),
            servers,
            router: Router::new(names.iter().map(String::as_str)),
            timeout: self.timeout,
            opens,
            shared_state: Arc::default(),
        })))
    }

    fn validate(&self) -> Result<()> {
        if self.servers.is_empty() {
            return Err(config_error(
                "a Memcached store needs a server, for example `127.0.0.1:11211`",
            ));
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err(config_error(
                "`timeout` must be greater than zero and at most a day",
            ));
        }
        if self.connections == 0 {
            return Err(config_error("`connections` must be greater than zero"));
        }
        if let Some(Credentials { user, .. }) = &self.credentials
            && (user.is_empty() || user.contains(char::is_whitespace))
        {
            return Err(config_error(
                "the user name must not be empty or contain spaces",
            ));
        }
        #[cfg(all(unix, feature = "memcached-tls"))]
        if self.tls.is_some()
            && (self.servers.iter()).any(|server| matches!(server, ServerAddress::Path(_)))
        {
            return Err(config_error(
                "a Unix socket cannot use TLS; remove one of the two",
            ));
        }
        Ok(())
    }
}

impl ServerAddress {
    fn parse(&self) -> Result<Address> {
        match self {
            Self::Text(text) => Address::parse(text),
            #[cfg(unix)]
            Self::Path(path) => Ok(Address::Unix(path.clone())),
        }
    }
}

/// Shows only a valid address: any other text may contain a password.
impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok(address) => write!(f, "{address}"),
            Err(_) => f.write_str("invalid"),
        }
    }
}

pub(super) fn config_error(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl Default for MemcachedBuilder {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(1),
            connections: 16,
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
            .field("connections", &self.connections)
            .field("credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}
