//! What the benchmarks measure: the same workloads on cacheio, on the engine it stands on, and on
//! its peers.

// The peers' caches are seldom printed.
#![allow(missing_debug_implementations)]

pub mod clients;
mod subjects;
mod workload;

pub use subjects::{
    CacheioAsync, CacheioSync, MiniMoka, MokaFuture, MokaSync, Policies, RawQuickCache, Subject,
    macros,
};
pub use workload::Workload;
