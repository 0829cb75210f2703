//! Mails that somebody without a session asks for: a bounded queue in memory.
//!
//! A request never waits for the mail server, and its answer does not depend on what is stored: it is queued, and that is
//! all. The job that sends mail looks the account up, keeps the limits of each mailbox, makes the code and the link, and
//! sends them. A restart loses what is queued, and its owner asks again: nothing that opens an account is stored.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::domain::one_time::Purpose;
use crate::domain::token::PlainToken;
use crate::domain::user::Username;
use crate::repository::{Recipient, Whom};

/// How many mails wait at most: those that are queued, and those that could not be sent yet.
pub const CAPACITY: usize = 1_024;

/// Whose account a mail is wanted for.
pub enum Requested {
    /// Whoever this is, if anybody.
    Somebody(Whom),
    /// The holder of a session, for its own account.
    Own(Recipient),
    /// Staff, or whoever disowned what a notice tells of. Nobody waits for a code, so the mail has a link alone.
    Entitled(Username),
}

/// A mail that somebody wants.
#[expect(missing_docs, reason = "the names say it")]
pub struct MailRequest {
    pub whom: Requested,
    pub purpose: Purpose,
    /// The request id, which only the client that asks is given.
    pub request: PlainToken,
    pub ip: Option<IpAddr>,
    /// Where the mail's link leads, where not to the service's own page.
    pub link: Option<String>,
}

/// So many requests wait that no more are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{CAPACITY} mails are waiting already")]
pub struct QueueFull;

/// A request that was taken from the queue.
#[expect(missing_docs, reason = "the names say it")]
pub struct QueuedRequest {
    pub request: MailRequest,
    pub slot: QueueSlot,
}

/// The room that a mail takes of [`CAPACITY`], until this is dropped.
pub struct QueueSlot(#[expect(dead_code, reason = "what counts is that it is held")] OwnedSemaphorePermit);

/// The queue.
pub struct MailRequests {
    queue: Mutex<VecDeque<QueuedRequest>>,
    slots: Arc<Semaphore>,
    refused: AtomicU64,
    has_outbox: AtomicBool,
    added: Notify,
}

impl Default for MailRequests {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            slots: Arc::new(Semaphore::new(CAPACITY)),
            refused: AtomicU64::new(0),
            has_outbox: AtomicBool::new(false),
            added: Notify::new(),
        }
    }
}

impl MailRequests {
    /// Adds a request.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn push(&self, request: MailRequest) -> Result<(), QueueFull> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map(QueueSlot).map_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            QueueFull
        })?;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(QueuedRequest { request, slot });
        drop(queue);
        self.added.notify_one();
        Ok(())
    }

    /// Takes the request that has waited longest.
    pub fn pop(&self) -> Option<QueuedRequest> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// How many mails wait, those that were taken from the queue and hold their slot included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        CAPACITY - self.slots.available_permits()
    }

    /// How many requests found the queue full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Says that the store's outbox has something.
    pub fn wake(&self) {
        self.has_outbox.store(true, Ordering::Relaxed);
        self.added.notify_one();
    }

    /// Whether [`MailRequests::wake`] was called since the last call.
    pub fn take_wake(&self) -> bool {
        self.has_outbox.swap(false, Ordering::Relaxed)
    }

    /// Resolves when a request was added, or the outbox has something, since the last call.
    pub async fn added(&self) {
        self.added.notified().await;
    }
}
