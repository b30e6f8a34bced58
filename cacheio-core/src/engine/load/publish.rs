//! Storing loaded values, unless a write of the key came in between.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::config::ttl::Lifetime;
use crate::engine::l1::LoadedCopy;
use crate::engine::replace::expiry_of;
use crate::engine::write::{EntryPolicy, PreparedEntry};
use crate::flight::{AfterPublication, Leader, LoadClaim, publishing};
use crate::key::Key;
use crate::stats::Count;
use crate::store::store_time::StoreTime;
use crate::{Object, Operation, Options, Result, Settled, Settlement, Ttl};

/// A loaded value on its way to the store.
pub(super) struct Publication<'a> {
    pub(super) leader: &'a Leader,
    pub(super) key: Key<'a>,
    /// The value; `None` if the loader had none for this key.
    pub(super) object: Option<Arc<dyn Object>>,
    /// The TTL that the loader set, if it set one.
    pub(super) ttl: Option<Ttl>,
    /// Whether the store may hold an entry that has to go even if the value is not stored.
    pub(super) may_replace: bool,
}

impl Engine {
    /// Stores what one load returned, in one round trip. A failure is counted and logged. Returns what has to be run
    /// when the flights have completed.
    pub(super) async fn publish(
        &self,
        publications: &[Publication<'_>],
        options: &Options,
        policy: EntryPolicy,
    ) -> AfterPublication {
        let Some(first) = publications.first() else {
            return AfterPublication::default();
        };
        // All values are encoded before the first is published: encoding is code of the user, which
        // may write a key of this load, and writes wait for a publication.
        let prepared: Vec<_> = publications
            .iter()
            .map(|publication| self.prepare_loaded(publication, options, policy))
            .collect();
        let keys: Vec<_> = publications.iter().map(|load| load.key).collect();
        let copies = self.remove_copies(&keys);
        let tickets = self.tickets(&keys, options.skip_l1).unwrap_or_default();
        // The clock of the entries may be set meanwhile.
        let since_load = policy.began_at.map(|at| self.driver.now() - at);
        let since_load = since_load.unwrap_or_default().max(policy.load_time);
        let mut stored = Vec::with_capacity(publications.len());
        let mut removed = Vec::new();
        // The same under claims.
        let (mut settled, mut settled_removed) = (Vec::new(), Vec::new());
        // What becomes a copy, if it is stored or because the store failed.
        let (mut copies_of_stored, mut copies_of_settled) = (Vec::new(), Vec::new());
        let mut loaded = Vec::new();
        for (index, (publication, prepared)) in publications.iter().zip(prepared).enumerate() {
            let Publication { leader, key, .. } = *publication;
            let settle = |claim, loaded| Settlement { key, claim, loaded };
            let (entry, may_publish) = match prepared {
                // The versions of the tags are not known: the stored entry stays.
                Ok(_) if leader.stamps().versions().is_none() => (None, false),
                Ok(Some(entry)) => (Some(entry), true),
                Ok(None) => (None, publication.may_replace),
                Err(error) => {
                    settled.extend(publication.not_stored());
                    self.on_store_error(&self.in_operation(error, Operation::Set, &key));
                    continue;
                }
            };
            let claim = match may_publish {
                true if !leader.begin_publishing() => continue,
                true if self.shares_loads => leader.take_claim(),
                true => LoadClaim::NotNeeded,
                false => {
                    settled.extend(publication.not_stored());
                    continue;
                }
            };
            let copy = |prepared: &PreparedEntry| {
                let copy = self.loaded_copy(index, publication, prepared, policy)?;
                // The store does not tell that a tag was invalidated during the load.
                Some(match copy.stamps.is_empty() {
                    true => copy,
                    false => copy.unconfirmed(since_load),
                })
            };
            match (entry, claim) {
                (Some(prepared), LoadClaim::NotNeeded) => {
                    copies_of_stored.extend(copy(&prepared));
                    stored.push((key, prepared.0, prepared.1));
                }
                (Some(prepared), LoadClaim::Held(claim)) => {
                    copies_of_settled.push(copy(&prepared));
                    settled.push(settle(claim, Settled::Entry(prepared.0, prepared.1)));
                }
                (Some(prepared), LoadClaim::Failed) => {
                    loaded.extend(copy(&prepared).map(|copy| copy.unconfirmed(since_load)));
                    self.counters.add(Count::UnstoredLoad);
                }
                (Some(_), LoadClaim::Lost { .. } | LoadClaim::Refused) => {
                    self.counters.add(Count::UnstoredLoad);
                }
                (None, LoadClaim::NotNeeded) => removed.push(key),
                (None, LoadClaim::Held(claim)) => {
                    settled_removed.push(settle(claim, Settled::Removed));
                }
                (None, LoadClaim::Lost { .. } | LoadClaim::Refused | LoadClaim::Failed) => {}
            }
        }
        let store = async {
            let unconfirmed = |copy: LoadedCopy| copy.unconfirmed(since_load);
            match self.set_entries(stored).await {
                true => loaded.extend(copies_of_stored),
                false => loaded.extend(copies_of_stored.into_iter().map(unconfirmed)),
            }
            let copies_of_settled = copies_of_settled.into_iter();
            match self.settle(settled).await {
                Some(done) => loaded.extend(
                    copies_of_settled
                        .zip(done)
                        .filter_map(|(copy, done)| copy.filter(|_| done)),
                ),
                None => loaded.extend(copies_of_settled.flatten().map(unconfirmed)),
            }
            // A value that is not stored leaves the old one, but what must go has a timeout of its own.
            let time = StoreTime::default();
            let remove = async {
                self.remove(&removed).await;
                self.settle(settled_removed).await;
            };
            self.driver.timed(&time, pin!(remove)).await;
            // After the removals: what was read before them must not become a copy.
            self.copy_loaded(&keys, &copies.renew(&tickets), loaded);
        };
        publishing(first.leader.scope().run(store)).await
    }

    /// Returns what a loaded value needs to become a copy; nothing without L1.
    fn loaded_copy(
        &self,
        index: usize,
        publication: &Publication<'_>,
        (entry, ttl): &PreparedEntry,
        policy: EntryPolicy,
    ) -> Option<LoadedCopy> {
        self.driver.l1()?;
        Some(LoadedCopy {
            index,
            object: Arc::clone(publication.object.as_ref()?),
            expiry: expiry_of(entry),
            ttl: *ttl,
            stamps: publication.leader.stamps().in_process(),
            refresh_ahead: policy.refresh_ahead,
            unconfirmed_for: Duration::ZERO,
        })
    }

    /// Prepares a loaded value; returns `None` if it is not to be stored.
    fn prepare_loaded(
        &self,
        publication: &Publication<'_>,
        options: &Options,
        policy: EntryPolicy,
    ) -> Result<Option<PreparedEntry>> {
        let Some(object) = &publication.object else {
            return Ok(None);
        };
        let ttl = self.ttl_of_load(&**object, publication.ttl, options);
        let Lifetime::Live(ttl) = self.lifetime(ttl, options) else {
            return Ok(None);
        };
        let stamps = publication.leader.stamps();
        // Without the versions of its tags it is not stored, so it is not encoded.
        if stamps.versions().is_none() {
            return Ok(None);
        }
        self.prepare(self.shared_value(object)?, ttl, stamps, policy)
    }

    async fn remove(&self, keys: &[Key<'_>]) {
        let removed = match keys {
            [] => return,
            [key] => {
                let removed = self.driver.delete(key).await.map(drop);
                removed.map_err(|error| self.in_operation(error, Operation::Set, key))
            }
            _ => {
                let removed = self.driver.delete_many(keys).await.map(drop);
                removed.map_err(|error| error.during(Operation::SetMany))
            }
        };
        if let Err(error) = removed {
            self.on_store_error(&error);
        }
    }
}
