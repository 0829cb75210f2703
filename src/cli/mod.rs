//! The command line: its arguments, and which module does each command.

use std::path::{Path, PathBuf};

pub mod check_proxy;
pub mod config;
pub mod context;
pub mod database;
pub mod events;
mod format;
pub mod healthcheck;
pub mod import;
pub mod mail;
pub mod output;
pub mod prompt;
pub mod service;
pub mod token;
pub mod unit;
pub mod user;
pub mod webhook;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::accounts::administer::Ended;
use crate::cli::context::{CommandError, Context, run};
use crate::cli::database::Named;
use crate::cli::format::Format;
use crate::cli::healthcheck::Unhealthy;
use crate::cli::import::ImportCommand;
use crate::cli::output::{Form, Output};
use crate::cli::user::Right;
use crate::config::{Config, ConfigError, Settings};
use crate::domain::email::EmailAddress;
use crate::domain::event::{EventKind, EventQuery};
use crate::domain::rights::{Rights, SearchText, UserQuery};
use crate::domain::service::ServiceName;
use crate::domain::session::SessionId;
use crate::domain::user::Username;
use crate::domain::webhook::WebhookId;
use crate::repository::{Existing, Replay};
use crate::system::clock::{Clock, Timestamp};

/// Accounts and revocable tokens for small apps: one binary, one SQLite file, no set-up.
#[derive(Parser)]
#[command(
    version,
    about,
    name = "authtokens",
    max_term_width = 100,
    after_help = "Without a command, authtokens serves. Every setting has a default; config.toml explains them all. The \
        environment overrides the file: AUTHTOKENS__SERVER__LISTEN=127.0.0.1:9000 authtokens\n\n\
        Try it:\n  authtokens &\n  curl -H 'Content-Type: application/json' \\\n    \
        -d '{\"username\": \"AzureDiamond\", \"password\": \"hunter2\"}' \\\n    \
        http://127.0.0.1:8000/api/register\n  authtokens user list\n\n\
        The other commands work on the database itself, whether a server runs or not; they take effect with its next \
        request.\n\n\
        Exit codes: 0 done, or stopped as asked; 1 failed; 2 wrong usage or configuration; 130 interrupted at a question."
)]
pub struct Cli {
    /// The configuration file; otherwise the one that `AUTHTOKENS_CONFIG` names, config.toml in the working folder,
    /// or /etc/authtokens/config.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The SQLite file that keeps the accounts
    #[arg(long, value_name = "FILE", global = true)]
    database: Option<String>,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct ServeArgs {
    /// The address and port to listen on; a port alone, as in :8001, is on 127.0.0.1, and port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API until told to stop (the default)
    Serve(ServeArgs),
    /// Make, list, change and delete accounts
    #[command(subcommand)]
    User(UserCommand),
    /// List and end an account's tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Let other services ask whose a token is, list them, and revoke their keys
    #[command(subcommand)]
    Service(ServiceCommand),
    /// List what happened, newest first
    Events {
        /// Only what happened to this account
        #[arg(long, value_name = "NAME", value_parser = existing_name)]
        user: Option<Username>,
        /// Only what is of this kind
        #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(EventKind::ALL.map(EventKind::name)))]
        kind: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        #[command(flatten)]
        format: Format,
    },
    /// Copy the SQLite file to another one, whether a server runs or not
    #[command(
        after_help = "The copy holds the database as of one moment and is checked before it takes its name. Its \
        folder is as private as you make it; the file is readable by its owner only. The key that secrets are sealed with is \
        not in it: keep that apart."
    )]
    Backup {
        /// The file to be made
        file: PathBuf,
        /// Replace a file of this name
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Replace the SQLite file by a backup, with the server stopped
    #[command(
        after_help = "The database that was there is kept beside the new one. Tokens and passwords are then what \
        they were in the backup. Without a terminal to ask at, it needs --yes."
    )]
    Restore {
        /// The backup
        file: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Read all of the SQLite file or of a backup, and tell what it holds
    Check {
        /// The backup; without it, the database
        file: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    /// Delete tokens that have ended by themselves and old events, as a server does every hour
    Prune {
        #[command(flatten)]
        format: Format,
    },
    /// Show, bring up to date or move the database, a SQLite file or PostgreSQL
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Import accounts, lists, password hashes and live tokens from another system's files
    #[command(
        subcommand,
        after_help = "It works beside a running server, which sees the accounts at once. Run again it adds what is missing and \
        touches nothing that is there. Nothing is written while names are in conflict; --dry-run tells beforehand."
    )]
    Import(ImportCommand),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Try the way out of mail, and show what is sent
    #[command(subcommand)]
    Mail(MailCommand),
    /// Ask the server on this machine whether it is ready, as a container's health check
    #[command(
        after_help = "It asks GET /readyz at the configured address, and on the loopback address where the server listens on \
        all addresses. It takes three seconds at most. Exit codes: 0 where the server is ready, 1 where it is not, or is not \
        there, or the configuration is wrong."
    )]
    Healthcheck {
        /// The server's address, where it is another than the configured one
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Send events to other services as they happen
    #[command(
        subcommand,
        after_help = "Messages are those of Standard Webhooks: signed, thin, at least once each, in no promised order. A running \
        server sends them; these commands work beside it."
    )]
    Webhook(WebhookCommand),
    /// Try whether a proxy with forward authentication lets forged headers or strangers through
    #[command(
        after_help = "The command is the application for as long as it runs: let the protected route of the proxy lead to \
        --upstream, with the application stopped. It sends requests to the URL with Remote-User and its like forged in \
        every spelling, and sees what comes through. Without a token it tries only what strangers can do. The exit code is \
        1 where there is a hole."
    )]
    CheckProxy {
        /// An address behind the proxy that is protected
        #[arg(value_name = "URL")]
        url: String,
        /// Where the proxy listens, where that is not what the name of the URL leads to
        #[arg(long, value_name = "ADDRESS:PORT")]
        connect: Option<std::net::SocketAddr>,
        /// Where the proxy expects the application: the command listens there
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9400")]
        upstream: std::net::SocketAddr,
        /// A file that holds a live token
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    /// Print completions for a shell
    #[command(after_help = "For example: authtokens completions bash > /etc/bash_completion.d/authtokens")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = "For example: authtokens manual > /usr/local/share/man/man1/authtokens.1")]
    Manual,
}

