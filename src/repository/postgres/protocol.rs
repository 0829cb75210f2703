//! The rules by which a change is acknowledged, as functions of numbers and times. The watcher goes by them, and the model
//! goes by the same ones; see docs/decisions/0016-leases-across-nodes.md.

use std::time::Duration;

/// How much longer than its lease is waited for another node: its clock may be slower than ours.
const CLOCKS_DIFFER_BY: Duration = Duration::from_millis(10);

/// Whether a node knows of a change: its beat was `read` after the change was committed, and is `seen` to be another one
/// now. The next look after `read` has found the change; with the one after that, it had been told of it.
pub(super) fn has_looked_since(read: i64, seen: i64) -> bool {
    seen >= read + 2
}

/// How long it takes until a lease has run out for certain, from a moment on at which its look had begun.
pub(super) fn runs_out_in(lease: Duration) -> Duration {
    lease + CLOCKS_DIFFER_BY
}

/// Whether all leases of a node have run out: its beat was `read` after the change was committed, and was `seen` to be
/// that one already, `unchanged_for` so long.
pub(super) fn has_run_out(read: i64, seen: i64, unchanged_for: Duration, lease: Duration) -> bool {
    seen == read && unchanged_for >= runs_out_in(lease)
}
