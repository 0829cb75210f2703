//! The commands of `token`: list and end an account's sessions. The tokens themselves are not known.

use crate::accounts::administer::Ended;
use crate::cli::context::{CommandError, Context, as_operator};
use crate::domain::user::Username;
use crate::http::views::session::SessionDetailsResponse;

/// Lists an account's live sessions, newest first.
///
/// # Errors
/// [`CommandError::NoAccount`], or another.
pub async fn list(context: &mut Context, username: &Username) -> Result<(), CommandError> {
    let policy = context.config.tokens;
    let cutoffs = policy.cutoffs_at(context.clock.now());
    let sessions = as_operator(&context.config, &context.clock, false, async |administration| {
        let sessions = administration.list_sessions(username, cutoffs).await;
        sessions.map_err(|error| CommandError::of_account(username, error))
    })
    .await?;
    let mut list = context.output.list(["ID", "CREATED", "LAST USED", "EXPIRES", "IP", "USER AGENT"]);
    list.add(sessions.iter().map(|session| {
        let expires = policy.expires(session.created, session.last_used, session.expires);
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

/// Ends one of an account's sessions, or all of them.
///
/// # Errors
/// [`CommandError::NoAccount`], [`CommandError::NoSession`], or another.
pub async fn revoke(context: &mut Context, username: &Username, which: Ended) -> Result<(), CommandError> {
    let cutoffs = context.config.tokens.cutoffs_at(context.clock.now());
    let ended = as_operator(&context.config, &context.clock, false, async |administration| {
        let ended = administration.revoke_sessions(username, which, cutoffs).await;
        ended.map_err(|error| CommandError::of_account(username, error))
    })
    .await?;
    let text = format!("{ended} {} ended.\n", if ended == 1 { "token was" } else { "tokens were" });
    context.tell(&serde_json::json!({"revoked": ended}), || text)
}
