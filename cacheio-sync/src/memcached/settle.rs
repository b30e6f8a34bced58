//! Ends claims: see `claims.rs`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use memcache::exp::MetaOp;

use super::batch::{Batches, Pending};
use super::call::{Call, Driver};
use super::claims::{HeldClaim, MARKED_TTL, empty};
use super::cluster::{Cluster, into_bytes};
use super::exptime::exptime;
use super::protocol::{Request, Response, VALUE_MAX, too_large};
use super::replace::{entry, swapped};
use super::retry::Retry;
use crate::store::{Settled, Settlement};
use crate::{Error, ErrorKind, Result};

/// How often a value is sent, at most. Each time, a reader has changed the header of the entry that the value is to
/// replace.
const MAX_ATTEMPTS: usize = 4;

/// A claim that ends.
struct Ending {
    /// The position of the load among those of the call.
    position: usize,
    claim: HeldClaim,
    action: Action,
}

enum Action {
    /// Stores a value with an expiration time.
    Store(Vec<u8>, u64),
    /// Removes the entry.
    Remove,
}

impl Cluster {
    /// Ends claims, in one round trip to each server. Another one follows for a value whose predecessor has another
    /// header, because it was read.
    pub(super) async fn settle(
        &self,
        driver: Driver,
        loads: Vec<Settlement<'_>>,
    ) -> Result<Vec<bool>> {
        let mut done = vec![true; loads.len()];
        let mut endings = Vec::with_capacity(loads.len());
        let mut result = Ok(());
        for (position, load) in loads.into_iter().enumerate() {
            let Some(mut claim) = load.claim.downcast::<HeldClaim>() else {
                return Err(foreign_claim());
            };
            let action = match load.loaded {
                Settled::Entry(entry, ttl) => match into_bytes(entry) {
                    Ok(value) if value.len() <= VALUE_MAX => Action::Store(value, exptime(ttl)),
                    refused => {
                        // The old value must not be taken for the one that was to replace it.
                        result = result.and(refused.and_then(|_| Err(too_large())));
                        Action::Remove
                    }
                },
                Settled::Removed => Action::Remove,
                // The keeper tells the server: no caller waits for that.
                _ => {
                    claim.has_failed = true;
                    continue;
                }
            };
            if matches!(action, Action::Remove) && claim.items.is_empty {
                claim.has_failed = true;
                continue;
            }
            done[position] = false;
            endings.push(Ending {
                position,
                claim,
                action,
            });
        }
        let call = self.call(driver);
        for _ in 0..MAX_ATTEMPTS {
            let changed = self.end(endings, &mut done, call).await?;
            endings = self.find_read_entries(changed, call).await?;
            if endings.is_empty() {
                break;
            }
        }
        result.map(|()| done)
    }

    /// Sends the ends of claims. Returns those whose entries have changed, perhaps only because they were read.
    async fn end(
        &self,
        endings: Vec<Ending>,
        done: &mut [bool],
        call: Call,
    ) -> Result<Vec<Ending>> {
        let mut changed = Vec::new();
        for mut round in rounds(endings) {
            let batches = self.on_their_runs(&round, |ending, batches, batch, index| {
                batches.add(batch, 2 * index, |request| ending.write(request, 2 * index))?;
                let items = &ending.claim.items;
                let at = 2 * index + 1;
                match ending.action {
                    Action::Store(..) => {
                        batches.add(batch, at, |request| items.release(request, at))
                    }
                    Action::Remove if items.is_marked => Ok(()),
                    Action::Remove => batches.add(batch, at, |request| items.mark(request, at)),
                }
            })?;
            let mut stored = vec![None; round.len()];
            let take = |pending: &mut Pending, response: Response| {
                let index = pending.accept_response(&response)?;
                if index % 2 == 0 {
                    stored[index / 2] = Some(swapped(&response)?);
                }
                Some(())
            };
            let result = batches.run(call, Retry::Never, take).await;
            for (ending, stored) in round.iter_mut().zip(&stored) {
                // Without a response it was not sent, because the server that had the claim has ended.
                if stored.is_some() || result.is_ok() {
                    ending.claim.close();
                }
                done[ending.position] = *stored == Some(true);
            }
            result?;
            let ended = round.into_iter().zip(stored);
            changed.extend(ended.filter_map(|(ending, stored)| {
                let may_be_same = stored == Some(false) && ending.claim.written.is_some();
                may_be_same.then_some(ending)
            }));
        }
        Ok(changed)
    }

