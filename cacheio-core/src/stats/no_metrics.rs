//! The empty version of `metrics.rs`, for builds without the feature `metrics`.

use super::{Count, StoreStats};

#[derive(Clone, Debug)]
pub(crate) struct Metrics;

#[derive(Debug)]
pub(crate) struct LoadTimer;

impl Metrics {
    pub(crate) fn new(_: &str, _: StoreStats) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn add(&self, _: Count) {}

    #[inline]
    pub(crate) fn update_from_store(&self, _: impl FnOnce() -> StoreStats) {}

    #[inline]
    pub(crate) fn time_load(&self) -> LoadTimer {
        LoadTimer
    }
}
