//! `/api/users`: other people's accounts, for staff. Who may do what is decided by the store, in the transaction that does
//! it; see [`crate::domain::rights`].

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::NewPassword;
use crate::accounts::administer::{Administration, Ended, RequestedChange};
use crate::domain::rights::{AccountCursor, Actor, Permission, SearchText, UserQuery};
use crate::domain::session::SessionId;
use crate::domain::user::Username;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::client::HttpClient;
use crate::http::extract::query::UnreadQuery;
use crate::http::json::{Request, Value};
use crate::http::state::State;
use crate::http::views::session::SessionDetailsResponse;
use crate::http::views::user::AccountResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};
use crate::passwords::PlainPassword;

/// A name that cannot be deleted by path. Clients drop a segment `.` from a path, so ending the sessions of an account
/// called `.` becomes `DELETE /api/users/tokens`: that must not delete an account called `tokens`.
const AMBIGUOUS: &str = "tokens";

/// How long a search may be.
const MAX_SEARCH: usize = 100;

/// After how many list items a page of accounts ends: about a mebibyte. A page is in memory as a whole, and its reader
/// holds a connection to the file meanwhile.
const ENOUGH_ITEMS: usize = 64 * 1024;

/// Accounts, in the order of their names
#[utoipa::path(
    get, path = "/api/users", operation_id = "list_users", tag = "staff", security(("Token" = [])),
    params(
        ("search" = Option<String>, Query, description = "Only those with this text in their name, their first and last name or their address of mail, without regard to case in any script; accents count"),
        ("is_active" = Option<bool>, Query, description = "Only those that may be used, or only those that may not"),
        ("is_staff" = Option<bool>, Query, description = "Only staff, or only others"),
        ("is_superuser" = Option<bool>, Query, description = "Only superusers, or only others"),
        ("after" = Option<String>, Query, description = "Only those behind this name"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many at most, 1 to 100; 50 where it is not said"),
    ),
    responses(
        (status = 200, description = "A page; `Link` says where the next one is. It ends sooner once its lists come to 65,536 items", body = [AccountResponse]),
        (status = 400, description = "A parameter cannot be", body = ErrorResponse,
            example = json!({"error": "Invalid Data: is_active must be true or false"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller is no staff", body = ErrorResponse),
    ),
)]
pub(crate) async fn list(
    Authenticated(caller): Authenticated,
    query: UnreadQuery,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let administration = state.accounts.administration(Actor::Session(caller));
    administration.authorize(Permission::ManageAccount, None).await?;
    let mut query = query.read()?;
    // No name and no address has a control character, and a store may take a NUL for the text's end.
    let is_text = |text: &str| (1..=MAX_SEARCH).contains(&text.chars().count()) && !text.contains(char::is_control);
    let asked = UserQuery {
        search: query.take("search", &format!("1 to {MAX_SEARCH} printable characters"), |text| {
            is_text(text).then(|| SearchText::new(text))
        })?,
        is_active: query.take_boolean("is_active")?,
        is_staff: query.take_boolean("is_staff")?,
        is_superuser: query.take_boolean("is_superuser")?,
        after: query.take("after", "a name", AccountCursor::parse)?,
        limit: query.take_limit()?,
        enough_items: Some(ENOUGH_ITEMS),
    };
    query.refuse_unknown()?;
    let page = administration.list_accounts(asked).await?;
    let sends_mail = state.accounts.mail.is_some();
    let users: Vec<_> = page.rows.into_iter().map(|user| AccountResponse::new(user, sends_mail)).collect();
    let mut response = respond(HttpResponse::Ok(), &users)?;
    if let Some(next) = page.next {
        query.link_next(&mut response, "after", &next.to_string());
    }
    Ok(response)
}

/// An account
#[utoipa::path(
    get, path = "/api/users/{username}", operation_id = "find_account", tag = "staff", security(("Token" = [])),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 200, description = "The account", body = AccountResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller is no staff", body = ErrorResponse),
        (status = 404, description = "There is no account of this name", body = ErrorResponse),
    ),
)]
pub(crate) async fn show(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let administration = state.accounts.administration(Actor::Session(caller));
    let username = parse(&username, &administration).await?;
    let user = administration.find_account(&username).await?;
    respond(HttpResponse::Ok(), &AccountResponse::new(user, state.accounts.mail.is_some()))
}

/// What is to be different about an account.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AccountRequest {
    /// Whether it may be used. Where not, its tokens end.
    #[schema(value_type = Option<bool>, nullable = false)]
    is_active: Option<Value>,
    /// Superusers only: whether it is staff.
    #[schema(value_type = Option<bool>, nullable = false)]
    is_staff: Option<Value>,
    /// Superusers only: whether it is a superuser.
    #[schema(value_type = Option<bool>, nullable = false)]
    is_superuser: Option<Value>,
    /// A new password. Its tokens end. Where the service sends mail, this is refused unless it is configured: its owner
    /// sets it, by `POST /api/users/{username}/reset`.
    #[schema(value_type = Option<String>, nullable = false, min_length = 1)]
    password: Option<Value>,
}

