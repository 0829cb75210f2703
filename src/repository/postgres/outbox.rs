//! [`Outbox`] in PostgreSQL, and what other files put in it: each notice beside its event, and confirmations.

use std::net::IpAddr;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::emails::{find_email, is_taken};
use super::error::Failure;
use super::offers::keep_newest_disowners;
use super::rows::{get, invalid, ip_text, read_mail, read_mail_kind, read_optional_time, read_time};
use super::transaction::Transaction;
use super::{PostgresRepository, SCAN_WITHIN, sql};
use crate::domain::email::key_of;
use crate::domain::event::EventKind;
use crate::domain::mail::MailKind;
use crate::domain::one_time::{CODE_LIFETIME, Code, CodeMac, Purpose, RESTORES_EMAIL};
use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;
use crate::repository::{MailId, NewEmailChange, Outbox, OutboxMail, OutboxStatistics, RepositoryError, Undelivered};
use crate::system::clock::Timestamp;

/// The token and the MAC of what was not mailed yet.
const NO_BYTES: Option<&[u8]> = None;

/// How many expired mails are dropped in one transaction, so that no other write waits long.
const DROPPED_AT_ONCE: u32 = 500;

#[async_trait]
impl Outbox for PostgresRepository {
    async fn claim_mails(
        &self,
        limit: u32,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Vec<OutboxMail>, RepositoryError> {
        // Most of the time none is due, and then nothing is written.
        let is_due = self.peek(now, |connection, now| {
            Box::pin(async move { Ok(connection.query_opt(sql::FIND_DUE_MAIL, &[&now.as_millis()]).await?.is_some()) })
        });
        if !is_due.await? {
            return Ok(Vec::new());
        }
        self.write((limit, now, claimed_until), |transaction, (limit, now, claimed_until)| {
            Box::pin(async move {
                let (at, kind) = (now.as_millis(), EventKind::MailFailed.name());
                let dropping: [&(dyn ToSql + Sync); 3] = [&at, &kind, &i64::from(DROPPED_AT_ONCE)];
                let claiming: [&(dyn ToSql + Sync); 3] = [&at, &i64::from(*limit), &claimed_until.as_millis()];
                let statements = [(sql::DROP_EXPIRED_MAILS, &dropping[..]), (sql::CLAIM_MAILS, &claiming)];
                let [_, claimed] = transaction.query_in_order(statements).await?;
                claimed.iter().map(read_mail).collect()
            })
        })
        .await
    }

    async fn store_outbox_offer(
        &self,
        mail: MailId,
        purpose: Purpose,
        code: Option<Code>,
        token: TokenDigest,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        self.write((mail, purpose, code, token, now), |transaction, (mail, purpose, code, token, now)| {
            Box::pin(store_offer(transaction, *mail, *purpose, code.as_ref(), token, *now))
        })
        .await
    }

    async fn is_email_taken(&self, user_id: UserId, email_key: &str) -> Result<bool, RepositoryError> {
        self.read((user_id, email_key.to_owned()), |connection, (user_id, email_key)| {
            Box::pin(is_taken(connection, *user_id, email_key))
        })
        .await
    }

    async fn complete_mail(&self, mail: MailId) -> Result<bool, RepositoryError> {
        self.write(mail, |transaction, mail| {
            Box::pin(async move { Ok(transaction.execute(sql::DELETE_MAIL, &[&mail.id, &mail.claim]).await? > 0) })
        })
        .await
    }

    async fn return_mail(
        &self,
        mail: MailId,
        undelivered: Undelivered,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        self.write((mail, undelivered, now), |transaction, (mail, undelivered, now)| {
            Box::pin(async move {
                let (due, attempts) = match undelivered {
                    Undelivered::Retry(at) => (at, 1_i64),
                    Undelivered::Later(at) => (at, 0),
                    Undelivered::GiveUp => {
                        let (at, kind) = (now.as_millis(), EventKind::MailFailed.name());
                        let parameters: [&(dyn ToSql + Sync); 4] = [&mail.id, &mail.claim, &at, &kind];
                        return Ok(transaction.execute(sql::GIVE_MAIL_UP, &parameters).await? > 0);
                    }
                };
                let parameters: [&(dyn ToSql + Sync); 4] = [&mail.id, &mail.claim, &due.as_millis(), &attempts];
                Ok(transaction.execute(sql::RETURN_MAIL, &parameters).await? > 0)
            })
        })
        .await
    }

    async fn outbox_statistics(&self) -> Result<OutboxStatistics, RepositoryError> {
        self.scan(SCAN_WITHIN, (), |connection, ()| {
            Box::pin(async move {
                let row = connection.query_one(sql::COUNT_MAILS, &[]).await?;
                let waiting: i64 = get(&row, 0)?;
                Ok(OutboxStatistics { waiting: waiting.unsigned_abs(), oldest: read_optional_time(&row, 1)? })
            })
        })
        .await
    }
}

/// Puts a notice in the outbox, where mail is sent and the account's address is verified.
pub(super) async fn insert_notice(
    transaction: &Transaction,
    kind: MailKind,
    user_id: UserId,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    if !transaction.notices.enabled {
        return Ok(());
    }
    let (at, expires) = (now.as_millis(), now.plus(kind.lifetime()).as_millis());
    let detail = if kind.needs_detail() { detail } else { "" };
    let parameters: [&(dyn ToSql + Sync); 6] = [&user_id.0, &kind.name(), &detail, &at, &ip_text(ip), &expires];
    transaction.execute(sql::INSERT_NOTICE, &parameters).await?;
    Ok(())
}

/// Begins a change of the address in the place of an earlier one, and puts its confirmation in the outbox. Neither the
/// code nor the link exists before that is sent.
pub(super) async fn begin_confirmation(
    transaction: &Transaction,
    user_id: UserId,
    change: &NewEmailChange,
    now: Timestamp,
) -> Result<(), Failure> {
    let purpose = Purpose::ConfirmEmail;
    // Whether or not it has expired.
    let replaced = transaction.query_opt(sql::DELETE_OFFER_FOR, &[&user_id.0, &purpose.name(), &true]).await?;
    if let Some(replaced) = replaced {
        let request: &[u8] = get(&replaced, 0)?;
        transaction.execute(sql::DELETE_MAIL_OF_OFFER, &[&request]).await?;
    }
    let (email, request): (&str, &[u8]) = (change.email.as_str(), change.request.as_bytes());
    let parameters: [&(dyn ToSql + Sync); 13] = [
        &request,
        &purpose.name(),
        &user_id.0,
        &true,
        &email,
        &change.email.key(),
        &change.link,
        &"",
        &NO_BYTES,
        &NO_BYTES,
        &now.as_millis(),
        &now.as_millis(),
        &now.plus(purpose.lifetime()).as_millis(),
    ];
    transaction.execute(sql::INSERT_OFFER, &parameters).await?;
    insert_confirmation(transaction, user_id, change, now).await
}

/// Puts the mail in the outbox that confirms an address, where mail is sent.
async fn insert_confirmation(
    transaction: &Transaction,
    user_id: UserId,
    change: &NewEmailChange,
    now: Timestamp,
) -> Result<(), Failure> {
    let kind = MailKind::ConfirmEmail;
    if !transaction.notices.enabled {
        return Ok(());
    }
    let (at, expires) = (now.as_millis(), now.plus(kind.lifetime()).as_millis());
    let (email, request): (&str, &[u8]) = (change.email.as_str(), change.request.as_bytes());
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&user_id.0, &kind.name(), &email, &request, &at, &change.link, &expires];
    transaction.execute(sql::INSERT_CONFIRMATION, &parameters).await?;
    Ok(())
}

