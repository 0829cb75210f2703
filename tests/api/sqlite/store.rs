//! The store in one SQLite file, as tests see it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use authtokens::config::Config;
use authtokens::domain::email::key_of;
use authtokens::repository::Notices;
use authtokens::repository::Repository;
use authtokens::repository::sqlite::{MAX_STALENESS, SqliteRepository, SqliteSettings};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use crate::store::{StoredAccount, StoredEvent, StoredSession, TestStore, key_of_name};

const TABLES: [&str; 8] =
    ["users", "cellar", "wants", "tokens", "events", "login_failures", "one_time_codes", "outbox"];

/// A SQLite file that a server may have at the same time.
pub struct SqliteStore {
    path: PathBuf,
}

impl SqliteStore {
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    fn list<T>(&self, statement: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let connection = self.connect();
        let mut statement = connection.prepare(statement).unwrap();
        statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Changes something in one transaction, and waits until the server must have noticed.
    fn change(&self, change: impl FnOnce(&Connection)) {
        let connection = self.connect();
        connection.execute_batch("PRAGMA foreign_keys = ON; BEGIN IMMEDIATE").unwrap();
        change(&connection);
        connection.execute_batch("COMMIT").unwrap();
        thread::sleep(MAX_STALENESS);
    }
}

impl TestStore for SqliteStore {
    fn point(&self, command: &mut Command) {
        command.env("AUTHTOKENS__DATABASE__PATH", &self.path);
    }

    fn exists(&self) -> bool {
        self.path.exists()
    }

    fn copy_to(&self, config: &Config) {
        let copy = &config.database.path;
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        self.connect().execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    }

    fn open_beside(&self) -> Box<dyn Repository> {
        let settings = SqliteSettings {
            path: self.path.clone(),
            readers: 1,
            busy_timeout: Duration::from_secs(30),
            cache: 0,
            keep_before_upgrade: None,
            notices: Notices::default(),
        };
        Box::new(SqliteRepository::open_shared(&settings, false).unwrap())
    }

