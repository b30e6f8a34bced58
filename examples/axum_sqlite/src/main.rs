//! A web service over SQLite whose reads are cached, with a page that shows what the cache does.
//!
//! ```sh
//! cargo run -p cacheio-example-axum-sqlite            # http://127.0.0.1:3000
//! cargo run -p cacheio-example-axum-sqlite -- 8080    # another port; 0 picks a free one
//! ```
//!
//! The cache is on a `redis-server` that the program starts, or in memory if Redis is not installed.

use std::env;

use anyhow::Context;
use axum::Router;
use cacheio_example_axum_sqlite::demo::{self, Demo};
use cacheio_example_axum_sqlite::routes;
use tokio::net::TcpListener;
use tokio::signal::ctrl_c;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port = match env::args().nth(1).or_else(|| env::var("PORT").ok()) {
        Some(port) => port
            .parse()
            .with_context(|| format!("`{port}` is not a port number"))?,
        None => 3000,
    };
    let demo = Demo::start_with_redis()?;
    tokio::spawn(demo::send_requests(demo.clone()));
    let service = Router::new().merge(routes()).merge(demo::routes());
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, service.with_state(demo))
        .with_graceful_shutdown(stopped())
        .await?;
    Ok(())
}

/// Waits until the program is to stop. It ends by itself, so that Redis ends with it.
async fn stopped() {
    #[cfg(unix)]
    if let Ok(mut terminated) = signal(SignalKind::terminate()) {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = ctrl_c() => {}
        }
        return;
    }
    let _ = ctrl_c().await;
}
