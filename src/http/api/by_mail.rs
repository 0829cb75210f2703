//! What somebody without a session does by means of a mail: sets a new password, logs in, disowns what a notice tells of.
//!
//! Who asks for a mail gets the same answer, whether or not there is such an account.

use actix_web::HttpResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::throttle::limits::Call;
use crate::accounts::{Asked, Client as _, NewPassword};
use crate::domain::email::EmailAddress;
use crate::domain::one_time::Purpose;
use crate::http::api::email::LinkRequest;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::client::HttpClient;
use crate::http::extract::mail_proof;
use crate::http::json::{Malformed, Request};
use crate::http::state::State;
use crate::http::views::email::MailRequestResponse;
use crate::http::views::second_factor::SecondFactorDueResponse;
use crate::http::views::session::SessionResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};
use crate::passwords::PlainPassword;
use crate::repository::Whom;

/// Whose password was forgotten: an address or a name.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ForgotRequest {
    #[schema(example = "azure@diamond.example", nullable = false)]
    email: Option<String>,
    /// In the place of the address, as it is given to log in.
    #[schema(nullable = false)]
    username: Option<String>,
    /// Where the mail's link leads, in the place of the service's own page: it begins with one of the configured
    /// prefixes.
    #[schema(nullable = false)]
    link: Option<String>,
}

impl Request for ForgotRequest {}

/// Have a code and a link mailed that set a new password
#[utoipa::path(
    post, path = "/api/password/forgot", operation_id = "forgot_password", tag = "mail",
    request_body(content = ForgotRequest, example = json!({"email": "azure@diamond.example"})),
    responses(
        (status = 202, description = "If there is such an account and it has an address, a mail is on its way", body = MailRequestResponse),
        (status = 400, description = "There is neither an address nor a name, or both", body = ErrorResponse,
            example = json!({"error": "Invalid Data: give either email or username"})),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address, or too many mails from all; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn forgot(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: ForgotRequest = body.read_with_password().await?;
    let whom = match (body.email, body.username) {
        (Some(email), None) => Whom::Email(EmailAddress::parse(&email)?),
        (None, Some(username)) => Whom::Username(state.accounts.read_name(&username).await?),
        _ => return Err(ApiError::InvalidData("give either email or username".to_owned())),
    };
    let asked = Asked { whom, purpose: Purpose::ResetPassword, link: policy.accept_link(body.link)? };
    let request = state.accounts.ask_for_mail(policy, admission, asked, &client)?;
    respond(HttpResponse::Accepted(), &MailRequestResponse::from(request))
}

/// What the mail carries, and the password that the account is to have.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ResetRequest {
    /// What stands behind the `#` of the mail's link.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", nullable = false)]
    token: Option<String>,
    /// In the place of the token, with `code`: what asking for the mail answered.
    #[schema(nullable = false)]
    request: Option<String>,
    /// The six digits of the mail.
    #[schema(nullable = false)]
    code: Option<String>,
    #[schema(example = "correct horse battery staple", min_length = 1)]
    new_password: String,
}

impl Request for ResetRequest {}

/// Set a new password by the link or the code of a mail; every token ends
#[utoipa::path(
    post, path = "/api/password/reset", operation_id = "reset_password", tag = "mail",
    request_body(content = ResetRequest, example = json!({"request": "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33", "code": "123456", "new_password": "correct horse battery staple"})),
    responses(
        (status = 200, description = "The password is set, and every session is over. Log in with it", body = StatusResponse),
        (status = 400, description = "The link or the code is wrong, was used, or has expired, or the new password will not do", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the code or the link is wrong, was used, or has expired"})),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn reset(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: ResetRequest = body.read_with_password().await?;
    let new = PlainPassword::parse("new_password", body.new_password)?;
    let new = NewPassword::accept(&state.accounts.password_policy, "new_password", new)?;
    let proof = mail_proof::read(body.token, body.request, body.code)?;
    state.accounts.reset_password(policy, admission, proof, new, &client).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Who wants to log in.
#[derive(Deserialize, ToSchema)]
pub(crate) struct MailLoginRequest {
    #[schema(example = "azure@diamond.example", nullable = false, required)]
    email: Option<String>,
    /// Where the mail's link leads, in the place of the service's own page: it begins with one of the configured
    /// prefixes.
    #[schema(nullable = false)]
    link: Option<String>,
}

impl Request for MailLoginRequest {}

/// Have a code and a link mailed that open a session
#[utoipa::path(
    post, path = "/api/login/mail", operation_id = "ask_for_login", tag = "mail",
    request_body(content = MailLoginRequest, example = json!({"email": "azure@diamond.example"})),
    responses(
        (status = 202, description = "If there is an account of this address that may be used, a mail is on its way", body = MailRequestResponse),
        (status = 400, description = "It is no address that mail can be sent to", body = ErrorResponse,
            example = json!({"error": "Invalid Data: email must be one e-mail address with an ASCII name before the @"})),
        (status = 404, description = "The service sends no mail, or opens no session by mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address, or too many mails from all; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn ask_for_login(
    state: State,
    client: HttpClient,
    body: UnreadBody,
) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.login_by_mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: MailLoginRequest = body.read_with_password().await?;
    let whom = Whom::Email(EmailAddress::parse(&body.email.ok_or(Malformed::Missing("email"))?)?);
    let asked = Asked { whom, purpose: Purpose::SignIn, link: policy.accept_link(body.link)? };
    let request = state.accounts.ask_for_mail(policy, admission, asked, &client)?;
    respond(HttpResponse::Accepted(), &MailRequestResponse::from(request))
}

/// What the mail carries.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ProofRequest {
    /// What stands behind the `#` of the mail's link.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", nullable = false)]
    token: Option<String>,
    /// In the place of the token, with `code`: what asking for the mail answered.
    #[schema(nullable = false)]
    request: Option<String>,
    /// The six digits of the mail.
    #[schema(nullable = false)]
    code: Option<String>,
}

impl Request for ProofRequest {}

/// Get a new token by the link or the code of a mail
#[utoipa::path(
    post, path = "/api/login/mail/confirm", operation_id = "log_in_by_mail", tag = "mail",
    request_body(content = ProofRequest, example = json!({"request": "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33", "code": "123456"})),
    responses(
        (status = 200, description = "A new session", body = SessionResponse),
        (status = 400, description = "The link or the code is wrong, was used, or has expired", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the code or the link is wrong, was used, or has expired"})),
        (status = 401, description = "They are right and the second factor is missing: `second_factor` says how to give it", body = SecondFactorDueResponse,
            example = json!({"error": "The second factor is required."})),
        (status = 404, description = "The service sends no mail, or opens no session by mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_in(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.login_by_mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: ProofRequest = body.read_with_password().await?;
    let proof = mail_proof::read(body.token, body.request, body.code)?;
    let opened = state.accounts.sign_in_by_mail(policy, admission, proof, &client).await?;
    respond(HttpResponse::Ok(), &SessionResponse::from(opened))
}

/// Disown what a notice tells of: its session ends, or its change of the address; what was added since to log in with is removed, and a new password can be set
#[utoipa::path(
    post, path = "/api/not-me", operation_id = "disown", tag = "mail",
    request_body(content = LinkRequest),
    responses(
        (status = 200, description = "It is over, and a mail that sets a new password is on its way", body = StatusResponse),
        (status = 400, description = "The link is wrong, was used, or has expired", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the code or the link is wrong, was used, or has expired"})),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn disown(state: State, client: HttpClient, body: UnreadBody) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let token = body.read_with_password::<LinkRequest>().await?.token()?;
    state.accounts.disown(policy, admission, &token, &client).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}
