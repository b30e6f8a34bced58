//! Arguments that do not live long enough for a body in the background.

use cacheio::{CacheKey, cached};

#[cached(refresh_ahead = 0.5)]
fn borrowed<T: CacheKey + Clone + Send + Sync>(key: &T) -> usize {
    size_of_val(key)
}

#[cached(skip(make), refresh_ahead = 0.5)]
fn by_value(n: u8, make: impl Fn(u8) -> u8 + Send) -> u8 {
    make(n)
}

fn main() {}
