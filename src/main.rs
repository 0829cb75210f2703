//! The binary: reads the command line, starts the log, and hands over.

use std::io::{self, Write as _};
use std::process::ExitCode;

use authtokens::cli::Cli;
use authtokens::clock::Clock;
use authtokens::config::Config;
use authtokens::logging;
use authtokens::startup::{Application, stop_signal};
use clap::Parser as _;

fn main() -> ExitCode {
    let config = match Cli::parse().config() {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    logging::start(Clock::system());
    match actix_rt::System::new().block_on(serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

async fn serve(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let stop = stop_signal()?;
    let application = Application::build(config, Clock::system())?;
    application.greet(config);
    application.run_until_stopped(stop).await?;
    Ok(())
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "authtokens: {error}");
    ExitCode::from(code)
}
