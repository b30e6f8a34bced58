//! Items that `#[cached]` cannot be put on.

use std::future::Future;
use std::pin::Pin;

use cacheio::{async_cached, cached};

#[async_cached]
fn not_async(n: u8) -> u8 {
    n
}

#[cached]
const fn constant(n: u8) -> u8 {
    n
}

#[cached]
unsafe fn dangerous(n: u8) -> u8 {
    n
}

#[cached]
fn unnamed_type(n: u8) -> impl Fn() -> u8 {
    move || n
}

#[cached]
fn future(n: u8) -> impl Future<Output = u8> {
    async move { n }
}

#[cached]
fn boxed_future(n: u8) -> Pin<Box<dyn Future<Output = u8> + Send>> {
    let future = async move { n };
    Box::pin(future)
}

#[cached]
fn borrowed(text: &str) -> &str {
    text
}

#[cached]
fn borrowed_inside<'a>(text: &'a str) -> Option<Vec<std::borrow::Cow<'a, str>>> {
    Some(vec![text.into()])
}

#[derive(cacheio::Cacheable)]
struct Service;

#[cached]
struct Item;

#[cached]
impl Service {}

trait Repository {
    #[cached]
    fn find(&self) -> u8;
}

impl Service {
    #[cached]
    fn text(&self, n: u8) -> &'static str {
        "text"
    }

    #[cached]
    fn text_inside(&self, n: u8) -> Result<Option<&'static str>, &'static str> {
        Ok(None)
    }

    #[cached]
    fn text_as_error(&self, n: u8) -> Result<u8, &'static str> {
        Ok(n)
    }
}

fn main() {}
