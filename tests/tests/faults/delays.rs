//! A server behind a network that becomes slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cacheio_tests::api::{CacheApi, join_all};
use cacheio_tests::servers::Proxy;

use crate::env::{FaultEnv, FaultyServer, timed};

const TIMEOUT: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(300);
const LENGTH: Duration = Duration::from_secs(3);

/// A delay is not a load: it makes no caller wait for the others.
pub(crate) async fn a_delay_of_a_third_of_the_timeout_does_not_limit_callers(
    env: FaultEnv<impl FaultyServer>,
) {
    for callers in [32, 300] {
        let proxy = Proxy::to(env.server.address());
        let cache = env.via_many(proxy.address(), TIMEOUT, callers);
        cache.set("k", 1).await.unwrap();
        // Their connections are open, and replies were fast.
        calls(&cache, callers, Duration::from_millis(500)).await;
        proxy.delay(DELAY);
        // The first delayed reply is that of a single request.
        cache.get::<i32>("k").await.unwrap();
        let delayed = calls(&cache, callers, LENGTH).await;
        // If callers waited for each other, most of them would wait for several replies. A busy machine is
        // late with a few.
        assert!(delayed.failed * 20 <= delayed.times.len(), "{delayed:?}");
        let median = delayed.median();
        assert!(median < DELAY * 2, "{callers} callers: {median:?}");
        proxy.delay(Duration::ZERO);
        cache.world().sleep(DELAY).await;
        let median = calls(&cache, callers, TIMEOUT / 2).await.median();
        assert!(median < DELAY / 2, "{callers} callers after it: {median:?}");
    }
}

#[derive(Debug, Default)]
struct Calls {
    times: Vec<Duration>,
    failed: usize,
}

impl Calls {
    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[times.len() / 2]
    }
}

/// Lets callers call for some time, each as soon as it has its reply.
async fn calls(cache: &CacheApi, callers: usize, time: Duration) -> Calls {
    let stop = Arc::new(AtomicBool::new(false));
    let callers = (0..callers).map(|_| {
        let stop = Arc::clone(&stop);
        cache.spawn(move |cache| async move {
            let mut calls = Calls::default();
            while !stop.load(Ordering::SeqCst) {
                let (got, took) = timed(cache.get::<i32>("k")).await;
                calls.times.push(took);
                calls.failed += usize::from(got.is_err());
                cache.world().sleep(Duration::from_millis(20)).await;
            }
            calls
        })
    });
    let callers = callers.collect();
    cache.world().sleep(time).await;
    stop.store(true, Ordering::SeqCst);
    let all = join_all(callers).await;
    Calls {
        failed: all.iter().map(|calls| calls.failed).sum(),
        times: all.into_iter().flat_map(|calls| calls.times).collect(),
    }
}