    /// Finds the entries of which only the header has changed, because they were read. Takes over their CAS
    /// numbers.
    async fn find_read_entries(&self, endings: Vec<Ending>, call: Call) -> Result<Vec<Ending>> {
        let mut found = Vec::new();
        for round in rounds(endings) {
            let batches = self.on_their_runs(&round, |ending, batches, batch, index| {
                batches.add(batch, index, |request| {
                    let command = request.command(MetaOp::Get, &ending.claim.key)?;
                    command.flags(&["v", "c"]).number('O', index).end();
                    Ok(())
                })
            })?;
            let mut entries = vec![None; round.len()];
            let take = |pending: &mut Pending, mut response: Response| {
                let index = pending.accept_response(&response)?;
                entries[index] = entry(&mut response);
                Some(())
            };
            batches.run(call, Retry::Never, take).await?;
            for (mut ending, entry) in round.into_iter().zip(entries) {
                let same = entry.filter(|entry| entry.written() == ending.claim.written);
                if let Some(cas) = same.and_then(|entry| entry.version) {
                    ending.claim.items.cas = cas;
                    found.push(ending);
                }
            }
        }
        Ok(found)
    }

    /// Makes batches that are sent only to the runs of the servers on which the keys were claimed.
    fn on_their_runs(
        &self,
        round: &[Ending],
        add: impl Fn(&Ending, &mut Batches<'_>, usize, usize) -> Result<()>,
    ) -> Result<Batches<'_>> {
        let mut batches = Batches::none(self);
        let mut begun = HashMap::new();
        for (index, ending) in round.iter().enumerate() {
            let batch = match begun.entry(ending.claim.items.server) {
                Slot::Occupied(batch) => *batch.get(),
                Slot::Vacant(slot) => {
                    let origin = ending.claim.origin()?;
                    *slot.insert(batches.begin(ending.claim.items.server, origin))
                }
            };
            add(ending, &mut batches, batch, index)?;
        }
        Ok(batches)
    }
}

impl Ending {
    /// Writes the value, or removes the entry, if the item of the key has not changed.
    fn write(&self, request: &mut Request, index: usize) -> Result<()> {
        let HeldClaim { key, items, .. } = &self.claim;
        match &self.action {
            Action::Store(value, exptime) => {
                let command = request.command(MetaOp::Set, key)?.length(value)?;
                let command = command.number('C', items.cas).number('T', exptime);
                command.number('O', index).value(value);
                Ok(())
            }
            Action::Remove => empty(request, key, items.cas, MARKED_TTL, index),
        }
    }
}

/// Splits claims such that those of a round on one server were made on one connection: a call has one connection
/// to each server.
fn rounds(endings: Vec<Ending>) -> Vec<Vec<Ending>> {
    let mut rounds: Vec<(HashMap<usize, u64>, Vec<Ending>)> = Vec::new();
    for ending in endings {
        let (server, connection) = (ending.claim.items.server, ending.claim.connection);
        let fits = |connections: &HashMap<usize, u64>| {
            (connections.get(&server)).is_none_or(|other| *other == connection)
        };
        let at = rounds.iter().position(|(connections, _)| fits(connections));
        let at = at.unwrap_or_else(|| {
            rounds.push(Default::default());
            rounds.len() - 1
        });
        rounds[at].0.insert(server, connection);
        rounds[at].1.push(ending);
    }
    rounds.into_iter().map(|(_, endings)| endings).collect()
}

fn foreign_claim() -> Error {
    Error::new(ErrorKind::Unsupported, "the claim is that of another store")
}
