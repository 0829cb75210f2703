//! A SQLite file of another system, read from a private copy of it.
//!
//! SQLite writes beside a file that it reads: it makes a WAL and its index, it applies a WAL, it rolls a journal back. So
//! the file is copied, with its WAL and its journal, and only the copy is opened. The copy loses its name as soon as it is
//! open: it ends with the process, however that ends.
//!
//! The file is not trusted: views and virtual tables are not read, its schema runs no functions, and what a row and all of
//! them may cost is bounded.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::import::ImportError;
use crate::import::formats::tables::{Cell, EachRow, ForeignKey, TableInfo, Tables, shown};

/// What every SQLite file begins with.
pub(crate) const HEADER: &[u8] = b"SQLite format 3\0";

/// How many bytes a row may have.
const MAX_ROW: i32 = 16 << 20;
/// How many tables a file may have.
const MAX_TABLES: usize = 20_000;
/// How much memory SQLite may take. It holds all of the schema in memory, however long that is.
const MAX_MEMORY: i64 = 512 << 20;
/// How few bytes of a file a row takes: its length, its id and its header at least.
const MIN_ROW: u64 = 4;
/// How often a file is copied that changes meanwhile.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);
/// How a journal ends that names the journal of a transaction over several files.
const NAMES_ANOTHER_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// The files beside a database that are part of it. The index of a WAL (`-shm`) is not: it is made anew.
const BESIDE: [&str; 2] = ["-journal", "-wal"];

/// What the names of the folders of copies begin with, and from what age on one may have been left behind.
const PREFIX: &str = "authtokens-import-";
const OLD: Duration = Duration::from_secs(60);

/// The folders of copies that still have their names.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what has been copied so far. For a process that is about to end while a file is being copied.
pub(crate) fn remove_copies() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = fs::remove_dir_all(folder);
    }
}

/// A SQLite file: a copy of it, as it was at one moment.
pub(crate) struct SqliteFile {
    path: PathBuf,
    connection: Connection,
    tables: Vec<TableInfo>,
    notes: Vec<String>,
    max_rows: u64,
}

impl SqliteFile {
    /// Copies a file, and opens the copy.
    ///
    /// # Errors
    /// Where it cannot be read, is no SQLite file, is damaged, or does not stop changing.
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        // Its WAL is beside the file itself, not beside a link to it.
        let own_name = fs::canonicalize(path).map_err(|source| unreadable(path, source))?;
        let folder = PrivateFolder::make()?;
        let copy = folder.path.join("source.db");
        let notes = copy_at_rest(&own_name, &copy)?;
        let explain = |error| explain(path, &error);
        let connection = open_copy(&copy).map_err(explain)?;
        let tables = read_tables(&connection).map_err(explain)?;
        if tables.len() > MAX_TABLES {
            return Err(ImportError::new(format!("{} has more than {MAX_TABLES} tables", path.display())));
        }
        let length = fs::metadata(&copy).map_err(|source| unreadable(&copy, source))?.len();
        Ok(Self { path: path.to_owned(), connection, tables, notes, max_rows: length / MIN_ROW })
    }

    /// What the operator should know of the file.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Tables for SqliteFile {
    fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    fn read(&mut self, table: &TableInfo, columns: &[&str], each: EachRow<'_>) -> Result<(), ImportError> {
        let explain = |error| explain(&self.path, &error);
        let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        // An index could tell something else than its table.
        let query = format!("SELECT {} FROM main.{} NOT INDEXED", names.join(", "), quoted(&table.name));
        let mut statement = self.connection.prepare(&query).map_err(explain)?;
        let mut rows = statement.query([]).map_err(explain)?;
        let mut cells = Vec::with_capacity(columns.len());
        let mut count = 0;
        while let Some(row) = rows.next().map_err(explain)? {
            count += 1;
            // Pages of a damaged file may lead back to each other.
            if count > self.max_rows {
                return Err(damaged(&self.path));
            }
            cells.clear();
            for index in 0..columns.len() {
                cells.push(read_cell(row.get_ref(index).map_err(explain)?));
            }
            each(&cells)?;
        }
        Ok(())
    }
}

