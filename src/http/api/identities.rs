//! Identities: logins by what a provider says of somebody, from an app or by way of a browser, and what the caller's
//! account is linked to.

use actix_web::http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::Client as _;
use crate::accounts::identities::{
    Callback, FlowStart, GivenCode, GivenIdToken, GivenIdentity, IdentityError, IdentitySignIn, Linking, Newcomer,
    SignedIn,
};
use crate::accounts::throttle::limits::Call;
use crate::domain::identity::IdentityId;
use crate::domain::profile::{ProfileField, ProfileText};
use crate::domain::token::PlainToken;
use crate::domain::user::Username;
use crate::http::error::{ApiError, LAST_WAY_IN};
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::client::HttpClient;
use crate::http::extract::query::UnreadQuery;
use crate::http::json::{Malformed, Request};
use crate::http::state::State;
use crate::http::views::identity::{IdentityResponse, LinkOfferResponse, ProviderResponse};
use crate::http::views::second_factor::SecondFactorDueResponse;
use crate::http::views::session::SessionResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};

/// How long a parameter of a callback may be: a code of a provider, or its `state`, which is ours.
const MAX_PARAMETER: usize = 4096;

/// The providers that people can log in by
#[utoipa::path(
    get, path = "/api/login/providers", operation_id = "list_providers", tag = "identities",
    responses((status = 200, description = "In the order of the configuration", body = [ProviderResponse])),
)]
pub(crate) async fn list_providers(state: State) -> Result<HttpResponse, ApiError> {
    let accounts = &state.accounts;
    let show = |provider| ProviderResponse::new(provider, accounts.sends_browsers_to(provider));
    let providers: Vec<_> = accounts.identities.providers.iter().map(show).collect();
    respond(HttpResponse::Ok(), &providers)
}

/// An ID token, and what is known of somebody who may have no account yet.
#[derive(Deserialize, ToSchema)]
pub(crate) struct IdentityLoginRequest {
    /// Its name in `GET /api/login/providers`.
    #[schema(example = "google", nullable = false, required)]
    provider: Option<String>,
    /// As the provider gave it to the app. It opens one session.
    #[schema(nullable = false, required)]
    id_token: Option<String>,
    /// What the app asked the provider to put into the token; the token may have its SHA-256, in hex or base64url.
    #[schema(nullable = false)]
    nonce: Option<String>,
    /// Apple's: it is exchanged for what is revoked when the account is deleted.
    #[schema(nullable = false)]
    authorization_code: Option<String>,
    /// The name of a new account. Where none is given, one is made.
    #[schema(example = "AzureDiamond", min_length = 1, max_length = 30, nullable = false)]
    username: Option<String>,
    /// Of a new account; the provider is asked for none.
    #[schema(nullable = false, max_length = 150)]
    first_name: Option<String>,
    #[schema(nullable = false, max_length = 150)]
    last_name: Option<String>,
}

impl Request for IdentityLoginRequest {}

