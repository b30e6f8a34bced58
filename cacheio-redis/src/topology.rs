//! Finds the connection for a key, and divides a call on several keys between connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_core::__private::deadline;
use cacheio_core::Key;
use redis::{Cmd, Value};

use crate::batching::Batcher;
use crate::claim_key::{claim_key, claim_key_in_slot};
use crate::cluster::{Cluster, cluster_name};
use crate::failure::Failure;
use crate::join_all::join_all;
use crate::reply::values;
use crate::request::{Request, length};
use crate::server::Server;
use crate::slots::slot;

/// How many keys a command, and a request, names at most: the server serves no other client
/// meanwhile.
const MAX_KEYS: usize = 1000;
/// How many bytes the commands of a request have, except for one command that is larger.
const MAX_REQUEST_BYTES: usize = 128 * 1024;

pub(crate) struct Topology {
    layout: Layout,
    timeout: Duration,
}

enum Layout {
    Server(Server),
    Cluster(Arc<Cluster>),
}

/// A command on some of a call's keys, by their positions, and the reply to it.
pub(crate) struct Part {
    pub(crate) keys: Vec<usize>,
    pub(crate) reply: Value,
}

impl Topology {
    pub(crate) fn server(server: Server, timeout: Duration) -> Self {
        Self {
            layout: Layout::Server(server),
            timeout,
        }
    }

    pub(crate) fn cluster(cluster: Cluster, timeout: Duration) -> Self {
        Self {
            layout: Layout::Cluster(Arc::new(cluster)),
            timeout,
        }
    }

    /// Returns the name of the servers in errors.
    pub(crate) fn name(&self) -> String {
        match &self.layout {
            Layout::Server(server) => server.first().name().to_owned(),
            Layout::Cluster(cluster) => cluster_name(cluster),
        }
    }

