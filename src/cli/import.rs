//! `import`: accounts of another system, from its files.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Format;
use crate::cli::context::{CommandError, Context, close, open};
use crate::cli::output::{pairs, printable};
use crate::domain::profile::ProfileField;
use crate::import::plan::{Names, Plan, Rules, decide};
use crate::import::report::Report;
use crate::import::write::write;
use crate::import::{Common, SourceKind, django, pocketbase, remove_copies, renames, supabase};
use crate::repository::Stop;
use crate::server::application::stop_signal;
use crate::system::blocking;

/// How many characters the name of a source may have.
const MAX_SOURCE_CHARS: usize = 64;

/// The systems that accounts can be imported from.
#[derive(Subcommand)]
pub enum ImportCommand {
    /// Import the accounts of a Django site: its SQLite file, `manage.py dumpdata`, or a plain `pg_dump`
    Django(DjangoArgs),
    /// Import the accounts of `PocketBase`: its folder `pb_data`, or the `data.db` in it
    Pocketbase(PocketBaseArgs),
    /// Import the accounts of Supabase: `supabase db dump --data-only`, or auth.users as CSV
    Supabase(SupabaseArgs),
}

/// What `import django` takes.
#[derive(Args)]
pub struct DjangoArgs {
    #[command(flatten)]
    import: ImportArgs,
    /// The table of the users, where its keys do not tell
    #[arg(long, value_name = "TABLE")]
    user_table: Option<String>,
    /// The table of the profiles, where its keys do not tell
    #[arg(long, value_name = "TABLE")]
    profile_table: Option<String>,
    /// Where a list is taken from; otherwise from what is called cellar or wants
    #[arg(long, value_name = "LIST=TABLE|FIELD", value_parser = list_from)]
    items: Vec<(String, String)>,
    /// The time zone of times that have none: TIME_ZONE of a site whose USE_TZ is False
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Make nobody staff or a superuser
    #[arg(long)]
    no_rights: bool,
    /// Carry no tokens: everybody logs in again
    #[arg(long)]
    no_tokens: bool,
    /// SECURE_HASH_ALGORITHM of django-rest-knox, where the site has set one
    #[arg(long, value_name = "ALGORITHM")]
    knox_hash: Option<String>,
}

/// What `import pocketbase` takes.
#[derive(Args)]
pub struct PocketBaseArgs {
    #[command(flatten)]
    import: ImportArgs,
    /// The collection of the accounts
    #[arg(long, value_name = "NAME", default_value = "users")]
    collection: String,
    /// Where a list is taken from; NUMBER is the field of a related record. Otherwise from the fields cellar and wants
    #[arg(long, value_name = "LIST=FIELD[.NUMBER]", value_parser = list_from)]
    items: Vec<(String, String)>,
    /// What becomes of accounts that the source lets in only once they are confirmed
    #[arg(long, value_enum, default_value_t = Unconfirmed::Inactive)]
    unconfirmed: Unconfirmed,
}

/// What `import supabase` takes.
#[derive(Args)]
pub struct SupabaseArgs {
    #[command(flatten)]
    import: ImportArgs,
    /// What becomes of accounts that are not confirmed
    #[arg(long, value_enum, default_value_t = Unconfirmed::Inactive)]
    unconfirmed: Unconfirmed,
}

/// What becomes of accounts that are not confirmed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unconfirmed {
    /// They cannot log in
    Inactive,
    /// They can log in
    Active,
}

/// Which names are taken.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NameRule {
    /// Those that a client could register
    Api,
    /// All of the source's, up to 254 characters
    Source,
}

#[derive(Args)]
struct ImportArgs {
    /// The file, or a folder that holds it
    file: PathBuf,
    /// Do all but the writing; the exit code is that of the run
    #[arg(long)]
    dry_run: bool,
    /// A CSV file with the columns `source_id` and `new_name`, which settles conflicts of names
    #[arg(long, value_name = "FILE")]
    rename: Option<PathBuf>,
    /// Import the others where names are in conflict
    #[arg(long)]
    leave_out_conflicts: bool,
    /// Which names are taken
    #[arg(long, value_enum, default_value_t = NameRule::Api)]
    names: NameRule,
    /// Which of the source's fields is the name
    #[arg(long, value_name = "FIELD")]
    name: Option<String>,
    /// Which of the source's fields a field of the profile is taken from
    #[arg(long, value_name = "OURS=THEIRS", value_parser = field_from)]
    field: Vec<(String, String)>,
    /// Take MD5 and SHA-1 digests of passwords, too, each wrapped at once in a hash of our own, which takes as long as a
    /// registration each
    #[arg(long)]
    weak_hashes: bool,
    /// What the source is remembered as, where two databases of one kind are imported
    #[arg(long, value_name = "NAME", value_parser = source_name)]
    source: Option<String>,
    #[command(flatten)]
    format: Format,
}

fn list_from(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((list @ ("cellar" | "wants"), from)) if !from.is_empty() => Ok((list.to_owned(), from.to_owned())),
        _ => Err("it is cellar= or wants=, and where the list is taken from".to_owned()),
    }
}

fn field_from(text: &str) -> Result<(String, String), String> {
    let names = ProfileField::ALL.map(ProfileField::name);
    match text.split_once('=') {
        Some((ours, theirs)) if names.contains(&ours) && !theirs.is_empty() => Ok((ours.to_owned(), theirs.to_owned())),
        _ => Err(format!("it is one of {}, then =, and a field of the source", names.join(", "))),
    }
}

fn source_name(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_SOURCE_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err(format!("a name is 1 to {MAX_SOURCE_CHARS} visible ASCII characters")) }
}

