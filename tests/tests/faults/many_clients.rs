//! Many clients at once.

use std::time::Duration;

use cacheio_tests::api::{CacheApi, join_all};

use crate::env::{FaultEnv, FaultyServer};

/// These tests are not about timeouts, and many clients on a busy machine are slow.
const TIMEOUT: Duration = Duration::from_secs(20);

async fn uses_the_cache(cache: CacheApi, client: usize) {
    for call in 0..5 {
        let key = ("client", client, call);
        let value = format!("{client}/{call}");
        cache.set(key, value.clone()).await.unwrap();
        assert_eq!(
            cache.get::<String>(key).await.unwrap().as_ref(),
            Some(&value)
        );
        let loaded = cache.get_or_set(("shared", call), || async { call }).await;
        assert_eq!(loaded, call);
        cache.increment("calls", 1).await.unwrap();
        assert!(cache.delete(key).await.unwrap());
        assert_eq!(cache.get::<String>(key).await.unwrap(), None);
    }
}

pub(crate) async fn a_thousand_clients_of_one_cache(env: FaultEnv<impl FaultyServer>) {
    let cache = env.cache(TIMEOUT);
    let clients = (0..1_000).map(|client| env.world.spawn(uses_the_cache(cache.clone(), client)));
    join_all(clients.collect()).await;
    assert_eq!(cache.get::<i64>("calls").await.unwrap(), Some(5_000));
    assert_eq!(cache.stats().loads, 5);
}

pub(crate) async fn many_caches_share_a_server(env: FaultEnv<impl FaultyServer>) {
    let clients = (0..60).map(|client| env.world.spawn(uses_the_cache(env.cache(TIMEOUT), client)));
    join_all(clients.collect()).await;
    let calls = env.cache(TIMEOUT).get::<i64>("calls").await.unwrap();
    assert_eq!(calls, Some(300));
}
