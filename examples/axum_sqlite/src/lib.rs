//! A web service over SQLite whose reads are cached.
//!
//! - `database.rs`: products in SQLite, with slow queries
//! - `products.rs`: the same with a cache; this file has all the code that uses cacheio
//! - `web.rs`: the routes, and the page that shows the cache at work
//! - `error.rs`: errors of the service

mod database;
mod error;
mod products;
mod web;

pub use database::{Database, Product};
pub use error::{Error, Result};
pub use products::Products;
pub use web::router;
