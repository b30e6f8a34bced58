//! What is special to Redis: how the connection is shared, breaks and reconnects, and where the
//! server may be.

#![cfg(not(shuttle))]

mod access;
mod batching;
mod cluster;
mod delay_proxy;
mod impossible_replies;
mod large_batches;
mod operations;
mod reconnecting;
mod refusals;
mod rights;
mod runtimes;
mod scan;
mod sentinel;
mod support;
mod tls;
mod write_order;
