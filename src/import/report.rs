//! What the operator is told of an import: counts, conflicts, warnings. Never a hash, a token or a password.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::system::clock::Timestamp;

/// The report, as programs see it.
#[derive(Serialize)]
pub struct Report {
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// Whether it was written. Where it was not, the counts are what a run would do that leaves conflicts out.
    pub written: bool,
    /// What the source is remembered as.
    pub source: String,
    /// What became of the accounts.
    pub accounts: AccountCounts,
    /// What became of the tokens.
    pub tokens: TokenCounts,
    /// How many hashes of each kind the imported accounts have.
    pub passwords: BTreeMap<&'static str, u64>,
    /// What the operator must hear of, an account and a matter each.
    pub warnings: Vec<WarningLine>,
    /// The accounts whose names are not settled.
    pub conflicts: Vec<ConflictLine>,
    /// Sentences about the source as a whole.
    pub notes: Vec<String>,
    /// What comes by itself.
    pub next: Next,
}

/// What became of the accounts.
#[derive(Default, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AccountCounts {
    pub imported: u64,
    /// Those that an earlier run had imported.
    pub already: u64,
    pub conflicts: u64,
    /// By what they are.
    pub left_out: BTreeMap<String, u64>,
}

/// What became of the tokens.
#[derive(Default, Serialize)]
pub struct TokenCounts {
    /// Those that go on working.
    pub carried: u64,
    /// The others, by the reason.
    pub not_carried: BTreeMap<String, u64>,
}

/// A matter of an account.
#[derive(Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WarningLine {
    pub source_id: String,
    pub name: String,
    pub what: String,
}

/// An account whose name is not settled.
#[derive(Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ConflictLine {
    pub source_id: String,
    pub name: String,
    pub reason: &'static str,
    /// The ids of the other accounts of the source that want the name.
    pub with: Vec<String>,
}

/// What comes by itself.
#[derive(Serialize)]
pub struct Next {
    /// When the tokens end that nobody uses; nothing where they never do, or none was carried.
    pub tokens_end_unused: Option<Timestamp>,
}

impl TokenCounts {
    /// Counts tokens that are not carried.
    pub(super) fn leave(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.not_carried.entry(reason.to_owned()).or_default() += count;
        }
    }
}
