//! Emptying a namespace, on a server that knows none.
//!
//! The server lists its keys, and those that begin with the prefix are deleted. So keys stay as
//! they are on the wire, and reading costs no round trip for the number of a generation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Cluster;
use super::connection::{Connection, Failure};
use super::protocol::Request;
use super::server::{Effect, Server};
use crate::{Error, ErrorKind, Key, Result};

/// How many keys are deleted by one request.
const BATCH: usize = 4096;

/// What a listing is asked for: by the hash table; or by the lists of what was used last, where keys
/// that move from one to another are missed, as older servers know nothing else.
const LISTINGS: [&str; 2] = ["lru_crawler metadump hash", "lru_crawler metadump all"];

/// How often a listing that may miss keys is made until it finds none.
const ROUNDS: usize = 10;

/// How long a server may be busy with other listings, in timeouts.
const PATIENCE: u32 = 10;

impl Cluster {
    pub(super) fn clear(&self, prefix: &str) -> Result<()> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a server that others may use is never flushed; give the cache a namespace",
            ));
        }
        let mut result = Ok(());
        for server in &self.servers {
            // Those that answer are cleared, whatever the others do.
            result = result.and(self.clear_one(server, prefix));
        }
        result
    }

    fn clear_one(&self, server: &Arc<Server>, prefix: &str) -> Result<()> {
        for _ in 0..ROUNDS {
            let (keys, complete) = keys(server, prefix)?;
            self.delete_all(&keys)?;
            if complete || keys.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn delete_all(&self, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(BATCH) {
            let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::new(key)).collect();
            self.delete_many(&keys)?;
        }
        Ok(())
    }
}

/// The keys on a server that begin with `prefix`, and whether these are all.
fn keys(server: &Arc<Server>, prefix: &str) -> Result<(Vec<String>, bool)> {
    let until = server.deadline() + server.timeout() * (PATIENCE - 1);
    let mut listings = LISTINGS.iter().peekable();
    loop {
        let Some(listing) = listings.peek() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this server does not list its keys (it runs with `-X` or `no_lru_crawler`, or is \
                 older than 1.4.31), so that a namespace cannot be cleared",
            ));
        };
        match list(server, listing, prefix).map_err(|failure| server.error(failure))? {
            Listing::Keys(keys) => return Ok((keys, **listing == LISTINGS[0])),
            Listing::Unknown => drop(listings.next()),
            // It makes one listing at a time, and looks for expired entries in between.
            Listing::Busy if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Listing::Busy => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the server was busy with other listings of its keys all the time",
                ));
            }
        }
    }
}

enum Listing {
    Keys(Vec<String>),
    Busy,
    Unknown,
}

/// One listing. It may take long where there is much: each line has the timeout to come.
fn list(server: &Arc<Server>, listing: &str, prefix: &str) -> Result<Listing, Failure> {
    let request = Request::line(listing);
    let parts = [request.len()];
    let deadline = server.deadline();
    // As a write, so that none that is in doubt comes after the listing.
    let exchange = server.begin(Effect::Write, request.bytes(), &parts, deadline)?;
    exchange.finish(deadline, |connection| {
        let mut keys = Vec::new();
        loop {
            match line(connection, server.deadline(), prefix)? {
                Line::Key(key) => keys.push(key),
                Line::Other => {}
                Line::End => return Ok(Listing::Keys(std::mem::take(&mut keys))),
                Line::Busy => return Ok(Listing::Busy),
                Line::Unknown => return Ok(Listing::Unknown),
            }
        }
    })
}

enum Line {
    Key(String),
    Other,
    End,
    Busy,
    Unknown,
}

fn line(connection: &mut Connection, deadline: Instant, prefix: &str) -> Result<Line, Failure> {
    connection.line(deadline, |line| {
        if let Some(rest) = line.strip_prefix(b"key=") {
            let end = rest
                .iter()
                .position(|byte| *byte == b' ')
                .unwrap_or(rest.len());
            // What is no text is no key of ours.
            let key = cacheio_core::__private::percent_decode(&rest[..end]);
            return match key.filter(|key| key.starts_with(prefix)) {
                Some(key) => Line::Key(key),
                None => Line::Other,
            };
        }
        match line {
            b"END" => Line::End,
            line if line.starts_with(b"BUSY") || line.starts_with(b"LOCKED") => Line::Busy,
            _ => Line::Unknown,
        }
    })
}
