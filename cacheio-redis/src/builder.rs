//! Creates [`Redis`] stores: from a URL, a client, or by [`RedisBuilder`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{CacheUrl, Opens, REDIS_SCHEMES, SharedState};
use cacheio_core::Result;
use redis::{Client, ConnectionAddr, RedisError};

use crate::batching::Batcher;
use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::failure::config_error;
use crate::open::client;
use crate::redis::Redis;
use crate::sentinel::Sentinels;
use crate::server::Server;
use crate::topology::Topology;
use crate::tracking::Tracker;
use crate::url::{Deployment, MAX_CONNECTIONS, PARAMETERS, StoreConfig};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest timeout: a longer one could exceed the range of the clock.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Redis {
    /// Creates a store from a URL. It does not connect yet.
    ///
    /// | URL | server |
    /// | --- | --- |
    /// | `redis://user:password@host:6379/0` | one server; everything but the host is optional |
    /// | `rediss://host` | the same over TLS (feature `redis-tls`) |
    /// | `redis+unix:///path/to/socket?db=0` | a server on a Unix socket; also `redis+unix://user:password@/path` |
    /// | `redis-sentinel://host:26379,host:26379/master/0` | the master of this name that the sentinels know |
    /// | `redis-cluster://host:6379,host:6379` | a cluster, by some of its nodes |
    ///
    /// `valkey://` and `valkeys://` mean the same as `redis://` and `rediss://`. Percent-encode
    /// the characters `/?#@:%` in a user name or password, and `?#@:%` in the path of a socket.
    ///
    /// | parameter | default | meaning |
    /// | --- | --- | --- |
    /// | `timeout` | `1s` | the longest time for an operation, or for each round trip of a large one, for example `500ms` |
    /// | `connections` | `1` | the number of connections to each server |
    /// | `db` | `0` | the number of the database |
    /// | `protocol` | `resp3` | `resp2` or `resp3` |
    ///
    /// ```
    /// use cacheio::Redis;
    ///
    /// let redis = Redis::new("redis://127.0.0.1:6379/1?timeout=200ms&connections=2")?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`Config`](cacheio_core::ErrorKind::Config) if the URL is not one of
    /// these.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).build()
    }

    /// Creates a store that connects as a client of the `redis` crate does, for example with
    /// certificates of your own. The timeout is 1 s; there is one connection.
    ///
    /// A client with TLS uses the default provider of rustls in this process; if there is none, the
    /// store installs ring when it connects.
    ///
    /// ```no_run
    /// use cacheio::Redis;
    ///
    /// # fn configured_client() -> redis::Client { unimplemented!() }
    /// let client: redis::Client = configured_client();
    /// let redis = Redis::from_client(client);
    /// ```
    pub fn from_client(client: Client) -> Self {
        let opens = Opens::default();
        let connection = Connection::new(Endpoint::Client(client), DEFAULT_TIMEOUT, &opens);
        let server = Server::new([Batcher::new(connection)]);
        let topology = Topology::server(server, DEFAULT_TIMEOUT);
        Self::with_topology(topology, opens, Arc::default())
    }

    /// Creates a builder, to set the timeout, the number of connections, a cluster or sentinels.
    ///
    /// ```
    /// use cacheio::Redis;
    ///
    /// let redis = Redis::builder()
    ///     .url("redis://127.0.0.1:6379")
    ///     .connections(2)
    ///     .build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    #[doc(hidden)]
    pub const SCHEMES: &[&str] = REDIS_SCHEMES;

    #[doc(hidden)]
    pub const PARAMETERS: &[&str] = PARAMETERS;

    #[doc(hidden)]
    pub fn from_cache_url(url: &mut CacheUrl<'_>) -> Result<Self> {
        build(StoreConfig::take(url)?)
    }
}

/// Builds a [`Redis`] store.
///
/// # Defaults
///
/// - `timeout`: 1 s
/// - `connections`: 1
///
/// ```
/// use cacheio::Redis;
/// use std::time::Duration;
///
/// let redis = Redis::builder()
///     .url("redis://127.0.0.1:6379/1")
///     .timeout(Duration::from_millis(200))
///     .build()?;
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RedisBuilder {
    urls: Option<Urls>,
    timeout: Option<Duration>,
    connections: Option<usize>,
}

enum Urls {
    One(String),
    Cluster(Vec<String>),
    Sentinel(String, Vec<String>),
}

