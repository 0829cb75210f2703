//! The pages at `/docs`: Swagger UI, which shows the OpenAPI document. All of it is in the binary; nothing is fetched
//! from elsewhere. The large files are in it as gzip alone.

use std::io::Read as _;
use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, ETag, Encoding, EntityTag, HeaderValue, IfNoneMatch, VARY,
};
use actix_web::web::{Bytes, Header};
use actix_web::{HttpResponse, web};
use flate2::bufread::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::domain::token::hex;
use crate::http::document::SERVED;
use crate::http::error::ApiError;

/// A file that the page needs.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: Content,
}

enum Content {
    Plain(&'static [u8]),
    Gzip {
        packed: &'static [u8],
        /// For clients that do not take gzip, which are few: unpacked for the first of them, and kept, so that they
        /// cannot make the server do it again and again.
        plain: LazyLock<Vec<u8>>,
    },
}

impl Content {
    /// What is in the binary.
    fn stored(&self) -> &'static [u8] {
        match self {
            Self::Plain(bytes) | Self::Gzip { packed: bytes, .. } => bytes,
        }
    }
}

/// build.rs has made the gzip files, and has made them whole.
fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut plain).expect("a file of the binary is whole");
    plain
}

/// A file of Swagger UI, as build.rs has left it.
macro_rules! built {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

/// A large file of Swagger UI.
macro_rules! packed {
    ($name:literal) => {
        Content::Gzip { packed: built!($name), plain: LazyLock::new(|| unpacked(built!($name))) }
    };
}

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: [Asset; 5] = [
    Asset { name: "swagger-ui.css", content_type: CSS, content: packed!("swagger-ui.css.gz") },
    Asset { name: "swagger-ui-bundle.js", content_type: JAVASCRIPT, content: packed!("swagger-ui-bundle.js.gz") },
    Asset {
        name: "favicon-32x32.png",
        content_type: "image/png",
        content: Content::Plain(built!("favicon-32x32.png")),
    },
    Asset { name: "page.css", content_type: CSS, content: Content::Plain(include_bytes!("docs.css")) },
    Asset { name: "page.js", content_type: JAVASCRIPT, content: Content::Plain(include_bytes!("docs.js")) },
];

const PAGE: &str = include_str!("docs.html");

/// One `ETag` for the page and its files, which are of one release. The page names its files with it, so that a browser
/// does not use a cached one of another release.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let parts = ASSETS.iter().map(|asset| asset.content.stored()).chain([PAGE.as_bytes()]);
    hex(&parts.fold(Sha256::new(), Sha256::chain_update).finalize()[..8])
});

static TAGGED_PAGE: LazyLock<String> = LazyLock::new(|| PAGE.replace("VERSION", &TAG));

/// A browser must ask each time whether it has changed.
const REVALIDATED: &str = "no-cache";

/// A browser asks again after a day.
const KEPT: &str = "public, max-age=86400";

pub(crate) async fn document() -> HttpResponse {
    HttpResponse::Ok().body(SERVED.clone())
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
    let (body, is_gzip): (&'static [u8], bool) = match &asset.content {
        Content::Plain(bytes) => (bytes, false),
        Content::Gzip { packed, .. } if takes_gzip => (packed, true),
        Content::Gzip { plain, .. } => (plain, false),
    };
    let mut response = answer(if_none_match, KEPT, asset.content_type, body);
    if is_gzip && response.status() == StatusCode::OK {
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
