//! The requests: the same to both lanes, and what they measure.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::faults::{Faults, Health};
use super::{Demo, RedisState};
use crate::{Product, Products, Result};

/// How many requests a second each lane gets.
pub const RATE: u32 = 300;

/// How long a client waits for a response.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The most requests at the same time in a lane. More are refused, and count as failed.
const MAX_IN_FLIGHT: usize = 400;

/// The most requests that are sent at once, after the program stood still.
const MAX_BURST: u32 = 30;

/// How many products the requests are for; the first ones are requested more often.
const PRODUCTS: u32 = 50;

/// A product that no other request is for.
const COLD_PRODUCT: u32 = PRODUCTS + 1;

/// How many seconds of the past the page shows.
const KEPT: usize = 60;

/// What has happened in a second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Counts the seconds.
    pub(crate) number: u64,
    database: Health,
    redis: RedisState,
    without: LaneSample,
    with: LaneSample,
}

/// What has happened in a lane in a second.
#[derive(Clone, Debug, Serialize)]
struct LaneSample {
    answered: usize,
    failed: usize,
    queries: u64,
    /// Of all requests, those that were answered and needed no query, from 0 to 1.
    without_query: Option<f64>,
    /// Milliseconds until the answer.
    p50: Option<f64>,
    p99: Option<f64>,
}

/// One way in which requests are handled, and its measurements.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) faults: Faults,
    in_flight: Semaphore,
    second: Mutex<Second>,
}

#[derive(Debug, Default)]
struct Second {
    /// Of the requests that were answered.
    milliseconds: Vec<f64>,
    failed: usize,
    /// The counts of the database when the second began.
    queries: u64,
    results: u64,
}

/// The seconds of the past.
#[derive(Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<Sample>,
    next: u64,
}

/// What came of many requests at once.
#[derive(Debug, Serialize)]
pub(crate) struct Burst {
    queries: u64,
    failed: usize,
    milliseconds: u128,
}

impl Lane {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            faults,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            second: Mutex::default(),
        }
    }

    /// Handles one request, and records what came of it.
    async fn request(&self, handle: impl Future<Output = Result<Product>>) {
        let Ok(_permit) = self.in_flight.try_acquire() else {
            self.second().failed += 1;
            return;
        };
        let sent_at = Instant::now();
        let result = timeout(TIMEOUT, handle).await;
        let milliseconds = sent_at.elapsed().as_secs_f64() * 1_000.0;
        let mut second = self.second();
        match result {
            Ok(Ok(_)) => second.milliseconds.push(milliseconds),
            Ok(Err(_)) | Err(_) => second.failed += 1,
        }
    }

    fn second(&self) -> MutexGuard<'_, Second> {
        self.second.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a second.
    fn sample(&self) -> LaneSample {
        let next = Second {
            queries: self.faults.queries(),
            results: self.faults.results(),
            ..Second::default()
        };
        let (queries, results) = (next.queries, next.results);
        let mut second = std::mem::replace(&mut *self.second(), next);
        second.milliseconds.sort_by(f64::total_cmp);
        let answered = second.milliseconds.len();
        let requests = answered + second.failed;
        let results = usize::try_from(results - second.results).unwrap_or(usize::MAX);
        let ratio = answered.saturating_sub(results) as f64 / requests as f64;
        LaneSample {
            answered,
            failed: second.failed,
            queries: queries - second.queries,
            without_query: (requests > 0).then_some(ratio),
            p50: percentile(&second.milliseconds, 50),
            p99: percentile(&second.milliseconds, 99),
        }
    }
}

fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
}

impl History {
    /// Returns the seconds from this one on.
    pub(crate) fn since(&self, number: u64) -> Vec<Sample> {
        let is_new = |sample: &&Sample| sample.number >= number;
        self.samples.iter().filter(is_new).cloned().collect()
    }

    fn push(&mut self, demo: &Demo) {
        self.samples.push_back(Sample {
            number: self.next,
            database: demo.health(),
            redis: demo.redis_state(),
            without: demo.without().sample(),
            with: demo.with().sample(),
        });
        self.next += 1;
        if self.samples.len() > KEPT {
            self.samples.pop_front();
        }
    }
}

/// Sends the requests, while the page is open somewhere.
pub async fn send_requests(demo: Demo) {
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (mut sent_until, mut sampled_at, mut count) = (Instant::now(), Instant::now(), 0);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        if !demo.is_watched() {
            (sent_until, sampled_at) = (now, now);
            continue;
        }
        let gap = Duration::from_secs(1) / RATE;
        for _ in 0..MAX_BURST {
            if now - sent_until < gap {
                break;
            }
            sent_until += gap;
            count += 1;
            request_both(&demo, product_of(count));
        }
        if now - sent_until >= gap {
            sent_until = now;
        }
        if now - sampled_at >= Duration::from_secs(1) {
            sampled_at = now;
            demo.history().push(&demo);
        }
    }
}

/// Returns the product of a request. Half of the requests are for an eighth of the products.
fn product_of(count: u64) -> u32 {
    // The finalizer of SplitMix64: the same numbers in each run.
    let mut bits = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let uniform = (bits >> 40) as f64 / (1_u64 << 24) as f64;
    1 + (f64::from(PRODUCTS) * uniform.powi(3)) as u32
}

fn request_both(demo: &Demo, id: u32) {
    let (uncached, products) = (demo.uncached(), demo.products());
    let lane = Arc::clone(demo.without());
    tokio::spawn(async move { lane.request(uncached.find(id)).await });
    let lane = Arc::clone(demo.with());
    tokio::spawn(async move { lane.request(products.find(id)).await });
}

/// Sends many requests at once for a product that is not in the cache. Returns what came of those without and those with
/// the cache. They have databases of their own, so that other requests do not disturb them.
pub(crate) async fn burst(demo: &Demo, callers: usize) -> Result<(Burst, Burst)> {
    let (without, database) = demo.another_database()?;
    let find = move || {
        let database = database.clone();
        async move { database.find(COLD_PRODUCT).await }
    };
    let without = measure(&without, callers, find).await;
    let (with, database) = demo.another_database()?;
    let cache = demo.cache();
    // While Redis is down, there is nothing to remove.
    let _ = cache.delete(("product", COLD_PRODUCT)).await;
    let products = Products::new(database, cache);
    let find = move || {
        let products = products.clone();
        async move { products.find(COLD_PRODUCT).await }
    };
    Ok((without, measure(&with, callers, find).await))
}

async fn measure<F>(faults: &Faults, callers: usize, find: impl Fn() -> F) -> Burst
where
    F: Future<Output = Result<Product>> + Send + 'static,
{
    let sent_at = Instant::now();
    let requests: JoinSet<_> = (0..callers).map(|_| timeout(TIMEOUT, find())).collect();
    let results = requests.join_all().await;
    Burst {
        queries: faults.queries(),
        failed: results
            .iter()
            .filter(|result| !matches!(result, Ok(Ok(_))))
            .count(),
        milliseconds: sent_at.elapsed().as_millis(),
    }
}
