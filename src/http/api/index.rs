//! `GET /`: what this service is, for a person or a program that finds it.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::document::SERVED;
use crate::http::error::ApiError;
use crate::http::views::respond;

/// What answers here.
#[derive(Serialize, ToSchema)]
pub(crate) struct IndexResponse {
    #[schema(example = "authtokens")]
    name: &'static str,
    version: &'static str,
    description: &'static str,
    /// Pages that explain every call and let you try it.
    #[schema(example = "/docs")]
    documentation: &'static str,
    /// The same for programs.
    #[schema(example = "/api/openapi.json")]
    openapi: &'static str,
    calls: &'static [CallResponse],
}

/// A call and what it does.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallResponse {
    #[schema(example = "POST /api/register")]
    call: String,
    #[schema(example = "Make an account and its first token")]
    does: String,
}

/// The calls, as the OpenAPI document lists them.
static CALLS: LazyLock<Vec<CallResponse>> = LazyLock::new(|| {
    let document: Value = serde_json::from_slice(&SERVED).unwrap_or_default();
    let paths = document["paths"].as_object().into_iter().flatten();
    let of = |(path, item): (&String, &Value)| {
        ["get", "post", "put", "patch", "delete"].map(|method| {
            let does = item[method]["summary"].as_str()?.to_owned();
            Some(CallResponse { call: format!("{} {path}", method.to_uppercase()), does })
        })
    };
    paths.flat_map(of).flatten().collect()
});

/// What this is and what it can do
#[utoipa::path(
    get, path = "/", operation_id = "find_calls", tag = "service",
    responses((status = 200, description = "The service and its calls", body = IndexResponse)),
)]
pub(crate) async fn show() -> Result<HttpResponse, ApiError> {
    let index = IndexResponse {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        description: env!("CARGO_PKG_DESCRIPTION"),
        documentation: "/docs",
        openapi: "/api/openapi.json",
        calls: &CALLS,
    };
    respond(HttpResponse::Ok(), &index)
}
