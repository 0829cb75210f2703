//! Scheduled backups: one is made when it is due, checked, and the oldest are deleted.
//!
//! The first one is due one interval after the newest good backup in the folder, so a restart neither skips one nor
//! makes one too many. From then on the interval is measured by the monotonic clock: setting the wall clock neither
//! stops nor hurries the backups. A thread of its own does the work, at low priority.

mod folder;
mod schedule;
mod status;

use std::io;
use std::thread::JoinHandle;

use tokio::sync::watch;

pub use crate::jobs::backups::schedule::BackupSettings;
pub use crate::jobs::backups::status::{BackupFigures, BackupStatus};

use crate::jobs::JobRegistry;
use crate::jobs::backups::schedule::Schedule;
use crate::repository::Stop;
use crate::system::clock::Clock;
use crate::system::priority::lower_priority;
use crate::system::watched::WatchedThreads;

/// The niceness of the backup thread: a backup is in no hurry.
const NICENESS: i32 = 15;

/// The backup thread. It is told to stop when this is dropped.
pub struct Backups {
    status: BackupStatus,
    stop: Stop,
    thread: JoinHandle<()>,
    /// Closed when the thread ends.
    ended: watch::Receiver<()>,
}

impl Backups {
    /// Starts the thread, as the job "backup".
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(
        settings: BackupSettings,
        clock: Clock,
        registry: &JobRegistry,
        threads: &WatchedThreads,
    ) -> io::Result<Self> {
        let status = BackupStatus::new(registry.register("backup"));
        let stop = Stop::default();
        let (end, ended) = watch::channel(());
        let mut schedule = Schedule::new(settings, clock, stop.clone(), status.clone());
        let thread = threads.spawn("authtokens backup", move || {
            lower_priority("the backup thread", NICENESS);
            schedule.keep_backing_up();
            drop(end);
        })?;
        Ok(Self { status, stop, thread, ended })
    }

    /// The status, for the metrics.
    #[must_use]
    pub fn status(&self) -> BackupStatus {
        self.status.clone()
    }

    /// Tells the thread to stop. A backup that is under way is given up.
    pub fn tell_to_stop(&self) {
        self.stop.ask();
        self.thread.thread().unpark();
    }

    /// Tells the thread to stop and waits until it has.
    pub async fn stop(&self) {
        self.tell_to_stop();
        let _ = self.ended.clone().changed().await;
    }
}

impl Drop for Backups {
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}
