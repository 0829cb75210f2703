//! [`OneTimeCodes`] in PostgreSQL.

use async_trait::async_trait;
use std::net::IpAddr;

use super::PostgresRepository;
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
