//! The runtime that runs loads behind their callers.

use std::time::Instant;

use cacheio_core::__private::Executor;
use cacheio_core::BoxFuture;
use tokio::runtime::Handle;

/// Tokio, where the caller is in it. Elsewhere callers run their loads themselves, and wait
/// without a timeout.
#[derive(Debug)]
pub(crate) struct Runtime;

impl Executor for Runtime {
    fn now(&self) -> Instant {
        // In tests, tokio's clock may stand still.
        tokio::time::Instant::now().into_std()
    }

    fn spawn(&self, load: BoxFuture<'static, ()>) -> Result<(), BoxFuture<'static, ()>> {
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(load);
                Ok(())
            }
            Err(_) => Err(load),
        }
    }

    fn sleep_until(&self, at: Instant) -> Option<BoxFuture<'static, ()>> {
        Handle::try_current().ok()?;
        Some(Box::pin(tokio::time::sleep_until(at.into())))
    }
}
