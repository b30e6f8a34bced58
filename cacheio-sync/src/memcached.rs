//! The Memcached store: its public type, for threads and tasks.
//!
//! Each operation is written once, as an `async fn` of `Cluster`. It waits by its `Call` (`call.rs`),
//! which has the one deadline of the operation: in a task the future is suspended, on a thread it
//! blocks, so that one poll runs it to its end.
//!
//! The path of one `get`:
//!
//! 1. `Cluster::get` (`cluster.rs`) writes the command `mg <key> v` into a `Request` (`protocol.rs`),
//!    and finds the server of the key by rendezvous hashing.
//! 2. `Server::begin` (`server.rs`) checks the circuit breaker, and waits for a permit (`pool.rs`), or is
//!    refused one if the server is overloaded. The
//!    `Lease` (`lease.rs`) takes an idle connection from the pool, or opens one (`endpoint.rs`), and
//!    sends the request (`connection.rs`, `stream.rs`, `socket.rs`).
//! 3. `Exchange::read` (`server.rs`) receives until the `Decoder` (`decoder.rs`) has a complete
//!    response. If a pooled connection turns out to be dead, it sends the request again on a new one
//!    (`retry.rs`).
//! 4. The closure in `Cluster::get` turns the response into an entry. A response that does not fit is a
//!    `Failure` (`failure.rs`), as is an error of the connection.
//! 5. The drop of the `Lease` puts the connection back into the pool, keeps it until its write is
//!    confirmed, or closes it. This is the same after a success, a failure, and a dropped future.
//!
//! A write takes the same path, but waits before step 2 until the server has confirmed the writes
//! that got no response earlier (`unconfirmed.rs`). Nothing below does I/O but `socket.rs`,
//! `os_socket.rs` (threads), `tokio_socket.rs` (tasks) and `resolver.rs`; TLS (`tls.rs`) runs over any
//! socket. Operations on many keys are in `batch.rs`, counters in `counter.rs`, changes of entries
//! that were read in `replace.rs`, `clear` in `clear.rs`, `scan` in `scan.rs`, the listing that both use in
//! `listing.rs`, claims in `claims.rs`, `claim.rs`, `settle.rs` and
//! `runs.rs`, TTLs in `exptime.rs`, construction in `builder.rs` and `url.rs`.

mod address;
mod batch;
mod builder;
mod call;
mod claim;
mod claims;
mod clear;
mod cluster;
mod connection;
mod counter;
mod decoder;
mod endpoint;
mod exptime;
mod failure;
mod lease;
mod listing;
mod os_socket;
mod pool;
mod protocol;
mod replace;
mod resolver;
mod retry;
mod router;
#[cfg(feature = "tokio")]
mod run_to_end;
mod runs;
mod scan;
mod server;
mod settle;
mod socket;
mod stream;
#[cfg(feature = "memcached-tls")]
mod tls;
#[cfg(feature = "tokio")]
mod tokio_socket;
mod unconfirmed;
mod url;

use std::fmt;
use std::sync::Arc;

use cacheio_core::__private::{CacheUrl, MEMCACHED_SCHEMES, SharedState, poll_ready};

pub use builder::MemcachedBuilder;
use call::Driver;
use cluster::Cluster;

use crate::Result;
use crate::store::{self, Form, SharedLoads, Store};
#[cfg(feature = "tokio")]
use crate::store::{AsyncStore, BoxFuture};

/// Stores entries on Memcached: on one server, or on several that share the keys.
///
/// Connections are opened when they are needed, and reopened after a failure, so a server may be
/// down when the store is built. Cloning is cheap: clones share all connections.
///
/// - **Servers**: memcached 1.6 or later, through its meta protocol. Each key belongs to one server
///   (see [`MemcachedBuilder::server`]). While a server is down, only operations on its keys fail.
/// - **Round trips**: one for an operation on one key, except for some counters, `take` and `update`, which read
///   before they write. An operation on many keys takes one to each
///   server, all at the same time. A batch of more than 32 KiB is sent in parts and takes more.
/// - **Time**: an operation ends within the [timeout](MemcachedBuilder::timeout), including
///   waiting for a connection, connecting, the TLS handshake and retrying. [`clear`](Store::clear) and
///   [`scan`](Store::scan) may take longer: their timeout starts again with each line of the response. When a server stops
///   responding, the callers that wait for it time out once. From then on calls to it fail at once,
///   until it responds to the probes that the store sends in the background.
/// - **Lost responses**: reads, and writes with the same effect the second time, are sent again. Then
///   [`delete`](Store::delete) may return `false` although it has removed an entry.
/// - **Overload**: if a server has more requests than it can answer within the timeout, fewer
///   connections are used. Calls that would wait for too long fail at once, with
///   [`Timeout`](crate::ErrorKind::Timeout).
/// - **Tasks** use connections of their own, on every runtime and executor. The caller's runtime drives
///   them if it is one of tokio with several threads and I/O; otherwise one thread of the process does,
///   named `cacheio`, which also runs the timers. An operation whose future is dropped stops: if a write
///   was sent, later writes wait until the server has processed it.
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
/// - **Shared loads**: with `shared_loads(true)` in the cache's builder, one process at a time loads a key. While
///   it is loaded, a missing key has an empty item, and a second item of a few bytes names the process. An empty
///   item is no entry to any operation of this store, also if another program has stored it.
/// - **`clear`** lists all keys of the server and deletes those of the namespace, so it takes longer
///   the more entries the server holds. So do `keys` and `entries` of a cache, until they have enough. A server runs one
///   listing at a time; others wait for it, up to ten timeouts. A memcached without
///   `lru_crawler metadump hash` may miss keys that are used at the same time.
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

/// Implements the operations for threads.
macro_rules! for_threads {
    (@methods {}
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties $properties:tt
    ) => {
        impl Store for Memcached {
            $(fn $operation(&self, $($arg: $type),*) -> Result<$output> {
                poll_ready(self.0.$operation(Driver::Threads, $($arg),*))
            })*

            fn form(&self) -> Form {
                Form::Bytes
            }

            fn shared_state(&self) -> Option<Arc<SharedState>> {
                Some(Arc::clone(&self.0.shared_state))
            }

            fn shared_loads(&self) -> SharedLoads {
                SharedLoads::OnRequest
            }

            fn circuit_opens(&self) -> u64 {
                self.0.opens.count()
            }

            fn server(&self) -> Option<store::Server> {
                Some(self.0.span_server())
            }
        }
    };
}

cacheio_core::__store_methods!('_, { for_threads } {});

/// Implements the operations for tasks.
#[cfg(feature = "tokio")]
macro_rules! for_tasks {
    (@methods {}
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties $properties:tt
    ) => {
        impl AsyncStore for Memcached {
            $(fn $operation<'a>(&'a self, $($arg: $type),*) -> BoxFuture<'a, Result<$output>> {
                Box::pin(self.0.$operation(Driver::Tasks, $($arg),*))
            })*

            fn form(&self) -> Form {
                Store::form(self)
            }

            fn shared_state(&self) -> Option<Arc<SharedState>> {
                Store::shared_state(self)
            }

            fn shared_loads(&self) -> SharedLoads {
                Store::shared_loads(self)
            }

            fn circuit_opens(&self) -> u64 {
                Store::circuit_opens(self)
            }

            fn server(&self) -> Option<store::Server> {
                Store::server(self)
            }
        }
    };
}

#[cfg(feature = "tokio")]
cacheio_core::__store_methods!('a, { for_tasks } {});
