//! `/api/user/passkeys` and what passkeys are used for: a login without a password, and making a session fresh.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::Client as _;
use crate::accounts::throttle::limits::Call;
use crate::domain::passkey::{PasskeyId, PasskeyName};
use crate::http::api::second_factor::FactorRequest;
use crate::http::error::{ApiError, LAST_WAY_IN};
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::client::HttpClient;
use crate::http::extract::passkey::{AssertionRequest, AttestationRequest};
use crate::http::json::{Malformed, Request};
use crate::http::state::State;
use crate::http::views::passkey::{CreationResponse, PasskeyResponse, RequestResponse};
use crate::http::views::session::SessionResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};

/// What a passkey is called that was given no name.
const UNNAMED: &str = "Passkey";

/// Begin to add a passkey: what a browser needs for making it
///
/// The session must be fresh, and where the account has an authenticator app, a code of it or a recovery code must be
/// given: a passkey is both factors. The answer can be finished for five minutes, once.
#[utoipa::path(
    post, path = "/api/user/passkeys/options", operation_id = "begin_passkey", tag = "passkeys", security(("Token" = [])),
    request_body(content = FactorRequest, description = "Needed where the account has an authenticator app",
        example = json!({"code": "123456"})),
    responses(
        (status = 200, description = "For `navigator.credentials.create()`", body = CreationResponse),
        (status = 400, description = "The session is not fresh, or the code is missing or wrong", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service has no passkeys", body = ErrorResponse,
            example = json!({"error": "This service has no passkeys."})),
        (status = 429, description = "Too many wrong codes; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn begin(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    state.accounts.passkeys()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let given = if body.is_absent() { None } else { body.read_with_password::<FactorRequest>().await?.read()? };
    let (options, replacement) = state.accounts.begin_passkey(admission, &caller, given.as_ref(), &client).await?;
    respond(HttpResponse::Ok(), &CreationResponse::of(options, replacement.as_ref()))
}

/// A passkey that a browser has made, and what its owner calls it.
#[derive(Deserialize, ToSchema)]
#[schema(as = AddPasskeyRequest)]
pub(crate) struct AddRequest {
    #[schema(example = "Phone", min_length = 1, max_length = 64, nullable = false)]
    name: Option<String>,
    #[schema(nullable = false, required)]
    passkey: Option<AttestationRequest>,
}

impl Request for AddRequest {}

/// Add the passkey that a browser has made
#[utoipa::path(
    post, path = "/api/user/passkeys", operation_id = "add_passkey", tag = "passkeys", security(("Token" = [])),
    request_body = AddRequest,
    responses(
        (status = 201, description = "It opens the account from now on", body = PasskeyResponse),
        (status = 400, description = "It does not verify, its challenge has expired, or the session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the passkey does not verify, or its challenge has expired"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service has no passkeys", body = ErrorResponse,
            example = json!({"error": "This service has no passkeys."})),
        (status = 409, description = "It is an account's already, or the account has 20", body = ErrorResponse,
            example = json!({"error": "This passkey is an account's already."})),
        (status = 413, description = "The body is too large", body = ErrorResponse,
            example = json!({"error": "The body must be at most 16.0 KiB."})),
    ),
)]
pub(crate) async fn add(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    state: State,
) -> Result<HttpResponse, ApiError> {
    state.accounts.passkeys()?;
    let body: AddRequest = body.read_with_password().await?;
    let name = PasskeyName::parse(body.name.as_deref().unwrap_or(UNNAMED))?;
    let made = body.passkey.ok_or(Malformed::Missing("passkey"))?.read()?;
    let passkey = state.accounts.add_passkey(&caller, name, made).await?;
    respond(HttpResponse::Created(), &PasskeyResponse::from(passkey))
}

