//! The JSON of an event.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::event::Event;

/// A security event.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventResponse {
    /// Its number; a later event has a greater one.
    #[schema(example = 4711)]
    id: i64,
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    at: String,
    /// What happened.
    #[schema(example = "logged_in")]
    kind: &'static str,
    /// The account's name; `null` where no account has the name that was given.
    #[schema(example = "AzureDiamond", required)]
    username: Option<String>,
    /// Who did it; `null` where nobody has shown who they are.
    #[schema(example = "AzureDiamond", required)]
    actor: Option<String>,
    /// Where it came from; `null` where that is not known or not told.
    #[schema(example = "203.0.113.9", required)]
    ip: Option<String>,
    /// A session's id, a right, a limit, or nothing.
    #[schema(example = "5f0c1d3a9b7e2468")]
    detail: String,
}

impl From<Event> for EventResponse {
    fn from(event: Event) -> Self {
        let named = |name: String| Some(name).filter(|name| !name.is_empty());
        Self {
            id: event.id,
            at: event.at.to_string(),
            kind: event.kind.name(),
            username: named(event.username),
            actor: named(event.actor),
            ip: event.ip.map(|ip| ip.to_string()),
            detail: event.detail,
        }
    }
}
