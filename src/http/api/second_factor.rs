//! The second factor: what a login lacks, the authenticator app with its recovery codes, and how an account can be got
//! into.

use actix_web::HttpResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::Client as _;
use crate::accounts::second_factor::GivenFactor;
use crate::accounts::throttle::limits::Call;
use crate::domain::token::PlainToken;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::client::HttpClient;
use crate::http::extract::passkey::AssertionRequest;
use crate::http::extract::second_factor::{read, read_code};
use crate::http::json::{Malformed, Request};
use crate::http::state::State;
use crate::http::views::second_factor::{RecoveryCodesResponse, SecurityResponse, TotpResponse};
use crate::http::views::session::SessionResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};

/// What a login answered that lacks its second factor, and the factor.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SecondFactorRequest {
    /// The `token` of its `second_factor`.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", nullable = false, required)]
    token: Option<String>,
    /// The six digits of the authenticator app.
    #[schema(example = "123456", nullable = false)]
    code: Option<String>,
    /// In the place of the code, one of the recovery codes. It is used up, and the answer has another one.
    #[schema(nullable = false)]
    recovery_code: Option<String>,
    /// In the place of the code, a passkey of the account, as `POST /api/login/passkey/options` asks for it.
    #[schema(nullable = false)]
    passkey: Option<AssertionRequest>,
}

impl Request for SecondFactorRequest {}

/// Finish a login that lacks its second factor
#[utoipa::path(
    post, path = "/api/login/second", operation_id = "give_second_factor", tag = "account",
    request_body(content = SecondFactorRequest, example = json!({"token": "d96163b8bc9127d8c5d5839018580123c64a324b", "code": "123456"})),
    responses(
        (status = 200, description = "A new session", body = SessionResponse),
        (status = 400, description = "A field is missing or mistyped, or there is more than one factor", body = ErrorResponse,
            example = json!({"error": "Invalid Data: code is required"})),
        (status = 401, description = "The factor is wrong or was used before, the login has expired after 5 minutes, or it was tried five times", body = ErrorResponse,
            example = json!({"error": "The code is wrong, was used before, or the login has expired."})),
        (status = 404, description = "A passkey is given, and the service has none", body = ErrorResponse,
            example = json!({"error": "This service has no passkeys."})),
        (status = 429, description = "Too many attempts from this address or on this account; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_in(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: SecondFactorRequest = body.read_with_password().await?;
    // What cannot be a token is answered like one that is none.
    let token = PlainToken::parse(&body.token.ok_or(Malformed::Missing("token"))?).ok_or(ApiError::SecondFactorWrong);
    let given = read(body.code, body.recovery_code)?;
    let given = match (given, body.passkey) {
        (Some(_), Some(_)) => {
            return Err(ApiError::InvalidData("give one of code, recovery_code and passkey".to_owned()));
        }
        (Some(given), None) => given,
        (None, Some(passkey)) => {
            state.accounts.passkeys()?;
            GivenFactor::Passkey(Box::new(passkey.read()?))
        }
        (None, None) => return Err(Malformed::Missing("code").into()),
    };
    let opened = state.accounts.give_second_factor(admission, &token?, given, &client).await?;
    respond(HttpResponse::Ok(), &SessionResponse::from(opened))
}

/// Begin to set up an authenticator app, in a fresh session
#[utoipa::path(
    post, path = "/api/user/totp", operation_id = "begin_totp", tag = "factors", security(("Token" = [])),
    responses(
        (status = 200, description = "The app's secret, which is shown once. It counts for nothing before it is confirmed, within 15 minutes", body = TotpResponse),
        (status = 400, description = "The session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service has no key to seal secrets with", body = ErrorResponse,
            example = json!({"error": "This service has no key to seal secrets with."})),
        (status = 409, description = "The account has an authenticator app", body = ErrorResponse,
            example = json!({"error": "The account has an authenticator app. Remove it first."})),
    ),
)]
pub(crate) async fn begin_totp(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    let totp = state.accounts.begin_totp(&caller).await?;
    respond(HttpResponse::Ok(), &TotpResponse::from(&totp))
}

/// The first code of an authenticator app.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ConfirmTotpRequest {
    #[schema(example = "123456", nullable = false, required)]
    code: Option<String>,
}

impl Request for ConfirmTotpRequest {}

