//! The API's own description: the OpenAPI document, made from the handlers, and pages that show it.
//!
//! The pages are Swagger UI, carried in the binary: nothing is fetched from anywhere.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::Config;

use super::{account, events, health, index, items, sessions, staff, user};
use crate::error::ApiError;

/// Where the pages are.
const PAGES: &str = "/docs/";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "authtokens",
        license(name = "MIT OR Apache-2.0"),
        description = "Accounts and revocable tokens for small apps. Register or log in, and send the token that you are \
            given as `Authorization: Token <token>` (`Bearer` works too). Every error is an object with the single \
            attribute `error`. Every path works with and without a trailing slash.",
    ),
    paths(
        index::show,
        health::alive,
        health::ready,
        account::register,
        account::log_in,
        account::log_out,
        sessions::end_all,
        user::show,
        user::update,
        user::delete,
        user::export,
        user::change_password,
        sessions::list,
        sessions::end,
        items::list_cellar,
        items::replace_cellar,
        items::add_to_cellar,
        items::remove_from_cellar,
        items::list_wants,
        items::replace_wants,
        items::add_to_wants,
        items::remove_from_wants,
        events::list_own,
        staff::list,
        staff::show,
        staff::change,
        staff::delete,
        staff::list_sessions,
        staff::end_sessions,
        staff::end_session,
        events::list,
    ),
    tags(
        (name = "account", description = "Register, log in, log out"),
        (name = "user", description = "The account behind the token"),
        (name = "lists", description = "What the user has and what the user wishes for"),
        (name = "sessions", description = "The tokens that are out, to be seen and ended one by one"),
        (name = "staff", description = "Other people's accounts, for staff and superusers"),
        (name = "service", description = "For whoever watches over the process"),
    ),
    modifiers(&TokenScheme, &CommonAnswers),
)]
struct Api;

/// How a token is presented, in the words of OpenAPI: it knows no scheme `Token`, so its synonym stands there.
struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("40 lowercase hex digits")
            .description(Some("The `token` that registering or logging in answered."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("Token", SecurityScheme::Http(scheme));
    }
}

/// What any call may answer, so that each need tell only what is its own.
struct CommonAnswers;

impl Modify for CommonAnswers {
    fn modify(&self, document: &mut Document) {
        let calls = document.paths.paths.iter_mut().filter(|(path, _)| path.starts_with("/api/"));
        for item in calls.map(|(_, item)| item) {
            let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            for operation in methods.into_iter().flatten() {
                let mut common = vec![
                    ("500", "A fault of the service"),
                    ("503", "The service cannot do this now; `Retry-After` says when to try again"),
                ];
                if operation.request_body.is_some() {
                    common.extend([
                        ("400", "The body is not what this call takes"),
                        ("408", "The body did not arrive in time"),
                        ("413", "The body is too large"),
                        ("415", "The body is not `application/json`, or is compressed"),
                    ]);
                }
                for (status, description) in common {
                    let error = Ref::from_schema_name("ErrorResponse");
                    let content = ContentBuilder::new().schema(Some(error)).build();
                    let answer =
                        ResponseBuilder::new().description(description).content("application/json", content).build();
                    operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(answer));
                }
            }
        }
    }
}

/// The OpenAPI document of this version.
#[must_use]
pub fn document() -> Document {
    Api::openapi()
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());

static UI: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/api/openapi.json").persist_authorization(true)));

pub(super) async fn show() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str())
}

pub(super) async fn page() -> Result<HttpResponse, ApiError> {
    let (html, _) = ui_file("")?;
    // The page's own links start at its folder; without the trailing slash they would start one above.
    let html = String::from_utf8_lossy(&html).replacen("<head>", &format!("<head><base href=\"{PAGES}\">"), 1);
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(html))
}

pub(super) async fn file(file: web::Path<String>) -> Result<HttpResponse, ApiError> {
    if file.as_str() == "index.html" {
        return page().await;
    }
    let (bytes, content_type) = ui_file(&file)?;
    Ok(HttpResponse::Ok().content_type(content_type).body(bytes))
}

fn ui_file(path: &str) -> Result<(Bytes, String), ApiError> {
    match utoipa_swagger_ui::serve(path, Arc::clone(&UI)) {
        Ok(Some(file)) => {
            // Most of them are in the binary, which nobody need copy.
            let bytes = match file.bytes {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => Bytes::from(bytes),
            };
            Ok((bytes, file.content_type))
        }
        Ok(None) => Err(ApiError::NotFound),
        Err(error) => Err(ApiError::Internal(error.to_string().into())),
    }
}
