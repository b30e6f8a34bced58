//! A test that hangs fails.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How long a test may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test on a thread of its own.
///
/// # Panics
///
/// As the test does, and when it takes longer than [`LIMIT`].
pub fn guarded<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (ended, end) = channel();
    let thread = std::thread::spawn(move || {
        let result = test();
        // Only a watchdog that has barked does not listen.
        let _ = ended.send(());
        result
    });
    match end.recv_timeout(LIMIT) {
        Err(RecvTimeoutError::Timeout) => {
            panic!("the test hangs: it has not ended after {LIMIT:?}")
        }
        Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}
