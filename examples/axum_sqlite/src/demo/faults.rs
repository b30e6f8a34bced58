//! What makes a database slow, or lets it fail: its connections, and a switch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::{Error, Result};

/// The number of queries at the same time. Others wait for a connection.
const CONNECTIONS: usize = 12;

/// How long a query waits for a connection.
const WAIT: Duration = Duration::from_millis(500);

const QUERY: Duration = Duration::from_millis(20);
const SLOW_QUERY: Duration = Duration::from_millis(400);

/// The state of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// A query takes 20 ms.
    #[default]
    Normal,
    /// A query takes 400 ms.
    Slow,
    /// Queries fail at once.
    Down,
    /// Queries do not end, until the state is another one; then they fail.
    Hangs,
}

/// The connections of one database. Clones share them.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Connections>);

#[derive(Debug)]
struct Connections {
    free: Arc<Semaphore>,
    health: watch::Receiver<Health>,
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Faults {
    /// Creates the connections of a database whose health a switch sets.
    pub fn new(health: watch::Receiver<Health>) -> Self {
        Self(Arc::new(Connections {
            free: Arc::new(Semaphore::new(CONNECTIONS)),
            health,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }))
    }

    /// Creates connections to another database with the same switch.
    pub fn of_another(&self) -> Self {
        Self::new(self.0.health.clone())
    }

    /// Returns the number of queries that have begun.
    pub fn queries(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Returns the number of queries that have ended without an error.
    pub fn results(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Runs a query as soon as there is a connection, and for as long as a query takes. The database goes on with a
    /// query whose caller has left.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connections = Arc::clone(&self.0);
        let free = Arc::clone(&connections.free).acquire_owned();
        let connection = match timeout(WAIT, free).await {
            Ok(connection) => connection.map_err(Error::internal)?,
            Err(_) => return Err(Error::internal("no free connection")),
        };
        let query = async move {
            connections.begun.fetch_add(1, Ordering::Relaxed);
            connections.pause().await?;
            // SQLite blocks.
            let result = tokio::task::spawn_blocking(query).await;
            connections.ended.fetch_add(1, Ordering::Relaxed);
            drop(connection);
            result.map_err(Error::internal)?
        };
        tokio::spawn(query).await.map_err(Error::internal)?
    }
}

impl Connections {
    /// Does what the state of the database makes of a query that begins now.
    async fn pause(&self) -> Result<()> {
        let mut health = self.health.clone();
        let now = *health.borrow_and_update();
        match now {
            Health::Normal => sleep(QUERY).await,
            Health::Slow => sleep(SLOW_QUERY).await,
            Health::Down => return Err(Error::internal("connection refused")),
            Health::Hangs => {
                health.changed().await.map_err(Error::internal)?;
                return Err(Error::internal("connection reset"));
            }
        }
        Ok(())
    }
}
