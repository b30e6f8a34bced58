//! A store on Redis or Valkey, over the `redis` crate and tokio.
//!
//! One connection, shared by all callers and mended by itself, on which requests keep their order.
//! Each operation is one round trip, and takes no longer than its timeout.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{Opens, SharedState};
use cacheio_core::{AsyncStore, BoxFuture, Entry, Error, ErrorKind, Form, Key, Result};
use redis::{Client, Cmd, cmd};

use crate::builder::RedisBuilder;
use crate::failure::Failure;
use crate::link::Link;
use crate::nodes::{Links, Nodes, all};
use crate::request::{
    Request, bytes, done, entry, integer, last, named, on_all, set, value, values,
};
use crate::target::Target;

/// How long an operation may take, unless it is said.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// A store on Redis, or on Valkey, `KeyDB`, Dragonfly and what else speaks as it does (RESP3; RESP2
/// with servers older than Redis 6).
///
/// Cheap to clone: clones share the connection. It is made on first use, on the tokio runtime that
/// the first caller runs on, and made anew when it breaks or that runtime ends. A server that does
/// not answer costs those who wait for it one timeout; after that, calls fail at once while the
/// store itself asks the server until it is back.
///
/// Callers that read at the same time share requests, so that many of them get more out of a server
/// than its client alone would; a caller alone asks directly.
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
    nodes: Arc<Nodes>,
    opens: Opens,
    shared_state: Arc<SharedState>,
}

