//! The status of the scheduled backups, for the metrics.

use std::sync::{Arc, Mutex, PoisonError};

use crate::jobs::JobStatus;
use crate::system::clock::Timestamp;

/// The status of the backups. Clones show the same.
#[derive(Clone, Debug)]
pub struct BackupStatus {
    runs: JobStatus,
    figures: Arc<Mutex<BackupFigures>>,
}

/// The figures as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupFigures {
    /// The time of the newest good backup's snapshot.
    pub last_good: Option<Timestamp>,
    /// The size in bytes of the last backup that this process made.
    pub size: u64,
}

impl BackupStatus {
    pub(super) fn new(runs: JobStatus) -> Self {
        Self { runs, figures: Arc::default() }
    }

    /// The figures as of now.
    #[must_use]
    pub fn figures(&self) -> BackupFigures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many backups this process has made, and how many failed.
    #[must_use]
    pub fn runs(&self) -> &JobStatus {
        &self.runs
    }

    pub(super) fn update(&self, update: impl FnOnce(&mut BackupFigures)) {
        update(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
