//! `#[cached]` on functions: each has its own cache in memory, created on first use.
//!
//! ```sh
//! cargo run --example free_functions
//! ```

use std::collections::HashMap;
use std::num::ParseIntError;
use std::time::Duration;

use cacheio::cached;

/// The key consists of all arguments. At most 1,000 results are kept, each for a minute.
#[cached(ttl = 60, capacity = 1000)]
fn slow_square(n: u64) -> u64 {
    println!("  squares {n}");
    n * n
}

/// Only `Ok` is stored. An error is returned to the caller, and the next call tries again.
#[cached(ttl = "5m")]
fn parse_port(text: &str) -> Result<u16, ParseIntError> {
    println!("  parses {text:?}");
    text.parse()
}

/// `None` is stored like any value by default; here it is not.
#[cached(ttl = "5m", cache_none = false)]
fn capital(country: String) -> Option<&'static str> {
    println!("  looks up {country:?}");
    HashMap::from([("France", "Paris"), ("Japan", "Tokyo")])
        .get(country.as_str())
        .copied()
}

/// `companions` adds `price_key`, `price_invalidate` and `price_refresh`.
#[cached(ttl = "1h", companions)]
fn price(product: u32) -> u32 {
    println!("  computes the price of {product}");
    product * 100
}

/// A recursive function: its body runs 91 times instead of nine quintillion times.
#[cached]
fn fibonacci(n: u64) -> u64 {
    if n < 2 {
        n
    } else {
        fibonacci(n - 1) + fibonacci(n - 2)
    }
}

/// An `async` function.
#[cached(ttl = "30s")]
async fn temperature(city: &str) -> i32 {
    println!("  measures in {city}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    21
}

#[tokio::main]
async fn main() -> cacheio::Result<()> {
    println!("slow_square");
    println!(
        "{} {} {}",
        slow_square(12),
        slow_square(12),
        slow_square(13)
    );

    println!("parse_port");
    println!("{:?} {:?}", parse_port("80"), parse_port("80"));
    println!("{:?} {:?}", parse_port("80x"), parse_port("80x"));

    println!("capital");
    for country in ["Japan", "Japan", "Atlantis", "Atlantis"] {
        println!("{:?}", capital(country.to_owned()));
    }

    println!("price");
    println!("{} {}", price(7), price(7));
    println!("price_key: {:?}", price_key(7));
    println!("price_invalidate: {}", price_invalidate(7)?);
    println!("{}", price(7));
    println!("price_refresh: {}", price_refresh(7));

    println!("fibonacci");
    println!("{}", fibonacci(90));

    println!("temperature");
    println!(
        "{} {}",
        temperature("Oslo").await,
        temperature("Oslo").await
    );
    Ok(())
}
