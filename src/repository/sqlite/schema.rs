//! The schema: creates it in a new database, upgrades an older one, and refuses a database that is not ours.
//!
//! `PRAGMA user_version` numbers the schema and `PRAGMA application_id` says whose file it is. An upgrade is one
//! transaction: a process that is killed in the middle leaves the file as it was. A schema is code: triggers, views,
//! CHECKs, the expressions of indexes. So a file's schema is compared with that of the release that wrote it, statement
//! by statement. The tokens are compared and not the text: an index may have been created by `schema.sql` or by an
//! upgrade, whose white space and comments differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use thiserror::Error;

use super::sql::add_functions;

/// The version of `schema.sql`.
pub const VERSION: i32 = 8;

/// The schema of version 1, the first one.
const FIRST: &str = include_str!("schema_v1.sql");

/// The upgrades from each version to the next, the first from 1 to 2. A new file needs none of them.
const UPGRADES: &[&str] = &[
    // Sessions are listed newest first.
    "DROP INDEX tokens_by_user; CREATE INDEX tokens_by_user ON tokens (user_id, created);",
    // Security events, failures that outlive a restart, and a way to the superusers.
    "CREATE INDEX superusers ON users (id) WHERE is_superuser = 1; \
     CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, \
         user_id INTEGER, username TEXT NOT NULL, actor TEXT NOT NULL, ip TEXT NOT NULL, detail TEXT NOT NULL) STRICT; \
     CREATE INDEX events_by_user ON events (user_id, id); \
     CREATE INDEX events_by_name ON events (lower(username), id); \
     CREATE INDEX events_of_logins ON events (user_id, id) WHERE kind IN ('registered', 'logged_in'); \
     CREATE TABLE login_failures (user_id INTEGER NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, \
         failures INTEGER NOT NULL, last_failed INTEGER NOT NULL) STRICT;",
    // Sessions that are fresh.
    "ALTER TABLE tokens ADD COLUMN reauthenticated INTEGER;",
    // Addresses that are compared and verified, codes and links, and mails that wait.
    "ALTER TABLE users ADD COLUMN email_key TEXT; \
     ALTER TABLE users ADD COLUMN email_verified INTEGER NOT NULL DEFAULT 0 CHECK (email_verified IN (0, 1)); \
     ALTER TABLE users ADD COLUMN told_of_login INTEGER; \
     UPDATE users SET email_key = email_key_of(email) WHERE email <> ''; \
     CREATE UNIQUE INDEX users_by_verified_email ON users (email_key) WHERE email_verified = 1; \
     CREATE INDEX users_by_email ON users (email_key, id) WHERE email_verified = 0 AND email_key IS NOT NULL; \
     CREATE TABLE one_time_codes (request BLOB NOT NULL PRIMARY KEY CHECK (length(request) = 32), \
         purpose TEXT NOT NULL, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, \
         is_familiar INTEGER NOT NULL CHECK (is_familiar IN (0, 1)), email TEXT NOT NULL, email_key TEXT NOT NULL, \
         link TEXT, detail TEXT NOT NULL, token BLOB CHECK (length(token) = 32), mac BLOB CHECK (length(mac) = 32), \
         tries INTEGER NOT NULL, created INTEGER NOT NULL, code_expires INTEGER NOT NULL, expires INTEGER NOT NULL) \
         STRICT, WITHOUT ROWID; \
     CREATE UNIQUE INDEX one_time_codes_by_user ON one_time_codes (user_id, purpose, is_familiar) \
         WHERE purpose <> 'not_me'; \
     CREATE INDEX one_time_codes_of_user ON one_time_codes (user_id); \
     CREATE UNIQUE INDEX one_time_codes_by_token ON one_time_codes (token) WHERE token IS NOT NULL; \
     CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, user_id INTEGER NOT NULL, \
         username TEXT NOT NULL, recipient TEXT NOT NULL, is_verified INTEGER NOT NULL CHECK (is_verified IN (0, 1)), \
         request BLOB CHECK (length(request) = 32), detail TEXT NOT NULL, at INTEGER NOT NULL, ip TEXT NOT NULL, \
         user_agent TEXT NOT NULL, link TEXT, attempts INTEGER NOT NULL, due INTEGER NOT NULL, \
         claims INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT; \
     CREATE UNIQUE INDEX outbox_by_request ON outbox (request) WHERE request IS NOT NULL; \
     CREATE INDEX outbox_by_due ON outbox (due, id);",
    // What is imported from other systems.
    "ALTER TABLE users ADD COLUMN imported_hash_work INTEGER; \
     CREATE INDEX users_with_imported_hash ON users (imported_hash_work) WHERE imported_hash_work IS NOT NULL; \
     ALTER TABLE tokens ADD COLUMN expires INTEGER; \
     ALTER TABLE tokens ADD COLUMN imported TEXT CHECK (imported IN ('sha512', 'sha256')); \
     CREATE INDEX imported_tokens ON tokens (imported) WHERE imported IS NOT NULL; \
     CREATE TABLE imported (source TEXT NOT NULL, source_id TEXT NOT NULL, \
         fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32), \
         has_other_name INTEGER NOT NULL CHECK (has_other_name IN (0, 1)), at INTEGER NOT NULL, \
         PRIMARY KEY (source, source_id)) STRICT, WITHOUT ROWID; \
     CREATE INDEX imported_with_other_name ON imported (has_other_name) WHERE has_other_name = 1;",
    // Second factors, passkeys, identities, and what is begun and finished once.
    "CREATE TABLE totp (user_id INTEGER NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, \
         secret BLOB NOT NULL, created INTEGER NOT NULL, confirmed INTEGER, last_step INTEGER NOT NULL) \
         STRICT; \
     CREATE INDEX waiting_totp ON totp (created) WHERE confirmed IS NULL; \
     CREATE TABLE recovery_codes (digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32), user_id \
         INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, created INTEGER NOT NULL) STRICT, WITHOUT \
         ROWID; \
     CREATE INDEX recovery_codes_by_user ON recovery_codes (user_id); \
     CREATE TABLE passkeys (credential_id BLOB NOT NULL PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES \
         users (id) ON DELETE CASCADE, user_handle BLOB NOT NULL CHECK (length(user_handle) = 16), rp_id TEXT \
         NOT NULL, name TEXT NOT NULL, credential TEXT NOT NULL, created INTEGER NOT NULL, last_used INTEGER) \
         STRICT, WITHOUT ROWID; \
     CREATE INDEX passkeys_by_user ON passkeys (user_id, created); \
     CREATE TABLE identities (issuer TEXT NOT NULL, subject TEXT NOT NULL, user_id INTEGER NOT NULL \
         REFERENCES users (id) ON DELETE CASCADE, provider TEXT NOT NULL, email TEXT NOT NULL, created \
         INTEGER NOT NULL, last_used INTEGER NOT NULL, refresh_token BLOB, PRIMARY KEY (issuer, subject)) \
         STRICT, WITHOUT ROWID; \
     CREATE INDEX identities_by_user ON identities (user_id, created); \
     CREATE TABLE challenges (digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32), purpose TEXT \
         NOT NULL, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, state TEXT NOT NULL, tries \
         INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT, WITHOUT ROWID; \
     CREATE INDEX challenges_by_user ON challenges (user_id, purpose, created) WHERE user_id IS NOT NULL; \
     CREATE INDEX challenges_by_expiry ON challenges (expires); \
     CREATE TABLE revocations (id INTEGER PRIMARY KEY AUTOINCREMENT, provider TEXT NOT NULL, binding BLOB \
         NOT NULL CHECK (length(binding) = 32), token BLOB NOT NULL, attempts INTEGER NOT NULL, due INTEGER \
         NOT NULL, claims INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT; \
     CREATE INDEX revocations_by_due ON revocations (due, id);",
    // Other services: what they know accounts by, how sessions were opened, and their keys.
    "ALTER TABLE users ADD COLUMN public_id BLOB CHECK (length(public_id) = 16); \
     UPDATE users SET public_id = randomblob(16); \
     CREATE UNIQUE INDEX users_by_public_id ON users (public_id); \
     ALTER TABLE tokens ADD COLUMN methods TEXT; \
     UPDATE tokens SET methods = 'imported' WHERE user_agent LIKE 'imported from %' AND ip = ''; \
     CREATE TABLE services (name TEXT NOT NULL PRIMARY KEY, digest BLOB NOT NULL CHECK (length(digest) = 32), \
         created INTEGER NOT NULL, last_used INTEGER) STRICT, WITHOUT ROWID;",
];

