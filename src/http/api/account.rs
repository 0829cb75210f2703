//! `POST /api/register`, `/api/login` and `/api/logout`.

use actix_web::HttpResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::throttle::limits::Call;
use crate::accounts::{Client as _, NewPassword, Registration, SignIn};
use crate::domain::user::Username;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::client::HttpClient;
use crate::http::extract::profile::request_with_profile;
use crate::http::extract::second_factor;
use crate::http::json::Request;
use crate::http::state::State;
use crate::http::views::second_factor::SecondFactorDueResponse;
use crate::http::views::session::SessionResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};
use crate::passwords::PlainPassword;

request_with_profile! {
    /// A name and a password, and whatever of the profile is known already.
    pub(crate) struct RegisterRequest {
        /// 1 to 30 characters of `A-Z a-z 0-9 _ @ + . -`; unique without regard to case.
        #[schema(example = "AzureDiamond", min_length = 1, max_length = 30, pattern = "^[A-Za-z0-9_@+.-]{1,30}$")]
        username: String,
        /// Any text but the empty one; every byte counts.
        #[schema(example = "hunter2", min_length = 1)]
        password: String,
    }
}

impl Request for RegisterRequest {}

/// A name and a password, and the second factor of an account that has one.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginRequest {
    /// The account's name, in any case: one that a new account could have or, where others were imported, up to 254
    /// characters without outer spaces, control characters and invisible ones. Where mail is sent, its verified address
    /// will do too.
    #[schema(example = "AzureDiamond", min_length = 1)]
    username: String,
    #[schema(example = "hunter2", min_length = 1)]
    password: String,
    /// The six digits of the authenticator app, where the account has one. Without it the login is finished by
    /// `POST /api/login/second`.
    #[schema(nullable = false)]
    code: Option<String>,
    /// In the place of the code, one of the recovery codes. It is used up, and the answer has another one.
    #[schema(nullable = false)]
    recovery_code: Option<String>,
}

impl Request for LoginRequest {}

/// Make an account and its first token
#[utoipa::path(
    post, path = "/api/register", operation_id = "register", tag = "account", request_body(content = RegisterRequest, example = json!({"username": "AzureDiamond", "password": "hunter2"})),
    responses(
        (status = 201, description = "The account is made", body = SessionResponse),
        (status = 400, description = "The name is taken, or a field breaks its rule", body = ErrorResponse,
            example = json!({"error": "Invalid Data: column username is not unique"})),
        (status = 429, description = "Too many registrations from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn register(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::Register, client.ip())?;
    let mut body: RegisterRequest = body.read_with_password().await?;
    let username = Username::parse(&body.username)?;
    let password = PlainPassword::parse("password", std::mem::take(&mut body.password))?;
    let password = NewPassword::accept(&state.accounts.password_policy, "password", password)?;
    let profile = body.take_profile()?.into_iter().collect();
    let opened = state.accounts.register(admission, Registration { username, password, profile }, &client).await?;
    respond(HttpResponse::Created(), &SessionResponse::from(opened))
}

/// Get a new token for an account
#[utoipa::path(
    post, path = "/api/login", operation_id = "log_in", tag = "account", request_body(content = LoginRequest, example = json!({"username": "AzureDiamond", "password": "hunter2"})),
    responses(
        (status = 200, description = "A new session", body = SessionResponse),
        (status = 400, description = "A field is missing or mistyped", body = ErrorResponse,
            example = json!({"error": "Invalid Data: password is required"})),
        (status = 401, description = "No account that may be used has this name and this password; or they are right and the second factor is missing, and then `second_factor` says how to give it; or it is wrong", body = SecondFactorDueResponse,
            example = json!({"error": "The username or the password is wrong."})),
        (status = 403, description = "The password is right, and the account's address is not verified: where the service asks for that", body = ErrorResponse,
            example = json!({"error": "The address of this account is not verified. Open the link that was mailed to it, or reset the password."})),
        (status = 429, description = "Too many attempts from this address or on this account; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_in(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: LoginRequest = body.read_with_password().await?;
    let name = state.accounts.read_login_name(&body.username).await?;
    let password = PlainPassword::parse("password", body.password)?;
    let second = second_factor::read(body.code, body.recovery_code)?;
    let opened = state.accounts.sign_in(admission, SignIn { name, password, second }, &client).await?;
    respond(HttpResponse::Ok(), &SessionResponse::from(opened))
}

/// End the presented token's session
#[utoipa::path(
    post, path = "/api/logout", operation_id = "log_out", tag = "account", security(("Token" = [])),
    responses(
        (status = 200, description = "It is over, at once and for good", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_out(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    state.accounts.sign_out(&caller).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}
