//! One server and the connections to it.

use std::fmt;
use std::sync::Arc;

use cacheio_core::Key;

use crate::batching::Batcher;

/// The connections to one server. A key always uses the same connection, so that writes to it keep
/// their order.
#[derive(Clone)]
pub(crate) struct Server(Arc<[Arc<Batcher>]>);

impl Server {
    pub(crate) fn new(connections: impl IntoIterator<Item = Batcher>) -> Self {
        Self(connections.into_iter().map(Arc::new).collect())
    }

    pub(crate) fn connection(&self, key: &Key<'_>) -> &Arc<Batcher> {
        &self.0[(key.hash() % self.0.len() as u64) as usize]
    }

    pub(crate) fn first(&self) -> &Arc<Batcher> {
        &self.0[0]
    }

    pub(crate) fn connections(&self) -> &[Arc<Batcher>] {
        &self.0
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first().fmt(f)
    }
}
