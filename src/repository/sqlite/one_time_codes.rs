//! [`OneTimeCodes`] in SQLite.

use async_trait::async_trait;

use std::net::IpAddr;

use super::SqliteRepository;
use crate::domain::one_time::{Code, CodeMac, Presented, Purpose};
use crate::domain::session::{Caller, NewSession};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, User, Username};
use crate::repository::{
    Confirmed, Disowned, EmailState, NewEmailChange, NewOffer, OneTimeCodes, Proof, Recipient, RepositoryError, Tried,
    Whom,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl OneTimeCodes for SqliteRepository {
    async fn find_email(&self, _caller: &Caller, _now: Timestamp) -> Result<EmailState, RepositoryError> {
        Err(super::not_yet())
    }

    async fn request_email_change(
        &self,
        _caller: &Caller,
        _proof: Proof,
        _change: NewEmailChange,
        _now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        Err(super::not_yet())
    }

    async fn withdraw_email_change(&self, _caller: &Caller, _now: Timestamp) -> Result<bool, RepositoryError> {
        Err(super::not_yet())
    }

    async fn confirm_email_by_code(
        &self,
        _caller: &Caller,
        _request: Option<TokenDigest>,
        _code: Code,
        _now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        Err(super::not_yet())
    }

    async fn confirm_email_by_link(
        &self,
        _token: TokenDigest,
        _ip: Option<IpAddr>,
        _now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        Err(super::not_yet())
    }

    async fn find_recipient(&self, _whom: &Whom, _ip: Option<IpAddr>) -> Result<Option<Recipient>, RepositoryError> {
        Err(super::not_yet())
    }

    async fn find_own_recipient(&self, _caller: &Caller) -> Result<Option<Recipient>, RepositoryError> {
        Err(super::not_yet())
    }

    async fn store_offer(
        &self,
        _offer: NewOffer,
        _ip: Option<IpAddr>,
        _now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        Err(super::not_yet())
    }

    async fn try_code(
        &self,
        _purpose: Purpose,
        _request: TokenDigest,
        _mac: CodeMac,
        _now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        Err(super::not_yet())
    }

    async fn find_link(
        &self,
        _purpose: Purpose,
        _token: TokenDigest,
        _now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        Err(super::not_yet())
    }

    async fn reset_password(
        &self,
        _presented: Presented,
        _new_hash: PasswordHash,
        _ip: Option<IpAddr>,
        _now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        Err(super::not_yet())
    }

    async fn open_session_by_mail(
        &self,
        _presented: Presented,
        _session: NewSession,
        _max_sessions: u32,
        _now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        Err(super::not_yet())
    }

    async fn reauthenticate_by_code(
        &self,
        _caller: &Caller,
        _request: TokenDigest,
        _mac: CodeMac,
        _now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        Err(super::not_yet())
    }

    async fn disown(
        &self,
        _token: TokenDigest,
        _ip: Option<IpAddr>,
        _now: Timestamp,
    ) -> Result<Option<Disowned>, RepositoryError> {
        Err(super::not_yet())
    }

    async fn prune_codes(&self, _now: Timestamp) -> Result<usize, RepositoryError> {
        Err(super::not_yet())
    }
}
