//! The one writer: a thread that owns the only connection allowed to change the file.
//!
//! SQLite lets one transaction write at a time. A single thread behind a bounded queue makes that a rule instead of a
//! contest for the lock, and lets it commit what has queued up meanwhile in one transaction: each piece of work runs in
//! a savepoint of its own, so that one may fail alone, and each is answered only after the COMMIT that makes it durable.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use thiserror::Error;
use tokio::sync::oneshot;

use super::cache::{Change, FELT_WITHIN, SessionCache};
use super::checkpoints::Checkpoints;
use super::file::Place;
use super::sqlite::is_busy;
use super::{Cause, RepositoryError};
use crate::error_chain::Chain;
use crate::session::{Caller, Session};
use crate::user::UserId;

/// How much work may wait. Beyond it the store says so at once instead of letting every client wait longer.
const QUEUE: usize = 1024;

/// How many pieces of work share one commit at most, so that the first of them does not wait for ever.
const BATCH: usize = 256;

/// How often other processes' changes are looked for while the cache is in use.
const LOOK_EVERY: Duration = FELT_WITHIN.checked_div(2).unwrap();

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
    #[error(
        "the file was moved or deleted; what is written to it would be lost with it. Stop the server and put it back"
    )]
    Moved,
}

impl From<WriterError> for Cause {
    fn from(error: WriterError) -> Self {
        Arc::new(error)
    }
}

/// The way to the writer's thread.
pub(super) struct Writer {
    queue: SyncSender<Message>,
    tally: Arc<Tally>,
}

/// What the writer has done and has yet to do.
#[derive(Default)]
pub(super) struct Tally {
    /// How many writes were queued.
    pub(super) queued: AtomicU64,
    /// How many of them were taken out of the queue.
    pub(super) begun: AtomicU64,
    pub(super) commits: AtomicU64,
    /// How many found the queue full.
    pub(super) refused: AtomicU64,
}

enum Message {
    Work(Box<dyn Work>),
    /// To look for other processes' changes, now and for as long as the cache is in use.
    Watch,
    Close(oneshot::Sender<Result<(), RepositoryError>>),
}

/// A piece of work, without the type of its result.
trait Work: Send {
    /// Does it; `false` when what it did must be undone.
    fn run(&mut self, transaction: &Transaction<'_>) -> bool;
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
    F: FnOnce(&Transaction<'_>) -> Result<T, RepositoryError> + Send,
    T: Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(transaction)))
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

/// For whom the writer writes.
pub(super) enum Role {
    /// The one server that has the file.
    Server {
        /// Is told of every change.
        cache: Arc<SessionCache>,
        /// Moves the log into the file.
        checkpoints: Checkpoints,
        /// Where the file is.
        place: Place,
    },
    /// A command beside it, which waits for its turn that long, and then until a server has noticed what it did. It leaves
    /// the log to the server.
    Command {
        /// How long.
        patience: Duration,
    },
}

impl Role {
    fn cache(&self) -> Option<&SessionCache> {
        match self {
            Self::Server { cache, .. } => Some(cache),
            Self::Command { .. } => None,
        }
    }

    /// How long the writer may rest without looking after anything.
    fn rest(&self) -> Duration {
        match self {
            Self::Server { checkpoints, .. } => checkpoints.rest(),
            // Nothing at all.
            Self::Command { .. } => Duration::MAX,
        }
    }
}

impl Writer {
    /// Starts the thread. `map_error` is the backend's reading of SQLite's errors.
    pub(super) fn start(
        connection: Connection,
        role: Role,
        map_error: impl Fn(rusqlite::Error) -> RepositoryError + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let tally = Arc::new(Tally::default());
        thread::Builder::new().name("authtokens writer".to_owned()).spawn({
            let tally = Arc::clone(&tally);
            move || serve(connection, messages, role, &tally, &map_error)
        })?;
        Ok(Self { queue, tally })
    }

    /// What it has done and has yet to do.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Queues `work` and waits until it is committed.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Work(Box::new(Task { work: Some(work), outcome: None, reply })))?;
        self.tally.queued.fetch_add(1, Ordering::Relaxed);
        // No answer can only mean that the thread ended in the middle of the work.
        answer.await.unwrap_or_else(|_| Err(RepositoryError::OutcomeUnknown(WriterError::Stopped.into())))
    }

    /// Has the thread look for other processes' changes for as long as the cache is in use; `false` where its queue is
    /// full.
    pub(super) fn watch(&self) -> bool {
        self.queue.try_send(Message::Watch).is_ok()
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
                TrySendError::Full(_) => {
                    self.tally.refused.fetch_add(1, Ordering::Relaxed);
                    WriterError::QueueFull.into()
                }
                TrySendError::Disconnected(_) => WriterError::Stopped.into(),
            })
        })
    }
}

