//! What happened, newest first.

use crate::cli::context::{CommandError, Workplace, print_pages};
use crate::domain::event::{Event, EventQuery};
use crate::domain::rights::Actor;
use crate::http::api::events::EventShape;
use crate::repository::Repository as _;

/// Lists at most `limit` events.
///
/// # Errors
/// See [`CommandError`].
pub async fn list(place: &mut Workplace, mut query: EventQuery, limit: u64) -> Result<(), CommandError> {
    let repository = place.open(false)?;
    let list = place.output.list(["TIME", "EVENT", "ACCOUNT", "BY", "FROM", "DETAIL"]);
    let page = async |size| {
        query.limit = size;
        let page = repository.list_events(&Actor::CommandLine, query.clone()).await?;
        query.before = page.last().map(|event| event.id);
        Ok(page)
    };
    let outcome = print_pages(list, limit, page, row).await;
    place.close(&repository).await;
    outcome
}

fn row(event: Event) -> (EventShape, [String; 6]) {
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
