//! How a Redis store is set up.

use std::fmt;
use std::time::Duration;

use cacheio_core::__private::Opens;
use cacheio_core::{Error, ErrorKind, Result};

use crate::cluster::Cluster;
use crate::link::Link;
use crate::nodes::{Links, Nodes};
use crate::redis::{Redis, TIMEOUT};
use crate::target::{Target, client};
use crate::url::{Place, Setup};

/// As good as no timeout.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Sets up a [`Redis`] store.
///
/// # Defaults
///
/// - `timeout`: 1 s
/// - `connections`: 1
///
/// ```no_run
/// # fn main() -> cacheio::Result<()> {
/// use cacheio::Redis;
/// use std::time::Duration;
///
/// let redis = Redis::builder()
///     .url("redis://127.0.0.1:6379/1")
///     .timeout(Duration::from_millis(200))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct RedisBuilder {
    places: Option<Places>,
    timeout: Option<Duration>,
    connections: Option<usize>,
}

enum Places {
    Url(String),
    Cluster(Vec<String>),
    Sentinel(String, Vec<String>),
}

impl RedisBuilder {
    /// Where Redis is, as [`Redis::new`] takes it. What other setters say goes before the URL's
    /// parameters; this one, [`cluster`](Self::cluster) and [`sentinel`](Self::sentinel) replace
    /// each other.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.places = Some(Places::Url(url.into()));
        self
    }

    /// A cluster, by the URLs of some of its nodes (`redis://` or `rediss://`). User name, password
    /// and parameters are those of the first.
    pub fn cluster(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.places = Some(Places::Cluster(urls.into_iter().map(Into::into).collect()));
        self
    }

    /// The master of this name that sentinels know, by the URLs of the sentinels (`redis://`, or
    /// `rediss://` if the master speaks TLS too; their port is 6379 unless it is said). User name,
    /// password, database and parameters of the first are the master's; sentinels are asked with
    /// the same password, if they want one.
    pub fn sentinel(
        mut self,
        master: impl Into<String>,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let urls = urls.into_iter().map(Into::into).collect();
        self.places = Some(Places::Sentinel(master.into(), urls));
        self
    }

    /// How long one operation may take, with all that belongs to it: connecting, and asking again
    /// where a connection broke. `clear`, which takes as many steps as there are keys, may take as
    /// long for each.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many connections to keep to each server. One serves hundreds of callers, and is faster
    /// than several as long as a single core can feed it. Each key always takes the same
    /// connection, so that writes to it keep their order.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = Some(connections);
        self
    }

    /// The store; no connection is made yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when no URL was given, when one says nothing, or when a setting is 0.
    pub fn build(self) -> Result<Redis> {
        let mut setup = match self.places {
            Some(Places::Url(url)) => Setup::parse(&url)?,
            Some(Places::Cluster(urls)) => Setup::parse_all(&urls, Place::Cluster)?,
            Some(Places::Sentinel(master, urls)) => {
                Setup::parse_all(&urls, |servers| Place::Sentinel(master, servers))?
            }
            None => {
                return Err(config(
                    "a Redis store needs to know where Redis is: give it a `url`",
                ));
            }
        };
        setup.timeout = self.timeout.or(setup.timeout);
        setup.connections = self.connections.or(setup.connections);
        setup.build()
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URLs may hold passwords.
        f.debug_struct("RedisBuilder")
            .field("timeout", &self.timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Setup {
    /// What the URLs of several servers say together.
    fn parse_all(
        urls: &[String],
        place: impl FnOnce(Vec<redis::ConnectionAddr>) -> Place,
    ) -> Result<Self> {
        let mut setups = Vec::with_capacity(urls.len());
        let mut addresses = Vec::with_capacity(urls.len());
        for url in urls {
            let setup = Self::parse(url)?;
            let Place::Server(address) = setup.place.clone() else {
                return Err(config(
                    "the servers of a cluster and sentinels are named by redis:// or rediss:// URLs",
                ));
            };
            addresses.push(address);
            setups.push(setup);
        }
        let first = setups.into_iter().next().ok_or_else(|| {
            config("a cluster, and sentinels, need the URL of at least one of them")
        })?;
        Ok(Self {
            place: place(addresses),
            ..first
        })
    }

    pub(crate) fn build(self) -> Result<Redis> {
        // Clocks end somewhere.
        let timeout = self.timeout.unwrap_or(TIMEOUT).min(LONGEST);
        let connections = self.connections.unwrap_or(1);
        if timeout.is_zero() || connections == 0 {
            return Err(config(
                "a Redis store needs a timeout and a number of connections above 0",
            ));
        }
        let Self {
            place, settings, ..
        } = self;
        let unreachable = |error: redis::RedisError| {
            config("Redis cannot be reached in the way it is set up").with_source(error)
        };
        let opens = Opens::default();
        let links = |target: &dyn Fn() -> Target| {
            Links::new((0..connections).map(|_| Link::new(target(), timeout, &opens)))
        };
        let nodes = match place {
            Place::Server(address) => {
                let client = client(address, settings).map_err(unreachable)?;
                Nodes::one(links(&|| Target::server(client.clone())), timeout)
            }
            Place::Sentinel(master, sentinels) => {
                let target =
                    || Target::sentinel(master.clone(), sentinels.clone(), settings.clone());
                Nodes::one(links(&target), timeout)
            }
            Place::Cluster(seeds) => {
                let cluster = Cluster::new(seeds, settings, timeout, connections, &opens);
                Nodes::cluster(cluster.map_err(unreachable)?, timeout)
            }
        };
        Ok(Redis::over(nodes, opens))
    }
}

fn config(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, message)
}
