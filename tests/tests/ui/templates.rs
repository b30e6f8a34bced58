//! Wrong templates of keys.

use cacheio::cached;

#[cached(key = "user:{id}")]
fn unknown(user_id: u64, request_id: &str) -> u64 {
    user_id
}

#[cached(key = "user:{id}")]
fn no_arguments() -> u64 {
    1
}

#[cached(key = "{0}")]
fn numbered(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{}")]
fn unnamed(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{user_id")]
fn open(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "user_id}")]
fn closed(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{user_id.to_string()}")]
fn call(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{self.tenant}")]
fn no_receiver(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{a}{b}")]
fn nothing_between(a: u64, b: u64) -> u64 {
    a + b
}

#[cached(key = "{a}x{b}")]
fn a_letter_between(a: u64, b: u64) -> u64 {
    a + b
}

struct Service;

impl Service {
    #[cached(key = "{self}")]
    fn the_whole_of_self(&self) -> u64 {
        1
    }
}

fn main() {}
