//! The store itself: what each operation sends to Redis.
//!
//! The path of one get:
//!
//! 1. `Redis::get` (this file) calls `Topology::get`.
//! 2. `Topology::get` (`topology.rs`) sets the deadline and picks the connection of the key:
//!    `Server::connection` (`server.rs`) or, in a cluster, `Cluster::route` (`cluster.rs`), which
//!    also follows redirects.
//! 3. `Batcher::get` (`batching.rs`) waits for its turn if the server is overloaded
//!    (`Connection::turn`, `limiter.rs`), passes the circuit breaker (`Connection::admit`), then
//!    `BatchQueues::admit` (`queue.rs`): if there are few requests at the same time,
//!    `Batcher::send_directly` sends it, and ends it at the deadline.
//! 4. `Connection::send` (`connection.rs`) takes the live connection, or connects
//!    (`Endpoint::connect` in `endpoint.rs`, `open` in `open.rs`), and sends an idempotent
//!    request again if the connection broke.
//! 5. `LiveConnection::send` (`live_connection.rs`) sends GET, and a PING that marks its end, with the
//!    `redis` crate, whose task writes to the socket and reads from it. `Commands::reply`
//!    (`commands.rs`) checks that the replies are those to these commands.
//! 6. `Connection::record` reports to the circuit breaker; `reply::value` (`reply.rs`) reads the reply;
//!    `Failure::into_error` (`failure.rs`) converts a failure into the caller's error.
//!
//! The path of a batch, when many callers get at the same time:
//!
//! 1. As above, up to `BatchQueues::admit`, which puts the key into the waiting MGET; the caller
//!    waits for its reply in `Batcher::send_batched`.
//! 2. `Batcher::take_step` sends the batch in a task of its own: when enough keys wait, when little is in
//!    flight and the other callers have run (`BatchQueues::flush`), or after 5 ms (`Batcher::start_timer`).
//! 3. `Batcher::send_batch` sends it by `LiveConnection::send` and gives each caller its reply. If
//!    the batch as a whole was refused, each caller sends its own GET.
//!
//! The path of a get for a cache with L1 (`Topology::read_with_ttls` in `reading.rs`): as that of a get, with GET
//! and PTTL. A batch of them has one MGET, and a PTTL for each key. In a cluster they are not batched. On a
//! connection that is tracked (`tracking.rs`), CLIENT CACHING comes first.
//!
//! The path of a set or a delete: as that of a get, with two commands. `Redis::write` puts UNLINK of the
//! claim before the command (`Request::write`). A batch of such requests has one UNLINK for all of them, in
//! a cluster one for each. `claims.rs` has the commands of loads.
//!
//! The path of `keys` and `entries`: `scan.rs` has the steps of SCAN; the cache reads the entries as with `get_many`.
//!
//! The path of `get_many`: `Redis::read_many` calls `Topology::send_many`, which groups the keys by
//! connection (and by slot) and sends one MGET for up to 1,000 keys, one after another. `read_many`
//! puts the replies in order.

use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{Opens, SharedState, runtime};
use cacheio_core::{
    AsyncStore, BoxFuture, ClaimMode, Claimed, Entry, Error, ErrorKind, Form, Key, Replacement,
    Result, ScanPage, Server, Settled, Settlement, SharedLoads, TtlChange,
};
use redis::{Cmd, cmd};

use crate::batching::Batcher;
use crate::claims::Claims;
use crate::failure::Failure;
use crate::join_all::join_all;
use crate::reply::{entry, integer, last, stored, values};
use crate::request::{Change, Request, bytes, on_key, on_keys, replace, set};
use crate::scan::{FIRST, pattern, step};
use crate::topology::Topology;

