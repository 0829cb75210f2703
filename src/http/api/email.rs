//! `/api/user/email` and `POST /api/email/confirm`: the account's address.

use actix_web::HttpResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::throttle::limits::Call;
use crate::accounts::{Client as _, EmailChange};
use crate::domain::email::EmailAddress;
use crate::domain::token::PlainToken;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::client::HttpClient;
use crate::http::extract::mail_proof::{read_code, read_token};
use crate::http::json::{Malformed, Request};
use crate::http::state::State;
use crate::http::views::email::{EmailResponse, MailRequestResponse};
use crate::http::views::user::UserResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};
use crate::passwords::PlainPassword;

/// The account's address, whether it is verified, and a change that waits
#[utoipa::path(
    get, path = "/api/user/email", operation_id = "find_email", tag = "mail", security(("Token" = [])),
    responses(
        (status = 200, description = "The address", body = EmailResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
    ),
)]
pub(crate) async fn show(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    state.accounts.mail()?;
    let email = state.accounts.find_email(&caller).await?;
    respond(HttpResponse::Ok(), &EmailResponse::from(email))
}

/// The address that the account is to have.
#[derive(Deserialize, ToSchema)]
pub(crate) struct EmailRequest {
    #[schema(example = "blue@diamond.example", min_length = 1, nullable = false, required)]
    email: Option<String>,
    /// It may be left out where the session is fresh.
    #[schema(example = "hunter2", min_length = 1, nullable = false)]
    password: Option<String>,
    /// Where the mail's link leads, in the place of the service's own page: it begins with one of the configured
    /// prefixes.
    #[schema(nullable = false)]
    link: Option<String>,
}

impl Request for EmailRequest {}

/// Ask for another address, or for the confirmation of the present one; it changes once it is confirmed
#[utoipa::path(
    post, path = "/api/user/email", operation_id = "change_email", tag = "mail", security(("Token" = [])),
    request_body(content = EmailRequest, example = json!({"email": "blue@diamond.example", "password": "hunter2"})),
    responses(
        (status = 202, description = "A code and a link are mailed to the new address, unless another account has it, and a notice to the present one", body = MailRequestResponse),
        (status = 400, description = "It is no address that mail can be sent to, or the password is wrong, or left out and the session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: email must be one e-mail address with an ASCII name before the @"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many changes or wrong passwords; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn change(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: EmailRequest = body.read_with_password().await?;
    let refuse = |error| ApiError::of_reauthentication(error, "password");
    if body.password.is_none() {
        state.accounts.require_fresh_session(&caller).await.map_err(refuse)?;
    }
    let email = EmailAddress::parse(&body.email.ok_or(Malformed::Missing("email"))?)?;
    let password = body.password.map(|password| PlainPassword::parse("password", password)).transpose()?;
    let change = EmailChange { email, password, link: policy.accept_link(body.link)? };
    let request = state.accounts.change_email(policy, admission, &caller, change, &client).await.map_err(refuse)?;
    respond(HttpResponse::Accepted(), &MailRequestResponse::from(request))
}

/// Withdraw a change of the address
#[utoipa::path(
    delete, path = "/api/user/email", operation_id = "withdraw_email_change", tag = "mail", security(("Token" = [])),
    responses(
        (status = 200, description = "None waits any more; the account keeps its address", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
    ),
)]
pub(crate) async fn withdraw(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    state.accounts.mail()?;
    state.accounts.withdraw_email_change(&caller).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// The code of a mail.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CodeRequest {
    /// The six digits.
    #[schema(example = "123456", nullable = false, required)]
    code: Option<String>,
    /// What asking for the mail answered. It may be left out.
    #[schema(example = "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33", nullable = false)]
    request: Option<String>,
}

impl Request for CodeRequest {}

/// Confirm the address by the code that was mailed to it
#[utoipa::path(
    post, path = "/api/user/email/confirm", operation_id = "confirm_own_email", tag = "mail", security(("Token" = [])),
    request_body(content = CodeRequest, example = json!({"code": "123456"})),
    responses(
        (status = 200, description = "The account has the address, and it is verified", body = UserResponse),
        (status = 400, description = "The code is wrong, was used, or has expired, or another account has verified the address meanwhile", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the code or the link is wrong, was used, or has expired"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn confirm_own(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: CodeRequest = body.read_with_password().await?;
    let code = read_code(&body.code.ok_or(Malformed::Missing("code"))?)?;
    let request = body.request.map(|request| read_token(&request)).transpose()?;
    let user = state.accounts.confirm_own_email(policy, admission, &caller, request, code, &client).await?;
    respond(HttpResponse::Ok(), &UserResponse::from(user))
}

/// The token of a mail's link.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LinkRequest {
    /// What stands behind the `#`.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", nullable = false, required)]
    token: Option<String>,
}

impl Request for LinkRequest {}

impl LinkRequest {
    /// The token that was given.
    pub(crate) fn token(self) -> Result<PlainToken, ApiError> {
        read_token(&self.token.ok_or(Malformed::Missing("token"))?)
    }
}

/// Confirm an address by the link that was mailed to it
#[utoipa::path(
    post, path = "/api/email/confirm", operation_id = "confirm_email", tag = "mail",
    request_body(content = LinkRequest),
    responses(
        (status = 200, description = "The account has the address, and it is verified", body = StatusResponse),
        (status = 400, description = "The link is wrong, was used, or has expired, or another account has verified the address meanwhile", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the code or the link is wrong, was used, or has expired"})),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn confirm(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let token = body.read_with_password::<LinkRequest>().await?.token()?;
    state.accounts.confirm_email(policy, admission, &token, &client).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}