/// `AuTk` in ASCII: marks the file as ours, for us and for `file(1)`.
pub const APPLICATION_ID: i32 = 0x4175_546b;

/// The whole current schema.
const SCHEMA: &str = include_str!("../../../schema.sql");

/// What may be in a file beside its schema: the tables in which Litestream keeps its position, and the statistics of
/// SQLite's `ANALYZE`.
const COMPANIONS: &str = "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); \
     CREATE TABLE _litestream_lock (id INTEGER); ANALYZE;";

/// The statistics of `ANALYZE` change SQLite's query plans. The statements are written for the plans without them.
const DROP_STATISTICS: &str = "DROP TABLE IF EXISTS sqlite_stat1; DROP TABLE IF EXISTS sqlite_stat4;";

/// The mark of a file whose rows were moved to another store. Older releases refuse it as an altered schema.
pub(super) const MARK: &str = "CREATE TABLE moved (target TEXT NOT NULL) STRICT";

/// How many differences a message lists, and how many characters of a foreign name it shows.
const TOLD: usize = 3;
const MAX_SHOWN: usize = 64;

/// Why a database's schema cannot be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// A newer release wrote it: an older one must not guess what its columns mean.
    #[error("its schema is version {found}, and this release knows versions up to {VERSION}: use a newer release")]
    Newer {
        /// The version that the file has.
        found: i32,
    },
    /// A SQLite database, but of another program.
    #[error("it is a database of another program")]
    Foreign,
    /// Everything in it was moved to another store.
    #[error(
        "it was moved to {to}, and is not used any more; to use it again as it was then, run authtokens database reopen"
    )]
    Moved {
        /// Where to.
        to: String,
    },
    /// Another program has changed the schema.
    #[error("its schema is not that of version {version}: {differences}")]
    Altered {
        /// The version that the file says it has.
        version: i32,
        /// The first differences.
        differences: String,
    },
    /// SQLite could not read or write it.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// One line of `sqlite_schema`.
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

