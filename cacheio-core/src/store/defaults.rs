//! What the default methods of stores share.

use std::sync::Arc;

use crate::clock::WallClock;
use crate::{Clock, Entry, Form, SystemClock};

pub(super) fn is_live(entry: &Entry, clock: impl FnOnce() -> Arc<dyn Clock>) -> bool {
    match &entry.meta {
        Some(meta) => meta.is_live(clock().now()),
        None => true,
    }
}

pub(super) fn default_clock(form: Form) -> Arc<dyn Clock> {
    match form {
        Form::Objects => Arc::new(SystemClock),
        Form::Bytes => Arc::new(WallClock),
    }
}
