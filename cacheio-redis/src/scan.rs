//! Goes through the keys of a namespace, with SCAN.
//!
//! A step looks at a thousand keys of the server and takes about a millisecond of it; other requests come between two
//! steps. In a cluster the masters are scanned one after another. The position of a scan is the cursor of SCAN and the
//! name of the server that it belongs to.

use std::sync::Arc;
use std::time::Instant;

use cacheio_core::{Error, ErrorKind, ScanPage};
use redis::{Cmd, cmd};

use crate::batching::Batcher;
use crate::failure::Failure;
use crate::redis::Redis;
use crate::reply::{value, values};
use crate::request::Request;

/// How many keys a step of SCAN looks at.
const COUNT: usize = 1000;

/// The cursor of the first step, which is also what the last one returns.
pub(crate) const FIRST: &str = "0";

/// What a step of SCAN returns.
pub(crate) struct Step {
    /// The cursor of the next step.
    pub(crate) cursor: String,
    pub(crate) keys: Vec<Vec<u8>>,
}

impl Redis {
    /// Lists the next keys that begin with `prefix`.
    pub(crate) async fn keys_from(
        &self,
        prefix: &str,
        from: Option<String>,
    ) -> Result<ScanPage, Failure> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a cache without a namespace cannot list its keys, because other programs may use the server: \
                 give the cache a namespace",
            )
            .into());
        }
        let servers = self.topology.servers_to_list(from.is_none()).await?;
        let (cursor, at) = match &from {
            None => (FIRST, 0),
            Some(from) => {
                let (cursor, name) = from.split_once(' ').unwrap_or((from, ""));
                let server = servers.iter().position(|server| server.name() == name);
                (cursor, server.ok_or_else(server_has_left)?)
            }
        };
        let server = servers.get(at).ok_or_else(server_has_left)?;
        let step = step(server, cursor, &pattern(prefix), self.topology.deadline()).await?;
        let next = match step.cursor == FIRST {
            false => Some(format!("{} {}", step.cursor, server.name())),
            true => servers
                .get(at + 1)
                .map(|server| format!("{FIRST} {}", server.name())),
        };
        // The keys of a cache are text; others belong to other programs.
        let keys = step.keys.into_iter();
        let keys = keys.filter_map(|key| String::from_utf8(key).ok());
        Ok(ScanPage::new(keys.collect(), next))
    }
}

fn server_has_left() -> Failure {
    Error::new(
        ErrorKind::Unavailable,
        "the cluster has other masters than at the beginning of the scan; try again",
    )
    .into()
}

/// Takes one step of a scan of a server.
pub(crate) async fn step(
    server: &Arc<Batcher>,
    cursor: &str,
    pattern: &str,
    deadline: Instant,
) -> Result<Step, Failure> {
    let request = Request::one(scan(cursor, pattern));
    let mut reply = values(server.send(&request, deadline).await?)?.into_iter();
    let next = reply.next().map(value).transpose()?.flatten();
    let cursor = next.and_then(|cursor| String::from_utf8(cursor).ok());
    let keys = reply.next().map(values).transpose()?.unwrap_or_default();
    let keys = keys
        .into_iter()
        .map(|key| Ok(value(key)?.unwrap_or_default()));
    Ok(Step {
        cursor: cursor.ok_or_else(Failure::unexpected_reply)?,
        keys: keys.collect::<Result<_, Failure>>()?,
    })
}

fn scan(cursor: &str, pattern: &str) -> Cmd {
    let mut scan = cmd("SCAN");
    scan.arg(cursor)
        .arg("MATCH")
        .arg(pattern)
        .arg("COUNT")
        .arg(COUNT);
    scan
}

/// Returns the pattern that matches exactly the keys that begin with `prefix`.
pub(crate) fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_its_prefix_and_nothing_else() {
        assert_eq!(pattern("shop:"), "shop:*");
        assert_eq!(pattern(r"a*b?[c]\d:"), r"a\*b\?\[c\]\\d:*");
    }
}
