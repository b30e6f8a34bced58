//! What lives too short for a body that may go on when its caller has left.

use cacheio::{CacheKey, cached};

#[cached(refresh_ahead = 0.5)]
fn short<T: CacheKey + Clone + Send + Sync>(key: &T) -> usize {
    size_of_val(key)
}

#[cached(skip(make), refresh_ahead = 0.5)]
fn short_by_value(n: u8, make: impl Fn(u8) -> u8 + Send) -> u8 {
    make(n)
}

fn main() {}
