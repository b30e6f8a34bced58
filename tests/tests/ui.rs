//! Code that must not compile, with messages that say what to write instead.

#![cfg(not(shuttle))]

#[test]
fn messages_say_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
