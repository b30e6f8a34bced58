//! A server that is killed while a key is read all the time.

use std::time::{Duration, Instant};

use cacheio_tests::servers::Redis;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::changes::BOUND;
use crate::clients::{Client, Loader, Near, runtime};

/// How long the server is away.
pub(crate) const OUTAGE: Duration = Duration::from_secs(6);
/// The pause between two calls.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) loads: u64,
    pub(crate) calls: u64,
    pub(crate) longest: Duration,
}

/// Begins an outage; several can be measured at the same time.
pub(crate) fn start<C: Client>() -> JoinHandle<Outage> {
    runtime().spawn(measure::<C>())
}

async fn measure<C: Client>() -> Outage {
    let server = Redis::start();
    let near = Near {
        capacity: 10_000,
        max_age: BOUND,
    };
    let client = C::connect(&server.url(), near).await;
    let client = client.expect("the server is there");
    let loader = Loader::new(Duration::from_millis(1));
    let until = Instant::now() + BOUND / 2;
    while Instant::now() < until {
        client.get_or_load("hot", &loader).await;
        sleep(PAUSE).await;
    }
    server.kill();
    let mut outage = Outage {
        loads: 0,
        calls: 0,
        longest: Duration::ZERO,
    };
    let before = loader.loads();
    let until = Instant::now() + OUTAGE;
    while Instant::now() < until {
        let begun = Instant::now();
        client.get_or_load("hot", &loader).await;
        outage.longest = outage.longest.max(begun.elapsed());
        outage.calls += 1;
        sleep(PAUSE).await;
    }
    outage.loads = loader.loads() - before;
    outage
}
