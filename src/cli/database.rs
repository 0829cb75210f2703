//! The commands on the database as a whole: `backup`, `restore`, `check`, `prune` and `database …`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::accounts::sealing::{self, KeyPlace};
use crate::cli::context::{CommandError, Context, close, open};
use crate::cli::output::{pairs, printable};
use crate::cli::prompt;
use crate::config::secret::{self, Secret};
use crate::jobs::pruning::{prune_events, prune_sessions};
use crate::passwords::is_well_formed;
use crate::repository::open::{Migrated, Place};
use crate::repository::{
    CheckReport, ClusterStatus, CopyReport, Existing, Progress, RepositoryError, Rules, SealedSecrets, Stop,
    StoreStatus, open as backend,
};
use crate::server::application::stop_signal;
use crate::system::blocking;

/// The word for the configured database in the place of a path.
const CONFIGURED: &str = "config";

/// How often a spinner turns.
pub(super) const TURN: Duration = Duration::from_millis(100);

/// Copies the database to a file.
///
/// # Errors
/// [`CommandError::Backup`], or another.
pub async fn back_up(context: &mut Context, file: PathBuf, existing: Existing) -> Result<(), CommandError> {
    let (database, target) = (context.config.database.clone(), file.clone());
    let report = long(move |stop, progress| backend::back_up(&database, &target, existing, stop, progress)).await?;
    let apart = match KeyPlace::of(&context.config) {
        _ if report.check.sealed.is_empty() => String::new(),
        place => format!(
            "Its sealed secrets are worth nothing without their key, which is not in it: keep {} apart.\n",
            printable(&place.to_string())
        ),
    };
    context.tell(&as_json(&file, &report.check), || {
        format!("The backup is whole and on the disk.\n{}{apart}", describe(&file, &report.check))
    })
}

/// What is wrong with the key of the configuration for what a file holds; `None` where it opens all.
fn key_warning(context: &Context, report: &CheckReport) -> Option<String> {
    let warning = match sealing::read(&context.config) {
        Ok(key) => {
            let lost = report.sealed_with_others(key.as_ref().map(|key| key.id().as_slice()));
            sealing::mismatch(&context.config, key.as_ref(), lost)?
        }
        Err(_) if report.sealed.is_empty() => return None,
        Err(error) => error,
    };
    Some(warning.to_string())
}

/// A warning as a line of its own.
fn warned(warning: Option<&str>) -> String {
    warning.map(|warning| format!("Warning: {}.\n", printable(warning))).unwrap_or_default()
}

/// Replaces the database by a backup; asks first.
///
/// # Errors
/// [`CommandError::Backup`], or another.
pub async fn restore(context: &mut Context, file: PathBuf, yes: bool) -> Result<(), CommandError> {
    backend::require_file(&context.config.database)?;
    let (database, rules) = (context.config.database.path.clone(), rules(context));
    let question = format!("Replace {1} by {0}?", file.display(), database.display());
    prompt::confirm(&question, yes)?;
    let target = context.config.database.clone();
    let report = long(move |stop, progress| backend::restore(&target, &file, &rules, stop, progress)).await?;
    let mut told = as_json(&database, &report.check);
    told.insert("kept".to_owned(), report.kept.as_deref().map(text).into());
    let warning = key_warning(context, &report.check);
    told.insert("warning".to_owned(), warning.clone().into());
    context.tell(&told, || {
        let kept = report.kept.as_ref().map_or_else(
            || "There was no database before.\n".to_owned(),
            |kept| pairs(&[("the database that was there is kept as", text(kept))]),
        );
        format!(
            "The backup is restored, but for codes, links and mails that waited.\n{kept}{}{}",
            describe(&database, &report.check),
            warned(warning.as_deref())
        )
    })
}

