//! What the unit tests of the store have in common: a store in a folder, and work that takes as long as it is told to.

use crate::repository::Notices;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::error::Failure;
use super::{SqliteRepository, SqliteSettings, blocking_threads};
use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::profile::Profile;
use crate::domain::session::{NewSession, UserAgent};
use crate::domain::token::PlainToken;
use crate::domain::user::{NewUser, PasswordHash, Username};

pub(super) fn open_in(folder: &Path) -> SqliteRepository {
    let settings = SqliteSettings {
        path: folder.join("test.db"),
        readers: 2,
        busy_timeout: Duration::from_secs(1),
        keep_before_upgrade: None,
        notices: Notices::default(),
        cache: 1 << 20,
    };
    SqliteRepository::open(&settings).unwrap()
}

/// A runtime as each worker of the server has it.
pub(super) fn worker(readers: u32) -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(blocking_threads(readers)).build().unwrap()
}

/// Work that goes on until the sender is dropped, and tells the receiver that it has begun.
pub(super) fn obstacle() -> (mpsc::Sender<()>, oneshot::Receiver<()>, impl FnOnce() -> Result<(), Failure> + Send) {
    let (release, wait) = mpsc::channel::<()>();
    let (tell, begun) = oneshot::channel();
    let work = move || {
        let _ = tell.send(());
        let _ = wait.recv();
        Ok(())
    };
    (release, begun, work)
}

pub(super) fn registration(number: u32) -> (NewUser, NewSession) {
    let user = NewUser {
        username: Username::parse(&format!("user{number}")).unwrap(),
        password_hash: PasswordHash::from_stored("$".to_owned()),
        profile: Profile { address: "x".repeat(255), ..Profile::default() },
    };
    let digest = PlainToken::generate().digest();
    (user, NewSession { digest, user_agent: UserAgent::default(), ip: None, methods: AuthenticationMethods::NONE })
}

/// How many rows the tables of accounts have.
pub(super) fn rows(repository: &SqliteRepository) -> Vec<i64> {
    let connection = repository.readers.pool.get().unwrap();
    let count = |table| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    ["users", "tokens", "events"].into_iter().map(count).collect()
}
