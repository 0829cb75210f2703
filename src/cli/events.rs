//! What happened, newest first.

use crate::cli::context::{CommandError, Context, print_pages};
use crate::domain::event::{Event, EventQuery};
use crate::domain::rights::Actor;
use crate::http::api::events::EventResponse;

/// Lists at most `limit` events.
///
/// # Errors
/// See [`CommandError`].
pub async fn list(context: &mut Context, mut query: EventQuery, limit: u64) -> Result<(), CommandError> {
    let repository = context.open(false)?;
    let list = context.output.list(["TIME", "EVENT", "ACCOUNT", "BY", "FROM", "DETAIL"]);
    let page = async |size| {
        query.limit = size;
        let page = repository.list_events(&Actor::CommandLine, query.clone()).await?;
        query.before = page.next;
        Ok(page.rows)
    };
    let outcome = print_pages(list, limit, page, row).await;
    context.close(&repository).await;
    outcome
}

fn row(event: Event) -> (EventResponse, [String; 6]) {
    let cells = [
        event.at.to_string(),
        event.kind.name().to_owned(),
        event.username.clone(),
        event.actor.clone(),
        event.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        event.detail.clone(),
    ];
    (event.into(), cells)
}
