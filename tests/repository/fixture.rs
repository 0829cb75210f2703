//! The stores that the suite runs against: a function a backend, which makes an empty store.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use authtokens::domain::user::UserId;
use authtokens::repository::Notices;
use authtokens::repository::Repository;
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings};
use rusqlite::Connection;
use tempfile::TempDir;

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
    _guard: Box<dyn Any + Send + Sync>,
}

/// A folder in memory where there is one: the suite is about what a store answers, and not about the disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// One SQLite file, opened as the server does and as a command beside it does.
pub fn sqlite() -> Fixture {
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
    Fixture {
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
        _guard: Box::new(folder),
    }
}

fn count_sqlite_rows_of(path: &PathBuf, user_id: UserId) -> i64 {
    let connection = Connection::open(path).unwrap();
    let count = |table, column| {
        let count = format!("SELECT count(*) FROM {table} WHERE {column} = ?1");
        connection.query_row(&count, [user_id.0], |row| row.get::<_, i64>(0)).unwrap()
    };
    let of_user =
        ["cellar", "wants", "tokens", "login_failures", "one_time_codes"].map(|table| count(table, "user_id"));
    count("users", "id") + of_user.iter().sum::<i64>()
}
