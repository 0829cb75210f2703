//! Mails that somebody without a session asks for: a bounded queue in memory.
//!
//! A request never waits for the mail server, and its answer does not depend on what is stored: it is queued, and that is
//! all. The job that sends mail looks the account up, keeps the limits of each mailbox, makes the code and the link, and
//! sends them. A restart loses what is queued, and its owner asks again: nothing that opens an account is stored.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;

use crate::domain::one_time::Purpose;
use crate::domain::token::PlainToken;
use crate::domain::user::Username;
use crate::repository::{Recipient, Whom};

/// How many requests wait at most.
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

/// The queue.
#[derive(Default)]
pub struct MailRequests {
    queue: Mutex<VecDeque<MailRequest>>,
    added: Notify,
}

impl MailRequests {
    /// Adds a request.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn push(&self, request: MailRequest) -> Result<(), QueueFull> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= CAPACITY {
            return Err(QueueFull);
        }
        queue.push_back(request);
        drop(queue);
        self.added.notify_one();
        Ok(())
    }

    /// Takes the request that has waited longest.
    pub fn pop(&self) -> Option<MailRequest> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when a request was added since the last call.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Has [`MailRequests::added`] resolve without a request: the store's outbox has something.
    pub fn wake(&self) {
        self.added.notify_one();
    }
}
