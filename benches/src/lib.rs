//! What the benchmarks measure: the same workloads on cacheio, on raw `quick_cache`, on which its
//! memory is built, and on its peers.

// The peers' caches are seldom printed.
#![allow(missing_debug_implementations)]

pub mod clients;
mod subjects;
mod workload;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use subjects::{
    CacheioAsync, CacheioSync, MiniMoka, MokaFuture, MokaSync, Policies, RawQuickCache, RawValue,
    Subject, macros, runtime,
};
pub use workload::{Layout, Workload};

/// Returns the CPU time of this thread: the time in which it does not run belongs to other programs.
///
/// # Panics
///
/// Panics when the time is negative.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time that has passed")
}
