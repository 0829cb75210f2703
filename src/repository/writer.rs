//! The one writer: a thread that owns the only connection allowed to change the file.
//!
//! SQLite lets one transaction write at a time. A single thread behind a bounded queue makes that a rule instead of a
//! contest for the lock, and lets it commit what has queued up meanwhile in one transaction: each piece of work runs in
//! a savepoint of its own, so that one may fail alone, and each is answered only after the COMMIT that makes it durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use thiserror::Error;
use tokio::sync::oneshot;

use super::{Cause, RepositoryError};

/// How much work may wait. Beyond it the store says so at once instead of letting every client wait longer.
const QUEUE: usize = 1024;

/// How many pieces of work share one commit at most, so that the first of them does not wait for ever.
const BATCH: usize = 256;

#[derive(Debug, Error)]
enum WriterError {
    #[error("{QUEUE} writes are waiting already")]
    QueueFull,
    #[error("the writer has stopped")]
    Stopped,
    #[error("the work panicked")]
    Panicked,
    #[error("SQLite ended the transaction")]
    RolledBack,
}

impl From<WriterError> for Cause {
    fn from(error: WriterError) -> Self {
        std::sync::Arc::new(error)
    }
}

/// The way to the writer's thread.
pub(super) struct Writer {
    queue: SyncSender<Message>,
}

enum Message {
    Work(Box<dyn Work>),
    Close(oneshot::Sender<Result<(), RepositoryError>>),
}

/// A piece of work, without the type of its result.
trait Work: Send {
    /// Does it; `false` when what it did must be undone.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers whoever asked, once it is known what became of the transaction.
    fn answer(self: Box<Self>, transaction: Result<(), RepositoryError>);
}

struct Task<F, T> {
    work: Option<F>,
    outcome: Option<Result<T, RepositoryError>>,
    reply: oneshot::Sender<Result<T, RepositoryError>>,
}

impl<F, T> Work for Task<F, T>
where
    F: FnOnce(&Connection) -> Result<T, RepositoryError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(connection)))
            .unwrap_or_else(|_| Err(RepositoryError::Backend(WriterError::Panicked.into())));
        self.outcome.insert(outcome).is_ok()
    }

    fn answer(self: Box<Self>, transaction: Result<(), RepositoryError>) {
        let answer = match (self.outcome, transaction) {
            // Its own failure stands, whatever became of the others' transaction: it changed nothing either way.
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(RepositoryError::Unavailable(WriterError::Stopped.into())),
        };
        // Whoever asked may be gone; the work is done all the same.
        let _ = self.reply.send(answer);
    }
}

impl Writer {
    /// Starts the thread. `map_error` is the backend's reading of SQLite's errors.
    pub(super) fn start(
        connection: Connection,
        map_error: impl Fn(rusqlite::Error) -> RepositoryError + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("authtokens writer".to_owned())
            .spawn(move || serve(connection, messages, &map_error))?;
        Ok(Self { queue })
    }

    /// Queues `work` and waits until it is committed.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Work(Box::new(Task { work: Some(work), outcome: None, reply })))?;
        // No answer can only mean that the thread ended in the middle of the work.
        answer.await.unwrap_or_else(|_| Err(RepositoryError::OutcomeUnknown(WriterError::Stopped.into())))
    }

    /// Finishes the work that is queued, moves the log into the file and closes the connection.
    pub(super) async fn close(&self) -> Result<(), RepositoryError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Close(reply))?;
        answer.await.unwrap_or_else(|_| Err(RepositoryError::Unavailable(WriterError::Stopped.into())))
    }

    fn send(&self, message: Message) -> Result<(), RepositoryError> {
        self.queue.try_send(message).map_err(|error| {
            RepositoryError::Unavailable(match error {
                TrySendError::Full(_) => WriterError::QueueFull.into(),
                TrySendError::Disconnected(_) => WriterError::Stopped.into(),
            })
        })
    }
}

fn serve(connection: Connection, messages: Receiver<Message>, map_error: &impl Fn(rusqlite::Error) -> RepositoryError) {
    let mut closing = None;
    while closing.is_none() {
        let Ok(first) = messages.recv() else { break };
        let mut batch = Vec::new();
        for message in std::iter::once(first).chain(messages.try_iter().take(BATCH - 1)) {
            match message {
                Message::Work(work) => batch.push(work),
                Message::Close(reply) => {
                    closing = Some(reply);
                    break;
                }
            }
        }
        if !batch.is_empty() {
            commit_together(&connection, batch, map_error);
        }
    }
    let closed = checkpoint(&connection).and_then(|()| connection.close().map_err(|(_, error)| error));
    let closed = closed.map_err(map_error);
    // What was queued behind the end was never begun; what comes from now on finds the queue gone.
    for message in messages.try_iter() {
        if let Message::Work(work) = message {
            work.answer(Err(RepositoryError::Unavailable(WriterError::Stopped.into())));
        }
    }
    drop(messages);
    if let Some(reply) = closing {
        let _ = reply.send(closed);
    }
}

/// Moves the log into the file, if nobody else holds it: the next start reads the log just as well.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(100))?;
    let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    Ok(())
}

fn commit_together(
    connection: &Connection,
    mut batch: Vec<Box<dyn Work>>,
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) {
    let transaction = transact(connection, &mut batch, map_error);
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        log::error!("a transaction could not be rolled back: {error}");
    }
    for work in batch {
        work.answer(transaction.clone());
    }
}

fn transact(
    connection: &Connection,
    batch: &mut [Box<dyn Work>],
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) -> Result<(), RepositoryError> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(map_error)?;
    for work in batch {
        connection.execute_batch("SAVEPOINT work").map_err(map_error)?;
        let keep = work.run(connection);
        if connection.is_autocommit() {
            // A full disk or a failed write makes SQLite undo everything, not only the statement that met it.
            return Err(RepositoryError::Unavailable(WriterError::RolledBack.into()));
        }
        if !keep {
            connection.execute_batch("ROLLBACK TO work").map_err(map_error)?;
        }
        connection.execute_batch("RELEASE work").map_err(map_error)?;
    }
    connection.execute_batch("COMMIT").map_err(|error| commit_error(error, map_error))
}

/// A COMMIT that fails for want of space or of the lock has changed nothing. One that fails while the disk is written
/// may have got far enough to be found by the next start.
fn commit_error(error: rusqlite::Error, map_error: &impl Fn(rusqlite::Error) -> RepositoryError) -> RepositoryError {
    let failed_while_writing = error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
    match map_error(error) {
        RepositoryError::Unavailable(cause) if failed_while_writing => RepositoryError::OutcomeUnknown(cause),
        other => other,
    }
}
