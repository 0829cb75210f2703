//! How tests read the store, and change it behind the service's back, in the service's own terms.
//!
//! A backend needs a [`TestStore`] of its own and a line in [`of`]. Tests of one backend alone are in a folder of its
//! name.

use std::path::Path;
use std::process::Command;

use authtokens::config::Config;
use authtokens::domain::user::Username;
use authtokens::repository::Repository;

use crate::postgres::store::PostgresStore;
use crate::postgres::url_in;
use crate::sqlite::store::SqliteStore;

/// An account as it is stored, as far as a test looks at it or changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccount {
    pub username: String,
    pub password_hash: String,
    pub first_name: String,
    pub email: String,
    pub city: String,
    pub is_active: bool,
    pub is_staff: bool,
    pub is_superuser: bool,
}

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// In hex.
    pub digest: String,
    pub username: String,
    /// In milliseconds, as the other times here.
    pub created: i64,
    pub last_used: i64,
    pub user_agent: String,
    pub ip: String,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub id: i64,
    pub at: i64,
    pub kind: String,
    pub username: String,
    pub actor: String,
    pub ip: String,
    pub detail: String,
}

/// The store of a server or of commands, as another program sees it. When a method that changes it returns, a running
/// server knows of the change.
pub trait TestStore: Send + Sync {
    /// Makes a command use this store.
    fn point(&self, command: &mut Command);

    /// Whether anything was ever stored in it.
    fn exists(&self) -> bool;

    /// Copies it, as of one moment, to the store that this configuration names, which does not exist yet.
    fn copy_to(&self, config: &Config);

    /// Opens it as a command does while a server runs.
    fn open_beside(&self) -> Box<dyn Repository>;

    /// Waits until no server has it open.
    fn wait_until_free(&self);

    /// Locks out every change until the returned value is dropped. Reads go on.
    fn lock(&self) -> Box<dyn Send>;

    /// Counts the `users`, `cellar`, `wants`, `tokens`, `events` or `login_failures`.
    fn count(&self, table: &str) -> i64;

    /// All that it holds, to be compared.
    fn dump(&self) -> Vec<String>;

    /// Saves all that it holds. The returned function restores it.
    fn save(&self) -> Box<dyn Fn()>;

    /// How many failed logins in a row lock an account: a hundred, or fewer where other nodes may have some under way.
    fn most_failures(&self) -> u32;

    /// Whether several nodes may use it.
    fn is_shared(&self) -> bool {
        self.most_failures() < 100
    }

    /// Whether the backend itself finds nothing wrong with it.
    fn is_whole(&self) -> bool;

    /// Whether these bytes are anywhere in what is stored.
    fn contains(&self, bytes: &[u8]) -> bool;

    /// Whether it can hold this text.
    fn can_store(&self, text: &str) -> bool;

    /// The accounts, oldest first.
    fn accounts(&self) -> Vec<StoredAccount>;

    /// The sessions, oldest first.
    fn sessions(&self) -> Vec<StoredSession>;

    /// The events, oldest first.
    fn events(&self) -> Vec<StoredEvent>;

    /// The number of failed logins of each account that has any.
    fn failures(&self) -> Vec<i64>;

    /// Changes every account, except for its name, by which it is found.
    fn change_accounts(&self, change: &dyn Fn(&mut StoredAccount));

    /// Changes every session, except for its digest and its account.
    fn change_sessions(&self, change: &dyn Fn(&mut StoredSession));

    /// Changes every event, except for its number.
    fn change_events(&self, change: &dyn Fn(&mut StoredEvent));

    /// Makes accounts without a profile, where a hash for each would take too long.
    fn add_accounts(&self, accounts: &[StoredAccount]);

    /// Remembers that an account was imported whose name no new account could have.
    fn remember_imported_name(&self);

    /// Adds this many items to both lists of every account.
    fn fill_lists(&self, items: i64);

    /// Adds events of an account that hold only their kind.
    fn add_events(&self, username: &str, kinds: &[&str]);

    /// Deletes an account with all that belongs to it, except for its events.
    fn delete_account(&self, username: &str);

    /// Deletes an account's sessions.
    fn delete_sessions(&self, username: &str);
}

impl StoredAccount {
    /// An account without rights that nobody can log in to.
    pub fn named(username: String) -> Self {
        Self {
            username,
            password_hash: String::new(),
            first_name: String::new(),
            email: String::new(),
            city: String::new(),
            is_active: true,
            is_staff: false,
            is_superuser: false,
        }
    }
}

/// The name as it is unique.
pub fn key_of_name(name: &str) -> String {
    Username::parse_existing(name).unwrap().key()
}

/// The store that a configuration names.
pub fn of(config: &Config) -> Box<dyn TestStore> {
    match &config.database.url {
        Some(url) => Box::new(PostgresStore::at(url.expose())),
        None => Box::new(SqliteStore::at(&config.database.path)),
    }
}

/// Makes a configuration name the store of this folder, of the kind that this run is on. A path in it is left as it is.
pub fn keep_in(folder: &Path, config: &mut Config) {
    config.database.url = url_in(folder).map(Into::into);
}

/// Makes a program that is started in this folder use the folder's own store, of the kind that this run is on.
pub fn point_in(folder: &Path, command: &mut Command) {
    if let Some(url) = url_in(folder) {
        PostgresStore::at(&url).point(command);
    }
}

/// What stores the data of a folder, as `database status` names it.
pub fn engine_in(folder: &Path) -> &'static str {
    if url_in(folder).is_some() { "PostgreSQL " } else { "SQLite " }
}
