//! Writes a plan: batch by batch, each of them durable before the next one begins. Killed at any point and run again, it
//! ends the same, because what was written is remembered with the accounts, in one transaction.

use std::thread;

use crate::import::ImportError;
use crate::import::plan::{Plan, Planned, is_another};
use crate::import::report::{ConflictLine, Report};
use crate::passwords::wrap_weak;
use crate::repository::{ImportOutcome, ImportedAccount, Repository, Stop};
use crate::system::blocking;
use crate::system::clock::Timestamp;

/// How many accounts a transaction has. Another one of a running server waits for it.
const BATCH: usize = 1_000;

/// The same where there are fast digests to wrap, each of which takes as long as a registration.
const WRAPPED_BATCH: usize = 64;

/// Writes all of it, and corrects the report by what became of it. `progress` is told how many accounts are done.
///
/// # Errors
/// See [`ImportError`]. What was written before stays, and is found by the next run.
pub async fn write(
    plan: Plan,
    store: &dyn Repository,
    cost: u32,
    now: Timestamp,
    stop: &Stop,
    progress: impl Fn(u64),
) -> Result<Report, ImportError> {
    let Plan { accounts, mut report } = plan;
    let size = if accounts.iter().any(|planned| planned.weak.is_some()) { WRAPPED_BATCH } else { BATCH };
    let mut left = accounts.into_iter().peekable();
    let mut done = 0;
    while left.peek().is_some() {
        if stop.is_asked() {
            return Err(ImportError::Stopped { done });
        }
        let batch: Vec<Planned> = left.by_ref().take(size).collect();
        let named: Vec<_> = batch
            .iter()
            .map(|planned| {
                let ImportedAccount { source_id, username, tokens, .. } = &planned.account;
                (source_id.clone(), username.as_str().to_owned(), tokens.len())
            })
            .collect();
        let accounts = wrap(batch, cost).await?;
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
async fn wrap(batch: Vec<Planned>, cost: u32) -> Result<Vec<ImportedAccount>, ImportError> {
    if batch.iter().all(|planned| planned.weak.is_none()) {
        return Ok(batch.into_iter().map(|planned| planned.account).collect());
    }
    let wrapped = blocking::run(move || {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = batch.len().div_ceil(threads).max(1);
        let mut batch: Vec<Planned> = batch;
        thread::scope(|scope| {
            for some in batch.chunks_mut(share) {
                scope.spawn(move || some.iter_mut().for_each(|planned| wrap_one(planned, cost)));
            }
        });
        batch.into_iter().map(|planned| planned.account).collect()
    });
    wrapped.await.map_err(|_| ImportError::new("a password could not be hashed"))
}

fn wrap_one(Planned { account, weak }: &mut Planned, cost: u32) {
    if let Some((hash, work)) = weak.as_deref().and_then(|weak| wrap_weak(weak, cost)) {
        (account.password_hash, account.hash_work) = (hash, Some(work));
    }
}
