//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Settings};

/// Accounts and revocable tokens for small apps: one binary, one SQLite file, no set-up.
#[derive(Parser)]
#[command(
    version,
    about,
    args_conflicts_with_subcommands = true,
    after_help = "Without a command, authtokens serves. Every setting has a default; config.toml explains them all.\n\
        The environment overrides the file: AUTHTOKENS__SERVER__LISTEN=127.0.0.1:9000 authtokens\n\n\
        Try it:\n  authtokens &\n  curl -H 'Content-Type: application/json' -d '{\"username\": \"AzureDiamond\", \
        \"password\": \"hunter2\"}' \\\n    http://127.0.0.1:8000/api/register\n\n\
        Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage or configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API until told to stop (the default)
    Serve(ServeArgs),
}

#[derive(Args)]
struct ServeArgs {
    /// The configuration file; without it, config.toml in the working folder where there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address and port to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The SQLite file that keeps the accounts
    #[arg(long, value_name = "FILE")]
    database: Option<String>,
}

impl Cli {
    /// The configuration that the command line, the environment and the file make together.
    ///
    /// # Errors
    /// [`ConfigError`], naming the source that is wrong.
    pub fn config(self) -> Result<Config, ConfigError> {
        let args = match self.command {
            Some(Command::Serve(args)) => args,
            None => self.serve,
        };
        let flags = [
            args.listen.map(|value| ("--listen", "server", "listen", value)),
            args.database.map(|value| ("--database", "database", "path", value)),
        ];
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Config::from_settings(Settings::gather(args.config.as_deref(), variables, flags.into_iter().flatten())?)
    }
}
