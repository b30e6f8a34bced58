#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer_size;
mod batch;
mod batching;
mod builder;
mod claim_key;
mod claims;
mod cluster;
mod commands;
mod connection;
mod drop_queue;
mod endpoint;
mod failure;
mod handle_pool;
mod handshake;
mod join_all;
mod limiter;
mod live_connection;
mod master_search;
mod nearness;
mod open;
mod progress;
mod queue;
mod reading;
mod redis;
mod reply;
mod request;
mod retry_window;
mod scan;
mod sentinel;
mod server;
mod slot_map;
mod slots;
mod swap;
#[cfg(feature = "tls")]
mod tls;
mod topology;
mod tracking;
mod trust;
mod url;

pub use builder::RedisBuilder;
pub use redis::Redis;