const PASSWORD_HELP: &str = "The password is asked for twice at a terminal, without showing it. Otherwise it is the first \
    line of standard input, without its line ending and otherwise exactly as it is:\n\n  \
    printf '%s\\n' \"$PASSWORD\" | authtokens user ...";

#[derive(Subcommand)]
enum UserCommand {
    /// Make an account, and the database where there is none
    #[command(after_help = PASSWORD_HELP)]
    Create {
        /// The account's name
        #[arg(value_name = "NAME", value_parser = new_name)]
        username: Username,
        /// Let it see all accounts and help those without rights
        #[arg(long)]
        staff: bool,
        /// Let it do everything
        #[arg(long)]
        superuser: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List accounts in the order of their names
    List {
        /// Only those with this text in their name, their first and last name or their email address, in whatever
        /// case
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only those that can log in
        #[arg(long, conflicts_with = "inactive")]
        active: bool,
        /// Only those that cannot log in
        #[arg(long)]
        inactive: bool,
        /// Only staff
        #[arg(long)]
        staff: bool,
        /// Only superusers
        #[arg(long)]
        superuser: bool,
        /// At most so many; without it, all of them
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        #[command(flatten)]
        format: Format,
    },
    /// Show an account
    Show {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Set an account's password, which ends its tokens
    #[command(after_help = PASSWORD_HELP)]
    SetPassword {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Mail an account's owner a link that sets a new password
    #[command(after_help = "The mail leaves at once, to the address of the account, which may be unverified. What it \
        carries is not shown.")]
    SendReset {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Count an account's address as verified, without a mail
    VerifyEmail {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Remove an account's authenticator app, recovery codes and passkeys, for an owner who has lost them
    #[command(
        after_help = "Its password, its identities and its tokens stay. Make sure that it is its owner who asks: the \
        owner is told of it."
    )]
    ResetFactors {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Let an account log in again
    Activate {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Do not let an account log in any more, which ends its tokens
    Deactivate {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Make an account staff, or a superuser
    Promote {
        #[command(flatten)]
        name: Name,
        /// A superuser, who may do everything; not staff
        #[arg(long)]
        superuser: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Make an account staff no more, or a superuser no more
    Demote {
        #[command(flatten)]
        name: Name,
        /// A superuser no more; whether it is staff stays as it is
        #[arg(long)]
        superuser: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Delete an account with its lists and its tokens, for good
    #[command(after_help = "It asks first. Without a terminal to ask at, it needs --yes.")]
    Delete {
        #[command(flatten)]
        name: Name,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// List an account's live tokens, newest first; the tokens themselves are not known
    List {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// End one of an account's tokens, or all of them
    // Written out, because clap would show the choice before the name, where it is not understood.
    #[command(override_usage = "authtokens token revoke [OPTIONS] <NAME> <ID|--all>")]
    Revoke {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
enum ServiceCommand {
    /// Let a service ask whose a token is, and show its key once
    #[command(
        after_help = "The service asks with POST /api/introspect, and gives its name and its key by HTTP's Basic \
        authentication. The key is not stored: where it is lost, revoke the service and add it again."
    )]
    Add {
        /// What it is called: 1 to 32 characters of a-z 0-9 _ . -
        #[arg(value_parser = service_name)]
        name: ServiceName,
        #[command(flatten)]
        format: Format,
    },
    /// List the services in the order of their names, with when each was last used
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Let a service ask no more; its key is worth nothing from then on
    Revoke {
        /// What it is called
        #[arg(value_parser = service_name)]
        name: ServiceName,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
enum DatabaseCommand {
    /// Tell which database is configured, what it holds, and whether a migration is due
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Bring the schema up to date, or make it, as a server does when it starts
    Migrate {
        #[command(flatten)]
        format: Format,
    },
    /// Copy all of a database to an empty one, and mark the first as moved; with the servers of both stopped
    #[command(
        after_help = "A place is the path of a SQLite file, a URL such as postgres://user@host/database, or \"config\" for \
        the configured database. A command line is seen by every user of the machine: a URL with a password is better in a \
        file, which --from-file or --to-file names. A URL takes sslrootcert=FILE; database.ca_file is used with \"config\" \
        alone.\n\n\
        Accounts, tokens, ids and events stay what they are, so nobody has to log in again. Both are compared by count and \
        digest before it is done, and whatever happens the target is empty or complete. The source stays as it was, but \
        servers and commands refuse it until `authtokens database reopen`.",
        override_usage = "authtokens database copy [OPTIONS] --from <PLACE> --to <PLACE>"
    )]
    Copy {
        #[command(flatten)]
        from: SourceArgs,
        #[command(flatten)]
        to: TargetArgs,
        #[command(flatten)]
        format: Format,
    },
    /// Forget what a lost key has sealed, and make a new key; with the server stopped
    #[command(
        after_help = "Secrets of authenticator apps and webhooks and refresh tokens of providers are sealed with a key that is in no \
        backup: in sealing.key, or in a file beside the database. Without it they are worth nothing. This forgets those that \
        the present key does not open: their accounts log in without an authenticator app, and are told so, and such webhooks \
        are disabled until they are rotated and enabled. Where there is \
        no file, it makes one. It asks first. Without a terminal to ask at, it needs --yes."
    )]
    NewKey {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Use a database again, as it was, that is marked as moved
    #[command(
        after_help = "What happened in the other one since is not in it. It asks first. Without a terminal to ask \
        at, it needs --yes."
    )]
    Reopen {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args)]
#[group(id = "source", required = true, multiple = false)]
struct SourceArgs {
    /// What is copied
    #[arg(long = "from", value_name = "PLACE")]
    from: Option<String>,
    /// A file that holds the URL of what is copied
    #[arg(long = "from-file", value_name = "FILE")]
    from_file: Option<PathBuf>,
}

#[derive(Args)]
#[group(id = "target", required = true, multiple = false)]
struct TargetArgs {
    /// What it is copied to, which must be empty
    #[arg(long = "to", value_name = "PLACE")]
    to: Option<String>,
    /// A file that holds the URL of what it is copied to
    #[arg(long = "to-file", value_name = "FILE")]
    to_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Show every setting as it is in effect and where it was given, as a file that could be read back
    Show {
        #[command(flatten)]
        format: Format,
    },
    /// Check the configuration and the templates of mails, and whether the systemd unit lets the service do what they ask for
    #[command(
        after_help = "The exit code is 2 where anything is wrong. Nothing is connected to; the name of a mail server \
        is looked up where the unit allows some addresses only."
    )]
    Check {
        /// The unit, whose drop-ins are read too; otherwise the one that is installed, where one is
        #[arg(long, value_name = "FILE")]
        unit: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
enum MailCommand {
    /// Send a short mail, and tell what goes wrong
    #[command(after_help = "It is sent as the server would send it, and changes nothing.")]
    Test {
        /// Where to
        #[arg(value_parser = email)]
        address: EmailAddress,
        #[command(flatten)]
        format: Format,
    },
    /// Show a mail with values of nobody's, or all of them
    Preview {
        /// Which mail
        #[arg(value_name = "KIND", value_parser = PossibleValuesParser::new(crate::mail::names()))]
        kind: Option<String>,
        /// Its HTML in the place of its text
        #[arg(long)]
        html: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
enum WebhookCommand {
    /// Send what happens from now on to an address, and show the secret that signs it, once
    Add {
        /// Where to: an address that begins with https://
        url: String,
        /// Only events of this kind; more than once for several
        #[arg(long = "kind", value_name = "KIND", value_parser = webhook_kind)]
        kinds: Vec<EventKind>,
        /// Let it be in a private network or on this machine, there without TLS, too
        #[arg(long)]
        allow_private: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List webhooks, and how far each has got
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Make another secret and show it, once; the former one signs, too, for 24 hours
    Rotate {
        #[command(flatten)]
        webhook: Webhook,
        #[command(flatten)]
        format: Format,
    },
    /// Send a message of the type "test" now, and tell the answer
    #[command(
        after_help = "It changes nothing, and works for a webhook that is disabled, too. The exit code is 1 where the \
        receiver does not take it."
    )]
    Test {
        #[command(flatten)]
        webhook: Webhook,
        #[command(flatten)]
        format: Format,
    },
    /// Send events again that were sent before, with the ids that they had
    // Written out, because clap would show the choice before the id.
    #[command(override_usage = "authtokens webhook replay [OPTIONS] <ID> <--event <N>|--since <TIME>>")]
    Replay {
        #[command(flatten)]
        webhook: Webhook,
        #[command(flatten)]
        which: ReplayArgs,
        #[command(flatten)]
        format: Format,
    },
    /// Send nothing to a webhook any more, until it is enabled
    Disable {
        #[command(flatten)]
        webhook: Webhook,
        #[command(flatten)]
        format: Format,
    },
    /// Send to a webhook again, from where it has stopped
    Enable {
        #[command(flatten)]
        webhook: Webhook,
        #[command(flatten)]
        format: Format,
    },
    /// Remove a webhook, with what waits for it
    #[command(after_help = "It asks first. Without a terminal to ask at, it needs --yes.")]
    Remove {
        #[command(flatten)]
        webhook: Webhook,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List deliveries that have failed, the latest first, with what the receiver has answered
    Log {
        #[command(flatten)]
        webhook: Webhook,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args)]
struct Webhook {
    /// The webhook's id, as `webhook list` shows it
    #[arg(value_parser = webhook_id)]
    id: WebhookId,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct ReplayArgs {
    /// The event of this number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    event: Option<i64>,
    /// Every event since then: a date, or a time such as 2015-01-04T22:51:35Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
}

#[derive(Args)]
struct Name {
    /// The account's name, in any case
    #[arg(value_name = "NAME", value_parser = existing_name)]
    username: Username,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Its id, as `token list` shows it
    #[arg(value_parser = session_id)]
    id: Option<SessionId>,
    /// All of them
    #[arg(long)]
    all: bool,
}

fn new_name(text: &str) -> Result<Username, String> {
    Username::parse(text).map_err(|invalid| format!("a name {}", invalid.rule))
}

fn existing_name(text: &str) -> Result<Username, String> {
    Username::parse_existing(text).map_err(|invalid| format!("a name {}", invalid.rule))
}

fn email(text: &str) -> Result<EmailAddress, String> {
    EmailAddress::parse(text).map_err(|invalid| format!("it {}", invalid.rule))
}

fn webhook_id(text: &str) -> Result<WebhookId, &'static str> {
    WebhookId::parse(text).ok_or("an id is 16 hex digits, as `authtokens webhook list` shows it")
}

fn webhook_kind(text: &str) -> Result<EventKind, String> {
    let kinds = || EventKind::ALL.into_iter().filter(|kind| !kind.is_of_webhooks());
    let known = || kinds().map(EventKind::name).collect::<Vec<_>>().join(", ");
    kinds().find(|kind| kind.name() == text).ok_or_else(|| format!("the kinds are {}", known()))
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::from_rfc3339(text).ok_or("a time is written as 2015-01-04T22:51:35Z, and a date as 2015-01-04")
}

fn service_name(text: &str) -> Result<ServiceName, String> {
    ServiceName::parse(text).map_err(|invalid| format!("a name {}", invalid.rule))
}

fn session_id(text: &str) -> Result<SessionId, &'static str> {
    SessionId::parse(text).ok_or("an id is 16 hex digits, as `authtokens token list` shows it")
}

impl Cli {
    /// Does the command. `serve` is called to serve, with the configuration's warnings.
    ///
    /// # Errors
    /// [`CommandError`], a sentence with an exit code.
    pub fn run(
        mut self,
        serve: impl FnOnce(&Config, &[String]) -> Result<(), Box<dyn std::error::Error>>,
    ) -> Result<(), CommandError> {
        let command = match self.command.take() {
            None => Command::Serve(ServeArgs { listen: None }),
            Some(command) => command,
        };
        match command {
            Command::Serve(args) => {
                let listen = args.listen.or(self.serve.listen.take());
                let (config, settings) = Config::explain(self.settings(listen)?)?;
                // Here, because a wrong key or template is a wrong configuration, which a restart does not mend.
                config::check_store(&config)?;
                crate::accounts::sealing::check_setting(&config)?;
                crate::mail::check(&config)?;
                crate::http::pages::templates::Pages::check(&config)?;
                serve(&config, &config.warnings(&settings)).map_err(CommandError::Serve)
            }
            Command::Healthcheck { listen, format } => {
                let listen = listen.or(self.serve.listen.take());
                let config = self.settings(listen).and_then(Config::from_settings).map_err(Unhealthy::from)?;
                let healthy = healthcheck::check(config.server.listen)?;
                Ok(Output::new(format.form()).print(&healthy, || healthy.to_string())?)
            }
            _ if self.serve.listen.is_some() => {
                Self::command().error(ErrorKind::ArgumentConflict, "--listen is for serving").exit()
            }
            Command::Completions { shell } => print_bytes(&completions(shell)),
            Command::Manual => print_bytes(&manual()?),
            Command::Config(ConfigCommand::Show { format }) => {
                let settings = self.settings(None)?;
                let file = settings.file().map(Path::to_owned);
                let (config, settings) = Config::explain(settings)?;
                let warnings = config.warnings(&settings);
                config::show(&mut Output::new(format.form()), file.as_deref(), &settings, &warnings)
            }
            Command::Config(ConfigCommand::Check { unit, format }) => {
                let settings = self.settings(None)?;
                let file = settings.file().map(Path::to_owned);
                let (config, settings) = Config::explain(settings)?;
                let warnings = config.warnings(&settings);
                config::check(&mut Output::new(format.form()), file.as_deref(), unit.as_deref(), &config, &warnings)
            }
            command => {
                let context = |format: &Format| {
                    let config = Config::from_settings(self.settings(None)?)?;
                    config::check_store(&config)?;
                    Ok(Context { config, output: Output::new(format.form()), clock: Clock::system() })
                };
                run(command.run(context))
            }
        }
    }

    /// Gathers the settings of the file, the environment and the command line.
    fn settings(&self, listen: Option<String>) -> Result<Settings, ConfigError> {
        let flags = [
            listen.map(|value| ("--listen", "server", "listen", value)),
            self.database.clone().map(|value| ("--database", "database", "path", value)),
        ];
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Settings::gather(self.config.as_deref(), variables, flags.into_iter().flatten())
    }
}

impl Command {
    async fn run(self, context: impl FnOnce(&Format) -> Result<Context, ConfigError>) -> Result<(), CommandError> {
        match self {
            Self::User(command) => command.run(context).await,
            Self::Token(TokenCommand::List { name, format }) => {
                token::list(&mut context(&format)?, &name.username).await
            }
            Self::Token(TokenCommand::Revoke { name, which, format }) => {
                let ended = which.id.map_or(Ended::All, Ended::One);
                token::revoke(&mut context(&format)?, &name.username, ended).await
            }
            Self::Service(ServiceCommand::Add { name, format }) => service::add(&mut context(&format)?, &name).await,
            Self::Service(ServiceCommand::List { format }) => service::list(&mut context(&format)?).await,
            Self::Service(ServiceCommand::Revoke { name, format }) => {
                service::revoke(&mut context(&format)?, &name).await
            }
            Self::Events { user, kind, limit, format } => {
                let kind = kind.as_deref().and_then(EventKind::parse);
                let query = EventQuery { username: user, kind, before: None, limit: 0 };
                events::list(&mut context(&format)?, query, limit).await
            }
            Self::Backup { file, replace, format } => {
                let existing = if replace { Existing::Replace } else { Existing::Refuse };
                database::back_up(&mut context(&format)?, file, existing).await
            }
            Self::Restore { file, yes, format } => database::restore(&mut context(&format)?, file, yes).await,
            Self::Check { file, format } => database::check(&mut context(&format)?, file).await,
            Self::CheckProxy { url, connect, upstream, token_file, format } => {
                check_proxy::check(&mut context(&format)?, &url, connect, upstream, token_file.as_deref()).await
            }
            Self::Prune { format } => database::prune(&mut context(&format)?).await,
            Self::Database(command) => command.run(context).await,
            Self::Import(command) => import::import(&mut context(command.format())?, command).await,
            Self::Webhook(command) => command.run(context).await,
            Self::Mail(MailCommand::Test { address, format }) => mail::test(&mut context(&format)?, &address).await,
            Self::Mail(MailCommand::Preview { kind, html, format }) => {
                mail::preview(&mut context(&format)?, kind.as_deref(), html)
            }
            Self::Serve(_) | Self::Config(_) | Self::Healthcheck { .. } | Self::Completions { .. } | Self::Manual => {
                unreachable!("these need no workplace and are done by now")
            }
        }
    }
}

impl WebhookCommand {
    async fn run(self, context: impl FnOnce(&Format) -> Result<Context, ConfigError>) -> Result<(), CommandError> {
        match self {
            Self::Add { url, kinds, allow_private, format } => {
                webhook::add(&mut context(&format)?, &url, kinds, allow_private).await
            }
            Self::List { format } => webhook::list(&mut context(&format)?).await,
            Self::Rotate { webhook, format } => webhook::rotate(&mut context(&format)?, &webhook.id).await,
            Self::Test { webhook, format } => webhook::test(&mut context(&format)?, &webhook.id).await,
            Self::Replay { webhook, which, format } => {
                let since = which.since.unwrap_or(Timestamp::MIN);
                let replay = which.event.map_or(Replay::Since(since), Replay::Event);
                webhook::replay(&mut context(&format)?, &webhook.id, replay).await
            }
            Self::Disable { webhook, format } => webhook::disable(&mut context(&format)?, &webhook.id).await,
            Self::Enable { webhook, format } => webhook::enable(&mut context(&format)?, &webhook.id).await,
            Self::Remove { webhook, yes, format } => webhook::remove(&mut context(&format)?, &webhook.id, yes).await,
            Self::Log { webhook, limit, format } => webhook::log(&mut context(&format)?, &webhook.id, limit).await,
        }
    }
}

impl DatabaseCommand {
    async fn run(self, context: impl FnOnce(&Format) -> Result<Context, ConfigError>) -> Result<(), CommandError> {
        match self {
            Self::Status { format } => database::status(&mut context(&format)?).await,
            Self::Migrate { format } => database::migrate(&mut context(&format)?),
            Self::Copy { from, to, format } => {
                let (from, to) = (Named::new(from.from, from.from_file), Named::new(to.to, to.to_file));
                database::copy(&mut context(&format)?, from, to).await
            }
            Self::NewKey { yes, format } => database::new_key(&mut context(&format)?, yes).await,
            Self::Reopen { yes, format } => database::reopen(&mut context(&format)?, yes).await,
        }
    }
}

impl UserCommand {
    async fn run(self, context: impl FnOnce(&Format) -> Result<Context, ConfigError>) -> Result<(), CommandError> {
        let right = |superuser| if superuser { Right::Superuser } else { Right::Staff };
        match self {
            Self::Create { username, staff, superuser, format } => {
                let rights = Rights { is_staff: staff, is_superuser: superuser };
                user::create(&mut context(&format)?, username, rights).await
            }
            Self::List { search, active, inactive, staff, superuser, limit, format } => {
                let query = UserQuery {
                    search: search.as_deref().map(SearchText::new),
                    is_active: (active || inactive).then_some(active),
                    is_staff: staff.then_some(true),
                    is_superuser: superuser.then_some(true),
                    ..UserQuery::default()
                };
                user::list(&mut context(&format)?, query, limit).await
            }
            Self::Show { name, format } => user::show(&mut context(&format)?, &name.username).await,
            Self::SetPassword { name, format } => user::set_password(&mut context(&format)?, &name.username).await,
            Self::SendReset { name, format } => user::send_reset(&mut context(&format)?, &name.username).await,
            Self::VerifyEmail { name, format } => user::verify_email(&mut context(&format)?, &name.username).await,
            Self::ResetFactors { name, format } => user::reset_factors(&mut context(&format)?, &name.username).await,
            Self::Activate { name, format } => user::set_active(&mut context(&format)?, &name.username, true).await,
            Self::Deactivate { name, format } => user::set_active(&mut context(&format)?, &name.username, false).await,
            Self::Promote { name, superuser, format } => {
                user::set_right(&mut context(&format)?, &name.username, right(superuser), true).await
            }
            Self::Demote { name, superuser, format } => {
                user::set_right(&mut context(&format)?, &name.username, right(superuser), false).await
            }
            Self::Delete { name, yes, format } => user::delete(&mut context(&format)?, &name.username, yes).await,
        }
    }
}

fn print_bytes(bytes: &[u8]) -> Result<(), CommandError> {
    Ok(Output::new(Form::Text).print_bytes(bytes)?)
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "authtokens", &mut script);
    script
}

/// The manual's sections after the commands, in roff.
const SECTIONS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
It is done, or the server was stopped as asked.
.TP
.B 1
It failed; standard error says why.
.TP
.B 2
The usage or the configuration is wrong, or a question could not be asked; nothing was done.
.TP
.B 130
It was interrupted at a question, and nothing was done.
.SH ENVIRONMENT
.TP
.B AUTHTOKENS_CONFIG
The configuration file, where
.B \-\-config
names none.
.TP
.BI AUTHTOKENS__ SECTION __ KEY
A setting; it overrides the file. A list is written with commas.
.TP
.B RUST_LOG
What the server logs: levels, also for single modules, such as
.IR warn ,
.I authtokens=debug
or
.IR authtokens::access=off .
Without it, one line a request.
.TP
.BR NOTIFY_SOCKET ", " LISTEN_FDS ", " LISTEN_PID
How systemd is told that the server is ready, and how it passes a port.
.SH FILES
.TP
.I config.toml
The configuration, in the working folder.
.TP
.I /etc/authtokens/config.toml
The configuration, where there is none in the working folder.
.TP
.I data/authtokens.db
The database, where
.B \-\-database
or [database] path says nothing else. Beside it, with names that start like its own, are SQLite's WAL and its
index, and the locks of running programs.
.TP
.I data/authtokens.key
The key that secrets are sealed with, beside the database, where [sealing] key gives none. It is in no backup.
.TP
.I data/mail
The mails of [mail] transport "folder", where [mail] folder says nothing else.
.TP
.I data/backups
The backups that a server makes by the clock, where [backup] folder says nothing else.
.SH EXAMPLES
Serve, and make an account over HTTP:
.PP
.RS 4
.nf
authtokens &
curl \-H 'Content\-Type: application/json' \e
    \-d '{"username": "AzureDiamond", "password": "hunter2"}' \e
    http://127.0.0.1:8000/api/register
.fi
.RE
.PP
Make the first superuser, with a password that is asked for:
.PP
.RS 4
.nf
authtokens user create Admin \-\-superuser
.fi
.RE
.PP
End all tokens of an account:
.PP
.RS 4
.nf
authtokens token revoke AzureDiamond \-\-all
.fi
.RE
.PP
Copy the database beside a running server, and check the copy:
.PP
.RS 4
.nf
authtokens backup /var/backups/authtokens.db
authtokens check /var/backups/authtokens.db
.fi
.RE
.PP
Move from the SQLite file to PostgreSQL, whose URL is in a file, with the server stopped:
.PP
.RS 4
.nf
authtokens database copy \-\-from data/authtokens.db \-\-to\-file /etc/authtokens/database-url
.fi
.RE
.PP
Try whether mail arrives:
.PP
.RS 4
.nf
authtokens mail test azure@diamond.example
.fi
.RE
.PP
Send what happens to accounts to another service:
.PP
.RS 4
.nf
authtokens webhook add https://diamond.example/hook \-\-kind registered \-\-kind deleted
.fi
.RE
.PP
Listen on another port, by the environment:
.PP
.RS 4
.nf
AUTHTOKENS__SERVER__LISTEN=:9000 authtokens
.fi
.RE
"#;

/// The manual page for the program and all of its commands.
fn manual() -> std::io::Result<Vec<u8>> {
    let mut program = Cli::command();
    program.build();
    let mut page = Vec::new();
    let man = Man::new(program.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend(b".SH COMMANDS\n");
    for command in program.get_subcommands() {
        describe(command, &mut page)?;
    }
    page.extend(SECTIONS.bytes());
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Adds a command and its subcommands: what [`Man`] renders as a page of its own, one heading deeper.
fn describe(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|below| describe(below, page));
    }
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    page.extend(format!(".SS \"{}\"\n", name.replace('-', "\\-")).into_bytes());
    let man = Man::new(command.clone());
    let mut sections = Vec::new();
    man.render_description_section(&mut sections)?;
    man.render_synopsis_section(&mut sections)?;
    man.render_options_section(&mut sections)?;
    man.render_extra_section(&mut sections)?;
    for line in sections.split_inclusive(|byte| *byte == b'\n') {
        // Without section headings, which would end the list of commands.
        page.extend(if line.starts_with(b".SH ") { b".PP\n".as_slice() } else { line });
    }
    Ok(())
}
