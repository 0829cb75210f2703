//! The JSON of webhooks. Only the command line shows it.

use serde::Serialize;

use crate::repository::{FailedDelivery, StoredWebhook};
use crate::system::clock::Timestamp;

/// A webhook, without its secret.
#[derive(Serialize)]
pub struct WebhookResponse {
    id: String,
    url: String,
    /// `null` where it is sent all of them.
    kinds: Option<Vec<&'static str>>,
    allow_private: bool,
    created: String,
    /// Since when nothing is sent to it; `null` where something is.
    disabled: Option<String>,
    disabled_by: Option<&'static str>,
    failing_since: Option<String>,
    last_success: Option<String>,
    /// Until when a former secret signs, too.
    previous_until: Option<String>,
    /// Events that it was not sent yet, counted up to 10,000.
    behind: u64,
    waiting: u64,
    given_up: u64,
    lost: u64,
}

impl From<StoredWebhook> for WebhookResponse {
    fn from(webhook: StoredWebhook) -> Self {
        let kinds = webhook.kinds.names();
        Self {
            id: webhook.id.to_string(),
            url: webhook.url,
            kinds: (!kinds.is_empty()).then_some(kinds),
            allow_private: webhook.allow_private,
            created: webhook.created.to_string(),
            disabled: text(webhook.disabled.map(|(at, _)| at)),
            disabled_by: webhook.disabled.map(|(_, by)| by.name()),
            failing_since: text(webhook.failing_since),
            last_success: text(webhook.last_success),
            previous_until: text(webhook.rotated_until),
            behind: webhook.behind,
            waiting: webhook.waiting,
            given_up: webhook.given_up,
            lost: webhook.lost,
        }
    }
}

/// A delivery that has failed, or waits to be sent again.
#[derive(Serialize)]
pub struct FailedDeliveryResponse {
    event: i64,
    /// The header `webhook-id`.
    message: String,
    attempts: u32,
    tried: Option<String>,
    /// When it is tried next; `null` where it was given up.
    due: Option<String>,
    answer: String,
}

impl From<FailedDelivery> for FailedDeliveryResponse {
    fn from(delivery: FailedDelivery) -> Self {
        Self {
            event: delivery.event,
            message: delivery.message,
            attempts: delivery.attempts,
            tried: text(delivery.tried),
            due: text(delivery.due),
            answer: delivery.answer,
        }
    }
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}
