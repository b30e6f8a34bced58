//! Real servers for the tests: started on free ports of the loopback, and gone with the test process.
//!
//! - [`Memcached`], [`Redis`], [`RedisCluster`]: started, killed, restarted, paused at will.
//! - [`lease`]: one out of a pool, empty, for a test of its own.
//! - [`Proxy`]: stands between a client and a server, to count and to harm.
//!
//! A missing server fails the test that needs it, with the command that installs it.

mod cluster;
mod memcached;
mod process;
mod proxy;
mod redis;

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

pub use cluster::RedisCluster;
pub use memcached::Memcached;
pub use proxy::Proxy;
pub use redis::{Redis, Reply};

/// A kind of server that tests can lease.
pub trait Server: Send + Sync + Sized + 'static {
    /// Starts one.
    fn start() -> Self;

    /// Empties it and drops its connections; whether it is as good as new.
    fn renew(&self) -> bool;

    /// Those that nobody uses.
    fn idle() -> &'static Mutex<Vec<Self>>;
}

/// A server that belongs to one test until it is dropped.
#[derive(Debug)]
pub struct Lease<S: Server>(Option<S>);

/// An empty server: one that an earlier test has given back, or a new one.
pub fn lease<S: Server>() -> Lease<S> {
    let idle = S::idle()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop();
    Lease(Some(idle.unwrap_or_else(S::start)))
}

impl<S: Server> Deref for Lease<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.0 {
            Some(server) => server,
            None => unreachable!("it is there until the lease is dropped"),
        }
    }
}

impl<S: Server> Drop for Lease<S> {
    fn drop(&mut self) {
        if let Some(server) = self.0.take().filter(S::renew) {
            S::idle()
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(server);
        }
    }
}
