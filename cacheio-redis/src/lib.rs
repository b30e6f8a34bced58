#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batches;
mod builder;
mod cluster;
mod failure;
mod handles;
mod link;
mod nodes;
mod redis;
mod request;
mod slots;
mod target;
mod url;

pub use builder::RedisBuilder;
pub use redis::Redis;
