//! A Redis Cluster: sends each request to the node that serves the key's slot, follows redirects,
//! and keeps the slot map current.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cacheio_core::__private::{Opens, SharedState, runtime, sleep_until, within};
use cacheio_core::{Error, ErrorKind, Key};
use redis::{ConnectionAddr, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, Value};

use crate::batching::Batcher;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::open::{address, client};
use crate::reply::{last, value};
use crate::request::{Request, on_key};
use crate::retry_window::RetryWindow;
use crate::server::Server;
use crate::slot_map::{SlotMap, SlotRange, cluster_slots, known_host};
use crate::slots::slot;
use crate::tracking::Tracker;

/// How many times one request is sent at most.
const MAX_SENDS: usize = 8;
/// How long to wait before a request is sent again to a cluster that is changing.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long a slot map counts as current after a node failed.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct Cluster {
    /// The configured nodes, by their addresses.
    seeds: Vec<(String, Server)>,
    tls: bool,
    settings: RedisConnectionInfo,
    timeout: Duration,
    connections: usize,
    opens: Opens,
    map: Mutex<Arc<SlotMap>>,
    /// Held by the task that refreshes the slot map.
    refreshing: tokio::sync::Mutex<()>,
    retry_window: RetryWindow,
    tracker: Arc<Tracker>,
}

/// Where to send a request.
struct Destination {
    connection: Arc<Batcher>,
    /// Whether the node is only importing the slot, and must be sent ASKING before the request.
    asking: bool,
}

impl Cluster {
    pub(crate) fn new(
        seeds: Vec<ConnectionAddr>,
        settings: RedisConnectionInfo,
        timeout: Duration,
        connections: usize,
        opens: &Opens,
        shared_state: Arc<SharedState>,
    ) -> RedisResult<Self> {
        let addresses: Vec<_> = seeds.iter().map(ToString::to_string).collect();
        let name = cluster_name(&addresses.join(", "));
        let mut cluster = Self {
            seeds: Vec::with_capacity(seeds.len()),
            tls: matches!(seeds.first(), Some(ConnectionAddr::TcpTls { .. })),
            settings,
            timeout,
            connections,
            opens: opens.clone(),
            map: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            retry_window: RetryWindow::default(),
            tracker: Arc::new(Tracker::new(shared_state, name, true)),
        };
        for seed in seeds {
            let server = cluster.server(&seed)?;
            cluster.seeds.push((seed.to_string(), server));
        }
        Ok(cluster)
    }

