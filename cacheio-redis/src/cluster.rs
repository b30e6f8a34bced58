//! A Redis Cluster: which node has a slot, and what to do when that changes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cacheio_core::__private::Opens;
use cacheio_core::{Error, ErrorKind, Key};
use redis::{
    ConnectionAddr, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, Value, cmd,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::Failure;
use crate::link::Link;
use crate::nodes::Links;
use crate::request::{Request, integer, last, named, value, values};
use crate::slots::{SLOTS, slot};
use crate::target::{Target, address, client};

/// How often one request may be sent elsewhere.
const REDIRECTIONS: usize = 8;
/// How long to wait for a cluster that is changing.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the nodes are asked for their slots at most, while a node does not answer.
const REFRESH: Duration = Duration::from_millis(250);

pub(crate) struct Cluster {
    /// The nodes that were named, by their place.
    seeds: Vec<(String, Links)>,
    tls: bool,
    settings: RedisConnectionInfo,
    timeout: Duration,
    connections: usize,
    opens: Opens,
    map: Mutex<Arc<Map>>,
    /// Held by whoever asks for the slots.
    refreshing: tokio::sync::Mutex<()>,
}

/// Who has what.
#[derive(Clone, Default)]
struct Map {
    nodes: HashMap<String, Links>,
    /// Nodes that have no slots (yet), to which others have sent us.
    strangers: HashMap<String, Links>,
    /// The last slot of each range, in order, and the node that has it.
    ranges: Vec<(u16, String)>,
    at: Option<Instant>,
}

impl Cluster {
    pub(crate) fn new(
        seeds: Vec<ConnectionAddr>,
        settings: RedisConnectionInfo,
        timeout: Duration,
        connections: usize,
        opens: &Opens,
    ) -> RedisResult<Self> {
        let mut cluster = Self {
            seeds: Vec::with_capacity(seeds.len()),
            tls: matches!(seeds.first(), Some(ConnectionAddr::TcpTls { .. })),
            settings,
            timeout,
            connections,
            opens: opens.clone(),
            map: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        for seed in seeds {
            let links = cluster.connect(&seed)?;
            cluster.seeds.push((seed.to_string(), links));
        }
        Ok(cluster)
    }

    /// The value under a key.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &Key<'_>,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        value(self.route(key, None, deadline).await?)
    }

    /// The answer to a request on one slot, that of a key.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        key: &Key<'_>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        self.route(key, Some(request), deadline).await
    }

    /// The connection to whoever has a key.
    pub(crate) async fn link(
        &self,
        key: &Key<'_>,
        deadline: Instant,
    ) -> Result<Arc<Link>, Failure> {
        let mut map = self.map();
        if map.at.is_none() {
            self.refresh(&map, deadline).await?;
            map = self.map();
        }
        let links = map.links(slot(key.text().as_bytes()));
        links
            .map(|links| Arc::clone(links.of(key)))
            .ok_or_else(no_owner)
    }

    /// The connections to all masters.
    pub(crate) async fn masters(&self, deadline: Instant) -> Result<Vec<Links>, Failure> {
        self.refresh(&self.map(), deadline).await?;
        Ok(self.map().nodes.values().cloned().collect())
    }

    /// Sends a request on a key, or else asks for its value, wherever the cluster says that it is.
    async fn route(
        self: &Arc<Self>,
        key: &Key<'_>,
        request: Option<&Request>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let mut link = self.link(key, deadline).await?;
        let mut asking = false;
        for _ in 0..REDIRECTIONS {
            let map = self.map();
            let answer = match (request, asking) {
                (Some(request), false) => link.ask(request, deadline).await,
                (None, false) => link
                    .get(key.text(), deadline)
                    .await
                    .map(|value| value.map_or(Value::Nil, Value::BulkString)),
                (request, true) => {
                    let get = || Request::one(named("GET", key.text()));
                    let request = request.cloned().unwrap_or_else(get).asking();
                    link.ask(&request, deadline).await.and_then(last)
                }
            };
            let failure = match answer {
                Err(failure) => failure,
                answer => return answer,
            };
            asking = false;
            let Failure::Redis(error) = &failure else {
                self.refresh_behind();
                return Err(failure);
            };
            match error.kind() {
                redis::ErrorKind::Server(ServerErrorKind::Ask) => {
                    link = self.redirection(error, key).ok_or(failure)?;
                    asking = true;
                    continue;
                }
                redis::ErrorKind::Server(ServerErrorKind::Moved) => {
                    // The others may not know it yet: whoever says so does.
                    self.refresh(&map, deadline).await?;
                    link = self.redirection(error, key).ok_or(failure)?;
                    continue;
                }
                redis::ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                    self.refresh(&map, deadline).await?;
                }
                redis::ErrorKind::Server(
                    ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown,
                ) => {
                    if deadline.saturating_duration_since(Instant::now()) < PAUSE * 2 {
                        return Err(failure);
                    }
                    sleep(PAUSE).await;
                    self.refresh(&map, deadline).await?;
                }
                _ => {
                    if error.is_io_error() {
                        self.refresh_behind();
                    }
                    return Err(failure);
                }
            }
            link = self.link(key, deadline).await?;
        }
        Err(no_owner())
    }

    /// The connection to the node that an error names.
    fn redirection(&self, error: &RedisError, key: &Key<'_>) -> Option<Arc<Link>> {
        let (place, _) = error.redirect_node()?;
        let (host, port) = place.rsplit_once(':')?;
        let mut map = self.lock();
        let known = map.nodes.get(place).or_else(|| map.strangers.get(place));
        if let Some(links) = known {
            return Some(Arc::clone(links.of(key)));
        }
        let links = self.connect_to(host.to_owned(), port.parse().ok()?).ok()?;
        let link = Arc::clone(links.of(key));
        Arc::make_mut(&mut map)
            .strangers
            .insert(place.to_owned(), links);
        Some(link)
    }

    /// Asks who has what, unless somebody has since `old` was looked at.
    async fn refresh(&self, old: &Arc<Map>, deadline: Instant) -> Result<(), Failure> {
        if Handle::try_current().is_err() {
            return Err(Failure::no_runtime());
        }
        let asked = timeout_at(deadline, async {
            let _refreshing = self.refreshing.lock().await;
            if !Arc::ptr_eq(old, &self.map()) {
                return Ok(());
            }
            let mut failure = no_owner();
            for link in self.candidates(old) {
                let rest = deadline.saturating_duration_since(Instant::now());
                match link.ask(&question(), Instant::now() + rest / 2).await {
                    Ok(answer) => {
                        self.learn(old, &link, answer)?;
                        return Ok(());
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        });
        asked
            .await
            .unwrap_or_else(|_| Err(Failure::elapsed(self.timeout)))
    }

    /// Asks who has what beside the callers: a node that does not answer may have been replaced.
    fn refresh_behind(self: &Arc<Self>) {
        let map = self.map();
        let recent = map.at.is_some_and(|at| at.elapsed() < REFRESH);
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if recent || self.refreshing.try_lock().is_err() {
            return;
        }
        let cluster = Arc::clone(self);
        runtime.spawn(async move {
            let _ = cluster
                .refresh(&map, Instant::now() + cluster.timeout)
                .await;
        });
    }

    /// Whom to ask: the nodes there are, and those that were named.
    fn candidates(&self, map: &Map) -> Vec<Arc<Link>> {
        let known = map.nodes.values();
        let named = self.seeds.iter().map(|(_, links)| links);
        known
            .chain(named)
            .map(|links| Arc::clone(links.first()))
            .collect()
    }

    /// Takes what a node says of the cluster. Connections to nodes that stay are kept.
    fn learn(&self, old: &Map, asked: &Link, answer: Value) -> Result<(), Failure> {
        let mut map = Map {
            at: Some(Instant::now()),
            strangers: self.map().strangers.clone(),
            ..Map::default()
        };
        let mut ranges = Vec::new();
        for range in values(answer)? {
            let mut range = values(range)?.into_iter();
            let _first = range.next();
            let last = integer(range.next().unwrap_or(Value::Nil))?;
            let mut master = values(range.next().unwrap_or(Value::Nil))?.into_iter();
            let host = value(master.next().unwrap_or(Value::Nil))?.unwrap_or_default();
            let port = integer(master.next().unwrap_or(Value::Nil))?;
            // A node that does not know its own address is where it was asked.
            let host = match String::from_utf8(host).unwrap_or_default() {
                host if host.is_empty() || host == "?" => asked.host(),
                host => host,
            };
            let place = format!("{host}:{port}");
            let port = u16::try_from(port).map_err(|_| Failure::unexpected())?;
            if !map.nodes.contains_key(&place) {
                let known = old.nodes.get(&place).cloned();
                let named = || self.seeds.iter().find(|(seed, _)| *seed == place);
                let named = || named().map(|(_, links)| links.clone());
                let links = match map.strangers.remove(&place).or(known).or_else(named) {
                    Some(links) => links,
                    None => self.connect_to(host, port)?,
                };
                map.nodes.insert(place.clone(), links);
            }
            ranges.push((u16::try_from(last).unwrap_or(SLOTS), place));
        }
        ranges.sort_unstable();
        map.ranges = ranges;
        *self.lock() = Arc::new(map);
        Ok(())
    }

    fn connect_to(&self, host: String, port: u16) -> RedisResult<Links> {
        self.connect(&address(host, port, self.tls))
    }

    fn connect(&self, address: &ConnectionAddr) -> RedisResult<Links> {
        let client = client(address.clone(), self.settings.clone())?;
        let link = || Link::scattered(Target::server(client.clone()), self.timeout, &self.opens);
        Ok(Links::new((0..self.connections).map(|_| link())))
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Map>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn links(&self, slot: u16) -> Option<&Links> {
        let at = self.ranges.partition_point(|(last, _)| *last < slot);
        let (_, node) = self.ranges.get(at)?;
        self.nodes.get(node)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.seeds.iter().map(|(place, _)| place);
        f.debug_list().entries(seeds).finish()
    }
}

fn question() -> Request {
    let mut question = cmd("CLUSTER");
    question.arg("SLOTS");
    Request::one(question)
}

fn no_owner() -> Failure {
    Failure::Cache(Error::new(
        ErrorKind::Unavailable,
        "no node of the Redis cluster says that it has the key's slot",
    ))
}
