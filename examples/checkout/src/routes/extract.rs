//! Ids and bodies of requests, with our own words for what is wrong with them.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Shop;
use crate::failure::Failure;

/// The id in the path.
pub struct Id(pub i64);

impl FromRequestParts<Shop> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shop: &Shop) -> Result<Self, Failure> {
        let id = Path::from_request_parts(parts, shop).await;
        id.map(|Path(id)| Self(id))
            .map_err(|_| Failure::bad_request("The id in the path must be a whole number."))
    }
}

/// A body, whole.
pub struct Raw(pub Bytes);

impl FromRequest<Shop> for Raw {
    type Rejection = Failure;

    async fn from_request(request: Request, shop: &Shop) -> Result<Self, Failure> {
        Bytes::from_request(request, shop)
            .await
            .map(Self)
            .map_err(|rejection| match rejection.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => Failure::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body_too_large",
                    "The body is too large.",
                ),
                _ => Failure::bad_request("The body did not arrive."),
            })
    }
}

/// A body of JSON; no body stands for `{}`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shop> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, shop: &Shop) -> Result<Self, Failure> {
        let Raw(body) = Raw::from_request(request, shop).await?;
        let json: &[u8] = if body.is_empty() { b"{}" } else { &body };
        // By way of a map, since an array would do for a struct.
        serde_json::from_slice(json)
            .and_then(|map: Map<String, Value>| T::deserialize(Value::Object(map)))
            .map(Self)
            .map_err(|error| Failure::bad_request(format!("The body is not right: {error}.")))
    }
}
