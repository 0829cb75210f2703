//! Views: the JSON of every answer, a file a resource. The command line prints the same.

pub mod email;
pub mod event;
pub(crate) mod identity;
pub(crate) mod introspection;
pub(crate) mod passkey;
pub mod second_factor;
pub mod service;
pub mod session;
pub mod user;
pub mod webhook;

use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::json;

/// A response with a JSON body. The middleware sets its type.
pub(crate) fn respond<T: Serialize>(mut response: HttpResponseBuilder, body: &T) -> Result<HttpResponse, ApiError> {
    match json::to_vec(body) {
        Ok(body) => Ok(response.body(body)),
        Err(error) => Err(ApiError::Internal(Box::new(error))),
    }
}

/// That it was done.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusResponse {
    #[schema(example = "success")]
    status: &'static str,
}

impl StatusResponse {
    pub(crate) const SUCCESS: Self = Self { status: "success" };
}

/// How every error is answered: a sentence for a person.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorResponse {
    error: String,
}
