//! Wrong arguments of `#[cached]`.

use cacheio::cached;

#[cached("user:{n}")]
fn text_alone(n: u8) -> u8 {
    n
}

#[cached(60)]
fn number_alone(n: u8) -> u8 {
    n
}

#[cached(max_size = 10)]
fn unknown(n: u8) -> u8 {
    n
}

#[cached(ttl = 1, ttl = 2)]
fn twice(n: u8) -> u8 {
    n
}

#[cached(key)]
fn no_value(n: u8) -> u8 {
    n
}

#[cached(ttl = , key = "{n}")]
fn empty_value(n: u8) -> u8 {
    n
}

#[cached(ttl = 1.5)]
fn fractional_ttl(n: u8) -> u8 {
    n
}

#[cached(ttl = -5)]
fn negative_ttl(n: u8) -> u8 {
    n
}

#[cached(ttl = 60u64)]
fn ttl_with_suffix(n: u8) -> u8 {
    n
}

#[cached(capacity = 0)]
fn no_capacity(n: u8) -> u8 {
    n
}

#[cached(cache = CACHE, capacity = 10)]
fn capacity_of_another_cache(n: u8) -> u8 {
    n
}

#[cached(cache_none = no)]
fn no_bool(n: u8) -> Option<u8> {
    Some(n)
}

#[cached(cache = CACHE, skip_l1 = true)]
fn skip_l1_with_value(n: u8) -> u8 {
    n
}

#[cached(skip_l1)]
fn skip_l1_of_its_own_cache(n: u8) -> u8 {
    n
}

#[cached(companions = true)]
fn companions_with_value(n: u8) -> u8 {
    n
}

#[cached(skip = n)]
fn skip_without_parentheses(n: u8) -> u8 {
    n
}

#[cached(skip(m, n))]
fn unknown_skip(n: u8, o: u8) -> u8 {
    n + o
}

#[cached(skip(m))]
fn unknown_skip_without_arguments() -> u8 {
    1
}

#[cached(key = "{n}", skip(o))]
fn skip_with_key(n: u8, o: u8) -> u8 {
    n + o
}

#[cached(crate = 5)]
fn no_path(n: u8) -> u8 {
    n
}

#[cached(crate)]
fn path_without_value(n: u8) -> u8 {
    n
}

struct Service;

impl Service {
    #[cached(capacity = 10)]
    fn capacity_of_a_method(&self, n: u8) -> u8 {
        n
    }

    #[cached(skip(self))]
    fn skipped_self(&self, n: u8) -> u8 {
        n
    }
}

#[cached(ttl = 0)]
fn ttl_of_zero() {}

#[cached(ttl_secs = 60)]
fn of_another_library(n: u8) -> u8 {
    n
}

#[cached(capasity = 10)]
fn misspelled(n: u8) -> u8 {
    n
}

#[cached(colour = 10)]
fn neither(n: u8) -> u8 {
    n
}

#[cached(key = "user")]
fn constant_key(user_id: u64, token: &str) -> u64 {
    user_id + token.len() as u64
}

#[cached(key = ("user", 1))]
fn constant_expression(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "user:{user_id}", skip(user_id))]
fn skipped_in_the_key(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{n}")]
fn mutable(n: u8, out: &mut Vec<u8>) -> u8 {
    out.push(n);
    n
}

#[cached]
fn mutable_in_an_option(n: u8, out: Option<&mut u8>) -> u8 {
    let _ = out;
    n
}

fn main() {}