/// A claimed mail, as far as its offer depends on it.
struct Claimed {
    kind: MailKind,
    user_id: UserId,
    recipient: String,
    request: Option<[u8; 32]>,
    detail: String,
    at: Timestamp,
}

fn read_claimed(row: &Row) -> Result<Claimed, Failure> {
    let request: Option<&[u8]> = get(row, 3)?;
    Ok(Claimed {
        kind: read_mail_kind(row, 0)?,
        user_id: UserId(get(row, 1)?),
        recipient: get(row, 2)?,
        request: request.map(<[u8; 32]>::try_from).transpose().map_err(invalid)?,
        detail: get(row, 4)?,
        at: read_time(row, 5)?,
    })
}

async fn store_offer(
    transaction: &Transaction,
    mail: MailId,
    purpose: Purpose,
    code: Option<&Code>,
    token: &TokenDigest,
    now: Timestamp,
) -> Result<bool, Failure> {
    let finding: [&(dyn ToSql + Sync); 3] = [&mail.id, &mail.claim, &now.as_millis()];
    let statements = [(sql::LOCK_MAIL_USER, &finding[..1]), (sql::FIND_CLAIMED_MAIL, &finding)];
    let [_, claimed] = transaction.query_in_order(statements).await?;
    let Some(mail) = claimed.first().map(read_claimed).transpose()? else { return Ok(false) };
    let token: &[u8] = token.as_bytes();
    if purpose == Purpose::ConfirmEmail {
        let Some(request) = mail.request else { return Ok(false) };
        let mac = code.map(|code| code.mac_in_session(&TokenDigest::from_bytes(request)));
        let (request, mac): (&[u8], _) = (&request, mac.as_ref().map(|mac: &CodeMac| mac.as_bytes().as_slice()));
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &request,
            &purpose.name(),
            &mac,
            &token,
            &now.as_millis(),
            &now.plus(CODE_LIFETIME).as_millis(),
            &now.plus(purpose.lifetime()).as_millis(),
        ];
        return Ok(transaction.execute(sql::RENEW_OFFER, &parameters).await? > 0);
    }
    let Some(email_key) = key_of(&mail.recipient) else { return Ok(false) };
    let Some(account) = find_email(transaction, mail.user_id).await? else { return Ok(false) };
    // A thief's mailbox is told nothing more, and can disown nothing, once the owner's address is back. The mail that
    // restores an address goes to one that the account no longer has.
    let is_told = mail.kind == MailKind::EmailChanged || account.key.as_ref() == Some(&email_key);
    if !is_told || purpose != Purpose::NotMe {
        return Ok(false);
    }
    // It has no code, so it is found by its token alone: nobody has a request id of it.
    let detail = match mail.kind {
        MailKind::EmailChanged => RESTORES_EMAIL,
        MailKind::UnfamiliarSignIn => &*mail.detail,
        _ => "",
    };
    // However late their mails are, changes of the address are undone in their order, and what was added to an account
    // since goes with what is disowned.
    let created = mail.at;
    let parameters: [&(dyn ToSql + Sync); 13] = [
        &token,
        &purpose.name(),
        &mail.user_id.0,
        &false,
        &mail.recipient,
        &email_key,
        &None::<&str>,
        &detail,
        &token,
        &NO_BYTES,
        &created.as_millis(),
        &created.as_millis(),
        &created.plus(purpose.lifetime()).as_millis(),
    ];
    transaction.execute(sql::INSERT_OFFER, &parameters).await?;
    keep_newest_disowners(transaction, mail.user_id).await?;
    Ok(true)
}
