//! A slow database that can fail or hang, and counts its queries.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// The duration of a query.
const LATENCY: Duration = Duration::from_millis(50);

/// The number of concurrent queries; others wait for a connection. Together 200 queries a second.
const CONNECTIONS: usize = 10;

/// The content of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) cents: u64,
}

/// A pool of connections to the database, cheap to clone like those of real clients.
#[derive(Clone, Debug)]
pub(crate) struct Database(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    connections: Semaphore,
    health: Mutex<Health>,
    queries: AtomicU64,
}

/// What happens to queries that begin now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Health {
    Up,
    /// The database refuses them.
    Failing,
    /// They never end, as over a connection to a host that crashed.
    Hanging,
}

/// The error of a query.
#[derive(Debug)]
pub(crate) struct Refused;

impl Database {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Pool {
            connections: Semaphore::new(CONNECTIONS),
            health: Mutex::new(Health::Up),
            queries: AtomicU64::new(0),
        }))
    }

    /// Runs one query. The connection is released when the query ends or is dropped.
    pub(crate) async fn product(&self, id: u64) -> Result<Product, Refused> {
        let _connection = self.0.connections.acquire().await.map_err(|_| Refused)?;
        self.0.queries.fetch_add(1, Ordering::Relaxed);
        match self.health() {
            Health::Up => sleep(LATENCY).await,
            Health::Failing => return Err(Refused),
            Health::Hanging => pending().await,
        }
        Ok(Product {
            id,
            name: format!("Product {id}"),
            cents: id * 100 + 99,
        })
    }

    /// Returns how many queries have reached the database.
    pub(crate) fn queries(&self) -> u64 {
        self.0.queries.load(Ordering::Relaxed)
    }

    /// Sets the count to zero.
    pub(crate) fn reset_queries(&self) {
        self.0.queries.store(0, Ordering::Relaxed);
    }

    /// Changes its health after a while, and recovers after another.
    pub(crate) async fn fail_for(&self, health: Health, after: Duration, lasting: Duration) {
        sleep(after).await;
        self.set_health(health);
        sleep(lasting).await;
        self.set_health(Health::Up);
    }

    fn health(&self) -> Health {
        *self.0.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_health(&self, health: Health) {
        *self.0.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database refuses queries")
    }
}

impl std::error::Error for Refused {}