/// A store on Redis or a compatible server: Valkey, `KeyDB`, Dragonfly.
///
/// It speaks RESP3, and RESP2 with servers that refuse it. Each operation on one key is one round
/// trip. One on several keys is one round trip to each server for each 1,000 keys and each 128 KiB;
/// no larger request keeps the server from others. No operation takes longer than the timeout, 1 s
/// by default; one that takes several round trips has the timeout for each of them.
///
/// The store is cheap to clone; clones share the connection. It connects on first use, and reconnects
/// when the connection breaks. Calls work on every runtime and executor. The runtime of the first caller
/// drives the connection if it is one of tokio with several threads and I/O; otherwise one thread of the
/// process does, named `cacheio`, which also runs the timers.
/// If a server has more requests than it can answer within the timeout, the store sends only as many
/// as are answered in time. The others wait their turn, or fail at once with
/// [`Timeout`](ErrorKind::Timeout) if that would take too long.
/// After a server did not reply within one timeout, calls fail at once, and the store probes the
/// server in the background until it replies. If a server refuses a write because it is a replica,
/// the store connects again: after a failover, the address may lead to the new master.
///
/// The replies of Redis do not say what they answer. The store sends a PING after each request, or
/// each batch of them, and so notices a reply that was lost on the way: it closes the connection, and
/// no caller gets the value of another key.
///
/// Processes share loads through the store: see `shared_loads` of the cache's builder. A key that is being
/// loaded has a second key beside it, the *claim*: the same text and a character `\u{1}`, which no key of a
/// user contains, and in a cluster three more characters. The claim is set and compared by scripts, and each
/// write of the key removes it with one UNLINK before its command, in the same round trip. `clear` scans
/// twice: it removes the claims first.
///
/// If a cache on the store has memory before it (`l1` of its builder), connections are tracked (CLIENT
/// TRACKING): Redis tells of changes of the keys that were read. A connection that was opened before the first such
/// cache was built is not tracked, nor is one of [`from_client`](Self::from_client).
///
/// Entries with `stale_for`, `refresh_ahead` or `ttl_idle` are changed by a script (EVAL), so that no
/// change is made to another entry than the one that was read. `update` changes all entries so. If the
/// user of Redis may not run scripts, processes do not share loads, `touch` and `increment` of such
/// entries and `update` of any are errors of kind `Server`, reads do not prolong entries with `ttl_idle`,
/// and a process does not learn of loads that failed in others; all else works. `take` needs `GETDEL`, of
/// Redis 6.2.
///
/// Requests that many callers make at the same time are sent together, so that a connection carries
/// more of them than one by one. A single caller never waits for others.
///
/// ```no_run
/// # fn main() -> cacheio::Result<()> {
/// use cacheio::Redis;
///
/// let redis = Redis::new("redis://127.0.0.1:6379")?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redis {
    pub(crate) topology: Arc<Topology>,
    claims: Arc<Claims>,
    /// The name of the servers in errors.
    name: Arc<str>,
    opens: Opens,
    shared_state: Arc<SharedState>,
}

impl Redis {
    pub(crate) fn with_topology(
        topology: Topology,
        opens: Opens,
        shared_state: Arc<SharedState>,
    ) -> Self {
        let topology = Arc::new(topology);
        Self {
            name: topology.name().into(),
            claims: Arc::new(Claims::new(Arc::clone(&topology))),
            topology,
            opens,
            shared_state,
        }
    }