/// Reads all of a backup, or of the database, and reports what it holds.
///
/// # Errors
/// [`CommandError::Backup`], or another.
pub async fn check(context: &mut Context, file: Option<PathBuf>) -> Result<(), CommandError> {
    let database = context.config.database.clone();
    // What is wrong with the key is told as a warning.
    let key = sealing::read(&context.config).ok().flatten().map(Arc::new);
    let rules = Rules { key, ..rules(context) };
    let shown = file.clone().unwrap_or_else(|| database.path.clone());
    let report =
        long(move |stop, progress| backend::check(&database, file.as_deref(), Some(&rules), stop, progress)).await?;
    let warning = key_warning(context, &report);
    let mut told = as_json(&shown, &report);
    told.insert("warning".to_owned(), warning.clone().into());
    let text = || format!("It is whole.\n{}{}", describe(&shown, &report), warned(warning.as_deref()));
    Ok(context.output.print(&told, text)?)
}

/// The rules that every row is checked against. A restore opens no secrets: a copy with one that is damaged is better than
/// none.
fn rules(context: &Context) -> Rules {
    Rules { now: context.clock.now(), is_hash: is_well_formed, key: None }
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

/// A database as the command line names it.
pub enum Named {
    /// A path, a URL, or the word for the configured one.
    Place(String),
    /// A file that holds the URL.
    UrlFile(PathBuf),
}

impl Named {
    /// What was given; the command line has made sure that one of the two was.
    pub(super) fn new(place: Option<String>, url_file: Option<PathBuf>) -> Self {
        url_file.map_or_else(|| Self::Place(place.unwrap_or_default()), Self::UrlFile)
    }

    fn find(self, context: &Context) -> Result<Place, CommandError> {
        let is_url = |text: &str| text.starts_with("postgres://") || text.starts_with("postgresql://");
        match self {
            Self::Place(place) if place == CONFIGURED => Ok(Place::configured(&context.config.database)),
            Self::Place(place) if is_url(&place) => Ok(Place::Url(Secret::from(place), None)),
            // Of a URL only its scheme is shown: there may be a password in it.
            Self::Place(place) if place.is_empty() || place.contains("://") => {
                let scheme = place.split("://").next().unwrap_or_default();
                Err(CommandError::Place(format!("\"{scheme}{}\"", if place.is_empty() { "" } else { "://…" })))
            }
            Self::Place(place) => Ok(Place::File(place.into())),
            Self::UrlFile(path) => {
                let (url, _) =
                    secret::read_file(&path).map_err(|why| CommandError::UrlFile { path: path.clone(), why })?;
                if !is_url(&url) {
                    let why = "holds no URL that begins with postgres://".to_owned();
                    return Err(CommandError::UrlFile { path, why });
                }
                Ok(Place::Url(Secret::from(url.to_string()), None))
            }
        }
    }
}

/// Copies all of a database to another one.
///
/// # Errors
/// [`CommandError::Move`], or another.
pub async fn copy(context: &mut Context, from: Named, to: Named) -> Result<(), CommandError> {
    let (from, to) = (from.find(context)?, to.find(context)?);
    let report = long(move |stop, progress| backend::copy(&from, &to, stop, progress)).await?;
    let tables: Map<String, Value> = report
        .tables
        .iter()
        .map(|table| (table.name.to_owned(), json!({"rows": table.rows, "digest": table.digest})))
        .collect();
    context.tell(&json!({"from": report.from, "to": report.to, "tables": tables}), || describe_copy(&report))
}

/// The tables with sealed secrets.
const SEALED: [&str; 4] = ["totp", "identities", "revocations", "webhooks"];

fn describe_copy(report: &CopyReport) -> String {
    let CopyReport { from, to, tables } = report;
    let lines: Vec<_> = tables.iter().map(|table| (table.name, format!("{} {}", table.digest, table.rows))).collect();
    format!(
        "All of {} is in {}, durably, and was read again there: digests and rows are the same.\n{}\
         The first is marked as moved; servers and commands refuse it from now on.\n{}",
        printable(from),
        printable(to),
        pairs(&lines),
        if tables.iter().any(|table| SEALED.contains(&table.name) && table.rows > 0) {
            "Sealed secrets stay sealed with the same key: give it there, in sealing.key or in the file beside the database.\n"
        } else {
            ""
        }
    )
}

/// Brings the schema up to date.
///
/// # Errors
/// See [`CommandError`].
pub fn migrate(context: &mut Context) -> Result<(), CommandError> {
    let Migrated { store, from, to, upgrade } = backend::migrate(&context.config, context.clock.now())?;
    context.tell(&json!({"database": store, "from": from, "to": to}), || {
        let done = match (from, upgrade) {
            (None, _) => format!("the schema of {store} was made, of version {to}"),
            (Some(_), Some(upgrade)) => upgrade.to_string(),
            (Some(_), None) => format!("the schema of {store} is up to date, of version {to}"),
        };
        format!("{}\n", printable(&done))
    })
}

/// Tells which database is configured and what it holds.
///
/// # Errors
/// See [`CommandError`].
pub async fn status(context: &mut Context) -> Result<(), CommandError> {
    let config = context.config.clone();
    let status = long(move |_, _| backend::status(&config)).await?;
    Ok(context.output.print(&status_as_json(&status), || describe_status(&status))?)
}

fn status_as_json(status: &StoreStatus) -> Value {
    let tables: Map<String, Value> =
        status.tables.iter().map(|table| (table.name.clone(), table.rows.into())).collect();
    let mut told = json!({
        "database": status.store,
        "engine": status.engine,
        "schema_version": status.schema_version,
        "newest_version": status.newest_version,
        "is_migration_due": status.is_migration_due(),
        "moved_to": status.moved_to,
        "tables": tables,
    });
    if let Some(cluster) = &status.cluster {
        let nodes: Vec<_> = cluster
            .nodes
            .iter()
            .map(|node| json!({"lease_ms": millis(node.lease), "lag_ms": millis(node.lag)}))
            .collect();
        let standbys: Vec<_> =
            cluster.standbys.iter().map(|one| json!({"name": one.name, "sync_state": one.sync_state})).collect();
        told["nodes"] = nodes.into();
        told["changes_in_feed"] = cluster.changes.into();
        told["synchronous_commit"] = cluster.synchronous_commit.clone().into();
        told["synchronous_standby_names"] = cluster.synchronous_standby_names.clone().into();
        told["standbys"] = standbys.into();
    }
    told
}

fn describe_status(status: &StoreStatus) -> String {
    let newest = status.newest_version;
    let schema = match status.schema_version {
        None => "none yet: run authtokens database migrate".to_owned(),
        Some(version) if version < newest => format!("version {version}; a migration to {newest} is due"),
        Some(version) if version > newest => format!("version {version}, of a newer release"),
        Some(version) => format!("version {version}, up to date"),
    };
    let tables: Vec<_> = status.tables.iter().map(|table| format!("{} {}", table.rows, table.name)).collect();
    let mut told = vec![("database", status.store.clone()), ("engine", status.engine.clone()), ("schema", schema)];
    if let Some(to) = &status.moved_to {
        told.push(("moved to", to.clone()));
    }
    told.push(("rows", tables.join(", ")));
    if let Some(cluster) = &status.cluster {
        told.extend(describe_cluster(cluster));
    }
    pairs(&told)
}

fn describe_cluster(cluster: &ClusterStatus) -> [(&'static str, String); 4] {
    let or_none = |texts: Vec<String>| if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
    let nodes = cluster
        .nodes
        .iter()
        .map(|node| format!("one that looks every {} ms, with a lease of {} ms", millis(node.lag), millis(node.lease)));
    let standbys = cluster.standbys.iter().map(|standby| {
        format!("{} ({})", standby.name, standby.sync_state.as_deref().unwrap_or("not visible to this role"))
    });
    let names = &cluster.synchronous_standby_names;
    let names = if names.is_empty() { "no synchronous standbys" } else { names };
    [
        ("nodes", or_none(nodes.collect())),
        ("feed", format!("{} changes", cluster.changes)),
        ("durability", format!("synchronous_commit = {}, {names}", cluster.synchronous_commit)),
        ("standbys", or_none(standbys.collect())),
    ]
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Forgets what the present key does not open, and makes a key where there is none; asks first.
///
/// # Errors
/// See [`CommandError`].
pub async fn new_key(context: &mut Context, yes: bool) -> Result<(), CommandError> {
    // It makes no database, and none is changed that a server is using: that one would go on sealing with its own key.
    close(open(&context.config, &context.clock, false)?.as_ref()).await;
    let database = context.config.database.clone();
    long(move |_, _| backend::refuse_users(&database)).await?;
    let (is_made, forgotten) = replace_and_forget(context, yes).await?;
    let place = KeyPlace::of(&context.config).to_string();
    let told = json!({
        "key": place,
        "is_new": is_made,
        "forgotten": {
            "totp": forgotten.totp,
            "refresh_tokens": forgotten.refresh_tokens,
            "webhooks": forgotten.webhooks,
        },
    });
    context.tell(&told, || {
        let anew = if forgotten.totp > 0 { " Owners of authenticator apps must set them up anew." } else { "" };
        let lost = if forgotten.is_empty() {
            "Nothing was sealed with another key, and nothing was forgotten.".to_owned()
        } else {
            format!("{forgotten} that could not be opened: forgotten.{anew}")
        };
        let key = if is_made {
            format!("There is a new key in {place}. It is in no backup: keep a copy of it apart.")
        } else {
            format!("The key in {place} stays as it was.")
        };
        format!("{}\n{}\n", printable(&lost), printable(&key))
    })
}

/// Whether a key was made, and what was sealed with other keys and is forgotten.
async fn replace_and_forget(context: &Context, yes: bool) -> Result<(bool, SealedSecrets), CommandError> {
    let (config, now) = (&context.config, context.clock.now());
    let mut repository = backend::open(config, now)?;
    let outcome = async {
        let key = sealing::read(config)?;
        let lost = sealing::count_lost(repository.as_ref(), key.as_ref()).await?;
        if !lost.is_empty() {
            prompt::confirm(&format!("Forget {lost}, for good?"), yes)?;
        }
        let replaced = sealing::replace_key(config, repository.as_ref()).await?;
        // A file is this command's alone. On a database a server may have started while the question was asked: it is
        // looked for once no other can start.
        if config.database.url.is_some() {
            close(repository.as_ref()).await;
            let database = config.database.clone();
            let used = long(move |_, _| backend::refuse_users(&database)).await;
            match (used, backend::open(config, now)) {
                (Ok(()), opened) => repository = opened?,
                (Err(error), opened) => {
                    if let Ok(opened) = opened {
                        repository = opened;
                        replaced.put_back(repository.as_ref()).await?;
                    }
                    return Err(error);
                }
            }
        }
        Ok((replaced.is_made, replaced.forget_lost(repository.as_ref(), now).await?))
    };
    let outcome = outcome.await;
    close(repository.as_ref()).await;
    outcome
}

/// Takes away the mark that says that the database was moved; asks first.
///
/// # Errors
/// [`CommandError::Move`], or another.
pub async fn reopen(context: &mut Context, yes: bool) -> Result<(), CommandError> {
    let config = context.config.clone();
    let shown = backend::shown(&config.database);
    prompt::confirm(&format!("Use {shown} again, without what happened in the other one?"), yes)?;
    let moved_to = long(move |_, _| backend::reopen(&config)).await?;
    context.tell(&json!({"database": shown, "was_moved_to": moved_to}), || match &moved_to {
        Some(to) => format!("{} is used again. Let no server use {} any more.\n", printable(&shown), printable(to)),
        None => format!("{} is not marked as moved; nothing was done.\n", printable(&shown)),
    })
}

/// Does long work on a thread of its own, with a progress bar at a terminal. When the process is told to stop, it stops
/// the work, so that nothing unfinished is left behind.
async fn long<T: Send + 'static, E: Into<CommandError> + Send + 'static>(
    work: impl FnOnce(&Stop, &mut dyn FnMut(Progress)) -> Result<T, E> + Send + 'static,
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
    outcome.map_err(|error| CommandError::Start(std::io::Error::other(error)))?.map_err(Into::into)
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