impl Object {
    fn is_like(&self, other: &Self) -> bool {
        self.is_named_like(other) && self.table == other.table && tokens(&self.sql).eq(tokens(&other.sql))
    }

    fn is_named_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name
    }
}

/// The schema of a file, as read from it.
struct Found {
    version: i32,
    encoding: String,
    objects: Vec<Object>,
}

/// Reads the schema of a file, whatever release wrote it, and refuses a file that is not ours.
fn read(connection: &Connection) -> Result<Found, SchemaError> {
    // One statement is one snapshot: another process may be creating the schema at this moment.
    let mut statement = connection.prepare(
        "SELECT application_id, user_version, encoding, type, name, tbl_name, sql \
         FROM pragma_application_id, pragma_user_version, pragma_encoding LEFT JOIN sqlite_schema",
    )?;
    let mut rows = statement.query([])?;
    let mut application_id = 0;
    let mut found = Found { version: 0, encoding: String::new(), objects: Vec::new() };
    while let Some(row) = rows.next()? {
        application_id = row.get(0)?;
        found.version = row.get(1)?;
        found.encoding = row.get(2)?;
        // Text, or what another program has put there.
        let text = |column| match row.get_ref(column)? {
            ValueRef::Text(text) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
            ValueRef::Null => Ok(None),
            other => Ok::<_, rusqlite::Error>(Some(format!("{other:?}"))),
        };
        if let Some(kind) = text(3)? {
            let [name, table, sql] = [text(4)?, text(5)?, text(6)?].map(Option::unwrap_or_default);
            found.objects.push(Object { kind, name, table, sql });
        } else if [4, 5, 6].into_iter().any(|column| row.get_ref(column).is_ok_and(|value| value != ValueRef::Null)) {
            return Err(altered(found.version, "it has an object of no kind".to_owned()));
        }
    }
    let is_empty = application_id == 0 && found.version == 0 && found.objects.is_empty();
    let is_ours = application_id == APPLICATION_ID && found.version > 0;
    if is_ours || is_empty { Ok(found) } else { Err(SchemaError::Foreign) }
}

