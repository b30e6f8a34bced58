//! What the benchmarks measure: the same workloads on cacheio, on raw `quick_cache`, on which its
//! memory is built, and on its peers.

// The peers' caches are seldom printed.
#![allow(missing_debug_implementations)]

pub mod clients;
mod subjects;
mod workload;

pub use subjects::{
    CacheioAsync, CacheioSync, MiniMoka, MokaFuture, MokaSync, Policies, RawQuickCache, RawValue,
    Subject, macros, runtime,
};
pub use workload::{Layout, Workload};
