//! What a background load leaves for its own caller, and what the caller makes of it.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::engine::driver::Driver;
use crate::engine::load::mode::Failure;
use crate::engine::load::wait::{Resolution, WaiterAction};
use crate::engine::lookup::CachedValue;
use crate::error::{Limit, timed_out};
use crate::flight::sync::Event;
use crate::{Source, Value};

/// What a background load leaves for its own caller.
pub(super) enum LoadResult<V: Value, E> {
    Value(Arc<V::Stored>),
    /// An error, and the stale value to serve instead.
    Failed(Failure<E>, Option<CachedValue<V>>),
    Panicked(Box<dyn Any + Send>),
    /// What another process loaded.
    Served(CachedValue<V>, Source),
}

/// Where a background load leaves its result.
pub(super) struct ResultSlot<V: Value, E> {
    result: Mutex<Option<LoadResult<V, E>>>,
    has_ended: AtomicBool,
    ended: Event,
}

impl<V: Value, E> ResultSlot<V, E> {
    pub(super) fn new() -> Self {
        Self {
            result: Mutex::new(None),
            has_ended: AtomicBool::new(false),
            ended: Event::new(),
        }
    }

    pub(super) fn put(&self, result: LoadResult<V, E>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    pub(super) fn take(&self) -> Option<LoadResult<V, E>> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        result.take()
    }

    /// Waits until the load has ended, or until a time. Returns whether it has ended.
    pub(super) async fn wait_for_end(&self, driver: &Driver, until: Option<Instant>) -> bool {
        while !self.has_ended.load(Ordering::SeqCst) {
            let listener = self.ended.listen();
            if !self.has_ended.load(Ordering::SeqCst) && !driver.wait(listener, until).await {
                return false;
            }
        }
        true
    }
}

/// Tells the caller of a load that it has ended, also one that is dropped.
pub(super) struct EndOfLoad<V: Value, E>(pub(super) Arc<ResultSlot<V, E>>);

impl<V: Value, E> Drop for EndOfLoad<V, E> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::SeqCst);
        self.0.ended.notify(usize::MAX);
    }
}

/// What the caller of a background load does when its wait ends.
pub(super) enum CallerAction<V: Value, E> {
    Return(Arc<V::Stored>, Source),
    ResumePanic(Box<dyn Any + Send>),
    /// It returns the previous value, or a timeout.
    StopWaiting,
    Fail(Failure<E>),
    /// It returns a stale value if there is one, or fails.
    FallBackOrFail(Failure<E>),
    /// It returns a stale value if there is one, or stops waiting.
    FallBackOrStop,
}

