//! [`Outbox`] in PostgreSQL.

use async_trait::async_trait;

use super::PostgresRepository;
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
