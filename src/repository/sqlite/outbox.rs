//! [`Outbox`] in SQLite.

use async_trait::async_trait;

use super::SqliteRepository;
use crate::domain::one_time::{Code, Purpose};
use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;
use crate::repository::{MailId, Outbox, OutboxMail, OutboxStatistics, RepositoryError, Undelivered};
use crate::system::clock::Timestamp;

#[async_trait]
impl Outbox for SqliteRepository {
    async fn claim_mails(
        &self,
        _limit: u32,
        _now: Timestamp,
        _claimed_until: Timestamp,
    ) -> Result<Vec<OutboxMail>, RepositoryError> {
        Err(super::not_yet())
    }

    async fn store_outbox_offer(
        &self,
        _mail: MailId,
        _purpose: Purpose,
        _code: Option<Code>,
        _token: TokenDigest,
        _now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        Err(super::not_yet())
    }

    async fn is_email_taken(&self, _user_id: UserId, _email_key: &str) -> Result<bool, RepositoryError> {
        Err(super::not_yet())
    }

    async fn complete_mail(&self, _mail: MailId) -> Result<bool, RepositoryError> {
        Err(super::not_yet())
    }

    async fn return_mail(
        &self,
        _mail: MailId,
        _undelivered: Undelivered,
        _now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        Err(super::not_yet())
    }

    async fn outbox_statistics(&self) -> Result<OutboxStatistics, RepositoryError> {
        Err(super::not_yet())
    }
}
