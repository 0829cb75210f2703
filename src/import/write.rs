//! Writes a plan: batch by batch, each of them durable before the next one begins. Killed at any point and run again, it
//! ends the same, because what was written is remembered with the accounts, in one transaction.

use std::future::pending;
use std::iter::Peekable;

use futures_util::future::try_join_all;

use crate::import::ImportError;
use crate::import::plan::{Plan, Planned, is_another};
use crate::import::report::{ConflictLine, Report};
use crate::passwords::{ImportedHash, Passwords};
use crate::repository::{ImportOutcome, ImportedAccount, Repository, Stop};
use crate::system::clock::Timestamp;

/// How many accounts a transaction has at most, and how many rows of their lists and tokens. SQLite has one writer: what a
/// running server writes waits for the transaction, and comes before the next one, because a command's change is
/// acknowledged when a running server has noticed it.
const ACCOUNTS: usize = 250;
const ROWS: usize = 5_000;

/// How many fast digests are wrapped for a transaction at most, each of which takes as long as a registration.
pub const WRAPPED: usize = 64;

/// Writes all of it, and corrects the report by what became of it. `progress` is told how many accounts are done.
///
/// # Errors
/// See [`ImportError`]. What was written before stays, and is found by the next run.
pub async fn write(
    plan: Plan,
    store: &dyn Repository,
    passwords: &Passwords,
    now: Timestamp,
    stop: &Stop,
    progress: impl Fn(u64),
) -> Result<Report, ImportError> {
    let Plan { accounts, mut report } = plan;
    let mut left = accounts.into_iter().peekable();
    let mut done = 0;
    while left.peek().is_some() {
        if stop.is_asked() {
            return Err(ImportError::Stopped { done });
        }
        let batch = next_batch(&mut left);
        let named: Vec<_> = batch
            .iter()
            .map(|planned| {
                let ImportedAccount { source_id, username, tokens, .. } = &planned.account;
                (source_id.clone(), username.as_str().to_owned(), tokens.len())
            })
            .collect();
        let accounts = wrap(batch, passwords).await?;
        let outcomes = store.import_accounts(&report.source, accounts, now).await?;
        done += named.len() as u64;
        for ((id, name, tokens), outcome) in named.into_iter().zip(outcomes) {
            correct(&mut report, id, name, tokens as u64, outcome)?;
        }
        progress(done);
    }
    report.written = true;
    Ok(report)
}

/// The accounts of the next transaction, at least one.
fn next_batch(left: &mut Peekable<impl Iterator<Item = Planned>>) -> Vec<Planned> {
    let (mut batch, mut rows, mut wrapped) = (Vec::new(), 0, 0);
    while batch.len() < ACCOUNTS
        && wrapped < WRAPPED
        && let Some(planned) = left.next_if(|next| batch.is_empty() || rows + rows_of(&next.account) <= ROWS)
    {
        rows += rows_of(&planned.account);
        wrapped += usize::from(planned.weak.is_some());
        batch.push(planned);
    }
    batch
}

fn rows_of(account: &ImportedAccount) -> usize {
    account.cellar.len() + account.wants.len() + account.tokens.len()
}

/// Corrects what the plan has counted where an account was not written after all, or not with all of its tokens.
fn correct(
    report: &mut Report,
    source_id: String,
    name: String,
    tokens: u64,
    outcome: ImportOutcome,
) -> Result<(), ImportError> {
    let reason = match outcome {
        ImportOutcome::Imported { tokens: written } => {
            let taken = tokens.saturating_sub(written as u64);
            report.tokens.carried -= taken;
            report.tokens.leave("token_taken", taken);
            return Ok(());
        }
        ImportOutcome::Another => return Err(is_another(&source_id, &report.source)),
        ImportOutcome::Already => {
            report.accounts.already += 1;
            "already"
        }
        // Somebody has registered it since the plan was made.
        ImportOutcome::NameTaken => {
            report.conflicts.push(ConflictLine { source_id, name, reason: "name_taken", with: Vec::new() });
            report.accounts.conflicts += 1;
            "conflict"
        }
    };
    report.accounts.imported -= 1;
    report.tokens.carried -= tokens;
    report.tokens.leave(reason, tokens);
    Ok(())
}

/// Wraps the fast digests of a batch in hashes of our own, which takes as long as that many registrations.
async fn wrap(batch: Vec<Planned>, passwords: &Passwords) -> Result<Vec<ImportedAccount>, ImportError> {
    let wrapping = batch.into_iter().map(async |Planned { mut account, weak }| {
        if let Some(weak) = weak
            && let Some(ImportedHash::Verifiable { hash, work }) = passwords.wrap(&weak, pending()).await?
        {
            (account.password_hash, account.hash_work) = (hash, Some(work));
        }
        Ok(account)
    });
    try_join_all(wrapping).await
}
