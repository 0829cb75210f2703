//! A database file as the source or the target of a move to another store ([`crate::repository::moving`]).
//!
//! A source stays locked against servers, commands and other programs for as long as it is read. A target is written
//! under a temporary name, and renamed only when it is complete, compared and synced.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use super::error::{read_error, sqlite_error, write_error};
use super::partial::{Partial, flush_folder};
use super::source::{JOURNALS, open, set};
use crate::repository::moving::{Kind, MoveError, Reader, Row, Source, TABLES, Table, Target, Value};
use crate::repository::sqlite::connection::open_connection;
use crate::repository::sqlite::error::{OpenError, has_hot_journal, schema_error};
use crate::repository::sqlite::file::{self, Lock, Owner, folder_of, lock_beside, make_folder, own_name, with_suffix};
use crate::repository::sqlite::schema::{self, SchemaError};
use crate::repository::{self, BackupError};

/// How long to wait for a lock that another program holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The page cache of a file that is filled, in KiB.
const CACHE: i64 = 64 * 1024;

impl From<OpenError> for MoveError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotADatabase { path } => Self::File(BackupError::NotADatabase { path }),
            other => Self::Open(repository::OpenError::from(other)),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Boolean(is_on) => ValueRef::Integer(i64::from(*is_on)),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// The locks against servers and commands. The first keeps commands away, too.
type Locks = (Lock, Lock);

fn lock(own_name: &Path, path: &Path) -> Result<Locks, OpenError> {
    Ok((file::lock_exclusively(own_name, path)?, lock_beside(own_name, path)?))
}

/// What both have: a connection in the middle of a transaction.
struct Moving {
    connection: Connection,
    path: PathBuf,
    /// The whole path, for a mark that is read in another folder.
    shown: String,
}

impl Moving {
    fn failed(&self, error: &rusqlite::Error) -> MoveError {
        MoveError::Failed { shown: self.shown.clone(), why: error.to_string() }
    }
}

fn greatest_given(connection: &Connection, table: &Table) -> rusqlite::Result<i64> {
    let sql = format!(
        "SELECT max(coalesce((SELECT max({0}) FROM {1}), 0), \
         coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{1}'), 0))",
        table.columns[0].0, table.name
    );
    connection.query_row(&sql, [], |row| row.get(0))
}

impl Reader for Moving {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn count(&mut self, table: &Table) -> Result<u64, MoveError> {
        let count = format!("SELECT count(*) FROM {}", table.name);
        let rows = self.connection.query_row(&count, [], |row| row.get::<_, i64>(0));
        rows.map(i64::unsigned_abs).map_err(|error| self.failed(&error))
    }

    fn read(&mut self, table: &Table, take: &mut dyn FnMut(Row) -> Result<(), MoveError>) -> Result<(), MoveError> {
        let failed = |error: rusqlite::Error| MoveError::from(sqlite_error(&self.path, error));
        let mut statement = self.connection.prepare(&table.select()).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut values = Row::with_capacity(table.columns.len());
            for (number, (column, kind)) in table.columns.iter().enumerate() {
                let value = row.get_ref(number).map_err(failed)?;
                let read = read_value(value, *kind).ok_or_else(|| MoveError::Row {
                    table: table.name,
                    key: table.key_of(&values),
                    why: format!("its {column} is not {}", expected(*kind)),
                })?;
                values.push(read);
            }
            take(values)?;
        }
        Ok(())
    }

    fn greatest_id(&mut self, table: &Table) -> Result<i64, MoveError> {
        greatest_given(&self.connection, table).map_err(|error| self.failed(&error))
    }
}

fn read_value(value: ValueRef<'_>, kind: Kind) -> Option<Value> {
    match (value, kind) {
        (ValueRef::Null, _) => Some(Value::Null),
        (ValueRef::Integer(number), Kind::Integer) => Some(Value::Integer(number)),
        (ValueRef::Integer(number @ (0 | 1)), Kind::Boolean) => Some(Value::Boolean(number == 1)),
        (ValueRef::Text(text), Kind::Text) => Some(Value::Text(std::str::from_utf8(text).ok()?.to_owned())),
        (ValueRef::Blob(bytes), Kind::Bytes) => Some(Value::Bytes(bytes.to_owned())),
        _ => None,
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer => "an integer",
        Kind::Boolean => "0 or 1",
        Kind::Text => "a text in UTF-8",
        Kind::Bytes => "a blob",
    }
}

/// A file that is copied.
struct FileSource {
    moving: Moving,
    _locks: Locks,
}

