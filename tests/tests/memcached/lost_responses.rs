//! A response or a request that is lost, on a connection that goes on.

use std::time::{Duration, Instant};

use cacheio_sync::{Error, ErrorKind, Memcached};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::servers::{self, Proxy};

use super::{cache, in_both_worlds};

/// A server behind a proxy that loses things.
struct Lossy {
    proxy: Proxy,
    cache: CacheApi,
    _server: servers::Lease<servers::Memcached>,
}

impl Lossy {
    fn new(world: World, timeout: Duration) -> Self {
        let server = servers::lease::<servers::Memcached>();
        let proxy = Proxy::to(server.address());
        let store = Memcached::builder()
            .server(proxy.address().to_string())
            .timeout(timeout)
            .build()
            .unwrap();
        Self {
            cache: cache(world, store),
            proxy,
            _server: server,
        }
    }

    /// Calls, loses something of the call, and has the server answer a later request. Returns what the call
    /// returns, and how long it took.
    async fn losing<T, F>(
        &self,
        lose: fn(&Proxy),
        call: impl FnOnce(CacheApi) -> F,
    ) -> (Result<T, Error>, Duration)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        lose(&self.proxy);
        let began = Instant::now();
        let called = self.cache.spawn(call);
        while self.proxy.is_to_lose() {
            self.cache.world().pause().await;
        }
        // The caller takes note of the time at which it has sent its request only after that.
        self.cache.world().sleep(Duration::from_millis(10)).await;
        self.cache.get::<i32>("other").await.unwrap();
        (called.join().await, began.elapsed())
    }
}

#[test]
fn a_command_whose_response_is_lost_is_sent_again_if_it_may_be_repeated() {
    in_both_worlds(|world| async move {
        let lossy = Lossy::new(world, Duration::from_secs(20));
        // The loss is noticed long before the timeout.
        let within_5_s = |(result, took): (Result<_, Error>, Duration)| {
            assert!(took < Duration::from_secs(5), "{took:?}");
            result
        };
        for lose in [Proxy::lose_reply, Proxy::lose_request] {
            let set = |cache: CacheApi| async move { cache.set("n", 1).await.map(|()| None) };
            within_5_s(lossy.losing(lose, set).await).unwrap();
            let get = |cache: CacheApi| async move { cache.get::<i32>("n").await };
            let found = within_5_s(lossy.losing(lose, get).await);
            assert_eq!(found.unwrap(), Some(1));
        }
        // Increments are not repeated.
        for (lose, count) in [
            (Proxy::lose_reply as fn(&Proxy), 2),
            (Proxy::lose_request, 2),
        ] {
            let increment =
                |cache: CacheApi| async move { cache.increment("n", 1).await.map(|_| None) };
            let error = within_5_s(lossy.losing(lose, increment).await);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
            assert_eq!(lossy.cache.get::<i32>("n").await.unwrap(), Some(count));
        }
        assert_eq!(lossy.cache.stats().circuit_opens, 0);
    });
}

#[derive(Clone, Copy, Debug)]
enum Batch {
    Get,
    Set,
    Delete,
    Clear,
}

impl Batch {
    async fn run(self, cache: CacheApi) -> Result<(), Error> {
        let keys = vec!["k", "n"];
        match self {
            Self::Get => cache.get_many::<i32>(keys).await.map(drop),
            Self::Set => cache.set_many(vec![("k", 2), ("n", 2)]).await,
            Self::Delete => cache.delete_many(keys).await.map(drop),
            Self::Clear => cache.clear().await,
        }
    }
}

/// The responses to a batch end with that to a no-op, so that to another no-op would look like its end.
#[test]
fn a_batch_that_is_lost_or_not_confirmed_fails() {
    in_both_worlds(|world| async move {
        for lose in [Proxy::lose_replies, Proxy::lose_request] {
            for batch in [Batch::Get, Batch::Set, Batch::Delete, Batch::Clear] {
                let lossy = Lossy::new(world, Duration::from_millis(500));
                lossy
                    .cache
                    .set_many(vec![("k", 1), ("n", 1)])
                    .await
                    .unwrap();
                let run = move |cache| async move { batch.run(cache).await };
                let (result, _) = lossy.losing(lose, run).await;
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout, "{batch:?}");
                assert_eq!(lossy.cache.stats().circuit_opens, 0);
            }
        }
    });
}

#[test]
fn a_batch_with_a_response_to_each_command_fails_if_one_is_missing() {
    in_both_worlds(|world| async move {
        let lossy = Lossy::new(world, Duration::from_secs(20));
        lossy
            .cache
            .set_many(vec![("k", 1), ("n", 1)])
            .await
            .unwrap();
        let delete = |cache| Batch::Delete.run(cache);
        let (result, _) = lossy.losing(Proxy::lose_reply, delete).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
        // The connection with the gap is not used again.
        assert_eq!(lossy.cache.delete_many(vec!["k", "n"]).await.unwrap(), 0);
    });
}