impl Redis {
    /// The store at a URL; no connection is made yet.
    ///
    /// | URL | where |
    /// | --- | --- |
    /// | `redis://user:password@host:6379/0` | a server; all but the host may be left out |
    /// | `rediss://host` | the same over TLS (feature `redis-tls`) |
    /// | `redis+unix:///path/to/socket?db=0` | a server behind a Unix socket |
    /// | `redis-sentinel://host:26379,host:26379/master/0` | the master that the sentinels name |
    /// | `redis-cluster://host:6379,host:6379` | a cluster, some of whose nodes are named |
    ///
    /// `valkey://` and `valkeys://` are the same as `redis://` and `rediss://`. What in a user name
    /// or password could be taken for a part of the URL is percent-encoded. Parameters: `timeout`
    /// (`500ms`; 1 s by default), `connections` (1), `db`, `protocol` (`resp2` or `resp3`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when the URL is none of these.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).build()
    }

    /// The store that a client of the `redis` crate would connect to, as that is set up: with
    /// certificates of your own, for instance.
    pub fn from_client(client: Client) -> Self {
        let opens = Opens::default();
        let link = Link::new(Target::server(client), TIMEOUT, &opens);
        Self::over(Nodes::one(Links::new([link]), TIMEOUT), opens)
    }

    /// A builder, for timeouts and more connections.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    pub(crate) fn over(nodes: Nodes, opens: Opens) -> Self {
        Self {
            nodes: Arc::new(nodes),
            opens,
            shared_state: Arc::default(),
        }
    }

    async fn set_one(
        &self,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<(), Failure> {
        let bytes = match bytes(entry) {
            Ok(bytes) => bytes,
            Err(error) => {
                // What was there must not be taken for what was to replace it.
                self.delete_one(key).await?;
                return Err(error.into());
            }
        };
        let request = Request::one(set(key.text(), &bytes, ttl));
        done(self.nodes.ask(key, &request).await?).map(drop)
    }

    async fn delete_one(&self, key: &Key<'_>) -> Result<bool, Failure> {
        let request = Request::one(named("UNLINK", key.text()));
        Ok(integer(self.nodes.ask(key, &request).await?)? > 0)
    }

    async fn read_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>, Failure> {
        let mut entries = vec![None; keys.len()];
        for part in self
            .nodes
            .ask_many(keys, usize::MAX, |part| on(keys, "MGET", part))
            .await?
        {
            for (at, answer) in part.keys.into_iter().zip(values(part.answer)?) {
                entries[at] = entry(answer)?;
            }
        }
        Ok(entries)
    }

    async fn write_many(
        &self,
        entries: Vec<(Key<'_>, Entry)>,
        ttl: Option<Duration>,
    ) -> Result<(), Failure> {
        let (keys, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let entries = entries.into_iter().map(bytes).collect::<Result<Vec<_>>>()?;
        // MSET knows no TTL.
        let parts = if ttl.is_some() {
            let command = |part: &[usize]| set(keys[part[0]].text(), &entries[part[0]], ttl);
            self.nodes.ask_many(&keys, 1, command).await?
        } else {
            let command = |part: &[usize]| {
                let mut command = cmd("MSET");
                for at in part {
                    command.arg(keys[*at].text()).arg(&entries[*at]);
                }
                command
            };
            self.nodes.ask_many(&keys, usize::MAX, command).await?
        };
        for part in parts {
            done(part.answer)?;
        }
        Ok(())
    }

    async fn remove_many(&self, keys: &[Key<'_>]) -> Result<usize, Failure> {
        let parts = self
            .nodes
            .ask_many(keys, usize::MAX, |part| on(keys, "UNLINK", part));
        let mut count = 0;
        for part in parts.await? {
            count += integer(part.answer)?;
        }
        Ok(usize::try_from(count).unwrap_or_default())
    }

    async fn remove_all(&self, prefix: &str) -> Result<(), Failure> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a cache without a namespace is all there is on its server, which is never flushed: \
                 give the cache a namespace, or empty the server yourself",
            )
            .into());
        }
        let pattern = pattern(prefix);
        let servers = self.nodes.servers().await?;
        let cleared = servers.iter().map(|server| async {
            let mut cursor = b"0".to_vec();
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(&cursor)
                    .arg("MATCH")
                    .arg(&pattern)
                    .arg("COUNT")
                    .arg(1000);
                let answer = server
                    .ask(&Request::one(scan), self.nodes.deadline())
                    .await?;
                let mut found = values(answer)?.into_iter();
                let next = found.next().map(value).transpose()?.flatten();
                let keys = found.next().map(values).transpose()?.unwrap_or_default();
                let keys = keys
                    .into_iter()
                    .map(|key| Ok(value(key)?.unwrap_or_default()));
                self.remove_found(keys.collect::<Result<Vec<_>, Failure>>()?)
                    .await?;
                cursor = next.ok_or_else(Failure::unexpected)?;
                if cursor == b"0" {
                    return Ok(());
                }
            }
        });
        all(cleared).await.into_iter().collect()
    }

    /// Removes what a scan found. Keys of ours are text; others are left alone.
    async fn remove_found(&self, keys: Vec<Vec<u8>>) -> Result<(), Failure> {
        let texts: Vec<&str> = keys
            .iter()
            .filter_map(|key| std::str::from_utf8(key).ok())
            .collect();
        let keys: Vec<Key<'_>> = texts.into_iter().map(Key::new).collect();
        self.remove_many(&keys).await.map(drop)
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

    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        told(async move { Ok(self.nodes.get(key).await?.map(Entry::bytes)) })
    }

    fn set<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        told(self.set_one(key, entry, ttl))
    }

    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        told(self.delete_one(key))
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        told(self.remove_all(prefix))
    }

    fn add<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool>> {
        told(async move {
            let request = Request::add(key.text(), &bytes(entry)?, ttl);
            done(self.nodes.ask(key, &request).await?)
        })
    }

    fn increment<'a>(
        &'a self,
        key: &'a Key<'a>,
        by: i64,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<i64>> {
        told(async move {
            let request = Request::increment(key.text(), by, ttl);
            integer(last(self.nodes.ask(key, &request).await?)?)
        })
    }

    fn touch<'a>(&'a self, key: &'a Key<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool>> {
        told(async move {
            let request = Request::touch(key.text(), ttl);
            Ok(integer(last(self.nodes.ask(key, &request).await?)?)? > 0)
        })
    }

    fn has<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        told(async move {
            let request = Request::one(named("EXISTS", key.text()));
            Ok(integer(self.nodes.ask(key, &request).await?)? > 0)
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        told(self.read_many(keys))
    }

    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry)>,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        told(self.write_many(entries, ttl))
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        told(self.remove_many(keys))
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        told(self.nodes.ping())
    }
}

cacheio_core::__blocking_store!(() Redis, this => this);

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.nodes).finish()
    }
}

/// What a call came to, as the cache is told.
fn told<'a, T: Send + 'a>(
    asked: impl Future<Output = Result<T, Failure>> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async { asked.await.map_err(Failure::into_error) })
}

/// A command on those of the keys that `part` numbers.
fn on(keys: &[Key<'_>], name: &str, part: &[usize]) -> Cmd {
    on_all(name, part.iter().map(|at| keys[*at].text().as_bytes()))
}

/// What SCAN matches with all keys that begin with `prefix`, and no others.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_itself_and_nothing_else() {
        assert_eq!(pattern("shop:"), "shop:*");
        assert_eq!(pattern(r"a*b?[c]\d:"), r"a\*b\?\[c\]\\d:*");
    }
}