    /// Returns the server as spans name it. The nodes of a cluster have different addresses.
    pub(crate) fn span_server(&self) -> cacheio_core::Server {
        match &self.layout {
            Layout::Server(server) => server.first().server(),
            Layout::Cluster(_) => cacheio_core::Server::new("redis"),
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the deadline of a request that begins now.
    pub(crate) fn deadline(&self) -> Instant {
        deadline(self.timeout)
    }

    /// Returns the value of a key.
    pub(crate) async fn get(&self, key: &Key<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let deadline = self.deadline();
        match &self.layout {
            Layout::Server(server) => server.connection(key).get(key.text(), deadline).await,
            // Boxed, so that the futures for a single server stay small.
            Layout::Cluster(cluster) => Box::pin(cluster.get(key, deadline)).await,
        }
    }

    /// Returns the connection for a key, if there is one server.
    pub(crate) fn server_connection(&self, key: &Key<'_>) -> Option<&Arc<Batcher>> {
        match &self.layout {
            Layout::Server(server) => Some(server.connection(key)),
            Layout::Cluster(_) => None,
        }
    }

    /// Sends a request on one key and returns the reply.
    pub(crate) async fn send(&self, key: &Key<'_>, request: &Request) -> Result<Value, Failure> {
        self.send_until(key, request, self.deadline()).await
    }

    /// Does the same by a deadline.
    pub(crate) async fn send_until(
        &self,
        key: &Key<'_>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        match &self.layout {
            Layout::Server(server) => server.connection(key).send(request, deadline).await,
            Layout::Cluster(cluster) => Box::pin(cluster.send(key, request, deadline)).await,
        }
    }

    /// Sends commands on several keys, each on at most `max_keys` of them, to different servers at
    /// the same time. To one server, the commands go out in requests of limited size, one after
    /// another, each with the timeout: so a large call is as safe as many small ones, and other
    /// callers' requests get between.
    pub(crate) async fn send_many(
        &self,
        keys: &[Key<'_>],
        max_keys: usize,
        command: impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        self.send_parts(keys, max_keys, false, command).await
    }

    /// Does the same with commands that write the keys, after the end of the claims on them.
    pub(crate) async fn write_many(
        &self,
        keys: &[Key<'_>],
        max_keys: usize,
        command: impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        self.send_parts(keys, max_keys, true, command).await
    }

    async fn send_parts(
        &self,
        keys: &[Key<'_>],
        max_keys: usize,
        are_writes: bool,
        command: impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        let max_keys = max_keys.min(MAX_KEYS);
        let groups = self.group(keys, max_keys, self.deadline()).await?;
        let sent = groups
            .into_iter()
            .map(|group| self.send_group(keys, group, are_writes, &command));
        let parts: Result<Vec<Vec<Part>>, Failure> = join_all(sent).await.into_iter().collect();
        Ok(parts?.into_iter().flatten().collect())
    }

    /// Divides keys between the connections.
    pub(crate) async fn group(
        &self,
        keys: &[Key<'_>],
        max_keys: usize,
        deadline: Instant,
    ) -> Result<Vec<Group>, Failure> {
        let mut groups: Vec<Group> = Vec::new();
        match &self.layout {
            // A step of SCAN may find no keys.
            _ if keys.is_empty() => return Ok(groups),
            Layout::Server(server) if server.connections().len() == 1 => {
                return Ok(vec![Group::of_all(server.first(), keys.len(), max_keys)]);
            }
            _ => {}
        }
        for (at, key) in keys.iter().enumerate() {
            let (connection, slot) = match &self.layout {
                Layout::Server(server) => (Arc::clone(server.connection(key)), 0),
                Layout::Cluster(cluster) => {
                    let connection = cluster.connection(key, deadline).await?;
                    (connection, slot(key.text().as_bytes()))
                }
            };
            let known = groups
                .iter()
                .position(|group| Arc::ptr_eq(&group.connection, &connection));
            let group = known.unwrap_or_else(|| {
                groups.push(Group::new(connection));
                groups.len() - 1
            });
            groups[group].add(at, slot, max_keys);
        }
        Ok(groups)
    }

    async fn send_group(
        &self,
        keys: &[Key<'_>],
        group: Group,
        are_writes: bool,
        command: &impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        let mut sent = Vec::with_capacity(group.parts.len());
        let mut parts = group.parts.into_iter().peekable();
        while parts.peek().is_some() {
            let mut chunk = Vec::new();
            let mut commands = Vec::new();
            let (mut count, mut bytes) = (0, 0);
            while count < MAX_KEYS
                && bytes < MAX_REQUEST_BYTES
                && let Some(part) = parts.next()
            {
                if are_writes && self.is_cluster() {
                    commands.push(self.end_claims(keys, &part));
                }
                let command = command(&part);
                count += part.len();
                bytes += length(&command);
                commands.push(command);
                chunk.push(part);
            }
            if are_writes && !self.is_cluster() {
                commands.insert(0, self.end_claims(keys, chunk.iter().flatten()));
            }
            let request = match are_writes {
                true => Request::writes(commands),
                false => Request::many(commands),
            };
            let replies = group.connection.send(&request, self.deadline()).await;
            let replies = replies.and_then(values);
            let Layout::Cluster(cluster) = &self.layout else {
                let parts = chunk.into_iter().zip(replies?);
                sent.extend(parts.map(|(keys, reply)| Part { keys, reply }));
                continue;
            };
            let replies = replies.map(|replies| replies.into_iter().map(Some).collect());
            let replies = self.unless_redirected(replies, chunk.len())?;
            for (part, reply) in chunk.into_iter().zip(replies) {
                match reply.filter(|reply| !is_redirection(reply)) {
                    Some(reply) => sent.push(Part { keys: part, reply }),
                    // The node did not execute this part; the cluster finds the right node.
                    None => sent.extend(
                        self.send_each(cluster, keys, part, are_writes, command)
                            .await?,
                    ),
                }
            }
        }
        Ok(sent)
    }

    /// Returns what the parts of a request got: nothing if a node of a cluster redirects the whole request.
    pub(crate) fn unless_redirected<T>(
        &self,
        replies: Result<Vec<Option<T>>, Failure>,
        parts: usize,
    ) -> Result<Vec<Option<T>>, Failure> {
        match (replies, &self.layout) {
            (Err(failure), Layout::Cluster(_)) if failure.is_redirection() => {
                Ok((0..parts).map(|_| None).collect())
            }
            (Err(failure), Layout::Cluster(cluster)) => {
                cluster.on_failure(&failure);
                Err(failure)
            }
            (replies, _) => replies,
        }
    }

    /// Sends a command for each key: while a slot moves, no node may have all keys of a part.
    async fn send_each(
        &self,
        cluster: &Arc<Cluster>,
        keys: &[Key<'_>],
        part: Vec<usize>,
        are_writes: bool,
        command: &impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        let deadline = self.deadline();
        let sent = part.into_iter().map(async |at| {
            let request = match are_writes {
                true => Request::write(self.claim_key(keys[at].text()), command(&[at])),
                false => Request::one(command(&[at])),
            };
            let reply = cluster.send(&keys[at], &request, deadline).await?;
            let keys = vec![at];
            Ok(Part { keys, reply })
        });
        join_all(sent).await.into_iter().collect()
    }

    /// Returns the command that ends the claims on some of the keys, by their positions.
    fn end_claims<'a>(&self, keys: &[Key<'_>], at: impl IntoIterator<Item = &'a usize>) -> Cmd {
        let mut command = redis::cmd("UNLINK");
        for at in at {
            command.arg(self.claim_key(keys[*at].text()));
        }
        command
    }

    /// Returns the key of the claims on a key.
    pub(crate) fn claim_key(&self, key: &str) -> String {
        match self.is_cluster() {
            true => claim_key_in_slot(key),
            false => claim_key(key),
        }
    }

    fn is_cluster(&self) -> bool {
        matches!(self.layout, Layout::Cluster(_))
    }

    /// Returns one connection to each server that has keys. The other connections have replied to a
    /// PING by then, so every earlier write has taken effect.
    pub(crate) async fn scan_connections(&self) -> Result<Vec<Arc<Batcher>>, Failure> {
        let servers = self.servers().await?;
        let others = servers.iter().flat_map(|server| &server.connections()[1..]);
        ping(others, self.deadline()).await?;
        Ok(servers
            .iter()
            .map(|server| Arc::clone(server.first()))
            .collect())
    }

    /// Returns one connection to each server that has keys, in the order of their names. The first step of a scan
    /// loads the slot map of a cluster; the next ones use the one that is known.
    pub(crate) async fn servers_to_list(
        &self,
        is_first: bool,
    ) -> Result<Vec<Arc<Batcher>>, Failure> {
        let servers = match &self.layout {
            Layout::Cluster(cluster) if !is_first => cluster.known_masters(),
            _ => self.servers().await?,
        };
        let mut servers: Vec<_> = servers
            .iter()
            .map(|server| Arc::clone(server.first()))
            .collect();
        servers.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(servers)
    }

    /// Pings all servers that have keys.
    pub(crate) async fn ping(&self) -> Result<(), Failure> {
        let servers = self.servers().await?;
        let all = servers.iter().flat_map(Server::connections);
        ping(all, self.deadline()).await
    }

    async fn servers(&self) -> Result<Vec<Server>, Failure> {
        match &self.layout {
            Layout::Server(server) => Ok(vec![server.clone()]),
            Layout::Cluster(cluster) => cluster.masters(self.deadline()).await,
        }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.layout {
            Layout::Server(server) => server.fmt(f),
            Layout::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

async fn ping(
    connections: impl Iterator<Item = &Arc<Batcher>>,
    deadline: Instant,
) -> Result<(), Failure> {
    let ping = Request::one(redis::cmd("PING"));
    let replies = join_all(connections.map(|connection| connection.send(&ping, deadline))).await;
    replies.into_iter().try_for_each(|reply| reply.map(drop))
}

/// The keys of a call that use one connection, in parts of which each is one command.
pub(crate) struct Group {
    pub(crate) connection: Arc<Batcher>,
    pub(crate) parts: Vec<Vec<usize>>,
    /// The last part of each slot: a command must not name keys of two slots.
    last_part: HashMap<u16, usize>,
}

impl Group {
    fn new(connection: Arc<Batcher>) -> Self {
        Self {
            connection,
            parts: Vec::new(),
            last_part: HashMap::new(),
        }
    }

    /// Creates the group of all keys, where there is one connection.
    fn of_all(connection: &Arc<Batcher>, keys: usize, max_keys: usize) -> Self {
        let parts = (0..keys).step_by(max_keys);
        Self {
            parts: parts
                .map(|from| (from..keys.min(from + max_keys)).collect())
                .collect(),
            ..Self::new(Arc::clone(connection))
        }
    }

    fn add(&mut self, key: usize, slot: u16, max_keys: usize) {
        match self.last_part.get(&slot) {
            Some(part) if self.parts[*part].len() < max_keys => self.parts[*part].push(key),
            _ => {
                self.last_part.insert(slot, self.parts.len());
                self.parts.push(vec![key]);
            }
        }
    }
}

/// Returns whether a node refused a command because another one has, or may have, its keys.
pub(crate) fn is_redirection(reply: &Value) -> bool {
    match reply {
        Value::ServerError(error) => Failure::Redis(error.clone().into()).is_redirection(),
        _ => false,
    }
}
