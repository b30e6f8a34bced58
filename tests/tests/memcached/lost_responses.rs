//! A response or a request that is lost, on a connection that goes on.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::spawn;
use std::time::{Duration, Instant};

use cacheio_sync::store::Store;
use cacheio_sync::{Error, ErrorKind, Memcached};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::servers::{self, Proxy};

use cacheio_tests::watchdog::guarded;

use super::{cache, entry, in_both_worlds, key};

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

/// Starts a server that responds to the first `ms` only after a no-op, in full or only to the no-op, and keeps
/// all connections open. Returns its address and the number of no-ops.
fn late_server(is_lost: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let noops = Arc::new(AtomicUsize::new(0));
    let (is_first, counted) = (Arc::new(AtomicBool::new(true)), Arc::clone(&noops));
    spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (is_first, noops) = (Arc::clone(&is_first), Arc::clone(&counted));
            spawn(move || {
                let mut late = String::new();
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap_or_default();
                    let token = line.split(' ').find(|word| word.starts_with('O'));
                    let response = match &line[..line.len().min(2)] {
                        "ms" if is_first.swap(false, Ordering::SeqCst) => {
                            late = match is_lost {
                                true => String::new(),
                                false => format!("HD {}\r\n", token.unwrap()),
                            };
                            continue;
                        }
                        "ms" => format!("HD {}\r\n", token.unwrap()),
                        "mg" => "EN\r\n".into(),
                        "mn" => {
                            noops.fetch_add(1, Ordering::SeqCst);
                            format!("{}MN\r\n", std::mem::take(&mut late))
                        }
                        _ => continue,
                    };
                    let _ = stream.write_all(response.as_bytes());
                }
                std::thread::sleep(Duration::from_secs(60));
            });
        }
    });
    (address, noops)
}

/// The response to the no-op confirms a write as well as its own.
#[test]
fn no_write_waits_for_one_that_was_followed_by_an_answered_no_op() {
    for is_lost in [false, true] {
        guarded(move || {
            let (address, noops) = late_server(is_lost);
            let store = Memcached::new(&format!("memcache://{address}?timeout=20s")).unwrap();
            let late = store.clone();
            let added = spawn(move || late.add(&key("k"), entry("v"), None));
            while !added.is_finished() {
                assert!(store.get(&key("other")).unwrap().is_none());
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(added.join().unwrap().is_err(), is_lost);
            store.set(&key("k"), entry("v"), None).unwrap();
            assert_eq!(noops.load(Ordering::SeqCst), 1, "{is_lost}");
        });
    }
}
