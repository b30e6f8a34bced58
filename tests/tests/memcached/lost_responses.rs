//! A response that is lost, on a connection that goes on.

use std::time::{Duration, Instant};

use cacheio_sync::{Error, ErrorKind, Memcached};
use cacheio_tests::api::CacheApi;
use cacheio_tests::servers::{self, Proxy};

use super::{cache, in_both_worlds};

/// Calls, loses the response, and has the server answer a later request. Returns what the call returns, which
/// it must do long before its timeout.
async fn with_lost_response<T, F>(
    cache: &CacheApi,
    proxy: &Proxy,
    call: impl FnOnce(CacheApi) -> F,
) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    proxy.lose_reply();
    let began = Instant::now();
    let received = proxy.bytes_received();
    let called = cache.spawn(call);
    while proxy.bytes_received() == received {
        cache.world().pause().await;
    }
    cache.get::<i32>("other").await.unwrap();
    let result = called.join().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    result
}

#[test]
fn a_request_whose_response_is_lost_is_sent_again_if_it_may_be_repeated() {
    in_both_worlds(|world| async move {
        let server = servers::lease::<servers::Memcached>();
        let proxy = Proxy::to(server.address());
        let store = Memcached::builder()
            .server(proxy.address().to_string())
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let cache = cache(world, store);
        let set = |cache: CacheApi| async move { cache.set("k", 1).await };
        with_lost_response(&cache, &proxy, set).await.unwrap();
        let get = |cache: CacheApi| async move { cache.get::<i32>("k").await };
        let found = with_lost_response(&cache, &proxy, get).await;
        assert_eq!(found.unwrap(), Some(1));
        let set_many =
            |cache: CacheApi| async move { cache.set_many(vec![("k", 2), ("n", 2)]).await };
        let set = with_lost_response(&cache, &proxy, set_many).await;
        set.unwrap();
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
        // Increments are not repeated.
        let increment = |cache: CacheApi| async move { cache.increment("n", 1).await };
        let error = with_lost_response(&cache, &proxy, increment).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(cache.get::<i32>("n").await.unwrap(), Some(3));
        assert_eq!(cache.stats().circuit_opens, 0);
    });
}
