//! Replaces entries that were read, only if they did not change since: by compare-and-swap.

use std::sync::Arc;
use std::time::Duration;

use memcache::exp::{MetaOp, ReturnCode};

use super::call::{Call, Driver};
use super::cluster::{Cluster, into_bytes};
use super::decoder::Decoder;
use super::exptime::{exptime, exptime_from_remaining};
use super::failure::Failure;
use super::protocol::{Request, Response};
use super::retry::Retry;
use super::server::Server;
use crate::store::{Entry, Key, Replacement, TtlChange};
use crate::{Error, ErrorKind, Result, Ttl};

/// Takes an entry with its CAS number out of a response. An empty item is none, but a claim.
pub(super) fn entry(response: &mut Response) -> Option<Entry> {
    if response.value.is_empty() {
        return None;
    }
    let mut entry = Entry::bytes(std::mem::take(&mut response.value));
    entry.version = response.cas;
    entry.left = response.ttl.map(|ttl| match u64::try_from(ttl) {
        // The clock of the server ticks in seconds: the last one may be about to end.
        Ok(seconds) => Ttl::After(Duration::from_secs(seconds.saturating_sub(1))),
        Err(_) => Ttl::Never,
    });
    Some(entry)
}

/// Returns whether a compare-and-swap succeeded: `false` if the entry has changed, `None` if the
/// response does not fit.
pub(super) fn swapped(response: &Response) -> Option<bool> {
    match response.code {
        ReturnCode::Hd => Some(true),
        ReturnCode::Ex | ReturnCode::Nf | ReturnCode::Ns => Some(false),
        _ => None,
    }
}

/// Returns the CAS number of an entry that was read.
fn cas(entry: &Entry) -> Result<u64> {
    // A server without CAS numbers responds with 0, and would store anything.
    entry.version.filter(|cas| *cas != 0).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "memcached does not number its entries; start it without `-C`",
        )
    })
}

/// A change of an entry.
pub(super) struct Change {
    pub(super) cas: u64,
    pub(super) value: Vec<u8>,
    /// Ignored where the TTL is kept.
    pub(super) exptime: u64,
}

impl Change {
    pub(super) fn new(replacement: Replacement) -> Result<Self> {
        Self::of(&replacement.current, replacement.new, replacement.ttl)
    }

    fn of(current: &Entry, new: Entry, ttl: TtlChange) -> Result<Self> {
        Ok(Self {
            cas: cas(current)?,
            value: into_bytes(new)?,
            exptime: match ttl {
                TtlChange::Set(ttl) => exptime(ttl),
                TtlChange::Keep => 0,
            },
        })
    }

    /// Writes the command up to its token, which is followed by the value.
    pub(super) fn write<'a>(&self, request: &'a mut Request, key: &str) -> Result<&'a mut Request> {
        let command = request.command(MetaOp::Set, key)?.length(&self.value)?;
        Ok(command.number('C', self.cas).number('T', self.exptime))
    }
}

impl Cluster {
    /// Changes what a key holds if that is still `current`. Returns whether it was.
    pub(super) async fn compare_and_swap(
        &self,
        driver: Driver,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        match (current, new) {
            (Some(current), Some((new, ttl))) => {
                let change = Change::of(&current, new, ttl)?;
                self.write_change(driver, key, &change, ttl).await
            }
            (Some(current), None) => self.remove(self.call(driver), key, cas(&current)?).await,
            (None, Some((new, ttl))) => self.add(driver, key, new, ttl.of_new()).await,
            (None, None) => self.end_claim(driver, key).await,
        }
    }

    /// Ends the claim on a key that holds no entry. Returns whether it holds none.
    async fn end_claim(&self, driver: Driver, key: &Key<'_>) -> Result<bool> {
        let call = self.call(driver);
        let mut conflicts = 0;
        loop {
            let mut request = Request::with_capacity(key.text().len() + 24);
            let command = request.command(MetaOp::Get, key.text())?;
            command.flags(&["s", "c"]).token().end();
            let read = |response: &mut Response| match response.code {
                ReturnCode::Hd => Some(Some((response.size?, response.cas?))),
                ReturnCode::En => Some(None),
                _ => None,
            };
            let found = self.execute(call, key, Retry::Read, &request, read);
            let number = match found.await? {
                None => return Ok(true),
                // An empty item is a claim.
                Some((0, number)) => number,
                Some(_) => return Ok(false),
            };
            if self.remove(call, key, number).await? {
                return Ok(true);
            }
            conflicts += 1;
            call.pause_after_conflict(conflicts).await;
        }
    }

    /// Removes an item. Returns whether it was the one with this CAS number.
    async fn remove(&self, call: Call, key: &Key<'_>, cas: u64) -> Result<bool> {
        let mut request = Request::with_capacity(300);
        let command = request.command(MetaOp::Delete, key.text())?;
        command.number('C', cas).token().end();
        let read = |response: &mut Response| swapped(response);
        self.execute(call, key, Retry::Never, &request, read).await
    }

