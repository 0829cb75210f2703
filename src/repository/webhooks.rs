//! The trait [`Webhooks`]: who is sent events, how far each has got, and deliveries that are tried again.

use async_trait::async_trait;

use crate::domain::event::Event;
use crate::domain::rights::Actor;
use crate::domain::webhook::{AT_ONCE, DisabledBy, MAX_WAITING, Message, WebhookId, WebhookKinds};
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// A webhook that is to be added.
#[expect(missing_docs, reason = "the names say it")]
pub struct NewWebhook {
    pub id: WebhookId,
    pub url: String,
    pub kinds: WebhookKinds,
    pub allow_private: bool,
    /// Sealed.
    pub secret: Vec<u8>,
}

/// A webhook as it is shown. Its secret is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StoredWebhook {
    pub id: WebhookId,
    pub url: String,
    pub kinds: WebhookKinds,
    pub allow_private: bool,
    pub created: Timestamp,
    /// Since when nothing is sent to it, and why.
    pub disabled: Option<(Timestamp, DisabledBy)>,
    pub failing_since: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    /// Until when a former secret signs, too.
    pub rotated_until: Option<Timestamp>,
    /// Events that it was not sent yet, counted up to [`MAX_BEHIND`].
    pub behind: u64,
    /// Deliveries that wait for another attempt.
    pub waiting: u64,
    /// Deliveries that were given up, as far as they are remembered.
    pub given_up: u64,
    /// Events that were pruned before they were sent.
    pub lost: u64,
}

/// Up to where the events that a webhook was not sent yet are counted.
pub const MAX_BEHIND: u32 = 10_000;

/// What all webhooks are and have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WebhookStatistics {
    pub working: u64,
    pub failing: u64,
    pub disabled: u64,
    /// Events that enabled ones were not sent yet, counted up to [`MAX_BEHIND`] each.
    pub behind: u64,
    pub waiting: u64,
    pub lost: u64,
}

impl WebhookStatistics {
    /// `None` where there is none.
    pub(super) fn of(webhooks: &[StoredWebhook]) -> Option<Self> {
        let mut sum = Self::default();
        for webhook in webhooks {
            match (webhook.disabled, webhook.failing_since) {
                (Some(_), _) => sum.disabled += 1,
                (None, Some(_)) => sum.failing += 1,
                (None, None) => sum.working += 1,
            }
            sum.behind += if webhook.disabled.is_none() { webhook.behind } else { 0 };
            sum.waiting += webhook.waiting;
            sum.lost += webhook.lost;
        }
        (!webhooks.is_empty()).then_some(sum)
    }
}

/// Where a message goes, and what signs it.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WebhookTarget {
    pub id: WebhookId,
    pub url: String,
    pub allow_private: bool,
    /// Sealed, the present one first.
    pub secrets: Vec<Vec<u8>>,
}

/// A claim to a webhook: for as long as it holds, nobody else sends to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookClaim {
    pub(super) id: WebhookId,
    /// How often it has been claimed: a claim that somebody else has taken over is worth nothing.
    pub(super) claim: i64,
}

/// A webhook that was claimed, and what is to be sent to it now.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ClaimedWebhook {
    pub claim: WebhookClaim,
    pub target: WebhookTarget,
    pub deliveries: Vec<WebhookDelivery>,
    /// The number of the event up to which each has been tried once when these are settled.
    pub cursor: i64,
    pub failing_since: Option<Timestamp>,
    /// How many rounds in a row have failed.
    pub failures: u32,
    /// Whether as many deliveries wait as may.
    pub is_full: bool,
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WebhookDelivery {
    pub event: i64,
    pub message: Message,
    /// How often it has failed.
    pub attempts: u32,
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DeliveryOutcome {
    Delivered,
    Failed {
        /// What the receiver has answered, or why there is no answer; shortened.
        answer: String,
        /// When it is tried again; `None` where it is given up.
        retry: Option<Timestamp>,
    },
}

/// What came of a round of deliveries.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Settlement {
    pub outcomes: Vec<(WebhookDelivery, DeliveryOutcome)>,
    pub cursor: i64,
    /// When the next round may begin.
    pub next: Timestamp,
    /// Whether everything that waits is tried at once: the receiver answers again.
    pub is_back: bool,
    /// Why it is disabled, where it is.
    pub disable: Option<DisabledBy>,
}

/// Whether a webhook was enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Enabled {
    Done,
    /// There is no such webhook.
    NoWebhook,
    /// The key to its secret was lost: it needs another one first.
    NoSecret,
}

/// Which events are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// This one.
    Event(i64),
    /// All from then on.
    Since(Timestamp),
}

/// What came of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Replayed {
    pub count: u64,
    /// The last one, where there are more than may wait: the others are to be asked for from there on.
    pub last: Option<Timestamp>,
}

/// A delivery that has failed, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct FailedDelivery {
    pub event: i64,
    pub message: String,
    pub attempts: u32,
    pub tried: Option<Timestamp>,
    /// When it is tried again; `None` where it was given up.
    pub due: Option<Timestamp>,
    pub answer: String,
}

