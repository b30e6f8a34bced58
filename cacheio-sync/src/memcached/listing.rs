//! Lists the keys of a server. It lists all of them; those of the namespace are picked out here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::Driver;
use super::failure::Failure;
use super::protocol::Request;
use super::retry::Retry;
use super::server::Server;
use crate::{Error, ErrorKind, Result};

/// The command that lists the keys in the order of the hash table. It lists every key.
const LIST_BY_HASH: &str = "lru_crawler metadump hash";

/// The command of older servers, which lists the keys by their LRU lists. It misses keys that move
/// from one list to another at this time.
const LIST_BY_LRU: &str = "lru_crawler metadump all";

/// How long to retry while the server is busy with other listings, as a multiple of the timeout.
const MAX_BUSY_TIMEOUTS: u32 = 10;

/// The keys of a server that begin with a prefix.
pub(super) struct Listed {
    pub(super) keys: Vec<String>,
    /// Whether the server misses none of the keys that it has come to.
    pub(super) is_complete: bool,
    /// Whether the listing was left because it had enough keys.
    pub(super) is_cut: bool,
}

/// Lists the keys of a server that begin with `prefix`: up to `max` of them, in an order that stays about the same.
pub(super) async fn list_keys(
    driver: Driver,
    server: &Arc<Server>,
    prefix: &str,
    max: usize,
    retry: Retry,
) -> Result<Listed> {
    let busy_until = Instant::now() + server.timeout() * MAX_BUSY_TIMEOUTS;
    for command in [LIST_BY_HASH, LIST_BY_LRU] {
        loop {
            let request = Request::line(command);
            let listing = run_listing(driver, server, &request, prefix, max, retry).await;
            match listing.map_err(|failure| server.error(failure))? {
                Listing::Keys { keys, is_cut } => {
                    return Ok(Listed {
                        keys,
                        is_complete: command == LIST_BY_HASH,
                        is_cut,
                    });
                }
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
        "the server cannot list its keys; start it without `-X` and `no_lru_crawler`",
    ))
}

enum Listing {
    Keys { keys: Vec<String>, is_cut: bool },
    Busy,
    Unsupported,
}

/// Runs one listing. It may take long on a large server, so each line after the first has its own
/// deadline.
///
/// One that has enough keys is left, and its connection closed: the rest of it may be long.
async fn run_listing(
    driver: Driver,
    server: &Arc<Server>,
    request: &Request,
    prefix: &str,
    max: usize,
    retry: Retry,
) -> Result<Listing, Failure> {
    let mut call = server.call(driver);
    let mut exchange = server.begin(retry, request, call).await?;
    let mut keys = Vec::new();
    let listing = loop {
        let line = exchange.read(call, |decoder| {
            decoder.line(|line| Line::parse(line, prefix))
        });
        let line = line.await?;
        call = server.call(driver);
        match line {
            Line::Key(_) if keys.len() == max => return Ok(Listing::Keys { keys, is_cut: true }),
            Line::Key(key) => keys.push(key),
            Line::OtherKey => {}
            Line::End => {
                break Listing::Keys {
                    keys,
                    is_cut: false,
                };
            }
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
