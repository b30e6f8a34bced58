#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

// The tests of cacheio use these too. They may change in any version.
#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod busy;
mod contract;
#[doc(hidden)]
pub mod failing;
#[doc(hidden)]
pub mod fixture;
#[doc(hidden)]
pub mod gate;
mod harness;
#[doc(hidden)]
pub mod log;
mod store_api;
#[doc(hidden)]
pub mod watchdog;
#[doc(hidden)]
pub mod world;

pub use crate::fixture::{Pace, TestEnv, Time};
pub use crate::harness::{Contract, Optional, run};

/// What all modules with cases import.
mod prelude {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::time::Duration;

    pub(crate) use cacheio_core::{ErrorKind, LoadError, Options, Ttl, Update};

    pub(crate) use crate::api::{CacheApi, join_all};
    pub(crate) use crate::fixture::{Fixture, Setup};
    pub(crate) use crate::gate::LoaderGate;
    pub(crate) use crate::harness::{Case, Optional, case};
}

/// Makes the `main` of a test that runs the contract of one `Store`, for threads, in real time.
///
/// The argument is a function that returns an empty store; it may be followed by the
/// [operations](Optional) that the store does not support. For all else see [`Contract`].
///
/// ```
/// use cacheio::Memory;
///
/// cacheio_testkit::store_contract!(Memory::new);
/// ```
///
/// ```
/// use cacheio::Memory;
///
/// cacheio_testkit::store_contract!(|| Memory::with_capacity(10_000), without: Touch, Increment);
/// ```
#[macro_export]
macro_rules! store_contract {
    ($make:expr $(, without: $($operation:ident),+ $(,)?)?) => {
        fn main() -> ::std::process::ExitCode {
            let contract = $crate::Contract::threads("store", |_| ($make)());
            $crate::run([contract $($(.without($crate::Optional::$operation))+)?])
        }
    };
}
