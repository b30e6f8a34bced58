//! Futures of tasks that go on when they are dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use cacheio_core::__private::runtime;

use crate::store::BoxFuture;

/// A future that continues on the runtime of the process if it is dropped after it has begun.
pub(super) struct RunToEnd<T: Send + 'static> {
    future: Option<BoxFuture<'static, T>>,
    has_begun: bool,
}

impl<T: Send + 'static> RunToEnd<T> {
    pub(super) fn new(future: BoxFuture<'static, T>) -> Self {
        Self {
            future: Some(future),
            has_begun: false,
        }
    }
}

impl<T: Send + 'static> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.has_begun = true;
        let Some(future) = &mut self.future else {
            return Poll::Pending;
        };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take().filter(|_| self.has_begun)
            && let Ok(runtime) = runtime()
        {
            runtime.spawn(future);
        }
    }
}
