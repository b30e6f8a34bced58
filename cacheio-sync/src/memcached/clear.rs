//! `clear`: deletes the keys of a namespace, on servers that know no namespaces.
//!
//! The server lists all its keys, and those that begin with the prefix are deleted. A generation
//! number in each key would make `clear` cheap, but each read would need a further round trip to
//! learn this number.

use super::call::Driver;
use super::cluster::Cluster;
use super::listing::{Listed, list_keys};
use super::retry::Retry;
use crate::store::Key;
use crate::{Error, ErrorKind, Result};

/// How many keys one request deletes.
const KEYS_PER_REQUEST: usize = 4096;

/// How often to repeat a listing that may miss keys, at most. It ends when no keys are left.
const MAX_ROUNDS: usize = 10;

impl Cluster {
    /// Clears a namespace on every server, also if some fail, and returns the first error.
    pub(super) async fn clear(&self, driver: Driver, prefix: &str) -> Result<()> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a shared server is never flushed; give the cache a namespace",
            ));
        }
        let mut result = Ok(());
        for server in 0..self.servers.len() {
            result = result.and(self.clear_server(driver, server, prefix).await);
        }
        result
    }

    async fn clear_server(&self, driver: Driver, server: usize, prefix: &str) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let server_to_list = &self.servers[server];
            // As a write, so that no unconfirmed write is carried out after the listing.
            let listed = list_keys(
                driver,
                server_to_list,
                prefix,
                usize::MAX,
                Retry::Idempotent,
            );
            let Listed {
                keys, is_complete, ..
            } = listed.await?;
            self.delete_all(driver, server, &keys).await?;
            if is_complete || keys.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Deletes keys from the server that has listed them: the item of a holder is on that of another key.
    async fn delete_all(&self, driver: Driver, server: usize, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(KEYS_PER_REQUEST) {
            let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::new(key)).collect();
            self.delete_from(driver, &keys, |_| server).await?;
        }
        Ok(())
    }
}
