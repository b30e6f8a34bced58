//! Code that must not compile, and the messages of the compiler.

#![cfg(not(shuttle))]

#[test]
fn errors_say_what_is_wrong_and_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
