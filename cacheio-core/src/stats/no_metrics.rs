//! The empty version of `metrics.rs`, for builds without the feature `metrics`.

use super::Count;

#[derive(Clone, Debug)]
pub(crate) struct Metrics;

#[derive(Debug)]
pub(crate) struct LoadTimer;

impl Metrics {
    pub(crate) fn new(_: &str, _: u64, _: u64) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn add(&self, _: Count) {}

    #[inline]
    pub(crate) fn update_from_store(&self, _: impl FnOnce() -> (u64, u64)) {}

    #[inline]
    pub(crate) fn time_load(&self) -> LoadTimer {
        LoadTimer
    }
}
