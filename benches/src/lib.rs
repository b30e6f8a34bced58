//! What the benchmarks measure: the same workloads on cacheio, on the engine it stands on, and on
//! its peers.

mod subjects;
mod workload;

pub use subjects::{
    CacheioAsync, CacheioSync, MiniMoka, MokaFuture, MokaSync, RawQuickCache, Subject, macros,
};
pub use workload::Workload;