impl Request for AccountRequest {
    fn refuse(_: &str) -> Option<String> {
        Some("only is_active, is_staff, is_superuser and password can be set here".to_owned())
    }
}

/// Deactivate, activate, promote or demote an account, or set its password
#[utoipa::path(
    patch, path = "/api/users/{username}", operation_id = "change_account", tag = "staff", security(("Token" = [])),
    request_body(content = AccountRequest, example = json!({"is_active": true})),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 200, description = "The account with all of the changes", body = AccountResponse),
        (status = 400, description = "A field breaks its rule or may not be set here; nothing is changed", body = ErrorResponse,
            example = json!({"error": "Invalid Data: is_active must be true or false"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller may not do this to this account, or is the account. Where the service sends mail, nobody sets another's password here", body = ErrorResponse),
        (status = 404, description = "There is no account of this name", body = ErrorResponse),
        (status = 409, description = "It is the last superuser", body = ErrorResponse),
        (status = 429, description = "Too many passwords from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn change(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    body: UnreadBody,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let actor = Actor::Session(caller);
    let administration = state.accounts.administration(actor);
    let username = parse(&username, &administration).await?;
    // Rights are checked twice: before the body is read, and, for what it asks, before its values are read or a
    // password is hashed.
    let is_there = administration.authorize(Permission::ManageAccount, Some(&username)).await?;
    let body: AccountRequest = body.read_with_password().await?;
    if body.is_staff.is_some() || body.is_superuser.is_some() {
        administration.authorize(Permission::AdministerAccount, Some(&username)).await?;
    }
    let boolean = |value: Option<Value>, field| value.map(|value| value.boolean(field)).transpose();
    let mut requested = RequestedChange {
        is_active: boolean(body.is_active, "is_active")?,
        is_staff: boolean(body.is_staff, "is_staff")?,
        is_superuser: boolean(body.is_superuser, "is_superuser")?,
        password: None,
    };
    let password = body.password.map(|password| password.string("password")).transpose()?;
    let password = password.map(|text| PlainPassword::parse("password", text)).transpose()?;
    if !is_there {
        return Err(ApiError::NotFound);
    }
    if let Some(password) = password {
        let policy = &state.accounts.password_policy;
        requested.password = Some(NewPassword::accept(policy, "password", password)?);
    }
    let user = state.accounts.change_account(actor, &username, requested, &client).await?;
    respond(HttpResponse::Ok(), &AccountResponse::new(user, state.accounts.mail.is_some()))
}

/// Delete an account, its lists and its tokens
#[utoipa::path(
    delete, path = "/api/users/{username}", operation_id = "delete_account", tag = "staff", security(("Token" = [])),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 200, description = "All of it is gone", body = StatusResponse),
        (status = 400, description = "It is called `tokens`: such an account is deleted at the command line", body = ErrorResponse,
            example = json!({"error": "Invalid Data: an account of this name is deleted at the command line"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller is no superuser, or is the account", body = ErrorResponse),
        (status = 404, description = "There is no account of this name", body = ErrorResponse),
        (status = 409, description = "It is the last superuser", body = ErrorResponse),
    ),
)]
pub(crate) async fn delete(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let administration = state.accounts.administration(Actor::Session(caller));
    // Rights first: whoever may delete no account does not learn whether this one exists, or could.
    administration.authorize(Permission::AdministerAccount, None).await?;
    let username = parse(&username, &administration).await?;
    if username.key() == AMBIGUOUS {
        return Err(ApiError::InvalidData("an account of this name is deleted at the command line".to_owned()));
    }
    administration.delete_account(&username).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Have a link mailed to an account's address that sets a new password
#[utoipa::path(
    post, path = "/api/users/{username}/reset", operation_id = "send_reset", tag = "staff", security(("Token" = [])),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 202, description = "The mail is on its way; nothing of it is told to the caller", body = StatusResponse),
        (status = 400, description = "The account has no address that mail can be sent to", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the account has no address that mail can be sent to"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller may not do this to this account, or is the account", body = ErrorResponse),
        (status = 404, description = "There is no account of this name, or the service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
        (status = 429, description = "Too many attempts from this address; `Retry-After` says when to try again", body = ErrorResponse),
    ),
)]
pub(crate) async fn send_reset(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    client: HttpClient,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let policy = state.accounts.mail()?;
    let actor = Actor::Session(caller);
    let username = parse(&username, &state.accounts.administration(actor)).await?;
    state.accounts.send_reset(policy, actor, &username, &client).await?;
    respond(HttpResponse::Accepted(), &StatusResponse::SUCCESS)
}

