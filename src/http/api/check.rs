//! `/api/check`: a proxy asks whether a request may pass, and who sends it (forward authentication).
//!
//! The answer is in headers, which the proxy copies to the application behind it. Each is always there, never empty and
//! printable ASCII: a proxy may let a client's own header through in the place of one that is missing or empty. A refusal
//! is 401 or 403 and nothing else, because nginx makes 500 of any other.

use std::fmt::Write as _;

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, web};

use crate::domain::holder::TokenHolder;
use crate::http::error::ApiError;
use crate::http::extract::caller::Unauthenticated;
use crate::http::state::State;
use crate::http::views::{ErrorResponse, StatusResponse, respond};

const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
const REMOTE_ID: HeaderName = HeaderName::from_static("remote-id");
const REMOTE_GROUPS: HeaderName = HeaderName::from_static("remote-groups");
const REMOTE_EMAIL: HeaderName = HeaderName::from_static("remote-email");

/// What stands where there is no verified address, or none of printable ASCII.
const NONE: &str = "none";

/// Whether a request may pass, and who sends it
#[utoipa::path(
    get, path = "/api/check", operation_id = "check_request", tag = "services", security(("Token" = [])),
    params(
        ("staff" = Option<String>, Query, description = "With `1`, only staff and superusers may pass"),
        ("verified" = Option<String>, Query, description = "With `1`, only those with a verified address may pass"),
    ),
    responses(
        (status = 200, description = "It may pass", body = StatusResponse, headers(
            ("Remote-User" = String, description = "The name of the account; percent-encoded where it is not printable ASCII"),
            ("Remote-Id" = String, description = "The account's public id, as in `sub` of an introspection"),
            ("Remote-Groups" = String, description = "`users`, `staff` and `superusers`, with commas between them"),
            ("Remote-Email" = String, description = "The verified address, or `none`"),
        )),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The account is not what the query asks for, or the query cannot be understood", body = ErrorResponse),
    ),
)]
pub(crate) async fn check(
    presented: Unauthenticated,
    request: HttpRequest,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let Unauthenticated { token, caller } = presented;
    let held = state.accounts.find_held_token(&token, &caller).await?;
    let holder = &*held.holder;
    let demanded = Demanded::read(request.query_string())?;
    if demanded.is_staff && !holder.rights.any() || demanded.is_verified && holder.verified_email.is_none() {
        return Err(ApiError::Forbidden);
    }
    let mut response = HttpResponse::Ok();
    for (name, value) in [
        (REMOTE_USER, header_text(holder.username.as_str())?),
        (REMOTE_ID, header_text(&holder.public_id.to_string())?),
        (REMOTE_GROUPS, HeaderValue::from_static(groups(holder))),
        (REMOTE_EMAIL, email(holder)),
    ] {
        response.insert_header((name, value));
    }
    respond(response, &StatusResponse::SUCCESS)
}

/// What the proxy demands of whoever may pass.
#[derive(Default)]
struct Demanded {
    is_staff: bool,
    is_verified: bool,
}

impl Demanded {
    /// What is not understood is refused: it may be a demand.
    fn read(query: &str) -> Result<Self, ApiError> {
        let unknown = ApiError::CheckRefused("This check takes staff=1 and verified=1, each once at most.");
        let mut demanded = Self::default();
        if query.is_empty() {
            return Ok(demanded);
        }
        let Ok(pairs) = web::Query::<Vec<(String, String)>>::from_query(query) else { return Err(unknown) };
        for (name, value) in pairs.into_inner() {
            let demand = match name.as_str() {
                "staff" => &mut demanded.is_staff,
                "verified" => &mut demanded.is_verified,
                _ => return Err(unknown),
            };
            if value != "1" || *demand {
                return Err(unknown);
            }
            *demand = true;
        }
        Ok(demanded)
    }
}

fn groups(holder: &TokenHolder) -> &'static str {
    match (holder.rights.is_staff, holder.rights.is_superuser) {
        (false, false) => "users",
        (true, false) => "users,staff",
        (false, true) => "users,superusers",
        (true, true) => "users,staff,superusers",
    }
}

/// A text in which no byte means something to a proxy: any but printable ASCII is percent-encoded, and so is `%`. No two
/// texts are written alike. A name of our own has none of these.
fn header_text(text: &str) -> Result<HeaderValue, ApiError> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    let value = if text.bytes().all(is_plain) {
        HeaderValue::from_str(text)
    } else {
        let mut encoded = String::with_capacity(text.len() * 3);
        for byte in text.bytes() {
            if is_plain(byte) {
                encoded.push(char::from(byte));
            } else {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        HeaderValue::from_str(&encoded)
    };
    value.map_err(|error| ApiError::Internal(Box::new(error)))
}

/// The verified address as it is. One that is not printable ASCII is not given: written otherwise it would be another one.
fn email(holder: &TokenHolder) -> HeaderValue {
    let email = holder.verified_email.as_deref().filter(|email| email.bytes().all(|byte| byte.is_ascii_graphic()));
    email.and_then(|email| HeaderValue::from_str(email).ok()).unwrap_or(HeaderValue::from_static(NONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_empty_and_always_printable_and_no_two_are_alike() {
        for (name, expected) in [
            ("AzureDiamond", "AzureDiamond"),
            ("é b", "%C3%A9%20b"),
            ("%C3%A9%20b", "%25C3%25A9%2520b"),
            ("a,b", "a,b"),
        ] {
            assert_eq!(header_text(name).unwrap(), expected);
        }
    }

    #[test]
    fn a_demand_that_is_not_understood_is_refused() {
        for (query, expected) in [
            ("", Some((false, false))),
            ("staff=1", Some((true, false))),
            ("verified=1&staff=1", Some((true, true))),
            ("staff", None),
            ("staff=0", None),
            ("staff=true", None),
            ("staff=1&staff=1", None),
            ("Staff=1", None),
            ("admin=1", None),
        ] {
            let read = Demanded::read(query).ok().map(|demanded| (demanded.is_staff, demanded.is_verified));
            assert_eq!(read, expected, "{query}");
        }
    }
}
