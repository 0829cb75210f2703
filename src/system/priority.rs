//! The scheduling priority of a thread.

use rustix::process::{getpriority_process, setpriority_process};

/// Raises the niceness of the calling thread, so that other threads and processes go first. `thread` names it in the
/// log.
pub fn lower_priority(thread: &str, niceness: i32) {
    // Only on Linux is niceness the thread's own; elsewhere it is the whole process's.
    if !cfg!(target_os = "linux") {
        return;
    }
    let lowered = getpriority_process(None).and_then(|own| setpriority_process(None, own + niceness));
    if let Err(error) = lowered {
        log::warn!("{thread} keeps its normal priority: {error}");
    }
}
