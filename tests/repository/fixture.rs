//! The stores that the suite runs against: a function a backend, which makes an empty store, or says that the backend is
//! not installed here.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use authtokens::config::secret::Secret;
use authtokens::domain::user::UserId;
use authtokens::repository::Notices;
use authtokens::repository::Repository;
use authtokens::repository::postgres::{PostgresRepository, PostgresSettings};
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::cluster;

/// An empty store, and whatever must live as long as it does.
pub struct Fixture {
    /// The store.
    pub repository: Arc<dyn Repository>,
    /// The same store, opened once more: as another process or another node sees it.
    pub second: Arc<dyn Repository>,
    /// Opens the same store without mail.
    pub without_mail: Box<dyn Fn() -> Arc<dyn Repository> + Send + Sync>,
    /// Makes an account unusable, as another program would.
    pub deactivate: Box<dyn Fn(&str) + Send + Sync>,
    /// How many rows beside events name this account.
    pub count_rows_of: Box<dyn Fn(UserId) -> i64 + Send + Sync>,
    /// Whether what is asked for first is done first.
    pub is_in_order: bool,
    _guard: Box<dyn Any + Send + Sync>,
}

/// A folder in memory where there is one: the suite is about what a store answers, and not about the disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// One SQLite file, opened as the server does and as a command beside it does.
#[expect(clippy::unnecessary_wraps, reason = "another backend may not be there")]
pub fn sqlite() -> Option<Fixture> {
    let folder = folder();
    let path = folder.path().join("test.db");
    let settings = SqliteSettings {
        path: path.clone(),
        readers: 4,
        busy_timeout: Duration::from_secs(5),
        cache: 1 << 20,
        keep_before_upgrade: None,
        notices: Notices { enabled: true, sign_ins: true },
    };
    Some(Fixture {
        repository: Arc::new(SqliteRepository::open(&settings).unwrap()),
        second: Arc::new(SqliteRepository::open_shared(&settings, false).unwrap()),
        without_mail: Box::new(move || {
            let settings = SqliteSettings { notices: Notices::default(), ..settings.clone() };
            Arc::new(SqliteRepository::open_shared(&settings, false).unwrap())
        }),
        deactivate: Box::new({
            let path = path.clone();
            move |username| {
                let deactivate = "UPDATE users SET is_active = 0 WHERE username = ?1";
                assert_eq!(Connection::open(&path).unwrap().execute(deactivate, [username]).unwrap(), 1);
            }
        }),
        count_rows_of: Box::new(move |user_id| count_sqlite_rows_of(&path, user_id)),
        is_in_order: true,
        _guard: Box::new(folder),
    })
}

/// One database of PostgreSQL, opened by two servers as two nodes are.
pub fn postgres() -> Option<Fixture> {
    let Some(cluster) = cluster::cluster() else {
        cluster::left_out("a case of the contract suite");
        return None;
    };
    let url = cluster.new_database();
    let settings = PostgresSettings {
        url: Secret::from(url.clone()),
        ca_file: None,
        connections: 8,
        cache: 1 << 20,
        // Shorter than usual: many cases wait for the other node.
        max_staleness: Duration::from_millis(100),
        notices: Notices { enabled: true, sign_ins: true },
    };
    let open = |settings: &PostgresSettings| Arc::new(PostgresRepository::open(settings).unwrap());
    Some(Fixture {
        repository: open(&settings),
        second: open(&settings),
        without_mail: Box::new(move || {
            let settings = PostgresSettings { notices: Notices::default(), ..settings.clone() };
            Arc::new(PostgresRepository::open_shared(&settings, false).unwrap())
        }),
        deactivate: Box::new({
            let url = url.clone();
            move |username| {
                cluster::execute(&url, &format!("UPDATE users SET is_active = FALSE WHERE username = '{username}'"))
                    .unwrap();
                // Another program does not wait until the nodes know of it.
                thread::sleep(Duration::from_millis(110));
            }
        }),
        count_rows_of: Box::new(move |user_id| count_postgres_rows_of(&url, user_id)),
        is_in_order: false,
        _guard: Box::new(()),
    })
}

/// The tables, beside the events, whose rows are an account's.
const TABLES_OF_USERS: [&str; 10] = [
    "cellar",
    "wants",
    "tokens",
    "login_failures",
    "one_time_codes",
    "totp",
    "recovery_codes",
    "passkeys",
    "identities",
    "challenges",
];

fn count_postgres_rows_of(url: &str, user_id: UserId) -> i64 {
    let of_user = TABLES_OF_USERS.map(|table| format!("(SELECT count(*) FROM {table} WHERE user_id = $1)"));
    let count = format!("SELECT (SELECT count(*) FROM users WHERE id = $1) + {}", of_user.join(" + "));
    cluster::on(url, async move |client| client.query_one(&count, &[&user_id.0]).await).unwrap().get(0)
}

fn count_sqlite_rows_of(path: &PathBuf, user_id: UserId) -> i64 {
    let connection = Connection::open(path).unwrap();
    let count = |table, column| {
        let count = format!("SELECT count(*) FROM {table} WHERE {column} = ?1");
        connection.query_row(&count, [user_id.0], |row| row.get::<_, i64>(0)).unwrap()
    };
    let of_user = TABLES_OF_USERS.map(|table| count(table, "user_id"));
    count("users", "id") + of_user.iter().sum::<i64>()
}
