//! `/api/user`: the account itself, its profile, its password, its export and its end.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::identities::GivenIdentity;
use crate::accounts::throttle::limits::Call;
use crate::accounts::{Client as _, NewPassword, PasswordChange, ReauthenticationError};
use crate::domain::item::ItemId;
use crate::domain::profile::ProfileField;
use crate::domain::user::User;
use crate::http::api::identities;
use crate::http::error::ApiError;
use crate::http::extract::body::{NOT_JSON, UnreadBody};
use crate::http::extract::caller::{Authenticated, Unauthenticated};
use crate::http::extract::client::HttpClient;
use crate::http::extract::mail_proof::{read_code, read_token};
use crate::http::extract::passkey::AssertionRequest;
use crate::http::extract::profile::request_with_profile;
use crate::http::extract::second_factor;
use crate::http::json::{self, Malformed, Request, Value};
use crate::http::state::State;
use crate::http::views::email::{EmailResponse, MailRequestResponse, PendingEmail};
use crate::http::views::event::EventResponse;
use crate::http::views::identity::IdentityResponse;
use crate::http::views::passkey::PasskeyResponse;
use crate::http::views::second_factor::SecurityResponse;
use crate::http::views::session::SessionDetailsResponse;
use crate::http::views::user::{UserResponse, unchanged_item_ids};
use crate::http::views::{ErrorResponse, StatusResponse, respond};
use crate::passwords::PlainPassword;
use crate::repository::Cause;
use crate::system::clock::Timestamp;

