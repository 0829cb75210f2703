//! Who asks: the extractors that read the token and find its session.
//!
//! `Authorization: Token <40 lowercase hex digits>`, with `Bearer` as a synonym for tools that know only RFC 6750. A token
//! that was imported from another system may look otherwise. The API specification once calls the header
//! `Authentication`; that name is read where `Authorization` is absent. A request that fails here is answered before its
//! body is read.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use crate::domain::session::Caller;
use crate::domain::token::PresentedToken;
use crate::http::error::ApiError;
use crate::http::extract::proxy::TrustedProxies;
use crate::http::state::{NO_STATE, State};

/// The API specification's other name for the header.
const AUTHENTICATION: HeaderName = HeaderName::from_static("authentication");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address, by the peer and the trusted proxies.
#[must_use]
pub fn client_ip(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    let state = request.app_data::<State>();
    Some(state.map_or(peer, |state| client_behind(&state.proxies, peer, request.headers())))
}

/// The same, where the proxies and the peer are known already.
#[must_use]
pub fn client_behind(proxies: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    // Lossily: a client's malformed bytes must not hide what a proxy has added after them.
    let forwarded = headers.get_all(X_FORWARDED_FOR).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let forwarded: Vec<_> = forwarded.collect();
    proxies.client(peer, forwarded.iter().map(AsRef::as_ref))
}

pub(super) fn state_of(request: &HttpRequest) -> Result<State, ApiError> {
    request.app_data::<State>().cloned().ok_or_else(|| ApiError::Internal(NO_STATE.into()))
}

/// A token of a possible form, not yet authenticated: for a handler whose one call to the store looks the session up
/// anyway.
pub(crate) struct Unauthenticated {
    pub(crate) token: PresentedToken,
    pub(crate) caller: Caller,
}

impl Unauthenticated {
    fn read(request: &HttpRequest, state: &State) -> Result<Self, ApiError> {
        let token = presented_token(request.headers()).ok_or(ApiError::Unauthorized)?;
        Ok(Self::of(token, client_ip(request), state))
    }

    /// That of a token which came otherwise than in the header.
    pub(crate) fn of(token: PresentedToken, ip: Option<IpAddr>, state: &State) -> Self {
        let cutoffs = state.accounts.session_policy.cutoffs_at(state.accounts.clock.now());
        let caller = Caller { digest: token.digest(), cutoffs, ip };
        Self { token, caller }
    }
}

impl FromRequest for Unauthenticated {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(state_of(request).and_then(|state| Self::read(request, &state)))
    }
}

/// A caller whose session was live a moment ago. It is looked up before anything else of the request is read.
pub(crate) struct Authenticated(pub(crate) Caller);

impl FromRequest for Authenticated {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let presented = state_of(request).and_then(|state| Ok((Unauthenticated::read(request, &state)?, state)));
        Box::pin(async move {
            let (Unauthenticated { token, caller }, state) = presented?;
            state.accounts.authenticate(&token, &caller).await?;
            Ok(Self(caller))
        })
    }
}

/// The token that the headers present, if they present exactly one. The same token twice counts as one.
fn presented_token(headers: &HeaderMap) -> Option<PresentedToken> {
    let mut values = headers.get_all(AUTHORIZATION);
    let mut first = values.next();
    if first.is_none() {
        values = headers.get_all(AUTHENTICATION);
        first = values.next();
    }
    let token = parse_credentials(first?.to_str().ok()?)?;
    for value in values {
        let other = parse_credentials(value.to_str().ok()?)?;
        if other.digest() != token.digest() {
            return None;
        }
    }
    Some(token)
}

/// `credentials = auth-scheme 1*SP token68` of RFC 9110, narrowed to our schemes and to tokens of a bounded length.
fn parse_credentials(value: &str) -> Option<PresentedToken> {
    let (scheme, token) = value.split_once(' ')?;
    let is_ours = scheme.eq_ignore_ascii_case("Token") || scheme.eq_ignore_ascii_case("Bearer");
    if is_ours { PresentedToken::parse(token.trim_matches(' ')) } else { None }
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
        presented_token(&map)
            .is_some_and(|token| matches!(token, PresentedToken::Ours(token) if token.reveal() == TOKEN))
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
            prop_assert!(matches!(parse_credentials(&value), Some(PresentedToken::Ours(_))));
        }

        #[test]
        fn anything_else_is_no_credential(value in "(Token|Bearer|Basic|token)?[ \t]?[0-9a-fA-F]{0,45}[ ,;x]?") {
            let is_ours = value.split_once(' ').is_some_and(|(scheme, token)| {
                ["token", "bearer"].contains(&scheme.to_ascii_lowercase().as_str())
                    && PresentedToken::parse(token.trim_matches(' ')).is_some()
            });
            prop_assert_eq!(parse_credentials(&value).is_some(), is_ours);
        }
    }
}