/// Decides what the caller of a background load does, by what the load left for it and by what it
/// learnt as a waiter. `key` is for errors.
pub(super) fn caller_action<V: Value, E>(
    result: Option<LoadResult<V, E>>,
    resolution: Resolution<V, E>,
    key: &str,
) -> CallerAction<V, E> {
    match (result, resolution) {
        (Some(LoadResult::Value(value)), _) => CallerAction::Return(value, Source::Loaded),
        (Some(LoadResult::Panicked(panic)), Resolution::Abandoned) => {
            CallerAction::ResumePanic(panic)
        }
        (_, Resolution::Abandoned) => {
            let error = timed_out(key, Limit::Runtime);
            CallerAction::FallBackOrFail(Failure::TimedOut(error))
        }
        (_, Resolution::Value(value)) => CallerAction::Return(value, Source::Waited),
        (_, Resolution::LimitReached) => CallerAction::StopWaiting,
        (_, Resolution::FallBackOr(WaiterAction::Failed(failure))) => {
            CallerAction::FallBackOrFail(failure)
        }
        (_, Resolution::FallBackOr(WaiterAction::Served(cached, source))) => {
            CallerAction::Return(cached.value, source)
        }
        (Some(LoadResult::Failed(failure, _)), Resolution::OtherType | Resolution::Absent) => {
            CallerAction::Fail(failure)
        }
        (Some(LoadResult::Failed(failure, _)), Resolution::FallBackOr(_)) => {
            CallerAction::FallBackOrFail(failure)
        }
        // Another caller timed the load out before this one would have left.
        (_, Resolution::OtherType | Resolution::Absent) => CallerAction::StopWaiting,
        (_, Resolution::FallBackOr(_)) => CallerAction::FallBackOrStop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An action without its contents.
    #[derive(Debug, PartialEq, Eq)]
    enum Action {
        Return(u8, Source),
        ResumePanic,
        StopWaiting,
        Fail(&'static str),
        FallBackOrFail(&'static str),
        FallBackOrStop,
    }

    fn result(kind: &str) -> Option<LoadResult<u8, &'static str>> {
        match kind {
            "none" => None,
            "value" => Some(LoadResult::Value(Arc::new(1))),
            "failed" => Some(LoadResult::Failed(Failure::Own("own"), None)),
            "panicked" => Some(LoadResult::Panicked(Box::new("panic"))),
            _ => unreachable!("no result {kind}"),
        }
    }

    fn resolution(kind: &str) -> Resolution<u8, &'static str> {
        match kind {
            "value" => Resolution::Value(Arc::new(2)),
            "abandoned" => Resolution::Abandoned,
            "other type" => Resolution::OtherType,
            "absent" => Resolution::Absent,
            "limit" => Resolution::LimitReached,
            "error" => {
                let failure = Failure::Load(Arc::new("shared"));
                Resolution::FallBackOr(WaiterAction::Failed(failure))
            }
            "unshared" => Resolution::FallBackOr(WaiterAction::LoadUnshared),
            "again" => Resolution::FallBackOr(WaiterAction::JoinAgain),
            _ => unreachable!("no resolution {kind}"),
        }
    }

    fn error(failure: &Failure<&'static str>) -> &'static str {
        match failure {
            Failure::Load(error) => error,
            Failure::Own(error) => error,
            Failure::Reentrant(_) => "reentrant",
            Failure::TimedOut(_) => "timeout",
            Failure::Config(_) => "config",
        }
    }

    fn action(result_kind: &str, resolution_kind: &str) -> Action {
        match caller_action(result(result_kind), resolution(resolution_kind), "k") {
            CallerAction::Return(value, source) => Action::Return(*value, source),
            CallerAction::ResumePanic(_) => Action::ResumePanic,
            CallerAction::StopWaiting => Action::StopWaiting,
            CallerAction::Fail(failure) => Action::Fail(error(&failure)),
            CallerAction::FallBackOrFail(failure) => Action::FallBackOrFail(error(&failure)),
            CallerAction::FallBackOrStop => Action::FallBackOrStop,
        }
    }

    #[test]
    fn the_caller_of_a_background_load_acts_by_its_result_and_its_wait() {
        use Action::*;
        let loaded = || Return(1, Source::Loaded);
        let waited = || Return(2, Source::Waited);
        let table = [
            // Its own value, however the wait ended.
            ("value", "value", loaded()),
            ("value", "abandoned", loaded()),
            ("value", "other type", loaded()),
            ("value", "absent", loaded()),
            ("value", "limit", loaded()),
            ("value", "error", loaded()),
            ("value", "unshared", loaded()),
            ("value", "again", loaded()),
            // No result: the load goes on, was timed out, or was dropped with its runtime.
            ("none", "value", waited()),
            ("none", "abandoned", FallBackOrFail("timeout")),
            ("none", "other type", StopWaiting),
            ("none", "absent", StopWaiting),
            ("none", "limit", StopWaiting),
            ("none", "error", FallBackOrFail("shared")),
            ("none", "unshared", FallBackOrStop),
            ("none", "again", FallBackOrStop),
            // Its own error.
            ("failed", "value", waited()),
            ("failed", "abandoned", FallBackOrFail("timeout")),
            ("failed", "other type", Fail("own")),
            ("failed", "absent", Fail("own")),
            ("failed", "limit", StopWaiting),
            ("failed", "error", FallBackOrFail("shared")),
            ("failed", "unshared", FallBackOrFail("own")),
            ("failed", "again", FallBackOrFail("own")),
            // Its own panic, unless the flight had another end before.
            ("panicked", "value", waited()),
            ("panicked", "abandoned", ResumePanic),
            ("panicked", "other type", StopWaiting),
            ("panicked", "absent", StopWaiting),
            ("panicked", "limit", StopWaiting),
            ("panicked", "error", FallBackOrFail("shared")),
            ("panicked", "unshared", FallBackOrStop),
            ("panicked", "again", FallBackOrStop),
        ];
        for (result, resolution, expected) in table {
            let action = action(result, resolution);
            assert_eq!(action, expected, "result {result}, wait {resolution}");
        }
    }
}
