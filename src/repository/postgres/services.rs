//! [`Services`] in PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;

use super::error::Failure;
use super::lookup::{require_superuser, times_of};
use super::pool::Connection;
use super::rows::{get, ip_text, read_held_token, read_service};
use super::schema::end_releases_before_webhooks;
use super::transaction::Transaction;
use super::{PostgresRepository, sql};
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
impl Services for PostgresRepository {
    async fn add_service(
        &self,
        actor: &Actor,
        name: ServiceName,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<ServiceAdded, RepositoryError> {
        self.write((*actor, name, digest, now), |transaction, (actor, name, digest, now)| {
            Box::pin(add_service(transaction, actor, name, digest, *now))
        })
        .await
    }

    async fn revoke_service(&self, actor: &Actor, name: ServiceName, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*actor, name, now), |transaction, (actor, name, now)| {
            Box::pin(async move {
                let acting = require_superuser(transaction, actor).await?;
                if transaction.execute(sql::DELETE_SERVICE, &[&name.as_str()]).await? == 0 {
                    return Ok(false);
                }
                insert_event(transaction, EventKind::ServiceRevoked, &acting, actor, name, *now).await?;
                transaction.changes(SERVICES, Change::Sessions);
                Ok(true)
            })
        })
        .await
    }

    async fn list_services(&self, actor: &Actor) -> Result<Vec<ServiceDetails>, RepositoryError> {
        self.read_snapshot(*actor, |connection, actor| {
            Box::pin(async move {
                require_superuser(connection, actor).await?;
                Ok(list_services(connection).await?.into_iter().map(|(details, _)| details).collect())
            })
        })
        .await
    }

    async fn has_service(&self, name: &ServiceName, digest: &TokenDigest) -> Result<bool, RepositoryError> {
        if let Some(known) = self.watcher.cache().has_service(name, digest) {
            return Ok(known);
        }
        let version = self.cache.read_version();
        let services = self.read((), |connection, ()| Box::pin(list_services(connection))).await?;
        let found = is_among(&services, name, digest);
        self.cache.keep_services(version, services.into());
        Ok(found)
    }

    async fn record_service_use(&self, mut uses: Vec<(ServiceName, Timestamp)>) -> Result<(), RepositoryError> {
        // In the order of their names, so that two who change several do not wait for each other in a circle.
        uses.sort_unstable();
        self.write(uses, |transaction, uses| {
            Box::pin(async move {
                for (name, at) in uses {
                    transaction.execute(sql::RECORD_SERVICE_USE, &[&name.as_str(), &at.as_millis()]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn find_held_token(&self, caller: &Caller) -> Result<HeldToken, RepositoryError> {
        if let Some(held) = self.watcher.cache().find_held_token(caller) {
            return Ok(held);
        }
        let version = self.cache.read_version();
        let find = self.read(*caller, |connection, caller| {
            Box::pin(async move {
                let digest: &[u8] = caller.digest.as_bytes();
                let [created, used, expires] = times_of(caller.cutoffs);
                let row = connection.query_opt(sql::FIND_HELD_TOKEN, &[&digest, &created, &used, &expires]).await?;
                row.as_ref().map(read_held_token).transpose()
            })
        });
        let (Found { session, created, expires }, holder) = find.await?.ok_or(RepositoryError::NoSession)?;
        let held = HeldToken { session, created, expires, holder: Arc::new(holder) };
        self.cache.keep_held_token(version, caller.digest, &held);
        Ok(held)
    }
}

async fn add_service(
    transaction: &Transaction,
    actor: &Actor,
    name: &ServiceName,
    digest: &TokenDigest,
    now: Timestamp,
) -> Result<ServiceAdded, Failure> {
    let acting = require_superuser(transaction, actor).await?;
    transaction.execute(sql::LOCK_SERVICES, &[]).await?;
    let row = transaction.query_opt(sql::COUNT_SERVICES, &[]).await?;
    let count: i64 = row.as_ref().map_or(Ok(0), |row| get(row, 0))?;
    let digest: &[u8] = digest.as_bytes();
    if transaction.execute(sql::INSERT_SERVICE, &[&name.as_str(), &digest, &now.as_millis()]).await? == 0 {
        return Ok(ServiceAdded::Taken);
    }
    if usize::try_from(count).unwrap_or(usize::MAX) >= MAX_SERVICES {
        transaction.execute(sql::DELETE_SERVICE, &[&name.as_str()]).await?;
        return Ok(ServiceAdded::Full);
    }
    end_releases_before_webhooks(transaction).await?;
    insert_event(transaction, EventKind::ServiceAdded, &acting, actor, name, now).await?;
    transaction.changes(SERVICES, Change::Sessions);
    Ok(ServiceAdded::Done)
}

async fn list_services(connection: &Connection) -> Result<Vec<Service>, Failure> {
    let rows = connection.query(sql::LIST_SERVICES, &[]).await?;
    rows.iter().map(read_service).collect()
}

async fn insert_event(
    transaction: &Transaction,
    kind: EventKind,
    acting: &Acting,
    actor: &Actor,
    name: &ServiceName,
    now: Timestamp,
) -> Result<(), Failure> {
    let (at, kind, ip) = (now.as_millis(), kind.name(), ip_text(actor.ip()));
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [&at, &kind, &acting.name(), &ip, &name.as_str()];
    transaction.execute(sql::INSERT_EVENT_OF_NO_ACCOUNT, &parameters).await.map(drop)
}
