//! A database as the source or the target of a move to another store ([`crate::repository::moving`]).
//!
//! Each is one transaction on one connection: a process that is killed leaves both as they were. A source's tables are
//! locked against changes meanwhile. A target is filled with COPY, without indexes and foreign keys, which are made again
//! behind it.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::address::Address;
use super::error::{OpenError, told};
use super::open::reach;
use super::pool::{Connection, Connector};
use super::schema::{self, Found};
use crate::config::secret::Secret;
use crate::repository;
use crate::repository::moving::{Kind, MoveError, Reader, Row, Source, TABLES, Table, Target, Value};

/// How long a look at the nodes and connections goes on: longer than any lease.
const WATCHED_FOR: Duration = Duration::from_millis(1_200);

/// How long connections that are being closed are waited for, and how often they are looked at.
const CLOSED_WITHIN: u32 = 20;
const CLOSED_LOOK: Duration = Duration::from_millis(150);

/// The other sessions of this program. Those of another role are seen, too, but for their name.
const FIND_OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
     AND pid <> pg_backend_pid() AND application_name = current_setting('application_name')";

const FIND_BEATS: &str = "SELECT id, coalesce(pg_sequence_last_value(beats), 0) FROM nodes ORDER BY id";

const FIND_FOREIGN_KEYS: &str = "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) \
     FROM pg_constraint WHERE contype = 'f' AND conrelid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)";

const FIND_INDEXES: &str = "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index \
     WHERE indrelid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name) \
     AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)";

/// Of this transaction alone: a copy takes as long as it takes.
const NO_TIMEOUTS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0";

impl From<OpenError> for MoveError {
    fn from(error: OpenError) -> Self {
        Self::Open(repository::OpenError::from(error))
    }
}

