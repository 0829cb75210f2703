//! How the backups are doing, for whoever asks.

use std::sync::{Arc, Mutex, PoisonError};

use crate::jobs::JobStatus;
use crate::system::clock::Timestamp;

/// How the backups are doing. Clones show the same.
#[derive(Clone, Debug)]
pub struct BackupStatus {
    runs: JobStatus,
    figures: Arc<Mutex<BackupFigures>>,
}

/// What there is as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupFigures {
    /// The moment that the newest good backup holds.
    pub last_good: Option<Timestamp>,
    /// How large the last backup that this process made is, in bytes.
    pub size: u64,
}

impl BackupStatus {
    pub(super) fn new(runs: JobStatus) -> Self {
        Self { runs, figures: Arc::default() }
    }

    /// As of now.
    #[must_use]
    pub fn figures(&self) -> BackupFigures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backups that this process made, and those that failed.
    #[must_use]
    pub fn runs(&self) -> &JobStatus {
        &self.runs
    }

    pub(super) fn update(&self, update: impl FnOnce(&mut BackupFigures)) {
        update(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
