//! `/api/user/tokens` and `/api/logoutall`: the caller's sessions, to be seen and ended one by one or all at once.

use actix_web::{HttpResponse, web};

use crate::domain::session::SessionId;
use crate::http::error::ApiError;
use crate::http::extract::caller::Authenticated;
use crate::http::state::State;
use crate::http::views::session::SessionDetailsResponse;
use crate::http::views::{ErrorResponse, StatusResponse, respond};

/// The caller's sessions, newest first
#[utoipa::path(
    get, path = "/api/user/tokens", operation_id = "list_sessions", tag = "sessions", security(("Token" = [])),
    responses(
        (status = 200, description = "The live ones", body = [SessionDetailsResponse]),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn list(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    let sessions = state.accounts.repository.list_sessions(&caller).await?;
    let show = |session| SessionDetailsResponse::new(session, Some(&caller), &state.accounts.session_policy);
    let sessions: Vec<_> = sessions.iter().map(show).collect();
    respond(HttpResponse::Ok(), &sessions)
}

/// End one of the caller's sessions
#[utoipa::path(
    delete, path = "/api/user/tokens/{id}", operation_id = "end_session", tag = "sessions", security(("Token" = [])),
    params(("id" = String, Path, description = "The session's `id`", example = "5f0c1d3a9b7e2468")),
    responses(
        (status = 200, description = "It is over", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 404, description = "The caller has no session of this name", body = ErrorResponse),
    ),
)]
pub(crate) async fn end(
    Authenticated(caller): Authenticated,
    id: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let id = SessionId::parse(&id).ok_or(ApiError::NotFound)?;
    state.accounts.revoke_session(&caller, id).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}

/// End all of the caller's sessions, this one too
#[utoipa::path(
    post, path = "/api/logoutall", operation_id = "end_all_sessions", tag = "sessions", security(("Token" = [])),
    responses(
        (status = 200, description = "All of them are over", body = StatusResponse),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn end_all(Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    state.accounts.sign_out_everywhere(&caller).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}
