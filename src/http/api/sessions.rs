//! `/api/user/tokens` and `/api/logoutall`: the caller's sessions, to be seen and ended one by one or all at once.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::session::{Caller, SessionDetails, SessionId, SessionPolicy};
use crate::http::error::ApiError;
use crate::http::extract::caller::Authenticated;
use crate::http::routes::respond;
use crate::http::views::{ErrorResponse, StatusResponse};
use crate::repository::Repository;
use crate::system::clock::Clock;

/// A session, without its token.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionDetailsResponse {
    /// Its name among the caller's sessions.
    #[schema(example = "5f0c1d3a9b7e2468")]
    id: String,
    /// When its login was.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    created: String,
    /// When it was last seen in use, to the minute.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    last_used: String,
    /// When it ends by itself if it is not used again; `null` is never.
    #[schema(example = "2015-02-03T22:51:35.144Z", format = DateTime, required)]
    expires: Option<String>,
    /// What the client said it was at the login.
    #[schema(example = "Cellar/1.0 (iPhone)")]
    user_agent: String,
    /// Where the login came from; `null` where that is not known.
    #[schema(example = "203.0.113.9", required)]
    ip: Option<String>,
    /// Whether it is the session that asks.
    #[schema(example = true)]
    current: bool,
}

impl SessionDetailsResponse {
    /// The session as it is shown to `caller`, or to the operator.
    #[must_use]
    pub fn new(session: &SessionDetails, caller: Option<&Caller>, policy: &SessionPolicy) -> Self {
        Self {
            id: session.id.as_str().to_owned(),
            created: session.created.to_string(),
            last_used: session.last_used.to_string(),
            expires: policy.expires(session.created, session.last_used).map(|end| end.to_string()),
            user_agent: session.user_agent.as_str().to_owned(),
            ip: session.ip.map(|ip| ip.to_string()),
            current: caller.is_some_and(|caller| session.id == SessionId::of(&caller.digest)),
        }
    }
}

/// The caller's sessions, newest first
#[utoipa::path(
    get, path = "/api/user/tokens", operation_id = "list_sessions", tag = "sessions", security(("Token" = [])),
    responses(
        (status = 200, description = "The live ones", body = [SessionDetailsResponse]),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn list(
    Authenticated(caller): Authenticated,
    repository: web::Data<dyn Repository>,
    policy: web::Data<SessionPolicy>,
) -> Result<HttpResponse, ApiError> {
    let sessions = repository.list_sessions(&caller).await?;
    let sessions: Vec<_> =
        sessions.iter().map(|session| SessionDetailsResponse::new(session, Some(&caller), &policy)).collect();
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
    repository: web::Data<dyn Repository>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let id = SessionId::parse(&id).ok_or(ApiError::NotFound)?;
    if !repository.revoke_session(&caller, id, clock.now()).await? {
        return Err(ApiError::NotFound);
    }
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
pub(crate) async fn end_all(
    Authenticated(caller): Authenticated,
    repository: web::Data<dyn Repository>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    repository.revoke_all_sessions(&caller, clock.now()).await?;
    respond(HttpResponse::Ok(), &StatusResponse::SUCCESS)
}
