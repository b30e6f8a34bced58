//! Many keys at once: one request a server, sent to all before any is waited for.

use std::time::{Duration, Instant};

use memcache::exp::{MetaOp, ReturnCode};

use super::connection::{Connection, Failure};
use super::expiry::exptime;
use super::protocol::{Answer, Request};
use super::server::Effect;
use super::{Cluster, bytes};
use crate::{Entry, Error, Key, Result};

/// How long a part of a request becomes: two of them fit into the buffers between any two ends.
const PART: usize = 16 << 10;

/// For how long the answers of a server are looked for when those before it took all the time.
const GRACE: Duration = Duration::from_millis(10);

impl Cluster {
    pub(super) fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let mut entries = vec![None; keys.len()];
        let mut batches = self.batches();
        for (index, key) in keys.iter().enumerate() {
            batches.add(self.route(key), index, |request| {
                // Quiet: misses are not answered.
                let command = request.command(MetaOp::Get, key.text())?;
                command.flag("v").flag("q").number('O', index).end();
                Ok(())
            })?;
        }
        self.run(batches, Effect::Nothing, |pending, answer| {
            let index = pending.skip_to(answer.opaque)?;
            let value = (answer.code == ReturnCode::Va).then_some(answer.value)?;
            entries[index] = Some(Entry::bytes(value));
            Some(())
        })?;
        Ok(entries)
    }

    pub(super) fn set_many(
        &self,
        entries: Vec<(Key<'_>, Entry)>,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let ttl = exptime(ttl);
        let mut batches = self.batches();
        for (index, (key, entry)) in entries.into_iter().enumerate() {
            let value = bytes(entry)?;
            batches.add(self.route(&key), index, |request| {
                // Quiet: only what goes wrong is answered.
                let command = request.command(MetaOp::Set, key.text())?.length(&value)?;
                command.number('T', ttl).flag("q").value(&value);
                Ok(())
            })?;
        }
        self.run(batches, Effect::Write, |_, _| None)
    }

    pub(super) fn delete_many(&self, keys: &[Key<'_>]) -> Result<usize> {
        let mut count = 0;
        let mut batches = self.batches();
        for (index, key) in keys.iter().enumerate() {
            batches.add(self.route(key), index, |request| {
                let command = request.command(MetaOp::Delete, key.text())?;
                command.number('O', index).end();
                Ok(())
            })?;
        }
        self.run(batches, Effect::Write, |pending, answer| {
            pending.skip_to(answer.opaque)?;
            count += usize::from(answer.code == ReturnCode::Hd);
            Some(())
        })?;
        Ok(count)
    }

    fn batches(&self) -> Batches {
        Batches(self.servers.iter().map(|_| Batch::default()).collect())
    }

    /// Runs a batch on each server that it is for. Where some fail, the others are done.
    ///
    /// `take` takes an answer; None if it is none to what was asked.
    fn run(
        &self,
        batches: Batches,
        effect: Effect,
        mut take: impl FnMut(&mut Pending, Answer) -> Option<()>,
    ) -> Result<()> {
        let (mut requests, mut pendings) = (Vec::new(), Vec::new());
        for (server, batch) in self.servers.iter().zip(batches.0) {
            if let Some((request, parts, pending)) = batch.close() {
                requests.push((server, request, parts));
                pendings.push(pending);
            }
        }
        let deadline = self.deadline();
        let begun: Vec<_> = requests
            .iter()
            .map(|(server, request, parts)| server.begin(effect, request.bytes(), parts, deadline))
            .collect();
        let mut result = Ok(());
        for (index, exchange) in begun.into_iter().enumerate() {
            let (server, pending) = (requests[index].0, &mut pendings[index]);
            let deadline = if index == 0 {
                deadline
            } else {
                deadline.max(Instant::now() + GRACE)
            };
            let mut refused = Ok(());
            let outcome = exchange.and_then(|exchange| {
                exchange.finish(deadline, |connection| {
                    part(connection, deadline, &mut refused, |answer| {
                        take(pending, answer)
                    })
                })
            });
            let outcome = outcome
                .and(refused)
                .map_err(|failure| server.error(failure));
            result = result.and(outcome);
        }
        result
    }
}

/// Reads the answers to a part of a request. The server's own errors do not end it.
fn part(
    connection: &mut Connection,
    deadline: Instant,
    refused: &mut Result<(), Failure>,
    mut take: impl FnMut(Answer) -> Option<()>,
) -> Result<(), Failure> {
    loop {
        match connection.answer(deadline) {
            Ok(answer) if answer.code == ReturnCode::Mn => return Ok(()),
            Ok(answer) => take(answer)
                .ok_or_else(|| Failure::garbage("an answer belongs to nothing that was asked"))?,
            Err(Failure::Refused(refusal)) if refusal.in_sync() => {
                if refused.is_ok() {
                    *refused = Err(Failure::Refused(refusal));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A batch for each server.
struct Batches(Vec<Batch>);

impl Batches {
    /// Adds a command for a server; `index` is its opaque token.
    fn add(
        &mut self,
        server: usize,
        index: usize,
        write: impl FnOnce(&mut Request) -> Result<(), Error>,
    ) -> Result<()> {
        let batch = &mut self.0[server];
        write(&mut batch.request)?;
        batch.pending.indices.push(index);
        if batch.request.len() - batch.parts.last().unwrap_or(&0) >= PART {
            batch.end_part();
        }
        Ok(())
    }
}

/// Commands for one server.
#[derive(Default)]
struct Batch {
    request: Request,
    /// Where the parts of the request end.
    parts: Vec<usize>,
    pending: Pending,
}

impl Batch {
    /// Ends a part with a command that is always answered.
    fn end_part(&mut self) {
        self.request.noop();
        self.parts.push(self.request.len());
    }

    fn close(mut self) -> Option<(Request, Vec<usize>, Pending)> {
        if self.parts.last().unwrap_or(&0) < &self.request.len() {
            self.end_part();
        }
        (!self.parts.is_empty()).then_some((self.request, self.parts, self.pending))
    }
}

/// The opaque tokens of a batch, in order, without those that were answered or passed over.
#[derive(Default)]
struct Pending {
    indices: Vec<usize>,
    passed: usize,
}

impl Pending {
    /// The token that an answer carries, if it is one that can come now.
    fn skip_to(&mut self, opaque: Option<u64>) -> Option<usize> {
        let index = usize::try_from(opaque?).ok()?;
        let rest = &self.indices[self.passed..];
        self.passed += 1 + rest.iter().position(|pending| *pending == index)?;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_out_of_turn_is_not_taken() {
        let mut pending = Pending {
            indices: vec![1, 4, 6],
            passed: 0,
        };
        assert_eq!(pending.skip_to(Some(4)), Some(4));
        for wrong in [None, Some(1), Some(4), Some(5), Some(7)] {
            assert_eq!(pending.skip_to(wrong), None, "{wrong:?}");
        }
        assert_eq!(pending.skip_to(Some(6)), Some(6));
    }

    #[test]
    fn a_long_request_has_parts_that_end_with_an_answer() {
        let mut batches = Batches(vec![Batch::default(), Batch::default()]);
        for index in 0..1000 {
            batches
                .add(1, index, |request| {
                    request.command(MetaOp::Get, &"k".repeat(100))?.end();
                    Ok(())
                })
                .unwrap();
        }
        let mut batches = batches.0.into_iter();
        assert!(batches.next().unwrap().close().is_none());
        let (request, parts, pending) = batches.next().unwrap().close().unwrap();
        assert_eq!(pending.indices.len(), 1000);
        assert!(parts.len() > 5 && parts.last() == Some(&request.len()));
        assert!(
            parts
                .iter()
                .all(|end| request.bytes()[..*end].ends_with(b"\r\nmn\r\n"))
        );
    }
}
