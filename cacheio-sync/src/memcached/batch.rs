//! Operations on many keys: one request to each server, all of them sent before any response is
//! read.

use std::collections::VecDeque;
use std::time::Duration;

use memcache::exp::{MetaOp, ReturnCode};

use super::call::{Call, Driver};
use super::cluster::{Cluster, into_bytes};
use super::decoder::Decoder;
use super::exptime::exptime;
use super::failure::Failure;
use super::protocol::{Request, Response};
use super::replace::{Change, entry, swapped};
use super::retry::Retry;
use super::server::{Ended, Origin};
use crate::Result;
use crate::store::{Entry, Key, Replacement};

/// The size, in bytes, at which a part of a request ends: two parts fit into any socket's buffers.
const PART_SIZE: usize = 16 << 10;

/// How long to read a server's responses when the servers before it used up the whole timeout.
const GRACE: Duration = Duration::from_millis(10);

impl Cluster {
    pub(super) async fn get_many(
        &self,
        driver: Driver,
        keys: &[Key<'_>],
    ) -> Result<Vec<Option<Entry>>> {
        self.read_many(driver, keys, &["v", "c", "q"]).await
    }

    pub(super) async fn get_with_ttls(
        &self,
        driver: Driver,
        keys: &[Key<'_>],
    ) -> Result<Vec<Option<Entry>>> {
        if let [key] = keys {
            return Ok(vec![self.read(driver, key, &["v", "c", "t"]).await?]);
        }
        self.read_many(driver, keys, &["v", "c", "t", "q"]).await
    }

    async fn read_many(
        &self,
        driver: Driver,
        keys: &[Key<'_>],
        flags: &[&str],
    ) -> Result<Vec<Option<Entry>>> {
        let mut entries = vec![None; keys.len()];
        let call = self.call(driver);
        let mut batches = Batches::new(self, Responses::ToSome);
        for (index, key) in keys.iter().enumerate() {
            batches.add(self.route(key), index, |request| {
                // Quiet (`q`): the server does not respond to a miss.
                let command = request.command(MetaOp::Get, key.text())?;
                command.flags(flags).number('O', index).end();
                Ok(())
            })?;
        }
        let take = |pending: &mut Pending, mut response: Response| {
            let index = pending.accept(response.opaque)?;
            if response.code != ReturnCode::Va {
                return None;
            }
            entries[index] = entry(&mut response);
            Some(())
        };
        batches.run(call, Retry::Read, take).await?;
        Ok(entries)
    }

    pub(super) async fn set_many(
        &self,
        driver: Driver,
        entries: Vec<(Key<'_>, Entry, Option<Duration>)>,
    ) -> Result<()> {
        let call = self.call(driver);
        let mut batches = Batches::new(self, Responses::ToSome);
        for (index, (key, entry, ttl)) in entries.into_iter().enumerate() {
            let exptime = exptime(ttl);
            let value = into_bytes(entry)?;
            batches.add(self.route(&key), index, |request| {
                // Quiet (`q`): the server responds only to a command that failed.
                let command = request.command(MetaOp::Set, key.text())?.length(&value)?;
                command.number('T', exptime).flag("q").value(&value);
                Ok(())
            })?;
        }
        batches.run(call, Retry::Idempotent, |_, _| None).await
    }

    pub(super) async fn replace_many(
        &self,
        driver: Driver,
        replacements: Vec<(Key<'_>, Replacement)>,
    ) -> Result<()> {
        let call = self.call(driver);
        let mut batches = Batches::new(self, Responses::ToAll);
        for (index, (key, replacement)) in replacements.into_iter().enumerate() {
            let change = Change::new(replacement)?;
            batches.add(self.route(&key), index, |request| {
                change.write(request, key.text())?.number('O', index);
                request.value(&change.value);
                Ok(())
            })?;
        }
        // It is no failure that an entry has changed.
        let take = |pending: &mut Pending, response: Response| {
            pending.accept(response.opaque)?;
            swapped(&response).map(drop)
        };
        batches.run(call, Retry::Idempotent, take).await
    }

    pub(super) async fn delete_many(&self, driver: Driver, keys: &[Key<'_>]) -> Result<usize> {
        self.delete_from(driver, keys, |key| self.route(key)).await
    }

    /// Deletes keys from the servers that `server_of` returns.
    pub(super) async fn delete_from(
        &self,
        driver: Driver,
        keys: &[Key<'_>],
        server_of: impl Fn(&Key<'_>) -> usize,
    ) -> Result<usize> {
        let mut count = 0;
        let call = self.call(driver);
        let mut batches = Batches::new(self, Responses::ToAll);
        for (index, key) in keys.iter().enumerate() {
            let server = server_of(key);
            // An empty item is a claim, and no entry.
            batches.add(server, 2 * index, |request| {
                let command = request.command(MetaOp::Get, key.text())?;
                command.flag("s").number('O', 2 * index).end();
                Ok(())
            })?;
            batches.add(server, 2 * index + 1, |request| {
                let command = request.command(MetaOp::Delete, key.text())?;
                command.number('O', 2 * index + 1).end();
                Ok(())
            })?;
        }
        let mut is_entry = false;
        let take = |pending: &mut Pending, response: Response| {
            match pending.accept_response(&response)? % 2 {
                // What is deleted all the same was stored in between.
                0 => is_entry = response.size != Some(0),
                _ => count += usize::from(response.succeeded(ReturnCode::Nf)? && is_entry),
            }
            Some(())
        };
        batches.run(call, Retry::Idempotent, take).await?;
        Ok(count)
    }
}

/// To which commands of a batch the server responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Responses {
    ToAll,
    /// The commands are quiet.
    ToSome,
}

/// One batch for each server of a cluster, or several for one.
pub(super) struct Batches<'a> {
    cluster: &'a Cluster,
    batches: Vec<Batch>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(cluster: &'a Cluster, responses: Responses) -> Self {
        let batch = |server| Batch::new(server, None, responses);
        let batches = (0..cluster.servers.len()).map(batch).collect();
        Self { cluster, batches }
    }

    /// Creates no batch: see [`begin`](Self::begin).
    pub(super) fn none(cluster: &'a Cluster) -> Self {
        let batches = Vec::new();
        Self { cluster, batches }
    }

    /// Begins a batch for the run of a server from which the CAS numbers in its commands are. Returns its
    /// number.
    pub(super) fn begin(&mut self, server: usize, origin: Origin) -> usize {
        let batch = Batch::new(server, Some(origin), Responses::ToAll);
        self.batches.push(batch);
        self.batches.len() - 1
    }

    /// Adds a command with the opaque token `index` to a batch: that of a server, or the one of this number.
    pub(super) fn add(
        &mut self,
        batch: usize,
        index: usize,
        write: impl FnOnce(&mut Request) -> Result<()>,
    ) -> Result<()> {
        self.batches[batch].add(index, write)
    }

    /// Runs all batches, also if some fail, and returns the first error.
    ///
    /// `take` handles one response, and returns `None` if it fits none of the pending commands.
    pub(super) async fn run(
        self,
        call: Call,
        retry: Retry,
        take: impl FnMut(&mut Pending, Response) -> Option<()>,
    ) -> Result<()> {
        let ended = self.run_each(call, retry, take).await;
        ended.into_iter().try_for_each(|ended| ended.map(drop))
    }

    /// Does the same, and returns for each batch how it ended; `None` if it was not sent.
    pub(super) async fn run_each(
        mut self,
        call: Call,
        retry: Retry,
        mut take: impl FnMut(&mut Pending, Response) -> Option<()>,
    ) -> Vec<Result<Option<Ended>>> {
        let mut all_ended: Vec<_> = self.batches.iter().map(|_| Ok(None)).collect();
        let mut exchanges = Vec::new();
        let mut in_order: Vec<_> = self.batches.iter_mut().zip(&mut all_ended).collect();
        // Each takes a connection and keeps it. In another order, two callers could wait for each other.
        in_order.sort_by_key(|(batch, _)| batch.server);
        for (batch, ended) in in_order {
            let server = &self.cluster.servers[batch.server];
            if batch.finish() {
                let exchange = match &batch.origin {
                    None => server.begin(retry, &batch.request, call).await,
                    Some(origin) => {
                        let begun = server.begin_on_same_run(origin, &batch.request, call);
                        begun.await
                    }
                };
                exchanges.push((server, exchange, &mut batch.pending, ended));
            }
        }
        if let [(_, Ok(exchange), ..)] = &mut exchanges[..]
            && exchange.is_one_part()
        {
            exchange.measure();
        }
        for (index, (server, exchange, pending, ended)) in exchanges.into_iter().enumerate() {
            let call = match index {
                0 => call,
                _ => call.at_least(GRACE),
            };
            let outcome = match exchange {
                Ok(exchange) => {
                    let mut error = Ok(());
                    let read =
                        |decoder: &mut Decoder| read_part(decoder, pending, &mut error, &mut take);
                    let finished = exchange.finish(call, read).await;
                    finished.and_then(|ended| error.map(|()| Some(ended)))
                }
                // The commands would have found other CAS numbers.
                Err(Failure::OtherRun) => Ok(None),
                Err(failure) => Err(failure),
            };
            *ended = outcome.map_err(|failure| server.error(failure));
        }
        all_ended
    }
}

/// Takes the responses to a part of a request, up to that of the no-op that ends the part. Returns
/// `None` if it was not received yet. Continues after an error from the server, and keeps the first
/// one in `error`.
fn read_part(
    decoder: &mut Decoder,
    pending: &mut Pending,
    error: &mut Result<(), Failure>,
    take: &mut impl FnMut(&mut Pending, Response) -> Option<()>,
) -> Result<Option<()>, Failure> {
    loop {
        match decoder.response() {
            Ok(None) => return Ok(None),
            Ok(Some(response)) if response.code == ReturnCode::Mn => {
                let is_complete = pending.end_part();
                return is_complete.then_some(Some(())).ok_or(Failure::Lost);
            }
            Ok(Some(response)) => {
                take(pending, response).ok_or_else(|| {
                    Failure::Malformed("a response does not belong to any pending command")
                })?;
                pending.responses += 1;
            }
            Err(Failure::Server(server_error)) if server_error.is_in_sync() => {
                pending.responses += 1;
                if error.is_ok() {
                    *error = Err(Failure::Server(server_error));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The commands for one server.
struct Batch {
    server: usize,
    /// The run of the server that may carry them out; `None` if any may.
    origin: Option<Origin>,
    request: Request,
    pending: Pending,
}

impl Batch {
    fn new(server: usize, origin: Option<Origin>, responses: Responses) -> Self {
        Self {
            server,
            origin,
            request: Request::default(),
            pending: Pending::new(responses),
        }
    }

    fn add(&mut self, index: usize, write: impl FnOnce(&mut Request) -> Result<()>) -> Result<()> {
        write(&mut self.request)?;
        self.pending.indices.push(index);
        if self.request.unfinished() >= PART_SIZE {
            self.end_part();
        }
        Ok(())
    }

    fn end_part(&mut self) {
        self.request.end_part();
        (self.pending.part_ends).push_back(self.pending.indices.len());
    }

    /// Ends the last part. Returns whether there are any commands.
    fn finish(&mut self) -> bool {
        if self.request.unfinished() > 0 {
            self.end_part();
        }
        !self.request.bytes().is_empty()
    }
}

/// The opaque tokens of a batch in the order of its commands. Since the server keeps this order, a
/// response also settles the commands before its own: they were quiet.
pub(super) struct Pending {
    indices: Vec<usize>,
    /// How many of the commands are settled.
    settled: usize,
    expected: Responses,
    /// How many responses there were, with errors.
    responses: usize,
    /// How many commands there are up to the end of each part that has not ended yet.
    part_ends: VecDeque<usize>,
}

impl Pending {
    fn new(expected: Responses) -> Self {
        Self {
            indices: Vec::new(),
            settled: 0,
            expected,
            responses: 0,
            part_ends: VecDeque::new(),
        }
    }

    /// Records that a part ended. Returns whether no response to its commands is missing, as far as can be
    /// known: without a response, a quiet command has succeeded, or is lost.
    fn end_part(&mut self) -> bool {
        let commands = self.part_ends.pop_front();
        self.expected == Responses::ToSome || Some(self.responses) >= commands
    }

    /// Returns the token of a response if its command is pending, and settles this command and those
    /// before it.
    pub(super) fn accept(&mut self, opaque: Option<u64>) -> Option<usize> {
        let index = usize::try_from(opaque?).ok()?;
        let pending = &self.indices[self.settled..];
        self.settled += 1 + pending.iter().position(|pending| *pending == index)?;
        Some(index)
    }

    /// Does the same in a batch whose commands all get a response. That to a miss has no token, and belongs to
    /// the next command.
    pub(super) fn accept_response(&mut self, response: &Response) -> Option<usize> {
        if response.code != ReturnCode::En || response.opaque.is_some() {
            return self.accept(response.opaque);
        }
        let next = *self.indices.get(self.settled)?;
        self.settled += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_to_no_pending_command_is_rejected() {
        let mut pending = Pending {
            indices: vec![1, 4, 6],
            ..Pending::new(Responses::ToSome)
        };
        assert_eq!(pending.accept(Some(4)), Some(4));
        for wrong in [None, Some(1), Some(4), Some(5), Some(7)] {
            assert_eq!(pending.accept(wrong), None, "{wrong:?}");
        }
        assert_eq!(pending.accept(Some(6)), Some(6));
    }

    #[test]
    fn a_part_without_a_response_to_each_command_is_incomplete_unless_they_are_quiet() {
        for (expected, responses, are_complete) in [
            (Responses::ToAll, [2, 3], [true, true]),
            (Responses::ToAll, [1, 3], [false, true]),
            (Responses::ToAll, [2, 2], [true, false]),
            (Responses::ToSome, [0, 1], [true, true]),
        ] {
            let mut pending = Pending::new(expected);
            pending.part_ends.extend([2, 3]);
            for (responses, is_complete) in responses.into_iter().zip(are_complete) {
                pending.responses = responses;
                assert_eq!(pending.end_part(), is_complete, "{expected:?} {responses}");
            }
        }
    }

    #[test]
    fn every_part_of_a_long_request_ends_with_a_no_op() {
        let batch = || Batch::new(0, None, Responses::ToSome);
        let (mut empty, mut batch) = (batch(), batch());
        for index in 0..1000 {
            batch
                .add(index, |request| {
                    request.command(MetaOp::Get, &"k".repeat(100))?.end();
                    Ok(())
                })
                .unwrap();
        }
        assert!(!empty.finish());
        assert!(batch.finish());
        let request = batch.request;
        assert_eq!(batch.pending.indices.len(), 1000);
        assert!(request.part_count() > 5 && request.unfinished() == 0);
        let windows = (0..request.part_count()).filter_map(|part| request.next_part(part));
        for window in windows.chain([request.first_window()]) {
            assert!(window.ends_with(b"\r\nmn\r\n"));
        }
        let noops = request
            .bytes()
            .windows(6)
            .filter(|bytes| bytes == b"\r\nmn\r\n");
        assert_eq!(noops.count(), request.part_count());
    }
}