fn altered(version: i32, differences: String) -> SchemaError {
    SchemaError::Altered { version, differences }
}

/// The version of a file's schema, without a check of the rest: a newer release may have written it. 0 where there is
/// none yet.
///
/// # Errors
/// [`SchemaError`] when the file is not ours.
pub(crate) fn version(connection: &Connection) -> Result<i32, SchemaError> {
    read(connection).map(|found| found.version)
}

/// Checks whether the file may be used, and changes nothing. Answers the version of its schema, 0 where there is none
/// yet. Reads no rows but those of the schema itself.
///
/// # Errors
/// [`SchemaError`] when it may not.
pub fn check(connection: &Connection) -> Result<i32, SchemaError> {
    let Found { version, encoding, objects } = read(connection)?;
    if version > VERSION {
        return Err(SchemaError::Newer { found: version });
    }
    if objects.iter().any(is_mark) {
        return Err(SchemaError::Moved { to: find_target(connection)? });
    }
    if version > 0 {
        let differences = differences(objects, version)?;
        if !differences.is_empty() {
            return Err(altered(version, differences.join("; ")));
        }
    }
    if version > 0 && encoding != "UTF-8" {
        return Err(altered(version, format!("its text is encoded as {encoding} and not as UTF-8")));
    }
    Ok(version)
}

/// Where the rows of a file were moved to; `None` where it is not marked.
pub(super) fn moved_to(connection: &Connection) -> Result<Option<String>, SchemaError> {
    let is_marked = read(connection)?.objects.iter().any(is_mark);
    Ok(if is_marked { Some(find_target(connection)?) } else { None })
}

fn find_target(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT target FROM moved", [], |row| row.get(0))
}

fn is_mark(object: &Object) -> bool {
    object.kind == "table" && tokens(&object.sql).eq(tokens(MARK))
}

/// Shows an older file's tables, through a connection that only reads, with the columns that later releases have added to
/// them, each at its default. So one set of statements reads the rows of every version.
pub fn show_added_columns(connection: &Connection) -> rusqlite::Result<()> {
    show_columns_of(SCHEMA, connection)
}

fn show_columns_of(schema: &str, connection: &Connection) -> rusqlite::Result<()> {
    const COLUMNS: &str = "SELECT m.name, t.name, coalesce(t.dflt_value, 'NULL') FROM main.sqlite_schema AS m, \
         pragma_table_info(m.name, 'main') AS t WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let columns = |connection: &Connection| {
        let mut statement = connection.prepare(COLUMNS)?;
        let columns = statement.query_map([], |row| <(String, String, String)>::try_from(row))?;
        columns.collect::<rusqlite::Result<Vec<_>>>()
    };
    let made = Connection::open_in_memory()?;
    made.execute_batch(schema)?;
    let found = columns(connection)?;
    let mut added = BTreeMap::<String, String>::new();
    for (table, column, default) in columns(&made)? {
        let is_of_table = |(of, name, _): &&(String, String, String)| *of == table && *name == column;
        if found.iter().any(|(of, ..)| *of == table) && found.iter().find(is_of_table).is_none() {
            let _ = write!(added.entry(table).or_default(), ", {default} AS {column}");
        }
    }
    for (table, columns) in added {
        // What is temporary is found before what is in the file.
        connection.execute_batch(&format!("CREATE TEMP VIEW {table} AS SELECT *{columns} FROM main.{table}"))?;
    }
    Ok(())
}