/// Confirm the authenticator app that is being set up, by its first code; every other token ends
#[utoipa::path(
    post, path = "/api/user/totp/confirm", operation_id = "confirm_totp", tag = "factors", security(("Token" = [])),
    request_body(content = ConfirmTotpRequest, example = json!({"code": "123456"})),
    responses(
        (status = 200, description = "From now on a login needs the second factor, and every session but this one is over. The recovery codes are shown once", body = RecoveryCodesResponse),
        (status = 400, description = "The code is none, or wrong", body = ErrorResponse,
            example = json!({"error": "Invalid Data: code must be six digits"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service has no key to seal secrets with", body = ErrorResponse,
            example = json!({"error": "This service has no key to seal secrets with."})),
        (status = 409, description = "No app is being set up, or 15 minutes are over, or one was confirmed already", body = ErrorResponse,
            example = json!({"error": "The account has no authenticator app."})),
        (status = 429, description = "Too many wrong codes; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn confirm_totp(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: ConfirmTotpRequest = body.read_with_password().await?;
    let code = read_code(&body.code.ok_or(Malformed::Missing("code"))?)?;
    let codes = state.accounts.confirm_totp(admission, &caller, &code, &client).await?;
    respond(HttpResponse::Ok(), &RecoveryCodesResponse::from(&codes[..]))
}

/// The second factor, which shows that whoever changes it has it.
#[derive(Deserialize, ToSchema)]
pub(crate) struct FactorRequest {
    /// The six digits of the authenticator app.
    #[schema(example = "123456", nullable = false)]
    code: Option<String>,
    /// In the place of the code, one of the recovery codes.
    #[schema(nullable = false)]
    recovery_code: Option<String>,
}

impl Request for FactorRequest {}

impl FactorRequest {
    /// What is given; `None` where neither is.
    pub(super) fn read(self) -> Result<Option<GivenFactor>, ApiError> {
        read(self.code, self.recovery_code)
    }

    fn given(self) -> Result<GivenFactor, ApiError> {
        Ok(self.read()?.ok_or(Malformed::Missing("code"))?)
    }
}

/// Remove the authenticator app and the recovery codes, in a fresh session and with one of their codes
#[utoipa::path(
    delete, path = "/api/user/totp", operation_id = "remove_totp", tag = "factors", security(("Token" = [])),
    request_body(content = FactorRequest, example = json!({"code": "123456"})),
    responses(
        (status = 200, description = "They are gone, a login needs no second factor any more, and the session is not fresh any more", body = StatusResponse),
        (status = 400, description = "The code is wrong, or the session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service has no key to seal secrets with", body = ErrorResponse,
            example = json!({"error": "This service has no key to seal secrets with."})),
        (status = 409, description = "The account has no authenticator app", body = ErrorResponse,
            example = json!({"error": "The account has no authenticator app."})),
        (status = 429, description = "Too many wrong codes; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn remove_totp(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let given = body.read_with_password::<FactorRequest>().await?.given()?;
    state.accounts.remove_totp(admission, &caller, &given, &client).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Make new recovery codes in the place of those that are left, in a fresh session and with a code
#[utoipa::path(
    post, path = "/api/user/recovery_codes", operation_id = "replace_recovery_codes", tag = "factors", security(("Token" = [])),
    request_body(content = FactorRequest, example = json!({"code": "123456"})),
    responses(
        (status = 200, description = "The former ones are worth nothing. These are shown once", body = RecoveryCodesResponse),
        (status = 400, description = "The code is wrong, or the session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service has no key to seal secrets with", body = ErrorResponse,
            example = json!({"error": "This service has no key to seal secrets with."})),
        (status = 409, description = "The account has no authenticator app", body = ErrorResponse,
            example = json!({"error": "The account has no authenticator app."})),
        (status = 429, description = "Too many wrong codes; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn replace_recovery_codes(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let given = body.read_with_password::<FactorRequest>().await?.given()?;
    let codes = state.accounts.replace_recovery_codes(admission, &caller, &given, &client).await?;
    respond(HttpResponse::Ok(), &RecoveryCodesResponse::from(&codes[..]))
}

/// How the caller's account can be got into
#[utoipa::path(
    get, path = "/api/user/security", operation_id = "show_security", tag = "factors", security(("Token" = [])),
    responses(
        (status = 200, description = "Facts, without secrets", body = SecurityResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn show_security(
    Authenticated(caller): Authenticated,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let security = state.accounts.find_security(&caller).await?;
    respond(HttpResponse::Ok(), &SecurityResponse::from(security))
}