impl ImportCommand {
    pub(super) fn format(&self) -> &Format {
        match self {
            Self::Django(args) => &args.import.format,
            Self::Pocketbase(args) => &args.import.format,
            Self::Supabase(args) => &args.import.format,
        }
    }

    fn into_source(self) -> (ImportArgs, SourceKind, &'static str) {
        match self {
            Self::Django(args) => {
                let options = django::Options {
                    user_table: args.user_table,
                    profile_table: args.profile_table,
                    timezone: args.timezone,
                    items: args.items,
                    no_rights: args.no_rights,
                    no_tokens: args.no_tokens,
                    knox_hash: args.knox_hash,
                };
                (args.import, SourceKind::Django(options), "django")
            }
            Self::Pocketbase(args) => {
                let options = pocketbase::Options {
                    collection: args.collection,
                    items: args.items,
                    is_unconfirmed_active: args.unconfirmed == Unconfirmed::Active,
                };
                (args.import, SourceKind::PocketBase(options), "pocketbase")
            }
            Self::Supabase(args) => {
                let options = supabase::Options { is_unconfirmed_active: args.unconfirmed == Unconfirmed::Active };
                (args.import, SourceKind::Supabase(options), "supabase")
            }
        }
    }
}

/// Imports accounts.
///
/// # Errors
/// See [`CommandError`].
pub async fn import(context: &mut Context, command: ImportCommand) -> Result<(), CommandError> {
    let (args, kind, default_source) = command.into_source();
    let stop = Stop::default();
    let told = stop_signal().map_err(CommandError::Start)?;
    let now = context.clock.now();
    let renames = args.rename.as_deref().map(renames::read).transpose()?.unwrap_or_else(HashMap::new);
    let rules = Rules {
        source: args.source.unwrap_or_else(|| default_source.to_owned()),
        names: if args.names == NameRule::Source { Names::Source } else { Names::Api },
        renames,
        wraps_weak: args.weak_hashes,
        dry_run: args.dry_run,
        sessions: context.config.tokens,
        now,
    };
    let common = Common { name: args.name, fields: args.field, now };
    let bar = ProgressBar::new_spinner().with_message("reading");
    bar.enable_steady_tick(super::database::TURN);
    let file = args.file;
    let reading = blocking::run_detached("import", move || kind.read(&file, &common));
    tokio::pin!(told);
    let source = tokio::select! {
        source = reading => source.map_err(CommandError::Start)??,
        () = &mut told => {
            remove_copies();
            return Err(CommandError::Interrupted);
        }
    };
    // A trial into a database that is not there yet leaves it so.
    let is_there = context.config.database.url.is_some() || context.config.database.path.exists();
    let store =
        if args.dry_run && !is_there { None } else { Some(open(&context.config, &context.clock, !args.dry_run)?) };
    let cost = context.config.password.bcrypt_cost;
    let work = async {
        let Plan { accounts, report } = decide(source, &rules, store.as_deref()).await?;
        let is_unsettled = !report.conflicts.is_empty() && !args.leave_out_conflicts;
        let store = store.as_deref().filter(|_| !args.dry_run && !is_unsettled);
        let Some(store) = store else { return Ok(report) };
        bar.disable_steady_tick();
        bar.set_style(bar_style());
        bar.set_length(accounts.len() as u64);
        write(Plan { accounts, report }, store, cost, now, &stop, |done| bar.set_position(done)).await
    };
    tokio::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = told => {
            stop.ask();
            work.await
        }
    };
    bar.finish_and_clear();
    if let Some(store) = &store {
        close(store.as_ref()).await;
    }
    let report = outcome?;
    // A name may have been taken while it was written.
    let is_unsettled = !report.conflicts.is_empty() && !args.leave_out_conflicts;
    context.tell(&report, || describe(&report))?;
    if is_unsettled {
        return Err(CommandError::Unsettled {
            count: report.conflicts.len(),
            written: report.written.then_some(report.accounts.imported),
        });
    }
    Ok(())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("importing {bar:40} {pos} of {len}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The report for people: a line a count, then a line a conflict and a warning.
fn describe(report: &Report) -> String {
    let mut counts = vec![
        (if report.written { "imported" } else { "would import" }, report.accounts.imported.to_string()),
        ("imported before", report.accounts.already.to_string()),
        ("conflicts of names", report.accounts.conflicts.to_string()),
    ];
    counts.extend(report.accounts.left_out.iter().map(|(what, count)| ("left out", format!("{count} {what}"))));
    counts.push(("tokens that go on working", report.tokens.carried.to_string()));
    let not_carried = &report.tokens.not_carried;
    counts.extend(not_carried.iter().map(|(why, count)| ("tokens not carried", format!("{count} {why}"))));
    counts.extend(report.passwords.iter().map(|(kind, count)| ("passwords", format!("{count} {kind}"))));
    if let Some(end) = report.next.tokens_end_unused {
        counts.push(("tokens that nobody uses end", end.to_string()));
    }
    let mut text = pairs(&counts);
    for conflict in &report.conflicts {
        let with = if conflict.with.is_empty() { String::new() } else { format!(", with {}", conflict.with.join(" ")) };
        let _ = writeln!(
            text,
            "conflict {}: {} {}{}",
            conflict.reason,
            printable(&conflict.source_id),
            printable(&conflict.name),
            printable(&with)
        );
    }
    for warning in &report.warnings {
        let (what, id) = (printable(&warning.what), printable(&warning.source_id));
        let _ = writeln!(text, "warning {what}: {id} {}", printable(&warning.name));
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {}", printable(note));
    }
    text
}
