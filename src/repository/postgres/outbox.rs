//! [`Outbox`] in PostgreSQL.

use std::net::IpAddr;

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::rows::ip_text;
use super::transaction::Transaction;
use super::{PostgresRepository, sql};
use crate::domain::email::key_of;
use crate::domain::event::EventKind;
use crate::domain::mail::MailKind;
use crate::domain::one_time::{CODE_LIFETIME, Code, CodeMac, Purpose, RESTORES_EMAIL};
use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;
use crate::repository::{MailId, NewEmailChange, Outbox, OutboxMail, OutboxStatistics, RepositoryError, Undelivered};
use crate::system::clock::Timestamp;

#[async_trait]
impl Outbox for PostgresRepository {
    async fn claim_mails(
        &self,
        limit: u32,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Vec<OutboxMail>, RepositoryError> {
        unimplemented!()
    }

    async fn store_outbox_offer(
        &self,
        mail: MailId,
        purpose: Purpose,
        code: Option<Code>,
        token: TokenDigest,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn is_email_taken(&self, user_id: UserId, email_key: &str) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn complete_mail(&self, mail: MailId) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn return_mail(
        &self,
        mail: MailId,
        undelivered: Undelivered,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn outbox_statistics(&self) -> Result<OutboxStatistics, RepositoryError> {
        unimplemented!()
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
    let parameters: [&(dyn ToSql + Sync); 6] = [&user_id.0, &kind.name(), &detail, &at, &ip_text(ip), &expires];
    transaction.execute(sql::INSERT_NOTICE, &parameters).await?;
    Ok(())
}

/// Puts the mail in the outbox that confirms an address, where mail is sent.
pub(super) async fn insert_confirmation(
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
