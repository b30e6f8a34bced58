//! A server behind a network that becomes slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cacheio_tests::api::{CacheApi, join_all};
use cacheio_tests::servers::Proxy;

use crate::env::{FaultEnv, FaultyServer, timed};

const TIMEOUT: Duration = Duration::from_secs(3);
const DELAY: Duration = Duration::from_secs(1);
const LENGTH: Duration = Duration::from_secs(4);

/// A delay is not a load: it makes no caller wait for the others. A machine that is too busy may cost an
/// attempt.
pub(crate) async fn a_delay_of_a_third_of_the_timeout_does_not_limit_callers(
    env: FaultEnv<impl FaultyServer>,
) {
    for callers in [32, 300] {
        let mut failures = Vec::new();
        while let Err(failure) = delayed(&env, callers).await {
            failures.push(failure);
            assert!(failures.len() < 3, "{callers} callers: {failures:?}");
        }
    }
}

async fn delayed(env: &FaultEnv<impl FaultyServer>, callers: usize) -> Result<(), String> {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via_many(proxy.address(), TIMEOUT, callers);
    // Their connections are open, and replies were fast.
    calls(&cache, callers, TIMEOUT / 6).await;
    proxy.delay(DELAY);
    // The first delayed reply is that of a single request.
    let first = cache.get::<i32>("k").await.is_ok();
    let delayed = calls(&cache, callers, LENGTH).await;
    proxy.delay(Duration::ZERO);
    cache.world().sleep(DELAY).await;
    let after = calls(&cache, callers, TIMEOUT / 6).await;
    // If callers waited for each other, most of them would wait for several replies. A busy machine is late
    // with a few.
    let few_failed = first && delayed.failed * 20 <= delayed.times.len();
    let are_right = few_failed && delayed.median() < DELAY * 2 && after.median() < DELAY / 2;
    are_right.then_some(()).ok_or_else(|| {
        format!(
            "{} of {} calls failed, half of them took up to {:?}, and {:?} after the delay",
            delayed.failed,
            delayed.times.len(),
            delayed.median(),
            after.median(),
        )
    })
}

#[derive(Default)]
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
