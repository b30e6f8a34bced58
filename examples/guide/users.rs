//! Users who ask for pages, and what they see.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::database::Database;

/// How long a user waits for a page, then gives up.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the users of a step saw.
#[derive(Debug)]
pub(crate) struct Seen {
    errors: usize,
    /// In order.
    latencies: Vec<Duration>,
}

/// Has users ask for a page, one every so often, whether or not the others have been answered.
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
            let asked = Instant::now();
            let answer = timeout(PATIENCE, page).await;
            (matches!(answer, Ok(Ok(_))), asked.elapsed())
        });
    }
    let (answered, mut latencies): (Vec<bool>, Vec<Duration>) =
        users.join_all().await.into_iter().unzip();
    latencies.sort_unstable();
    let errors = answered.into_iter().filter(|answered| !answered).count();
    Seen { errors, latencies }
}

impl Seen {
    /// Both together.
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

/// The head of the table.
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

/// Prints what the users of a step saw, and how many queries reached the database for them.
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
