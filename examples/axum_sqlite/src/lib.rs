//! A web service over SQLite whose reads are cached, and a page that shows what the cache does.
//!
//! The service, as one would write it:
//!
//! - `database.rs`: products in SQLite
//! - `products.rs`: the same with a cache; this file has all the code that uses cacheio
//! - `web.rs`: the routes
//! - `error.rs`: errors of the service
//!
//! What only the page needs:
//!
//! - `demo.rs`: the page, its routes and its switches
//! - `demo/policies.rs`: builds the cache with the policies that are switched on
//! - `demo/faults.rs`: makes the database slow, or lets it fail
//! - `demo/load.rs`: sends the same requests to the service and to the database, and measures both
//! - `page/`: the HTML, CSS and JavaScript

mod database;
pub mod demo;
mod error;
mod products;
mod web;

pub use database::{Database, Product};
pub use error::{Error, Result};
pub use products::Products;
pub use web::routes;
