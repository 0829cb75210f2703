//! [`Outbox`] in SQLite, and what other files put in it: each notice beside its event, and confirmations.

use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::types::Null;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::emails::{find_email, is_taken};
use super::error::Failure;
use super::offers::keep_newest_disowners;
use super::rows::{ip_text, read_mail, read_mail_kind, read_optional_time, read_time};
use super::transaction::Transaction;
use super::{SqliteRepository, sql};
use crate::domain::email::key_of;
use crate::domain::event::EventKind;
use crate::domain::mail::MailKind;
use crate::domain::one_time::{CODE_LIFETIME, Code, CodeMac, Purpose, RESTORES_EMAIL};
use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;
use crate::repository::{MailId, NewEmailChange, Outbox, OutboxMail, OutboxStatistics, RepositoryError, Undelivered};
use crate::system::clock::Timestamp;

/// How many expired mails are dropped in one transaction, so that no other write waits long.
const DROPPED_AT_ONCE: u32 = 500;

#[async_trait]
impl Outbox for SqliteRepository {
    async fn claim_mails(
        &self,
        limit: u32,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Vec<OutboxMail>, RepositoryError> {
        // Most of the time none is due, and then nothing is written.
        let is_due = self.read(move |connection| {
            Ok(list_ids(connection, sql::LIST_EXPIRED_MAILS, now, 1)?.len()
                + list_ids(connection, sql::LIST_DUE_MAILS, now, 1)?.len()
                > 0)
        });
        if !is_due.await? {
            return Ok(Vec::new());
        }
        self.write(move |connection| {
            for id in list_ids(connection, sql::LIST_EXPIRED_MAILS, now, DROPPED_AT_ONCE)? {
                give_up(connection, id, now)?;
            }
            let mut claim = connection.prepare_cached(sql::CLAIM_MAIL)?;
            let mut claimed = Vec::new();
            for id in list_ids(connection, sql::LIST_DUE_MAILS, now, limit)? {
                claimed.push(claim.query_row(params![id, claimed_until.as_millis()], read_mail)?);
            }
            Ok(claimed)
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
        self.write(move |connection| store_offer(connection, mail, purpose, code.as_ref(), token, now)).await
    }

    async fn is_email_taken(&self, user_id: UserId, email_key: &str) -> Result<bool, RepositoryError> {
        let email_key = email_key.to_owned();
        self.read(move |connection| Ok(is_taken(connection, user_id, &email_key)?)).await
    }

    async fn complete_mail(&self, mail: MailId) -> Result<bool, RepositoryError> {
        self.write(move |connection| {
            Ok(connection.prepare_cached(sql::DELETE_MAIL)?.execute([mail.id, mail.claim])? > 0)
        })
        .await
    }

    async fn return_mail(
        &self,
        mail: MailId,
        undelivered: Undelivered,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        self.write(move |connection| {
            let (due, attempts) = match undelivered {
                Undelivered::Retry(at) => (at, 1),
                Undelivered::Later(at) => (at, 0),
                Undelivered::GiveUp => (now, 1),
            };
            let mut give_back = connection.prepare_cached(sql::RETURN_MAIL)?;
            let is_held = give_back.execute(params![mail.id, mail.claim, due.as_millis(), attempts])? > 0;
            if is_held && undelivered == Undelivered::GiveUp {
                give_up(connection, mail.id, now)?;
            }
            Ok(is_held)
        })
        .await
    }

    async fn outbox_statistics(&self) -> Result<OutboxStatistics, RepositoryError> {
        self.scan(Some(self.scan_within), |connection| {
            Ok(connection.query_row(sql::COUNT_MAILS, [], |row| {
                let waiting: i64 = row.get(0)?;
                Ok(OutboxStatistics { waiting: waiting.unsigned_abs(), oldest: read_optional_time(row, 1)? })
            })?)
        })
        .await
    }
}

fn list_ids(connection: &Connection, statement: &str, now: Timestamp, limit: u32) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached(statement)?.query_map(params![now.as_millis(), limit], |row| row.get(0))?.collect()
}

/// Removes a mail that nobody has received, which is an event.
fn give_up(connection: &Connection, id: i64, now: Timestamp) -> rusqlite::Result<()> {
    let mut tell = connection.prepare_cached(sql::INSERT_MAIL_FAILED)?;
    tell.execute(params![id, now.as_millis(), EventKind::MailFailed.name()])?;
    connection.prepare_cached(sql::DELETE_UNCLAIMED_MAIL)?.execute([id])?;
    Ok(())
}

/// Puts a notice in the outbox, where mail is sent and the account's address is verified.
pub(super) fn insert_notice(
    transaction: &Transaction<'_>,
    kind: MailKind,
    user_id: UserId,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if !transaction.notices.enabled {
        return Ok(());
    }
    transaction.prepare_cached(sql::INSERT_NOTICE)?.execute(params![
        user_id.0,
        kind.name(),
        if kind.needs_detail() { detail } else { "" },
        now.as_millis(),
        ip_text(ip),
        now.plus(kind.lifetime()).as_millis(),
    ])?;
    Ok(())
}

/// Begins a change of the address in the place of an earlier one, and puts its confirmation in the outbox. Neither the
/// code nor the link exists before that is sent.
pub(super) fn begin_confirmation(
    connection: &Transaction<'_>,
    user_id: UserId,
    change: &NewEmailChange,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let purpose = Purpose::ConfirmEmail;
    // Whether or not it has expired.
    let mut replaced = connection.prepare_cached(sql::DELETE_OFFER_FOR)?;
    let replaced = replaced.query_row(params![user_id.0, purpose.name(), true], |row| row.get::<_, [u8; 32]>(0));
    if let Some(request) = replaced.optional()? {
        connection.prepare_cached(sql::DELETE_MAIL_OF_OFFER)?.execute([request])?;
    }
    connection.prepare_cached(sql::INSERT_OFFER)?.execute(params![
        change.request.as_bytes(),
        purpose.name(),
        user_id.0,
        true,
        change.email.as_str(),
        change.email.key(),
        change.link,
        "",
        Null,
        Null,
        now.as_millis(),
        now.as_millis(),
        now.plus(purpose.lifetime()).as_millis(),
    ])?;
    insert_confirmation(connection, user_id, change, now)
}

/// Puts the mail in the outbox that confirms an address, where mail is sent.
fn insert_confirmation(
    transaction: &Transaction<'_>,
    user_id: UserId,
    change: &NewEmailChange,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let kind = MailKind::ConfirmEmail;
    if !transaction.notices.enabled {
        return Ok(());
    }
    transaction.prepare_cached(sql::INSERT_CONFIRMATION)?.execute(params![
        user_id.0,
        kind.name(),
        change.email.as_str(),
        change.request.as_bytes(),
        now.as_millis(),
        change.link,
        now.plus(kind.lifetime()).as_millis(),
    ])?;
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

fn store_offer(
    connection: &Connection,
    mail: MailId,
    purpose: Purpose,
    code: Option<&Code>,
    token: TokenDigest,
    now: Timestamp,
) -> Result<bool, Failure> {
    let mut find = connection.prepare_cached(sql::FIND_CLAIMED_MAIL)?;
    let claimed = find.query_row(params![mail.id, mail.claim, now.as_millis()], |row| {
        Ok(Claimed {
            kind: read_mail_kind(row, 0)?,
            user_id: UserId(row.get(1)?),
            recipient: row.get(2)?,
            request: row.get(3)?,
            detail: row.get(4)?,
            at: read_time(row, 5)?,
        })
    });
    let Some(mail) = claimed.optional()? else { return Ok(false) };
    if purpose == Purpose::ConfirmEmail {
        let Some(request) = mail.request else { return Ok(false) };
        let mac = code.map(|code| code.mac_in_session(&TokenDigest::from_bytes(request)));
        let renewed = connection.prepare_cached(sql::RENEW_OFFER)?.execute(params![
            request,
            purpose.name(),
            mac.as_ref().map(CodeMac::as_bytes),
            token.as_bytes(),
            now.as_millis(),
            now.plus(CODE_LIFETIME).as_millis(),
            now.plus(purpose.lifetime()).as_millis(),
        ])?;
        return Ok(renewed > 0);
    }
    let Some(email_key) = key_of(&mail.recipient) else { return Ok(false) };
    let Some(account) = find_email(connection, mail.user_id).optional()? else { return Ok(false) };
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
    connection.prepare_cached(sql::INSERT_OFFER)?.execute(params![
        token.as_bytes(),
        purpose.name(),
        mail.user_id.0,
        false,
        mail.recipient,
        email_key,
        Null,
        detail,
        token.as_bytes(),
        Null,
        created.as_millis(),
        created.as_millis(),
        created.plus(purpose.lifetime()).as_millis(),
    ])?;
    keep_newest_disowners(connection, mail.user_id)?;
    Ok(true)
}
