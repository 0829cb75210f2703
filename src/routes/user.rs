//! `/api/user`: the account itself, its profile, its password, its export and its end.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::account::ATTEMPTS;
use super::body::{AuthenticatedBody, JsonBody};
use super::client::Client;
use super::events::EventShape;
use super::gate::Gate;
use super::respond;
use super::sessions::SessionShape;
use super::shapes::{ErrorResponse, StatusResponse, UserResponse};
use crate::auth::{Authenticated, Authenticator};
use crate::clock::{Clock, Timestamp};
use crate::error::ApiError;
use crate::event::EventKind;
use crate::item::ItemId;
use crate::json;
use crate::password::{PasswordPolicy, Passwords, PlainPassword};
use crate::repository::{Cause, Repository};
use crate::session::{Caller, SessionPolicy};
use crate::user::{PasswordHash, ProfileField, User};

/// The user object
#[utoipa::path(
    get, path = "/api/user", operation_id = "find_user", tag = "user", security(("Token" = [])),
    responses(
        (status = 200, description = "The caller", body = UserResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(super) async fn show(
    caller: Caller,
    repository: web::Data<dyn Repository>,
    authenticator: web::Data<Authenticator>,
) -> Result<HttpResponse, ApiError> {
    let (session, user) = repository.find_rendered_user(&caller, render).await?;
    authenticator.note_use(&caller, &session);
    Ok(HttpResponse::Ok().body(user))
}

fn render(user: User) -> Result<Bytes, Cause> {
    let text = json::to_vec(&UserResponse::from(user)).map_err(|error| Arc::new(error) as Cause)?;
    // It may be kept, and then without the room that it was given to grow.
    Ok(text.into_boxed_slice().into())
}

/// The profile's fields, of which any may be given.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the documentation; the body is read field by field, strictly")]
pub(super) struct ProfileRequest {
    #[schema(nullable = false, max_length = 150)]
    first_name: Option<String>,
    #[schema(nullable = false, max_length = 150)]
    last_name: Option<String>,
    /// Empty or an address.
    #[schema(nullable = false, max_length = 254)]
    email: Option<String>,
    #[schema(nullable = false, max_length = 255, example = "123 N Main St.")]
    address: Option<String>,
    #[schema(nullable = false, max_length = 255, example = "#100")]
    address2: Option<String>,
    #[schema(nullable = false, max_length = 100, example = "Chicago")]
    city: Option<String>,
    #[schema(nullable = false, max_length = 100, example = "IL")]
    state: Option<String>,
    #[schema(nullable = false, max_length = 20, example = "60647")]
    zipcode: Option<String>,
}

/// What the user object has beside the profile: a change that names one of these is told so by its name.
const FIXED_FIELDS: [&str; 13] = [
    "id",
    "token",
    "username",
    "password",
    "is_active",
    "is_superuser",
    "is_staff",
    "last_login",
    "cellar",
    "wants",
    "created",
    "modified",
    "date_joined",
];

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
pub(super) async fn update(
    AuthenticatedBody { caller, body }: AuthenticatedBody,
    repository: web::Data<dyn Repository>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let mut body = JsonBody::from_value(body)?;
    let changes = body.accept_profile()?;
    if let Some(left) = body.0.keys().next() {
        let fixed = FIXED_FIELDS.iter().find(|field| **field == left);
        return Err(ApiError::InvalidData(fixed.map_or_else(
            || format!("only {} can be set here", ProfileField::ALL.map(ProfileField::name).join(", ")),
            |field| format!("{field} cannot be set here"),
        )));
    }
    let user = repository.update_profile(&caller, changes, clock.now()).await?;
    respond(HttpResponse::Ok(), &UserResponse::from(user))
}

/// The account's password, to show that it is its owner who asks.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the documentation; the body is read field by field, strictly")]
pub(super) struct DeleteRequest {
    #[schema(example = "hunter2", min_length = 1)]
    password: String,
}

/// Delete the account, its lists and its tokens
#[utoipa::path(
    delete, path = "/api/user", operation_id = "delete_user", tag = "user", security(("Token" = [])),
    request_body(content = DeleteRequest, example = json!({"password": "hunter2"})),
    responses(
        (status = 200, description = "All of it is gone", body = StatusResponse),
        (status = 409, description = "It is the last superuser", body = ErrorResponse),
        (status = 400, description = "The password is missing or wrong", body = ErrorResponse,
            example = json!({"error": "Invalid Data: password is wrong"})),
        (status = 429, description = "Too many wrong passwords; `Retry-After` says when to try again", body = ErrorResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(super) async fn delete(
    AuthenticatedBody { caller, body }: AuthenticatedBody,
    client: Client,
    repository: web::Data<dyn Repository>,
    own: OwnPassword,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let mut body = JsonBody::from_value(body)?;
    let password = PlainPassword::parse("password", body.require("password")?)?;
    for _ in 0..ATTEMPTS {
        let stored = own.verify(&caller, "password", &password, &client).await?;
        if repository.delete_user(&caller, stored, clock.now()).await? {
            return respond(HttpResponse::Ok(), &StatusResponse::SUCCESS);
        }
    }
    Err(wrong("password"))
}

/// The password that the account has and the one that it is to have.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the documentation; the body is read field by field, strictly")]
pub(super) struct PasswordRequest {
    #[schema(example = "hunter2", min_length = 1)]
    current_password: String,
    #[schema(example = "correct horse battery staple", min_length = 1)]
    new_password: String,
}

/// Change the password; every other token ends
#[utoipa::path(
    post, path = "/api/user/password", operation_id = "change_password", tag = "user", security(("Token" = [])),
    request_body(content = PasswordRequest, example = json!({"current_password": "hunter2", "new_password": "correct horse battery staple"})),
    responses(
        (status = 200, description = "The password is changed, and every session but this one is over", body = StatusResponse),
        (status = 400, description = "The current password is wrong, or the new one will not do", body = ErrorResponse,
            example = json!({"error": "Invalid Data: current_password is wrong"})),
        (status = 429, description = "Too many wrong passwords; `Retry-After` says when to try again", body = ErrorResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(super) async fn change_password(
    AuthenticatedBody { caller, body }: AuthenticatedBody,
    client: Client,
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    policy: web::Data<PasswordPolicy>,
    own: OwnPassword,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let mut body = JsonBody::from_value(body)?;
    let current = PlainPassword::parse("current_password", body.require("current_password")?)?;
    let new = PlainPassword::parse("new_password", body.require("new_password")?)?;
    policy.check("new_password", &new)?;
    for _ in 0..ATTEMPTS {
        let stored = own.verify(&caller, "current_password", &current, &client).await?;
        let new_hash = passwords.hash(new.clone(), client.gone()).await?;
        if repository.change_password(&caller, stored, new_hash, clock.now()).await? {
            return respond(HttpResponse::Ok(), &StatusResponse::SUCCESS);
        }
    }
    Err(wrong("current_password"))
}

/// What it takes to check the caller's own password.
pub(super) struct OwnPassword {
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    gate: web::Data<Gate>,
}

impl FromRequest for OwnPassword {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parts = || {
            Some(Self {
                repository: request.app_data::<web::Data<dyn Repository>>()?.clone(),
                passwords: request.app_data::<web::Data<Passwords>>()?.clone(),
                gate: request.app_data::<web::Data<Gate>>()?.clone(),
            })
        };
        ready(parts().ok_or_else(|| ApiError::Internal("no passwords are configured".into())))
    }
}

impl OwnPassword {
    /// Checks it; the hash that it was verified against. Whoever holds a token may not guess without end either.
    async fn verify(
        &self,
        caller: &Caller,
        field: &'static str,
        password: &PlainPassword,
        client: &Client,
    ) -> Result<PasswordHash, ApiError> {
        let credentials = self.repository.find_own_credentials(caller).await?;
        let attempt = self.gate.begin_reauthentication(&credentials.username, client.ip)?;
        let verification = self.passwords.verify(password.clone(), Some(&credentials), client.gone()).await?;
        if verification.matches {
            attempt.succeeded();
            return Ok(credentials.password_hash);
        }
        self.gate.refuse(attempt, EventKind::ReauthenticationFailed, credentials.username, client.ip);
        Err(wrong(field))
    }
}

/// Not a 401: the session is as good as before, and a client must not take it for lost.
fn wrong(field: &'static str) -> ApiError {
    ApiError::InvalidData(format!("{field} is wrong"))
}

/// Everything that is stored about the caller, secrets excepted.
#[derive(Serialize, ToSchema)]
pub(super) struct ExportResponse {
    /// When the export was made.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    exported: String,
    user: UserResponse,
    cellar: Vec<ExportedItem>,
    wants: Vec<ExportedItem>,
    sessions: Vec<SessionShape>,
    events: Vec<EventShape>,
}

/// An item of a list, and since when it is there.
#[derive(Serialize, ToSchema)]
pub(super) struct ExportedItem {
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
pub(super) async fn export(
    Authenticated(caller): Authenticated,
    repository: web::Data<dyn Repository>,
    policy: web::Data<SessionPolicy>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let export = repository.export_user(&caller).await?;
    let sessions = export.sessions.iter().map(|session| SessionShape::new(session, Some(&caller), &policy)).collect();
    respond(
        HttpResponse::Ok(),
        &ExportResponse {
            exported: clock.now().to_string(),
            user: export.user.into(),
            cellar: exported(export.cellar),
            wants: exported(export.wants),
            sessions,
            events: export.events.into_iter().map(EventShape::from).collect(),
        },
    )
}
