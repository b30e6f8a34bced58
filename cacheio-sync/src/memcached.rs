//! Memcached.

mod address;
mod batch;
mod builder;
mod clear;
mod connection;
mod counter;
mod doubt;
mod expiry;
mod pool;
mod protocol;
mod server;
mod stream;
#[cfg(feature = "memcached-tls")]
mod tls;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tokio")]
use cacheio_core::__private::Spawner;
use cacheio_core::__private::{CacheUrl, Opens, SharedState};
use memcache::exp::{MetaOp, Rendezvous, ReturnCode, Router as _};

pub use builder::MemcachedBuilder;
use protocol::{Answer, Request, VALUE_MAX, too_large};
use server::{Effect, Server};

use crate::{Entry, Error, ErrorKind, Form, Key, Payload, Result, Store};

/// Memcached: one server, or several that share the keys.
///
/// Connections are made when they are needed and mended by themselves; a server that is absent is
/// no error of construction. Cheap to clone: clones share all connections.
///
/// - **Servers**: 1.6 and later, whose meta protocol is spoken. Each key has one server
///   ([`MemcachedBuilder::server`]); one that is down is an error for its keys alone.
/// - **Time**: no call takes longer than the [timeout](MemcachedBuilder::timeout), all in all, but
///   [`clear`](Store::clear), which goes on while the server answers. A server that does not answer
///   costs those who wait for it one timeout; then calls fail at once, and it is asked again by
///   itself until it answers.
/// - **TTLs** are whole seconds to the server, and its clock ticks once a second: an entry lives as
///   long as asked, and up to two seconds longer. Nothing ends after January 2038, unless it never
///   ends.
/// - **Values** are the bytes of the entry, with client flags of 0; flags that others wrote do not
///   matter. More than the server's `-I` (1 MiB unless it was set) is
///   [too large](ErrorKind::TooLarge): what was under the key is gone then, for
///   [`add`](Store::add) too.
/// - **Counters** are integers in ASCII. Adding to one that is not below zero takes one round trip,
///   anything else two or more; the TTL of one below zero is kept to about a second. In the moment
///   in which an overflow is found, others may see the counter beyond the range.
/// - **`clear`** lets the server list all its keys, and deletes those of the namespace: the time it
///   takes grows with all that the server holds.
///
/// ```no_run
/// use cacheio_sync::{Cache, Memcached};
///
/// let cache = Cache::builder()
///     .store(Memcached::new("memcache://127.0.0.1:11211")?)
///     .namespace("shop")
///     .build()?;
/// cache.set("greeting", "hello")?;
/// # Ok::<(), cacheio_sync::Error>(())
/// ```
#[derive(Clone)]
pub struct Memcached(Arc<Cluster>);

impl Memcached {
    /// The store that a URL names:
    ///
    /// - `memcache://host`, `memcache://host:11211`, `memcache://a:11211,b:11211`, `memcache://[::1]`
    /// - `memcache:///run/memcached.sock`
    /// - `memcache+tls://host:11211`, with the feature `memcached-tls`
    /// - `memcache://user:password@host`, percent-encoded, for servers with an `--auth-file`
    ///
    /// Parameters: `timeout` (`500ms`, `2s`) and `pool` (connections a server), and with TLS `ca`,
    /// and `cert` with `key`: paths of PEM files.
    ///
    /// No connection is made.
    ///
    /// ```
    /// use cacheio_sync::Memcached;
    ///
    /// let store = Memcached::new("memcache://user:secret@10.0.0.7,10.0.0.8?timeout=200ms")?;
    /// assert_eq!(
    ///     format!("{store:?}"),
    ///     r#"Memcached { servers: [10.0.0.7:11211, 10.0.0.8:11211], timeout: 200ms }"#,
    /// );
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when it makes no sense. The error shows no password.
    pub fn new(url: &str) -> Result<Self> {
        let mut url = CacheUrl::parse(url)?;
        let store = Self::from_cache_url(&mut url)?;
        url.finish(Self::PARAMETERS)?;
        Ok(store)
    }

    /// Sets a store up by its parts.
    ///
    /// ```
    /// use cacheio_sync::Memcached;
    /// use std::time::Duration;
    ///
    /// let store = Memcached::builder()
    ///     .server("10.0.0.7")
    ///     .server("10.0.0.8:11212")
    ///     .timeout(Duration::from_millis(200))
    ///     .build()?;
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    pub fn builder() -> MemcachedBuilder {
        MemcachedBuilder::default()
    }

    #[doc(hidden)]
    pub const SCHEMES: &[&str] = url::SCHEMES;

    #[doc(hidden)]
    pub const PARAMETERS: &[&str] = url::PARAMETERS;

    /// Takes its own parameters out of a URL.
    #[doc(hidden)]
    pub fn from_cache_url(url: &mut CacheUrl<'_>) -> Result<Self> {
        url.expect(Self::SCHEMES)?;
        url::builder(url)?.build()
    }
}

