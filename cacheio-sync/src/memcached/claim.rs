//! Claims keys: see `claims.rs`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;

use memcache::exp::{MetaOp, ReturnCode};

use super::batch::{Batches, Pending, Responses};
use super::call::Driver;
use super::claims::{CLAIM_TTL, HOLDER_TTL, HeldClaim, Items, MARK, empty, holder_key, new_token};
use super::cluster::Cluster;
use super::protocol::Response;
use super::replace::entry;
use super::retry::Retry;
#[cfg(feature = "tokio")]
use super::run_to_end::RunToEnd;
use super::server::{Ended, Origin};
use crate::Result;
use crate::store::{Claim, ClaimMode, Claimed, Entry, Key};

/// A claim that is younger than this, in seconds, is not taken over: its holder may have got the item of the key
/// before this process got that of the holder.
const YOUNG: u64 = 2;

/// One key to claim.
struct Attempt {
    server: usize,
    key: Box<str>,
    holder_key: Box<str>,
    token: String,
    /// What the server has responded.
    found: Found,
    /// Whether the commands were sent twice, so that the first time may have made the items.
    is_resent: bool,
}

/// The items of a claim as they were found.
#[derive(Debug, Default)]
struct Found {
    holder: Vec<u8>,
    holder_cas: u64,
    item: Option<Item>,
}

/// The item of a key.
#[derive(Debug)]
struct Item {
    entry: Option<Entry>,
    cas: u64,
    /// The remaining TTL in seconds.
    ttl: Option<i64>,
    /// Whether this attempt has made it.
    is_new: bool,
}

/// What follows from the items of a claim.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Won,
    Lost,
    /// This process holds the claim, but the item of the key may belong to a holder that was frozen.
    TakeOver,
    /// This process has made the item of the key, and that of the holder is left from another claim.
    ReplaceHolder,
    /// The server numbers no items.
    Refused,
}

/// To which attempt, and to what of it, a response belongs.
#[derive(Clone, Copy)]
enum Slot {
    Other,
    Holder(usize),
    Item(usize),
}

impl Found {
    fn decide(&self, token: &str, force: bool, is_resent: bool) -> Decision {
        let Some(item) = &self.item else {
            return Decision::Lost;
        };
        let (is_ours, is_marked) = (self.holder == token.as_bytes(), self.is_marked());
        let left = item.ttl.and_then(|left| u64::try_from(left).ok());
        let is_young = left.is_some_and(|left| left + YOUNG > CLAIM_TTL && left <= CLAIM_TTL);
        match &item.entry {
            _ if item.cas == 0 => Decision::Refused,
            _ if force || is_marked => Decision::Won,
            _ if item.is_new && !is_ours => Decision::ReplaceHolder,
            _ if item.is_new => Decision::Won,
            Some(_) if is_ours => Decision::Won,
            None if is_ours && (!is_young || is_resent) => Decision::TakeOver,
            _ => Decision::Lost,
        }
    }

    fn is_marked(&self) -> bool {
        self.holder == MARK
    }
}

