//! The binary: parses the command line and runs the command, or the server.

use std::error::Error;
use std::process::ExitCode;

use authtokens::cli::Cli;
use authtokens::cli::output::printable;
use authtokens::config::Config;
use authtokens::server::application::{Application, outlive_signals, stop_signal};
use authtokens::server::systemd;
use authtokens::system::clock::Clock;
use authtokens::system::watched::WatchedThreads;
use authtokens::telemetry::log::{self, Log};
use clap::Parser as _;
use futures_util::FutureExt as _;

fn main() -> ExitCode {
    outlive_signals();
    let Err(error) = Cli::parse().run(serve) else { return ExitCode::SUCCESS };
    if error.exit_code() != 0 {
        log::tell_at_the_end(&format!("authtokens: {}", printable(&error.to_string())));
    }
    ExitCode::from(error.exit_code())
}

fn serve(config: &Config, warnings: &[String]) -> Result<(), Box<dyn Error>> {
    // Dropped before an error is printed, so that its last lines come first.
    let threads = WatchedThreads::default();
    let log = log::start(Clock::system(), &threads)?;
    actix_rt::System::new().block_on(serve_until_stopped(config, warnings, &log, threads))
}

async fn serve_until_stopped(
    config: &Config,
    warnings: &[String],
    log: &Log,
    threads: WatchedThreads,
) -> Result<(), Box<dyn Error>> {
    let stop = stop_signal()?;
    let application = Application::build_on(systemd::listener()?, config, Clock::system(), threads).await?;
    log.tell(&application.greeting(config));
    for warning in warnings {
        ::log::warn!("{warning}");
    }
    systemd::ready(application.address());
    application.run_until_stopped(stop.map(|()| systemd::stopping())).await?;
    Ok(())
}
