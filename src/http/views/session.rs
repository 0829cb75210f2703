//! The JSON of a session, and of a new one with its token.

use serde::Serialize;
use utoipa::ToSchema;

use super::user::UserResponse;
use crate::accounts::OpenedSession;
use crate::domain::session::{Caller, SessionDetails, SessionId, SessionPolicy};

/// A new session: the only answer that shows a token.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionResponse {
    /// What later requests carry as `Authorization: Token <token>`.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", pattern = "^[0-9a-f]{40}$")]
    token: String,
    user: UserResponse,
    /// Where a recovery code was used: the one that is in its place from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0a1b-2c3d-4e5f-6g7h-8j9k-mnpq", nullable = false)]
    recovery_code: Option<String>,
}

impl From<OpenedSession> for SessionResponse {
    fn from(opened: OpenedSession) -> Self {
        Self {
            token: opened.token.reveal().to_owned(),
            user: opened.user.into(),
            recovery_code: opened.recovery_code.map(|code| code.reveal()),
        }
    }
}

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
            expires: policy.expires(session.created, session.last_used, session.expires).map(|end| end.to_string()),
            user_agent: session.user_agent.as_str().to_owned(),
            ip: session.ip.map(|ip| ip.to_string()),
            current: caller.is_some_and(|caller| session.id == SessionId::of(&caller.digest)),
        }
    }
}