/// The caller's passkeys, oldest first
#[utoipa::path(
    get, path = "/api/user/passkeys", operation_id = "list_passkeys", tag = "passkeys", security(("Token" = [])),
    responses(
        (status = 200, description = "All of them", body = [PasskeyResponse]),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn list(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    let passkeys = state.accounts.list_passkeys(&caller).await?;
    let passkeys: Vec<_> = passkeys.into_iter().map(PasskeyResponse::from).collect();
    respond(HttpResponse::Ok(), &passkeys)
}

/// What a passkey is to be called.
#[derive(Deserialize, ToSchema)]
#[schema(as = RenamePasskeyRequest)]
pub(crate) struct RenameRequest {
    #[schema(example = "Phone", min_length = 1, max_length = 64)]
    name: String,
}

impl Request for RenameRequest {}

/// Call one of the caller's passkeys otherwise
#[utoipa::path(
    patch, path = "/api/user/passkeys/{id}", operation_id = "rename_passkey", tag = "passkeys", security(("Token" = [])),
    params(("id" = String, Path, description = "The passkey's `id`", example = "5f0c1d3a9b7e24685f0c")),
    request_body(content = RenameRequest, example = json!({"name": "Phone"})),
    responses(
        (status = 200, description = "The passkey", body = PasskeyResponse),
        (status = 400, description = "The name breaks its rule", body = ErrorResponse,
            example = json!({"error": "Invalid Data: name is required"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The caller has no passkey of this id", body = ErrorResponse),
    ),
)]
pub(crate) async fn rename(
    Authenticated(caller): Authenticated,
    id: web::Path<String>,
    body: UnreadBody,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let id = PasskeyId::parse(&id).ok_or(ApiError::NotFound)?;
    let body: RenameRequest = body.read().await?;
    let name = PasskeyName::parse(&body.name)?;
    let passkey = state.accounts.rename_passkey(&caller, id, name).await?;
    respond(HttpResponse::Ok(), &PasskeyResponse::from(passkey))
}

/// Remove one of the caller's passkeys; the session must be fresh
#[utoipa::path(
    delete, path = "/api/user/passkeys/{id}", operation_id = "remove_passkey", tag = "passkeys", security(("Token" = [])),
    params(("id" = String, Path, description = "The passkey's `id`", example = "5f0c1d3a9b7e24685f0c")),
    responses(
        (status = 200, description = "It opens the account no more", body = StatusResponse),
        (status = 400, description = "The session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The caller has no passkey of this id", body = ErrorResponse),
        (status = 409, description = "It is the last way into the account", body = ErrorResponse,
            example = json!({"error": LAST_WAY_IN})),
    ),
)]
pub(crate) async fn remove(
    Authenticated(caller): Authenticated,
    id: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let id = PasskeyId::parse(&id).ok_or(ApiError::NotFound)?;
    state.accounts.remove_passkey(&caller, id).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Nothing is needed.
#[derive(Deserialize, ToSchema)]
#[schema(as = PasskeyLoginOptionsRequest)]
pub(crate) struct Nothing {}

impl Request for Nothing {}

/// Begin a login by a passkey: what a browser needs for using one
///
/// The same is asked for a passkey as the second factor. The answer can be finished for five minutes, once.
#[utoipa::path(
    post, path = "/api/login/passkey/options", operation_id = "begin_passkey_login", tag = "passkeys",
    request_body(content = Nothing, example = json!({})),
    responses(
        (status = 200, description = "For `navigator.credentials.get()`", body = RequestResponse),
        (status = 400, description = "The body is malformed", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the body must be a JSON object"})),
        (status = 404, description = "The service has no passkeys", body = ErrorResponse,
            example = json!({"error": "This service has no passkeys."})),
        (status = 429, description = "Too many attempts, from this address or in all; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn begin_login(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    state.accounts.passkeys()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let Nothing {} = body.read_with_password().await?;
    let options = state.accounts.begin_passkey_sign_in(admission, &client).await?;
    respond(HttpResponse::Ok(), &RequestResponse::from(options))
}

/// A passkey that a browser has used.
#[derive(Deserialize, ToSchema)]
#[schema(as = PasskeyLoginRequest)]
pub(crate) struct LoginRequest {
    #[schema(nullable = false, required)]
    passkey: Option<AssertionRequest>,
}

impl Request for LoginRequest {}

/// Get a new token by a passkey
#[utoipa::path(
    post, path = "/api/login/passkey", operation_id = "log_in_by_passkey", tag = "passkeys", request_body = LoginRequest,
    responses(
        (status = 200, description = "A new session; no second factor is asked for", body = SessionResponse),
        (status = 400, description = "A field is missing or mistyped", body = ErrorResponse,
            example = json!({"error": "Invalid Data: passkey is required"})),
        (status = 401, description = "It does not verify, opens no account that may be used, or its challenge has expired", body = ErrorResponse,
            example = json!({"error": "The passkey opens no account."})),
        (status = 403, description = "The account's address is not verified: where the service asks for that", body = ErrorResponse,
            example = json!({"error": "The address of this account is not verified. Open the link that was mailed to it, or reset the password."})),
        (status = 404, description = "The service has no passkeys", body = ErrorResponse,
            example = json!({"error": "This service has no passkeys."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_in(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    state.accounts.passkeys()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: LoginRequest = body.read_with_password().await?;
    let used = body.passkey.ok_or(Malformed::Missing("passkey"))?.read()?;
    let opened = state.accounts.sign_in_by_passkey(admission, used, &client).await?;
    respond(HttpResponse::Ok(), &SessionResponse::from(opened))
}

/// Begin to make the session fresh by a passkey: what a browser needs for using one of the account's
///
/// What it answers goes to `POST /api/user/reauthenticate`, as `passkey`.
#[utoipa::path(
    post, path = "/api/user/reauthenticate/passkey", operation_id = "begin_passkey_reauthentication", tag = "passkeys", security(("Token" = [])),
    responses(
        (status = 200, description = "For `navigator.credentials.get()`", body = RequestResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service has no passkeys, or the account has none", body = ErrorResponse,
            example = json!({"error": "This service has no passkeys."})),
    ),
)]
pub(crate) async fn begin_reauthentication(
    Authenticated(caller): Authenticated,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let options = state.accounts.begin_passkey_reauthentication(&caller).await?;
    respond(HttpResponse::Ok(), &RequestResponse::from(options))
}
