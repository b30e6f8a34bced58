//! The routes of the service.

use axum::extract::{FromRef, Path, State};
use axum::routing::get;
use axum::{Json, Router};
use cacheio::Stats;
use serde::Deserialize;

use crate::{Error, Product, Products, Result};

/// Builds the routes of a service whose state has the products.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S>
where
    Products: FromRef<S>,
{
    Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(find).put(rename))
        .route("/stats", get(stats))
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

async fn stats(State(products): State<Products>) -> Json<Stats> {
    Json(products.stats())
}
