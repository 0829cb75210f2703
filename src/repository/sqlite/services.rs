//! [`Services`] in SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::lookup::{live, require_superuser};
use super::rows::{ip_text, read_count, read_held_token, read_service};
use super::transaction::Transaction;
use super::{SqliteRepository, sql};
use crate::domain::event::EventKind;
use crate::domain::holder::HeldToken;
use crate::domain::rights::{Acting, Actor};
use crate::domain::service::{MAX_SERVICES, ServiceDetails, ServiceName};
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::repository::session_cache::{Change, Found, SERVICES, Service, is_among};
use crate::repository::{RepositoryError, ServiceAdded, Services};
use crate::system::clock::Timestamp;

#[async_trait]
impl Services for SqliteRepository {
    async fn add_service(
        &self,
        actor: &Actor,
        name: ServiceName,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<ServiceAdded, RepositoryError> {
        let actor = *actor;
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            let count = connection.prepare_cached(sql::COUNT_SERVICES)?.query_row([], |row| read_count(row, 0))?;
            let mut insert = connection.prepare_cached(sql::INSERT_SERVICE)?;
            if insert.execute(params![name.as_str(), digest.as_bytes(), now.as_millis()])? == 0 {
                return Ok(ServiceAdded::Taken);
            }
            if count >= MAX_SERVICES as u64 {
                connection.prepare_cached(sql::DELETE_SERVICE)?.execute([name.as_str()])?;
                return Ok(ServiceAdded::Full);
            }
            insert_event(connection, EventKind::ServiceAdded, &acting, &actor, &name, now)?;
            connection.changes(SERVICES, Change::Sessions);
            Ok(ServiceAdded::Done)
        })
        .await
    }

    async fn revoke_service(&self, actor: &Actor, name: ServiceName, now: Timestamp) -> Result<bool, RepositoryError> {
        let actor = *actor;
        self.write(move |connection| {
            let acting = require_superuser(connection, &actor)?;
            if connection.prepare_cached(sql::DELETE_SERVICE)?.execute([name.as_str()])? == 0 {
                return Ok(false);
            }
            insert_event(connection, EventKind::ServiceRevoked, &acting, &actor, &name, now)?;
            connection.changes(SERVICES, Change::Sessions);
            Ok(true)
        })
        .await
    }

    async fn list_services(&self, actor: &Actor) -> Result<Vec<ServiceDetails>, RepositoryError> {
        let actor = *actor;
        self.read_snapshot(move |connection| {
            require_superuser(connection, &actor)?;
            Ok(list_services(connection)?.into_iter().map(|(details, _)| details).collect())
        })
        .await
    }

    async fn has_service(&self, name: &ServiceName, digest: &TokenDigest) -> Result<bool, RepositoryError> {
        let cache = self.watched_cache()?;
        if let Some(known) = cache.has_service(name, digest) {
            return Ok(known);
        }
        let version = cache.read_version();
        let services: Arc<[Service]> = self.read(|connection| Ok(list_services(connection)?.into())).await?;
        let found = is_among(&services, name, digest);
        cache.keep_services(version, services);
        Ok(found)
    }

    async fn record_service_use(&self, uses: Vec<(ServiceName, Timestamp)>) -> Result<(), RepositoryError> {
        self.write(move |connection| {
            let mut record = connection.prepare_cached(sql::RECORD_SERVICE_USE)?;
            for (name, at) in &uses {
                record.execute(params![name.as_str(), at.as_millis()])?;
            }
            Ok(())
        })
        .await
    }

    async fn find_held_token(&self, caller: &Caller) -> Result<HeldToken, RepositoryError> {
        if let Some(held) = self.watched_cache()?.find_held_token(caller) {
            return Ok(held);
        }
        let (caller, version) = (*caller, self.cache.read_version());
        let find = move |connection: &Connection| {
            let mut find = connection.prepare_cached(sql::FIND_HELD_TOKEN)?;
            Ok(find.query_row(live(&caller), read_held_token).optional()?)
        };
        let found = self.read_inline(find).await?;
        let (Found { session, created, expires }, holder) = found.ok_or(RepositoryError::NoSession)?;
        let held = HeldToken { session, created, expires, holder: Arc::new(holder) };
        self.cache.keep_held_token(version, caller.digest, &held);
        Ok(held)
    }
}

fn list_services(connection: &Connection) -> rusqlite::Result<Vec<Service>> {
    connection.prepare_cached(sql::LIST_SERVICES)?.query_map([], read_service)?.collect()
}

fn insert_event(
    connection: &Transaction<'_>,
    kind: EventKind,
    acting: &Acting,
    actor: &Actor,
    name: &ServiceName,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let ip = ip_text(actor.ip());
    let mut insert = connection.prepare_cached(sql::INSERT_EVENT_OF_NO_ACCOUNT)?;
    insert.execute(params![now.as_millis(), kind.name(), acting.name(), ip, name.as_str()])?;
    Ok(())
}
