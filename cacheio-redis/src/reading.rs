//! Reads entries for L1: with what is left of their TTLs, and tracked where the server tells of changes.
//!
//! Each key is read over the connection that all its requests use, because the server tells only the connection
//! that has read a key. A part that a node of a cluster redirects is read from the other node without tracking:
//! the copies end by themselves.

use std::sync::Arc;
use std::time::Instant;

use cacheio_core::{Entry, Key};
use redis::Value;

use crate::batching::Batcher;
use crate::failure::Failure;
use crate::join_all::join_all;
use crate::reply::{entry_with_ttl, values, without_tracking};
use crate::request::{Request, on_key};
use crate::topology::{Group, Topology, is_redirection};

/// How many keys a request reads: with their TTLs, they are twice as many commands.
const MAX_KEYS: usize = 500;

type Entries = Vec<Option<Entry>>;

impl Topology {
    /// Reads entries, each with what is left of its TTL.
    pub(crate) async fn read_with_ttls(&self, keys: &[Key<'_>]) -> Result<Entries, Failure> {
        let deadline = self.deadline();
        if let [key] = keys
            && let Some(connection) = self.server_connection(key)
        {
            let is_refused = connection.is_refused();
            let entry = connection.get_with_ttl(key.text(), deadline).await?;
            return Ok(unless_refused(is_refused, vec![entry]));
        }
        let groups = self.group(keys, MAX_KEYS, deadline).await?;
        let read = groups
            .into_iter()
            .map(|group| self.read_group(keys, group, deadline));
        let mut entries = vec![None; keys.len()];
        for read in join_all(read).await {
            for (at, entry) in read? {
                entries[at] = entry;
            }
        }
        Ok(entries)
    }

    /// Reads the keys of one connection. Returns the entries with the positions of their keys.
    async fn read_group(
        &self,
        keys: &[Key<'_>],
        group: Group,
        mut deadline: Instant,
    ) -> Result<Vec<(usize, Option<Entry>)>, Failure> {
        let mut read = Vec::with_capacity(keys.len());
        let mut parts = group.parts.into_iter().peekable();
        while parts.peek().is_some() {
            let mut chunk = Vec::new();
            let mut count = 0;
            while let Some(part) = parts.next_if(|part| count + part.len() <= MAX_KEYS) {
                count += part.len();
                chunk.push(part);
            }
            let found = read_parts(&group.connection, keys, &chunk, deadline).await;
            let found = self.unless_redirected(found, chunk.len())?;
            for (part, entries) in chunk.into_iter().zip(found) {
                let entries = match entries {
                    Some(entries) => entries,
                    None => self.read_each(keys, &part, deadline).await?,
                };
                read.extend(part.into_iter().zip(entries));
            }
            // Each request has the timeout.
            deadline = self.deadline();
        }
        Ok(read)
    }

    /// Reads keys one by one, wherever the cluster has them.
    async fn read_each(
        &self,
        keys: &[Key<'_>],
        part: &[usize],
        deadline: Instant,
    ) -> Result<Entries, Failure> {
        let read = part.iter().map(async |at| {
            let key = &keys[*at];
            let get = |name| Request::one(on_key(name, key.text()));
            // In this order: a TTL that belongs to a newer value limits the older one.
            let value = self.send_until(key, &get("GET"), deadline).await?;
            let ttl = self.send_until(key, &get("PTTL"), deadline).await;
            // If it is unknown, the copy lives for the bound at most, as all that are not tracked.
            entry_with_ttl(value, ttl.ok(), false)
        });
        join_all(read).await.into_iter().collect()
    }
}

/// Reads parts of the keys by one request. Returns the entries of each part; none of one that the node redirects.
async fn read_parts(
    connection: &Arc<Batcher>,
    keys: &[Key<'_>],
    parts: &[Vec<usize>],
    deadline: Instant,
) -> Result<Vec<Option<Entries>>, Failure> {
    let is_refused = connection.is_refused();
    let is_tracked = connection.is_tracked();
    let texts = parts.iter().map(|part| {
        let texts = part.iter().map(|at| keys[*at].text());
        texts.collect::<Vec<_>>()
    });
    let request = Request::get_with_ttls(texts, is_tracked);
    let reply = connection.send(&request, deadline).await?;
    let mut replies = values(reply)?.into_iter();
    let read = parts.iter().map(|part| {
        let count = 1 + part.len();
        let replies = replies.by_ref().take(usize::from(is_tracked) + count);
        let entries = entries(replies.collect(), part.len())?;
        Ok(entries.map(|entries| unless_refused(is_refused, entries)))
    });
    read.collect()
}

/// Lets no copies be made of entries that were read from a server whose place another one may have taken.
fn unless_refused(is_refused: bool, mut entries: Entries) -> Entries {
    if is_refused {
        for entry in entries.iter_mut().flatten() {
            entry.may_be_copied = false;
        }
    }
    entries
}

/// Returns the entries of one part.
fn entries(replies: Vec<Value>, keys: usize) -> Result<Option<Entries>, Failure> {
    if replies.iter().any(is_redirection) {
        return Ok(None);
    }
    let (is_tracked, mut replies) = without_tracking(replies, 1 + keys);
    let found = replies.next().ok_or_else(Failure::unexpected_reply)?;
    let found = match keys {
        1 => vec![found],
        _ => values(found)?,
    };
    let entries = found.into_iter().zip(replies);
    let entries = entries.map(|(value, ttl)| entry_with_ttl(value, Some(ttl), is_tracked));
    entries.collect::<Result<_, _>>().map(Some)
}