/// Log in by an ID token; where there is no account yet, one is made
#[utoipa::path(
    post, path = "/api/login/oidc", operation_id = "log_in_by_identity", tag = "identities",
    request_body(content = IdentityLoginRequest, example = json!({"provider": "google", "id_token": "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"})),
    responses(
        (status = 200, description = "A new session", body = SessionResponse),
        (status = 201, description = "The account is made", body = SessionResponse),
        (status = 400, description = "The name is taken, or a field is missing, mistyped or breaks its rule", body = ErrorResponse,
            example = json!({"error": "Invalid Data: id_token is required"})),
        (status = 401, description = "The ID token is worth nothing or was used before, or its account may not be used; or a second factor is due, and then `second_factor` is there", body = SecondFactorDueResponse,
            example = json!({"error": "What the provider said opens no account."})),
        (status = 403, description = "The account's address is not verified: where the service asks for that", body = ErrorResponse,
            example = json!({"error": "The address of this account is not verified. Open the link that was mailed to it, or reset the password."})),
        (status = 404, description = "There is no such provider", body = ErrorResponse,
            example = json!({"error": "This service does not offer this provider, or not this way."})),
        (status = 409, description = "An account has verified the address, or none may be made: log in to it within ten minutes, and give `link_token` to `POST /api/user/identities`", body = LinkOfferResponse,
            example = json!({"error": "Log in to your account otherwise, and link this identity there.", "link_token": "d96163b8bc9127d8c5d5839018580123c64a324b", "expires": "2015-01-04T23:01:35.144Z"})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_in(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: IdentityLoginRequest = body.read_with_password().await?;
    let newcomer = read_newcomer(body.username, body.first_name, body.last_name)?;
    let given = read_id_token(body.provider, body.id_token, body.nonce, body.authorization_code)?;
    let signed_in = state.accounts.sign_in_by_identity(admission, IdentitySignIn { given, newcomer }, &client).await?;
    welcome(signed_in)
}

fn welcome(SignedIn { opened, is_new }: SignedIn) -> Result<HttpResponse, ApiError> {
    let response = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    respond(response, &SessionResponse::from(opened))
}

/// Begin a login by way of a browser: it is sent to the provider
#[utoipa::path(
    get, path = "/api/login/oidc/{provider}/start", operation_id = "start_web_login", tag = "identities",
    params(
        ("provider" = String, Path, description = "Its name in `GET /api/login/providers`", example = "google"),
        ("return_to" = String, Query, description = "Where the browser goes in the end: one of the configured addresses, as it is written there", example = "https://app.example.org/signed-in"),
        ("code_challenge" = String, Query, description = "The base64url SHA-256 of a verifier that the app keeps (S256 of RFC 7636)", min_length = 43, max_length = 43, example = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("state" = Option<String>, Query, description = "What the app is given back with the code, and compares"),
        ("prompt" = Option<String>, Query, description = "`login` has an OpenID provider ask again who it is, for `POST /api/user/reauthenticate`", example = "login"),
    ),
    responses(
        (status = 303, description = "To the provider"),
        (status = 400, description = "A parameter is missing or breaks its rule", body = ErrorResponse,
            example = json!({"error": "Invalid Data: return_to must be one of identities.return_to, as it is written there"})),
        (status = 404, description = "There is no such provider, or no browser is sent there", body = ErrorResponse,
            example = json!({"error": "This service does not offer this provider, or not this way."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn start(
    state: State,
    client: HttpClient,
    provider: web::Path<String>,
    query: UnreadQuery,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let mut query = query.read()?;
    let mut take = |name| query.take(name, "a text", |text| Some(text.to_owned()));
    let start = FlowStart {
        return_to: take("return_to")?.ok_or(Malformed::Missing("return_to"))?,
        code_challenge: take("code_challenge")?.ok_or(Malformed::Missing("code_challenge"))?,
        state: take("state")?.unwrap_or_default(),
        asks_again: query.take("prompt", "login", |text| (text == "login").then_some(()))?.is_some(),
    };
    let started = state.accounts.begin_web_sign_in(admission, &provider, start, &client).await?;
    Ok(see_other(&started.0))
}

/// Where a provider sends the browser back to; it goes on to the app with `code` and `state`, or with `error` and `state`
#[utoipa::path(
    get, path = "/api/login/oidc/{provider}/callback", operation_id = "end_web_login", tag = "identities",
    params(
        ("provider" = String, Path, description = "Its name in `GET /api/login/providers`", example = "google"),
        ("state" = String, Query, description = "What the provider was given"),
        ("code" = Option<String>, Query, description = "The provider's, for us"),
        ("error" = Option<String>, Query, description = "In the place of the code"),
        ("iss" = Option<String>, Query, description = "Who the provider says that it is (RFC 9207)"),
    ),
    responses(
        (status = 303, description = "To the app. Its `code` is good for 60 s, once; `error` is `access_denied` or `login_failed`"),
        (status = 400, description = "No such login is under way", body = ErrorResponse,
            example = json!({"error": "Invalid Data: this login was ended before, or has expired"})),
    ),
)]
pub(crate) async fn come_back(
    state: State,
    client: HttpClient,
    provider: web::Path<String>,
    query: UnreadQuery,
) -> Result<HttpResponse, ApiError> {
    let mut query = query.read()?;
    let mut take = |name| query.take(name, "shorter", |text| Some(text.to_owned()).filter(|_| fits(text)));
    let callback = Callback {
        state: take("state")?.unwrap_or_default(),
        code: take("code")?,
        error: take("error")?,
        iss: take("iss")?,
    };
    end(&state, &client, &provider, callback).await
}

/// What a provider has a browser post.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is for the document: what is posted is read by name")]
struct CallbackForm {
    /// What the provider was given.
    state: String,
    /// The provider's, for us.
    #[schema(nullable = false)]
    code: Option<String>,
    /// In the place of the code.
    #[schema(nullable = false)]
    error: Option<String>,
    /// Who the provider says that it is (RFC 9207).
    #[schema(nullable = false)]
    iss: Option<String>,
}

/// The same where the provider has the browser post a form, as Apple does
#[utoipa::path(
    post, path = "/api/login/oidc/{provider}/callback", operation_id = "end_web_login_by_form", tag = "identities",
    params(("provider" = String, Path, description = "Its name in `GET /api/login/providers`", example = "apple")),
    request_body(content = CallbackForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "To the app. Its `code` is good for 60 s, once; `error` is `access_denied` or `login_failed`"),
        (status = 400, description = "No such login is under way", body = ErrorResponse,
            example = json!({"error": "Invalid Data: this login was ended before, or has expired"})),
        (status = 413, description = "The form is too large", body = ErrorResponse,
            example = json!({"error": "The body must be at most 16.0 KiB."})),
        (status = 415, description = "The body is no form, or is compressed", body = ErrorResponse,
            example = json!({"error": "The body must have the Content-Type application/x-www-form-urlencoded."})),
    ),
)]
pub(crate) async fn come_back_by_form(
    state: State,
    client: HttpClient,
    provider: web::Path<String>,
    body: UnreadBody,
) -> Result<HttpResponse, ApiError> {
    let mut form = body.read_form().await?;
    let mut take = |name| Some(form.take(name)).filter(|text| !text.is_empty() && fits(text));
    let callback = Callback {
        state: take("state").unwrap_or_default(),
        code: take("code"),
        error: take("error"),
        iss: take("iss"),
    };
    end(&state, &client, &provider, callback).await
}

fn fits(text: &str) -> bool {
    text.len() <= MAX_PARAMETER
}

async fn end(state: &State, client: &HttpClient, provider: &str, callback: Callback) -> Result<HttpResponse, ApiError> {
    match state.accounts.end_web_sign_in(provider, callback, client).await {
        Ok(returned) => Ok(see_other(&returned.0)),
        Err(IdentityError::Refused) => {
            Err(ApiError::InvalidData("this login was ended before, or has expired".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends a browser on: with GET, whatever it came with. Addresses of a login are neither kept nor told to the next site.
fn see_other(address: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, address))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .finish()
}

/// What the browser has brought back to the app, and what is known of somebody who may have no account yet.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ExchangeRequest {
    /// The `code` of the address that the browser was sent to. It counts once, within 60 s; where the name of a new account is
    /// refused, within another 60 s.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", nullable = false, required)]
    code: Option<String>,
    /// Of which the app gave the SHA-256 at the start.
    #[schema(example = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", nullable = false, required)]
    code_verifier: Option<String>,
    /// The name of a new account. Where none is given, one is made.
    #[schema(example = "AzureDiamond", min_length = 1, max_length = 30, nullable = false)]
    username: Option<String>,
    #[schema(nullable = false, max_length = 150)]
    first_name: Option<String>,
    #[schema(nullable = false, max_length = 150)]
    last_name: Option<String>,
}

impl Request for ExchangeRequest {}

/// Fetch the session of a login by way of a browser
#[utoipa::path(
    post, path = "/api/login/oidc/exchange", operation_id = "finish_web_login", tag = "identities",
    request_body(content = ExchangeRequest, example = json!({"code": "d96163b8bc9127d8c5d5839018580123c64a324b", "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"})),
    responses(
        (status = 200, description = "A new session", body = SessionResponse),
        (status = 201, description = "The account is made", body = SessionResponse),
        (status = 400, description = "The name is taken, or a field is missing, mistyped or breaks its rule", body = ErrorResponse,
            example = json!({"error": "Invalid Data: code_verifier is required"})),
        (status = 401, description = "The code or the verifier is wrong, was used or has expired, or the account may not be used; or a second factor is due, and then `second_factor` is there", body = SecondFactorDueResponse,
            example = json!({"error": "What the provider said opens no account."})),
        (status = 403, description = "The account's address is not verified: where the service asks for that", body = ErrorResponse,
            example = json!({"error": "The address of this account is not verified. Open the link that was mailed to it, or reset the password."})),
        (status = 409, description = "An account has verified the address, or none may be made: log in to it within ten minutes, and give `link_token` to `POST /api/user/identities`", body = LinkOfferResponse,
            example = json!({"error": "Log in to your account otherwise, and link this identity there.", "link_token": "d96163b8bc9127d8c5d5839018580123c64a324b", "expires": "2015-01-04T23:01:35.144Z"})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn exchange(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: ExchangeRequest = body.read_with_password().await?;
    // What is wrong with the name is found before the code is used up.
    let newcomer = read_newcomer(body.username, body.first_name, body.last_name)?;
    let given = read_code(body.code, body.code_verifier)?;
    let signed_in = state.accounts.finish_web_sign_in(admission, &given, newcomer, &client).await?;
    welcome(signed_in)
}

/// The identities that the caller's account is linked to, oldest first
#[utoipa::path(
    get, path = "/api/user/identities", operation_id = "list_identities", tag = "identities", security(("Token" = [])),
    responses(
        (status = 200, description = "All of them", body = [IdentityResponse]),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn list(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    let identities = state.accounts.list_identities(&caller).await?;
    let identities: Vec<_> = identities.into_iter().map(IdentityResponse::from).collect();
    respond(HttpResponse::Ok(), &identities)
}

/// What is to be linked: an ID token, what came of a login by way of a browser, or what a login answered that found no link.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LinkIdentityRequest {
    /// With `id_token`: its name in `GET /api/login/providers`.
    #[schema(example = "google", nullable = false)]
    provider: Option<String>,
    #[schema(nullable = false)]
    id_token: Option<String>,
    #[schema(nullable = false)]
    nonce: Option<String>,
    #[schema(nullable = false)]
    authorization_code: Option<String>,
    /// In the place of the ID token, the `code` of the address that a browser was sent to.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", nullable = false)]
    code: Option<String>,
    /// With `code`: that of which the app gave the SHA-256 at the start.
    #[schema(example = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", nullable = false)]
    code_verifier: Option<String>,
    /// In the place of the ID token, what a login answered with 409.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", nullable = false)]
    link_token: Option<String>,
}

impl Request for LinkIdentityRequest {}

/// Link an identity to the caller's account, by an ID token or by way of a browser in a fresh session, or by a link token in one that is fresh or was opened less than ten minutes ago
#[utoipa::path(
    post, path = "/api/user/identities", operation_id = "link_identity", tag = "identities", security(("Token" = [])),
    request_body(content = LinkIdentityRequest, example = json!({"link_token": "d96163b8bc9127d8c5d5839018580123c64a324b"})),
    responses(
        (status = 200, description = "It is linked", body = StatusResponse),
        (status = 400, description = "The ID token, the code or the link token is worth nothing or was used before, or the session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "There is no such provider", body = ErrorResponse,
            example = json!({"error": "This service does not offer this provider, or not this way."})),
        (status = 409, description = "Another account is linked to it, or this one has as many as it may have", body = ErrorResponse,
            example = json!({"error": "Another account is linked to this identity."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn link(
    Authenticated(caller): Authenticated,
    state: State,
    client: HttpClient,
    body: UnreadBody,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: LinkIdentityRequest = body.read_with_password().await?;
    let has_code = body.code.is_some() || body.code_verifier.is_some();
    let (linking, field) = match (body.link_token, body.id_token) {
        (Some(token), None) if !has_code => {
            (Linking::Token(PlainToken::parse(&token).ok_or_else(|| worthless("link_token"))?), "link_token")
        }
        (None, None) if has_code => {
            let given = read_code(body.code, body.code_verifier)?;
            (Linking::Shown(GivenIdentity::Code(given)), "code")
        }
        (None, id_token) if !has_code => {
            let given = read_id_token(body.provider, id_token, body.nonce, body.authorization_code)?;
            (Linking::Shown(GivenIdentity::IdToken(given)), "id_token")
        }
        _ => return Err(ApiError::InvalidData("give one of id_token, code and link_token".to_owned())),
    };
    let linked = state.accounts.link_identity(admission, &caller, linking).await;
    linked.map_err(|error| in_session(error, field))?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Unlink one of the caller's identities, in a fresh session; the last way into the account stays
#[utoipa::path(
    delete, path = "/api/user/identities/{id}", operation_id = "unlink_identity", tag = "identities", security(("Token" = [])),
    params(("id" = String, Path, description = "The identity's `id`", example = "5f0c1d3a9b7e24680f1e")),
    responses(
        (status = 200, description = "It is unlinked", body = StatusResponse),
        (status = 400, description = "The session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The caller has no such identity", body = ErrorResponse),
        (status = 409, description = "It is the last way into the account", body = ErrorResponse,
            example = json!({"error": LAST_WAY_IN})),
    ),
)]
pub(crate) async fn unlink(
    Authenticated(caller): Authenticated,
    id: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let id = IdentityId::parse(&id).ok_or(ApiError::NotFound)?;
    state.accounts.unlink_identity(&caller, id).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// A notice as Apple sends it.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AppleNoticeRequest {
    /// Signed by Apple.
    #[schema(nullable = false, required)]
    payload: Option<String>,
}

impl Request for AppleNoticeRequest {}

/// For Apple: take a signed notice of what somebody has withdrawn there
#[utoipa::path(
    post, path = "/api/apple/notifications", operation_id = "take_apple_notice", tag = "identities",
    request_body(content = AppleNoticeRequest),
    responses(
        (status = 200, description = "It is taken, or was before", body = StatusResponse),
        (status = 400, description = "Apple has not signed it, or not for this service", body = ErrorResponse,
            example = json!({"error": "Invalid Data: payload is worth nothing, was used, or has expired"})),
        (status = 404, description = "No provider is Apple", body = ErrorResponse,
            example = json!({"error": "This service does not offer this provider, or not this way."})),
        (status = 413, description = "The body is too large", body = ErrorResponse,
            example = json!({"error": "The body must be at most 16.0 KiB."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn take_apple_notice(
    state: State,
    client: HttpClient,
    body: UnreadBody,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: AppleNoticeRequest = body.read_with_password().await?;
    let payload = body.payload.ok_or(Malformed::Missing("payload"))?;
    let taken = state.accounts.take_apple_notice(admission, &payload).await;
    taken.map_err(|error| in_session(error, "payload"))?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Reads an ID token that an app gives.
pub(crate) fn read_id_token(
    provider: Option<String>,
    id_token: Option<String>,
    nonce: Option<String>,
    authorization_code: Option<String>,
) -> Result<GivenIdToken, Malformed> {
    Ok(GivenIdToken {
        provider: provider.ok_or(Malformed::Missing("provider"))?,
        id_token: id_token.ok_or(Malformed::Missing("id_token"))?,
        nonce,
        authorization_code,
    })
}

/// Reads what a browser has brought back to its app.
pub(crate) fn read_code(code: Option<String>, code_verifier: Option<String>) -> Result<GivenCode, Malformed> {
    Ok(GivenCode {
        code: code.ok_or(Malformed::Missing("code"))?,
        code_verifier: code_verifier.ok_or(Malformed::Missing("code_verifier"))?,
    })
}

fn read_newcomer(
    username: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
) -> Result<Newcomer, ApiError> {
    let username = username.map(|name| Username::parse(&name)).transpose()?;
    let names = [(ProfileField::FirstName, first_name), (ProfileField::LastName, last_name)];
    let given = names.into_iter().filter_map(|(field, text)| Some((field, text?)));
    let profile = given.map(|(field, text)| ProfileText::parse(field, text)).collect::<Result<_, _>>()?;
    Ok(Newcomer { username, profile })
}

fn worthless(field: &'static str) -> ApiError {
    ApiError::InvalidData(format!("{field} is worth nothing, was used, or has expired"))
}

/// The error of a call in a session, which stays live: a client must not take it for ended.
pub(crate) fn in_session(error: IdentityError, field: &'static str) -> ApiError {
    match error {
        IdentityError::Refused => worthless(field),
        error => error.into(),
    }
}
