//! An account's sessions: seen and ended. A token itself is nowhere to be seen.

use crate::cli::context::{CommandError, Context};
use crate::cli::user::no_account;
use crate::domain::rights::Actor;
use crate::domain::session::SessionId;
use crate::domain::user::Username;
use crate::http::api::sessions::SessionDetailsResponse;

/// Lists an account's live sessions, newest first.
///
/// # Errors
/// [`CommandError::NoAccount`], or another.
pub async fn list(context: &mut Context, username: &Username) -> Result<(), CommandError> {
    let policy = context.config.tokens;
    let repository = context.open(false)?;
    let cutoffs = policy.cutoffs_at(context.clock.now());
    let sessions = repository.list_account_sessions(&Actor::CommandLine, username, cutoffs).await;
    context.close(&repository).await;
    let sessions = sessions?.ok_or_else(|| no_account(username))?;
    let mut list = context.output.list(["ID", "CREATED", "LAST USED", "EXPIRES", "IP", "USER AGENT"]);
    list.add(sessions.iter().map(|session| {
        let expires = policy.expires(session.created, session.last_used);
        let cells = [
            session.id.as_str().to_owned(),
            session.created.to_string(),
            session.last_used.to_string(),
            expires.map_or_else(|| "never".to_owned(), |end| end.to_string()),
            session.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            session.user_agent.as_str().to_owned(),
        ];
        (SessionDetailsResponse::new(session, None, &policy), cells)
    }))?;
    Ok(list.end()?)
}

/// Which sessions are to end.
pub enum Ended {
    /// This one.
    One(SessionId),
    /// All of the account's.
    All,
}

/// Ends one of an account's sessions, or all of them.
///
/// # Errors
/// [`CommandError::NoAccount`], [`CommandError::NoSession`], or another.
pub async fn revoke(context: &mut Context, username: &Username, which: Ended) -> Result<(), CommandError> {
    let now = context.clock.now();
    let cutoffs = context.config.tokens.cutoffs_at(now);
    let id = match which {
        Ended::One(id) => Some(id),
        Ended::All => None,
    };
    let is_one = id.is_some();
    let repository = context.open(false)?;
    let ended = repository.revoke_account_sessions(&Actor::CommandLine, username, id, cutoffs, now).await;
    context.close(&repository).await;
    let ended = ended?.ok_or_else(|| no_account(username))?;
    if is_one && ended == 0 {
        return Err(CommandError::NoSession(username.as_str().to_owned()));
    }
    let text = format!("{ended} {} ended.\n", if ended == 1 { "token was" } else { "tokens were" });
    context.tell(&serde_json::json!({"revoked": ended}), || text)
}