impl Value {
    fn text_with_nul(&self) -> bool {
        matches!(self, Self::Text(text) if text.contains('\0'))
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Boolean(is_on) => is_on.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::BOOL, Type::TEXT, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

fn types(table: &Table) -> Vec<Type> {
    let of = |kind| match kind {
        Kind::Integer => Type::INT8,
        Kind::Boolean => Type::BOOL,
        Kind::Text => Type::TEXT,
        Kind::Bytes => Type::BYTEA,
    };
    table.columns.iter().map(|(_, kind)| of(*kind)).collect()
}

fn read_row(row: &BinaryCopyOutRow, table: &Table) -> Result<Row, tokio_postgres::Error> {
    let read = |(number, (_, kind)): (usize, &(&str, Kind))| {
        Ok(match kind {
            Kind::Integer => row.try_get::<Option<i64>>(number)?.map(Value::Integer),
            Kind::Boolean => row.try_get::<Option<bool>>(number)?.map(Value::Boolean),
            Kind::Text => row.try_get::<Option<String>>(number)?.map(Value::Text),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>>(number)?.map(Value::Bytes),
        }
        .unwrap_or(Value::Null))
    };
    table.columns.iter().enumerate().map(read).collect()
}

/// What both have: a connection in the middle of a transaction.
struct Moving {
    runtime: Runtime,
    connection: Connection,
    shown: String,
}

impl Moving {
    /// Connects, and refuses a database that a server is using.
    fn open(url: &Secret, ca_file: Option<PathBuf>, make: bool) -> Result<Self, MoveError> {
        let connector = Connector::new(Address::parse(url.expose(), ca_file).map_err(OpenError::from)?)?;
        let shown = connector.shown().to_owned();
        let start = |source| OpenError::Start { shown: shown.clone(), source };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(start)?;
        let connection = runtime.block_on(async {
            let mut connection = reach(&connector).await?;
            if make {
                schema::migrate(connection.client_mut(), &shown).await?;
            }
            match schema::find(&connection).await.map_err(|error| failed(&shown, &error))? {
                Found::Version { version: schema::VERSION, .. } => {}
                Found::Version { version: found, .. } => {
                    return Err(MoveError::OtherVersion { shown: shown.clone(), found, needed: schema::VERSION });
                }
                Found::Empty => return Err(OpenError::Missing { shown: shown.clone() }.into()),
                Found::Foreign => {
                    let why = "there is no table schema_version".to_owned();
                    return Err(OpenError::NotOurs { shown: shown.clone(), why }.into());
                }
                Found::Moved { to } => return Err(OpenError::Moved { shown: shown.clone(), to }.into()),
            }
            refuse_in_use(&connection, &shown).await?;
            Ok(connection)
        })?;
        Ok(Self { runtime, connection, shown })
    }

    fn run(&self, sql: &str) -> Result<(), MoveError> {
        self.runtime.block_on(self.connection.batch_execute(sql)).map_err(|error| failed(&self.shown, &error))
    }

    /// The only value of a statement's only row.
    fn find<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> Result<T, MoveError> {
        let row = self.runtime.block_on((*self.connection).query_one(sql, &[]));
        row.and_then(|row| row.try_get(0)).map_err(|error| failed(&self.shown, &error))
    }

    /// Begins the transaction, and locks all tables. A server that has come meanwhile may be in the way.
    fn begin(&self, isolation: &str, tables: &str, mode: &str) -> Result<(), MoveError> {
        self.run(&format!(
            "BEGIN ISOLATION LEVEL {isolation}; SET LOCAL lock_timeout = 5000; LOCK TABLE {tables} IN {mode} MODE"
        ))?;
        self.run(NO_TIMEOUTS)
    }
}

/// Refuses a database that a server or a command is using: one that is not asked for anything has a connection, and one
/// that is makes its beats.
async fn refuse_in_use(client: &Client, shown: &str) -> Result<(), MoveError> {
    let failed = |error: tokio_postgres::Error| failed(shown, &error);
    let in_use = |why: String| MoveError::InUse { shown: shown.to_owned(), why };
    let beats = async || {
        let rows = client.query(FIND_BEATS, &[]).await?;
        Ok::<Vec<(i64, i64)>, _>(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    let before = beats().await.map_err(failed)?;
    if !before.is_empty() {
        tokio::time::sleep(WATCHED_FOR).await;
        let now = beats().await.map_err(failed)?;
        let is_alive = now.iter().filter(|beat| !before.contains(beat)).count();
        if is_alive > 0 {
            return Err(in_use(format!("{is_alive} servers have a lease on it; stop them first")));
        }
    }
    for look in 1.. {
        let others: i64 = client.query_one(FIND_OTHERS, &[]).await.map_err(failed)?.get(0);
        if others == 0 {
            break;
        }
        if look == CLOSED_WITHIN {
            return Err(in_use(format!(
                "it has {others} other connections of authtokens; stop the servers first, and go past a pooler, which keeps \
                 connections"
            )));
        }
        tokio::time::sleep(CLOSED_LOOK).await;
    }
    Ok(())
}

fn failed(shown: &str, error: &tokio_postgres::Error) -> MoveError {
    MoveError::Failed { shown: shown.to_owned(), why: why(error) }
}

/// Refuses a database that a server or a command is using.
///
/// # Errors
/// [`MoveError::InUse`], or another where that cannot be found out.
pub(in crate::repository) fn refuse_users(url: &Secret, ca_file: Option<PathBuf>) -> Result<(), MoveError> {
    Moving::open(url, ca_file, false).map(drop)
}

/// What PostgreSQL says, with its detail: which key is there twice, say.
fn why(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => match error.detail() {
            Some(detail) => format!("{} ({detail})", error.message()),
            None => error.message().to_owned(),
        },
        None => told(error),
    }
}

fn names() -> Vec<&'static str> {
    TABLES.iter().map(|table| table.name).collect()
}

impl Reader for Moving {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn count(&mut self, table: &Table) -> Result<u64, MoveError> {
        self.find(&format!("SELECT count(*) FROM {}", table.name)).map(i64::unsigned_abs)
    }

    fn read(&mut self, table: &Table, take: &mut dyn FnMut(Row) -> Result<(), MoveError>) -> Result<(), MoveError> {
        let failed = |error| failed(&self.shown, &error);
        let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", table.select());
        let stream = self.runtime.block_on(self.connection.copy_out(&copy)).map_err(failed)?;
        let mut rows = Box::pin(BinaryCopyOutStream::new(stream, &types(table)));
        while let Some(row) = self.runtime.block_on(rows.next()) {
            let row = row.and_then(|row| read_row(&row, table)).map_err(failed)?;
            take(row)?;
        }
        Ok(())
    }

    fn greatest_id(&mut self, table: &Table) -> Result<i64, MoveError> {
        let (name, column) = (table.name, table.columns[0].0);
        let sequence: String = self.find(&format!("SELECT pg_get_serial_sequence('{name}', '{column}')"))?;
        self.find(&format!(
            "SELECT greatest((SELECT coalesce(max({column}), 0) FROM {name}), \
             (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}))"
        ))
    }
}

/// A database that is copied.
struct DatabaseSource {
    moving: Moving,
}

/// Opens a database as the source. The mark is made first, and holds when the transaction is committed: a database that
/// cannot be marked is not copied.
///
/// # Errors
/// [`MoveError`]. The database is not changed.
pub(in crate::repository) fn source(url: &Secret, ca_file: Option<PathBuf>) -> Result<Box<dyn Source>, MoveError> {
    let moving = Moving::open(url, ca_file, false)?;
    // The snapshot is taken by the first statement behind the lock. It blocks changes, other copies and migrations.
    moving.begin(
        "REPEATABLE READ",
        &format!("{}, schema_version, receipts", names().join(", ")),
        "SHARE ROW EXCLUSIVE",
    )?;
    moving.run(schema::MARK)?;
    Ok(Box::new(DatabaseSource { moving }))
}

impl Source for DatabaseSource {
    fn reader(&mut self) -> &mut dyn Reader {
        &mut self.moving
    }

    fn mark_moved(self: Box<Self>, to: &str) -> Result<(), String> {
        let Moving { runtime, connection, .. } = &self.moving;
        let mark = async {
            let insert = "INSERT INTO moved (target, oldest_serving) SELECT $1, oldest_serving FROM schema_version";
            (**connection).execute(insert, &[&to]).await?;
            // A server that runs all the same ends at its next look. Until then it can change nothing: each of its
            // transactions leaves a receipt, also one that waits for our locks now.
            let end = format!(
                "UPDATE schema_version SET oldest_serving = {}; \
                 ALTER TABLE receipts ADD CONSTRAINT moved CHECK (FALSE) NOT VALID; COMMIT",
                i32::MAX
            );
            connection.batch_execute(&end).await
        };
        runtime.block_on(mark).map_err(|error| why(&error))
    }
}

/// A database that is filled.
struct DatabaseTarget {
    moving: Moving,
    /// The table that is being filled.
    writer: Option<Pin<Box<BinaryCopyInWriter>>>,
    /// The statements of indexes and foreign keys, which are made when all rows are there.
    afterwards: Vec<String>,
}

/// Begins to fill a database, which is empty or has our schema without rows.
///
/// # Errors
/// [`MoveError`]. The database is not changed, but for the schema.
pub(in crate::repository) fn target(url: &Secret, ca_file: Option<PathBuf>) -> Result<Box<dyn Target>, MoveError> {
    let moving = Moving::open(url, ca_file, true)?;
    moving.begin("READ COMMITTED", &names().join(", "), "ACCESS EXCLUSIVE")?;
    for table in &TABLES {
        if moving.find(&format!("SELECT EXISTS (SELECT 1 FROM {})", table.name))? {
            return Err(MoveError::NotEmpty { shown: moving.shown, table: table.name });
        }
    }
    let Moving { runtime, connection, shown } = &moving;
    let take_away = async {
        let (mut before, mut afterwards) = (Vec::new(), Vec::new());
        for row in (**connection).query(FIND_INDEXES, &[&names()]).await? {
            before.push(format!("DROP INDEX {}", row.get::<_, String>(0)));
            afterwards.push(row.get(1));
        }
        for row in (**connection).query(FIND_FOREIGN_KEYS, &[&names()]).await? {
            let [table, name, definition] = [0, 1, 2].map(|number| row.get::<_, String>(number));
            before.push(format!("ALTER TABLE {table} DROP CONSTRAINT {name}"));
            afterwards.push(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"));
        }
        connection.batch_execute(&before.join("; ")).await?;
        Ok(afterwards)
    };
    let afterwards = runtime.block_on(take_away).map_err(|error| failed(shown, &error))?;
    Ok(Box::new(DatabaseTarget { moving, writer: None, afterwards }))
}

impl Target for DatabaseTarget {
    fn reader(&mut self) -> &mut dyn Reader {
        &mut self.moving
    }

    fn write(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), MoveError> {
        let Moving { runtime, connection, shown } = &self.moving;
        for row in &rows {
            if let Some(number) = row.iter().position(Value::text_with_nul) {
                let column = table.columns[number].0;
                let why = format!("its {column} has the character U+0000, which PostgreSQL cannot store");
                return Err(MoveError::Row { table: table.name, key: table.key_of(row), why });
            }
        }
        let writer = &mut self.writer;
        let write = async {
            let writer = if let Some(writer) = writer {
                writer
            } else {
                let copy = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, table.column_list());
                let sink = connection.copy_in(&copy).await?;
                writer.insert(Box::pin(BinaryCopyInWriter::new(sink, &types(table))))
            };
            for row in &rows {
                writer.as_mut().write_raw(row).await?;
            }
            Ok(())
        };
        runtime.block_on(write).map_err(|error| failed(shown, &error))
    }

    fn end_table(&mut self, _: &'static Table) -> Result<(), MoveError> {
        let Moving { runtime, shown, .. } = &self.moving;
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        runtime.block_on(writer.as_mut().finish()).map(|_| ()).map_err(|error| failed(shown, &error))
    }

    fn set_greatest_id(&mut self, table: &Table, id: i64) -> Result<(), MoveError> {
        // A sequence is outside of transactions: it may be ahead, and never behind.
        let id = id.max(self.moving.greatest_id(table)?);
        if id == 0 {
            return Ok(());
        }
        let (name, column) = (table.name, table.columns[0].0);
        self.moving
            .find::<i64>(&format!("SELECT setval(pg_get_serial_sequence('{name}', '{column}'), {id})"))
            .map(|_| ())
    }

    fn finish(&mut self) -> Result<(), MoveError> {
        for statement in &self.afterwards {
            self.moving.run(statement)?;
        }
        self.moving.run(&format!("ANALYZE {}", names().join(", ")))
    }

    fn commit(self: Box<Self>) -> Result<(), MoveError> {
        let Moving { runtime, connection, shown } = &self.moving;
        runtime.block_on(connection.batch_execute("COMMIT")).map_err(|error| {
            if error.as_db_error().is_some() {
                failed(shown, &error)
            } else {
                MoveError::OutcomeUnknown { shown: shown.clone(), why: why(&error) }
            }
        })
    }
}

/// Takes the mark away. Answers where the database was moved to; `None` where it has no mark.
///
/// # Errors
/// [`MoveError`]. The database is then as it was before.
pub(super) async fn reopen(connection: &mut Connection, shown: &str) -> Result<Option<String>, MoveError> {
    let found = schema::find(connection).await.map_err(|error| failed(shown, &error))?;
    let Found::Moved { to } = found else { return Ok(None) };
    let take_away = "BEGIN; UPDATE schema_version SET oldest_serving = (SELECT oldest_serving FROM moved); \
         ALTER TABLE receipts DROP CONSTRAINT IF EXISTS moved; DROP TABLE moved; COMMIT";
    connection.batch_execute(take_away).await.map_err(|error| failed(shown, &error))?;
    Ok(Some(to))
}