/// A folder of our own that nobody else can read. It is locked while it is in use, so that one that a killed process has left
/// behind is known by its lock being free.
struct PrivateFolder {
    path: PathBuf,
    _lock: File,
}

impl PrivateFolder {
    fn make() -> Result<Self, ImportError> {
        let place = std::env::temp_dir();
        let place = fs::canonicalize(&place).map_err(|source| unreadable(&place, source))?;
        let path = place.join(format!("{PREFIX}{:032x}", rand::random::<u128>()));
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| cannot_copy(&place, &error))?;
        folders.push(path.clone());
        let lock = File::open(&path).and_then(|lock| lock.try_lock().map(|()| lock).map_err(io::Error::from));
        let folder = Self { path, _lock: lock.map_err(|error| cannot_copy(&place, &error))? };
        // What cannot be removed stays: it is not this import's.
        let _ = remove_left_behind(&place, &folder.path);
        Ok(folder)
    }
}

/// Removes the folders of processes that were killed while they copied. One that is younger than a minute may be about to
/// be locked.
fn remove_left_behind(place: &Path, own: &Path) -> io::Result<()> {
    let made = own.metadata()?;
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let found = entry.metadata()?;
        let is_old = made.modified()?.duration_since(found.modified()?).is_ok_and(|age| age > OLD);
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && found.is_dir()
            && found.uid() == made.uid()
            && is_old
            && File::open(entry.path())?.try_lock().is_ok()
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        folders.retain(|folder| *folder != self.path);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What tells that a database was written to.
#[derive(PartialEq, Eq)]
struct State {
    /// The file itself: its inode, its length, when it changed, and its header, which counts transactions. Nothing where
    /// there is a WAL: what is copied of the file in the middle of a checkpoint is in the WAL, too, until that begins anew.
    file: Option<(u64, u64, i64, i64, Vec<u8>)>,
    /// The headers of the files beside it. That of a WAL has another salt each time it begins anew.
    beside: [Option<Vec<u8>>; BESIDE.len()],
}

impl State {
    fn of(path: &Path) -> Result<Self, ImportError> {
        let [journal, wal] = BESIDE.map(|suffix| {
            let path = with_suffix(path, suffix);
            match head(&path, 32) {
                Ok((_, head)) => Ok(Some(head)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(unreadable(&path, error)),
            }
        });
        let (journal, wal) = (journal?, wal?);
        let (found, header) = head(path, 100).map_err(|source| unreadable(path, source))?;
        if !header.starts_with(HEADER) {
            return Err(not_one(path));
        }
        let has_wal = wal.as_ref().is_some_and(|wal| !wal.is_empty());
        let file = (found.ino(), found.len(), found.mtime(), found.mtime_nsec(), header);
        Ok(Self { file: (!has_wal).then_some(file), beside: [journal, wal] })
    }

    /// Whether its header says that it has a WAL, and there is none.
    fn lacks_wal(&self) -> bool {
        let says_wal = self.file.as_ref().is_some_and(|(.., header)| header.get(18) == Some(&2));
        says_wal && self.beside[1].is_none()
    }
}

/// Copies a database as it was at one moment, and returns what is to be said of it.
fn copy_at_rest(path: &Path, copy: &Path) -> Result<Vec<String>, ImportError> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            thread::sleep(BETWEEN_TRIES);
        }
        let before = State::of(path)?;
        require_space(path, copy)?;
        copy_file(path, copy)?;
        for (suffix, head) in BESIDE.iter().zip(&before.beside) {
            let (from, to) = (with_suffix(path, suffix), with_suffix(copy, suffix));
            match head.as_ref().map(|_| copy_file(&from, &to)) {
                Some(Err(ImportError::Unreadable { source, .. })) if source.kind() == io::ErrorKind::NotFound => {}
                Some(copied) => copied?,
                None => {}
            }
        }
        if State::of(path)? != before {
            for suffix in BESIDE {
                let _ = fs::remove_file(with_suffix(copy, suffix));
            }
            continue;
        }
        require_one_file(path, &with_suffix(copy, BESIDE[0]))?;
        let note = format!(
            "{} has no -wal beside it: if a server had it open when it was copied, its newest changes are missing",
            path.display()
        );
        return Ok(if before.lacks_wal() { vec![note] } else { Vec::new() });
    }
    Err(ImportError::new(format!(
        "{} changes faster than it can be copied: stop the server that has it open, or make a backup with it and name that",
        path.display()
    )))
}

