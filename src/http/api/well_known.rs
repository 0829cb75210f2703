//! `/.well-known/`: which pages and apps may use the domain's passkeys.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;

use crate::http::error::ApiError;
use crate::http::state::State;
use crate::http::views::ErrorResponse;

/// Whoever fetches them asks again after an hour.
const KEPT: &str = "public, max-age=3600";

fn answer(document: Option<&Bytes>) -> Result<HttpResponse, ApiError> {
    let document = document.ok_or(ApiError::NotFound)?.clone();
    let mut response = HttpResponse::Ok();
    Ok(response.insert_header((CONTENT_TYPE, "application/json")).insert_header((CACHE_CONTROL, KEPT)).body(document))
}

/// The origins of pages that may use the domain's passkeys
#[utoipa::path(
    get, path = "/.well-known/webauthn", operation_id = "list_related_origins", tag = "passkeys",
    responses(
        (status = 200, description = "As WebAuthn has it", body = Object, example = json!({"origins": ["https://example.org"]})),
        (status = 404, description = "None are configured", body = ErrorResponse),
    ),
)]
pub(crate) async fn origins(state: State) -> Result<HttpResponse, ApiError> {
    answer(state.well_known.origins.as_ref())
}

/// The apps of iOS that may use the domain's passkeys
#[utoipa::path(
    get, path = "/.well-known/apple-app-site-association", operation_id = "list_apple_apps", tag = "passkeys",
    responses(
        (status = 200, description = "As Apple has it", body = Object, example = json!({"webcredentials": {"apps": ["ABCDE12345.org.example.app"]}})),
        (status = 404, description = "None are configured", body = ErrorResponse),
    ),
)]
pub(crate) async fn apple_apps(state: State) -> Result<HttpResponse, ApiError> {
    answer(state.well_known.apple_apps.as_ref())
}

/// The apps of Android that may use the domain's passkeys
#[utoipa::path(
    get, path = "/.well-known/assetlinks.json", operation_id = "list_android_apps", tag = "passkeys",
    responses(
        (status = 200, description = "As Google has it", body = Vec<Object>, example = json!([{"relation": ["delegate_permission/common.get_login_creds"], "target": {"namespace": "android_app", "package_name": "org.example.app", "sha256_cert_fingerprints": ["AB:CD"]}}])),
        (status = 404, description = "None are configured", body = ErrorResponse),
    ),
)]
pub(crate) async fn android_apps(state: State) -> Result<HttpResponse, ApiError> {
    answer(state.well_known.android_apps.as_ref())
}
