//! The context of every command but `serve`, and the errors of commands with their exit codes.
//!
//! A command works on the database itself, whether a server runs or not. A running server has noticed the change before
//! the command reports that it is done.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::domain::field::InvalidField;
use crate::import::ImportError;
use crate::mail::{DeliveryError, MailError};
use crate::outbound::OutboundError;
use crate::passwords::PasswordError;
use crate::repository::open::{Opened, open_shared};
use crate::repository::{BackupError, MoveError, OpenError, Repository, RepositoryError};
use crate::system::clock::Clock;
use crate::system::error_chain::Chain;
use crate::templates::TemplateError;

use crate::accounts::administer::{AdministerError, Administration};
use crate::accounts::sealing::SealingKeyError;
use crate::accounts::throttle::Throttled;
use crate::accounts::webhooks::WebhookError;
use crate::cli::healthcheck::Unhealthy;
use crate::cli::output::{self, List, Output};
use crate::domain::rights::Actor;
use crate::domain::service::MAX_SERVICES;
use crate::domain::user::Username;

/// How many rows are read at once.
const PAGE: u32 = 500;

/// Why a command failed. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Mail cannot be sent as it is configured.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// A template of the pages cannot be used.
    #[error(transparent)]
    Templates(#[from] TemplateError),
    /// A mail was not delivered.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The systemd unit forbids what the configuration asks for.
    #[error("the unit {unit} does not let the service do what the configuration asks for: {why}")]
    Unit {
        /// The unit.
        unit: String,
        /// What it forbids.
        why: String,
    },
    /// The unit cannot be read.
    #[error("cannot read the unit {unit}: {source}")]
    UnreadableUnit {
        /// The unit.
        unit: String,
        /// What the system said.
        source: io::Error,
    },
    /// The question cannot be asked, and the answer was not given.
    #[error("it needs --yes where there is no terminal to ask at")]
    NeedsYes,
    /// The answer was no.
    #[error("nothing was done")]
    Declined,
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The key that secrets are sealed with cannot be used.
    #[error(transparent)]
    SealingKey(#[from] SealingKeyError),
    /// A backup, a restore or a check failed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The database was not copied to another one.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// Nothing, or not all, was imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Names of accounts that were to be imported are in conflict.
    #[error(
        "{}: --rename FILE settles them, --names source takes more names, --leave-out-conflicts imports the others",
        unsettled(*count, *written)
    )]
    Unsettled {
        /// How many.
        count: usize,
        /// How many others were imported, where they were.
        written: Option<u64>,
    },
    /// A place at the command line is none.
    #[error("{0} is neither the path of a SQLite file nor a URL that begins with postgres://")]
    Place(String),
    /// A file that holds a URL cannot be used.
    #[error("the file {path} {why}")]
    UrlFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No account has the name.
    #[error("there is no account named {0}")]
    NoAccount(String),
    /// An account has the name.
    #[error("there is an account named {0} already")]
    Taken(String),
    /// The last active superuser cannot be demoted, deactivated or deleted.
    #[error("{0} is the last superuser who can log in")]
    LastSuperuser(String),
    /// The account has no address that mail can be sent to.
    #[error("{0} has no address that mail can be sent to")]
    NoAddress(String),
    /// Another account has verified the account's address.
    #[error("another account has verified the address of {0}")]
    EmailTaken(String),
    /// The id belongs to no session of the account's.
    #[error("{0} has no session of this id")]
    NoSession(String),
    /// Nothing was done to a webhook.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// A webhook was tried, and its receiver did not take the message.
    #[error("it was not delivered: {0}")]
    NotDelivered(String),
    /// The proxy cannot be asked.
    #[error("the proxy cannot be tried: {0}")]
    Outbound(#[source] OutboundError),
    /// Nobody can listen where the application is to be.
    #[error("cannot listen on {upstream} as the application behind the proxy: {source}")]
    Upstream {
        /// Where.
        upstream: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The file of a token cannot be used.
    #[error("the file {path} {why}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A request with the token does not reach the command.
    #[error(
        "a request with the token does not reach this command (the proxy answers {}): the protected route of the proxy must \
         lead to it, and the token must be live",
        status.map_or_else(|| "nothing".to_owned(), |status| status.to_string())
    )]
    NotPassed {
        /// The proxy's answer.
        status: Option<u16>,
    },
    /// The proxy has holes.
    #[error("the proxy has holes: {0} of the requests above did what they must not")]
    Holes(usize),
    /// No service has the name.
    #[error("there is no service named {0}")]
    NoService(String),
    /// A service has the name.
    #[error("there is a service named {0} already: revoke it first, or take another name")]
    ServiceTaken(String),
    /// There are as many services as there may be.
    #[error("there are {MAX_SERVICES} services, and may be no more: revoke one first")]
    TooManyServices,
    /// The password breaks a rule.
    #[error("the {0}")]
    Field(#[from] InvalidField),
    /// The two passwords that were typed differ.
    #[error("the two passwords differ")]
    PasswordsDiffer,
    /// Standard input or the terminal gives no password.
    #[error("cannot read the password: {0}")]
    Input(#[source] io::Error),
    /// It was interrupted with Ctrl-C.
    #[error("it was interrupted, and nothing was done")]
    Interrupted,
    /// The password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There were too many attempts.
    #[error(transparent)]
    Throttled(Throttled),
    /// The store failed.
    #[error("{}", Chain(.0))]
    Repository(RepositoryError),
    /// The command was done, but its output cannot be written.
    #[error("it was done, but standard output cannot be written: {0}")]
    Untold(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// The system gives no threads.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The server is not ready, or not there.
    #[error(transparent)]
    Unhealthy(#[from] Unhealthy),
    /// The server did not start, or did not stop as it should.
    #[error("{0}")]
    Serve(Box<dyn std::error::Error>),
}

impl CommandError {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            // Not a failure: the reader has closed the pipe.
            Self::Output(error) | Self::Untold(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Config(_)
            | Self::SealingKey(SealingKeyError::Setting(_))
            | Self::Mail(_)
            | Self::Templates(_)
            | Self::Unit { .. }
            | Self::UnreadableUnit { .. }
            | Self::Place(_)
            | Self::UrlFile { .. }
            | Self::TokenFile { .. }
            | Self::NeedsYes => 2,
            // 128 + SIGINT, as shells have it.
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    /// The error of an administration of the account of this name.
    pub(crate) fn of_account(username: &Username, error: AdministerError) -> Self {
        let name = username.as_str().to_owned();
        match error {
            AdministerError::NoAccount => Self::NoAccount(name),
            AdministerError::NoSession => Self::NoSession(name),
            AdministerError::Taken => Self::Taken(name),
            AdministerError::LastSuperuser => Self::LastSuperuser(name),
            AdministerError::NoAddress => Self::NoAddress(name),
            AdministerError::EmailTaken => Self::EmailTaken(name),
            // These are for clients of the API alone.
            AdministerError::SetsNoPasswords | AdministerError::Full(_) => Self::Repository(RepositoryError::Forbidden),
            AdministerError::Throttled(error) => Self::Throttled(error),
            AdministerError::Password(error) => Self::Password(error),
            AdministerError::Repository(error) => Self::Repository(error),
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
    /// Prints what the command has done.
    pub(crate) fn tell<T: Serialize>(&mut self, done: &T, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        self.output.print(done, text).map_err(CommandError::Untold)
    }
}

/// Opens the database, does `work` on behalf of the operator, and closes the database whether it failed or not.
pub(crate) async fn as_operator<T>(
    config: &Config,
    clock: &Clock,
    make: bool,
    work: impl AsyncFnOnce(Administration<'_>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let repository = open(config, clock, make)?;
    let outcome = work(Administration::new(repository.as_ref(), clock, Actor::CommandLine)).await;
    close(repository.as_ref()).await;
    outcome
}

/// Opens the database, whether a server runs or not. Creates it only if `make` says so.
pub(crate) fn open(config: &Config, clock: &Clock, make: bool) -> Result<Arc<dyn Repository>, OpenError> {
    let Opened { repository, upgrade } = open_shared(config, clock.now(), make)?;
    if let Some(upgrade) = upgrade {
        // A warning that cannot be written does not fail the command.
        let _ = writeln!(io::stderr(), "authtokens: {}", output::printable(&upgrade.to_string()));
    }
    Ok(repository)
}

/// Closes the database. A failure is ignored.
pub(crate) async fn close(repository: &dyn Repository) {
    // What was acknowledged is in the WAL, and whoever opens the database next reads it.
    let _ = repository.close().await;
}

/// Prints a list of at most `limit` rows, a page at a time: `page` reads the next page of a given size.
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

/// Runs a command's work to its end, on a runtime of its own.
///
/// # Errors
/// The work's own.
pub fn run(work: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Start)?.block_on(work)
}

fn unsettled(count: usize, written: Option<u64>) -> String {
    let accounts = if count == 1 { "the name of 1 account is" } else { &*format!("the names of {count} accounts are") };
    let others =
        written.map_or_else(|| "nothing was imported".to_owned(), |written| format!("{written} others were imported"));
    format!("{accounts} in conflict, and {others}")
}
