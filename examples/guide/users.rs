//! Users that request pages, and what they see.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::database::Database;

/// How long a user waits for a page.
const USER_TIMEOUT: Duration = Duration::from_secs(1);

/// What the users of a step saw.
#[derive(Debug)]
pub(crate) struct Seen {
    errors: usize,
    /// Sorted.
    latencies: Vec<Duration>,
}

/// Sends requests at a fixed pace, whether or not earlier ones have completed.
pub(crate) async fn visit<F, V, E>(requests: u64, every: Duration, page: impl Fn(u64) -> F) -> Seen
where
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    let start = tokio::time::Instant::now();
    let mut users = JoinSet::new();
    for (n, nth) in (0..requests).zip(0..) {
        if !every.is_zero() {
            sleep_until(start + every * nth).await;
        }
        let page = page(n);
        users.spawn(async move {
            let start = Instant::now();
            let response = timeout(USER_TIMEOUT, page).await;
            (matches!(response, Ok(Ok(_))), start.elapsed())
        });
    }
    let (succeeded, mut latencies): (Vec<bool>, Vec<Duration>) =
        users.join_all().await.into_iter().unzip();
    latencies.sort_unstable();
    let errors = succeeded.into_iter().filter(|succeeded| !succeeded).count();
    Seen { errors, latencies }
}

impl Seen {
    /// Combines two results.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.errors += other.errors;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        self
    }

    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies[rank.saturating_sub(1)]
    }
}

/// Prints the head of the table.
pub(crate) fn head() {
    println!(
        "| {:<40} | requests | queries | errors | p50, ms | p99, ms | max, ms |",
        "step"
    );
    println!(
        "| :{} | -------: | ------: | -----: | ------: | ------: | ------: |",
        "-".repeat(39)
    );
}

/// Prints what the users of a step saw, and the number of queries that reached the database.
pub(crate) fn row(step: &str, database: &Database, seen: &Seen) {
    let queries = database.queries();
    let [p50, p99, max] = [50, 99, 100].map(|percent| milliseconds(seen.percentile(percent)));
    println!(
        "| {step:<40} | {:>8} | {queries:>7} | {:>6} | {p50:>7} | {p99:>7} | {max:>7} |",
        seen.latencies.len(),
        seen.errors,
    );
}

fn milliseconds(latency: Duration) -> String {
    let milliseconds = latency.as_secs_f64() * 1000.0;
    let digits = if milliseconds < 10.0 { 2 } else { 0 };
    format!("{milliseconds:.digits$}")
}
