//! The commands on the database as a whole: `backup`, `restore`, `check` and `prune`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::cli::context::{CommandError, Context, close, open};
use crate::cli::output::pairs;
use crate::cli::prompt;
use crate::jobs::pruning::{prune_events, prune_sessions};
use crate::passwords::is_well_formed;
use crate::repository::{BackupError, CheckReport, Existing, Progress, RepositoryError, Rules, Stop, open as backend};
use crate::server::application::stop_signal;
use crate::system::blocking;

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// Copies the database to a file.
///
/// # Errors
/// [`CommandError::Backup`], or another.
pub async fn back_up(context: &mut Context, file: PathBuf, existing: Existing) -> Result<(), CommandError> {
    let (database, target) = (context.config.database.clone(), file.clone());
    let report = long(move |stop, progress| backend::back_up(&database, &target, existing, stop, progress)).await?;
    context.tell(&as_json(&file, &report.check), || {
        format!("The backup is whole and on the disk.\n{}", describe(&file, &report.check))
    })
}

/// Replaces the database by a backup; asks first.
///
/// # Errors
/// [`CommandError::Backup`], or another.
pub async fn restore(context: &mut Context, file: PathBuf, yes: bool) -> Result<(), CommandError> {
    let (database, rules) = (context.config.database.path.clone(), rules(context));
    let question = format!("Replace {1} by {0}?", file.display(), database.display());
    prompt::confirm(&question, yes)?;
    let target = context.config.database.clone();
    let report = long(move |stop, progress| backend::restore(&target, &file, &rules, stop, progress)).await?;
    let mut told = as_json(&database, &report.check);
    told.insert("kept".to_owned(), report.kept.as_deref().map(text).into());
    context.tell(&told, || {
        let kept = report.kept.as_ref().map_or_else(
            || "There was no database before.\n".to_owned(),
            |kept| pairs(&[("the database that was there is kept as", text(kept))]),
        );
        format!(
            "The backup is restored, but for codes, links and mails that waited.\n{kept}{}",
            describe(&database, &report.check)
        )
    })
}

/// Reads all of a backup, or of the database, and reports what it holds.
///
/// # Errors
/// [`CommandError::Backup`], or another.
pub async fn check(context: &mut Context, file: Option<PathBuf>) -> Result<(), CommandError> {
    let (database, rules) = (context.config.database.clone(), rules(context));
    let shown = file.clone().unwrap_or_else(|| database.path.clone());
    let report =
        long(move |stop, progress| backend::check(&database, file.as_deref(), Some(&rules), stop, progress)).await?;
    Ok(context.output.print(&as_json(&shown, &report), || format!("It is whole.\n{}", describe(&shown, &report)))?)
}

/// The rules that every row is checked against.
fn rules(context: &Context) -> Rules {
    Rules { now: context.clock.now(), is_hash: is_well_formed }
}

/// Prunes the sessions that have ended by themselves and the events that are too old or too many.
///
/// # Errors
/// See [`CommandError`].
pub async fn prune(context: &mut Context) -> Result<(), CommandError> {
    let now = context.clock.now();
    let repository = open(&context.config, &context.clock, false)?;
    let bar = ProgressBar::new_spinner().with_message("pruning");
    bar.enable_steady_tick(TURN);
    let work = async {
        let sessions = prune_sessions(repository.as_ref(), context.config.tokens.cutoffs_at(now)).await?;
        Ok::<_, RepositoryError>((sessions, prune_events(repository.as_ref(), context.config.events, now).await?))
    };
    let outcome = work.await;
    bar.finish_and_clear();
    close(repository.as_ref()).await;
    let (sessions, events) = outcome?;
    context.tell(&json!({"sessions": sessions, "events": events}), || {
        format!("Deleted {sessions} tokens that had ended and {events} old events.\n")
    })
}

/// Does long work on a thread of its own, with a progress bar at a terminal. When the process is told to stop, it stops
/// the work, so that nothing unfinished is left behind.
async fn long<T: Send + 'static>(
    work: impl FnOnce(&Stop, &mut dyn FnMut(Progress)) -> Result<T, BackupError> + Send + 'static,
) -> Result<T, CommandError> {
    let stop = Stop::default();
    let told = stop_signal().map_err(CommandError::Start)?;
    let asked = stop.clone();
    let working = blocking::run(move || {
        let bar = ProgressBar::new(0).with_style(bar_style());
        let outcome = work(&asked, &mut |progress| show(&bar, progress));
        bar.finish_and_clear();
        outcome
    });
    tokio::pin!(working);
    let outcome = tokio::select! {
        outcome = &mut working => outcome,
        () = told => {
            stop.ask();
            working.await
        }
    };
    Ok(outcome.map_err(|error| CommandError::Start(std::io::Error::other(error)))??)
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("copying {bar:40} {percent}%").unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Copying { done, of } => {
            // A new phase has another length: the file may be checked before it is copied.
            if bar.length() != Some(of) {
                bar.disable_steady_tick();
                bar.set_style(bar_style());
                bar.set_length(of);
            }
            bar.set_position(done);
        }
        Progress::Checking => {
            bar.set_style(ProgressStyle::default_spinner());
            bar.set_message("checking");
            bar.enable_steady_tick(TURN);
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What a file holds, for programs.
fn as_json(file: &Path, report: &CheckReport) -> Map<String, Value> {
    let tables: Map<String, Value> =
        report.tables.iter().map(|table| (table.name.clone(), table.rows.into())).collect();
    let told = [
        ("file", text(file).into()),
        ("size", report.size().into()),
        ("schema_version", report.schema_version.into()),
        ("tables", tables.into()),
    ];
    told.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a file holds, for people.
fn describe(file: &Path, report: &CheckReport) -> String {
    let tables: Vec<String> = report.tables.iter().map(|table| format!("{} {}", table.rows, table.name)).collect();
    pairs(&[
        ("file", text(file)),
        ("size", format!("{} bytes", report.size())),
        ("schema version", report.schema_version.to_string()),
        ("rows", tables.join(", ")),
    ])
}
