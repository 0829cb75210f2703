//! The connections: how one is made, checked before it is used again, and thrown away.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, Timeouts};
use deadpool_postgres::ClientWrapper;
use futures_util::future::{join_all, try_join_all};
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::error::{Failure, LinkError, OpenError, told};
use super::reach::why_not;
use crate::repository::RepositoryError;
use crate::system::authorities;

/// How long to wait for a free connection, or for a new one.
pub(super) const POOL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one statement may take on the server. A client waits for the answer a little longer.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for a connection that comes back where the server gives no more, before another is asked for.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// How long a connection may lie unused and be used again without a check.
const UNCHECKED_FOR: Duration = Duration::from_secs(1);

/// What every session begins with. It is not sent as startup options, which poolers refuse. Nothing is acknowledged that could
/// be lost, whatever the role is set to.
const PREPARE: &str = "SET statement_timeout = 3000; SET lock_timeout = 2000; \
     SET idle_in_transaction_session_timeout = 10000; SET client_encoding = 'UTF8'; \
     SET standard_conforming_strings = on; \
     SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// The server that a connection leads to: when it was started, and its port. A former primary and its successor differ.
const FIND_INSTANCE: &str = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint \
     + coalesce(inet_server_port(), 0)";

/// A server, as far as it must be told from its successor.
pub(super) type Instance = i64;

/// Makes connections.
pub(super) struct Connector {
    address: Address,
    tls: Option<MakeRustlsConnect>,
    /// Connections of an earlier generation are thrown away: the primary has changed since.
    generation: AtomicU64,
    /// How many were made.
    made: AtomicU64,
}

/// A connection, and which server it leads to.
pub(super) struct Connection {
    client: ClientWrapper,
    pub(super) instance: Instance,
    generation: u64,
    used: Instant,
    /// Whether what it was used for has come to an end; otherwise nobody knows what it will answer next.
    is_clean: AtomicBool,
}

impl Connector {
    pub(super) fn new(address: Address) -> Result<Self, OpenError> {
        let tls = if address.tls {
            let ca_file = address.ca_file.as_deref();
            let authorities = authorities::load("database.ca_file", ca_file, "PostgreSQL's").map_err(OpenError::Tls)?;
            let config =
                authorities::tls_client(authorities).map_err(|error| OpenError::Tls(format!("TLS: {error}")))?;
            Some(MakeRustlsConnect::new(config))
        } else {
            None
        };
        Ok(Self { address, tls, generation: AtomicU64::new(0), made: AtomicU64::new(0) })
    }

    pub(super) fn shown(&self) -> &str {
        &self.address.shown
    }

    /// Throws every connection away that was made before, when it is next to be used.
    pub(super) fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Connects to the primary.
    pub(super) async fn connect(&self) -> Result<Connection, tokio_postgres::Error> {
        let generation = self.generation.load(Ordering::SeqCst);
        let (client, task) = if let Some(tls) = &self.tls {
            let (client, connection) = self.address.config.connect(tls.clone()).await?;
            (client, tokio::spawn(run(connection)))
        } else {
            let (client, connection) = self.address.config.connect(NoTls).await?;
            (client, tokio::spawn(run(connection)))
        };
        let client = ClientWrapper::new(client, task);
        client.batch_execute(PREPARE).await?;
        // Without a prepared statement, which a pooler may not keep: that is found out later.
        let instance = find_instance(&client).await?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Connection { client, instance, generation, used: Instant::now(), is_clean: AtomicBool::new(true) })
    }
}

/// The server that a connection leads to.
async fn find_instance(client: &Client) -> Result<Instance, tokio_postgres::Error> {
    let answers = client.simple_query(FIND_INSTANCE).await?;
    let found = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    Ok(found.unwrap_or_default())
}