/// The servers, and which of them has a key.
struct Cluster {
    servers: Vec<Arc<Server>>,
    names: Vec<String>,
    router: Rendezvous,
    timeout: Duration,
    opens: Opens,
    shared_state: Arc<SharedState>,
    #[cfg(feature = "tokio")]
    spawner: Spawner,
}

// For tasks, on the runtime's threads for blocking work. A call's own bound comes on top of the
// store's: it may have to wait for a thread.
#[cfg(feature = "tokio")]
cacheio_core::__spawn_blocking_store!(() Memcached, this => this.0.spawner, this.clone());

impl Cluster {
    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Which server has a key: the same in every process.
    fn route(&self, key: &Key<'_>) -> usize {
        match self.names.len() {
            1 => 0,
            _ => self.router.route(key.text().as_bytes(), &self.names),
        }
    }

    fn server(&self, key: &Key<'_>) -> &Arc<Server> {
        &self.servers[self.route(key)]
    }

    /// One command on one key; what `read` makes of the answer.
    fn ask<T>(
        &self,
        key: &Key<'_>,
        effect: Effect,
        request: &Request,
        read: impl FnOnce(&mut Answer) -> Option<T>,
    ) -> Result<T> {
        let server = self.server(key);
        let answer = server.ask(effect, request, server.deadline());
        let mut answer = answer.map_err(|failure| server.error(failure))?;
        read(&mut answer).ok_or_else(|| server.unexpected(&answer))
    }

    fn store(
        &self,
        key: &Key<'_>,
        value: &[u8],
        ttl: Option<Duration>,
        mode: Option<&str>,
    ) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + value.len() + 64);
        let command = request.command(MetaOp::Set, key.text())?.length(value)?;
        let command = mode.into_iter().fold(command, Request::flag);
        command.number('T', expiry::exptime(ttl)).value(value);
        let effect = match mode {
            None => Effect::Write,
            Some(_) => Effect::Once,
        };
        self.ask(key, effect, &request, |answer| match answer.code {
            ReturnCode::Hd => Some(true),
            ReturnCode::Ns => Some(false),
            _ => None,
        })
    }
}

/// What is stored of an entry.
fn bytes(entry: Entry) -> Result<Vec<u8>> {
    match entry.payload {
        Payload::Bytes(bytes) => Ok(bytes),
        Payload::Object(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "a server keeps bytes, not values",
        )),
    }
}

impl fmt::Debug for Memcached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memcached")
            .field("servers", &self.0.servers)
            .field("timeout", &self.0.timeout)
            .finish()
    }
}

impl Store for Memcached {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn shared_state(&self) -> Option<Arc<SharedState>> {
        Some(Arc::clone(&self.0.shared_state))
    }

    fn circuit_opens(&self) -> u64 {
        self.0.opens.count()
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let mut request = Request::with_capacity(key.text().len() + 8);
        request.command(MetaOp::Get, key.text())?.flag("v").end();
        self.0
            .ask(key, Effect::Nothing, &request, |answer| match answer.code {
                ReturnCode::Va => Some(Some(Entry::bytes(std::mem::take(&mut answer.value)))),
                ReturnCode::En => Some(None),
                _ => None,
            })
    }

    fn has(&self, key: &Key<'_>) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + 8);
        request.command(MetaOp::Get, key.text())?.end();
        self.0
            .ask(key, Effect::Nothing, &request, |answer| match answer.code {
                ReturnCode::Hd => Some(true),
                ReturnCode::En => Some(false),
                _ => None,
            })
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let value = bytes(entry)?;
        if value.len() > VALUE_MAX {
            // Not even sent; what the server does with what it refuses is done here.
            self.delete(key)?;
            return Err(too_large());
        }
        self.0.store(key, &value, ttl, None).map(drop)
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        self.0.store(key, &bytes(entry)?, ttl, Some("ME"))
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + 8);
        request.command(MetaOp::Delete, key.text())?.end();
        self.0
            .ask(key, Effect::Write, &request, |answer| match answer.code {
                ReturnCode::Hd => Some(true),
                ReturnCode::Nf => Some(false),
                _ => None,
            })
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        counter::increment(self.0.server(key), key, by, ttl)
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + 32);
        let command = request.command(MetaOp::Get, key.text())?;
        command.number('T', expiry::exptime(ttl)).end();
        self.0
            .ask(key, Effect::Write, &request, |answer| match answer.code {
                ReturnCode::Hd => Some(true),
                ReturnCode::En => Some(false),
                _ => None,
            })
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        self.0.get_many(keys)
    }

    fn set_many(&self, entries: Vec<(Key<'_>, Entry)>, ttl: Option<Duration>) -> Result<()> {
        self.0.set_many(entries, ttl)
    }

    fn delete_many(&self, keys: &[Key<'_>]) -> Result<usize> {
        self.0.delete_many(keys)
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.0.clear(prefix)
    }

    fn ping(&self) -> Result<()> {
        let mut request = Request::default();
        request.noop();
        let mut result = Ok(());
        for server in &self.0.servers {
            let answer = server.ask(Effect::Nothing, &request, server.deadline());
            let pong = answer.map(drop).map_err(|failure| server.error(failure));
            result = result.and(pong);
        }
        result
    }
}
