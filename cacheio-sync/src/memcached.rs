//! The Memcached store: its public type, and one method for each operation.
//!
//! The path of one `get`:
//!
//! 1. `Memcached::get` (here) writes the command `mg <key> v` into a `Request` (`protocol.rs`).
//! 2. `Cluster::execute` (`cluster.rs`) finds the server of the key by rendezvous hashing.
//! 3. `Server::begin` (`server.rs`) checks the circuit breaker, and takes a permit and an idle
//!    connection from the pool (`pool.rs`), or opens a connection (`endpoint.rs`, `stream.rs`,
//!    `tls.rs`). Then it sends the request (`connection.rs`, `timed_stream.rs`).
//! 4. `Exchange::finish` (`server.rs`) reads the response through `Connection::read_response`
//!    (`connection.rs`), which `Head::parse` (`protocol.rs`) decodes. If a pooled connection turns
//!    out to be dead, it sends the request again on a new one (`retry.rs`).
//! 5. `Exchange::finish` puts the connection back into the pool and reports the outcome to the
//!    circuit breaker.
//! 6. `Memcached::get` turns the response into an entry; a `Failure` becomes an error
//!    (`failure.rs`).
//!
//! A write takes the same path, but waits before step 3 until the server has confirmed the writes
//! that timed out earlier (`unconfirmed.rs`). Operations on many keys are in `batch.rs`, counters in
//! `counter.rs`, changes of entries that were read in `replace.rs`, `clear` in `clear.rs`, TTLs in
//! `exptime.rs`, construction in `builder.rs` and `url.rs`.

mod address;
mod batch;
mod builder;
mod clear;
mod cluster;
mod connection;
mod counter;
mod endpoint;
mod exptime;
mod failure;
mod pool;
mod protocol;
mod replace;
mod retry;
mod router;
mod server;
mod stream;
mod timed_stream;
#[cfg(feature = "memcached-tls")]
mod tls;
mod unconfirmed;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{CacheUrl, MEMCACHED_SCHEMES, SharedState};
use memcache::exp::{MetaOp, ReturnCode};

pub use builder::MemcachedBuilder;
use cluster::{Cluster, WriteMode, into_bytes};
use exptime::exptime;
use protocol::{Request, VALUE_MAX, too_large};
use retry::Retry;

use crate::Result;
use crate::store::{Entry, Form, Key, Replacement, Store};

/// Stores entries on Memcached: on one server, or on several that share the keys.
///
/// Connections are opened when they are needed, and reopened after a failure, so a server may be
/// down when the store is built. Cloning is cheap: clones share all connections.
///
/// - **Servers**: memcached 1.6 or later, through its meta protocol. Each key belongs to one server
///   (see [`MemcachedBuilder::server`]). While a server is down, only operations on its keys fail.
/// - **Round trips**: one for an operation on one key. An operation on many keys takes one to each
///   server, all at the same time. A batch of more than 32 KiB is sent in parts and takes more.
/// - **Time**: an operation ends within the [timeout](MemcachedBuilder::timeout), including
///   connecting and retrying. [`clear`](Store::clear) may take longer: its timeout starts again with
///   each line of the response. When a server stops responding, the callers that wait for it time
///   out once. From then on calls to it fail at once, until it responds to the probes that the store
///   sends in the background.
/// - **TTLs** are whole seconds. An entry lives at least as long as requested, and at most two
///   seconds longer. Memcached cannot store an expiry after January 2038: a longer TTL is shortened
///   to that date. Entries without a TTL never expire.
/// - **Values** are the bytes of the entry, with client flags of 0; the flags of entries written by
///   other clients are ignored. A value larger than the server's `-I` (1 MiB by default) is an error
///   of kind [`TooLarge`](crate::ErrorKind::TooLarge), and removes the entry that was under the
///   key. This holds for [`add`](Store::add) too.
/// - **Counters** are integers in ASCII. Adding 0 to 2³² to a counter that is not negative takes one
///   round trip; other increments take two or more. A negative counter keeps its TTL to within about
///   a second. An increment that overflows is undone by a second request; between the two, other
///   clients may read a counter out of the range of `i64`.
/// - **`clear`** lists all keys of the server and deletes those of the namespace, so it takes longer
///   the more entries the server holds.
///
/// ```no_run
/// use cacheio::{Cache, Memcached};
///
/// let cache = Cache::builder()
///     .store(Memcached::new("memcache://127.0.0.1:11211")?)
///     .namespace("shop")
///     .build()?;
/// cache.set("greeting", "hello")?;
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Clone)]
pub struct Memcached(Arc<Cluster>);