/// Serves a connection until it ends.
async fn run(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        log::debug!("a connection to PostgreSQL ended: {}", told(&error));
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Connection, tokio_postgres::Error> {
        self.connect().await
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> Result<(), RecycleError<tokio_postgres::Error>> {
        if connection.client.is_closed() || !*connection.is_clean.get_mut() {
            return Err(RecycleError::message("it is broken"));
        }
        if connection.generation != self.generation.load(Ordering::SeqCst) {
            return Err(RecycleError::message("the primary has changed"));
        }
        if connection.used.elapsed() >= UNCHECKED_FOR {
            connection.client.batch_execute("").await?;
        }
        connection.used = Instant::now();
        Ok(())
    }
}

impl Connection {
    /// The rows of a statement, which is prepared once a connection.
    pub(super) async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.query(&statement, parameters).await?)
    }

    /// Its only row, where there is one.
    pub(super) async fn query_opt(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Failure> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.query_opt(&statement, parameters).await?)
    }

    /// Its only row.
    pub(super) async fn query_one(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Failure> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.query_one(&statement, parameters).await?)
    }

    /// How many rows it has changed.
    pub(super) async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.execute(&statement, parameters).await?)
    }

    /// The rows of several statements, which the server runs one after the other, in one round trip.
    pub(super) async fn query_in_order<const N: usize>(
        &self,
        statements: [(&str, &[&(dyn ToSql + Sync)]); N],
    ) -> Result<[Vec<Row>; N], Failure> {
        // All of them before the first is sent: one that had to be prepared would come behind the others.
        let prepared = try_join_all(statements.iter().map(|(sql, _)| self.client.prepare_cached(sql))).await?;
        let sent = prepared.iter().zip(statements).map(|(statement, (_, parameters))| {
            // It is sent when it is first polled, and join_all polls them in their order.
            self.client.query(statement, parameters)
        });
        let mut rows = Vec::with_capacity(N);
        for answer in join_all(sent).await {
            rows.push(answer?);
        }
        rows.try_into().map_err(|_| LinkError::Unconfirmed.into())
    }

    /// Statements without parameters, not prepared.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// From here on it is not to be used again, until [`Connection::is_clean_again`].
    pub(super) fn is_in_doubt(&self) {
        self.is_clean.store(false, Ordering::Relaxed);
    }

    /// What it was used for has come to an end.
    pub(super) fn is_clean_again(&self) {
        self.is_clean.store(true, Ordering::Relaxed);
    }

    /// The driver's client, for what only migrations and copies need.
    pub(super) fn client_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

/// The pool.
pub(super) struct Pool {
    connections: managed::Pool<Connector>,
    /// How many connections were asked for, had to be waited for, and were not to be had.
    pub(super) asked: AtomicU64,
    pub(super) delayed: AtomicU64,
    /// How long they waited, in microseconds.
    pub(super) delay: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// A connection that goes back to the pool when it is dropped.
pub(super) type Pooled = Object<Connector>;

impl Pool {
    pub(super) fn new(connector: Connector, size: usize) -> Self {
        let timeouts = Timeouts { wait: None, create: None, recycle: None };
        let pool = managed::Pool::builder(connector).max_size(size).timeouts(timeouts).build();
        Self {
            connections: pool
                .unwrap_or_else(|_| unreachable!("it asks for no time-outs, which a runtime would be needed for")),
            asked: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn connector(&self) -> &Connector {
        self.connections.manager()
    }

    pub(super) async fn get(&self) -> Result<Pooled, Failure> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let is_delayed = self.connections.status().available == 0;
        let since = Instant::now();
        let got = timeout(POOL_TIMEOUT, self.get_any()).await;
        if is_delayed {
            self.delayed.fetch_add(1, Ordering::Relaxed);
            self.delay.fetch_add(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        let error = match got {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(PoolError::Backend(error))) => LinkError::Connect(why_not(&error)),
            Ok(Err(PoolError::Closed)) => LinkError::Closed,
            Ok(Err(_)) | Err(_) => LinkError::PoolTimeout(POOL_TIMEOUT),
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(error.into())
    }

    /// A free connection, or a new one; or else, where the server gives no more, one that comes back.
    async fn get_any(&self) -> Result<Pooled, PoolError<tokio_postgres::Error>> {
        loop {
            match self.connections.get().await {
                Err(PoolError::Backend(error))
                    if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) && self.connections.status().size > 0 =>
                {
                    sleep(ASKED_AGAIN_AFTER).await;
                }
                got => return got,
            }
        }
    }

    /// How many connections there are, and how many of them are in use.
    pub(super) fn size(&self) -> (usize, usize) {
        let status = self.connections.status();
        (status.size, status.size.saturating_sub(status.available))
    }

    /// How many connections there may be.
    pub(super) fn max_size(&self) -> usize {
        self.connections.status().max_size
    }

    pub(super) fn close(&self) {
        self.connections.close();
    }
}

/// An unavailable store, for whoever waits.
pub(super) fn unavailable(error: LinkError) -> RepositoryError {
    RepositoryError::Unavailable(Arc::new(error))
}
