//! What a cache on a server promises when the server, or the way to it, fails.
//!
//! Every promise is written once, as in the contract, and kept in both worlds on each kind of
//! server. The tests start real servers, and kill, stop, fill and cut them off.

#![cfg(not(shuttle))]

mod absence;
mod bytes;
mod cluster;
mod crowds;
mod limits;
mod scene;
mod wire;

macro_rules! faults {
    ($($row:ident: $open:expr, $world:ident on $server:ident;)*) => {$(
        mod $row {
            use cacheio_tests::face::{Face as _, $world};
            use cacheio_tests::servers::$server;
            use cacheio_tests::watchdog::guarded;

            use crate::scene::Scene;

            faults! { @lines $world, $server, $open;
                absence: {
                    killed_under_load_and_back
                    absent_at_start
                    stopped_for_5_seconds
                    a_server_that_is_given_up_is_counted_once
                    a_delete_is_not_undone_by_an_older_write_in_doubt
                }
                wire: {
                    cut_mid_reply
                    cut_mid_reply_under_load
                    cut_while_idle
                    slow_drip
                    swallowed
                }
                bytes: {
                    garbage_under_a_key
                    garbage_in_a_batch
                }
                crowds: {
                    a_thousand_clients_of_one_cache
                    many_caches
                }
            }
        }
    )*};
    (@lines $world:ident, $server:ident, $open:expr; $($module:ident: { $($line:ident)* })*) => {$($(
        #[test]
        fn $line() {
            guarded(|| $world::run(crate::$module::$line(Scene::new($server::start(), $open))));
        }
    )*)*};
}

faults! {
    memcached_for_threads: crate::scene::memcached_for_threads, Threads on Memcached;
    memcached_for_tasks: crate::scene::memcached_for_tasks, Tasks on Memcached;
    redis_for_threads: crate::scene::redis_for_threads, Threads on Redis;
    redis_for_tasks: crate::scene::redis_for_tasks, Tasks on Redis;
}

/// What only one kind of server does.
macro_rules! special {
    ($($row:ident($open:expr, $world:ident on $server:ident): $module:ident { $($line:ident($start:expr))* })*) => {$(
        mod $row {
            use cacheio_tests::face::{Face as _, $world};
            use cacheio_tests::servers::$server;
            use cacheio_tests::watchdog::guarded;

            use crate::scene::Scene;
            $(
                #[test]
                fn $line() {
                    let start: fn() -> $server = $start;
                    guarded(move || $world::run(crate::$module::$line(Scene::new(start(), $open))));
                }
            )*
        }
    )*};
}

special! {
    full_memcached_for_threads(crate::scene::memcached_for_threads, Threads on Memcached): limits {
        out_of_memory(|| Memcached::start_with(&["-m", "2", "-M"]))
        value_over_the_limit(Memcached::start)
    }
    full_memcached_for_tasks(crate::scene::memcached_for_tasks, Tasks on Memcached): limits {
        out_of_memory(|| Memcached::start_with(&["-m", "2", "-M"]))
        value_over_the_limit(Memcached::start)
    }
    full_redis_for_threads(crate::scene::redis_for_threads, Threads on Redis): limits {
        out_of_memory(|| Redis::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]))
        wrong_password(|| Redis::start_with(&["--requirepass", crate::limits::RIGHT]))
        another_type_under_a_key(Redis::start)
    }
    full_redis_for_tasks(crate::scene::redis_for_tasks, Tasks on Redis): limits {
        out_of_memory(|| Redis::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]))
        wrong_password(|| Redis::start_with(&["--requirepass", crate::limits::RIGHT]))
        another_type_under_a_key(Redis::start)
    }
    cluster_for_threads(crate::scene::redis_for_threads, Threads on RedisCluster): cluster {
        one_node_is_killed_and_back(RedisCluster::start)
        one_node_is_stopped(RedisCluster::start)
    }
    cluster_for_tasks(crate::scene::redis_for_tasks, Tasks on RedisCluster): cluster {
        one_node_is_killed_and_back(RedisCluster::start)
        one_node_is_stopped(RedisCluster::start)
    }
}
