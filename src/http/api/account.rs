//! `POST /api/register`, `/api/login` and `/api/logout`.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::throttle::limits::Call;
use crate::domain::event::EventKind;
use crate::domain::session::SessionPolicy;
use crate::domain::token::PlainToken;
use crate::domain::user::{NewUser, Profile, User, Username};
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::client::Client;
use crate::http::json::Request;
use crate::http::login_throttle::LoginThrottle;
use crate::http::routes::respond;
use crate::http::views::{ErrorResponse, StatusResponse, UserResponse, profile_changes};
use crate::passwords::{PasswordPolicy, Passwords, PlainPassword};
use crate::repository::{Repository, RepositoryError, UniqueField, VerifiedLogin};
use crate::system::clock::Clock;

/// A name and a password, and whatever of the profile is known already.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RegisterRequest {
    /// 1 to 30 characters of `A-Z a-z 0-9 _ @ + . -`; unique without regard to case.
    #[schema(example = "AzureDiamond", min_length = 1, max_length = 30, pattern = "^[A-Za-z0-9_@+.-]{1,30}$")]
    username: String,
    /// Any text but the empty one; every byte counts.
    #[schema(example = "hunter2", min_length = 1)]
    password: String,
    #[schema(nullable = false, max_length = 150)]
    first_name: Option<String>,
    #[schema(nullable = false, max_length = 150)]
    last_name: Option<String>,
    /// Empty or an address.
    #[schema(nullable = false, max_length = 254)]
    email: Option<String>,
    #[schema(nullable = false, max_length = 255)]
    address: Option<String>,
    #[schema(nullable = false, max_length = 255)]
    address2: Option<String>,
    #[schema(nullable = false, max_length = 100)]
    city: Option<String>,
    #[schema(nullable = false, max_length = 100)]
    state: Option<String>,
    #[schema(nullable = false, max_length = 20)]
    zipcode: Option<String>,
}

impl Request for RegisterRequest {}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginRequest {
    /// The account's name, in any case.
    #[schema(example = "AzureDiamond", min_length = 1, max_length = 30)]
    username: String,
    #[schema(example = "hunter2", min_length = 1)]
    password: String,
}

impl Request for LoginRequest {}

/// A new session: the only answer that shows a token.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionResponse {
    /// What later requests carry as `Authorization: Token <token>`.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", pattern = "^[0-9a-f]{40}$")]
    token: String,
    user: UserResponse,
}

impl SessionResponse {
    fn new(token: &PlainToken, user: User) -> Self {
        Self { token: token.reveal().to_owned(), user: user.into() }
    }
}

/// How often a password is verified for one request. The stored hash may change in between, and the password be right
/// all the same: another login has just made the hash anew at another cost.
pub(crate) const ATTEMPTS: usize = 2;

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
pub(crate) async fn register(
    client: Client,
    body: UnreadBody,
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    policy: web::Data<PasswordPolicy>,
    throttle: web::Data<LoginThrottle>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let admission = throttle.admit(Call::Register, client.ip)?;
    let body: RegisterRequest = body.read_with_password().await?;
    let username = Username::parse(&body.username)?;
    let password = PlainPassword::parse("password", body.password)?;
    policy.check("password", &password)?;
    let mut profile = Profile::default();
    for change in profile_changes([
        body.first_name,
        body.last_name,
        body.email,
        body.address,
        body.address2,
        body.city,
        body.state,
        body.zipcode,
    ])? {
        profile.set(change);
    }
    admission.spend();
    // Only to spare a taken name its hash; who is first is decided by the store.
    if repository.find_credentials(&username).await?.is_some() {
        return Err(RepositoryError::Conflict(UniqueField::Username).into());
    }
    let password_hash = passwords.hash(password, client.gone()).await?;
    let token = PlainToken::generate();
    let user = NewUser { username, password_hash, profile };
    let user = repository.register_user(user, client.session(token.digest()), clock.now()).await?;
    respond(HttpResponse::Created(), &SessionResponse::new(&token, user))
}

/// Get a new token for an account
#[utoipa::path(
    post, path = "/api/login", operation_id = "log_in", tag = "account", request_body(content = LoginRequest, example = json!({"username": "AzureDiamond", "password": "hunter2"})),
    responses(
        (status = 200, description = "A new session", body = SessionResponse),
        (status = 400, description = "A field is missing or mistyped", body = ErrorResponse,
            example = json!({"error": "Invalid Data: password is required"})),
        (status = 401, description = "No account that may be used has this name and this password", body = ErrorResponse,
            example = json!({"error": "The username or the password is wrong."})),
        (status = 429, description = "Too many attempts from this address or on this account; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_in(
    client: Client,
    body: UnreadBody,
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    policy: web::Data<SessionPolicy>,
    throttle: web::Data<LoginThrottle>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let admission = throttle.admit(Call::LogIn, client.ip)?;
    let body: LoginRequest = body.read_with_password().await?;
    let username = Username::parse(&body.username)?;
    let password = PlainPassword::parse("password", body.password)?;
    admission.spend();
    let attempt = throttle.begin_login(&username, client.ip).await?;
    for _ in 0..ATTEMPTS {
        // An account that may not be used is treated like one that does not exist, from here to the last byte.
        let credentials = repository.find_credentials(&username).await?.filter(|credentials| credentials.is_active);
        let verification = passwords.verify(password.clone(), credentials.as_ref(), client.gone()).await?;
        let Some(credentials) = credentials.filter(|_| verification.matches) else { break };

        let token = PlainToken::generate();
        let login = VerifiedLogin {
            user_id: credentials.user_id,
            verified_against: credentials.password_hash,
            rehashed: verification.rehashed,
        };
        let session = client.session(token.digest());
        if let Some(user) = repository.open_session(login, session, policy.max_per_user, clock.now()).await? {
            attempt.succeeded();
            return respond(HttpResponse::Ok(), &SessionResponse::new(&token, user));
        }
    }
    throttle.refuse(attempt, EventKind::LoginFailed, username, client.ip);
    Err(ApiError::LoginFailed)
}

/// End the presented token's session
#[utoipa::path(
    post, path = "/api/logout", operation_id = "log_out", tag = "account", security(("Token" = [])),
    responses(
        (status = 200, description = "It is over, at once and for good", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn log_out(
    Authenticated(caller): Authenticated,
    repository: web::Data<dyn Repository>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    repository.revoke_own_session(&caller, clock.now()).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}
