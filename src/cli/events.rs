//! The command `events`: lists what happened, newest first.

use crate::cli::context::{CommandError, Context, as_operator, print_pages};
use crate::domain::event::{Event, EventQuery};
use crate::http::views::event::EventResponse;

/// Lists at most `limit` events.
///
/// # Errors
/// See [`CommandError`].
pub async fn list(context: &mut Context, mut query: EventQuery, limit: u64) -> Result<(), CommandError> {
    let list = context.output.list(["TIME", "EVENT", "ACCOUNT", "BY", "FROM", "DETAIL"]);
    as_operator(&context.config, &context.clock, false, async |administration| {
        let page = async |size| {
            query.limit = size;
            let page = administration.list_events(query.clone()).await?;
            query.before = page.next;
            Ok(page.rows)
        };
        print_pages(list, limit, page, row).await
    })
    .await
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
