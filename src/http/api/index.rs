//! `GET /`: what this service is, for a person or a program that finds it.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::path::Operation;

use crate::http::error::ApiError;
use crate::http::state::State;
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
    calls: Vec<CallResponse>,
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
fn calls(document: &Document) -> Vec<CallResponse> {
    let mut calls = Vec::new();
    for (path, item) in &document.paths.paths {
        let methods = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        for (method, operation) in methods {
            if let Some(Operation { summary: Some(summary), .. }) = operation {
                calls.push(CallResponse { call: format!("{method} {path}"), does: summary.clone() });
            }
        }
    }
    calls
}

/// What this is and what it can do
#[utoipa::path(
    get, path = "/", operation_id = "find_calls", tag = "service",
    responses((status = 200, description = "The service and its calls", body = IndexResponse)),
)]
pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    let index = IndexResponse {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        description: env!("CARGO_PKG_DESCRIPTION"),
        documentation: "/docs",
        openapi: "/api/openapi.json",
        calls: calls(state.description.document()),
    };
    respond(HttpResponse::Ok(), &index)
}
