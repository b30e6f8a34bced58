//! Cases that run in both worlds, outside of the contract.

/// Makes four tests of each case: in both worlds, on memory and on bytes, with time that only the test
/// advances. The enclosing module has a function `run` that takes a fixture's constructor and a case.
#[macro_export]
macro_rules! in_both_worlds {
    ($($case:ident)*) => {$(
        mod $case {
            use super::super::*;
            use $crate::fixture::{Fixture, Time};

            #[test]
            fn threads_on_memory() {
                run(|| Fixture::threads(Time::manual(), $crate::stores::memory), $case);
            }

            #[test]
            fn threads_on_bytes() {
                run(|| Fixture::threads(Time::manual(), $crate::stores::bytes), $case);
            }

            #[test]
            fn tasks_on_memory() {
                run(|| Fixture::tasks(Time::manual(), $crate::stores::memory), $case);
            }

            #[test]
            fn tasks_on_bytes() {
                run(|| Fixture::tasks(Time::manual(), $crate::stores::yielding_bytes), $case);
            }
        }
    )*};
}