impl Cluster {
    /// Claims keys, in one round trip to each server, or two where a holder no longer responds.
    pub(super) async fn claim(
        self: &Arc<Self>,
        driver: Driver,
        keys: &[Key<'_>],
        mode: ClaimMode,
    ) -> Result<Vec<Claimed>> {
        let force = mode == ClaimMode::TakeOver;
        let keys = keys.iter().map(|key| key.text().into()).collect();
        let claiming = Arc::clone(self).claim_all(driver, keys, force);
        match driver {
            Driver::Threads => claiming.await,
            // Only the response says what the server has done, and so what to give back.
            #[cfg(feature = "tokio")]
            Driver::Tasks => RunToEnd::new(Box::pin(claiming)).await,
        }
    }

    async fn claim_all(
        self: Arc<Self>,
        driver: Driver,
        keys: Vec<Box<str>>,
        force: bool,
    ) -> Result<Vec<Claimed>> {
        let mut claimed: Vec<_> = keys.iter().map(|_| Claimed::Unsupported).collect();
        let mut attempts = Vec::with_capacity(keys.len());
        let mut positions = Vec::with_capacity(keys.len());
        for (position, key) in keys.into_iter().enumerate() {
            let server = self.router.route(&key);
            if !self.claims.are_refused(server) {
                self.servers[server].runs.record();
                positions.push(position);
                attempts.push(Attempt {
                    server,
                    holder_key: holder_key(&key),
                    key,
                    token: new_token(),
                    found: Found::default(),
                    is_resent: false,
                });
            }
        }
        if attempts.is_empty() {
            return Ok(claimed);
        }
        let mut ended = self.find(driver, &mut attempts, force).await?;
        let has_answered = ended.iter().any(|ended| matches!(ended, Ok(Some(_))));
        let mut taken_over = Vec::new();
        let mut refused = Vec::new();
        for (position, mut attempt) in positions.into_iter().zip(attempts) {
            let Ok(Some(ended)) = &ended[attempt.server] else {
                // What was claimed all the same is given back.
                if let Decision::Won = attempt.decide(force) {
                    drop(attempt.won(&self, 0, force));
                }
                claimed[position] = Claimed::Lost {
                    entry: None,
                    is_told: false,
                };
                continue;
            };
            let connection = ended.connection;
            attempt.is_resent = ended.is_resent;
            match attempt.decide(force) {
                Decision::Refused => {
                    let server = &self.servers[attempt.server];
                    self.claims.refuse(attempt.server, server.name());
                    refused.push(attempt);
                }
                Decision::Won => claimed[position] = attempt.won(&self, connection, force),
                Decision::Lost => {
                    let entry = attempt.found.item.and_then(|item| item.entry);
                    claimed[position] = Claimed::Lost {
                        entry,
                        is_told: false,
                    };
                }
                decision => taken_over.push((position, attempt, decision, connection)),
            }
        }
        if !has_answered && let Some(failed) = ended.iter().position(Result::is_err) {
            return ended.swap_remove(failed).map(|_| claimed);
        }
        if !refused.is_empty() {
            self.remove_refused(driver, &refused).await?;
        }
        if !taken_over.is_empty() {
            self.take_over(driver, taken_over, &mut claimed).await?;
        }
        Ok(claimed)
    }

    /// Makes the items of claims where there are none, and reads them. Returns how the batch of each server ended.
    async fn find(
        &self,
        driver: Driver,
        attempts: &mut [Attempt],
        force: bool,
    ) -> Result<Vec<Result<Option<Ended>>>> {
        let mut batches = Batches::new(self, Responses::ToAll);
        let mut slots = Vec::with_capacity(3 * attempts.len());
        for (index, attempt) in attempts.iter().enumerate() {
            attempt.write(index, self, &mut batches, &mut slots, force)?;
        }
        let take = |pending: &mut Pending, mut response: Response| {
            match slots[pending.accept_response(&response)?] {
                Slot::Other => {}
                Slot::Holder(index) => {
                    let found = &mut attempts[index].found;
                    found.holder_cas = response.cas.unwrap_or_default();
                    found.holder = response.value;
                }
                Slot::Item(_) if response.code != ReturnCode::Va => return None,
                Slot::Item(index) => {
                    let entry = entry(&mut response);
                    attempts[index].found.item = Some(Item {
                        // The same is said once of an item that was marked as invalid.
                        is_new: response.has_won && !response.is_invalid && entry.is_none(),
                        entry,
                        cas: response.cas?,
                        ttl: response.ttl,
                    });
                }
            }
            Some(())
        };
        let call = self.call(driver);
        Ok(batches.run_each(call, Retry::Idempotent, take).await)
    }

    /// Removes the items of claims on a server that numbers none. This happens once, so it does not matter if the key was
    /// just written.
    async fn remove_refused(&self, driver: Driver, attempts: &[Attempt]) -> Result<()> {
        let mut batches = Batches::new(self, Responses::ToAll);
        for (index, attempt) in attempts.iter().enumerate() {
            let is_empty = (attempt.found.item.as_ref()).is_some_and(|item| item.entry.is_none());
            let key = is_empty.then_some(&attempt.key);
            let holder = attempt.is_ours().then_some(&attempt.holder_key);
            for key in key.into_iter().chain(holder) {
                batches.add(attempt.server, index, |request| {
                    let command = request.command(MetaOp::Delete, key)?;
                    command.number('O', index).end();
                    Ok(())
                })?;
            }
        }
        let take = |pending: &mut Pending, response: Response| {
            pending.accept_response(&response).map(drop)
        };
        batches.run(self.call(driver), Retry::Never, take).await
    }

    /// Takes claims over from holders that may have been frozen: whose CAS numbers change, so that what they
    /// load is not stored. Replaces the items of holders whose claims have ended.
    async fn take_over(
        self: &Arc<Self>,
        driver: Driver,
        attempts: Vec<(usize, Attempt, Decision, u64)>,
        claimed: &mut [Claimed],
    ) -> Result<()> {
        let mut batches = Batches::none(self);
        // One for each server: its keys were claimed on one connection.
        let mut begun = HashMap::new();
        let mut batch_of = Vec::with_capacity(attempts.len());
        for (index, (_, attempt, decision, connection)) in attempts.iter().enumerate() {
            let batch = match begun.entry(attempt.server) {
                MapEntry::Occupied(batch) => *batch.get(),
                MapEntry::Vacant(slot) => {
                    let origin = attempt.origin(*connection)?;
                    *slot.insert(batches.begin(attempt.server, origin))
                }
            };
            batch_of.push(batch);
            attempt.write_take_over(index, decision, batch, &mut batches)?;
        }
        let mut taken = vec![None; attempts.len()];
        let take = |pending: &mut Pending, response: Response| {
            let index = pending.accept_response(&response)?;
            let cas = response.cas.filter(|_| response.code == ReturnCode::Hd);
            taken[index] = taken[index].or(cas);
            Some(())
        };
        // The claims on a server that fails are not taken over, and its error comes with the next attempt.
        let ended = batches.run_each(self.call(driver), Retry::Never, take);
        let ended = ended.await;
        for (index, (position, mut attempt, decision, _)) in attempts.into_iter().enumerate() {
            let connection = match &ended[batch_of[index]] {
                Ok(Some(ended)) => ended.connection,
                _ => 0,
            };
            let mut items = attempt.items();
            match (taken[index], &mut attempt.found.item) {
                (cas, Some(item)) if decision == Decision::ReplaceHolder => {
                    attempt.found.holder = attempt.token.clone().into_bytes();
                    // Another process has come in between, and its item is not changed: no item of a holder has
                    // the number of one of a key.
                    attempt.found.holder_cas = cas.unwrap_or(item.cas);
                    claimed[position] = attempt.won(self, connection, false);
                }
                (Some(cas), Some(item)) => {
                    item.cas = cas;
                    claimed[position] = attempt.won(self, connection, false);
                }
                _ => {
                    // A write came. This process is asked again, and holds the claim no longer.
                    items.is_empty = false;
                    let holder = attempt.holder();
                    drop(HeldClaim::new(
                        self,
                        &attempt.key,
                        holder,
                        items,
                        connection,
                        None,
                    ));
                    claimed[position] = Claimed::Lost {
                        entry: None,
                        is_told: false,
                    };
                }
            }
        }
        Ok(())
    }
}

impl Attempt {
    fn decide(&self, force: bool) -> Decision {
        self.found.decide(&self.token, force, self.is_resent)
    }