impl Memcached {
    /// Creates a store from a URL. Opens no connection.
    ///
    /// | URL | servers |
    /// | --- | --- |
    /// | `memcache://host`, `memcache://host:11212`, `memcache://[::1]` | one server; port 11211 by default |
    /// | `memcache://a,b:11212` | several servers that share the keys |
    /// | `memcache:///run/memcached.sock` | a server that listens on a Unix socket |
    /// | `memcache+tls://host` | a server that uses TLS; needs the feature `memcached-tls` |
    /// | `memcache://user:password@host` | a server with an `--auth-file`; user and password are percent-encoded |
    ///
    /// | parameter | value | default |
    /// | --- | --- | --- |
    /// | `timeout` | a duration such as `500ms` or `2s` | `1s` |
    /// | `connections` | the maximum number of connections to each server | `16` |
    /// | `ca` | with TLS: the PEM file of the trusted certificates | those of the system |
    /// | `cert` and `key` | with TLS: the PEM files of the client's certificate and key | none |
    ///
    /// ```
    /// use cacheio::Memcached;
    ///
    /// let store = Memcached::new("memcache://user:secret@10.0.0.7,10.0.0.8?timeout=200ms")?;
    /// assert_eq!(
    ///     format!("{store:?}"),
    ///     r#"Memcached { servers: [10.0.0.7:11211, 10.0.0.8:11211], timeout: 200ms }"#,
    /// );
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the URL or one of its parameters is not
    /// valid, or a certificate cannot be read. The error never contains the password.
    pub fn new(url: &str) -> Result<Self> {
        let mut url = CacheUrl::parse(url)?;
        let store = Self::from_cache_url(&mut url)?;
        url.finish(Self::PARAMETERS)?;
        Ok(store)
    }

    /// Returns a builder, which sets the servers and options one by one.
    ///
    /// ```
    /// use cacheio::Memcached;
    /// use std::time::Duration;
    ///
    /// let store = Memcached::builder()
    ///     .server("10.0.0.7")
    ///     .server("10.0.0.8:11212")
    ///     .timeout(Duration::from_millis(200))
    ///     .build()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn builder() -> MemcachedBuilder {
        MemcachedBuilder::default()
    }

    #[doc(hidden)]
    pub const SCHEMES: &[&str] = MEMCACHED_SCHEMES;

    #[doc(hidden)]
    pub const PARAMETERS: &[&str] = url::PARAMETERS;

    /// Creates a store from a parsed URL, and takes its parameters out of it.
    #[doc(hidden)]
    pub fn from_cache_url(url: &mut CacheUrl<'_>) -> Result<Self> {
        url.expect(Self::SCHEMES)?;
        url::parse(url)?.build()
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
        let command = request.command(MetaOp::Get, key.text())?;
        command.flag("v").flag("c").end();
        self.0
            .execute(key, Retry::Read, &request, |response| match response.code {
                ReturnCode::Va => Some(Some(replace::entry(response))),
                ReturnCode::En => Some(None),
                _ => None,
            })
    }

    fn has(&self, key: &Key<'_>) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + 8);
        request.command(MetaOp::Get, key.text())?.end();
        self.0.execute(key, Retry::Read, &request, |response| {
            response.succeeded(ReturnCode::En)
        })
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let value = into_bytes(entry)?;
        if value.len() > VALUE_MAX {
            // Such a value is not sent. The server would have removed the old entry: so does this.
            self.delete(key)?;
            return Err(too_large());
        }
        self.0.write(key, &value, ttl, WriteMode::Set).map(drop)
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        self.0.write(key, &into_bytes(entry)?, ttl, WriteMode::Add)
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + 8);
        request.command(MetaOp::Delete, key.text())?.end();
        self.0
            .execute(key, Retry::Idempotent, &request, |response| {
                response.succeeded(ReturnCode::Nf)
            })
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        counter::increment(self.0.server(key), key, by, ttl)
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + 32);
        let command = request.command(MetaOp::Get, key.text())?;
        command.number('T', exptime(ttl)).end();
        self.0
            .execute(key, Retry::Idempotent, &request, |response| {
                response.succeeded(ReturnCode::En)
            })
    }

    fn replace(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool> {
        replace::replace(self.0.server(key), key, replacement)
    }

    fn replace_many(&self, replacements: Vec<(Key<'_>, Replacement)>) -> Result<()> {
        self.0.replace_many(replacements)
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        self.0.get_many(keys)
    }

    fn set_many(&self, entries: Vec<(Key<'_>, Entry, Option<Duration>)>) -> Result<()> {
        self.0.set_many(entries)
    }

    fn delete_many(&self, keys: &[Key<'_>]) -> Result<usize> {
        self.0.delete_many(keys)
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.0.clear(prefix)
    }

    fn ping(&self) -> Result<()> {
        self.0.ping()
    }
}

// Implements `AsyncStore`: each operation runs on one of tokio's threads for blocking work.
#[cfg(feature = "tokio")]
cacheio_core::__spawn_blocking_store!(() Memcached, this => this.0.spawner, this.clone());
