//! The cases of the contract: what a cache promises, whatever its store, for threads and for tasks.
//!
//! A case is one promise: an `async fn` that is named after it, in the `cases` of its module. It runs on each
//! [`Contract`](crate::Contract), except where it [needs](crate::harness::Case::needs) an operation that the store
//! does not support.

mod batch_loads;
mod batches;
mod counters;
mod cycles;
mod drops;
mod entries;
mod failures;
mod invalidation;
mod keys;
mod l1;
mod listed_keys;
mod loads;
mod namespaces;
mod panics;
mod retain;
mod secrecy;
mod slow_origin;
mod stale;
mod store;

mod tags;
mod takes;
mod ttl;
mod ttl_left;
mod typed;
mod updates;
mod updates_with_policies;
mod values;

use crate::harness::Case;

/// The cases of both worlds.
pub(crate) fn cases() -> Vec<Case> {
    [
        values::cases(),
        ttl::cases(),
        counters::cases(),
        updates::cases(),
        updates_with_policies::cases(),
        takes::cases(),
        ttl_left::cases(),
        entries::cases(),
        listed_keys::cases(),
        retain::cases(),
        batches::cases(),
        keys::cases(),
        namespaces::cases(),
        tags::cases(),
        loads::cases(),
        batch_loads::cases(),
        panics::cases(),
        stale::cases(),
        slow_origin::batches::cases(),
        slow_origin::fetch::cases(),
        slow_origin::timeouts::cases(),
        slow_origin::refresh::cases(),
        slow_origin::load_context::cases(),
        invalidation::cases(),
        cycles::cases(),
        failures::cases(),
        typed::cases(),
        secrecy::cases(),
    ]
    .concat()
}

/// The cases of the store itself, without a cache.
pub(crate) fn cases_of_store() -> Vec<Case> {
    store::cases()
}

/// The cases of tasks.
pub(crate) fn cases_for_tasks() -> Vec<Case> {
    drops::cases()
}

/// The cases of caches with memory before the store.
pub(crate) fn cases_with_l1() -> Vec<Case> {
    l1::cases()
}
