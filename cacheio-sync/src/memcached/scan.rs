//! `scan`: the keys of a namespace, for `keys` and `entries` of a cache.
//!
//! A listing cannot be continued, so one that was left is begun again, for more keys.

use super::call::Driver;
use super::cluster::Cluster;
use super::listing::list_keys;
use super::retry::Retry;
use crate::scan_position::{Position, no_position};
use crate::store::{ScanPage, Usage};
use crate::{Error, ErrorKind, Result};

impl Cluster {
    pub(super) async fn scan(
        &self,
        driver: Driver,
        prefix: &str,
        from: Option<String>,
        max: usize,
    ) -> Result<ScanPage> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a shared server is not listed as a whole; give the cache a namespace",
            ));
        }
        let position = Position::new(from.as_deref(), max)?;
        let Position { at, max } = position;
        let server = self.servers.get(at).ok_or_else(no_position)?;
        let listed = list_keys(driver, server, prefix, max, Retry::Read).await?;
        let next = match (listed.is_cut, at + 1 < self.servers.len()) {
            (true, _) => Some(position.again()),
            (false, true) => Some(Position::at_beginning_of(at + 1)),
            (false, false) => None,
        };
        Ok(ScanPage::new(listed.keys, next))
    }

    /// A server counts only all its items.
    pub(super) async fn usage(&self, _: Driver, _: &str) -> Result<Usage> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "a server does not count the entries of a namespace",
        ))
    }
}
