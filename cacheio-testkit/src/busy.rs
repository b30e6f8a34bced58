//! Tests of real time on a busy machine.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a test that failed on a busy machine has to pass: a fault that shows now and then shows again.
pub const AGAIN: usize = 2;

const STEP: Duration = Duration::from_millis(10);

/// What every sleep takes longer than asked, on an idle machine too.
const USUAL: Duration = Duration::from_millis(1);

/// How long a thread that sleeps and wakes has waited for a processor, in all, in microseconds.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// Runs a test. If it fails while a thread waited for a processor for longer than `limit`, in all, it runs again, and
/// passes if it then passes [`AGAIN`] times. Names such a test on standard error.
pub fn repeat_if_busy<T, E>(
    name: &str,
    limit: Duration,
    mut test: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    measure();
    let before = waited();
    let result = test();
    let waited = waited() - before;
    if result.is_ok() || waited <= limit {
        return result;
    }
    eprintln!("{name} failed, and a thread waited {waited:?} for a processor: it is repeated");
    for _ in 1..AGAIN {
        test()?;
    }
    test()
}

/// Starts the measurement, which goes on until the process ends.
fn measure() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        thread::spawn(|| {
            loop {
                let began = Instant::now();
                thread::sleep(STEP);
                let late = began.elapsed().saturating_sub(STEP + USUAL);
                let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
                WAITED.fetch_add(late, Ordering::Relaxed);
            }
        });
    });
}

fn waited() -> Duration {
    Duration::from_micros(WAITED.load(Ordering::Relaxed))
}
