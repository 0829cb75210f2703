//! What the operator does at the server's own command line, beside serving.
//!
//! A command works on the file itself, whether a server runs or not: the server reads the file anew for every request,
//! and so feels a change at once. There is a file of commands a noun; [`output`] is what they print with, [`input`] what
//! they ask with.

use std::io::{self, Write as _};
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::domain::field::InvalidField;
use crate::passwords::PasswordError;
use crate::repository::open::{Opened, Upgrade, open_shared};
use crate::repository::{BackupError, OpenError, Repository, RepositoryError, UniqueField};
use crate::system::clock::Clock;
use crate::system::error_chain::Chain;

use crate::cli::output::{self, List, Output};

/// How many rows are read at once.
const PAGE: u32 = 500;

/// Why a command did not do what it was asked. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The question cannot be asked, and the answer was not given.
    #[error("it needs --yes where there is no terminal to ask at")]
    NeedsYes,
    /// The answer was no.
    #[error("nothing was done")]
    Declined,
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup was not made, put back or found good.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The name belongs to nobody.
    #[error("there is no account named {0}")]
    NoAccount(String),
    /// The name belongs to somebody.
    #[error("there is an account named {0} already")]
    Taken(String),
    /// Nobody would be left to undo it.
    #[error("{0} is the last superuser who can log in")]
    LastSuperuser(String),
    /// The id belongs to no session of the account's.
    #[error("{0} has no session of this id")]
    NoSession(String),
    /// The password breaks a rule.
    #[error("the {0}")]
    Field(#[from] InvalidField),
    /// The two passwords that were typed differ.
    #[error("the two passwords differ")]
    PasswordsDiffer,
    /// There is no password to be had from standard input or the terminal.
    #[error("cannot read the password: {0}")]
    Input(#[source] io::Error),
    /// It was given up with Ctrl-C.
    #[error("it was interrupted, and nothing was done")]
    Interrupted,
    /// The password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error("{}", Chain(.0))]
    Repository(RepositoryError),
    /// Nobody takes what is printed of what has been done.
    #[error("it was done, but standard output cannot be written: {0}")]
    Untold(#[source] io::Error),
    /// Nobody takes what is printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// The system gives no threads.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The server did not start, or did not stop as it should.
    #[error("{0}")]
    Serve(Box<dyn std::error::Error>),
}

impl CommandError {
    /// What the process exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            // Whoever has read enough has closed the pipe.
            Self::Output(error) | Self::Untold(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Config(_) | Self::NeedsYes => 2,
            // As a shell has it for what SIGINT ended.
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    /// What the store said of an account.
    pub(crate) fn of_account(username: &str, error: RepositoryError) -> Self {
        match error {
            RepositoryError::Conflict(UniqueField::Username) => Self::Taken(username.to_owned()),
            RepositoryError::LastSuperuser => Self::LastSuperuser(username.to_owned()),
            other => Self::Repository(other),
        }
    }
}

impl From<RepositoryError> for CommandError {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

/// What every command works with.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// Where it prints.
    pub output: Output,
    /// What time it is.
    pub clock: Clock,
}

impl Context {
    /// Opens the database, beside a server or not; makes it only where `make` says so.
    pub(crate) fn open(&self, make: bool) -> Result<Arc<dyn Repository>, OpenError> {
        let Opened { repository, upgrade } = open_shared(&self.config.database, make)?;
        if let Some(Upgrade { from, to }) = upgrade {
            let path = self.config.database.path.display().to_string();
            // Whether anyone reads it is not the command's concern.
            let _ = writeln!(
                io::stderr(),
                "authtokens: the schema of {} was brought up to date, from version {from} to {to}",
                output::printable(&path)
            );
        }
        Ok(repository)
    }

    /// Prints what has been done.
    pub(crate) fn tell<T: Serialize>(&mut self, done: &T, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        self.output.print(done, text).map_err(CommandError::Untold)
    }

    /// Closes the database behind the work, whatever became of it.
    pub(crate) async fn close(&self, repository: &Arc<dyn Repository>) {
        // What was acknowledged is in the log beside the file, and whoever opens it next reads it.
        let _ = repository.close().await;
    }
}

/// Prints a list of at most `limit` rows, a page at a time: `page` reads the next so many.
pub(crate) async fn print_pages<T, S: Serialize, const COLUMNS: usize>(
    mut list: List<'_, COLUMNS>,
    limit: u64,
    mut page: impl AsyncFnMut(u32) -> Result<Vec<T>, RepositoryError>,
    row: impl Fn(T) -> (S, [String; COLUMNS]),
) -> Result<(), CommandError> {
    let mut left = limit;
    loop {
        let size = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let rows = page(size).await?;
        let count = rows.len();
        left -= count as u64;
        list.add(rows.into_iter().map(&row))?;
        if count < size as usize || left == 0 {
            return Ok(list.end()?);
        }
    }
}

/// Does a command's work from beginning to end.
///
/// # Errors
/// The work's own.
pub fn run(work: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Start)?.block_on(work)
}
