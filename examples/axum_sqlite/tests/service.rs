//! The service, with the requests of a browser.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use cacheio_example_axum_sqlite::{Database, Products, router};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt;

fn service() -> Result<Router> {
    Ok(router(Products::new(Database::open()?)))
}

async fn send(
    service: &Router,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, Value)> {
    let request = Request::builder().method(method).uri(path);
    let request = match body {
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))?,
        None => request.body(Body::empty())?,
    };
    let response = service.clone().oneshot(request).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok((
        status,
        serde_json::from_slice(&bytes).context("the response is not JSON")?,
    ))
}

async fn get(service: &Router, path: &str) -> Result<Value> {
    let (status, body) = send(service, Method::GET, path, None).await?;
    ensure!(status == StatusCode::OK, "{path}: {status} {body}");
    Ok(body)
}

#[tokio::test]
async fn fifty_requests_at_once_are_one_query() -> Result<()> {
    let service = service()?;
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let service = service.clone();
        requests.spawn(async move { get(&service, "/products/1").await });
    }
    for product in requests.join_all().await {
        assert_eq!(product?["name"], "Espresso machine");
    }
    let stats = get(&service, "/stats").await?;
    assert_eq!(stats["queries"], 1);
    assert_eq!(stats["loads"], 1);
    assert_eq!(
        stats["waits"]
            .as_u64()
            .zip(stats["hits"].as_u64())
            .map(|(w, h)| w + h),
        Some(49)
    );
    Ok(())
}

#[tokio::test]
async fn an_update_is_visible_at_once() -> Result<()> {
    let service = service()?;
    get(&service, "/products").await?;
    get(&service, "/products/2").await?;

    let (status, product) = send(
        &service,
        Method::PUT,
        "/products/2",
        Some(json!({ "name": "Burr grinder" })),
    )
    .await?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(product["name"], "Burr grinder");
    assert_eq!(get(&service, "/products/2").await?["name"], "Burr grinder");
    assert_eq!(get(&service, "/products").await?[1]["name"], "Burr grinder");
    Ok(())
}

#[tokio::test]
async fn the_second_read_is_a_hit() -> Result<()> {
    let service = service()?;
    for path in ["/products", "/products/1"] {
        let first = get(&service, path).await?;
        assert_eq!(get(&service, path).await?, first);
    }

    let stats = get(&service, "/stats").await?;
    assert_eq!(
        stats,
        json!({
            "hits": 2, "misses": 2, "hit_ratio": 0.5, "loads": 2, "load_errors": 0, "waits": 0,
            "evictions": 0, "store_errors": 0, "queries": 2,
        })
    );
    Ok(())
}

#[tokio::test]
async fn a_stampede_is_one_query() -> Result<()> {
    let service = service()?;
    get(&service, "/products/3").await?;
    let (status, result) = send(&service, Method::POST, "/products/3/stampede", None).await?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&result["callers"], &result["queries"]),
        (&json!(200), &json!(1))
    );
    Ok(())
}

#[tokio::test]
async fn a_missing_product_is_404_and_not_cached() -> Result<()> {
    let service = service()?;
    for _ in 0..2 {
        let (status, body) = send(&service, Method::GET, "/products/99", None).await?;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body, json!({ "error": "there is no product 99" }));
    }
    let (status, _) = send(
        &service,
        Method::PUT,
        "/products/99",
        Some(json!({ "name": "x" })),
    )
    .await?;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let stats = get(&service, "/stats").await?;
    assert_eq!(
        (&stats["load_errors"], &stats["queries"]),
        (&json!(2), &json!(2))
    );
    Ok(())
}

#[tokio::test]
async fn a_product_needs_a_name() -> Result<()> {
    let (status, _) = send(
        &service()?,
        Method::PUT,
        "/products/1",
        Some(json!({ "name": " " })),
    )
    .await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}
