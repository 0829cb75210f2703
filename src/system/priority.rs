//! The scheduling priority of a thread.

use rustix::process::{getpriority_process, setpriority_process};

/// Lets the rest of the service, and of the machine, go first.
pub fn lower_priority(thread: &str, niceness: i32) {
    // On Linux this is the calling thread's own niceness; elsewhere it would be the whole process's.
    if !cfg!(target_os = "linux") {
        return;
    }
    let stepped = getpriority_process(None).and_then(|own| setpriority_process(None, own + niceness));
    if let Err(error) = stepped {
        log::warn!("{thread} keeps its normal priority: {error}");
    }
}