/// The first differences between a file's schema and that of this version's release.
fn differences(mut found: Vec<Object>, version: i32) -> Result<Vec<String>, SchemaError> {
    let mut differences = Vec::new();
    for expected in objects_of(version)? {
        match found.iter().position(|object| object.is_named_like(&expected)) {
            None => differences.push(format!("the {} {} is missing", expected.kind, expected.name)),
            Some(at) if !found.swap_remove(at).is_like(&expected) => {
                differences.push(format!("the {} {} differs", expected.kind, expected.name));
            }
            Some(_) => {}
        }
    }
    if !found.is_empty() {
        let companions = companions()?;
        found.retain(|object| !companions.iter().any(|companion| companion.is_like(object)));
        differences.extend(found.iter().take(TOLD).map(|Object { kind, name, .. }| {
            let shown = |text: &str| text.chars().take(MAX_SHOWN).collect::<String>();
            format!("the {} {} is not part of it", shown(kind), shown(name))
        }));
    }
    differences.truncate(TOLD);
    Ok(differences)
}

/// The schema of a version's release.
fn objects_of(version: i32) -> Result<Vec<Object>, SchemaError> {
    let made = Connection::open_in_memory()?;
    if version == VERSION {
        made.execute_batch(SCHEMA)?;
    } else {
        add_functions(&made)?;
        made.execute_batch(FIRST)?;
        for upgrade in UPGRADES.iter().take(usize::try_from(version - 1).unwrap_or_default()) {
            made.execute_batch(upgrade)?;
        }
    }
    objects_in(&made)
}

fn companions() -> Result<Vec<Object>, SchemaError> {
    let made = Connection::open_in_memory()?;
    made.execute_batch(COMPANIONS)?;
    objects_in(&made)
}

fn objects_in(connection: &Connection) -> Result<Vec<Object>, SchemaError> {
    let mut statement = connection.prepare("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")?;
    let objects = statement.query_map([], |row| {
        Ok(Object { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)? })
    })?;
    Ok(objects.collect::<Result<_, _>>()?)
}

