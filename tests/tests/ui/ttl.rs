//! Durations that are checked at compile time.

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

#[cached(stale_for = "1h", soft_timeout = "3s", hard_timeout = 2)]
fn soft_after_hard(n: u8) -> Result<u8, cacheio::Error> {
    Ok(n)
}

#[cached(hard_timeout = "1m", max_load = "30s")]
fn hard_after_max_load(n: u8) -> Result<u8, cacheio::Error> {
    Ok(n)
}

#[cached(max_load = 0)]
fn max_load_of_zero(n: u8) -> u8 {
    n
}

fn main() {}
