//! [`Events`] in PostgreSQL.

use async_trait::async_trait;
use std::net::IpAddr;

use super::PostgresRepository;
use crate::domain::event::{Event, EventCursor, EventKind, EventQuery, FailedAttempt};
use crate::domain::mail::MailKind;
use crate::domain::rights::Actor;
use crate::domain::session::Caller;
use crate::domain::user::{UserId, Username};
use crate::repository::{Events, Page, RepositoryError, ResetCursor, Resets, StoredFailures};
use crate::system::address::neighbourhood;
use crate::system::clock::Timestamp;

#[async_trait]
impl Events for PostgresRepository {
    async fn list_own_events(
        &self,
        caller: &Caller,
        query: EventQuery,
    ) -> Result<Page<Event, EventCursor>, RepositoryError> {
        unimplemented!()
    }

    async fn list_events(&self, actor: &Actor, query: EventQuery) -> Result<Page<Event, EventCursor>, RepositoryError> {
        unimplemented!()
    }

    async fn record_failed_attempts(
        &self,
        attempts: Vec<FailedAttempt>,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        unimplemented!()
    }

    async fn list_familiar_addresses(&self, username: &Username) -> Result<Vec<IpAddr>, RepositoryError> {
        unimplemented!()
    }

    async fn list_failures(&self, limit: u32) -> Result<Vec<StoredFailures>, RepositoryError> {
        unimplemented!()
    }

    async fn list_resets(&self, behind: Option<ResetCursor>) -> Result<Resets, RepositoryError> {
        unimplemented!()
    }
}

pub(super) async fn by_owner(
    transaction: &super::transaction::Transaction,
    kind: EventKind,
    user_id: UserId,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> Result<(), super::error::Failure> {
    unimplemented!()
}

pub(super) async fn is_familiar(
    connection: &super::pool::Connection,
    user_id: UserId,
    ip: IpAddr,
) -> Result<bool, super::error::Failure> {
    unimplemented!()
}
