//! The routes.

use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Error, Product, Products, Result};

/// Builds the routes of the service.
pub fn router(products: Products) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/products", get(list))
        .route("/products/{id}", get(find).put(rename))
        .route("/products/{id}/stampede", post(stampede))
        .route("/stats", get(stats))
        .with_state(products)
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

async fn list(State(products): State<Products>) -> Result<Json<Vec<Product>>> {
    products.list().await.map(Json)
}

async fn find(State(products): State<Products>, Path(id): Path<u32>) -> Result<Json<Product>> {
    products.find(id).await.map(Json)
}

#[derive(Deserialize)]
struct Rename {
    name: String,
}

async fn rename(
    State(products): State<Products>,
    Path(id): Path<u32>,
    Json(Rename { name }): Json<Rename>,
) -> Result<Json<Product>> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Error::NoName);
    }
    products.rename(id, name.to_owned()).await?;
    products.find(id).await.map(Json)
}

/// Removes a product from the cache, and then requests it 200 times at once.
async fn stampede(State(products): State<Products>, Path(id): Path<u32>) -> Result<Json<Value>> {
    const CALLERS: usize = 200;
    products.invalidate(id).await?;
    let (before, queries, start) = (products.stats(), products.queries(), Instant::now());

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let products = products.clone();
        callers.spawn(async move { products.find(id).await });
    }
    for found in callers.join_all().await {
        found?;
    }

    let after = products.stats();
    Ok(Json(json!({
        "callers": CALLERS,
        "queries": products.queries() - queries,
        "waits": after.waits - before.waits,
        "milliseconds": start.elapsed().as_millis(),
    })))
}

async fn stats(State(products): State<Products>) -> Json<Value> {
    let stats = products.stats();
    Json(json!({
        "hits": stats.hits,
        "misses": stats.misses,
        "hit_ratio": stats.hit_ratio(),
        "loads": stats.loads,
        "load_errors": stats.load_errors,
        "waits": stats.waits,
        "evictions": stats.evictions,
        "store_errors": stats.store_errors,
        "queries": products.queries(),
    }))
}
