//! Claims on keys: one process at a time loads a key, and only its value is stored.
//!
//! Memcached runs no scripts, so two items share the work of a claim on a key:
//!
//! - The item of the **key** decides whether the value of a load is stored: by its CAS number, which each
//!   write changes. A missing key gets an empty item when it is claimed, so that a delete has something to
//!   remove. An empty item is no entry; all operations treat it as absent.
//! - The item of the **holder**, under [a key of its own](cacheio_core::KeyRule::of_holder), says which process
//!   loads: its value is a random token. It lives for [`HOLDER_TTL`], and a thread of this process prolongs it
//!   ([`Cluster::renew`]) while it has that token. So a process that no longer responds loses it. Nothing else depends on it: at worst two
//!   processes load, and the first one to settle is stored.
//!
//! After a load that left no value, the holder becomes a *mark*: for a second or two all processes load, with
//! the same CAS number, and the first one to settle is stored.
//!
//! `claim.rs` claims keys, and `settle.rs` ends claims. This file has the claims that this process holds.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cacheio_core::__private::poll_ready;
use cacheio_core::KeyRule;
use memcache::exp::MetaOp;

use super::batch::{Batches, Pending, Responses};
use super::call::{Call, Driver};
use super::cluster::Cluster;
use super::protocol::{Request, Response};
use super::retry::Retry;
use super::server::Origin;
use crate::Result;
use crate::store::Entry;

/// How long the item of a holder lives, in seconds, unless it is prolonged. Between two and three of them pass,
/// because the server's clock ticks once a second.
pub(super) const HOLDER_TTL: u64 = 3;
/// How often the items of holders are prolonged.
const RENEWAL: Duration = Duration::from_millis(500);
/// How long the empty item of a claim lives, in seconds: longer than any load, because nothing prolongs it.
pub(super) const CLAIM_TTL: u64 = 3600;
/// How long a mark lives, in seconds.
const MARK_TTL: u64 = 2;
/// How long the loads under a mark may take, in seconds.
pub(super) const MARKED_TTL: u64 = 10;
/// The value of a mark.
pub(super) const MARK: &[u8] = b"-";

/// The claims of this process on the servers of one store.
#[derive(Debug)]
pub(super) struct Claims {
    servers: Vec<ClaimsOnServer>,
}

/// The claims of this process on one server. They have a keeper of their own, because another server may not respond.
#[derive(Debug, Default)]
struct ClaimsOnServer {
    held: Mutex<Held>,
    given_back: Condvar,
    /// Whether it numbers no items, so that nothing can be claimed.
    are_refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    /// Those that are prolonged.
    claims: HashMap<u64, Renewed>,
    /// Those that were dropped, by their keys, until the server knows.
    given_back: HashMap<Box<str>, Vec<GivenBack>>,
    /// Whether a thread prolongs claims and gives them back.
    has_keeper: bool,
}

/// The item of a holder, and its value.
#[derive(Clone, Debug)]
struct Renewed {
    holder_key: Box<str>,
    holder: Vec<u8>,
}

/// A claim that this process holds, until it is dropped.
pub(super) struct HeldClaim {
    pub(super) cluster: Arc<Cluster>,
    pub(super) key: Box<str>,
    /// The value of the item of the holder.
    pub(super) holder: Vec<u8>,
    pub(super) items: Items,
    /// The number of the connection on which it was made.
    pub(super) connection: u64,
    /// What distinguishes the entry of the key from others, if reads of it may be recorded.
    pub(super) written: Option<u64>,
    /// Whether its load has failed.
    pub(super) has_failed: bool,
    id: u64,
    is_open: bool,
}

/// The items of a claim.
#[derive(Clone, Debug)]
pub(super) struct Items {
    pub(super) server: usize,
    /// The CAS number of the item of the key.
    pub(super) cas: u64,
    /// Whether that item is empty.
    pub(super) is_empty: bool,
    /// Whether the claim ends the item of the key when it is given back: others may load with the same CAS number.
    pub(super) is_owned: bool,
    pub(super) holder_key: Box<str>,
    /// The CAS number of the item of the holder.
    pub(super) holder_cas: u64,
    /// Whether that is a mark, which is not prolonged.
    pub(super) is_marked: bool,
}

/// A claim that was dropped.
#[derive(Clone, Debug)]
pub(super) struct GivenBack {
    id: u64,
    items: Items,
    has_failed: bool,
}

