//! Runs background loads, on tokio and elsewhere.

use std::time::Instant;

use cacheio_core::__private::{Executor, runtime, sleep_until, spawn_load};
use cacheio_core::BoxFuture;
use tokio::runtime::Handle;

/// Runs loads on the runtime of the caller, because loaders may need its I/O; outside of tokio, on
/// threads of the runtime that all caches share. The timers are of the latter, because that of the
/// caller may have none, or a paused clock, which would pass a timeout during I/O at once.
#[derive(Debug)]
pub(crate) struct AnyRuntime;

fn is_shared(current: &Handle) -> bool {
    runtime().is_ok_and(|shared| shared.id() == current.id())
}

impl Executor for AnyRuntime {
    fn spawn(
        &self,
        load: BoxFuture<'static, ()>,
        _: Option<Instant>,
    ) -> Result<(), BoxFuture<'static, ()>> {
        match Handle::try_current() {
            // This is a load outside of tokio, on a thread of the shared runtime, whose one worker runs no
            // code of users. The load in it runs in its caller.
            Ok(current) if is_shared(&current) => Err(load),
            Ok(runtime) => {
                runtime.spawn(load);
                Ok(())
            }
            // The model checker only sees threads that it started itself.
            Err(_) if cfg!(shuttle) => Err(load),
            Err(_) => spawn_load(load),
        }
    }

    fn sleep_until(&self, at: Instant) -> Option<BoxFuture<'static, ()>> {
        match cfg!(shuttle) {
            true => None,
            false => Some(Box::pin(sleep_until(at).ok()?)),
        }
    }
}