impl RedisBuilder {
    /// Sets the URL of the server, as for [`Redis::new`]. The builder's other settings override the
    /// parameters of the URL. Replaces an earlier [`cluster`](Self::cluster) or
    /// [`sentinel`](Self::sentinel).
    ///
    /// ```
    /// # use cacheio::Redis;
    /// let redis = Redis::builder().url("redis://127.0.0.1:6379?timeout=200ms").build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls = Some(Urls::One(url.into()));
        self
    }

    /// Sets a cluster, by the URLs of some of its nodes (`redis://` or `rediss://`). The user name,
    /// password and parameters of the first URL apply to all nodes. Replaces an earlier
    /// [`url`](Self::url) or [`sentinel`](Self::sentinel).
    ///
    /// ```
    /// # use cacheio::Redis;
    /// let redis = Redis::builder()
    ///     .cluster(["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])
    ///     .build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn cluster(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.urls = Some(Urls::Cluster(urls.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets the name of a master, and the URLs of the sentinels that know it: `redis://`, or
    /// `rediss://` if the sentinels and the master use TLS. The default port of these URLs is 6379.
    ///
    /// The user name, password, database and parameters of the first URL are for the master. The
    /// user name and password are sent to a sentinel only if it requires them. Replaces an earlier
    /// [`url`](Self::url) or [`cluster`](Self::cluster).
    ///
    /// ```
    /// # use cacheio::Redis;
    /// let redis = Redis::builder()
    ///     .sentinel("mymaster", ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"])
    ///     .build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn sentinel(
        mut self,
        master: impl Into<String>,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let urls = urls.into_iter().map(Into::into).collect();
        self.urls = Some(Urls::Sentinel(master.into(), urls));
        self
    }

    /// Limits how long an operation may take, including the time to connect and to retry after a
    /// connection broke. `clear` and operations on many keys take several round trips: the limit
    /// applies to each of them.
    ///
    /// ```
    /// # use cacheio::Redis;
    /// # use std::time::Duration;
    /// let redis = Redis::builder()
    ///     .url("redis://127.0.0.1:6379")
    ///     .timeout(Duration::from_millis(200))
    ///     .build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the number of connections to each server. One connection serves hundreds of callers, and
    /// is faster than several as long as one core can drive it. Each key always uses the same
    /// connection, so that writes to it keep their order. There are at most 1,024.
    ///
    /// ```
    /// # use cacheio::Redis;
    /// let redis = Redis::builder().url("redis://127.0.0.1:6379").connections(4).build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = Some(connections);
        self
    }

    /// Builds the store. It does not connect yet.
    ///
    /// ```
    /// # use cacheio::Redis;
    /// assert!(Redis::builder().url("redis://127.0.0.1:6379").build().is_ok());
    /// assert!(Redis::builder().build().is_err()); // no URL
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`Config`](cacheio_core::ErrorKind::Config) if there is no URL, a URL
    /// is invalid, or a setting is zero.
    pub fn build(self) -> Result<Redis> {
        let mut config = match self.urls {
            Some(Urls::One(url)) => StoreConfig::parse(&url)?,
            Some(Urls::Cluster(urls)) => parse_all(&urls, Deployment::Cluster)?,
            Some(Urls::Sentinel(master, urls)) => {
                parse_all(&urls, |sentinels| Deployment::Sentinel(master, sentinels))?
            }
            None => {
                return Err(config_error(
                    "a Redis store needs a URL; set it with `url`, `cluster` or `sentinel`",
                ));
            }
        };
        config.timeout = self.timeout.or(config.timeout);
        config.connections = self.connections.or(config.connections);
        build(config)
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URLs, which may contain passwords.
        f.debug_struct("RedisBuilder")
            .field("timeout", &self.timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// Parses the URLs of several servers. The settings of the first apply to all.
fn parse_all(
    urls: &[String],
    deployment: impl FnOnce(Vec<ConnectionAddr>) -> Deployment,
) -> Result<StoreConfig> {
    let mut configs = Vec::with_capacity(urls.len());
    let mut addresses = Vec::with_capacity(urls.len());
    for url in urls {
        let config = StoreConfig::parse(url)?;
        let Deployment::Server(address) = config.deployment.clone() else {
            return Err(config_error(
                "the nodes of a cluster and sentinels need redis:// or rediss:// URLs",
            ));
        };
        addresses.push(address);
        configs.push(config);
    }
    let first = configs.into_iter().next().ok_or_else(|| {
        config_error("a cluster or sentinels need at least one URL; the list is empty")
    })?;
    Ok(StoreConfig {
        deployment: deployment(addresses),
        ..first
    })
}

fn build(config: StoreConfig) -> Result<Redis> {
    let timeout = config.timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
    let connections = config.connections.unwrap_or(1);
    if timeout.is_zero() {
        return Err(config_error(
            "`timeout` of a Redis store must be greater than zero",
        ));
    }
    if !(1..=MAX_CONNECTIONS).contains(&connections) {
        return Err(config_error(
            "`connections` of a Redis store must be from 1 to 1024",
        ));
    }
    if matches!(config.deployment, Deployment::Cluster(_)) && config.settings.db() != 0 {
        return Err(config_error(
            "a Redis cluster has no databases; leave out the number of the database",
        ));
    }
    let invalid = |error: RedisError| {
        config_error("invalid connection settings for Redis; check the URL").with_source(error)
    };
    let opens = Opens::default();
    let settings = config.settings;
    let shared_state = Arc::<SharedState>::default();
    let server = |endpoint: &dyn Fn() -> Endpoint| {
        let tracker = Tracker::new(Arc::clone(&shared_state), endpoint().name(), false);
        let tracker = Arc::new(tracker);
        let connection = || Connection::new(endpoint(), timeout, &opens).with_tracker(&tracker);
        Server::new((0..connections).map(|_| Batcher::new(connection())))
    };
    let topology = match config.deployment {
        Deployment::Server(address) => {
            let client = client(address, settings).map_err(invalid)?;
            let endpoint = || Endpoint::Server(client.clone());
            Topology::server(server(&endpoint), timeout)
        }
        Deployment::Sentinel(master, addresses) => {
            let sentinels = Sentinels {
                addresses,
                master,
                settings,
            };
            let endpoint = || Endpoint::Master(sentinels.clone());
            Topology::server(server(&endpoint), timeout)
        }
        Deployment::Cluster(seeds) => {
            let state = Arc::clone(&shared_state);
            let cluster = Cluster::new(seeds, settings, timeout, connections, &opens, state);
            Topology::cluster(cluster.map_err(invalid)?, timeout)
        }
    };
    Ok(Redis::with_topology(topology, opens, shared_state))
}