impl Claims {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            servers: (0..servers).map(|_| ClaimsOnServer::default()).collect(),
        }
    }

    /// Returns whether nothing can be claimed on a server.
    pub(super) fn are_refused(&self, server: usize) -> bool {
        self.servers[server].are_refused.load(Ordering::Relaxed)
    }

    /// Goes on without claims on a server.
    pub(super) fn refuse(&self, server: usize, name: &str) {
        if !(self.servers[server].are_refused).swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "cacheio",
                server = name,
                "the server numbers no items (memcached with `-C`); each process loads for itself, and writes \
                 of other processes do not prevent that loads are stored",
            );
        }
    }

    /// Returns the claims on a key that were dropped, and may still be there.
    pub(super) fn given_back(&self, server: usize, key: &str) -> Vec<GivenBack> {
        let held = self.servers[server].lock();
        held.given_back.get(key).cloned().unwrap_or_default()
    }
}

impl ClaimsOnServer {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Forgets claims that were given back.
    fn forget(&mut self, given_back: &[(Box<str>, GivenBack)]) {
        for (key, forgotten) in given_back {
            if let Some(claims) = self.given_back.get_mut(key) {
                claims.retain(|claim| claim.id != forgotten.id);
                if claims.is_empty() {
                    self.given_back.remove(key);
                }
            }
        }
    }
}

impl HeldClaim {
    /// Takes note of a claim. `entry` is the entry of the key.
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        key: &str,
        holder: Vec<u8>,
        items: Items,
        connection: u64,
        entry: Option<&Entry>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        if !items.is_marked {
            let renewed = Renewed {
                holder_key: items.holder_key.clone(),
                holder: holder.clone(),
            };
            let mut held = cluster.claims.servers[items.server].lock();
            held.claims.insert(id, renewed);
            start_keeper(cluster, items.server, held);
        }
        Self {
            cluster: Arc::clone(cluster),
            key: key.into(),
            holder,
            is_open: items.is_owned,
            items,
            connection,
            written: entry.and_then(Entry::written),
            has_failed: false,
            id,
        }
    }

    /// Returns from which run of the server its CAS numbers are.
    pub(super) fn origin(&self) -> Result<Origin> {
        Origin::new(self.connection, &self.items.holder_key, &self.holder)
    }

    /// Forgets the claim: it has ended.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let claims = &self.cluster.claims.servers[self.items.server];
            claims.lock().claims.remove(&self.id);
        }
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let claims = &self.cluster.claims.servers[self.items.server];
            let mut held = claims.lock();
            held.claims.remove(&self.id);
            let given_back = GivenBack {
                id: self.id,
                items: self.items.clone(),
                has_failed: self.has_failed,
            };
            let key = std::mem::take(&mut self.key);
            held.given_back.entry(key).or_default().push(given_back);
            claims.given_back.notify_one();
            // A claim under a mark is not prolonged, so it may be the only one.
            start_keeper(&self.cluster, self.items.server, held);
        }
    }
}

impl GivenBack {
    pub(super) fn server(&self) -> usize {
        self.items.server
    }

    /// Ends the claim by two commands, each only if nothing has changed. `add` adds one.
    pub(super) fn write(
        &self,
        key: &str,
        mut add: impl FnMut(&dyn Fn(&mut Request, usize) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let Items { cas, .. } = self.items;
        if self.items.is_empty {
            add(&|request, index| match self.has_failed {
                true => empty(request, key, cas, MARKED_TTL, index),
                false => delete(request, key, cas, index),
            })?;
        }
        if self.items.is_marked {
            return Ok(());
        }
        // After the key: the processes that find it claimed wait until they find what became of the holder.
        add(&|request, index| match self.has_failed {
            true => self.items.mark(request, index),
            false => self.items.release(request, index),
        })
    }
}

impl Items {
    /// Removes the item of the holder, or the mark.
    pub(super) fn release(&self, request: &mut Request, index: usize) -> Result<()> {
        delete(request, &self.holder_key, self.holder_cas, index)
    }

