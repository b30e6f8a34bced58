//! Bodies that cannot run in the background, and policies that do not fit.

use cacheio::{Cache, Cacheable, cached};

#[cached(refresh_ahead = 1.0)]
fn all_of_the_ttl(n: u8) -> u8 {
    n
}

#[cached(refresh_ahead = 80)]
fn percent(n: u8) -> u8 {
    n
}

#[cached(refresh_ahead = -0.5)]
fn negative(n: u8) -> u8 {
    n
}

#[cached(refresh_ahead = "always")]
fn unknown_text(n: u8) -> u8 {
    n
}

#[cached(soft_timeout = "100ms")]
fn soft_timeout_without_stale_for(n: u8) -> u8 {
    n
}

#[cached(retry_after = "10s")]
fn retry_after_without_stale_for(n: u8) -> u8 {
    n
}

#[cached(ttl_none = "10s", cache_none = false)]
fn none_is_not_stored(n: u8) -> Option<u8> {
    Some(n)
}

#[cached(hard_timeout = 1.5)]
fn fractional_seconds(n: u8) -> Result<u8, cacheio::Error> {
    Ok(n)
}

#[cached(key = "k", skip(list), refresh_ahead = 0.5)]
fn mutable_argument(list: &mut Vec<u8>) -> usize {
    list.push(1);
    list.len()
}

#[cached(max_load = 60)]
fn borrowed_in_a_borrowed_argument(names: &[&str]) -> usize {
    names.len()
}

#[cached(max_load = 60)]
fn borrowed_in_an_owned_argument(either: std::borrow::Cow<'_, str>) -> usize {
    either.len()
}

#[cached(key = "{a}", refresh_ahead = 0.5)]
fn pattern_of_a_borrowed_argument(&(a, b): &(u8, u8)) -> u8 {
    a + b
}

#[derive(Clone, Cacheable)]
struct Service {
    cache: Cache,
}

impl Service {
    #[cached(soft_timeout = "100ms")]
    fn allowed_since_the_cache_may_set_stale_for(&self, n: u8) -> u8 {
        n
    }

    #[cached(refresh_ahead = 0.5)]
    fn mutable_self(&mut self, n: u8) -> u8 {
        n
    }

    #[cached(refresh_ahead = 0.5)]
    fn self_in_a_string(&self, n: u8) -> String {
        format!("{self} {n}")
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("service")
    }
}

fn main() {}
