//! The pages at `/docs`: Swagger UI, which shows the OpenAPI document. All of it is in the binary; nothing is fetched
//! from elsewhere.

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, ETag, Encoding, EntityTag, HeaderValue, IfNoneMatch, VARY,
};
use actix_web::web::{Bytes, Header};
use actix_web::{HttpResponse, web};
use sha2::{Digest as _, Sha256};

use crate::domain::token::hex;
use crate::http::error::ApiError;
use crate::http::state::State;

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
    Asset { name: "page.css", content_type: CSS, plain: include_bytes!("docs.css"), gzip: None },
    Asset { name: "page.js", content_type: JAVASCRIPT, plain: include_bytes!("docs.js"), gzip: None },
];

const PAGE: &str = include_str!("docs.html");

/// One `ETag` for the page and its files, which are of one release. The page names its files with it, so that a browser
/// does not use a cached one of another release.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let parts = ASSETS.iter().map(|asset| asset.plain).chain([PAGE.as_bytes()]);
    hex(&parts.fold(Sha256::new(), Sha256::chain_update).finalize()[..8])
});

static TAGGED_PAGE: LazyLock<String> = LazyLock::new(|| PAGE.replace("VERSION", &TAG));

/// A browser must ask each time whether it has changed.
const REVALIDATED: &str = "no-cache";

/// A browser asks again after a day.
const KEPT: &str = "public, max-age=86400";

pub(crate) async fn document(state: State) -> HttpResponse {
    HttpResponse::Ok().body(state.description.json())
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

/// The page or one of its files, or 304 where the client has it already.
fn answer(
    if_none_match: Option<Header<IfNoneMatch>>,
    cache_control: &'static str,
    content_type: &'static str,
    body: &'static [u8],
) -> HttpResponse {
    // Weak, because it is the same for the compressed and the plain file.
    let tag = EntityTag::new_weak(TAG.clone());
    let is_known = if_none_match.is_some_and(|Header(known)| match known {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|known| known.weak_eq(&tag)),
    });
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.content_type(content_type).insert_header((CACHE_CONTROL, cache_control)).insert_header(ETag(tag));
    if is_known { response.finish() } else { response.body(Bytes::from_static(body)) }
}