    /// Returns the value of a key.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &Key<'_>,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        value(self.route(key, None, deadline).await?)
    }

    /// Sends a request on the slot of a key and returns the reply.
    pub(crate) async fn send(
        self: &Arc<Self>,
        key: &Key<'_>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        self.route(key, Some(request), deadline).await
    }

    /// Returns the connection to the node that serves a key.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        key: &Key<'_>,
        deadline: Instant,
    ) -> Result<Arc<Batcher>, Failure> {
        let mut map = self.map();
        if map.loaded_at.is_none() {
            self.refresh(&map, deadline).await?;
            map = self.map();
        }
        let server = map.server(slot(key.text().as_bytes()));
        server
            .map(|server| Arc::clone(server.connection(key)))
            .ok_or_else(no_owner)
    }

    /// Returns all masters that serve slots.
    pub(crate) async fn masters(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Vec<Server>, Failure> {
        self.refresh(&self.map(), deadline).await?;
        Ok(self.known_masters())
    }

    /// Returns the masters in the slot map that was loaded last.
    pub(crate) fn known_masters(&self) -> Vec<Server> {
        self.map().nodes.values().cloned().collect()
    }

    /// Sends a request on a key, or gets its value if there is no request, and follows redirects.
    async fn route(
        self: &Arc<Self>,
        key: &Key<'_>,
        request: Option<&Request>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let mut to = Destination::new(self.connection(key, deadline).await?);
        for sent in 1.. {
            let map = self.map();
            let failure = match to.send(key, request, deadline).await {
                Err(failure) => failure,
                Ok(reply) => {
                    if sent > 1 {
                        self.retry_window.settled();
                    }
                    return Ok(reply);
                }
            };
            if sent == MAX_SENDS {
                return Err(failure);
            }
            to = self.redirect(failure, &to, &map, key, deadline).await?;
        }
        unreachable!("the last reply is returned")
    }

    /// Returns where to send a failed request again, or its failure if that would not help.
    async fn redirect(
        self: &Arc<Self>,
        failure: Failure,
        from: &Destination,
        map: &Arc<SlotMap>,
        key: &Key<'_>,
        deadline: Instant,
    ) -> Result<Destination, Failure> {
        self.on_failure(&failure);
        let Failure::Redis(error) = &failure else {
            return Err(failure);
        };
        let redis::ErrorKind::Server(kind) = error.kind() else {
            return Err(failure);
        };
        match kind {
            ServerErrorKind::Ask | ServerErrorKind::Moved => {
                let asking = kind == ServerErrorKind::Ask;
                if !asking {
                    // The node in the error may serve the slot before other nodes know of it.
                    self.refresh(map, deadline).await?;
                }
                return match self.named_connection(error, &from.connection, key) {
                    Some(connection) => Ok(Destination { connection, asking }),
                    None => Err(failure),
                };
            }
            ServerErrorKind::ReadOnly => self.refresh(map, deadline).await?,
            ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown => {
                let remaining = deadline.saturating_duration_since(Instant::now());
                if remaining < RETRY_PAUSE * 2 || !self.retry_window.is_open() {
                    self.refresh_in_background();
                    return Err(failure);
                }
                sleep_until(Instant::now() + RETRY_PAUSE)?.await;
                if self.refresh(map, deadline).await.is_err() {
                    return Err(failure);
                }
            }
            _ => return Err(failure),
        }
        match self.connection(key, deadline).await {
            Ok(connection) => Ok(Destination::new(connection)),
            // The node says why no node serves the slot.
            Err(_) => Err(failure),
        }
    }

    /// Returns the connection to the node that a redirect of `from` names.
    fn named_connection(
        &self,
        error: &RedisError,
        from: &Batcher,
        key: &Key<'_>,
    ) -> Option<Arc<Batcher>> {
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = known_host(host, &from.host());
        let address = &format!("{host}:{port}");
        let mut map = self.lock();
        if let Some(server) = map.at(address) {
            return Some(Arc::clone(server.connection(key)));
        }
        let server = self.server_at(host, port.parse().ok()?).ok()?;
        let connection = Arc::clone(server.connection(key));
        Arc::make_mut(&mut map)
            .unassigned
            .insert(address.to_owned(), server);
        Some(connection)
    }

    /// Loads the slot map, unless another caller has replaced `old` already. A task of its own loads
    /// it, because a caller that waits may be cancelled, or not be polled.
    async fn refresh(
        self: &Arc<Self>,
        old: &Arc<SlotMap>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let (cluster, old) = (Arc::clone(self), Arc::clone(old));
        let refresh = async move { within(deadline, cluster.load_map(&old, deadline)).await };
        match runtime()?.spawn(refresh).await {
            Ok(Some(refreshed)) => refreshed,
            _ => Err(Failure::timed_out("the Redis cluster", self.timeout)),
        }
    }

    async fn load_map(&self, old: &Arc<SlotMap>, deadline: Instant) -> Result<(), Failure> {
        let _refreshing = self.refreshing.lock().await;
        if !Arc::ptr_eq(old, &self.map()) {
            return Ok(());
        }
        let mut failure = no_owner();
        let candidates = self.candidates(old);
        let mut untried = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        for node in candidates {
            let now = Instant::now();
            // A node that does not reply must leave time for the next ones; with less than a quarter of
            // the timeout, it would not be noticed that it does not reply.
            let share = deadline.saturating_duration_since(now) / untried;
            let deadline = deadline.min(now + share.max(self.timeout / 4));
            untried -= 1;
            match node.send(&cluster_slots(), deadline).await {
                Ok(reply) => return self.replace_map(old, &node, reply),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Loads the slot map in the background if a node did not reply: it may have been replaced.
    pub(crate) fn on_failure(self: &Arc<Self>, failure: &Failure) {
        match failure {
            Failure::Redis(error) if !error.is_io_error() => {}
            _ => self.refresh_in_background(),
        }
    }

    /// Loads the slot map in the background.
    fn refresh_in_background(self: &Arc<Self>) {
        let map = self.map();
        let recent = map
            .loaded_at
            .is_some_and(|at| at.elapsed() < MIN_REFRESH_INTERVAL);
        if recent || self.refreshing.try_lock().is_err() {
            return;
        }
        if let Ok(runtime) = runtime() {
            let cluster = Arc::clone(self);
            let deadline = Instant::now() + self.timeout;
            runtime.spawn(async move { within(deadline, cluster.load_map(&map, deadline)).await });
        }
    }

    /// Returns connections to the nodes from which the slot map can be loaded.
    fn candidates(&self, map: &SlotMap) -> Vec<Arc<Batcher>> {
        let seeds = self.seeds.iter().map(|(_, server)| server);
        let servers = map.nodes.values().chain(seeds);
        servers.map(|server| Arc::clone(server.first())).collect()
    }

    /// Builds the slot map from a node's reply. Connections to known nodes are kept.
    fn replace_map(&self, old: &SlotMap, node: &Batcher, reply: Value) -> Result<(), Failure> {
        let mut map = SlotMap {
            loaded_at: Some(Instant::now()),
            unassigned: self.map().unassigned.clone(),
            ..SlotMap::default()
        };
        for range in SlotRange::parse_all(reply, &node.host())? {
            let address = range.address();
            if !map.nodes.contains_key(&address) {
                let unassigned = map.unassigned.remove(&address);
                let known = unassigned.or_else(|| self.known_server(old, &address));
                let server = match known {
                    Some(server) => server,
                    None => self.server_at(range.host, range.port)?,
                };
                map.nodes.insert(address.clone(), server);
            }
            map.ranges.push((range.last, address));
        }
        map.ranges.sort_unstable();
        let has_moved = old.loaded_at.is_some() && old.ranges != map.ranges;
        *self.lock() = Arc::new(map);
        if has_moved {
            self.tracker.moved();
        }
        Ok(())
    }

    fn known_server(&self, old: &SlotMap, address: &str) -> Option<Server> {
        let seed = || self.seeds.iter().find(|(seed, _)| seed == address);
        let seed = || seed().map(|(_, server)| server);
        old.nodes.get(address).or_else(seed).cloned()
    }

    fn server_at(&self, host: String, port: u16) -> RedisResult<Server> {
        self.server(&address(host, port, self.tls))
    }

    fn server(&self, address: &ConnectionAddr) -> RedisResult<Server> {
        let client = client(address.clone(), self.settings.clone())?;
        let connections = (0..self.connections).map(|_| {
            let endpoint = Endpoint::Server(client.clone());
            let connection = Connection::new(endpoint, self.timeout, &self.opens);
            Batcher::without_mget(connection.with_tracker(&self.tracker))
        });
        Ok(Server::new(connections))
    }

    fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<SlotMap>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds: Vec<_> = self.seeds.iter().map(|(address, _)| &**address).collect();
        f.write_str(&seeds.join(", "))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.seeds.iter().map(|(address, _)| address);
        f.debug_list().entries(seeds).finish()
    }
}

impl Destination {
    fn new(connection: Arc<Batcher>) -> Self {
        Self {
            connection,
            asking: false,
        }
    }

    async fn send(
        &self,
        key: &Key<'_>,
        request: Option<&Request>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        match (request, self.asking) {
            (Some(request), false) => self.connection.send(request, deadline).await,
            (None, false) => self
                .connection
                .get(key.text(), deadline)
                .await
                .map(|value| value.map_or(Value::Nil, Value::BulkString)),
            (request, true) => {
                let get = || Request::one(on_key("GET", key.text()));
                let request = request.cloned().unwrap_or_else(get).asking();
                let reply = self.connection.send(&request, deadline).await;
                reply.and_then(last)
            }
        }
    }
}

/// Returns the name of a cluster in errors and logs.
pub(crate) fn cluster_name(seeds: &dyn fmt::Display) -> String {
    format!("the Redis cluster at {seeds}")
}

fn no_owner() -> Failure {
    Failure::Store(Error::new(
        ErrorKind::Unavailable,
        "no node of the Redis cluster serves the key's slot; check that the cluster covers all slots",
    ))
}
