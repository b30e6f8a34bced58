//! The contract: what a cache promises, whatever its store, for threads and for tasks.
//!
//! - A case is one promise: an `async fn` that is named after it, in the `cases` of its module.
//! - A row is one kind of store in one world: one line of [`rows`]. A new backend is a new row.
//!
//! A row declares the [optional operations](harness::Optional) that its store does not support. The cases
//! that [need](harness::Case::needs) them are reported as ignored.
//!
//! Each case runs on each row, as a test of its own:
//!
//! ```text
//! cargo test -p cacheio-tests --test contract                                  # all
//! cargo test -p cacheio-tests --test contract threads::memory::                # one store
//! cargo test -p cacheio-tests --test contract redis::counters                  # one topic on Redis
//! cargo test -p cacheio-tests --test contract -- --exact \
//!     threads::memory::counters::a_missing_counter_counts_from_zero            # one test
//! ```

mod batch_loads;
mod batches;
mod counters;
mod cycles;
mod drops;
mod entries;
mod failures;
mod harness;
mod invalidation;
mod keys;
mod l1;
mod loads;
mod namespaces;
mod panics;
mod retain;
mod secrecy;
mod slow_origin;
mod stale;
mod tags;
mod takes;
mod ttl;
mod ttl_left;
mod typed;
mod updates;
mod updates_with_policies;
mod values;

use std::process::ExitCode;

use cacheio_sync::SpawnBlocking;
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores;

use crate::harness::{
    Case, Optional, Row, tasks, tasks_with_l1, tasks_with_shared_loads, threads, threads_with_l1,
    threads_with_shared_loads,
};

/// What all modules with cases import.
mod prelude {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::time::Duration;

    pub(crate) use cacheio_core::{ErrorKind, LoadError, Options, Ttl, Update};
    pub(crate) use cacheio_tests::api::{CacheApi, join_all};
    pub(crate) use cacheio_tests::fixture::{Fixture, Setup};
    pub(crate) use cacheio_tests::gate::LoaderGate;

    pub(crate) use crate::harness::{Case, Optional, case};
}

/// Bytes in a store that blocks.
fn spawn_blocking(env: &TestEnv) -> SpawnBlocking<stores::Bytes> {
    SpawnBlocking::new(stores::bytes(env))
}

fn rows() -> Vec<Row> {
    vec![
        threads("memory", stores::memory, Time::manual),
        threads("memory_on_system_time", stores::memory, Time::system),
        threads("memory_that_weighs", stores::weighed, Time::manual),
        threads(
            "memory_through_codec",
            stores::memory_through_codec,
            Time::manual,
        ),
        threads("arc_dyn", stores::arc_dyn, Time::manual),
        threads("box_dyn", stores::box_dyn, Time::manual),
        threads("bytes", stores::bytes, Time::manual),
        threads("minimal", stores::minimal, Time::milliseconds)
            .without(Optional::Add)
            .without(Optional::Increment)
            .without(Optional::Touch)
            .without(Optional::Update)
            .without(Optional::Take)
            .without(Optional::TtlLeft)
            .without(Optional::Keys),
        threads("memcached", stores::memcached, Time::seconds),
        threads_with_shared_loads("memcached_shared_loads", stores::memcached, Time::seconds),
        threads("redis", stores::redis, Time::milliseconds),
        threads("redis_cluster", stores::redis_cluster, Time::milliseconds),
        threads_with_l1("bytes_l1", stores::bytes, Time::manual),
        threads_with_l1("memcached_l1", stores::memcached, Time::seconds),
        threads_with_l1("redis_l1", stores::redis, Time::milliseconds),
        threads_with_l1(
            "redis_cluster_l1",
            stores::redis_cluster,
            Time::milliseconds,
        ),
        tasks("memory", stores::memory, Time::manual),
        tasks("memory_on_system_time", stores::memory, Time::system),
        tasks("memory_that_weighs", stores::weighed, Time::manual),
        tasks(
            "memory_through_codec",
            stores::memory_through_codec,
            Time::manual,
        ),
        tasks(
            "memory_that_suspends",
            stores::yielding_memory,
            Time::manual,
        ),
        tasks("arc_dyn", stores::async_arc_dyn, Time::manual),
        tasks("box_dyn", stores::async_box_dyn, Time::manual),
        tasks("bytes", stores::yielding_bytes, Time::manual),
        tasks("bytes_on_threads", spawn_blocking, Time::manual),
        tasks("memcached", stores::memcached, Time::seconds),
        tasks_with_shared_loads("memcached_shared_loads", stores::memcached, Time::seconds),
        tasks("redis", stores::redis, Time::milliseconds),
        tasks("redis_cluster", stores::redis_cluster, Time::milliseconds),
        tasks_with_l1("bytes_l1", stores::yielding_bytes, Time::manual),
        tasks_with_l1("memcached_l1", stores::memcached, Time::seconds),
        tasks_with_l1("redis_l1", stores::redis, Time::milliseconds),
        tasks_with_l1(
            "redis_cluster_l1",
            stores::redis_cluster,
            Time::milliseconds,
        ),
    ]
}

/// The cases of both worlds.
fn cases() -> Vec<Case> {
    [
        values::cases(),
        ttl::cases(),
        counters::cases(),
        updates::cases(),
        updates_with_policies::cases(),
        takes::cases(),
        ttl_left::cases(),
        entries::cases(),
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

fn main() -> ExitCode {
    harness::run(&rows(), &cases(), &drops::cases(), &l1::cases())
}
