//! L1, memory before a server: the settings, the bound, the races of reads with writes, and what other
//! processes see. The contract has the cases that hold on every server.

#![cfg(not(shuttle))]

mod bound;
mod processes;
mod races;
mod settings;
mod support;
mod tracking;
mod tracking_cluster;
mod tracking_sentinel;

#[test]
fn child() {
    cacheio_tests::process::child();
}
