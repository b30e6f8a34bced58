//! Types that lack a trait that a body in the background needs.

use cacheio::{Cache, Cacheable, cached};

struct Context;

#[derive(Cacheable)]
struct Service {
    cache: Cache,
}

#[cached(skip(context), refresh_ahead = 0.5)]
fn no_clone(n: u8, context: &Context) -> u8 {
    let _ = context;
    n
}

#[cached(skip(context), refresh_ahead = 0.5)]
fn no_clone_in_an_option(n: u8, context: Option<&Context>) -> u8 {
    let _ = context;
    n
}

#[cached(skip(context), refresh_ahead = 0.5)]
fn no_size(n: u8, context: &dyn Fn(u8) -> u8) -> u8 {
    context(n)
}

impl Service {
    #[cached(refresh_ahead = 0.5)]
    fn no_clone_of_self(&self, n: u8) -> u8 {
        self.next(n)
    }

    fn next(&self, n: u8) -> u8 {
        n + 1
    }
}

#[cached(hard_timeout = "1s")]
fn no_result(n: u8) -> u8 {
    n
}

#[cached(hard_timeout = "1s")]
fn no_from_cache_error(n: u8) -> Result<u8, String> {
    Ok(n)
}

#[cached(ttl_none = "1s")]
fn no_option(n: u8) -> u8 {
    n
}

#[cached(refresh_ahead = soon())]
fn no_refresh_ahead(n: u8) -> u8 {
    n
}

fn soon() -> &'static str {
    "soon"
}

fn main() {}
