//! Which other service asks: HTTP's Basic authentication (RFC 7617), by a service's name and its key.

use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpRequest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::LocalBoxFuture;

use crate::domain::service::ServiceName;
use crate::domain::token::PlainToken;
use crate::http::error::ApiError;
use crate::http::extract::caller::{client_ip, state_of};
use crate::http::extract::form::decoded;

/// A service that has shown its key. It is looked up before anything else of the request is read.
pub(crate) struct AuthenticatedService;

impl FromRequest for AuthenticatedService {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let presented = presented_key(request.headers());
        let (state, ip): (_, Option<IpAddr>) = (state_of(request), client_ip(request));
        Box::pin(async move {
            state?.accounts.admit_service(presented, ip).await?;
            Ok(Self)
        })
    }
}

/// The name and the key that the headers present, if they present exactly one of each.
fn presented_key(headers: &HeaderMap) -> Option<(ServiceName, PlainToken)> {
    let mut values = headers.get_all(AUTHORIZATION);
    let (first, None) = (values.next()?, values.next()) else { return None };
    let (scheme, credentials) = first.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let credentials = String::from_utf8(STANDARD.decode(credentials.trim_matches(' ')).ok()?).ok()?;
    let (name, key) = credentials.split_once(':')?;
    // OAuth has both written as in a form (RFC 6749, 2.3.1). No name and no key has a character that means something there.
    let (name, key) = (decoded(name.as_bytes())?, decoded(key.as_bytes())?);
    Some((ServiceName::parse(&name).ok()?, PlainToken::parse(&key)?))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const KEY: &str = "d96163b8bc9127d8c5d5839018580123c64a324b";

    fn presents(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        presented_key(&headers).is_some_and(|(name, key)| name.as_str() == "my-wiki" && key.reveal() == KEY)
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn a_name_and_a_key_are_read_as_http_and_as_oauth_write_them_and_in_no_other_way() {
        let plain = basic(&format!("my-wiki:{KEY}"));
        assert!(presents(&[&plain]));
        assert!(presents(&[&plain.replace("Basic", "bAsIc")]));
        assert!(presents(&[&basic(&format!("my%2Dwiki:{KEY}"))]));
        for bad in [
            String::new(),
            "Basic".to_owned(),
            "Basic !".to_owned(),
            basic("my-wiki"),
            basic("my-wiki:"),
            basic(&format!("my-wiki:{KEY} ")),
            basic(&format!("My-Wiki:{KEY}")),
            basic(&format!("my%2wiki:{KEY}")),
            basic(&format!("my-wiki:{}", KEY.to_uppercase())),
            plain.replace("Basic", "Token"),
        ] {
            assert!(!presents(&[&bad]), "{bad}");
        }
        assert!(!presents(&[]) && !presents(&[&plain, &plain]));
    }
}
