//! Requests to the routes, as a browser sends them.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// Returns the status, the type and the text of a response.
pub(crate) async fn text(
    service: &Router,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, String, String)> {
    let request = Request::builder().method(method).uri(path);
    let request = match body {
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))?,
        None => request.body(Body::empty())?,
    };
    let response = service.clone().oneshot(request).await?;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.context("no content type")?.to_str()?.to_owned();
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok((status, kind, String::from_utf8(bytes.into())?))
}

pub(crate) async fn send(
    service: &Router,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, Value)> {
    let (status, _, text) = text(service, method, path, body).await?;
    // What axum itself refuses is plain text.
    Ok((
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    ))
}

pub(crate) async fn get(service: &Router, path: &str) -> Result<Value> {
    let (status, body) = send(service, Method::GET, path, None).await?;
    ensure!(status == StatusCode::OK, "{path}: {status} {body}");
    Ok(body)
}
