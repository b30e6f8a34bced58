//! Functions that cannot have companions.

use cacheio::{AsyncCache, AsyncCacheable, cached};

#[cached(skip(context), companions)]
fn without_a_name(n: u8, context: impl Fn() -> u8) -> u8 {
    n + context()
}

#[derive(AsyncCacheable)]
struct Service {
    cache: AsyncCache,
}

#[async_trait::async_trait]
trait Repository {
    async fn find(&self) -> u8;
}

#[async_trait::async_trait]
impl Repository for Service {
    #[cached(companions)]
    async fn find(&self) -> u8 {
        1
    }
}

fn main() {}
