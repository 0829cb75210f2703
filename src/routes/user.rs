//! `/api/user`: the account itself, its profile, its password, its export and its end.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::account::ATTEMPTS;
use super::body::{AuthenticatedBody, JsonBody};
use super::client::Client;
use super::respond;
use super::sessions::SessionShape;
use super::shapes::{ErrorResponse, StatusResponse, UserResponse};
use crate::auth::{Authenticated, Authenticator};
use crate::clock::{Clock, Timestamp};
use crate::error::ApiError;
use crate::item::ItemId;
use crate::password::{PasswordPolicy, Passwords, PlainPassword};
use crate::repository::Repository;
use crate::session::{Caller, SessionPolicy};
use crate::user::{PasswordHash, ProfileField};

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
    let (session, user) = repository.find_user(&caller).await?;
    authenticator.note_use(&caller, &session);
    respond(HttpResponse::Ok(), &UserResponse::from(user))
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
    patch, path = "/api/user", operation_id = "update_user", tag = "user", security(("Token" = [])), request_body = ProfileRequest,
    responses(
        (status = 200, description = "The user with all of the changes", body = UserResponse),
        (status = 400, description = "A field breaks its rule or may not be set here; nothing is changed", body = ErrorResponse),
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
    delete, path = "/api/user", operation_id = "delete_user", tag = "user", security(("Token" = [])), request_body = DeleteRequest,
    responses(
        (status = 200, description = "All of it is gone", body = StatusResponse),
        (status = 400, description = "The password is missing or wrong", body = ErrorResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(super) async fn delete(
    AuthenticatedBody { caller, body }: AuthenticatedBody,
    client: Client,
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
) -> Result<HttpResponse, ApiError> {
    let mut body = JsonBody::from_value(body)?;
    let password = PlainPassword::parse("password", body.require("password")?)?;
    for _ in 0..ATTEMPTS {
        let stored = verify_own(&caller, "password", &password, &client, &repository, &passwords).await?;
        if repository.delete_user(&caller, stored).await? {
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
    post, path = "/api/user/password", operation_id = "change_password", tag = "user", security(("Token" = [])), request_body = PasswordRequest,
    responses(
        (status = 200, description = "The password is changed, and every session but this one is over", body = StatusResponse),
        (status = 400, description = "The current password is wrong, or the new one will not do", body = ErrorResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(super) async fn change_password(
    AuthenticatedBody { caller, body }: AuthenticatedBody,
    client: Client,
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    policy: web::Data<PasswordPolicy>,
) -> Result<HttpResponse, ApiError> {
    let mut body = JsonBody::from_value(body)?;
    let current = PlainPassword::parse("current_password", body.require("current_password")?)?;
    let new = PlainPassword::parse("new_password", body.require("new_password")?)?;
    policy.check("new_password", &new)?;
    for _ in 0..ATTEMPTS {
        let stored = verify_own(&caller, "current_password", &current, &client, &repository, &passwords).await?;
        let new_hash = passwords.hash(new.clone(), client.gone()).await?;
        if repository.change_password(&caller, stored, new_hash).await? {
            return respond(HttpResponse::Ok(), &StatusResponse::SUCCESS);
        }
    }
    Err(wrong("current_password"))
}

/// Checks the caller's own password; the hash that it was verified against.
async fn verify_own(
    caller: &Caller,
    field: &'static str,
    password: &PlainPassword,
    client: &Client,
    repository: &web::Data<dyn Repository>,
    passwords: &Passwords,
) -> Result<PasswordHash, ApiError> {
    let stored = repository.find_own_credentials(caller).await?.password_hash;
    let verification = passwords.verify(password.clone(), Some(&stored), client.gone()).await?;
    if verification.matches { Ok(stored) } else { Err(wrong(field)) }
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
    let sessions = export.sessions.iter().map(|session| SessionShape::new(session, &caller, &policy)).collect();
    respond(
        HttpResponse::Ok(),
        &ExportResponse {
            exported: clock.now().to_string(),
            user: export.user.into(),
            cellar: exported(export.cellar),
            wants: exported(export.wants),
            sessions,
        },
    )
}
