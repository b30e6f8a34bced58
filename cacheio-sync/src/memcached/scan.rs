//! `scan`: the keys of a namespace, for `keys` and `entries` of a cache.
//!
//! A listing cannot be continued, so one that was left is begun again, for four times as many keys. The position of a
//! scan is the server that is listed, and how many keys to list.

use super::call::Driver;
use super::cluster::Cluster;
use super::listing::list_keys;
use super::retry::Retry;
use crate::store::{ScanPage, Usage};
use crate::{Error, ErrorKind, Result};

/// How many keys are listed at least: a listing costs more than its keys.
const MIN_KEYS: usize = 1_000;

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
        // Some keys have no live entry.
        let max = max.saturating_add(max / 4).max(MIN_KEYS);
        let (at, max) = match from.as_deref().map(parse) {
            None => (0, max),
            Some(Some((at, again))) => (at, max.max(again)),
            Some(None) => return Err(no_position()),
        };
        let server = self.servers.get(at).ok_or_else(no_position)?;
        let listed = list_keys(driver, server, prefix, max, Retry::Read).await?;
        let next = match (listed.is_cut, at + 1 < self.servers.len()) {
            (true, _) => Some(position(at, max.saturating_mul(4))),
            (false, true) => Some(position(at + 1, 0)),
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

fn position(server: usize, max: usize) -> String {
    format!("{server} {max}")
}

fn parse(position: &str) -> Option<(usize, usize)> {
    let (server, max) = position.split_once(' ')?;
    Some((server.parse().ok()?, max.parse().ok()?))
}

fn no_position() -> Error {
    Error::new(ErrorKind::Config, "the scan has no part at this position")
}
