//! `clear`: deletes the keys of a namespace, on servers that know no namespaces.
//!
//! The server lists all its keys, and those that begin with the prefix are deleted. A generation
//! number in each key would make `clear` cheap, but each read would need a further round trip to
//! learn this number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::Driver;
use super::cluster::Cluster;
use super::failure::Failure;
use super::protocol::Request;
use super::retry::Retry;
use super::server::Server;
use crate::store::Key;
use crate::{Error, ErrorKind, Result};

/// How many keys one request deletes.
const KEYS_PER_REQUEST: usize = 4096;

/// The command that lists the keys in the order of the hash table. It lists every key.
const LIST_BY_HASH: &str = "lru_crawler metadump hash";

/// The command of older servers, which lists the keys by their LRU lists. It misses keys that move
/// from one list to another at this time.
const LIST_BY_LRU: &str = "lru_crawler metadump all";

/// How often to repeat a listing that may miss keys, at most. It ends when no keys are left.
const MAX_ROUNDS: usize = 10;

/// How long to retry while the server is busy with other listings, as a multiple of the timeout.
const MAX_BUSY_TIMEOUTS: u32 = 10;

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
            let (keys, complete) = list_keys(driver, &self.servers[server], prefix).await?;
            self.delete_all(driver, server, &keys).await?;
            if complete || keys.is_empty() {
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

/// Returns the keys of a server that begin with `prefix`, and whether none can be missing.
async fn list_keys(
    driver: Driver,
    server: &Arc<Server>,
    prefix: &str,
) -> Result<(Vec<String>, bool)> {
    let busy_until = Instant::now() + server.timeout() * MAX_BUSY_TIMEOUTS;
    for command in [LIST_BY_HASH, LIST_BY_LRU] {
        loop {
            let listing = run_listing(driver, server, command, prefix).await;
            match listing.map_err(|failure| server.error(failure))? {
                Listing::Keys(keys) => return Ok((keys, command == LIST_BY_HASH)),
                Listing::Unsupported => break,
                // The server runs one listing at a time, and looks for expired entries in between.
                Listing::Busy if Instant::now() < busy_until => {
                    let pause = Duration::from_millis(10);
                    server.call(driver).sleep(pause).await;
                }
                Listing::Busy => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        "the server is still busy with other listings of its keys; try again later",
                    ));
                }
            }
        }
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "the server cannot list its keys, so a namespace cannot be cleared; start it without `-X` and \
         `no_lru_crawler`",
    ))
}

enum Listing {
    Keys(Vec<String>),
    Busy,
    Unsupported,
}

/// Runs one listing. It may take long on a large server, so each line after the first has its own
/// deadline.
async fn run_listing(
    driver: Driver,
    server: &Arc<Server>,
    command: &str,
    prefix: &str,
) -> Result<Listing, Failure> {
    let request = Request::line(command);
    // As a write, so that no unconfirmed write is carried out after the listing.
    let mut call = server.call(driver);
    let mut exchange = server.begin(Retry::Idempotent, &request, call).await?;
    let mut keys = Vec::new();
    let listing = loop {
        let line = exchange.read(call, |decoder| {
            decoder.line(|line| Line::parse(line, prefix))
        });
        let line = line.await?;
        call = server.call(driver);
        match line {
            Line::Key(key) => keys.push(key),
            Line::OtherKey => {}
            Line::End => break Listing::Keys(keys),
            Line::Busy => break Listing::Busy,
            Line::Unknown => break Listing::Unsupported,
        }
    };
    exchange.end();
    Ok(listing)
}

/// A line of a listing.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A key that begins with the prefix.
    Key(String),
    OtherKey,
    End,
    Busy,
    Unknown,
}

impl Line {
    fn parse(line: &[u8], prefix: &str) -> Self {
        if let Some(rest) = line.strip_prefix(b"key=") {
            let encoded = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
            // The keys of a cache are UTF-8, so a key that is not UTF-8 belongs to another client.
            let key = cacheio_core::__private::percent_decode(encoded);
            return match key.filter(|key| key.starts_with(prefix)) {
                Some(key) => Self::Key(key),
                None => Self::OtherKey,
            };
        }
        match line {
            b"END" => Self::End,
            line if line.starts_with(b"BUSY") || line.starts_with(b"LOCKED") => Self::Busy,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_has_the_keys_of_the_namespace() {
        for (line, expected) in [
            ("key=ns:a exp=-1 la=1 cas=2", Line::Key("ns:a".into())),
            ("key=ns:%C3%BC%25", Line::Key("ns:ü%".into())),
            ("key=nsx exp=-1", Line::OtherKey),
            ("key=ns:%FF exp=-1", Line::OtherKey),
            ("END", Line::End),
            ("BUSY currently processing crawler request", Line::Busy),
            ("LOCKED try again later", Line::Busy),
            ("ERROR", Line::Unknown),
            ("CLIENT_ERROR lru crawler disabled", Line::Unknown),
        ] {
            assert_eq!(Line::parse(line.as_bytes(), "ns:"), expected, "{line}");
        }
    }
}
