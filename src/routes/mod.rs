//! The route table, to be read from top to bottom like the API's contents page.

mod account;
mod body;
mod client;
mod health;
mod index;

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use serde::Serialize;

use crate::error::ApiError;
use crate::json;

pub use body::BodyLimits;
pub use health::Readiness;

/// Every path, what may be done there, and what answers everything else.
pub fn table(app: &mut ServiceConfig) {
    app.service(at("/", "GET, HEAD").get(index::show).head(index::show))
        .service(at("/healthz", "GET, HEAD").get(health::alive).head(health::alive))
        .service(at("/readyz", "GET, HEAD").get(health::ready).head(health::ready))
        .service(at("/api/register", "POST").post(account::register))
        .service(at("/api/login", "POST").post(account::log_in))
        .service(at("/api/logout", "POST").post(account::log_out))
        .default_service(web::to(nothing_here));
}

/// A path in both its spellings. `allow` is what may be done there; a method outside it is told so.
fn at(path: &str, allow: &'static str) -> Resource {
    let with_slash = format!("{}/", path.trim_end_matches('/'));
    let paths = if path == with_slash { vec![with_slash] } else { vec![path.to_owned(), with_slash] };
    web::resource(paths).default_service(only(allow))
}

/// What answers the methods that a path has no handler for.
fn only(allow: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        if request.method() == Method::OPTIONS {
            Ok(HttpResponse::NoContent().insert_header((header::ALLOW, allow)).finish())
        } else {
            Err(ApiError::MethodNotAllowed { allow })
        }
    })
}

async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound)
}

/// A response with a JSON body.
fn respond<T: Serialize>(mut response: actix_web::HttpResponseBuilder, body: &T) -> Result<HttpResponse, ApiError> {
    match json::to_vec(body) {
        Ok(body) => Ok(response.content_type("application/json").body(body)),
        Err(error) => Err(ApiError::Internal(Box::new(error))),
    }
}