/// Opens a file as the source. The mark is made first, and holds when the transaction is committed: a file that cannot
/// be marked is not copied.
///
/// # Errors
/// [`MoveError`]. The file is not changed.
pub(in crate::repository) fn source(path: &Path) -> Result<Box<dyn Source>, MoveError> {
    if !file::exists(path)? {
        return Err(OpenError::Missing { path: path.to_owned() }.into());
    }
    let own_name = own_name(path)?;
    // Not where there is a lock file: see how it is opened for use.
    if !file::exists(&with_suffix(&own_name, ".lock"))? {
        file::refuse_foreign_head(path)?;
    }
    file::refuse_emptied(&own_name, path)?;
    let locks = lock(&own_name, path)?;
    check_version(path, find_version(&own_name, path)?)?;
    let begin = || {
        let connection = open_connection(&own_name, BUSY_TIMEOUT, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let version = schema::check(&connection)?;
        connection.execute_batch(schema::MARK)?;
        Ok((connection, version))
    };
    let (connection, version) = begin().map_err(|error| schema_error(path, error))?;
    check_version(path, version)?;
    let moving = Moving { connection, path: path.to_owned(), shown: own_name.display().to_string() };
    Ok(Box::new(FileSource { moving, _locks: locks }))
}

/// The version of a file's schema, by a connection that only reads: a file that is refused stays as it was.
fn find_version(own_name: &Path, path: &Path) -> Result<i32, OpenError> {
    let check = || {
        let reader = open_connection(own_name, BUSY_TIMEOUT, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        schema::check(&reader)
    };
    let checked = match check() {
        Err(SchemaError::Sqlite(error)) if has_hot_journal(&error) => {
            file::roll_back_hot_journal(own_name, path, BUSY_TIMEOUT)?;
            check()
        }
        checked => checked,
    };
    checked.map_err(|error| schema_error(path, error))
}

fn check_version(path: &Path, found: i32) -> Result<(), MoveError> {
    match found {
        schema::VERSION => Ok(()),
        0 => Err(BackupError::Empty { path: path.to_owned() }.into()),
        _ => Err(MoveError::OtherVersion { shown: path.display().to_string(), found, needed: schema::VERSION }),
    }
}

impl Source for FileSource {
    fn reader(&mut self) -> &mut dyn Reader {
        &mut self.moving
    }

    fn mark_moved(self: Box<Self>, to: &str) -> Result<(), String> {
        let connection = &self.moving.connection;
        let mark = || {
            connection.execute("INSERT INTO moved (target) VALUES (?1)", [to])?;
            connection.execute_batch("COMMIT")
        };
        mark().map_err(|error| error.to_string())
    }
}

/// A file that is filled, under a temporary name.
struct FileTarget {
    // Dropped before the locks, and the connection before its file.
    moving: Moving,
    partial: Partial,
    own_name: PathBuf,
    /// Whether there is an empty database of the target's name.
    is_there: bool,
    /// The greatest ids that it has ever given.
    given: Vec<(&'static str, i64)>,
    /// The statements of the indexes, which are built when all rows are there.
    indexes: Vec<String>,
    _locks: Locks,
}

/// Begins to fill a file, which is missing or empty.
///
/// # Errors
/// [`MoveError`]. The file is not changed.
pub(in crate::repository) fn target(path: &Path) -> Result<Box<dyn Target>, MoveError> {
    make_folder(path)?;
    let own_name = own_name(path)?;
    if !file::exists(&with_suffix(&own_name, ".lock"))? {
        file::refuse_foreign_head(path)?;
    }
    file::refuse_emptied(&own_name, path)?;
    let locks = lock(&own_name, path)?;
    if file::is_mount_point(&own_name) {
        return Err(BackupError::MountPoint { path: path.to_owned() }.into());
    }
    let is_there = file::exists(&own_name)?;
    let given = if is_there { require_empty(&own_name, path)? } else { Vec::new() };
    let template = if is_there { own_name.as_path() } else { folder_of(&own_name) };
    let owner = Owner::of(&fs::metadata(template).map_err(|error| read_error(path, error))?);
    let partial =
        if owner.is_this_user() { Partial::create(&own_name)? } else { Partial::create_for(owner, &own_name)? };
    let failed = |error: SchemaError| MoveError::Failed { shown: path.display().to_string(), why: error.to_string() };
    let opened = partial.open(|path| file::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    let mut connection = opened.map_err(|error| failed(error.into()))?;
    let indexes = prepare(&mut connection).map_err(failed)?;
    let moving = Moving { connection, path: path.to_owned(), shown: own_name.display().to_string() };
    Ok(Box::new(FileTarget { moving, partial, own_name, is_there, given, indexes, _locks: locks }))
}

/// Refuses a database that holds anything. Answers the greatest ids that it has ever given.
fn require_empty(own_name: &Path, path: &Path) -> Result<Vec<(&'static str, i64)>, MoveError> {
    let version = find_version(own_name, path)?;
    if version == 0 {
        return Ok(Vec::new());
    }
    check_version(path, version)?;
    let failed = |error: rusqlite::Error| MoveError::from(sqlite_error(path, error));
    let reader = open_connection(own_name, BUSY_TIMEOUT, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let mut given = Vec::new();
    for table in &TABLES {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
        if reader.query_row(&any, [], |row| row.get(0)).map_err(failed)? {
            return Err(MoveError::NotEmpty { shown: path.display().to_string(), table: table.name });
        }
        if table.gives_ids {
            given.push((table.name, greatest_given(&reader, table).map_err(failed)?));
        }
    }
    Ok(given)
}

/// Makes the schema without its indexes, and begins the transaction. Answers the statements of the indexes.
fn prepare(connection: &mut Connection) -> Result<Vec<String>, SchemaError> {
    // An unfinished file is deleted, so it needs neither a rollback journal nor a sync of its own.
    set(connection, "journal_mode", "memory")?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.pragma_update(None, "cache_size", -CACHE)?;
    // They are checked when all rows are there.
    connection.pragma_update(None, "foreign_keys", false)?;
    schema::create_or_upgrade(connection)?.0.commit()?;
    connection.execute_batch("BEGIN")?;
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")?;
    let found = statement.query_map([], |row| <(String, String)>::try_from(row))?;
    let indexes = found.collect::<Result<Vec<_>, _>>()?;
    for (name, _) in &indexes {
        connection.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    Ok(indexes.into_iter().map(|(_, sql)| sql).collect())
}

impl Target for FileTarget {
    fn reader(&mut self) -> &mut dyn Reader {
        &mut self.moving
    }

    fn write(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), MoveError> {
        let values = vec!["?"; table.columns.len()].join(", ");
        let insert = format!("INSERT INTO {} ({}) VALUES ({values})", table.name, table.column_list());
        let mut statement =
            self.moving.connection.prepare_cached(&insert).map_err(|error| self.moving.failed(&error))?;
        for row in rows {
            statement.execute(params_from_iter(&row)).map_err(|error| MoveError::Row {
                table: table.name,
                key: table.key_of(&row),
                why: error.to_string(),
            })?;
        }
        Ok(())
    }

    fn end_table(&mut self, _: &'static Table) -> Result<(), MoveError> {
        Ok(())
    }

    fn set_greatest_id(&mut self, table: &Table, id: i64) -> Result<(), MoveError> {
        let before = self.given.iter().find(|(name, _)| *name == table.name).map_or(0, |(_, id)| *id);
        let connection = &self.moving.connection;
        let set = || {
            connection.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table.name])?;
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table.name, id.max(before)))
        };
        set().map(|_| ()).map_err(|error| self.moving.failed(&error))
    }

    fn finish(&mut self) -> Result<(), MoveError> {
        let connection = &self.moving.connection;
        for index in &self.indexes {
            connection.execute_batch(index).map_err(|error| self.moving.failed(&error))?;
        }
        let missing = "SELECT 'a row of ' || \"table\" || ' belongs to a row of ' || parent || ' that is missing' \
             FROM pragma_foreign_key_check LIMIT 1";
        let mut statement = connection.prepare(missing).map_err(|error| self.moving.failed(&error))?;
        let mut found = statement.query_map([], |row| row.get(0)).map_err(|error| self.moving.failed(&error))?;
        match found.next() {
            None => Ok(()),
            Some(Ok(why)) => Err(MoveError::Failed { shown: self.moving.shown.clone(), why }),
            Some(Err(error)) => Err(self.moving.failed(&error)),
        }
    }

    fn commit(self: Box<Self>) -> Result<(), MoveError> {
        let Self { moving, partial, own_name, is_there, _locks, .. } = *self;
        moving.connection.execute_batch("COMMIT").map_err(|error| moving.failed(&error))?;
        let Moving { connection, path, shown } = moving;
        let failed = |error: rusqlite::Error| MoveError::Failed { shown: shown.clone(), why: error.to_string() };
        connection.close().map_err(|(_, error)| failed(error))?;
        if is_there {
            make_single(&own_name).map_err(failed)?;
        }
        // SQLite would take what is left of another file for the new one's.
        for suffix in JOURNALS.into_iter().chain(["-shm"]) {
            match fs::remove_file(with_suffix(&own_name, suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(write_error(&path, error).into());
                }
                _ => {}
            }
        }
        flush_folder(&own_name)?;
        Ok(partial.publish()?)
    }
}

/// Makes an empty database a single file without a WAL.
fn make_single(own_name: &Path) -> rusqlite::Result<()> {
    let connection = open(own_name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    set(&connection, "journal_mode", "delete")
}

/// Takes the mark away. Answers where the file was moved to; `None` where it has no mark.
///
/// # Errors
/// [`MoveError`]. The file is then as it was before.
pub(in crate::repository) fn reopen(path: &Path) -> Result<Option<String>, MoveError> {
    if !file::exists(path)? {
        return Err(OpenError::Missing { path: path.to_owned() }.into());
    }
    let own_name = own_name(path)?;
    file::refuse_emptied(&own_name, path)?;
    let _locks = lock(&own_name, path)?;
    match find_version(&own_name, path) {
        Ok(_) => return Ok(None),
        Err(OpenError::Schema { source: SchemaError::Moved { .. }, .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let take_away = || {
        let connection = open_connection(&own_name, BUSY_TIMEOUT, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let to = schema::moved_to(&connection)?;
        connection.execute_batch("DROP TABLE moved; COMMIT")?;
        Ok(to)
    };
    Ok(take_away().map_err(|error| schema_error(path, error))?)
}
