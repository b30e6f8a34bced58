//! L1, memory before a server: the settings, the bound, the races of reads with writes, and what other
//! processes see. The contract has the cases that hold on every server.

#![cfg(not(shuttle))]

mod admission;
mod bound;
mod connecting;
mod drops;
mod events;
mod functions;
mod history;
mod processes;
mod races;
mod server;
mod settings;
mod shared_loads;
mod store_writes;
mod support;
mod told;
mod told_tags;
mod tracking;
mod tracking_cluster;
mod tracking_master;
mod tracking_sentinel;

#[test]
fn child() {
    cacheio_tests::process::child();
}