    async fn set_one(
        &self,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<(), Failure> {
        let _copies = self.ends_copies(key);
        let bytes = match bytes(entry) {
            Ok(bytes) => bytes,
            Err(error) => {
                // The old value must not be taken for the one that was to replace it.
                Box::pin(self.delete_one(key)).await?;
                return Err(error.into());
            }
        };
        let request = self.write(key, set(key.text(), &bytes, ttl));
        stored(self.topology.send(key, &request).await?).map(drop)
    }

    pub(crate) async fn add_one(
        &self,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<bool, Failure> {
        let _copies = self.ends_copies(key);
        let claim = self.topology.claim_key(key.text());
        let request = Request::add(claim, key.text(), &bytes(entry)?, ttl);
        stored(self.topology.send(key, &request).await?)
    }

    async fn delete_one(&self, key: &Key<'_>) -> Result<bool, Failure> {
        let _copies = self.ends_copies(key);
        self.affects(key, self.write(key, on_key("UNLINK", key.text())))
            .await
    }

    async fn increment_one(
        &self,
        key: &Key<'_>,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, Failure> {
        let _copies = self.ends_copies(key);
        let claim = self.topology.claim_key(key.text());
        let request = Request::increment(claim, key.text(), by, ttl);
        integer(last(self.topology.send(key, &request).await?)?)
    }

    /// Sends a request whose last reply counts the entries that it found.
    pub(crate) async fn affects(&self, key: &Key<'_>, request: Request) -> Result<bool, Failure> {
        Ok(integer(last(self.topology.send(key, &request).await?)?)? > 0)
    }

    async fn read_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>, Failure> {
        let parts = self
            .topology
            .send_many(keys, usize::MAX, |part| on_part("MGET", keys, part));
        let mut entries = vec![None; keys.len()];
        for part in parts.await? {
            for (at, reply) in part.keys.into_iter().zip(values(part.reply)?) {
                entries[at] = entry(reply)?;
            }
        }
        Ok(entries)
    }

    async fn write_many(
        &self,
        entries: Vec<(Key<'_>, Entry, Option<Duration>)>,
    ) -> Result<(), Failure> {
        let keys: Vec<_> = entries.iter().map(|(key, ..)| *key).collect();
        let _copies = self.shared_state.store_writes(&keys);
        let ttls: Vec<_> = entries.iter().map(|(.., ttl)| *ttl).collect();
        let entries = entries.into_iter().map(|(_, entry, _)| bytes(entry));
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let parts = if ttls.iter().any(Option::is_some) {
            // MSET has no TTL: one SET for each key.
            let command =
                |part: &[usize]| set(keys[part[0]].text(), &entries[part[0]], ttls[part[0]]);
            self.topology.write_many(&keys, 1, command).await?
        } else {
            let command = |part: &[usize]| {
                let mut command = cmd("MSET");
                for at in part {
                    command.arg(keys[*at].text()).arg(&entries[*at]);
                }
                command
            };
            self.topology.write_many(&keys, usize::MAX, command).await?
        };
        for part in parts {
            stored(part.reply)?;
        }
        Ok(())
    }

    async fn replace_one(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool, Failure> {
        let _copies = self.ends_copies(key);
        let claim = self.topology.claim_key(key.text());
        self.affects(key, Request::replace(&claim, key.text(), replacement)?)
            .await
    }

    async fn replace_each(&self, replacements: Vec<(Key<'_>, Replacement)>) -> Result<(), Failure> {
        let keys: Vec<_> = replacements.iter().map(|(key, _)| *key).collect();
        let _copies = self.shared_state.store_writes(&keys);
        let changes = replacements
            .into_iter()
            .map(|(_, replacement)| Change::new(replacement));
        let changes = changes.collect::<Result<Vec<_>>>()?;
        let claims: Vec<_> = match changes.iter().any(Change::changes_body) {
            true => keys
                .iter()
                .map(|key| self.topology.claim_key(key.text()))
                .collect(),
            false => Vec::new(),
        };
        let command = |part: &[usize]| {
            let claims: Vec<_> = part.iter().filter_map(|at| claims.get(*at)).collect();
            let changes = part.iter().map(|at| (keys[*at].text(), &changes[*at]));
            replace(changes, claims.into_iter().map(String::as_str))
        };
        for part in self.topology.send_many(&keys, usize::MAX, command).await? {
            integer(part.reply)?;
        }
        Ok(())
    }

    async fn touch_one(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool, Failure> {
        let _copies = self.ends_copies(key);
        self.affects(key, Request::touch(key.text(), ttl)).await
    }

    async fn remove_many(&self, keys: &[Key<'_>]) -> Result<usize, Failure> {
        let _copies = self.shared_state.store_writes(keys);
        let parts = self
            .topology
            .write_many(keys, usize::MAX, |part| on_part("UNLINK", keys, part));
        let mut count = 0;
        for part in parts.await? {
            count += integer(part.reply)?;
        }
        Ok(usize::try_from(count).unwrap_or_default())
    }

    async fn remove_all(&self, prefix: &str) -> Result<(), Failure> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "cannot clear a cache without a namespace, because that would flush the whole \
                 server: give the cache a namespace, or flush the server yourself",
            )
            .into());
        }
        let _copies = self.shared_state.store_clears(prefix);
        let servers = self.topology.scan_connections().await?;
        let all = pattern(prefix);
        // First the claims: a load that was claimed before is not stored behind the scan.
        for pattern in [format!("{all}\u{1}*"), all] {
            let removed = servers
                .iter()
                .map(|server| self.remove_matching(server, &pattern));
            join_all(removed)
                .await
                .into_iter()
                .collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    /// Ends the copies of a key in L1 when the write has ended: the server does not tell a connection of its own
    /// writes. Caches do the same for theirs, but a program may use the store without one.
    pub(crate) fn ends_copies<'a>(&'a self, key: &'a Key<'a>) -> impl Drop + 'a {
        self.shared_state.store_writes(slice::from_ref(key))
    }

    /// Creates a request that writes a key.
    pub(crate) fn write(&self, key: &Key<'_>, command: Cmd) -> Request {
        Request::write(self.topology.claim_key(key.text()), command)
    }

    /// Removes the keys of one server that match a pattern.
    async fn remove_matching(&self, server: &Arc<Batcher>, pattern: &str) -> Result<(), Failure> {
        let mut cursor = FIRST.to_owned();
        loop {
            let step = step(server, &cursor, pattern, self.topology.deadline()).await?;
            self.remove_scanned(step.keys).await?;
            cursor = step.cursor;
            if cursor == FIRST {
                return Ok(());
            }
        }
    }

    /// Removes keys that SCAN returned. The keys of a cache are text; others are not touched.
    async fn remove_scanned(&self, keys: Vec<Vec<u8>>) -> Result<(), Failure> {
        let texts: Vec<&str> = keys
            .iter()
            .filter_map(|key| std::str::from_utf8(key).ok())
            .collect();
        let keys: Vec<Key<'_>> = texts.into_iter().map(Key::new).collect();
        let command = |part: &[usize]| on_part("UNLINK", &keys, part);
        let parts = self.topology.send_many(&keys, usize::MAX, command).await?;
        let mut replies = parts.into_iter().map(|part| integer(part.reply));
        replies.try_for_each(|reply| reply.map(drop))
    }
}

impl AsyncStore for Redis {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn shared_state(&self) -> Option<Arc<SharedState>> {
        Some(Arc::clone(&self.shared_state))
    }

    fn circuit_opens(&self) -> u64 {
        self.opens.count()
    }

    fn server(&self) -> Option<Server> {
        Some(self.topology.span_server())
    }

    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        boxed(self, move || async move {
            Ok(self.topology.get(key).await?.map(Entry::bytes))
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        boxed(self, move || self.set_one(key, entry, ttl))
    }

    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        boxed(self, move || self.delete_one(key))
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        boxed(self, move || self.remove_all(prefix))
    }

    fn add<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool>> {
        boxed(self, move || self.add_one(key, entry, ttl))
    }

    fn increment<'a>(
        &'a self,
        key: &'a Key<'a>,
        by: i64,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<i64>> {
        boxed(self, move || self.increment_one(key, by, ttl))
    }

    fn touch<'a>(&'a self, key: &'a Key<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool>> {
        boxed(self, move || self.touch_one(key, ttl))
    }

    fn take<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        boxed(self, move || self.take_one(key))
    }

    fn compare_and_swap<'a>(
        &'a self,
        key: &'a Key<'a>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> BoxFuture<'a, Result<bool>> {
        boxed(self, move || self.swap_one(key, current, new))
    }

