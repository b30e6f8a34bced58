//! Runs background loads as tasks of tokio.

use std::time::Instant;

use cacheio_core::__private::Executor;
use cacheio_core::BoxFuture;
use tokio::runtime::Handle;

/// The runtime of the caller. Outside of tokio, callers run their loads themselves and wait without
/// timeouts.
#[derive(Debug)]
pub(crate) struct TokioRuntime;

impl Executor for TokioRuntime {
    fn now(&self) -> Instant {
        // Tests can pause tokio's clock.
        tokio::time::Instant::now().into_std()
    }

    fn spawn(
        &self,
        load: BoxFuture<'static, ()>,
        _: Option<Instant>,
    ) -> Result<(), BoxFuture<'static, ()>> {
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