    /// Makes the item of the holder a mark.
    pub(super) fn mark(&self, request: &mut Request, index: usize) -> Result<()> {
        let command = request.command(MetaOp::Set, &self.holder_key)?;
        let command = command.length(MARK)?.number('C', self.holder_cas);
        command.number('T', MARK_TTL).number('O', index).value(MARK);
        Ok(())
    }
}

/// Empties an item if it has not changed.
pub(super) fn empty(
    request: &mut Request,
    key: &str,
    cas: u64,
    ttl: u64,
    index: usize,
) -> Result<()> {
    let command = request.command(MetaOp::Set, key)?.length(&[])?;
    let command = command.number('C', cas).number('T', ttl);
    command.flag("c").number('O', index).value(&[]);
    Ok(())
}

fn delete(request: &mut Request, key: &str, cas: u64, index: usize) -> Result<()> {
    let command = request.command(MetaOp::Delete, key)?;
    command.number('C', cas).number('O', index).end();
    Ok(())
}

/// Returns the key of the holder of a claim.
pub(super) fn holder_key(key: &str) -> Box<str> {
    KeyRule::Wire { max: 250 }.of_holder(key).into()
}

/// Returns a text that no other claim has, in any process.
pub(super) fn new_token() -> String {
    static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let token = RANDOM.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    format!("{token:016x}")
}

/// Starts the thread that prolongs claims and gives them back, unless it runs. Without it, they expire.
fn start_keeper(cluster: &Arc<Cluster>, server: usize, mut held: MutexGuard<'_, Held>) {
    if std::mem::replace(&mut held.has_keeper, true) {
        return;
    }
    let keeper = Arc::clone(cluster);
    let thread = std::thread::Builder::new().name("cacheio-claims".into());
    if thread.spawn(move || keeper.keep_claims(server)).is_err() {
        held.has_keeper = false;
    }
}

impl Cluster {
    /// Prolongs the claims of this process on a server, and gives back those that were dropped. Ends when there are
    /// none.
    fn keep_claims(&self, server: usize) {
        let claims = &self.claims.servers[server];
        let mut renew_at = Instant::now() + RENEWAL;
        loop {
            let left = renew_at.saturating_duration_since(Instant::now());
            let held = claims.lock();
            let waited = (claims.given_back)
                .wait_timeout_while(held, left, |held| held.given_back.is_empty());
            let held = waited.unwrap_or_else(PoisonError::into_inner).0;
            let given_back: Vec<_> = (held.given_back.iter())
                .flat_map(|(key, claims)| claims.iter().map(|claim| (key.clone(), claim.clone())))
                .collect();
            drop(held);
            if !given_back.is_empty() {
                // A failure changes nothing: the claims expire.
                let _ = poll_ready(self.give_back(&given_back));
                claims.lock().forget(&given_back);
            }
            if Instant::now() < renew_at {
                continue;
            }
            renew_at = Instant::now() + RENEWAL;
            let renewed: Vec<(u64, Renewed)> = {
                let mut held = claims.lock();
                if held.claims.is_empty() && held.given_back.is_empty() {
                    held.has_keeper = false;
                    return;
                }
                (held.claims.iter())
                    .map(|(id, renewed)| (*id, renewed.clone()))
                    .collect()
            };
            if let Ok(lost) = poll_ready(self.renew(server, &renewed)) {
                let mut held = claims.lock();
                held.claims.retain(|id, _| !lost.contains(id));
            }
        }
    }

    /// Gives claims back. If the server was restarted, this may remove an item that has the same CAS number: a
    /// value less does no harm.
    async fn give_back(&self, given_back: &[(Box<str>, GivenBack)]) -> Result<()> {
        let mut batches = Batches::new(self, Responses::ToAll);
        let mut index = 0;
        for (key, claim) in given_back {
            claim.write(key, |write| {
                index += 1;
                batches.add(claim.server(), index, |request| write(request, index))
            })?;
        }
        let take = |pending: &mut Pending, response: Response| {
            pending.accept_response(&response).map(drop)
        };
        batches
            .run(self.keeper_call(), Retry::Idempotent, take)
            .await
    }

    /// Prolongs the items of holders. Returns the claims whose items are gone, or name another holder: these must not
    /// be prolonged.
    async fn renew(&self, server: usize, claims: &[(u64, Renewed)]) -> Result<HashSet<u64>> {
        let mut batches = Batches::new(self, Responses::ToSome);
        for (index, (_, claim)) in claims.iter().enumerate() {
            batches.add(server, index, |request| {
                let command = request.command(MetaOp::Get, &claim.holder_key)?;
                let command = command.flags(&["v", "q"]).number('T', HOLDER_TTL);
                command.number('O', index).end();
                Ok(())
            })?;
        }
        let mut lost: HashSet<_> = claims.iter().map(|(id, _)| *id).collect();
        let take = |pending: &mut Pending, response: Response| {
            let (id, claim) = &claims[pending.accept(response.opaque)?];
            if response.value == claim.holder {
                lost.remove(id);
            }
            Some(())
        };
        let call = self.keeper_call();
        batches.run(call, Retry::Idempotent, take).await?;
        Ok(lost)
    }

    /// Starts a call of the keeper. It does not wait for a whole timeout: the callers find out whether the
    /// server responds.
    fn keeper_call(&self) -> Call {
        self.call(Driver::Threads).at_most(2 * RENEWAL)
    }
}
