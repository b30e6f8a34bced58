//! The service, with the requests of a browser.

mod requests;

use anyhow::Result;
use axum::Router;
use axum::http::{Method, StatusCode};
use cacheio::CacheFactory;
use cacheio_example_axum_sqlite::demo::{Faults, Health};
use cacheio_example_axum_sqlite::{Database, Products, routes};
use requests::{get, send};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Returns a service with a cache in memory, and the connections of its database.
fn service() -> Result<(Router, Faults)> {
    let faults = Faults::new(watch::channel(Health::Normal).1);
    let database = Database::open(faults.clone())?;
    let products = Products::new(database, CacheFactory::async_memory_cache());
    Ok((routes().with_state(products), faults))
}

#[tokio::test]
async fn fifty_requests_at_once_are_one_query() -> Result<()> {
    let (service, database) = service()?;
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let service = service.clone();
        requests.spawn(async move { get(&service, "/products/1").await });
    }
    for product in requests.join_all().await {
        assert_eq!(product?["name"], "Espresso machine");
    }
    assert_eq!(database.queries(), 1);
    let stats = get(&service, "/stats").await?;
    assert_eq!(stats["loads"], 1);
    let others = stats["waits"].as_u64().zip(stats["hits"].as_u64());
    assert_eq!(others.map(|(waits, hits)| waits + hits), Some(49));
    Ok(())
}

#[tokio::test]
async fn an_update_is_visible_at_once() -> Result<()> {
    let (service, _) = service()?;
    get(&service, "/products").await?;
    get(&service, "/products/2").await?;
    let name = json!({ "name": "Burr grinder" });
    let (status, product) = send(&service, Method::PUT, "/products/2", Some(name)).await?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(product["name"], "Burr grinder");
    assert_eq!(get(&service, "/products/2").await?["name"], "Burr grinder");
    assert_eq!(get(&service, "/products").await?[1]["name"], "Burr grinder");
    Ok(())
}

#[tokio::test]
async fn the_second_read_is_a_hit() -> Result<()> {
    let (service, database) = service()?;
    for path in ["/products", "/products/1"] {
        let first = get(&service, path).await?;
        assert_eq!(get(&service, path).await?, first);
    }
    assert_eq!(database.queries(), 2);
    let stats = get(&service, "/stats").await?;
    let counts = ["hits", "misses", "loads", "load_errors"].map(|name| &stats[name]);
    assert_eq!(counts, [&json!(2), &json!(2), &json!(2), &json!(0)]);
    Ok(())
}

#[tokio::test]
async fn a_missing_product_is_404_and_not_cached() -> Result<()> {
    let (service, database) = service()?;
    for _ in 0..2 {
        let (status, body) = send(&service, Method::GET, "/products/99", None).await?;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body, json!({ "error": "there is no product 99" }));
    }
    assert_eq!(database.queries(), 2);
    let name = json!({ "name": "x" });
    let (status, _) = send(&service, Method::PUT, "/products/99", Some(name)).await?;
    assert_eq!(status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn a_product_needs_a_name() -> Result<()> {
    let (service, _) = service()?;
    let name = json!({ "name": " " });
    let (status, _) = send(&service, Method::PUT, "/products/1", Some(name)).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}