    fn wait_until_free(&self) {
        let lock = fs::File::open(format!("{}.lock", self.path.display()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while lock.as_ref().is_ok_and(|lock| lock.try_lock().is_err()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        // Not only closed: a process that another test starts at this moment would have it a moment longer.
        let _ = lock.map(|lock| lock.unlock());
    }

    fn lock(&self) -> Box<dyn Send> {
        let connection = self.connect();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Box::new(connection)
    }

    fn count(&self, table: &str) -> i64 {
        self.connect().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    fn dump(&self) -> Vec<String> {
        let connection = self.connect();
        TABLES.iter().flat_map(|table| rows(&connection, &format!("SELECT * FROM {table}"))).collect()
    }

    fn save(&self) -> Box<dyn Fn()> {
        let connection = self.connect();
        connection.execute_batch("ATTACH ':memory:' AS saved").unwrap();
        for table in TABLES {
            connection.execute_batch(&format!("CREATE TABLE saved.{table} AS SELECT * FROM main.{table}")).unwrap();
        }
        let tables = TABLES
            .map(|table| format!("DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM saved.{table};"));
        let put_back = format!("BEGIN IMMEDIATE; {} COMMIT", tables.concat());
        Box::new(move || {
            connection.execute_batch(&put_back).unwrap();
            thread::sleep(MAX_STALENESS);
        })
    }

    fn most_failures(&self) -> u32 {
        100
    }

    fn is_whole(&self) -> bool {
        rows(&self.connect(), "PRAGMA integrity_check") == ["ok"]
    }

    fn contains(&self, bytes: &[u8]) -> bool {
        let mut names: Vec<_> = fs::read_dir(self.path.parent().unwrap()).unwrap().map(|file| file.unwrap()).collect();
        names.retain(|file| {
            file.file_name().as_encoded_bytes().starts_with(self.path.file_name().unwrap().as_encoded_bytes())
        });
        assert!(!names.is_empty(), "the file, and what is beside it: its WAL, its index, its locks");
        names.iter().any(|file| fs::read(file.path()).unwrap().windows(bytes.len()).any(|window| window == bytes))
    }

    fn can_store(&self, _: &str) -> bool {
        true
    }

    fn accounts(&self) -> Vec<StoredAccount> {
        let list = "SELECT username, password_hash, first_name, email, city, is_active, is_staff, is_superuser \
            FROM users ORDER BY id";
        self.list(list, |row| {
            Ok(StoredAccount {
                username: row.get(0)?,
                password_hash: row.get(1)?,
                first_name: row.get(2)?,
                email: row.get(3)?,
                city: row.get(4)?,
                is_active: row.get(5)?,
                is_staff: row.get(6)?,
                is_superuser: row.get(7)?,
            })
        })
    }

    fn sessions(&self) -> Vec<StoredSession> {
        let list = "SELECT lower(hex(digest)), username, tokens.created, last_used, user_agent, ip \
            FROM tokens JOIN users ON users.id = user_id ORDER BY tokens.created, digest";
        self.list(list, |row| {
            Ok(StoredSession {
                digest: row.get(0)?,
                username: row.get(1)?,
                created: row.get(2)?,
                last_used: row.get(3)?,
                user_agent: row.get(4)?,
                ip: row.get(5)?,
            })
        })
    }

    fn events(&self) -> Vec<StoredEvent> {
        self.list("SELECT id, at, kind, username, actor, ip, detail FROM events ORDER BY id", |row| {
            Ok(StoredEvent {
                id: row.get(0)?,
                at: row.get(1)?,
                kind: row.get(2)?,
                username: row.get(3)?,
                actor: row.get(4)?,
                ip: row.get(5)?,
                detail: row.get(6)?,
            })
        })
    }

    fn failures(&self) -> Vec<i64> {
        self.list("SELECT failures FROM login_failures ORDER BY user_id", |row| row.get(0))
    }

    fn change_accounts(&self, change: &dyn Fn(&mut StoredAccount)) {
        let accounts = self.accounts();
        self.change(|connection| {
            for account in accounts {
                let mut changed = account.clone();
                change(&mut changed);
                if changed == account {
                    continue;
                }
                let update = "UPDATE users SET password_hash = ?2, first_name = ?3, email = ?4, city = ?5, \
                    is_active = ?6, is_staff = ?7, is_superuser = ?8, email_key = ?9, \
                    email_verified = iif(email = ?4, email_verified, 0) WHERE username = ?1";
                let values = params![
                    account.username,
                    changed.password_hash,
                    changed.first_name,
                    changed.email,
                    changed.city,
                    changed.is_active,
                    changed.is_staff,
                    changed.is_superuser,
                    key_of(&changed.email)
                ];
                assert_eq!(connection.execute(update, values).unwrap(), 1);
            }
        });
    }

    fn change_sessions(&self, change: &dyn Fn(&mut StoredSession)) {
        let sessions = self.sessions();
        self.change(|connection| {
            for mut session in sessions {
                change(&mut session);
                let update = "UPDATE tokens SET created = ?2, last_used = ?3, user_agent = ?4, ip = ?5 \
                    WHERE lower(hex(digest)) = ?1";
                let values =
                    params![session.digest, session.created, session.last_used, session.user_agent, session.ip];
                assert_eq!(connection.execute(update, values).unwrap(), 1);
            }
        });
    }

    fn change_events(&self, change: &dyn Fn(&mut StoredEvent)) {
        let events = self.events();
        self.change(|connection| {
            for mut event in events {
                change(&mut event);
                let update = "UPDATE events SET at = ?2, kind = ?3, username = ?4, actor = ?5, ip = ?6, detail = ?7 \
                    WHERE id = ?1";
                let values =
                    params![event.id, event.at, event.kind, event.username, event.actor, event.ip, event.detail];
                assert_eq!(connection.execute(update, values).unwrap(), 1);
            }
        });
    }

    fn add_accounts(&self, accounts: &[StoredAccount]) {
        self.change(|connection| {
            let insert = "INSERT INTO users (username, username_key, password_hash, first_name, email, city, \
                is_active, is_staff, is_superuser, date_joined, created, modified, last_login, email_key, public_id) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, 0, 0, ?10, randomblob(16))";
            for account in accounts {
                let values = params![
                    account.username,
                    key_of_name(&account.username),
                    account.password_hash,
                    account.first_name,
                    account.email,
                    account.city,
                    account.is_active,
                    account.is_staff,
                    account.is_superuser,
                    key_of(&account.email)
                ];
                connection.execute(insert, values).unwrap();
            }
        });
    }

    fn remember_imported_name(&self) {
        self.change(|connection| {
            let insert = "INSERT INTO imported (source, source_id, fingerprint, has_other_name, at) \
                VALUES ('django', '1', zeroblob(32), 1, 0)";
            connection.execute(insert, ()).unwrap();
        });
    }

    fn fill_lists(&self, items: i64) {
        self.change(|connection| {
            for list in ["cellar", "wants"] {
                let fill = format!(
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                     INSERT INTO {list} (user_id, item_id, added) SELECT id, 9007199254740991 - i, 0 FROM n, users"
                );
                connection.execute(&fill, [items]).unwrap();
            }
        });
    }

    fn add_events(&self, username: &str, kinds: &[&str]) {
        self.change(|connection| {
            let insert = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
                SELECT 0, ?1, id, username, '', '', '' FROM users WHERE username = ?2";
            for kind in kinds {
                assert_eq!(connection.execute(insert, [kind, username]).unwrap(), 1);
            }
        });
    }

    fn delete_account(&self, username: &str) {
        self.change(|connection| {
            assert_eq!(connection.execute("DELETE FROM users WHERE username = ?1", [username]).unwrap(), 1);
        });
    }

    fn delete_sessions(&self, username: &str) {
        self.change(|connection| {
            let delete = "DELETE FROM tokens WHERE user_id = (SELECT id FROM users WHERE username = ?1)";
            assert!(connection.execute(delete, [username]).unwrap() > 0);
        });
    }
}

/// What one statement answers, a line a row.
pub fn rows(connection: &Connection, statement: &str) -> Vec<String> {
    let mut statement = connection.prepare(statement).unwrap();
    let columns = statement.column_count();
    let row_as_text = |row: &Row<'_>| {
        let values = (0..columns).map(|column| match row.get_ref(column).unwrap() {
            ValueRef::Null => "-".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        });
        Ok(values.collect::<Vec<_>>().join("|"))
    };
    statement.query_map([], row_as_text).unwrap().collect::<Result<_, _>>().unwrap()
}