    /// Removes an entry, and returns it. Of several callers, one gets it.
    pub(super) async fn take(&self, driver: Driver, key: &Key<'_>) -> Result<Option<Entry>> {
        let call = self.call(driver);
        let mut conflicts = 0;
        loop {
            let mut request = Request::with_capacity(300);
            let command = request.command(MetaOp::Get, key.text())?;
            command.flags(&["v", "c"]).token().end();
            let read = |response: &mut Response| match response.code {
                ReturnCode::Va => Some(Some((entry(response), response.cas))),
                ReturnCode::En => Some(None),
                _ => None,
            };
            let found = self.execute(call, key, Retry::Read, &request, read);
            let Some((entry, number)) = found.await? else {
                return Ok(None);
            };
            let number = match &entry {
                Some(entry) => cas(entry)?,
                // A claim, which ends.
                None => number.unwrap_or_default(),
            };
            if self.remove(call, key, number).await? {
                return Ok(entry);
            }
            conflicts += 1;
            call.pause_after_conflict(conflicts).await;
        }
    }

    /// Replaces an entry. Returns whether it was the one that was read.
    pub(super) async fn replace(
        &self,
        driver: Driver,
        key: &Key<'_>,
        replacement: Replacement,
    ) -> Result<bool> {
        let ttl = replacement.ttl;
        let change = Change::new(replacement)?;
        self.write_change(driver, key, &change, ttl).await
    }

    async fn write_change(
        &self,
        driver: Driver,
        key: &Key<'_>,
        change: &Change,
        ttl: TtlChange,
    ) -> Result<bool> {
        let (server, call) = (self.server(key), self.call(driver));
        if ttl == TtlChange::Keep {
            let mut request = Request::with_capacity(300);
            let command = request.command(MetaOp::Get, key.text())?;
            command.flag("t").token().end();
            let read = |response: &mut Response| match response.code {
                ReturnCode::Hd => Some(response.ttl),
                ReturnCode::En => Some(None),
                _ => None,
            };
            let read = server.execute(Retry::Read, &request, call, read).await;
            let left = read.map_err(|failure| server.error(failure))?.unwrap_or(-1);
            return write_with_ttl_kept(server, key.text(), change, left, call).await;
        }
        let mut request = Request::with_capacity(change.value.len() + 300);
        change.write(&mut request, key.text())?.token();
        request.value(&change.value);
        let read = |response: &mut Response| swapped(response);
        let written = server.execute(Retry::Never, &request, call, read).await;
        written.map_err(|failure| server.error(failure))
    }
}

/// Writes a change without another expiry. `left` is the remaining TTL in seconds. Returns whether
/// the entry had not changed.
pub(super) async fn write_with_ttl_kept(
    server: &Arc<Server>,
    key: &str,
    change: &Change,
    left: i64,
    call: Call,
) -> Result<bool> {
    let written = write(server, key, change, left, call).await?;
    if let (true, Some(cas)) = (written.is_swapped, written.cas)
        && written.left != left
        && written.left > 0
    {
        // The server's clock ticked after `left` was read, so the write added a second to the
        // TTL. Without this correction an entry that is often written would never expire.
        let again = Change {
            cas,
            value: change.value.clone(),
            exptime: 0,
        };
        // The change is made, whatever becomes of this.
        let _ = write(server, key, &again, written.left, call).await;
    }
    Ok(written.is_swapped)
}

/// The outcome of a write with a remaining TTL.
struct Written {
    is_swapped: bool,
    /// The new CAS number.
    cas: Option<u64>,
    /// The remaining TTL right before the write, in seconds.
    left: i64,
}

/// Writes a change with a remaining TTL.
async fn write(
    server: &Arc<Server>,
    key: &str,
    change: &Change,
    left: i64,
    call: Call,
) -> Result<Written> {
    let mut request = Request::with_capacity(change.value.len() + 600);
    let command = request.command(MetaOp::Get, key)?;
    command.flag("t").token().end();
    let command = request.command(MetaOp::Set, key)?;
    let command = command.length(&change.value)?;
    let command = command.number('C', change.cas).flag("c");
    let command = command.number('T', exptime_from_remaining(left)).token();
    command.value(&change.value);
    let mut left_at_write = None;
    let read = |decoder: &mut Decoder| {
        while let Some(response) = decoder.response()? {
            let unexpected = Failure::Unexpected(response.code);
            if !request.accepts(&response) {
                return Err(unexpected);
            }
            match left_at_write {
                None if matches!(response.code, ReturnCode::Hd | ReturnCode::En) => {
                    left_at_write = Some(response.ttl.unwrap_or(left));
                }
                None => return Err(unexpected),
                Some(left) => {
                    return Ok(Some(Written {
                        is_swapped: swapped(&response).ok_or(unexpected)?,
                        cas: response.cas,
                        left,
                    }));
                }
            }
        }
        Ok(None)
    };
    let written = async {
        let mut exchange = server.begin(Retry::Never, &request, call).await?;
        let written = exchange.read(call, read).await?;
        exchange.end();
        Ok(written)
    };
    written.await.map_err(|failure| server.error(failure))
}