    fn replace<'a>(
        &'a self,
        key: &'a Key<'a>,
        replacement: Replacement,
    ) -> BoxFuture<'a, Result<bool>> {
        boxed(self, move || self.replace_one(key, replacement))
    }

    fn replace_many<'a>(
        &'a self,
        replacements: Vec<(Key<'a>, Replacement)>,
    ) -> BoxFuture<'a, Result<()>> {
        boxed(self, move || self.replace_each(replacements))
    }

    fn has<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        boxed(self, move || {
            self.affects(key, Request::one(on_key("EXISTS", key.text())))
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        boxed(self, move || self.read_many(keys))
    }

    fn get_with_ttls<'a>(
        &'a self,
        keys: &'a [Key<'a>],
    ) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        boxed(self, move || self.topology.read_with_ttls(keys))
    }

    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry, Option<Duration>)>,
    ) -> BoxFuture<'a, Result<()>> {
        boxed(self, move || self.write_many(entries))
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        boxed(self, move || self.remove_many(keys))
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        from: Option<String>,
        _: usize,
    ) -> BoxFuture<'a, Result<ScanPage>> {
        boxed(self, move || self.keys_from(prefix, from))
    }

    fn shared_loads(&self) -> SharedLoads {
        SharedLoads::ByDefault
    }

    fn claim<'a>(
        &'a self,
        keys: &'a [Key<'a>],
        mode: ClaimMode,
    ) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        boxed(self, move || self.claims.claim(keys, mode))
    }

    fn settle<'a>(&'a self, loads: Vec<Settlement<'a>>) -> BoxFuture<'a, Result<Vec<bool>>> {
        boxed(self, move || async move {
            let written = loads
                .iter()
                .filter(|load| !matches!(load.loaded, Settled::Unchanged));
            let keys: Vec<_> = written.map(|load| load.key).collect();
            let _copies = self.shared_state.store_writes(&keys);
            self.claims.settle(loads).await
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        boxed(self, move || self.topology.ping())
    }
}

cacheio_core::__blocking_store!(() Redis, this => this);

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.topology).finish()
    }
}

/// Boxes the future of an operation, with its failure as an error of the cache. The future is made in the
/// box: one that takes another by value holds it twice.
fn boxed<'a, T: Send + 'a, F: Future<Output = Result<T, Failure>> + Send + 'a>(
    redis: &'a Redis,
    operation: impl FnOnce() -> F + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move {
        runtime()?;
        let result = operation().await;
        result.map_err(|failure| failure.into_error(&redis.name))
    })
}

/// Builds a command on some of the keys, by their positions.
fn on_part(name: &str, keys: &[Key<'_>], part: &[usize]) -> Cmd {
    on_keys(name, part.iter().map(|at| keys[*at].text()))
}
