//! The limits of request bodies: size, time, and the memory that all bodies in flight share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytesize::ByteSize;

use crate::http::error::ApiError;
use crate::telemetry::metrics::{Metrics, Reason};

/// How large a body may be and how long it may take.
#[derive(Clone)]
pub struct BodyLimits {
    /// The size.
    pub size: ByteSize,
    /// The size of a body with a password.
    pub size_with_password: ByteSize,
    /// The deadline of the body's last byte, from the end of the request's head.
    pub time: Duration,
    /// The memory that all bodies together may take.
    pub budget: Arc<BodyBudget>,
}

/// The memory that bodies in flight share. Bytes are taken as they arrive, and given back when the body has been read.
pub struct BodyBudget {
    size: usize,
    taken: AtomicUsize,
    /// Where rejected bodies are counted; `None` where metrics are off.
    metrics: Option<Arc<Metrics>>,
}

impl BodyBudget {
    /// A body longer than this may not use the last quarter of the budget, so that a few callers with long lists leave
    /// room for logins.
    const SHORT: usize = 16 * 1024;

    /// A budget of this size.
    #[must_use]
    pub fn new(size: ByteSize, metrics: Option<Arc<Metrics>>) -> Self {
        Self { size: usize::try_from(size.as_u64()).unwrap_or(usize::MAX), taken: AtomicUsize::new(0), metrics }
    }

    /// Takes `more` bytes for a body that has taken `already`.
    pub(crate) fn take(&self, already: usize, more: usize) -> Result<(), ApiError> {
        let size = if already + more > Self::SHORT { self.size - self.size / 4 } else { self.size };
        let taken = self.taken.fetch_add(more, Ordering::Relaxed);
        if taken + more > size {
            self.taken.fetch_sub(more, Ordering::Relaxed);
            if let Some(metrics) = &self.metrics {
                metrics.rejected(Reason::BodyBudget);
            }
            return Err(ApiError::Unavailable { retry_after: 1, cause: None });
        }
        Ok(())
    }

    /// Gives back what a body has taken.
    pub(crate) fn give_back(&self, taken: usize) {
        self.taken.fetch_sub(taken, Ordering::Relaxed);
    }
}
