//! Fails a test that hangs.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a test may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Runs a test on its own thread, which has the name of the current one.
///
/// # Panics
///
/// As the test does, and when it takes longer than [`LIMIT`].
pub fn guarded<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    guarded_as(thread::current().name().unwrap_or("test"), test)
}

/// Runs a test on its own thread, which has this name.
///
/// # Panics
///
/// As the test does, and when it takes longer than [`LIMIT`].
pub fn guarded_as<T: Send + 'static>(name: &str, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (ended, end) = channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = test();
        // Nothing receives this after the limit.
        let _ = ended.send(());
        result
    });
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => panic!("no thread for the test: {error}"),
    };
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
