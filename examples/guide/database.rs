//! A database that is slow, and can fail or hang. It counts its queries.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How long a query takes.
const LATENCY: Duration = Duration::from_millis(50);

/// How many queries run at a time: the others wait for a connection. That is 200 queries a second.
const CONNECTIONS: usize = 10;

/// What a page shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) cents: u64,
}

/// A pool of connections to the database, cheap to clone, as those of the usual clients are.
#[derive(Clone, Debug)]
pub(crate) struct Database(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    connections: Semaphore,
    health: Mutex<Health>,
    queries: AtomicU64,
}

/// What becomes of the queries that begin now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Health {
    Up,
    /// They are refused.
    Failing,
    /// They are never answered, as over a connection whose other end is gone.
    Hanging,
}

/// Why there is no answer.
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

    /// One query. It gives its connection back when it is answered, or dropped.
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

    /// How many queries have reached it.
    pub(crate) fn queries(&self) -> u64 {
        self.0.queries.load(Ordering::Relaxed)
    }

    /// Counts from now on.
    pub(crate) fn forget_queries(&self) {
        self.0.queries.store(0, Ordering::Relaxed);
    }

    /// Falls ill after a while, and is well again after another.
    pub(crate) async fn falls_ill(&self, health: Health, after: Duration, lasting: Duration) {
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
