//! A web service over SQLite whose reads are cached, with a page that shows the cache at work.
//!
//! ```sh
//! cargo run -p cacheio-example-axum-sqlite            # http://127.0.0.1:3000
//! cargo run -p cacheio-example-axum-sqlite -- 8080    # another port; 0 picks a free one
//! ```

use std::env;

use anyhow::Context;
use cacheio_example_axum_sqlite::{Database, Products, router};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port = match env::args().nth(1).or_else(|| env::var("PORT").ok()) {
        Some(port) => port
            .parse()
            .with_context(|| format!("`{port}` is not a port number"))?,
        None => 3000,
    };
    let products = Products::new(Database::open()?);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router(products)).await?;
    Ok(())
}
