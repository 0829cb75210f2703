//! Backups by the clock: one is made when it is due, tried, and the oldest ones make room.
//!
//! When the first one is due follows from the newest good one in the folder, so a restart neither skips one nor makes
//! one too many. From then on the monotonic clock counts, and setting the wall clock neither stops nor hurries them.
//! The work is done by a thread of its own that steps aside for whatever else there is to do.

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

/// How far a backup steps aside: it is in no hurry.
const NICENESS: i32 = 15;

/// The thread that makes them. It is told to stop when this is dropped.
pub struct Backups {
    status: BackupStatus,
    stop: Stop,
    thread: JoinHandle<()>,
    /// Its other end goes away with the thread.
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

    /// How they are doing.
    #[must_use]
    pub fn status(&self) -> BackupStatus {
        self.status.clone()
    }

    /// Tells the thread to stop. A backup that is being made is given up.
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