/// The user object
#[utoipa::path(
    get, path = "/api/user", operation_id = "find_user", tag = "user", security(("Token" = [])),
    responses(
        (status = 200, description = "The caller", body = UserResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn show(presented: Unauthenticated, state: State) -> Result<HttpResponse, ApiError> {
    let Unauthenticated { token, caller } = presented;
    let find = async || state.accounts.repository.find_rendered_user(&caller, render).await;
    let (session, user) = state.accounts.look_up(&token, &caller, find).await?;
    state.accounts.note_use(&caller, &session);
    Ok(HttpResponse::Ok().body(user))
}

fn render(user: User) -> Result<Bytes, Cause> {
    let text = json::to_vec(&UserResponse::from(user)).map_err(|error| Arc::new(error) as Cause)?;
    // The session cache may keep it, so it keeps no spare capacity.
    Ok(text.into_boxed_slice().into())
}

request_with_profile! {
    /// The profile's fields, of which any may be given.
    pub(crate) struct ProfileRequest {
        #[schema(value_type = Option<String>, nullable = false, read_only)]
        username: Option<Value>,
        #[schema(value_type = Option<bool>, nullable = false, read_only)]
        is_active: Option<Value>,
        #[schema(value_type = Option<bool>, nullable = false, read_only)]
        is_superuser: Option<Value>,
        #[schema(value_type = Option<bool>, nullable = false, read_only)]
        is_staff: Option<Value>,
        #[schema(value_type = Option<String>, nullable = false, read_only)]
        last_login: Option<Value>,
        #[schema(schema_with = unchanged_item_ids, required = false)]
        cellar: Option<Value>,
        #[schema(schema_with = unchanged_item_ids, required = false)]
        wants: Option<Value>,
        #[schema(value_type = Option<String>, nullable = false, read_only)]
        created: Option<Value>,
        #[schema(value_type = Option<String>, nullable = false, read_only)]
        modified: Option<Value>,
        #[schema(value_type = Option<String>, nullable = false, read_only)]
        date_joined: Option<Value>,
    }
}

impl Request for ProfileRequest {
    fn refuse(key: &str) -> Option<String> {
        let secret = ["id", "token", "password"].into_iter().find(|secret| *secret == key);
        Some(secret.map_or_else(
            || format!("only {} can be set here", ProfileField::ALL.map(ProfileField::name).join(", ")),
            cannot_be_set,
        ))
    }
}

fn cannot_be_set(field: &str) -> String {
    format!("{field} cannot be set here")
}

impl ProfileRequest {
    /// Takes the fields of the user object that no client sets. An unchanged one is accepted: a form may send back all
    /// that it got.
    fn take_fixed_fields(self) -> FixedFields {
        let fixed = [
            ("username", self.username),
            ("is_active", self.is_active),
            ("is_superuser", self.is_superuser),
            ("is_staff", self.is_staff),
            ("last_login", self.last_login),
            ("cellar", self.cellar),
            ("wants", self.wants),
            ("created", self.created),
            ("modified", self.modified),
            ("date_joined", self.date_joined),
        ];
        fixed.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Fields that cannot be set, and what was sent for each.
type FixedFields = Vec<(&'static str, Value)>;

/// Refuses the first field that differs from the user object.
fn refuse_changes(fixed: &FixedFields, user: UserResponse) -> Result<(), ApiError> {
    let stored = [
        ("username", Value::String(user.username)),
        ("email", Value::String(user.email)),
        ("is_active", Value::Boolean(user.is_active)),
        ("is_superuser", Value::Boolean(user.is_superuser)),
        ("is_staff", Value::Boolean(user.is_staff)),
        ("last_login", Value::String(user.last_login)),
        ("cellar", Value::Numbers(user.cellar)),
        ("wants", Value::Numbers(user.wants)),
        ("created", Value::String(user.created)),
        ("modified", Value::String(user.modified)),
        ("date_joined", Value::String(user.date_joined)),
    ];
    match fixed.iter().find(|given| !stored.contains(given)) {
        Some(("email", _)) => Err(ApiError::InvalidData("email is changed by POST /api/user/email".to_owned())),
        Some((field, _)) => Err(ApiError::InvalidData(cannot_be_set(field))),
        None => Ok(()),
    }
}

/// Change any fields of the profile; the others stay
#[utoipa::path(
    patch, path = "/api/user", operation_id = "update_user", tag = "user", security(("Token" = [])),
    request_body(content = ProfileRequest, example = json!({"address": "123 N Main St.", "address2": "#100", "city": "Chicago", "state": "IL", "zipcode": "60647"})),
    responses(
        (status = 200, description = "The user with all of the changes", body = UserResponse),
        (status = 400, description = "A field breaks its rule or may not be set here; nothing is changed", body = ErrorResponse,
            example = json!({"error": "Invalid Data: username cannot be set here"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn update(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let mut body: ProfileRequest = body.read().await?;
    // Where mail is sent, the address is a fixed field too: it changes once it is confirmed. It is not written back
    // either, because it may have been confirmed a moment ago.
    let email = if state.accounts.mail.is_some() { body.email.take() } else { None };
    let changes = body.take_profile()?;
    let mut fixed = body.take_fixed_fields();
    fixed.extend(email.map(|email| ("email", Value::String(email))));
    let repository = &state.accounts.repository;
    if !fixed.is_empty() {
        let (_, user) = repository.find_user(&caller).await?;
        refuse_changes(&fixed, user.into())?;
    }
    let user = repository.update_profile(&caller, changes, state.accounts.clock.now()).await?;
    respond(HttpResponse::Ok(), &UserResponse::from(user))
}

/// One of several things that show that it is the account's owner who asks: its password, a code of its authenticator app,
/// a mailed code with what asking for it answered, a passkey, or an identity that the account is linked to, by an ID token
/// or by way of a browser.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReauthenticateRequest {
    #[schema(example = "hunter2", min_length = 1, nullable = false)]
    password: Option<String>,
    /// What asking for the mail answered, where `code` is the mail's.
    #[schema(nullable = false)]
    request: Option<String>,
    /// The six digits of the authenticator app or, with `request`, of the mail; or with `code_verifier`, what a browser was
    /// sent back with from a provider.
    #[schema(nullable = false)]
    code: Option<String>,
    /// That of which the app gave the SHA-256 as it sent the browser to the provider, less than 5 minutes ago.
    #[schema(nullable = false)]
    code_verifier: Option<String>,
    /// In the place of the password, where the service has passkeys: one of the account's, as `POST /api/user/reauthenticate/passkey` asks for it.
    #[schema(nullable = false)]
    passkey: Option<AssertionRequest>,
    /// With `id_token`: the provider's name in `GET /api/login/providers`.
    #[schema(example = "google", nullable = false)]
    provider: Option<String>,
    /// A new one of an identity of the account, at most 5 minutes old.
    #[schema(nullable = false)]
    id_token: Option<String>,
    /// What the app asked the provider to put into the token.
    #[schema(nullable = false)]
    nonce: Option<String>,
}

impl Request for ReauthenticateRequest {}

impl ReauthenticateRequest {
    /// How many things it shows. Each is enough, and none would be looked at beside another.
    fn count(&self) -> usize {
        let shown = [
            self.password.is_some(),
            self.request.is_some() || (self.code.is_some() && self.code_verifier.is_none()),
            self.passkey.is_some(),
            self.provider.is_some() || self.id_token.is_some() || self.nonce.is_some(),
            self.code_verifier.is_some(),
        ];
        shown.into_iter().filter(|is_shown| *is_shown).count()
    }
}

/// Show again whose account it is; the calls that ask for it then work without more for 10 minutes
#[utoipa::path(
    post, path = "/api/user/reauthenticate", operation_id = "reauthenticate", tag = "user", security(("Token" = [])),
    request_body(content = ReauthenticateRequest, example = json!({"password": "hunter2"})),
    responses(
        (status = 200, description = "This session is fresh for 10 minutes", body = StatusResponse),
        (status = 400, description = "What is shown is missing or wrong, or there is more than one thing", body = ErrorResponse,
            example = json!({"error": "Invalid Data: password is wrong"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service sends no mail, or does not take what is shown", body = ErrorResponse,
            example = json!({"error": "This service has no passkeys."})),
        (status = 409, description = "The account has no authenticator app", body = ErrorResponse,
            example = json!({"error": "The account has no authenticator app."})),
        (status = 429, description = "Too many wrong attempts; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn reauthenticate(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: ReauthenticateRequest = body.read_with_password().await?;
    if body.count() > 1 {
        let one =
            "give one of password, code, request and code, passkey, provider and id_token, code and code_verifier";
        return Err(ApiError::InvalidData(one.to_owned()));
    }
    match body {
        ReauthenticateRequest { passkey: Some(passkey), .. } => {
            state.accounts.passkeys()?;
            let used = passkey.read()?;
            let reauthenticated = state.accounts.reauthenticate_by_passkey(admission, &caller, used, &client).await;
            reauthenticated.map_err(|error| ApiError::of_reauthentication(error, "passkey"))?;
        }
        ReauthenticateRequest { provider, id_token, nonce, .. }
            if provider.is_some() || id_token.is_some() || nonce.is_some() =>
        {
            let given = GivenIdentity::IdToken(identities::read_id_token(provider, id_token, nonce, None)?);
            let shown = state.accounts.reauthenticate_by_identity(admission, &caller, given, &client).await;
            shown.map_err(|error| identities::in_session(error, "id_token"))?;
        }
        ReauthenticateRequest { code, code_verifier: Some(verifier), .. } => {
            let given = GivenIdentity::Code(identities::read_code(code, Some(verifier))?);
            let shown = state.accounts.reauthenticate_by_identity(admission, &caller, given, &client).await;
            shown.map_err(|error| identities::in_session(error, "code"))?;
        }
        ReauthenticateRequest { request: Some(request), code, .. } => {
            state.accounts.mail()?;
            let request = read_token(&request)?;
            let code = read_code(&code.ok_or(Malformed::Missing("code"))?)?;
            state.accounts.reauthenticate_by_code(admission, &caller, (request, code), &client).await?;
        }
        ReauthenticateRequest { code: Some(code), .. } => {
            let code = second_factor::read_code(&code)?;
            state.accounts.reauthenticate_by_totp(admission, &caller, &code, &client).await?;
        }
        ReauthenticateRequest { password, .. } => {
            let password = PlainPassword::parse("password", password.ok_or(Malformed::Missing("password"))?)?;
            let reauthenticated = state.accounts.reauthenticate(admission, &caller, password, &client).await;
            reauthenticated.map_err(|error| ApiError::of_reauthentication(error, "password"))?;
        }
    }
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Have a code mailed to the account's verified address, to be given in the place of the password
#[utoipa::path(
    post, path = "/api/user/reauthenticate/mail", operation_id = "ask_for_code", tag = "mail", security(("Token" = [])),
    responses(
        (status = 202, description = "The mail is on its way", body = MailRequestResponse),
        (status = 400, description = "The account has no verified address", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the account has no verified address"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many such mails; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn ask_for_code(
    Authenticated(caller): Authenticated,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let request = state.accounts.ask_for_own_code(policy, &caller, &client).await?;
    respond(HttpResponse::Accepted(), &MailRequestResponse::from(request))
}

/// The account's password. It may be left out, and so may the body, where the session is fresh.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct DeleteRequest {
    #[schema(example = "hunter2", min_length = 1, nullable = false)]
    password: Option<String>,
}

impl Request for DeleteRequest {}

/// Delete the account, its lists and its tokens
#[utoipa::path(
    delete, path = "/api/user", operation_id = "delete_user", tag = "user", security(("Token" = [])),
    request_body(content = DeleteRequest, example = json!({"password": "hunter2"})),
    responses(
        (status = 200, description = "All of it is gone", body = StatusResponse),
        (status = 409, description = "It is the last superuser", body = ErrorResponse),
        (status = 400, description = "The password is wrong, or left out and the session is not fresh", body = ErrorResponse,
            example = json!({"error": "Invalid Data: password is wrong"})),
        (status = 429, description = "Too many wrong passwords; `Retry-After` says when to try again", body = ErrorResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn delete(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let has_no_body = body.is_absent();
    let refuse = |error| match error {
        ReauthenticationError::NotFresh if has_no_body => ApiError::UnsupportedMediaType { why: NOT_JSON },
        error => ApiError::of_reauthentication(error, "password"),
    };
    let body = if has_no_body { DeleteRequest::default() } else { body.read_with_password().await? };
    let password = body.password.map(|password| PlainPassword::parse("password", password)).transpose()?;
    if password.is_none() {
        state.accounts.require_fresh_session(&caller).await.map_err(refuse)?;
    }
    state.accounts.delete(admission, &caller, password, &client).await.map_err(refuse)?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// The password that the account has, if any, which may be left out where the session is fresh, and the one that it is to
/// have.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PasswordRequest {
    #[schema(example = "hunter2", min_length = 1, nullable = false)]
    current_password: Option<String>,
    #[schema(example = "correct horse battery staple", min_length = 1, nullable = false, required)]
    new_password: Option<String>,
}

impl Request for PasswordRequest {}

/// Change the password; every other token ends
#[utoipa::path(
    post, path = "/api/user/password", operation_id = "change_password", tag = "user", security(("Token" = [])),
    request_body(content = PasswordRequest, example = json!({"current_password": "hunter2", "new_password": "correct horse battery staple"})),
    responses(
        (status = 200, description = "The password is changed, or the account has its first, and every session but this one is over", body = StatusResponse),
        (status = 400, description = "The current password is wrong, or left out and the session is not fresh, or the new one will not do", body = ErrorResponse,
            example = json!({"error": "Invalid Data: current_password is wrong"})),
        (status = 429, description = "Too many wrong passwords; `Retry-After` says when to try again", body = ErrorResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn change_password(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
    let body: PasswordRequest = body.read_with_password().await?;
    let refuse = |error| ApiError::of_reauthentication(error, "current_password");
    if body.current_password.is_none() {
        state.accounts.require_fresh_session(&caller).await.map_err(refuse)?;
    }
    let new = body.new_password.ok_or(Malformed::Missing("new_password"))?;
    let current =
        body.current_password.map(|password| PlainPassword::parse("current_password", password)).transpose()?;
    let new = PlainPassword::parse("new_password", new)?;
    let new = NewPassword::accept(&state.accounts.password_policy, "new_password", new)?;
    let changed = state.accounts.change_password(admission, &caller, PasswordChange { current, new }, &client).await;
    changed.map_err(refuse)?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Everything that is stored about the caller, secrets excepted.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExportResponse {
    /// When the export was made.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    exported: String,
    user: UserResponse,
    /// Whether the address was shown to be the account's. It is there where the service sends mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = true, nullable = false)]
    email_verified: Option<bool>,
    /// The address that waits for its confirmation, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    email_pending: Option<PendingEmail>,
    cellar: Vec<ExportedItem>,
    wants: Vec<ExportedItem>,
    sessions: Vec<SessionDetailsResponse>,
    security: SecurityResponse,
    passkeys: Vec<PasskeyResponse>,
    identities: Vec<IdentityResponse>,
    events: Vec<EventResponse>,
}

/// An item of a list, and since when it is there.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExportedItem {
    #[schema(example = 1)]
    item_id: i64,
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    added: String,
}

fn exported(items: Vec<(ItemId, Timestamp)>) -> Vec<ExportedItem> {
    items.into_iter().map(|(item, added)| ExportedItem { item_id: item.get(), added: added.to_string() }).collect()
}

/// Everything that is stored about the caller, secrets excepted
#[utoipa::path(
    get, path = "/api/user/export", operation_id = "export_user", tag = "user", security(("Token" = [])),
    responses(
        (status = 200, description = "One document", body = ExportResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn export(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    let export = state.accounts.repository.export_user(&caller).await?;
    let show = |session| SessionDetailsResponse::new(session, Some(&caller), &state.accounts.session_policy);
    let sessions = export.sessions.iter().map(show).collect();
    let (email_verified, email_pending) = if state.accounts.mail.is_some() {
        let (is_verified, pending) = EmailResponse::from(state.accounts.find_email(&caller).await?).into_parts();
        (Some(is_verified), pending)
    } else {
        (None, None)
    };
    respond(
        HttpResponse::Ok(),
        &ExportResponse {
            exported: state.accounts.clock.now().to_string(),
            user: export.user.into(),
            email_verified,
            email_pending,
            cellar: exported(export.cellar),
            wants: exported(export.wants),
            sessions,
            security: export.security.into(),
            passkeys: export.passkeys.into_iter().map(PasskeyResponse::from).collect(),
            identities: export.identities.into_iter().map(IdentityResponse::from).collect(),
            events: export.events.into_iter().map(EventResponse::from).collect(),
        },
    )
}
