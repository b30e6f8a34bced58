//! Durations as text are checked when the program is compiled.

use cacheio::cached;

#[cached(ttl = "5 minutes")]
fn text(n: u8) -> u8 {
    n
}

#[cached(ttl = "m")]
fn generic<T: cacheio::CacheKey>(n: T) -> u8 {
    drop(n);
    1
}

#[cached(ttl = 60, stale_for = "an hour")]
fn stale(n: u8) -> u8 {
    n
}

fn main() {}
