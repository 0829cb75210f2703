//! `/api/user`: the account itself, its profile, its password, its export and its end.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::throttle::limits::Call;
use crate::domain::event::EventKind;
use crate::domain::field::InvalidField;
use crate::domain::item::ItemId;
use crate::domain::session::{Caller, SessionPolicy};
use crate::domain::user::{PasswordHash, ProfileChanges, ProfileField, User};
use crate::http::api::account::ATTEMPTS;
use crate::http::api::events::EventResponse;
use crate::http::api::sessions::SessionDetailsResponse;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::{Authenticated, Authenticator};
use crate::http::extract::client::Client;
use crate::http::json::{self, Request, Value};
use crate::http::login_throttle::LoginThrottle;
use crate::http::routes::respond;
use crate::http::views::{ErrorResponse, StatusResponse, UserResponse, profile_changes, unchanged_item_ids};
use crate::passwords::{PasswordPolicy, Passwords, PlainPassword};
use crate::repository::{Cause, Repository};
use crate::system::clock::{Clock, Timestamp};

/// The user object
#[utoipa::path(
    get, path = "/api/user", operation_id = "find_user", tag = "user", security(("Token" = [])),
    responses(
        (status = 200, description = "The caller", body = UserResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn show(
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
#[derive(Deserialize, ToSchema)]
pub(crate) struct ProfileRequest {
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
    /// What is to be changed, and the rest of a user object that was sent back with it.
    fn into_parts(self) -> Result<(ProfileChanges, Rest), InvalidField> {
        let changes = profile_changes([
            self.first_name,
            self.last_name,
            self.email,
            self.address,
            self.address2,
            self.city,
            self.state,
            self.zipcode,
        ])?;
        let rest = [
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
        Ok((changes, rest.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()))
    }
}

/// Fields of the user object that no client sets. An unchanged one does no harm: a form may send back all that it got.
type Rest = Vec<(&'static str, Value)>;

/// Refuses the first that is not as the user object has it.
fn refuse_changes(rest: &Rest, user: UserResponse) -> Result<(), ApiError> {
    let stored = [
        ("username", Value::String(user.username)),
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
    match rest.iter().find(|given| !stored.contains(given)) {
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
    repository: web::Data<dyn Repository>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let (changes, rest) = body.read::<ProfileRequest>().await?.into_parts()?;
    if !rest.is_empty() {
        let (_, user) = repository.find_user(&caller).await?;
        refuse_changes(&rest, user.into())?;
    }
    let user = repository.update_profile(&caller, changes, clock.now()).await?;
    respond(HttpResponse::Ok(), &UserResponse::from(user))
}

/// The account's password, to show that it is its owner who asks.
#[derive(Deserialize, ToSchema)]
pub(crate) struct DeleteRequest {
    #[schema(example = "hunter2", min_length = 1)]
    password: String,
}

impl Request for DeleteRequest {}

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
pub(crate) async fn delete(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: Client,
    repository: web::Data<dyn Repository>,
    own: OwnPassword,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let admission = own.throttle.admit(Call::LogIn, client.ip)?;
    let body: DeleteRequest = body.read_with_password().await?;
    let password = PlainPassword::parse("password", body.password)?;
    admission.spend();
    for _ in 0..ATTEMPTS {
        let stored = own.verify(&caller, "password", &password, &client).await?;
        if repository.delete_user(&caller, stored, clock.now()).await? {
            return respond(HttpResponse::Ok(), &StatusResponse::SUCCESS);
        }
    }
    Err(wrong("password"))
}

/// The password that the account has and the one that it is to have.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PasswordRequest {
    #[schema(example = "hunter2", min_length = 1)]
    current_password: String,
    #[schema(example = "correct horse battery staple", min_length = 1)]
    new_password: String,
}

impl Request for PasswordRequest {}

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
pub(crate) async fn change_password(
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    client: Client,
    repository: web::Data<dyn Repository>,
    policy: web::Data<PasswordPolicy>,
    own: OwnPassword,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let admission = own.throttle.admit(Call::LogIn, client.ip)?;
    let body: PasswordRequest = body.read_with_password().await?;
    let current = PlainPassword::parse("current_password", body.current_password)?;
    let new = PlainPassword::parse("new_password", body.new_password)?;
    policy.check("new_password", &new)?;
    admission.spend();
    for _ in 0..ATTEMPTS {
        let stored = own.verify(&caller, "current_password", &current, &client).await?;
        let new_hash = own.passwords.hash(new.clone(), client.gone()).await?;
        if repository.change_password(&caller, stored, new_hash, clock.now()).await? {
            return respond(HttpResponse::Ok(), &StatusResponse::SUCCESS);
        }
    }
    Err(wrong("current_password"))
}

/// What it takes to check the caller's own password.
pub(crate) struct OwnPassword {
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    throttle: web::Data<LoginThrottle>,
}

impl FromRequest for OwnPassword {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parts = || {
            Some(Self {
                repository: request.app_data::<web::Data<dyn Repository>>()?.clone(),
                passwords: request.app_data::<web::Data<Passwords>>()?.clone(),
                throttle: request.app_data::<web::Data<LoginThrottle>>()?.clone(),
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
        let attempt = self.throttle.begin_reauthentication(&credentials.username, client.ip)?;
        let verification = self.passwords.verify(password.clone(), Some(&credentials), client.gone()).await?;
        if verification.matches {
            attempt.succeeded();
            return Ok(credentials.password_hash);
        }
        self.throttle.refuse(attempt, EventKind::ReauthenticationFailed, credentials.username, client.ip);
        Err(wrong(field))
    }
}

/// Not a 401: the session is as good as before, and a client must not take it for lost.
fn wrong(field: &'static str) -> ApiError {
    ApiError::InvalidData(format!("{field} is wrong"))
}

/// Everything that is stored about the caller, secrets excepted.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExportResponse {
    /// When the export was made.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    exported: String,
    user: UserResponse,
    cellar: Vec<ExportedItem>,
    wants: Vec<ExportedItem>,
    sessions: Vec<SessionDetailsResponse>,
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
pub(crate) async fn export(
    Authenticated(caller): Authenticated,
    repository: web::Data<dyn Repository>,
    policy: web::Data<SessionPolicy>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let export = repository.export_user(&caller).await?;
    let sessions =
        export.sessions.iter().map(|session| SessionDetailsResponse::new(session, Some(&caller), &policy)).collect();
    respond(
        HttpResponse::Ok(),
        &ExportResponse {
            exported: clock.now().to_string(),
            user: export.user.into(),
            cellar: exported(export.cellar),
            wants: exported(export.wants),
            sessions,
            events: export.events.into_iter().map(EventResponse::from).collect(),
        },
    )
}