/// Refuses a journal that names the journal of a transaction over several files: SQLite would open, and then delete,
/// whatever file stands there.
fn require_one_file(path: &Path, journal: &Path) -> Result<(), ImportError> {
    let Ok(mut file) = File::open(journal) else { return Ok(()) };
    let mut end = [0; NAMES_ANOTHER_JOURNAL.len()];
    let has_end = file.seek(SeekFrom::End(-8)).and_then(|_| file.read_exact(&mut end)).is_ok();
    if has_end && end == NAMES_ANOTHER_JOURNAL {
        return Err(ImportError::new(format!(
            "{}-journal is of a transaction over several databases that was torn off: let the program that wrote it open \
             the database once",
            path.display()
        )));
    }
    Ok(())
}

/// Requires that the disk has room for the copy, and for what applying a WAL adds to it.
fn require_space(path: &Path, copy: &Path) -> Result<(), ImportError> {
    let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let [journal, wal] = BESIDE.map(|suffix| length(&with_suffix(path, suffix)));
    let needed = length(path).saturating_add(journal).saturating_add(wal.saturating_mul(2));
    let place = place_of(copy);
    let disk = rustix::fs::statvfs(place).map_err(|error| cannot_copy(place, &error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed > free {
        return Err(ImportError::new(format!(
            "a copy of {} takes {}, and {} has {} free: make room there, or let TMPDIR name another folder",
            path.display(),
            ByteSize(needed),
            place.display(),
            ByteSize(free),
        )));
    }
    Ok(())
}

/// Copies a file as long as it is now.
fn copy_file(from: &Path, to: &Path) -> Result<(), ImportError> {
    let source = open_regular(from).map_err(|source| unreadable(from, source))?;
    let length = source.metadata().map_err(|source| unreadable(from, source))?.len();
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    let copied = made.and_then(|mut made| io::copy(&mut source.take(length), &mut made));
    copied.map(|_| ()).map_err(|error| cannot_copy(place_of(to), &error))
}

/// Opens a file, but nothing that is none: a pipe would be waited for.
fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    File::open(path)
}

/// The beginning of a file.
fn head(path: &Path, most: u64) -> io::Result<(fs::Metadata, Vec<u8>)> {
    let file = open_regular(path)?;
    let found = file.metadata()?;
    let mut head = Vec::new();
    file.take(most).read_to_end(&mut head)?;
    Ok((found, head))
}

/// The folder that the folder of copies is in.
fn place_of(copy: &Path) -> &Path {
    copy.parent().and_then(Path::parent).unwrap_or(copy)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Opens a copy: applies its WAL or its journal, and lets nobody write then.
fn open_copy(copy: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(copy, flags)?;
    for (setting, is_on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        connection.set_db_config(setting, is_on)?;
    }
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW)?;
    let set = |setting: &str, value: &str| {
        connection.pragma_update_and_check(None, setting, value, |row| row.get::<_, rusqlite::types::Value>(0))
    };
    set("hard_heap_limit", &MAX_MEMORY.to_string())?;
    set("mmap_size", "0")?;
    // Nobody else has the copy, so it needs no index of its WAL.
    set("locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    set("journal_mode", "DELETE")?;
    connection.pragma_update(None, "query_only", "ON")?;
    Ok(connection)
}

/// The tables, but no views and no virtual tables. The text of a virtual table begins otherwise, whatever the row says
/// that it is; that of a view does, too, and is refused once it is read.
fn read_tables(connection: &Connection) -> rusqlite::Result<Vec<TableInfo>> {
    let mut names = connection.prepare(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0 AND sql LIKE 'CREATE TABLE%' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name LIMIT ?1",
    )?;
    let most = i64::try_from(MAX_TABLES + 1).unwrap_or(i64::MAX);
    let names: Vec<String> = names.query_map([most], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.into_iter().map(|name| read_table(connection, name)).collect()
}

fn read_table(connection: &Connection, name: String) -> rusqlite::Result<TableInfo> {
    let mut columns = connection.prepare_cached("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
    let columns: Vec<(String, i64)> =
        columns.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut keys: Vec<&(String, i64)> = columns.iter().filter(|(_, place)| *place > 0).collect();
    keys.sort_by_key(|(_, place)| *place);
    let primary_key = keys.into_iter().map(|(column, _)| column.clone()).collect();
    // Only those of one column.
    let mut foreign_keys = connection.prepare_cached(
        "SELECT min(\"from\"), min(\"table\") FROM pragma_foreign_key_list(?1) GROUP BY id HAVING count(*) = 1",
    )?;
    let foreign_keys = foreign_keys
        .query_map([&name], |row| Ok(ForeignKey { column: row.get(0)?, table: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    let mut unique = connection.prepare_cached(
        "SELECT min(c.name) FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c \
         WHERE i.\"unique\" AND NOT i.partial GROUP BY i.name HAVING count(*) = 1 AND count(c.name) = 1",
    )?;
    let mut unique: Vec<String> = unique.query_map([&name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    unique.sort_unstable();
    unique.dedup();
    let columns = columns.into_iter().map(|(column, _)| column).collect();
    Ok(TableInfo { schema: String::new(), name, columns, primary_key, foreign_keys, unique })
}

/// A value as it is stored, whatever its column was declared as.
fn read_cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(text) => {
            str::from_utf8(text).map_or_else(|_| Cell::Bytes(text.to_vec()), |text| Cell::Text(text.to_owned()))
        }
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn unreadable(path: &Path, source: io::Error) -> ImportError {
    ImportError::Unreadable { path: path.to_owned(), source }
}

fn cannot_copy(place: &Path, error: &io::Error) -> ImportError {
    ImportError::new(format!(
        "the file cannot be copied to {}, where it would be read: {error}. TMPDIR may name another folder",
        place.display()
    ))
}

fn not_one(path: &Path) -> ImportError {
    ImportError::new(format!("{} is no SQLite file, or it is encrypted", path.display()))
}

fn damaged(path: &Path) -> ImportError {
    ImportError::new(format!(
        "{} is damaged, or was copied without its -wal while a server had it open: take a backup that the server made, or \
         what sqlite3's .recover saves",
        path.display()
    ))
}

/// SQLite's error as a sentence. Its own text may have names of the file in it.
fn explain(path: &Path, error: &rusqlite::Error) -> ImportError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => not_one(path),
        Some(ErrorCode::DatabaseCorrupt) => damaged(path),
        Some(ErrorCode::TooBig) => {
            ImportError::new(format!("{} has a row of more than {} MiB", path.display(), MAX_ROW >> 20))
        }
        Some(ErrorCode::OutOfMemory) => {
            let most = MAX_MEMORY >> 20;
            ImportError::new(format!("{} takes more than {most} MiB of memory to be read", path.display()))
        }
        Some(ErrorCode::DiskFull) => cannot_copy(&std::env::temp_dir(), &io::ErrorKind::StorageFull.into()),
        _ => ImportError::new(format!("{} cannot be read: {}", path.display(), shown(&error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::time::SystemTime;

    use super::*;

    fn read_all(file: &mut SqliteFile, table: &str, columns: &[&str]) -> Result<Vec<Vec<Cell>>, ImportError> {
        let table = file.tables().iter().find(|own| own.name == table).unwrap().clone();
        let mut rows = Vec::new();
        file.read(&table, columns, &mut |cells| {
            rows.push(cells.to_vec());
            Ok(())
        })?;
        Ok(rows)
    }

    fn error_of<T>(result: Result<T, ImportError>) -> String {
        result.err().unwrap().to_string()
    }

    /// Every file of a folder: its bytes, and when it changed.
    fn listing(folder: &Path) -> BTreeMap<OsString, (Vec<u8>, SystemTime)> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let modified = entry.metadata().unwrap().modified().unwrap();
                (entry.file_name(), (fs::read(entry.path()).unwrap(), modified))
            })
            .collect()
    }

    fn texts(texts: &[&str]) -> Vec<Vec<Cell>> {
        texts.iter().map(|text| vec![Cell::Text((*text).to_owned())]).collect()
    }

    /// Adds a virtual table of a module that this build of SQLite does not have, with one of the tables that are behind it.
    fn add_virtual_table(path: &Path, name: &str, module: &str) {
        let connection = Connection::open(path).unwrap();
        let behind = format!("CREATE TABLE {name}_data (id INTEGER PRIMARY KEY, block BLOB)");
        connection.execute_batch(&format!("{behind}; PRAGMA writable_schema = ON")).unwrap();
        let sql = format!("CREATE VIRTUAL TABLE {name} USING {module} (words)");
        let row = "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('table', ?1, ?1, 0, ?2)";
        connection.execute(row, [name, &sql]).unwrap();
        connection.execute_batch("PRAGMA writable_schema = RESET").unwrap();
    }

    #[test]
    fn a_file_is_read_with_what_it_is_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(
                "CREATE TABLE people (id INTEGER PRIMARY KEY, \"a \"\"name\" TEXT UNIQUE, both TEXT, made TEXT AS (both || 1));
                 CREATE UNIQUE INDEX both ON people (both, id);
                 CREATE UNIQUE INDEX some ON people (both) WHERE both <> '';
                 CREATE UNIQUE INDEX made ON people (lower(both));
                 CREATE TABLE pairs (one INTEGER REFERENCES people, other INTEGER REFERENCES people (id), PRIMARY KEY (other, one)) WITHOUT ROWID;
                 CREATE VIEW seen AS SELECT * FROM people;
                 INSERT INTO people (\"a \"\"name\", both) VALUES ('Zoë', x'00ff'), (NULL, 1.5), (7, CAST(x'ff' AS TEXT));",
            )
            .unwrap();
        let modules = ["fts3", "fts4", "fts5", "rtree", "geopoly", "somebody_elses"];
        for module in modules {
            add_virtual_table(&path, &format!("found_by_{module}"), module);
        }
        let mut file = SqliteFile::open(&path).unwrap();
        let of = |name: &str| file.tables().iter().find(|table| table.name == name).cloned();
        let people = of("people").unwrap();
        assert_eq!(people.columns, ["id", "a \"name", "both"]);
        assert_eq!(people.primary_key, ["id"]);
        assert_eq!(people.unique, ["a \"name"]);
        let pairs = of("pairs").unwrap();
        assert_eq!(pairs.primary_key, ["other", "one"]);
        let mut keys: Vec<_> = pairs.foreign_keys.iter().map(|key| (&*key.column, &*key.table)).collect();
        keys.sort_unstable();
        assert_eq!(keys, [("one", "people"), ("other", "people")]);
        assert_eq!(of("seen"), None);
        for module in modules {
            assert_eq!(of(&format!("found_by_{module}")), None);
        }
        assert_eq!(
            read_all(&mut file, "people", &["both", "a \"name"]).unwrap(),
            [
                [Cell::Bytes(vec![0, 255]), Cell::Text("Zoë".to_owned())],
                [Cell::Text("1.5".to_owned()), Cell::Null],
                [Cell::Bytes(vec![255]), Cell::Text("7".to_owned())],
            ]
        );
        assert!(file.notes().is_empty());
    }

    #[test]
    fn the_source_stays_as_it_is_and_nothing_appears_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES ('checkpointed')")
            .unwrap();
        writer.execute_batch("PRAGMA wal_checkpoint; INSERT INTO t VALUES ('in the WAL')").unwrap();
        let before = listing(folder.path());
        assert_eq!(before.len(), 3);
        let mut file = SqliteFile::open(&path).unwrap();
        assert_eq!(read_all(&mut file, "t", &["a"]).unwrap(), texts(&["checkpointed", "in the WAL"]));
        assert!(file.notes().is_empty());
        drop(file);
        assert!(listing(folder.path()) == before);
        // A link is the file that it leads to.
        let link = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&path, link.path().join("b.db")).unwrap();
        let mut file = SqliteFile::open(&link.path().join("b.db")).unwrap();
        assert_eq!(read_all(&mut file, "t", &["a"]).unwrap().len(), 2);
        assert!(listing(folder.path()) == before);
    }

    #[test]
    fn a_copy_that_a_killed_process_left_behind_is_removed_and_one_in_use_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str, age: u64| {
            let path = place.path().join(format!("{PREFIX}{name}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("source.db"), "secret").unwrap();
            let folder = File::open(&path).unwrap();
            folder.set_modified(folder.metadata().unwrap().modified().unwrap() - Duration::from_secs(age)).unwrap();
            (path, folder)
        };
        let [(left, _), (used, lock), (new, _), (own, _)] =
            [("left", 100), ("used", 100), ("new", 10), ("own", 0)].map(|(name, age)| folder(name, age));
        lock.lock().unwrap();
        remove_left_behind(place.path(), &own).unwrap();
        assert_eq!([left, used, new, own].map(|path| path.exists()), [false, true, true, true]);
    }

    #[test]
    fn a_wal_that_may_be_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a); PRAGMA wal_checkpoint").unwrap();
        let copy = folder.path().join("copy.db");
        fs::copy(&path, &copy).unwrap();
        let before = listing(folder.path());
        let file = SqliteFile::open(&copy).unwrap();
        assert!(file.notes()[0].contains("has no -wal beside it"), "{:?}", file.notes());
        assert!(listing(folder.path()) == before);
        fs::write(folder.path().join("copy.db-wal"), "").unwrap();
        assert!(SqliteFile::open(&copy).unwrap().notes().is_empty());
    }

    #[test]
    fn a_transaction_that_was_torn_off_is_rolled_back_in_the_copy_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('kept'); PRAGMA cache_size = 1; BEGIN")
            .unwrap();
        writer
            .execute_batch(
                "UPDATE t SET a = 'torn'; INSERT INTO t SELECT randomblob(9000) FROM (VALUES (1), (2), (3), (4))",
            )
            .unwrap();
        writer.cache_flush().unwrap();
        let before = listing(folder.path());
        assert_eq!(before.len(), 2);
        let mut file = SqliteFile::open(&path).unwrap();
        assert_eq!(read_all(&mut file, "t", &["a"]).unwrap(), texts(&["kept"]));
        assert!(listing(folder.path()) == before);
        // One that names another journal would have that file deleted.
        let mut journal = OpenOptions::new().append(true).open(folder.path().join("a.db-journal")).unwrap();
        journal.write_all(&NAMES_ANOTHER_JOURNAL).unwrap();
        assert!(error_of(SqliteFile::open(&path)).contains("over several databases"));
    }

    #[test]
    fn a_file_that_is_written_to_all_the_time_is_copied_as_it_was_at_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 50;
                 CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, filler BLOB);
                 WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 300)
                 INSERT INTO t SELECT n, 0, randomblob(3000) FROM n",
            )
            .unwrap();
        let done = &std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut number = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    number += 1;
                    writer.execute("UPDATE t SET a = ?1 WHERE id % 10 = 0", [number]).unwrap();
                }
            });
            for _ in 0..10 {
                // That it changes too fast is an answer, too; half a transaction is none.
                let Ok(mut file) = SqliteFile::open(&path) else { continue };
                let rows = read_all(&mut file, "t", &["id", "a"]).unwrap();
                assert_eq!(rows.len(), 300);
                let mut written = rows.iter().filter(|row| matches!(row[0], Cell::Integer(id) if id % 10 == 0));
                let first = &written.next().unwrap()[1];
                assert!(written.all(|row| row[1] == *first));
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn what_is_no_sqlite_file_is_refused_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        assert!(error_of(SqliteFile::open(&path)).starts_with("cannot read "));
        assert!(error_of(SqliteFile::open(folder.path())).contains("it is not a file"));
        for bytes in [&b""[..], b"SQLite format 2", b"PGDMP"] {
            fs::write(&path, bytes).unwrap();
            assert!(error_of(SqliteFile::open(&path)).contains("is no SQLite file"));
        }
        fs::write(&path, [HEADER, &[0; 4000]].concat()).unwrap();
        assert!(error_of(SqliteFile::open(&path)).contains("is no SQLite file"));
    }

    #[test]
    fn a_damaged_file_is_refused_or_read_and_never_more_than_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(
                "PRAGMA page_size = 512; CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE);
                 WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 400)
                 INSERT INTO t SELECT n, 'a text of some length ' || n FROM n",
            )
            .unwrap();
        let whole = fs::read(&path).unwrap();
        let mut refused = 0;
        for seed in 0..200_usize {
            let mut bytes = whole.clone();
            for step in 0..8 {
                let at = (seed * 7919 + step * 104_729 + seed * seed * 31) % bytes.len();
                bytes[at] = bytes[at].wrapping_add(u8::try_from(1 + (seed + step) % 255).unwrap());
            }
            if seed % 4 == 0 {
                bytes.truncate(bytes.len() * (seed + 1) / 201);
            }
            fs::write(&path, bytes).unwrap();
            let outcome = SqliteFile::open(&path).and_then(|mut file| {
                let Some(table) = file.tables().iter().find(|table| table.columns.len() == 2).cloned() else {
                    return Ok(());
                };
                let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
                file.read(&table, &columns, &mut |_| Ok(()))
            });
            refused += u32::from(outcome.is_err());
        }
        assert!(refused > 20, "{refused}");
    }

    #[test]
    fn pages_that_lead_back_to_each_other_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(
                "PRAGMA page_size = 512; CREATE TABLE t (a);
                 WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
                 INSERT INTO t SELECT 'a text of some length ' || n FROM n",
            )
            .unwrap();
        let mut bytes = fs::read(&path).unwrap();
        // Every child of a page that is no leaf becomes one and the same.
        for page in bytes.chunks_mut(512).skip(1).filter(|page| page[0] == 5) {
            let cells = usize::from(u16::from_be_bytes([page[3], page[4]]));
            for cell in 0..cells {
                let at = 12 + 2 * cell;
                let at = usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
                let leaf = u32::from_be_bytes(page[at..at + 4].try_into().unwrap());
                page[at..at + 4].copy_from_slice(&leaf.min(3).to_be_bytes());
            }
        }
        fs::write(&path, bytes).unwrap();
        let mut file = SqliteFile::open(&path).unwrap();
        // More rows than the file has room for, or a page that cannot be where it is: either is the end.
        let outcome = read_all(&mut file, "t", &["a"]);
        assert!(outcome.map_or(0, |rows| rows.len()) < 50_000);
    }

    #[test]
    fn a_view_that_says_it_is_a_table_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "CREATE TABLE t (a); CREATE VIEW v AS SELECT a FROM t; PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET type = 'table', rootpage = 2 WHERE name = 'v'",
            )
            .unwrap();
        drop(writer);
        let names: Vec<String> = SqliteFile::open(&path)
            .map_or_else(|_| Vec::new(), |file| file.tables().iter().map(|table| table.name.clone()).collect());
        assert!(!names.contains(&"v".to_owned()), "{names:?}");
    }

    #[test]
    fn a_row_has_a_longest_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("CREATE TABLE t (a)").unwrap();
        writer.execute("INSERT INTO t VALUES (zeroblob(?1))", [MAX_ROW + 1]).unwrap();
        let mut file = SqliteFile::open(&path).unwrap();
        assert!(error_of(read_all(&mut file, "t", &["a"])).contains("has a row of more than 16 MiB"));
    }

    #[test]
    fn the_copy_has_no_name_once_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        let file = SqliteFile::open(&path).unwrap();
        let name = PathBuf::from(file.connection.path().unwrap());
        assert!(!name.exists() && !name.parent().unwrap().exists());
    }

    #[test]
    fn copies_are_in_a_folder_that_nobody_else_reads_and_that_goes_in_every_end() {
        let folder = PrivateFolder::make().unwrap();
        assert_eq!(fs::metadata(&folder.path).unwrap().mode() & 0o777, 0o700);
        let path = folder.path.clone();
        drop(folder);
        assert!(!path.exists());
        let gone = thread::spawn(|| {
            let folder = PrivateFolder::make().unwrap();
            fs::write(folder.path.join("source.db"), "x").unwrap();
            std::panic::panic_any(folder.path.clone());
        });
        let path = gone.join().unwrap_err().downcast::<PathBuf>().unwrap();
        assert!(!path.exists());
    }
}
