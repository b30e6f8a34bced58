//! Stores on real servers: each store has its own server.

use cacheio_core::Result;
use cacheio_redis::Redis;
use cacheio_sync::Memcached;

use crate::fixture::TestEnv;
use crate::servers;

/// Memcached.
pub fn memcached(env: &TestEnv) -> Memcached {
    built(Memcached::new(&with_long_timeout(
        &servers::lease_for::<servers::Memcached>(env).url(),
    )))
}

/// Redis.
pub fn redis(env: &TestEnv) -> Redis {
    built(Redis::new(with_long_timeout(
        &servers::lease_for::<servers::Redis>(env).url(),
    )))
}

/// Redis Cluster.
pub fn redis_cluster(env: &TestEnv) -> Redis {
    built(Redis::new(with_long_timeout(
        &servers::lease_for::<servers::RedisCluster>(env).url(),
    )))
}

/// The contract does not test timeouts, and a thousand callers on a busy machine are slow.
fn with_long_timeout(url: &str) -> String {
    format!("{url}?timeout=10s")
}

fn built<T>(store: Result<T>) -> T {
    match store {
        Ok(store) => store,
        Err(error) => panic!("the store cannot be built: {error}"),
    }
}