/// Who is sent events. Only a superuser or the operator sees or changes webhooks; for anyone else each method that takes an
/// actor ends with [`RepositoryError::Forbidden`].
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Adds a webhook, which is sent what happens from now on. `false` where there are as many as there may be.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn add_webhook(&self, actor: &Actor, webhook: NewWebhook, now: Timestamp) -> Result<bool, RepositoryError>;

    /// All webhooks, the oldest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_webhooks(&self, actor: &Actor) -> Result<Vec<StoredWebhook>, RepositoryError>;

    /// Where the messages to a webhook go, also where it is disabled.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_webhook_target(
        &self,
        actor: &Actor,
        id: &WebhookId,
        now: Timestamp,
    ) -> Result<Option<WebhookTarget>, RepositoryError>;

    /// Gives a webhook another secret, which is sealed. The present one signs, too, until then. `false` where there is no
    /// such webhook.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn rotate_webhook(
        &self,
        actor: &Actor,
        id: &WebhookId,
        secret: Vec<u8>,
        previous_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// Sends nothing to a webhook any more. `false` where there is no such webhook that is enabled.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn disable_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<bool, RepositoryError>;

    /// Sends to a webhook again, from where it has stopped. What waits is tried at once.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn enable_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<Enabled, RepositoryError>;

    /// Removes a webhook. `false` where there is none of this id.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn remove_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<bool, RepositoryError>;

    /// Has events sent again, as far as they are stored and this webhook wants them, with the ids that they had. `None` where
    /// there is no such webhook.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn replay_webhook(
        &self,
        actor: &Actor,
        id: &WebhookId,
        replay: Replay,
        now: Timestamp,
    ) -> Result<Option<Replayed>, RepositoryError>;

    /// The deliveries of a webhook that have failed or wait, those that were tried last first. `None` where there is no such
    /// webhook.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_failed_deliveries(
        &self,
        actor: &Actor,
        id: &WebhookId,
        limit: u32,
    ) -> Result<Option<Vec<FailedDelivery>>, RepositoryError>;

    /// The webhooks for which there is something to be sent now, as far as nobody has claimed them.
    ///
    /// An event counts once no event with a lower number can be committed any more: so none is ever missed behind a cursor.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_due_webhooks(&self, now: Timestamp) -> Result<Vec<WebhookId>, RepositoryError>;

    /// Claims a webhook until `claimed_until`, and answers what is to be sent to it. `None` where somebody else has claimed
    /// it, or there is nothing to be sent.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn claim_webhook(
        &self,
        id: &WebhookId,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Option<ClaimedWebhook>, RepositoryError>;

    /// Stores what came of a claimed round, and ends the claim. `false`, and nothing is stored, where the claim is over. A
    /// webhook that is disabled so is an event, and staff with verified addresses are told.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn settle_webhook(
        &self,
        claim: &WebhookClaim,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// What all webhooks are and have together; `None` where there is none.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn webhook_statistics(&self) -> Result<Option<WebhookStatistics>, RepositoryError>;

    /// Ends all claims, where no other process can hold any: those of a server that was killed. Where others may, nothing
    /// happens, and a claim ends by itself.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn release_webhooks(&self) -> Result<(), RepositoryError>;
}

/// How many events behind a cursor are looked at in one go, where only some kinds are wanted.
pub(super) const LOOKED_AT: u32 = 500;

/// What is taken of the events behind a cursor: the wanted ones, up to `room`, and where the cursor is then.
pub(super) fn take_wanted(
    target: &WebhookId,
    kinds: &WebhookKinds,
    events: Vec<Event>,
    room: u32,
    cursor: i64,
) -> (Vec<WebhookDelivery>, i64) {
    let (mut taken, mut cursor, room) = (Vec::new(), cursor, usize::try_from(room).unwrap_or(usize::MAX));
    for event in events {
        if kinds.wants(event.kind) {
            if taken.len() >= room {
                break;
            }
            taken.push(WebhookDelivery { event: event.id, message: Message::of(target, &event), attempts: 0 });
        }
        cursor = event.id;
    }
    (taken, cursor)
}

/// How many deliveries that have failed before, and how many events, a round has at most. While a webhook fails, one at a
/// time is tried, in turns, so that a receiver that is down is not asked for everything that waits. The event is tried
/// where none has failed before.
pub(super) fn shares(is_failing: bool, claim: i64, waiting: u32) -> (u32, u32) {
    let room = MAX_WAITING.saturating_sub(waiting);
    match (is_failing, claim % 2 == 0) {
        (false, _) => (AT_ONCE / 2, AT_ONCE.min(room)),
        (true, true) => (1, u32::from(room > 0)),
        (true, false) => (0, u32::from(room > 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_a_bound_and_leaves_room_for_what_may_fail() {
        assert_eq!(shares(false, 1, 0), (AT_ONCE / 2, AT_ONCE));
        assert_eq!(shares(false, 1, MAX_WAITING - 1), (AT_ONCE / 2, 1));
        assert_eq!(shares(false, 1, MAX_WAITING), (AT_ONCE / 2, 0));
        assert_eq!((shares(true, 2, 0), shares(true, 3, 0)), ((1, 1), (0, 1)));
        assert_eq!(shares(true, 2, MAX_WAITING), (1, 0));
    }
}
