//! Stores to run the contract on: memory in its variants, replacements for servers, and real
//! servers.

mod bytes;
mod minimal;
mod remote;
mod yielding;

use std::sync::Arc;

use cacheio_core::{AsyncStore, Store};
use cacheio_sync::Memory;
pub use cacheio_testkit::failing::{Failing, Faults};
pub use cacheio_testkit::world::pause;

pub use self::bytes::Bytes;
pub use self::minimal::Map;
pub use self::remote::{memcached, redis, redis_cluster};
pub use self::yielding::Yielding;
use crate::fixture::TestEnv;

/// Memory with room for all that a case stores.
pub fn memory(env: &TestEnv) -> Memory {
    Memory::builder()
        .capacity(10_000)
        .clock(env.clock())
        .build()
}

/// Memory with a weigher.
pub fn weighed(env: &TestEnv) -> Memory {
    let memory = Memory::builder().clock(env.clock());
    memory
        .max_weight(64 << 20, |key, value| {
            (key.len() + size_of_val(value)) as u64
        })
        .build()
}

/// Memory that keeps bytes, as a server does.
pub fn memory_through_codec(env: &TestEnv) -> Memory {
    let memory = Memory::builder().capacity(10_000).clock(env.clock());
    memory.through_codec(true).build()
}

/// Memory as a shared trait object.
pub fn arc_dyn(env: &TestEnv) -> Arc<dyn Store> {
    Arc::new(memory(env))
}

/// Memory as a boxed trait object.
pub fn box_dyn(env: &TestEnv) -> Box<dyn Store> {
    Box::new(memory(env))
}

/// As [`arc_dyn`], for tasks.
pub fn async_arc_dyn(env: &TestEnv) -> Arc<dyn AsyncStore> {
    Arc::new(memory(env))
}

/// As [`box_dyn`], for tasks.
pub fn async_box_dyn(env: &TestEnv) -> Box<dyn AsyncStore> {
    Box::new(memory(env))
}

/// Memory that suspends: a store of values whose operations are not ready at once.
pub fn yielding_memory(env: &TestEnv) -> Yielding<Memory> {
    Yielding(memory(env))
}

/// Bytes, as a server keeps them.
pub fn bytes(env: &TestEnv) -> Bytes {
    Bytes::new(env)
}

/// A store without the optional operations.
pub fn minimal(_: &TestEnv) -> Map {
    Map::default()
}

/// Bytes in a store that suspends.
pub fn yielding_bytes(env: &TestEnv) -> Yielding<Bytes> {
    Yielding(bytes(env))
}