fn serve(
    connection: Connection,
    messages: Receiver<Message>,
    mut role: Role,
    tally: &Tally,
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) {
    if let Role::Server { .. } = role {
        Checkpoints::take_over(&connection);
    }
    let mut closing = None;
    let last_version = Cell::new(None);
    let mut watching = false;
    while closing.is_none() {
        let watcher = Watcher { role: &role, connection: &connection, last_version: &last_version };
        let first = match messages.recv_timeout(if watching { LOOK_EVERY } else { role.rest() }) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => watching.then_some(Message::Watch),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut batch = Vec::new();
        for message in first.into_iter().chain(messages.try_iter().take(BATCH - 1)) {
            match message {
                Message::Work(work) => batch.push(work),
                Message::Watch => {
                    watcher.look();
                    watching = role.cache().is_some_and(SessionCache::is_in_use);
                }
                Message::Close(reply) => {
                    closing = Some(reply);
                    break;
                }
            }
        }
        if !batch.is_empty() {
            tally.begun.fetch_add(u64::try_from(batch.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            commit_together(&watcher, batch, tally, map_error);
            if let Role::Server { checkpoints, .. } = &mut role {
                checkpoints.committed(&connection);
            }
        }
        if let Role::Server { checkpoints, .. } = &role
            && let Err(error) = checkpoints.rested(&connection)
        {
            log::warn!("the log cannot be emptied: {}", Chain(&error));
        }
    }
    // Only the server moves the log into the file when it ends; a command leaves that to it.
    let moved = match role {
        Role::Server { checkpoints, .. } => checkpoints.finish(&connection),
        Role::Command { .. } => Ok(()),
    };
    let closed = moved.and_then(|()| connection.close().map_err(|(_, error)| error));
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

/// A transaction, as the work in it sees it.
pub(super) struct Transaction<'a> {
    connection: &'a Connection,
    cache: Option<&'a SessionCache>,
    changed: RefCell<Vec<(UserId, Change)>>,
}

impl Transaction<'_> {
    /// This user changes in this piece of work. Whoever changes it says so.
    pub(super) fn changes(&self, user_id: UserId, change: Change) {
        self.changed.borrow_mut().push((user_id, change));
    }

    /// A live session, where it is known without a look at the file. It is as certain as one: other processes cannot
    /// write now, what they wrote before was noticed when the transaction began (or, if that failed, is as old as the
    /// cache may ever be), and what was written since the beginning is known.
    pub(super) fn known_session(&self, caller: &Caller) -> Option<Session> {
        let session = self.cache?.find_session(caller)?;
        let has_changed = self.changed.borrow().contains(&(session.user_id, Change::Sessions));
        (!has_changed).then_some(session)
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// Notices what other processes have written, on behalf of the cache.
struct Watcher<'a> {
    role: &'a Role,
    connection: &'a Connection,
    /// A number that changes with every commit of another connection.
    last_version: &'a Cell<Option<i64>>,
}

impl Watcher<'_> {
    fn look(&self) {
        let Some(cache) = self.role.cache() else { return };
        let began = Instant::now();
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut version| version.query_row([], |row| row.get(0)));
        // Without an answer there was no look, and soon nothing is believed any more.
        let Ok(version) = version else { return };
        if self.last_version.replace(Some(version)) != Some(version) {
            cache.change_all();
        }
        cache.looked(began);
    }
}

fn commit_together(
    watcher: &Watcher<'_>,
    mut batch: Vec<Box<dyn Work>>,
    tally: &Tally,
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) {
    let connection = watcher.connection;
    let open = Transaction { connection, cache: watcher.role.cache(), changed: RefCell::default() };
    let transaction = transact(&open, watcher, &mut batch, map_error);
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        log::error!("a transaction could not be rolled back: {}", Chain(&error));
    }
    if transaction.is_ok() {
        tally.commits.fetch_add(1, Ordering::Relaxed);
    }
    match watcher.role.cache() {
        // Whether or not it was committed: to read once more than needed does no harm.
        Some(cache) => cache.change(&open.changed.into_inner()),
        // A command's change is felt by the server before the command says that it is done.
        None => thread::sleep(FELT_WITHIN),
    }
    for work in batch {
        work.answer(transaction.clone());
    }
}

fn transact(
    transaction: &Transaction<'_>,
    watcher: &Watcher<'_>,
    batch: &mut [Box<dyn Work>],
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) -> Result<(), RepositoryError> {
    let connection = transaction.connection;
    begin(watcher).map_err(map_error)?;
    watcher.look();
    if let Role::Server { place, .. } = watcher.role
        && !place.is_kept()
    {
        return Err(RepositoryError::Unavailable(WriterError::Moved.into()));
    }
    for work in batch {
        run(connection, "SAVEPOINT work").map_err(map_error)?;
        let keep = work.run(transaction);
        if connection.is_autocommit() {
            // A full disk or a failed write makes SQLite undo everything, not only the statement that met it.
            return Err(RepositoryError::Unavailable(WriterError::RolledBack.into()));
        }
        if !keep {
            run(connection, "ROLLBACK TO work").map_err(map_error)?;
        }
        run(connection, "RELEASE work").map_err(map_error)?;
    }
    run(connection, "COMMIT").map_err(|error| commit_error(error, map_error))
}

/// Takes the lock that one writer at a time has.
fn begin(watcher: &Watcher<'_>) -> rusqlite::Result<()> {
    let Role::Command { patience } = *watcher.role else { return run(watcher.connection, "BEGIN IMMEDIATE") };
    // A server that is busy lets go of it for moments only. SQLite soon looks ten times a second and would miss them.
    watcher.connection.busy_timeout(Duration::ZERO)?;
    let since = Instant::now();
    loop {
        match run(watcher.connection, "BEGIN IMMEDIATE") {
            Err(error) if is_busy(&error) && since.elapsed() < patience => thread::sleep(Duration::from_millis(1)),
            outcome => return outcome,
        }
    }
}

/// A statement that every batch needs, and that is not parsed again each time.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
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
