//! What tests look for in the store, and what they change there behind the service's back, in words of the service.
//!
//! A backend joins by a [`TestStore`] of its own and a line in [`of`]. What is about one backend alone is in a folder that
//! is named like it.

use std::process::Command;

use authtokens::config::Config;
use authtokens::repository::Repository;

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

/// The store of a server or of commands, as another program sees it. A running server knows of a change when its method
/// returns.
pub trait TestStore: Send + Sync {
    /// Has a command use this store.
    fn point(&self, command: &mut Command);

    /// Copies it, as of one moment, to where this configuration says, where nothing is yet.
    fn copy_to(&self, config: &Config);

    /// Opens it as a command beside the server does.
    fn open_beside(&self) -> Box<dyn Repository>;

    /// Waits until no server has it.
    fn wait_until_free(&self);

    /// Keeps every change out of it until the answer is dropped. Reads go on.
    fn lock(&self) -> Box<dyn Send>;

    /// How many `users`, `cellar`, `wants`, `tokens`, `events` or `login_failures` there are.
    fn count(&self, table: &str) -> i64;

    /// All that it holds, to be compared.
    fn dump(&self) -> Vec<String>;

    /// Remembers all that it holds, and puts it back whenever it is called.
    fn save(&self) -> Box<dyn Fn()>;

    /// Whether the backend itself finds nothing wrong with it.
    fn is_whole(&self) -> bool;

    /// Whether these bytes are anywhere in what is stored.
    fn contains(&self, bytes: &[u8]) -> bool;

    /// The accounts, oldest first.
    fn accounts(&self) -> Vec<StoredAccount>;

    /// The sessions, oldest first.
    fn sessions(&self) -> Vec<StoredSession>;

    /// The events, oldest first.
    fn events(&self) -> Vec<StoredEvent>;

    /// How many logins have failed at each account at which any has.
    fn failures(&self) -> Vec<i64>;

    /// Changes every account, but for its name, by which it is found.
    fn change_accounts(&self, change: &dyn Fn(&mut StoredAccount));

    /// Changes every session, but for its digest and whose it is.
    fn change_sessions(&self, change: &dyn Fn(&mut StoredSession));

    /// Changes every event, but for its number.
    fn change_events(&self, change: &dyn Fn(&mut StoredEvent));

    /// Makes accounts without a profile, where a hash for each would take too long.
    fn add_accounts(&self, accounts: &[StoredAccount]);

    /// Puts so many items on both lists of every account.
    fn fill_lists(&self, items: i64);

    /// Adds events of an account, which say nothing but their kind.
    fn add_events(&self, username: &str, kinds: &[&str]);

    /// Deletes an account with all that is its own but its events.
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

/// The store that a configuration names.
pub fn of(config: &Config) -> Box<dyn TestStore> {
    Box::new(SqliteStore::at(&config.database.path))
}
