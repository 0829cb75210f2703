//! [`Webhooks`] in SQLite. Events are committed in the order of their numbers, so a cursor is simply the last one.

use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::error::Failure;
use super::lookup::require_superuser;
use super::rows::{
    ip_text, read_event, read_optional_time, read_time, read_truth, read_webhook_id, read_webhook_kinds,
};
use super::transaction::Transaction;
use super::{SqliteRepository, sql};
use crate::domain::event::EventKind;
use crate::domain::mail::MailKind;
use crate::domain::rights::Actor;
use crate::domain::user::COMMAND_LINE;
use crate::domain::webhook::{
    AT_ONCE, DisabledBy, LONGEST_WAIT, MAX_GIVEN_UP, MAX_WAITING, MAX_WEBHOOKS, Message, NOTICED_AT_MOST, WebhookId,
    WebhookKinds,
};
use crate::repository::webhooks::{LOOKED_AT, shares, take_wanted};
use crate::repository::{
    ClaimedWebhook, DeliveryOutcome, Enabled, FailedDelivery, MAX_BEHIND, NewWebhook, Replay, Replayed,
    RepositoryError, Settlement, StoredWebhook, WebhookClaim, WebhookDelivery, WebhookStatistics, WebhookTarget,
    Webhooks,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl Webhooks for SqliteRepository {
    async fn add_webhook(&self, actor: &Actor, webhook: NewWebhook, now: Timestamp) -> Result<bool, RepositoryError> {
        let actor = *actor;
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            let count: u32 = connection.prepare_cached(sql::COUNT_WEBHOOKS)?.query_row([], |row| row.get(0))?;
            if count >= MAX_WEBHOOKS {
                return Ok(false);
            }
            connection.prepare_cached(sql::INSERT_WEBHOOK)?.execute(params![
                webhook.id.as_str(),
                webhook.url,
                webhook.kinds.to_stored(),
                webhook.secret,
                webhook.allow_private,
                now.as_millis(),
            ])?;
            insert_event(connection, EventKind::WebhookAdded, &webhook.id, acting.name(), actor.ip(), now)?;
            Ok(true)
        })
        .await
    }

    async fn list_webhooks(&self, actor: &Actor) -> Result<Vec<StoredWebhook>, RepositoryError> {
        let actor = *actor;
        self.read_snapshot(move |connection| {
            require_superuser(connection, &actor)?;
            Ok(list(connection)?)
        })
        .await
    }

    async fn find_webhook_target(
        &self,
        actor: &Actor,
        id: &WebhookId,
        now: Timestamp,
    ) -> Result<Option<WebhookTarget>, RepositoryError> {
        let (actor, id) = (*actor, id.clone());
        self.read_snapshot(move |connection| {
            require_superuser(connection, &actor)?;
            let mut find = connection.prepare_cached(sql::FIND_WEBHOOK)?;
            Ok(find.query_row([id.as_str()], |row| read_target(row, &id, now)).optional()?)
        })
        .await
    }

    async fn rotate_webhook(
        &self,
        actor: &Actor,
        id: &WebhookId,
        secret: Vec<u8>,
        previous_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let (actor, id) = (*actor, id.clone());
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            let mut rotate = connection.prepare_cached(sql::ROTATE_WEBHOOK)?;
            if rotate.execute(params![id.as_str(), secret, previous_until.as_millis()])? == 0 {
                return Ok(false);
            }
            insert_event(connection, EventKind::WebhookRotated, &id, acting.name(), actor.ip(), now)?;
            Ok(true)
        })
        .await
    }

    async fn disable_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<bool, RepositoryError> {
        let (actor, id) = (*actor, id.clone());
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            let by = DisabledBy::Operator.name();
            let mut disable = connection.prepare_cached(sql::DISABLE_WEBHOOK)?;
            if disable.execute(params![id.as_str(), now.as_millis(), by])? == 0 {
                return Ok(false);
            }
            insert_event(connection, EventKind::WebhookDisabled, &id, acting.name(), actor.ip(), now)?;
            Ok(true)
        })
        .await
    }

    async fn enable_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<Enabled, RepositoryError> {
        let (actor, id) = (*actor, id.clone());
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            let mut enable = connection.prepare_cached(sql::ENABLE_WEBHOOK)?;
            if enable.execute(params![id.as_str(), now.as_millis()])? == 0 {
                let exists = connection.prepare_cached(sql::FIND_WEBHOOK)?.exists([id.as_str()])?;
                return Ok(if exists { Enabled::NoSecret } else { Enabled::NoWebhook });
            }
            let mut renew = connection.prepare_cached(sql::RENEW_DELIVERIES)?;
            renew.execute(params![id.as_str(), now.as_millis()])?;
            insert_event(connection, EventKind::WebhookEnabled, &id, acting.name(), actor.ip(), now)?;
            Ok(Enabled::Done)
        })
        .await
    }

    async fn remove_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<bool, RepositoryError> {
        let (actor, id) = (*actor, id.clone());
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            if connection.prepare_cached(sql::DELETE_WEBHOOK)?.execute([id.as_str()])? == 0 {
                return Ok(false);
            }
            insert_event(connection, EventKind::WebhookRemoved, &id, acting.name(), actor.ip(), now)?;
            Ok(true)
        })
        .await
    }

    async fn replay_webhook(
        &self,
        actor: &Actor,
        id: &WebhookId,
        replay: Replay,
        now: Timestamp,
    ) -> Result<Option<Replayed>, RepositoryError> {
        let (actor, id) = (*actor, id.clone());
        let found = {
            let id = id.clone();
            // The events may be anywhere among all of them, so they are looked for beside the writer.
            self.scan(Some(self.scan_within), move |connection| {
                require_superuser(connection, &actor)?;
                Ok(find_to_replay(connection, &id, replay)?)
            })
            .await?
        };
        let Some((messages, last)) = found else { return Ok(None) };
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            if !connection.prepare_cached(sql::FIND_WEBHOOK)?.exists([id.as_str()])? {
                return Ok(None);
            }
            let mut store = connection.prepare_cached(sql::STORE_DELIVERY)?;
            for (event, message) in &messages {
                let due = now.as_millis();
                let none = rusqlite::types::Null;
                store.execute(params![id.as_str(), event, message.id, message.body, 0, due, none, ""])?;
            }
            if !messages.is_empty() {
                insert_event(connection, EventKind::WebhookReplayed, &id, acting.name(), actor.ip(), now)?;
            }
            Ok(Some(Replayed { count: messages.len() as u64, last }))
        })
        .await
    }

    async fn list_failed_deliveries(
        &self,
        actor: &Actor,
        id: &WebhookId,
        limit: u32,
    ) -> Result<Option<Vec<FailedDelivery>>, RepositoryError> {
        let (actor, id) = (*actor, id.clone());
        self.read_snapshot(move |connection| {
            require_superuser(connection, &actor)?;
            if !connection.prepare_cached(sql::FIND_WEBHOOK)?.exists([id.as_str()])? {
                return Ok(None);
            }
            let mut list = connection.prepare_cached(sql::LIST_FAILED_DELIVERIES)?;
            let failed = list.query_map(params![id.as_str(), limit], |row| {
                Ok(FailedDelivery {
                    event: row.get("event")?,
                    message: row.get("message")?,
                    attempts: row.get("attempts")?,
                    tried: read_optional_time(row, "tried")?,
                    due: read_optional_time(row, "due")?,
                    answer: row.get("answer")?,
                })
            })?;
            Ok(Some(failed.collect::<Result<_, _>>()?))
        })
        .await
    }

    async fn list_due_webhooks(&self, now: Timestamp) -> Result<Vec<WebhookId>, RepositoryError> {
        self.read_inline(move |connection| {
            let mut list = connection.prepare_cached(sql::LIST_DUE_WEBHOOKS)?;
            let due = params![now.as_millis(), now.plus(LONGEST_WAIT).as_millis(), MAX_WAITING];
            Ok(list.query_map(due, |row| read_webhook_id(row, 0))?.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn claim_webhook(
        &self,
        id: &WebhookId,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Option<ClaimedWebhook>, RepositoryError> {
        let id = id.clone();
        self.write(move |connection| claim(connection, &id, now, claimed_until)).await
    }

    async fn settle_webhook(
        &self,
        claim: &WebhookClaim,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let claim = claim.clone();
        self.write(move |connection| Ok(settle(connection, &claim, &settlement, now)?)).await
    }

    async fn webhook_statistics(&self) -> Result<Option<WebhookStatistics>, RepositoryError> {
        self.scan(Some(self.scan_within), |connection| Ok(WebhookStatistics::of(&list(connection)?))).await
    }

    async fn release_webhooks(&self) -> Result<(), RepositoryError> {
        self.write(|connection| {
            connection.prepare_cached(sql::RELEASE_WEBHOOKS)?.execute([])?;
            Ok(())
        })
        .await
    }
}

fn insert_event(
    connection: &Connection,
    kind: EventKind,
    id: &WebhookId,
    by: &str,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(sql::INSERT_EVENT_OF_NO_ACCOUNT)?;
    insert.execute(params![now.as_millis(), kind.name(), by, ip_text(ip), id.as_str()])?;
    Ok(())
}

fn list(connection: &Connection) -> rusqlite::Result<Vec<StoredWebhook>> {
    let mut list = connection.prepare_cached(sql::LIST_WEBHOOKS)?;
    let mut webhooks: Vec<_> = list.query_map([MAX_BEHIND], read_webhook)?.collect::<Result<_, _>>()?;
    webhooks.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.as_str().cmp(b.id.as_str())));
    Ok(webhooks)
}

fn read_webhook(row: &Row<'_>) -> rusqlite::Result<StoredWebhook> {
    let count = |column: &str| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let by = DisabledBy::parse(row.get_ref("disabled_by")?.as_str()?);
    Ok(StoredWebhook {
        id: read_webhook_id(row, "id")?,
        url: row.get("url")?,
        kinds: read_webhook_kinds(row)?,
        allow_private: read_truth(row, "allow_private")?,
        created: read_time(row, "created")?,
        disabled: read_optional_time(row, "disabled")?.map(|at| (at, by.unwrap_or(DisabledBy::Operator))),
        failing_since: read_optional_time(row, "failing_since")?,
        last_success: read_optional_time(row, "last_success")?,
        rotated_until: read_optional_time(row, "previous_until")?,
        behind: count("behind")?,
        waiting: count("waiting")?,
        given_up: count("given_up")?,
        lost: count("lost")?,
    })
}

fn read_target(row: &Row<'_>, id: &WebhookId, now: Timestamp) -> rusqlite::Result<WebhookTarget> {
    let previous_signs = read_optional_time(row, "previous_until")?.is_some_and(|until| until > now);
    let previous: Option<Vec<u8>> = row.get("previous_secret")?;
    let present: Option<Vec<u8>> = row.get("secret")?;
    Ok(WebhookTarget {
        id: id.clone(),
        url: row.get("url")?,
        allow_private: read_truth(row, "allow_private")?,
        secrets: present.into_iter().chain(previous.filter(|_| previous_signs)).collect(),
    })
}

/// A webhook as it was claimed.
struct Claimed {
    target: WebhookTarget,
    kinds: WebhookKinds,
    cursor: i64,
    failing_since: Option<Timestamp>,
    failures: u32,
    claim: i64,
}

fn claim(
    connection: &Transaction<'_>,
    id: &WebhookId,
    now: Timestamp,
    claimed_until: Timestamp,
) -> Result<Option<ClaimedWebhook>, Failure> {
    let ahead = now.plus(LONGEST_WAIT).as_millis();
    let claiming = params![id.as_str(), now.as_millis(), ahead, claimed_until.as_millis()];
    let claimed = connection.prepare_cached(sql::CLAIM_WEBHOOK)?.query_row(claiming, |row| {
        Ok(Claimed {
            target: read_target(row, id, now)?,
            kinds: read_webhook_kinds(row)?,
            cursor: row.get("cursor")?,
            failing_since: read_optional_time(row, "failing_since")?,
            failures: row.get("failures")?,
            claim: row.get("claims")?,
        })
    });
    let Some(webhook) = claimed.optional()? else { return Ok(None) };
    connection.prepare_cached(sql::ADVANCE_DELIVERIES)?.execute(params![id.as_str(), now.as_millis(), ahead])?;
    let mut count = connection.prepare_cached(sql::COUNT_WAITING_DELIVERIES)?;
    let waiting: u32 = count.query_row([id.as_str()], |row| row.get(0))?;
    let is_failing = webhook.failing_since.is_some();
    let (again, mut room) = shares(is_failing, webhook.claim, waiting);
    let mut list = connection.prepare_cached(sql::LIST_DUE_DELIVERIES)?;
    let due = list.query_map(params![id.as_str(), now.as_millis(), again], |row| {
        Ok(WebhookDelivery {
            event: row.get("event")?,
            message: Message { id: row.get("message")?, body: row.get("body")? },
            attempts: row.get("attempts")?,
        })
    })?;
    let mut deliveries: Vec<_> = due.collect::<Result<_, _>>()?;
    if is_failing && !deliveries.is_empty() {
        room = 0;
    }
    // Both together are no more than may be under way at once.
    room = room.min(AT_ONCE.saturating_sub(u32::try_from(deliveries.len()).unwrap_or(AT_ONCE)));
    let limit = if webhook.kinds == WebhookKinds::All { room + AT_ONCE } else { LOOKED_AT };
    let mut list = connection.prepare_cached(sql::LIST_EVENTS_BEHIND)?;
    let behind = list.query_map(params![webhook.cursor, limit], read_event)?.collect::<Result<Vec<_>, _>>()?;
    let (new, cursor) = take_wanted(id, &webhook.kinds, behind, room, webhook.cursor);
    deliveries.extend(new);
    if deliveries.is_empty() {
        connection.prepare_cached(sql::PASS_WEBHOOK)?.execute(params![id.as_str(), webhook.claim, cursor])?;
        return Ok(None);
    }
    Ok(Some(ClaimedWebhook {
        claim: WebhookClaim { id: id.clone(), claim: webhook.claim },
        target: webhook.target,
        deliveries,
        cursor,
        failing_since: webhook.failing_since,
        failures: webhook.failures,
        is_full: waiting >= MAX_WAITING,
    }))
}

fn settle(
    connection: &Transaction<'_>,
    claim: &WebhookClaim,
    settlement: &Settlement,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let id = claim.id.as_str();
    let is_delivered = |outcome: &DeliveryOutcome| matches!(outcome, DeliveryOutcome::Delivered);
    let has_success = settlement.outcomes.iter().any(|(_, outcome)| is_delivered(outcome));
    let has_failure = settlement.outcomes.iter().any(|(_, outcome)| !is_delivered(outcome));
    let settled = connection.prepare_cached(sql::SETTLE_WEBHOOK)?.execute(params![
        id,
        claim.claim,
        settlement.cursor,
        settlement.next.as_millis(),
        has_success,
        has_failure,
        now.as_millis(),
    ])?;
    if settled == 0 {
        return Ok(false);
    }
    let mut has_given_up = false;
    for (delivery, outcome) in &settlement.outcomes {
        match outcome {
            DeliveryOutcome::Delivered => {
                connection.prepare_cached(sql::DELETE_DELIVERY)?.execute(params![id, delivery.event])?;
            }
            DeliveryOutcome::Failed { answer, retry } => {
                has_given_up |= retry.is_none();
                connection.prepare_cached(sql::STORE_DELIVERY)?.execute(params![
                    id,
                    delivery.event,
                    delivery.message.id,
                    delivery.message.body,
                    delivery.attempts + 1,
                    retry.map(Timestamp::as_millis),
                    now.as_millis(),
                    answer,
                ])?;
            }
        }
    }
    if has_given_up {
        connection.prepare_cached(sql::FORGET_GIVEN_UP)?.execute(params![id, MAX_GIVEN_UP])?;
    }
    if settlement.is_back {
        let (at, after) = (now.as_millis(), now.as_millis());
        connection.prepare_cached(sql::ADVANCE_DELIVERIES)?.execute(params![id, at, after])?;
    }
    if let Some(by) = settlement.disable {
        disable(connection, &claim.id, by, now)?;
    }
    Ok(true)
}

/// Disables a webhook that the operator has not, and tells superusers and staff.
fn disable(connection: &Transaction<'_>, id: &WebhookId, by: DisabledBy, now: Timestamp) -> rusqlite::Result<()> {
    let mut disable = connection.prepare_cached(sql::DISABLE_WEBHOOK)?;
    if disable.execute(params![id.as_str(), now.as_millis(), by.name()])? == 0 {
        return Ok(());
    }
    let mut insert = connection.prepare_cached(sql::INSERT_EVENT_OF_NO_ACCOUNT)?;
    insert.execute(params![now.as_millis(), EventKind::WebhookDisabled.name(), "", "", id.as_str()])?;
    if connection.notices.enabled {
        let kind = MailKind::WebhookDisabled;
        connection.prepare_cached(sql::INSERT_WEBHOOK_NOTICES)?.execute(params![
            kind.name(),
            id.as_str(),
            now.as_millis(),
            now.plus(kind.lifetime()).as_millis(),
            NOTICED_AT_MOST,
        ])?;
    }
    Ok(())
}

/// The messages that are to be sent again, as many as may wait, and when the last of them happened where there are more.
type ToReplay = (Vec<(i64, Message)>, Option<Timestamp>);

/// `None` where there is no such webhook. What it was not sent yet is not sent again.
fn find_to_replay(connection: &Connection, id: &WebhookId, replay: Replay) -> rusqlite::Result<Option<ToReplay>> {
    let mut find = connection.prepare_cached(sql::FIND_WEBHOOK)?;
    let webhook = find.query_row([id.as_str()], |row| Ok((read_webhook_kinds(row)?, row.get::<_, i64>("cursor")?)));
    let Some((kinds, cursor)) = webhook.optional()? else { return Ok(None) };
    let mut count = connection.prepare_cached(sql::COUNT_WAITING_DELIVERIES)?;
    let waiting: u32 = count.query_row([id.as_str()], |row| row.get(0))?;
    let room = MAX_WAITING.saturating_sub(waiting) as usize;
    let mut found = ToReplay::default();
    match replay {
        Replay::Event(event) => {
            let mut find = connection.prepare_cached(sql::FIND_EVENT)?;
            let event = find.query_row([event], read_event).optional()?;
            let event = event.filter(|event| kinds.wants(event.kind) && event.id <= cursor && room > 0);
            found.0.extend(event.map(|event| (event.id, Message::of(id, &event))));
        }
        Replay::Since(since) => {
            let mut list = connection.prepare_cached(sql::LIST_EVENTS_BEHIND)?;
            for event in list.query_map(params![0, i64::MAX], read_event)? {
                let event = event?;
                if event.id > cursor {
                    break;
                }
                if event.at < since || !kinds.wants(event.kind) {
                    continue;
                }
                if found.0.len() >= room {
                    found.1 = Some(event.at);
                    break;
                }
                found.0.push((event.id, Message::of(id, &event)));
            }
        }
    }
    Ok(Some(found))
}

/// Counts an event that is about to be pruned as lost where webhooks were not sent it.
pub(super) fn count_lost(connection: &Connection, event: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::COUNT_LOST_EVENT)?.execute([event])?;
    Ok(())
}

/// How many webhooks' secrets there are by the ids of their keys.
pub(super) fn list_sealed(connection: &Connection) -> rusqlite::Result<Vec<(Vec<u8>, u64)>> {
    let mut list = connection.prepare_cached(sql::LIST_SEALED_WEBHOOKS)?;
    list.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?.collect()
}

/// Forgets the secrets that were sealed with another key. A webhook without one is disabled.
pub(super) fn forget_sealed(connection: &Connection, key_id: &[u8], now: Timestamp) -> rusqlite::Result<u64> {
    let mut list = connection.prepare_cached(sql::LIST_WEBHOOKS_SEALED_OTHERWISE)?;
    let found = list.query_map([key_id], |row| Ok((read_webhook_id(row, 0)?, row.get::<_, bool>(1)?)))?;
    let found: Vec<_> = found.collect::<Result<_, _>>()?;
    let by = DisabledBy::LostKey.name();
    for (id, was_enabled) in &found {
        let mut forget = connection.prepare_cached(sql::FORGET_WEBHOOK_SECRET)?;
        forget.execute(params![id.as_str(), now.as_millis(), by])?;
        if *was_enabled {
            insert_event(connection, EventKind::WebhookDisabled, id, COMMAND_LINE, None, now)?;
        }
    }
    let previous = connection.prepare_cached(sql::FORGET_PREVIOUS_WEBHOOK_SECRETS)?.execute([key_id])?;
    Ok((found.len() + previous) as u64)
}
