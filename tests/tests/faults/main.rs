//! What a cache on a server promises when the server or the network fails.
//!
//! Each promise is written once, as in the contract, and tested in both worlds on each kind of
//! server. The tests start real servers, and kill, stop, fill and disconnect them.

#![cfg(not(shuttle))]

mod bytes;
mod cluster;
mod delays;
mod env;
mod l1;
mod limits;
mod many_clients;
mod network;
mod one_timeout;
mod outages;
mod overload;

use std::panic::{catch_unwind, resume_unwind};
use std::time::Duration;

use cacheio_tests::busy::repeat_if_busy;
use cacheio_tests::servers::{Memcached, Redis, RedisCluster};
use cacheio_tests::watchdog::guarded;
use cacheio_tests::world::World;

use crate::env::FaultEnv;

/// How long a thread may wait for a processor, in all, before the failure of a case is the machine's.
const WAIT_MAX: Duration = Duration::from_millis(200);

fn run<S, F>(name: &str, world: World, start: fn() -> S, case: fn(FaultEnv<S>) -> F)
where
    S: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let test = || guarded(move || world.run(case(FaultEnv::new(start(), world))));
    let outcome = repeat_if_busy(name, WAIT_MAX, || catch_unwind(test));
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

fn full_memcached() -> Memcached {
    Memcached::start_with(&["-m", "2", "-M"])
}

fn full_redis() -> Redis {
    Redis::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"])
}

fn redis_with_password() -> Redis {
    Redis::start_with(&["--requirepass", limits::PASSWORD])
}

/// Makes a test of each case, in one world on one kind of server.
macro_rules! faults {
    ($row:ident($world:ident, $start:expr): $($module:ident::$case:ident)*) => {
        mod $row {
            use super::*;

            $(
                #[test]
                fn $case() {
                    run(stringify!($row::$case), World::$world, $start, $module::$case);
                }
            )*
        }
    };
}

/// Makes the tests that every kind of server must pass.
macro_rules! common_faults {
    ($row:ident($world:ident, $start:expr)) => {
        faults! {
            $row($world, $start):
            outages::a_server_killed_under_load_is_used_again
            outages::a_server_absent_at_start_is_used_when_it_starts
            outages::calls_to_a_stopped_server_fail_within_the_timeout
            outages::each_outage_opens_the_circuit_once
            outages::a_delete_is_not_undone_by_an_unconfirmed_write
            network::a_connection_cut_in_a_reply_mixes_up_no_values
            network::connections_cut_under_load_mix_up_no_values
            network::an_idle_connection_that_was_cut_is_replaced
            network::a_reply_that_arrives_too_slowly_times_out
            network::lost_replies_hold_up_no_other_caller
            network::requests_without_a_reply_time_out
            network::a_network_that_is_back_is_used_soon_whatever_the_timeout
            delays::a_delay_of_a_third_of_the_timeout_does_not_limit_callers
            bytes::garbage_under_a_key_is_a_decode_error
            bytes::garbage_in_a_batch_is_an_error_with_its_key
            one_timeout::a_load_from_a_slow_server_takes_one_timeout
            one_timeout::a_write_that_waits_for_a_load_takes_one_timeout
            one_timeout::a_load_takes_one_timeout_if_the_server_is_silent
            one_timeout::a_stale_value_after_a_failed_load_takes_one_timeout
            one_timeout::a_take_of_a_tagged_entry_takes_one_timeout
            one_timeout::a_call_on_a_tagged_entry_takes_one_timeout
            overload::most_replies_of_an_overloaded_server_reach_their_callers
            overload::most_writes_to_an_overloaded_server_are_confirmed_in_time
            overload::most_batches_of_an_overloaded_server_reach_their_callers
            many_clients::a_thousand_clients_of_one_cache
            many_clients::many_caches_share_a_server
            l1::calls_of_a_cache_with_l1_keep_to_the_timeout_and_get_or_set_never_fails
        }
    };
}

common_faults!(memcached_for_threads(Threads, Memcached::start));
common_faults!(memcached_for_tasks(Tasks, Memcached::start));
common_faults!(redis_for_threads(Threads, Redis::start));
common_faults!(redis_for_tasks(Tasks, Redis::start));

faults! {
    full_memcached_for_threads(Threads, full_memcached):
    limits::a_full_server_refuses_writes_and_is_still_read
}
faults! {
    full_memcached_for_tasks(Tasks, full_memcached):
    limits::a_full_server_refuses_writes_and_is_still_read
}
faults! {
    full_redis_for_threads(Threads, full_redis):
    limits::a_full_server_refuses_writes_and_is_still_read
}
faults! {
    full_redis_for_tasks(Tasks, full_redis):
    limits::a_full_server_refuses_writes_and_is_still_read
}

faults! {
    large_values_for_threads(Threads, Memcached::start):
    limits::a_value_over_the_limit_is_too_large
}
faults! {
    large_values_for_tasks(Tasks, Memcached::start):
    limits::a_value_over_the_limit_is_too_large
}

faults! {
    password_for_threads(Threads, redis_with_password):
    limits::a_wrong_password_is_an_error_that_does_not_show_it
}
faults! {
    password_for_tasks(Tasks, redis_with_password):
    limits::a_wrong_password_is_an_error_that_does_not_show_it
}

faults! {
    other_types_for_threads(Threads, Redis::start):
    limits::another_type_under_a_key_is_replaced
}
faults! {
    other_types_for_tasks(Tasks, Redis::start):
    limits::another_type_under_a_key_is_replaced
}

faults! {
    cluster_for_threads(Threads, RedisCluster::start):
    cluster::a_killed_node_is_used_again
    cluster::a_stopped_node_is_used_again
}
faults! {
    cluster_for_tasks(Tasks, RedisCluster::start):
    cluster::a_killed_node_is_used_again
    cluster::a_stopped_node_is_used_again
}