    fn is_ours(&self) -> bool {
        self.found.holder == self.token.as_bytes()
    }

    /// Adds the commands that change the item of a key, or that of its holder, to the claim of this process.
    fn write_take_over(
        &self,
        index: usize,
        decision: &Decision,
        batch: usize,
        batches: &mut Batches<'_>,
    ) -> Result<()> {
        if *decision == Decision::TakeOver {
            let cas = self.found.item.as_ref().map_or(0, |item| item.cas);
            return batches.add(batch, index, |request| {
                empty(request, &self.key, cas, CLAIM_TTL, index)
            });
        }
        // If it was found, and if it has gone since.
        let number = Some(self.found.holder_cas).filter(|cas| *cas != 0);
        for number in number.map(Some).into_iter().chain([None]) {
            batches.add(batch, index, |request| {
                let token = self.token.as_bytes();
                let command = request.command(MetaOp::Set, &self.holder_key)?;
                let command = command.length(token)?;
                let command = match number {
                    Some(number) => command.number('C', number),
                    None => command.flag("ME"),
                };
                let command = command.number('T', HOLDER_TTL).flag("c");
                command.number('O', index).value(token);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Adds the commands that claim the key.
    fn write(
        &self,
        index: usize,
        cluster: &Cluster,
        batches: &mut Batches<'_>,
        slots: &mut Vec<Slot>,
        force: bool,
    ) -> Result<()> {
        let Self {
            server,
            key,
            holder_key,
            token,
            ..
        } = self;
        // What this process has just given up must not stop it.
        for claim in cluster.claims.given_back(*server, key) {
            claim.write(key, |write| {
                let at = slots.len();
                slots.push(Slot::Other);
                batches.add(claim.server(), at, |request| write(request, at))
            })?;
        }
        let mut at = slots.len();
        slots.push(Slot::Other);
        batches.add(*server, at, |request| {
            let command = request.command(MetaOp::Set, holder_key)?;
            let mut command = command.length(token.as_bytes())?;
            if !force {
                command = command.flag("ME");
            }
            let command = command.number('T', HOLDER_TTL);
            command.number('O', at).value(token.as_bytes());
            Ok(())
        })?;
        if force {
            // Gives the item another CAS number, so that what others load is not stored.
            at = slots.len();
            slots.push(Slot::Other);
            batches.add(*server, at, |request| {
                let command = request.command(MetaOp::Delete, key)?.flag("I");
                command.number('O', at).end();
                Ok(())
            })?;
        }
        at = slots.len();
        slots.push(Slot::Holder(index));
        batches.add(*server, at, |request| {
            let command = request.command(MetaOp::Get, holder_key)?;
            command.flags(&["v", "c"]).number('O', at).end();
            Ok(())
        })?;
        at = slots.len();
        slots.push(Slot::Item(index));
        batches.add(*server, at, |request| {
            let command = request.command(MetaOp::Get, key)?;
            let command = command.flags(&["v", "c", "t"]).number('N', CLAIM_TTL);
            command.number('O', at).end();
            Ok(())
        })
    }

    fn items(&self) -> Items {
        let item = self.found.item.as_ref();
        Items {
            server: self.server,
            cas: item.map_or(0, |item| item.cas),
            is_empty: item.is_some_and(|item| item.entry.is_none()),
            is_owned: !self.found.is_marked() || item.is_some_and(|item| item.is_new),
            holder_key: self.holder_key.clone(),
            holder_cas: self.found.holder_cas,
            is_marked: self.found.is_marked(),
        }
    }

    fn origin(&self, connection: u64) -> Result<Origin> {
        Origin::new(connection, &self.holder_key, &self.holder())
    }

    /// Returns a value that the item of the holder has on this run of the server only.
    fn holder(&self) -> Vec<u8> {
        match self.found.is_marked() {
            true => self.token.clone().into_bytes(),
            false => self.found.holder.clone(),
        }
    }

    fn won(self, cluster: &Arc<Cluster>, connection: u64, force: bool) -> Claimed {
        let items = self.items();
        let holder = self.holder();
        let entry = self.found.item.and_then(|item| item.entry);
        let claim = HeldClaim::new(
            cluster,
            &self.key,
            holder,
            items,
            connection,
            entry.as_ref(),
        );
        Claimed::Won {
            claim: Claim::new(claim),
            // A caller that takes over does not ask for the entry.
            entry: entry.filter(|_| !force),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_items_of_a_claim_tell_who_loads() {
        let entry = || Some(Entry::bytes(b"v".to_vec()));
        let found = |holder: &str, entry: Option<Entry>, ttl: i64, is_new: bool| Found {
            holder: holder.as_bytes().to_vec(),
            holder_cas: 1,
            item: Some(Item {
                entry,
                cas: 2,
                ttl: Some(ttl),
                is_new,
            }),
        };
        for (found, expected) in [
            (found("ours", None, -1, true), Decision::Won),
            // Who made the item of the key is first, also without that of the holder.
            (found("other", None, -1, true), Decision::ReplaceHolder),
            (found("other", None, 3000, false), Decision::Lost),
            (found("ours", None, 3600, false), Decision::Lost),
            (found("ours", None, 3599, false), Decision::Lost),
            (found("ours", None, 3598, false), Decision::TakeOver),
            (found("ours", None, 60, false), Decision::TakeOver),
            // A touch has changed the TTL.
            (found("ours", None, 9000, false), Decision::TakeOver),
            (found("ours", None, -1, false), Decision::TakeOver),
            (found("-", None, 10, false), Decision::Won),
            (found("ours", entry(), 5, false), Decision::Won),
            (found("other", entry(), 5, false), Decision::Lost),
            (found("-", entry(), 5, false), Decision::Won),
            (Found::default(), Decision::Lost),
        ] {
            assert_eq!(found.decide("ours", false, false), expected, "{found:?}");
            if found.item.is_some() {
                assert_eq!(
                    found.decide("ours", true, false),
                    Decision::Won,
                    "{found:?}"
                );
            }
        }
        // The first time may have made the items.
        let resent = found("ours", None, 3600, false);
        assert_eq!(resent.decide("ours", false, true), Decision::TakeOver);
        let mut without_cas = found("ours", None, -1, true);
        without_cas.item.as_mut().unwrap().cas = 0;
        assert_eq!(without_cas.decide("ours", false, false), Decision::Refused);
    }
}
