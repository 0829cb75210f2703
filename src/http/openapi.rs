//! The API's own description: the OpenAPI document, made from the handlers, and pages that show it.
//!
//! The page is Swagger UI, carried in the binary: nothing is fetched from anywhere.

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, ETag, Encoding, EntityTag, HeaderValue, IfNoneMatch, VARY,
};
use actix_web::web::{Bytes, Header};
use actix_web::{HttpResponse, web};
use bytesize::ByteSize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use crate::domain::token::hex;
use crate::http::api::{account, events, health, index, items, sessions, staff, user};
use crate::http::error::ApiError;
use crate::http::extract::body::NOT_JSON;

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
    modifiers(&TokenScheme, &CommonAnswers, &Sentences),
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
        for operation in operations(document, "/api/") {
            let mut common = vec![
                ("500", "A fault of the service"),
                ("503", "The service cannot do this now; `Retry-After` says when to try again"),
            ];
            if operation.request_body.is_some() {
                common.extend([
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

/// The sentence of each answer that is an error, where the call itself gives none. Those of a 400 are the call's own.
struct Sentences;

impl Modify for Sentences {
    fn modify(&self, document: &mut Document) {
        for operation in operations(document, "/") {
            // Whatever takes a password is throttled.
            let takes_password = operation.responses.responses.contains_key("429");
            for (status, answer) in &mut operation.responses.responses {
                let Some(error) = usual_error(status) else { continue };
                let RefOr::T(answer) = answer else { continue };
                let error = if status == "413" && takes_password { too_large(ByteSize::kib(16)) } else { error };
                for content in answer.content.values_mut() {
                    let RefOr::T(content) = content else { continue };
                    content.example.get_or_insert_with(|| json!({"error": error.to_string()}));
                }
            }
        }
    }
}

fn usual_error(status: &str) -> Option<ApiError> {
    Some(match status {
        "401" => ApiError::Unauthorized,
        "403" => ApiError::Forbidden,
        "404" => ApiError::NotFound,
        "408" => ApiError::BodyTimeout,
        "409" => ApiError::LastSuperuser,
        "413" => too_large(ByteSize::mib(1)),
        "415" => ApiError::UnsupportedMediaType { why: NOT_JSON },
        "429" => ApiError::TooManyRequests { retry_after: 1 },
        "500" => ApiError::Internal("an example".into()),
        "503" => ApiError::Unavailable { retry_after: 1, cause: None },
        _ => return None,
    })
}

fn too_large(limit: ByteSize) -> ApiError {
    ApiError::BodyTooLarge { limit }
}

fn operations<'a>(document: &'a mut Document, below: &str) -> impl Iterator<Item = &'a mut Operation> {
    let items = document.paths.paths.iter_mut().filter(move |(path, _)| path.starts_with(below));
    items.flat_map(|(_, item)| {
        [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
    })
}

/// The OpenAPI document of this version.
#[must_use]
pub fn document() -> Document {
    Api::openapi()
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());

/// A file that the page needs.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
}

/// A file of Swagger UI, as build.rs has unpacked it.
macro_rules! unpacked {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: [Asset; 5] = [
    Asset {
        name: "swagger-ui.css",
        content_type: CSS,
        plain: unpacked!("swagger-ui.css"),
        gzip: Some(unpacked!("swagger-ui.css.gz")),
    },
    Asset {
        name: "swagger-ui-bundle.js",
        content_type: JAVASCRIPT,
        plain: unpacked!("swagger-ui-bundle.js"),
        gzip: Some(unpacked!("swagger-ui-bundle.js.gz")),
    },
    Asset { name: "favicon-32x32.png", content_type: "image/png", plain: unpacked!("favicon-32x32.png"), gzip: None },
    Asset { name: "page.css", content_type: CSS, plain: include_bytes!("pages/docs.css"), gzip: None },
    Asset { name: "page.js", content_type: JAVASCRIPT, plain: include_bytes!("pages/docs.js"), gzip: None },
];

const PAGE: &str = include_str!("pages/docs.html");

/// One tag for the page and all that it needs: they are of one release. The page names its files with it, so that none
/// is taken for one of another release that a browser has kept.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let parts = ASSETS.iter().map(|asset| asset.plain).chain([PAGE.as_bytes()]);
    hex(&parts.fold(Sha256::new(), Sha256::chain_update).finalize()[..8])
});

static TAGGED_PAGE: LazyLock<String> = LazyLock::new(|| PAGE.replace("VERSION", &TAG));

/// A browser asks each time whether it has changed.
const REVALIDATED: &str = "no-cache";

/// A browser asks again after a day.
const KEPT: &str = "public, max-age=86400";

pub(crate) async fn show() -> HttpResponse {
    HttpResponse::Ok().body(DOCUMENT.as_str())
}

pub(crate) async fn page(if_none_match: Option<Header<IfNoneMatch>>) -> HttpResponse {
    answer(if_none_match, REVALIDATED, "text/html; charset=utf-8", TAGGED_PAGE.as_bytes())
}

pub(crate) async fn file(
    name: web::Path<String>,
    if_none_match: Option<Header<IfNoneMatch>>,
    accepted: Option<Header<AcceptEncoding>>,
) -> Result<HttpResponse, ApiError> {
    if name.as_str() == "index.html" {
        return Ok(page(if_none_match).await);
    }
    let asset = ASSETS.iter().find(|asset| asset.name == name.as_str()).ok_or(ApiError::NotFound)?;
    let takes_gzip = accepted.is_some_and(|Header(accepted)| {
        accepted.negotiate([Encoding::gzip(), Encoding::identity()].iter()) == Some(Encoding::gzip())
    });
    let gzip = asset.gzip.filter(|_| takes_gzip);
    let mut response = answer(if_none_match, KEPT, asset.content_type, gzip.unwrap_or(asset.plain));
    if gzip.is_some() && response.status() == StatusCode::OK {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

/// The page or a file of it, or that the client has it already.
fn answer(
    if_none_match: Option<Header<IfNoneMatch>>,
    cache_control: &'static str,
    content_type: &'static str,
    body: &'static [u8],
) -> HttpResponse {
    // Weak: it is the same whether it is compressed or not.
    let tag = EntityTag::new_weak(TAG.clone());
    let is_known = if_none_match.is_some_and(|Header(known)| match known {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|known| known.weak_eq(&tag)),
    });
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.content_type(content_type).insert_header((CACHE_CONTROL, cache_control)).insert_header(ETag(tag));
    if is_known { response.finish() } else { response.body(Bytes::from_static(body)) }
}
