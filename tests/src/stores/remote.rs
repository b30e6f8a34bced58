//! Stores on real servers, each on one of its own.

use cacheio_core::Result;
use cacheio_redis::Redis;
use cacheio_sync::Memcached;

use crate::place::Ground;
use crate::servers;

/// Memcached.
pub fn memcached(ground: &Ground) -> Memcached {
    built(Memcached::new(&patient(
        &ground.lease::<servers::Memcached>().url(),
    )))
}

/// Redis.
pub fn redis(ground: &Ground) -> Redis {
    built(Redis::new(patient(&ground.lease::<servers::Redis>().url())))
}

/// Redis Cluster.
pub fn redis_cluster(ground: &Ground) -> Redis {
    built(Redis::new(patient(
        &ground.lease::<servers::RedisCluster>().url(),
    )))
}

/// The contract is not about timeouts, and a thousand callers on a busy machine take their time.
fn patient(url: &str) -> String {
    format!("{url}?timeout=10s")
}

fn built<T>(store: Result<T>) -> T {
    match store {
        Ok(store) => store,
        Err(error) => panic!("the store cannot be built: {error}"),
    }
}