/// The tokens of a statement: words and numbers, texts and names in quotes as they are, and every other character by
/// itself. White space and comments are none.
fn tokens(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
            let end = |of: &str| rest.get(2..).and_then(|behind| behind.find(of)).map(|at| 2 + at + of.len());
            if rest.starts_with("--") {
                rest = &rest[end("\n").unwrap_or(rest.len())..];
            } else if rest.starts_with("/*") {
                rest = &rest[end("*/").unwrap_or(rest.len())..];
            } else {
                break;
            }
        }
        let first = rest.chars().next()?;
        // A doubled quote ends one token and begins the next: for a comparison that is as good.
        let closing = if first == '[' { ']' } else { first };
        let length = match first {
            '\'' | '"' | '`' | '[' => rest[1..].find(closing).map_or(rest.len(), |at| at + 2),
            _ if is_of_a_word(first) => rest.find(|c| !is_of_a_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        Some(token)
    })
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// Creates the schema where there is none yet, or upgrades an older one, in one transaction, which the caller
/// commits. Answers it, and the version before, 0 where there was none.
///
/// # Errors
/// [`SchemaError`] when the file may not be used or SQLite fails; the file is then as it was.
pub fn create_or_upgrade(connection: &mut Connection) -> Result<(Transaction<'_>, i32), SchemaError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = check(&transaction)?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    } else {
        transaction.execute_batch(DROP_STATISTICS)?;
        let done = usize::try_from(version - 1).unwrap_or_default();
        for upgrade in UPGRADES.iter().skip(done) {
            transaction.execute_batch(upgrade)?;
        }
    }
    if version != VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    Ok((transaction, version))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rusqlite::OpenFlags;
    use rusqlite::config::DbConfig;

    use super::*;

    #[test]
    fn a_file_whose_schema_is_being_created_is_empty_or_ours_at_every_moment() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.db");
            let mut writer = Connection::open(&path).unwrap();
            writer.pragma_update(None, "journal_mode", "wal").unwrap();
            let reader = Connection::open(&path).unwrap();
            let made = thread::spawn(move || create_or_upgrade(&mut writer).unwrap().0.commit().unwrap());
            while check(&reader).unwrap() == 0 {}
            made.join().unwrap();
        }
    }

    #[test]
    fn the_upgrades_make_of_each_version_what_its_release_made() {
        let made = |sql: &str| {
            let made = Connection::open_in_memory().unwrap();
            add_functions(&made).unwrap();
            made.execute_batch(sql).unwrap();
            objects_in(&made).unwrap()
        };
        let mut history = FIRST.to_owned();
        let [second, third, fourth, fifth, sixth, seventh] = [
            include_str!("../../../tests/fixtures/schema_v2.sql"),
            include_str!("../../../tests/fixtures/schema_v3.sql"),
            include_str!("../../../tests/fixtures/schema_v4.sql"),
            include_str!("../../../tests/fixtures/schema_v5.sql"),
            include_str!("../../../tests/fixtures/schema_v6.sql"),
            include_str!("../../../tests/fixtures/schema_v7.sql"),
        ];
        for (version, release) in (1..).zip([FIRST, second, third, fourth, fifth, sixth, seventh, SCHEMA]) {
            assert_eq!(differences(made(&history), version).unwrap(), Vec::<String>::new(), "{version}: upgraded");
            assert_eq!(differences(made(release), version).unwrap(), Vec::<String>::new(), "{version}: new");
            history += UPGRADES.get(usize::try_from(version).unwrap() - 1).copied().unwrap_or_default();
        }
    }

    #[test]
    fn an_older_files_rows_are_read_with_the_columns_that_were_added_since() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let old = "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT) STRICT; CREATE TABLE b (id INTEGER PRIMARY KEY) STRICT; \
             INSERT INTO a VALUES (1, 'one'); INSERT INTO b VALUES (2);";
        Connection::open(&path).unwrap().execute_batch(old).unwrap();
        let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        reader.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false).unwrap();
        let current = "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT, y TEXT NOT NULL DEFAULT 'it''s', z INTEGER, \
             n INTEGER NOT NULL DEFAULT 7) STRICT; CREATE TABLE b (id INTEGER PRIMARY KEY) STRICT; \
             CREATE TABLE c (id INTEGER PRIMARY KEY) STRICT;";
        show_columns_of(current, &reader).unwrap();
        let row = |row: &rusqlite::Row<'_>| <(i64, String, String, Option<i64>, i64)>::try_from(row);
        let read = reader.query_row("SELECT a.id, x, y, z, n FROM a JOIN b ON b.id = a.id + 1", [], row).unwrap();
        assert_eq!(read, (1, "one".to_owned(), "it's".to_owned(), None, 7));
        assert!(!reader.table_exists(None, "c").unwrap(), "what is not there is not shown");
    }

    #[test]
    fn a_statement_is_known_by_its_tokens() {
        let same = |one, other| tokens(one).eq(tokens(other));
        assert!(same("CREATE TABLE a (b TEXT, c)", "CREATE TABLE a(\n  b   TEXT, -- what, it's\n /* \" */ c\t)"));
        for (one, other) in [
            ("a = 'x y'", "a = 'x  y'"),
            ("a = 'x'", "a = 'X'"),
            ("a = 'it''s'", "a = 'its'"),
            ("a = '--'", "a = '"),
            ("ab", "a b"),
            ("a = \"x\"", "a = 'x'"),
            ("CHECK (a IN (0, 1))", "CHECK (a IN (0, 1) OR 1)"),
            ("a = '/*' || b || '*/'", "a = ''"),
        ] {
            assert!(!same(one, other), "{one} and {other}");
        }
        assert_eq!(tokens("é='ü' --").collect::<Vec<_>>(), ["é", "=", "'ü'"]);
    }
}
