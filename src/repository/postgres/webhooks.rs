//! [`Webhooks`] in PostgreSQL.
//!
//! How far a cursor may go is said in [`super::horizon`].

use std::net::IpAddr;
use std::sync::PoisonError;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::horizon::Horizon;
use super::lookup::require_superuser;
use super::pool::Connection;
use super::rows::{get, invalid, ip_text, read_event, read_number, read_optional_time, read_time};
use super::schema::end_releases_before_webhooks;
use super::transaction::Transaction;
use super::{PostgresRepository, SCAN_WITHIN, sql};
use crate::domain::event::{Event, EventKind};
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
impl Webhooks for PostgresRepository {
    async fn add_webhook(&self, actor: &Actor, webhook: NewWebhook, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*actor, webhook, now), |transaction, (actor, webhook, now)| {
            Box::pin(async move {
                let acting = require_superuser(transaction, actor).await?;
                transaction.batch(sql::LOCK_FOR_NEW_WEBHOOK).await?;
                let count: i64 = get(&transaction.query_one(sql::COUNT_WEBHOOKS, &[]).await?, 0)?;
                if count >= i64::from(MAX_WEBHOOKS) {
                    return Ok(false);
                }
                let (id, kinds, at) = (webhook.id.as_str(), webhook.kinds.to_stored(), now.as_millis());
                let parameters: [&(dyn ToSql + Sync); 6] =
                    [&id, &webhook.url, &kinds, &webhook.secret, &webhook.allow_private, &at];
                transaction.execute(sql::INSERT_WEBHOOK, &parameters).await?;
                end_releases_before_webhooks(transaction).await?;
                insert_event(transaction, EventKind::WebhookAdded, id, acting.name(), actor.ip(), *now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn list_webhooks(&self, actor: &Actor) -> Result<Vec<StoredWebhook>, RepositoryError> {
        self.scan(SCAN_WITHIN, *actor, |connection, actor| {
            Box::pin(async move {
                require_superuser(connection, actor).await?;
                list(connection).await
            })
        })
        .await
    }

    async fn find_webhook_target(
        &self,
        actor: &Actor,
        id: &WebhookId,
        now: Timestamp,
    ) -> Result<Option<WebhookTarget>, RepositoryError> {
        self.read_snapshot((*actor, id.clone(), now), |connection, (actor, id, now)| {
            Box::pin(async move {
                require_superuser(connection, actor).await?;
                let row = connection.query_opt(sql::FIND_WEBHOOK, &[&id.as_str()]).await?;
                row.map(|row| read_target(&row, id, *now)).transpose()
            })
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
        let arguments = (*actor, id.clone(), secret, previous_until, now);
        self.write(arguments, |transaction, (actor, id, secret, previous_until, now)| {
            Box::pin(async move {
                let acting = require_superuser(transaction, actor).await?;
                let (id, until) = (id.as_str(), previous_until.as_millis());
                if transaction.execute(sql::ROTATE_WEBHOOK, &[&id, secret, &until]).await? == 0 {
                    return Ok(false);
                }
                insert_event(transaction, EventKind::WebhookRotated, id, acting.name(), actor.ip(), *now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn disable_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*actor, id.clone(), now), |transaction, (actor, id, now)| {
            Box::pin(async move {
                let acting = require_superuser(transaction, actor).await?;
                let (id, by) = (id.as_str(), DisabledBy::Operator.name());
                if transaction.execute(sql::DISABLE_WEBHOOK, &[&id, &now.as_millis(), &by]).await? == 0 {
                    return Ok(false);
                }
                insert_event(transaction, EventKind::WebhookDisabled, id, acting.name(), actor.ip(), *now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn enable_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<Enabled, RepositoryError> {
        self.write((*actor, id.clone(), now), |transaction, (actor, id, now)| {
            Box::pin(async move {
                let acting = require_superuser(transaction, actor).await?;
                let (id, at) = (id.as_str(), now.as_millis());
                if transaction.execute(sql::ENABLE_WEBHOOK, &[&id, &at]).await? == 0 {
                    let exists = transaction.query_opt(sql::FIND_WEBHOOK, &[&id]).await?.is_some();
                    return Ok(if exists { Enabled::NoSecret } else { Enabled::NoWebhook });
                }
                transaction.execute(sql::RENEW_DELIVERIES, &[&id, &at]).await?;
                insert_event(transaction, EventKind::WebhookEnabled, id, acting.name(), actor.ip(), *now).await?;
                Ok(Enabled::Done)
            })
        })
        .await
    }

    async fn remove_webhook(&self, actor: &Actor, id: &WebhookId, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*actor, id.clone(), now), |transaction, (actor, id, now)| {
            Box::pin(async move {
                let acting = require_superuser(transaction, actor).await?;
                let id = id.as_str();
                if transaction.execute(sql::DELETE_WEBHOOK, &[&id]).await? == 0 {
                    return Ok(false);
                }
                insert_event(transaction, EventKind::WebhookRemoved, id, acting.name(), actor.ip(), *now).await?;
                Ok(true)
            })
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
        let found = self
            .scan(SCAN_WITHIN, (*actor, id.clone(), replay), |connection, (actor, id, replay)| {
                Box::pin(async move {
                    require_superuser(connection, actor).await?;
                    find_to_replay(connection, id, *replay).await
                })
            })
            .await?;
        let Some((events, last)) = found else { return Ok(None) };
        self.write((*actor, id.clone(), events, last, now), |transaction, (actor, id, events, last, now)| {
            Box::pin(async move {
                let acting = require_superuser(transaction, actor).await?;
                if transaction.query_opt(sql::LOCK_WEBHOOK, &[&id.as_str()]).await?.is_none() {
                    return Ok(None);
                }
                let stored: Vec<_> = events
                    .iter()
                    .map(|event| Stored {
                        event: event.id,
                        message: Message::of(id, event),
                        attempts: 0,
                        due: Some(now.as_millis()),
                        answer: String::new(),
                    })
                    .collect();
                store(transaction, id, stored, None).await?;
                if !events.is_empty() {
                    let kind = EventKind::WebhookReplayed;
                    insert_event(transaction, kind, id.as_str(), acting.name(), actor.ip(), *now).await?;
                }
                Ok(Some(Replayed { count: events.len() as u64, last: *last }))
            })
        })
        .await
    }

    async fn list_failed_deliveries(
        &self,
        actor: &Actor,
        id: &WebhookId,
        limit: u32,
    ) -> Result<Option<Vec<FailedDelivery>>, RepositoryError> {
        self.read_snapshot((*actor, id.clone(), limit), |connection, (actor, id, limit)| {
            Box::pin(async move {
                require_superuser(connection, actor).await?;
                if connection.query_opt(sql::FIND_WEBHOOK, &[&id.as_str()]).await?.is_none() {
                    return Ok(None);
                }
                let limit = i64::from(*limit);
                let rows = connection.query(sql::LIST_FAILED_DELIVERIES, &[&id.as_str(), &limit]).await?;
                let failed = rows.iter().map(|row| {
                    Ok::<_, Failure>(FailedDelivery {
                        event: get(row, "event")?,
                        message: get(row, "message")?,
                        attempts: read_number(row, "attempts")?,
                        tried: read_optional_time(row, "tried")?,
                        due: read_optional_time(row, "due")?,
                        answer: get(row, "answer")?,
                    })
                });
                Ok(Some(failed.collect::<Result<_, _>>()?))
            })
        })
        .await
    }

    async fn list_due_webhooks(&self, now: Timestamp) -> Result<Vec<WebhookId>, RepositoryError> {
        let first = self.peek((), |connection, ()| {
            Box::pin(async move {
                if connection.query_opt(sql::FIND_ANY_WEBHOOK, &[]).await?.is_none() {
                    return Ok(None);
                }
                let last: i64 = get(&connection.query_one(sql::FIND_LAST_EVENT_GIVEN, &[]).await?, 0)?;
                Ok(Some((connection.instance, last)))
            })
        });
        let Some((instance, last)) = first.await? else { return Ok(Vec::new()) };
        // A look of its own, whose snapshot is later than what was read before.
        let second = self.peek((), |connection, ()| {
            Box::pin(async move {
                let row = connection.query_one(sql::FIND_TRANSACTIONS, &[]).await?;
                Ok((connection.instance, (get(&row, 0)?, get(&row, 1)?)))
            })
        });
        let (later, transactions) = second.await?;
        if later == instance {
            self.horizon.lock().unwrap_or_else(PoisonError::into_inner).looked(instance, last, transactions);
        }
        let horizon = self.horizon();
        self.peek((now, horizon), |connection, (now, horizon)| {
            Box::pin(async move {
                let (at, ahead) = (now.as_millis(), now.plus(LONGEST_WAIT).as_millis());
                let (most, known) = (i64::from(MAX_WAITING), horizon.known_at(connection.instance));
                let parameters: [&(dyn ToSql + Sync); 4] = [&at, &ahead, &most, &known];
                let rows = connection.query(sql::LIST_DUE_WEBHOOKS, &parameters).await?;
                rows.iter().map(read_webhook_id).collect()
            })
        })
        .await
    }

    async fn claim_webhook(
        &self,
        id: &WebhookId,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Option<ClaimedWebhook>, RepositoryError> {
        let arguments = (id.clone(), self.horizon(), now, claimed_until);
        self.write(arguments, |transaction, (id, horizon, now, claimed_until)| {
            Box::pin(claim(transaction, id, *horizon, *now, *claimed_until))
        })
        .await
    }

    async fn settle_webhook(
        &self,
        claim: &WebhookClaim,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        self.write((claim.clone(), settlement, now), |transaction, (claim, settlement, now)| {
            Box::pin(settle(transaction, claim, settlement, *now))
        })
        .await
    }

    async fn webhook_statistics(&self) -> Result<Option<WebhookStatistics>, RepositoryError> {
        self.scan(SCAN_WITHIN, (), |connection, ()| {
            Box::pin(async move { Ok(WebhookStatistics::of(&list(connection).await?)) })
        })
        .await
    }

    async fn release_webhooks(&self) -> Result<(), RepositoryError> {
        Ok(())
    }
}

impl PostgresRepository {
    fn horizon(&self) -> Horizon {
        *self.horizon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn insert_event(
    transaction: &Transaction,
    kind: EventKind,
    id: &str,
    by: &str,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Failure> {
    let (at, kind, ip) = (now.as_millis(), kind.name(), ip_text(ip));
    transaction.execute(sql::INSERT_EVENT_OF_NO_ACCOUNT, &[&at, &kind, &by, &ip, &id]).await?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("it is not what the service has written: {0}")]
struct NotOurs(&'static str);

fn read_webhook_id(row: &Row) -> Result<WebhookId, Failure> {
    WebhookId::parse(get(row, "id")?).ok_or_else(|| invalid(NotOurs("an id")))
}

fn read_kinds(row: &Row) -> Result<WebhookKinds, Failure> {
    WebhookKinds::parse(get(row, "kinds")?).ok_or_else(|| invalid(NotOurs("kinds")))
}

async fn list(connection: &Connection) -> Result<Vec<StoredWebhook>, Failure> {
    let rows = connection.query(sql::LIST_WEBHOOKS, &[&i64::from(MAX_BEHIND)]).await?;
    rows.iter().map(read_webhook).collect()
}

fn read_webhook(row: &Row) -> Result<StoredWebhook, Failure> {
    let count = |column: &str| get::<i64>(row, column).map(i64::unsigned_abs);
    let by = DisabledBy::parse(get(row, "disabled_by")?);
    Ok(StoredWebhook {
        id: read_webhook_id(row)?,
        url: get(row, "url")?,
        kinds: read_kinds(row)?,
        allow_private: get(row, "allow_private")?,
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

fn read_target(row: &Row, id: &WebhookId, now: Timestamp) -> Result<WebhookTarget, Failure> {
    let previous_signs = read_optional_time(row, "previous_until")?.is_some_and(|until| until > now);
    let previous: Option<Vec<u8>> = get(row, "previous_secret")?;
    let present: Option<Vec<u8>> = get(row, "secret")?;
    Ok(WebhookTarget {
        id: id.clone(),
        url: get(row, "url")?,
        allow_private: get(row, "allow_private")?,
        secrets: present.into_iter().chain(previous.filter(|_| previous_signs)).collect(),
    })
}

async fn claim(
    transaction: &Transaction,
    id: &WebhookId,
    horizon: Horizon,
    now: Timestamp,
    claimed_until: Timestamp,
) -> Result<Option<ClaimedWebhook>, Failure> {
    let (name, at, ahead) = (id.as_str(), now.as_millis(), now.plus(LONGEST_WAIT).as_millis());
    let claiming: [&(dyn ToSql + Sync); 4] = [&name, &at, &ahead, &claimed_until.as_millis()];
    let Some(row) = transaction.query_opt(sql::CLAIM_WEBHOOK, &claiming).await? else { return Ok(None) };
    let (number, cursor): (i64, i64) = (get(&row, "claims")?, get(&row, "cursor")?);
    let (kinds, failing_since) = (read_kinds(&row)?, read_optional_time(&row, "failing_since")?);
    transaction.execute(sql::ADVANCE_DELIVERIES, &[&name, &at, &ahead]).await?;
    let waiting: i64 = get(&transaction.query_one(sql::COUNT_WAITING_DELIVERIES, &[&name]).await?, 0)?;
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    let (again, mut room) = shares(failing_since.is_some(), number, waiting);
    let due = transaction.query(sql::LIST_DUE_DELIVERIES, &[&name, &at, &i64::from(again)]).await?;
    let due = due.iter().map(|row| {
        Ok::<_, Failure>(WebhookDelivery {
            event: get(row, "event")?,
            message: Message { id: get(row, "message")?, body: get(row, "body")? },
            attempts: read_number(row, "attempts")?,
        })
    });
    let mut deliveries: Vec<_> = due.collect::<Result<_, _>>()?;
    if failing_since.is_some() && !deliveries.is_empty() {
        room = 0;
    }
    // Both together are no more than may be under way at once.
    room = room.min(AT_ONCE.saturating_sub(u32::try_from(deliveries.len()).unwrap_or(AT_ONCE)));
    let limit = i64::from(if kinds == WebhookKinds::All { room + AT_ONCE } else { LOOKED_AT });
    let known = horizon.known_at(transaction.instance);
    let behind = transaction.query(sql::LIST_EVENTS_BEHIND, &[&cursor, &known, &limit]).await?;
    let behind = behind.iter().map(read_event).collect::<Result<Vec<_>, _>>()?;
    let (new, cursor) = take_wanted(id, &kinds, behind, room, cursor);
    deliveries.extend(new);
    if deliveries.is_empty() {
        transaction.execute(sql::PASS_WEBHOOK, &[&name, &number, &cursor]).await?;
        return Ok(None);
    }
    Ok(Some(ClaimedWebhook {
        claim: WebhookClaim { id: id.clone(), claim: number },
        target: read_target(&row, id, now)?,
        deliveries,
        cursor,
        failing_since,
        failures: read_number(&row, "failures")?,
        is_full: waiting >= MAX_WAITING,
    }))
}

async fn settle(
    transaction: &Transaction,
    claim: &WebhookClaim,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<bool, Failure> {
    let (id, at) = (claim.id.as_str(), now.as_millis());
    let (mut delivered, mut failed) = (Vec::new(), Vec::new());
    for (delivery, outcome) in &settlement.outcomes {
        match outcome {
            DeliveryOutcome::Delivered => delivered.push(delivery.event),
            DeliveryOutcome::Failed { answer, retry } => failed.push(Stored {
                event: delivery.event,
                message: delivery.message.clone(),
                attempts: i64::from(delivery.attempts) + 1,
                due: retry.map(Timestamp::as_millis),
                answer: answer.clone(),
            }),
        }
    }
    let (has_success, has_failure) = (!delivered.is_empty(), !failed.is_empty());
    let settling: [&(dyn ToSql + Sync); 7] =
        [&id, &claim.claim, &settlement.cursor, &settlement.next.as_millis(), &has_success, &has_failure, &at];
    if transaction.execute(sql::SETTLE_WEBHOOK, &settling).await? == 0 {
        return Ok(false);
    }
    if has_success {
        transaction.execute(sql::DELETE_DELIVERIES, &[&id, &delivered]).await?;
    }
    let has_given_up = failed.iter().any(|delivery| delivery.due.is_none());
    store(transaction, &claim.id, failed, Some(at)).await?;
    if has_given_up {
        transaction.execute(sql::FORGET_GIVEN_UP, &[&id, &i64::from(MAX_GIVEN_UP)]).await?;
    }
    if settlement.is_back {
        transaction.execute(sql::ADVANCE_DELIVERIES, &[&id, &at, &at]).await?;
    }
    if let Some(by) = settlement.disable {
        disable(transaction, &claim.id, by, now).await?;
    }
    Ok(true)
}

/// A delivery as it is stored.
struct Stored {
    event: i64,
    message: Message,
    attempts: i64,
    due: Option<i64>,
    answer: String,
}

async fn store(
    transaction: &Transaction,
    id: &WebhookId,
    deliveries: Vec<Stored>,
    tried: Option<i64>,
) -> Result<(), Failure> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let events: Vec<i64> = deliveries.iter().map(|delivery| delivery.event).collect();
    let messages: Vec<&str> = deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect();
    let bodies: Vec<&str> = deliveries.iter().map(|delivery| delivery.message.body.as_str()).collect();
    let attempts: Vec<i64> = deliveries.iter().map(|delivery| delivery.attempts).collect();
    let due: Vec<Option<i64>> = deliveries.iter().map(|delivery| delivery.due).collect();
    let answers: Vec<&str> = deliveries.iter().map(|delivery| delivery.answer.as_str()).collect();
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&id.as_str(), &events, &messages, &bodies, &attempts, &due, &tried, &answers];
    transaction.execute(sql::STORE_DELIVERIES, &parameters).await?;
    Ok(())
}

/// Disables a webhook that the operator has not, and tells superusers and staff.
async fn disable(transaction: &Transaction, id: &WebhookId, by: DisabledBy, now: Timestamp) -> Result<(), Failure> {
    let (id, at) = (id.as_str(), now.as_millis());
    if transaction.execute(sql::DISABLE_WEBHOOK, &[&id, &at, &by.name()]).await? == 0 {
        return Ok(());
    }
    let kind = EventKind::WebhookDisabled.name();
    transaction.execute(sql::INSERT_EVENT_OF_NO_ACCOUNT, &[&at, &kind, &"", &"", &id]).await?;
    if transaction.notices.enabled {
        let kind = MailKind::WebhookDisabled;
        let (expires, most) = (now.plus(kind.lifetime()).as_millis(), i64::from(NOTICED_AT_MOST));
        let parameters: [&(dyn ToSql + Sync); 5] = [&kind.name(), &id, &at, &expires, &most];
        transaction.execute(sql::INSERT_WEBHOOK_NOTICES, &parameters).await?;
    }
    Ok(())
}

/// The events that are to be sent again, as many as may wait, and when the next one happened where there are more. `None`
/// where there is no such webhook. What it was not sent yet is not sent again.
async fn find_to_replay(
    connection: &Connection,
    id: &WebhookId,
    replay: Replay,
) -> Result<Option<(Vec<Event>, Option<Timestamp>)>, Failure> {
    let Some(row) = connection.query_opt(sql::FIND_WEBHOOK, &[&id.as_str()]).await? else { return Ok(None) };
    let (kinds, cursor): (_, i64) = (read_kinds(&row)?, get(&row, "cursor")?);
    let waiting: i64 = get(&connection.query_one(sql::COUNT_WAITING_DELIVERIES, &[&id.as_str()]).await?, 0)?;
    let room = i64::from(MAX_WAITING).saturating_sub(waiting).max(0);
    let (first, last, since) = match replay {
        Replay::Event(event) => (event, event.min(cursor), Timestamp::MIN.as_millis()),
        Replay::Since(since) => (0, cursor, since.as_millis()),
    };
    let others: Vec<&str> =
        EventKind::ALL.into_iter().filter(|kind| kind.is_of_webhooks()).map(EventKind::name).collect();
    let parameters: [&(dyn ToSql + Sync); 6] = [&first, &last, &since, &kinds.names(), &others, &(room + 1)];
    let rows = connection.query(sql::LIST_EVENTS_TO_REPLAY, &parameters).await?;
    let mut events = rows.iter().map(read_event).collect::<Result<Vec<_>, _>>()?;
    let more = events.get(usize::try_from(room).unwrap_or(usize::MAX)).map(|event| event.at);
    events.truncate(usize::try_from(room).unwrap_or(usize::MAX));
    Ok(Some((events, more)))
}

/// Forgets the secrets that were sealed with another key. A webhook without one is disabled.
pub(super) async fn forget_sealed(transaction: &Transaction, key_id: &Vec<u8>, now: Timestamp) -> Result<u64, Failure> {
    let (at, by) = (now.as_millis(), DisabledBy::LostKey.name());
    let forgotten = transaction.query(sql::FORGET_WEBHOOK_SECRETS, &[key_id, &at, &by]).await?;
    for row in &forgotten {
        if get(row, "is_news")? {
            let (kind, id) = (EventKind::WebhookDisabled, read_webhook_id(row)?);
            insert_event(transaction, kind, id.as_str(), COMMAND_LINE, None, now).await?;
        }
    }
    let previous = transaction.execute(sql::FORGET_PREVIOUS_WEBHOOK_SECRETS, &[key_id]).await?;
    Ok(forgotten.len() as u64 + previous)
}
