//! The contract, on every store of this repository.
//!
//! - A case is one promise. The cases are in `cacheio-testkit/src/contract`, which stores outside of this
//!   repository run too.
//! - A row is one kind of store in one world: one line of [`rows`]. A new backend is a new row.
//!
//! A row declares the [optional operations](Optional) that its store does not support. The cases that need them
//! are reported as ignored.
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

use std::process::ExitCode;

use cacheio_core::{AsyncStore, Store};
use cacheio_sync::SpawnBlocking;
use cacheio_testkit::{Contract, Optional, TestEnv, Time};
use cacheio_tests::stores;

/// Makes a row of a store for threads.
fn threads<S: Store>(name: &str, store: fn(&TestEnv) -> S, time: fn() -> Time) -> Contract {
    Contract::threads(name, store).time(time)
}

/// Makes a row of a store for tasks.
fn tasks<S: AsyncStore>(name: &str, store: fn(&TestEnv) -> S, time: fn() -> Time) -> Contract {
    Contract::tasks(name, store).time(time)
}

/// Bytes in a store that blocks.
fn spawn_blocking(env: &TestEnv) -> SpawnBlocking<stores::Bytes> {
    SpawnBlocking::new(stores::bytes(env))
}

fn rows() -> Vec<Contract> {
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
        threads("memcached_shared_loads", stores::memcached, Time::seconds).with_shared_loads(),
        threads("redis", stores::redis, Time::milliseconds),
        threads("redis_cluster", stores::redis_cluster, Time::milliseconds),
        threads("bytes_l1", stores::bytes, Time::manual).with_l1(),
        threads("memcached_l1", stores::memcached, Time::seconds).with_l1(),
        threads("redis_l1", stores::redis, Time::milliseconds).with_l1(),
        threads(
            "redis_cluster_l1",
            stores::redis_cluster,
            Time::milliseconds,
        )
        .with_l1(),
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
        tasks("memcached_shared_loads", stores::memcached, Time::seconds).with_shared_loads(),
        tasks("redis", stores::redis, Time::milliseconds),
        tasks("redis_cluster", stores::redis_cluster, Time::milliseconds),
        tasks("bytes_l1", stores::yielding_bytes, Time::manual).with_l1(),
        tasks("memcached_l1", stores::memcached, Time::seconds).with_l1(),
        tasks("redis_l1", stores::redis, Time::milliseconds).with_l1(),
        tasks(
            "redis_cluster_l1",
            stores::redis_cluster,
            Time::milliseconds,
        )
        .with_l1(),
    ]
}

fn main() -> ExitCode {
    cacheio_testkit::run(rows())
}
