//! A web service over SQLite whose reads are cached.
//!
//! - `database.rs`: the products in SQLite, each query slow
//! - `products.rs`: the same, cached; here stands all that has to do with cacheio
//! - `web.rs`: the routes, and the page that shows the cache at work
//! - `error.rs`: what can go wrong

mod database;
mod error;
mod products;
mod web;

pub use database::{Database, Product};
pub use error::{Error, Result};
pub use products::Products;
pub use web::router;