/// Count an account's address as verified
#[utoipa::path(
    post, path = "/api/users/{username}/verify-email", operation_id = "verify_account_email", tag = "staff", security(("Token" = [])),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 200, description = "The account, whose address is verified", body = AccountResponse),
        (status = 400, description = "The account has no address that mail can be sent to, or another account has verified it", body = ErrorResponse,
            example = json!({"error": "Invalid Data: the account has no address that mail can be sent to"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller may not do this to this account, or is the account", body = ErrorResponse),
        (status = 404, description = "There is no account of this name, or the service sends no mail", body = ErrorResponse,
            example = json!({"error": "This service sends no mail."})),
    ),
)]
pub(crate) async fn verify_email(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    state.accounts.mail()?;
    let administration = state.accounts.administration(Actor::Session(caller));
    let username = parse(&username, &administration).await?;
    let user = administration.verify_email(&username).await?;
    respond(HttpResponse::Ok(), &AccountResponse::new(user, true))
}

/// Remove an account's authenticator app, recovery codes and passkeys, for an owner who has lost them
#[utoipa::path(
    post, path = "/api/users/{username}/reset-factors", operation_id = "reset_factors", tag = "staff", security(("Token" = [])),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 200, description = "They are gone, and the owner is told so. The password, the identities and the tokens stay", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller may not do this to this account, or is the account", body = ErrorResponse),
        (status = 404, description = "There is no account of this name", body = ErrorResponse),
    ),
)]
pub(crate) async fn reset_factors(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let administration = state.accounts.administration(Actor::Session(caller));
    let username = parse(&username, &administration).await?;
    administration.reset_factors(&username).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// An account's sessions, newest first
#[utoipa::path(
    get, path = "/api/users/{username}/tokens", operation_id = "list_account_sessions", tag = "staff", security(("Token" = [])),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 200, description = "The live ones", body = [SessionDetailsResponse]),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller is no staff", body = ErrorResponse),
        (status = 404, description = "There is no account of this name", body = ErrorResponse),
    ),
)]
pub(crate) async fn list_sessions(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let administration = state.accounts.administration(Actor::Session(caller));
    let username = parse(&username, &administration).await?;
    let sessions = administration.list_sessions(&username, caller.cutoffs).await?;
    let show = |session| SessionDetailsResponse::new(session, Some(&caller), &state.accounts.session_policy);
    let sessions: Vec<_> = sessions.iter().map(show).collect();
    respond(HttpResponse::Ok(), &sessions)
}

/// End all of an account's sessions
#[utoipa::path(
    delete, path = "/api/users/{username}/tokens", operation_id = "end_account_sessions", tag = "staff", security(("Token" = [])),
    params(("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond")),
    responses(
        (status = 200, description = "All of them are over", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller may not do this to this account, or is the account", body = ErrorResponse),
        (status = 404, description = "There is no account of this name", body = ErrorResponse),
    ),
)]
pub(crate) async fn end_sessions(
    Authenticated(caller): Authenticated,
    username: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let administration = state.accounts.administration(Actor::Session(caller));
    let username = parse(&username, &administration).await?;
    administration.revoke_sessions(&username, Ended::All, caller.cutoffs).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// End one of an account's sessions
#[utoipa::path(
    delete, path = "/api/users/{username}/tokens/{id}", operation_id = "end_account_session", tag = "staff", security(("Token" = [])),
    params(
        ("username" = String, Path, description = "The account's name, in any case, percent-encoded", example = "AzureDiamond"),
        ("id" = String, Path, description = "The session's `id`", example = "5f0c1d3a9b7e2468"),
    ),
    responses(
        (status = 200, description = "It is over", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller may not do this to this account, or is the account", body = ErrorResponse),
        (status = 404, description = "There is no account of this name, or it has no session of this one", body = ErrorResponse),
    ),
)]
pub(crate) async fn end_session(
    Authenticated(caller): Authenticated,
    path: web::Path<(String, String)>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let (username, id) = path.into_inner();
    let administration = state.accounts.administration(Actor::Session(caller));
    let username = parse(&username, &administration).await?;
    let Some(id) = SessionId::parse(&id) else {
        administration.authorize(Permission::ManageAccount, Some(&username)).await?;
        return Err(ApiError::NotFound);
    };
    administration.revoke_sessions(&username, Ended::One(id), caller.cutoffs).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// Reads the name in a path. A caller without rights gets the same answer, whatever the name.
async fn parse(text: &str, administration: &Administration<'_>) -> Result<Username, ApiError> {
    if let Ok(username) = Username::parse_existing(text) {
        return Ok(username);
    }
    administration.authorize(Permission::ManageAccount, None).await?;
    Err(ApiError::NotFound)
}
