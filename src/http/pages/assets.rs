//! The style and the script of the pages under `/account`.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use crate::http::error::ApiError;
use crate::http::pages::templates::SCRIPT;
use crate::http::state::State;

/// A browser asks again after a day. The pages name the files with a version.
const KEPT: &str = "public, max-age=86400";

pub(crate) async fn file(state: State, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let pages = state.pages.as_ref().ok_or(ApiError::NotFound)?;
    let (content_type, body) = match name.as_str() {
        "page.css" => ("text/css; charset=utf-8", pages.style()),
        "page.js" => ("text/javascript; charset=utf-8", SCRIPT.into()),
        _ => return Err(ApiError::NotFound),
    };
    Ok(HttpResponse::Ok().content_type(content_type).insert_header((CACHE_CONTROL, KEPT)).body(body))
}
