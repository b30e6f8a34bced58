//! Real servers for the tests, started on free ports of the loopback and stopped with the test
//! process.
//!
//! - [`Memcached`], [`Redis`], [`RedisCluster`]: servers that a test can kill, restart and pause.
//! - [`Sentinel`]: makes a replica of a [`Redis`] the master.
//! - [`lease`]: an empty server out of a pool, for one test alone.
//! - [`Proxy`]: forwards between a client and a server; counts, delays, cuts, and loses replies.
//! - [`FakeRedis`]: replies what a test wants.
//!
//! A missing server fails the test that needs it, with the command that installs it.

mod cluster;
mod fake_redis;
mod memcached;
mod process;
mod proxy;
mod push_filter;
mod redis;
mod sentinel;

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

pub use cluster::{ClusterReplica, RedisCluster};
pub use fake_redis::FakeRedis;
pub use memcached::Memcached;
pub use proxy::Proxy;
pub use redis::{Redis, Reply};
pub use sentinel::Sentinel;

use crate::fixture::TestEnv;

/// A kind of server that tests can lease.
pub trait Server: Send + Sync + Sized + 'static {
    /// Starts a server.
    fn start() -> Self;

    /// Empties the server and drops its connections; returns whether it can be leased again.
    fn renew(&self) -> bool;

    /// Returns the servers that are not leased.
    fn idle() -> &'static Mutex<Vec<Self>>;
}

/// A server that belongs to one test until it is dropped.
#[derive(Debug)]
pub struct Lease<S: Server>(Option<S>);

/// Returns an empty server: one that an earlier test returned, or a new one.
pub fn lease<S: Server>() -> Lease<S> {
    let idle = S::idle()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop();
    Lease(Some(idle.unwrap_or_else(S::start)))
}

/// Leases a server that no other test uses until this one ends.
pub fn lease_for<S: Server>(env: &TestEnv) -> Arc<Lease<S>> {
    let lease = Arc::new(lease());
    env.keep(Arc::clone(&lease));
    lease
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
