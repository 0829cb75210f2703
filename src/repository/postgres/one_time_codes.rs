//! [`OneTimeCodes`] in PostgreSQL.

use std::net::IpAddr;

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::outbox::insert_confirmation;
use super::rows::get;
use super::transaction::Transaction;
use super::{PostgresRepository, sql};
use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::one_time::{CODE_LIFETIME, Code, CodeMac, Presented, Purpose, RESTORES_EMAIL};
use crate::domain::session::{Caller, NewSession, SessionCutoffs, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, User, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{
    Confirmed, Disowned, EmailState, NewEmailChange, NewOffer, OneTimeCodes, Proof, Recipient, RepositoryError, Tried,
    Whom,
};
use crate::system::clock::Timestamp;

/// The token and the MAC of what was not mailed yet.
const NO_BYTES: Option<&[u8]> = None;

#[async_trait]
impl OneTimeCodes for PostgresRepository {
    async fn find_email(&self, caller: &Caller, now: Timestamp) -> Result<EmailState, RepositoryError> {
        unimplemented!()
    }

    async fn request_email_change(
        &self,
        caller: &Caller,
        proof: Proof,
        change: NewEmailChange,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn withdraw_email_change(&self, caller: &Caller, now: Timestamp) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn confirm_email_by_code(
        &self,
        caller: &Caller,
        request: Option<TokenDigest>,
        code: Code,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        unimplemented!()
    }

    async fn confirm_email_by_link(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        unimplemented!()
    }

    async fn find_recipient(&self, whom: &Whom, ip: Option<IpAddr>) -> Result<Option<Recipient>, RepositoryError> {
        unimplemented!()
    }

    async fn find_own_recipient(&self, caller: &Caller) -> Result<Option<Recipient>, RepositoryError> {
        unimplemented!()
    }

    async fn store_offer(&self, offer: NewOffer, ip: Option<IpAddr>, now: Timestamp) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn try_code(
        &self,
        purpose: Purpose,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        unimplemented!()
    }

    async fn find_link(
        &self,
        purpose: Purpose,
        token: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        unimplemented!()
    }

    async fn reset_password(
        &self,
        presented: Presented,
        new_hash: PasswordHash,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        unimplemented!()
    }

    async fn open_session_by_mail(
        &self,
        presented: Presented,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        unimplemented!()
    }

    async fn reauthenticate_by_code(
        &self,
        caller: &Caller,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        unimplemented!()
    }

    async fn disown(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Disowned>, RepositoryError> {
        unimplemented!()
    }

    async fn prune_codes(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        unimplemented!()
    }
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
