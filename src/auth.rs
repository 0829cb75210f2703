//! Who is asking: the extractor that reads the token and finds its session.
//!
//! `Authorization: Token <40 lowercase hex digits>`, with `Bearer` as a synonym for tools that know only RFC 6750. The
//! API's source once calls the header `Authentication`; that name is read where `Authorization` is absent. A request
//! that fails here is answered before its body is read.

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;

use crate::error::ApiError;
use crate::repository::Repository;
use crate::token::{PlainToken, TokenDigest};
use crate::user::UserId;

/// The source's other name for the header.
const AUTHENTICATION: HeaderName = HeaderName::from_static("authentication");

/// A live session: proof that the request carries the token of an account that may be used.
pub struct Session {
    /// Whose it is.
    pub user_id: UserId,
    /// Which of the account's sessions it is.
    pub digest: TokenDigest,
}

impl FromRequest for Session {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let token = presented_token(request.headers());
        let repository = request.app_data::<web::Data<dyn Repository>>().cloned();
        Box::pin(async move {
            let digest = token.ok_or(ApiError::Unauthorized)?.digest();
            let repository = repository.ok_or_else(|| ApiError::Internal("no repository is configured".into()))?;
            let user_id = repository.find_session(&digest).await?.ok_or(ApiError::Unauthorized)?;
            Ok(Self { user_id, digest })
        })
    }
}

/// The token that the headers present, where they present exactly one. The same token twice is one token.
fn presented_token(headers: &HeaderMap) -> Option<PlainToken> {
    let name = if headers.contains_key(AUTHORIZATION) { AUTHORIZATION } else { AUTHENTICATION };
    let mut values = headers.get_all(name);
    let token = parse_credentials(values.next()?.to_str().ok()?)?;
    for value in values {
        let other = parse_credentials(value.to_str().ok()?)?;
        if other.digest() != token.digest() {
            return None;
        }
    }
    Some(token)
}

/// `credentials = auth-scheme 1*SP token68` of RFC 9110, narrowed to our schemes and our tokens.
fn parse_credentials(value: &str) -> Option<PlainToken> {
    let (scheme, token) = value.split_once(' ')?;
    let is_ours = scheme.eq_ignore_ascii_case("Token") || scheme.eq_ignore_ascii_case("Bearer");
    if is_ours { PlainToken::parse(token.trim_matches(' ')) } else { None }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "d96163b8bc9127d8c5d5839018580123c64a324b";

    fn presents(headers: &[(&'static str, String)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        presented_token(&map).is_some_and(|token| token.reveal() == TOKEN)
    }

    #[test]
    fn one_credential_may_be_given_twice_and_two_that_differ_may_not() {
        let ours = format!("Token {TOKEN}");
        let other = format!("Token {}", "0".repeat(40));
        assert!(presents(&[("authorization", ours.clone())]));
        assert!(presents(&[("authorization", ours.clone()), ("authorization", format!("Bearer {TOKEN}"))]));
        assert!(!presents(&[("authorization", ours.clone()), ("authorization", other.clone())]));
        assert!(!presents(&[("authorization", ours.clone()), ("authorization", "Basic abc".to_owned())]));
        assert!(!presents(&[("authorization", format!("{ours}, {other}"))]));
    }

    #[test]
    fn authentication_is_read_where_authorization_is_absent() {
        let ours = format!("Token {TOKEN}");
        assert!(presents(&[("authentication", ours.clone())]));
        assert!(!presents(&[("authorization", "Basic abc".to_owned()), ("authentication", ours.clone())]));
        assert!(presents(&[("authorization", ours), ("authentication", "Basic abc".to_owned())]));
    }

    proptest! {
        #[test]
        fn the_schemes_case_does_not_matter_and_bearer_is_a_synonym(
            scheme in "([Tt][Oo][Kk][Ee][Nn]|[Bb][Ee][Aa][Rr][Ee][Rr])", gap in " {1,3}", end in " {0,2}",
        ) {
            let value = format!("{scheme}{gap}{TOKEN}{end}");
            prop_assert!(parse_credentials(&value).is_some());
        }

        #[test]
        fn anything_else_is_no_credential(value in "(Token|Bearer|Basic|token)?[ \t]?[0-9a-fA-F]{0,45}[ ,;x]?") {
            let is_ours = value.split_once(' ').is_some_and(|(scheme, token)| {
                ["token", "bearer"].contains(&scheme.to_ascii_lowercase().as_str())
                    && PlainToken::parse(token.trim_matches(' ')).is_some()
            });
            prop_assert_eq!(parse_credentials(&value).is_some(), is_ours);
        }
    }
}
