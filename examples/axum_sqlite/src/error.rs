//! Errors of the service.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cacheio::BoxError;
use serde_json::json;

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a request.
///
/// It is `Clone`, so all callers that wait for a failing query get its error.
#[derive(Clone, Debug)]
pub enum Error {
    /// There is no product with this id.
    NoSuchProduct(u32),
    /// The new name is empty.
    NoName,
    /// The database or the cache failed.
    Internal(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an error that clients cannot act on.
    pub fn internal(error: impl Into<BoxError>) -> Self {
        Self::Internal(error.into().into())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchProduct(_) => StatusCode::NOT_FOUND,
            Self::NoName => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProduct(id) => write!(f, "there is no product {id}"),
            Self::NoName => f.write_str("a product needs a name"),
            Self::Internal(_) => f.write_str("internal error"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Internal(error) => Some(error),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(error)
    }
}

impl From<cacheio::Error> for Error {
    fn from(error: cacheio::Error) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            eprintln!("{self}: {cause}");
        }
        (self.status(), Json(json!({ "error": self.to_string() }))).into_response()
    }
}
