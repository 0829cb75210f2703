//! The one writer: a thread that owns the only connection allowed to change the file.
//!
//! SQLite lets one transaction write at a time. A single thread behind a bounded queue makes that a rule instead of a
//! contest for the lock, and lets it commit what has queued up meanwhile in one transaction: each piece of work runs in
//! a savepoint of its own, so that one may fail alone, and each is answered only after the COMMIT that makes it durable.
//! That is so of a refusal too: what a piece of work has seen of the others' changes may never come to be.

use std::cell::{Cell, RefCell};
use std::mem;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::domain::session::{Caller, Session};
use crate::domain::user::UserId;
use crate::repository::sqlite::checkpoint::{Checkpoints, take_written};
use crate::repository::sqlite::guard::{FileGuard, IndexHeader, Lost};
use crate::repository::sqlite::is_busy;
use crate::repository::sqlite::session_cache::{Change, MAX_STALENESS, SessionCache};
use crate::repository::{Cause, RepositoryError};
use crate::system::error_chain::Chain;

/// How much work may wait. Beyond it the store says so at once instead of letting every client wait longer.
const QUEUE: usize = 1024;

/// How many pieces of work share one commit at most, so that the first of them does not wait for ever.
const BATCH: usize = 256;

/// How long work may wait for its turn. A disk that does not answer would otherwise let every client wait for ever.
const QUEUED_FOR: Duration = Duration::from_secs(5);

/// How long the store is believed to take changes after it took one.
const PROVEN_FOR: Duration = Duration::from_secs(60);

/// How often other processes' changes are looked for while the cache is in use.
const LOOK_EVERY: Duration = MAX_STALENESS.checked_div(2).unwrap();

#[derive(Debug, Error)]
enum WriterError {
    #[error("{QUEUE} writes are waiting already")]
    QueueFull,
    #[error("the write has waited for its turn for {} s", QUEUED_FOR.as_secs())]
    Late,
    #[error("the writer has stopped")]
    Stopped,
    #[error("the work panicked")]
    Panicked,
    #[error("SQLite ended the transaction")]
    RolledBack,
}

impl From<WriterError> for Cause {
    fn from(error: WriterError) -> Self {
        Arc::new(error)
    }
}

/// The way to the writer's thread.
pub(crate) struct Writer {
    queue: SyncSender<Message>,
    tally: Arc<Tally>,
}

/// What the writer has done and has yet to do.
#[derive(Default)]
pub(crate) struct Tally {
    /// How many writes were queued.
    pub(crate) queued: AtomicU64,
    /// How many of them were begun.
    pub(crate) begun: AtomicU64,
    /// How many of them were given up before.
    pub(crate) late: AtomicU64,
    pub(crate) commits: AtomicU64,
    /// How many found the queue full or waited in it for too long.
    pub(crate) refused: AtomicU64,
    /// Whether a change could not be made since it was last proven that changes can.
    failing: AtomicBool,
    /// When a change was last made.
    changed: Mutex<Option<Instant>>,
}

impl Tally {
    /// Whether it must be proven, by a change, that changes can be made: one has failed, or none was made for a while.
    pub(crate) fn needs_proof(&self) -> bool {
        let changed = *self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        self.failing.load(Ordering::SeqCst) || changed.is_none_or(|at| at.elapsed() >= PROVEN_FOR)
    }

    /// It is proven that changes can be made, such as any request makes.
    pub(crate) fn proven(&self) {
        self.failing.store(false, Ordering::SeqCst);
    }

    /// A change could not be made, or a read not be answered.
    pub(crate) fn failed(&self) {
        self.failing.store(true, Ordering::SeqCst);
    }

    fn changed(&self) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

enum Message {
    Work(Box<dyn Work>),
    /// To look for other processes' changes, now and for as long as the cache is in use.
    Watch,
    Close(oneshot::Sender<Result<(), RepositoryError>>),
}

/// A piece of work, without the type of its result.
trait Work: Send {
    /// Whether it is still to be done: whoever asked may have given it up, and is told that nothing happened.
    fn claim(&self) -> bool;
    /// Does it. `sees_uncommitted` says whether others have changed something in this transaction.
    fn run(&mut self, transaction: &Transaction<'_>, sees_uncommitted: bool) -> Ran;
    /// Answers whoever asked, once it is known what became of the transaction.
    fn answer(self: Box<Self>, transaction: Result<(), RepositoryError>);
}

/// What became of a piece of work.
#[derive(PartialEq)]
enum Ran {
    /// It is done, and its changes stay.
    Kept,
    /// It was refused, and what it did must be undone.
    Refused,
    /// The same, because the store could not do it.
    Failed,
}

struct Task<F, T> {
    work: Option<F>,
    outcome: Option<Result<T, RepositoryError>>,
    sees_uncommitted: bool,
    /// Set by the first of two: the writer, which begins it, or whoever asked, who gives it up.
    claimed: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<T, RepositoryError>>,
}

impl<F, T> Work for Task<F, T>
where
    F: FnOnce(&Transaction<'_>) -> Result<T, RepositoryError> + Send,
    T: Send,
{
    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::SeqCst)
    }

    fn run(&mut self, transaction: &Transaction<'_>, sees_uncommitted: bool) -> Ran {
        let Some(work) = self.work.take() else { return Ran::Refused };
        self.sees_uncommitted = sees_uncommitted;
        let outcome = catch_unwind(AssertUnwindSafe(|| work(transaction)))
            .unwrap_or_else(|_| Err(RepositoryError::Backend(WriterError::Panicked.into())));
        match self.outcome.insert(outcome) {
            Ok(_) => Ran::Kept,
            Err(RepositoryError::Unavailable(_)) => Ran::Failed,
            Err(_) => Ran::Refused,
        }
    }

    fn answer(self: Box<Self>, transaction: Result<(), RepositoryError>) {
        let answer = match (self.outcome, transaction) {
            (Some(outcome), Ok(())) => outcome,
            // It changed nothing, and what it was refused for is so: it was there before the transaction, or is a fault.
            (Some(Err(error)), Err(_)) if !self.sees_uncommitted || is_fault(&error) => Err(error),
            (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(RepositoryError::Unavailable(WriterError::Stopped.into())),
        };
        // Whoever asked may be gone; the work is done all the same.
        let _ = self.reply.send(answer);
    }
}

/// Whether an error tells of the store and not of what it holds.
fn is_fault(error: &RepositoryError) -> bool {
    match error {
        RepositoryError::Unavailable(_)
        | RepositoryError::OutcomeUnknown(_)
        | RepositoryError::Inconsistent(_)
        | RepositoryError::Backend(_) => true,
        RepositoryError::Conflict(_)
        | RepositoryError::NoSession
        | RepositoryError::Forbidden
        | RepositoryError::LastSuperuser
        | RepositoryError::ListFull => false,
    }
}

/// For whom the writer writes.
pub(crate) enum Role {
    /// The one server that has the file.
    Server {
        /// Is told of every change.
        cache: Arc<SessionCache>,
        /// Moves the log into the file.
        checkpoints: Checkpoints,
        /// Tells whether the files are still there.
        guard: Arc<FileGuard>,
    },
    /// A command beside it, which waits for its turn that long, and then until a server has noticed what it did. It leaves
    /// the log to the server.
    Command {
        /// How long.
        patience: Duration,
        /// Tells whether the files are still there; `None` where nothing can be written.
        guard: Option<Arc<FileGuard>>,
    },
}

impl Role {
    fn cache(&self) -> Option<&SessionCache> {
        match self {
            Self::Server { cache, .. } => Some(cache),
            Self::Command { .. } => None,
        }
    }

    fn guard(&self) -> Option<&FileGuard> {
        match self {
            Self::Server { guard, .. } => Some(guard),
            Self::Command { guard, .. } => guard.as_deref(),
        }
    }

    /// Whether what the WAL holds may go into the file when it is closed.
    fn may_be_saved(&self) -> bool {
        match self {
            Self::Server { checkpoints, .. } => checkpoints.may_be_saved(),
            Self::Command { guard, .. } => guard.as_ref().is_none_or(|guard| guard.may_be_saved()),
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
    pub(crate) fn start(
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
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Queues `work` and waits until it is committed.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let (reply, mut answer) = oneshot::channel();
        let claimed = Arc::new(AtomicBool::new(false));
        self.send(Message::Work(Box::new(Task {
            work: Some(work),
            outcome: None,
            sees_uncommitted: false,
            claimed: Arc::clone(&claimed),
            reply,
        })))?;
        self.tally.queued.fetch_add(1, Ordering::Relaxed);
        let answer = match tokio::time::timeout(QUEUED_FOR, &mut answer).await {
            Ok(answer) => answer,
            Err(_) if !claimed.swap(true, Ordering::SeqCst) => {
                self.tally.failed();
                self.tally.late.fetch_add(1, Ordering::Relaxed);
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
                return Err(RepositoryError::Unavailable(WriterError::Late.into()));
            }
            // It has begun, and may yet succeed.
            Err(_) => answer.await,
        };
        // No answer can only mean that the thread ended in the middle of the work.
        answer.unwrap_or_else(|_| Err(RepositoryError::OutcomeUnknown(WriterError::Stopped.into())))
    }

    /// Has the thread look for other processes' changes for as long as the cache is in use; `false` where its queue is
    /// full.
    pub(crate) fn watch(&self) -> bool {
        self.queue.try_send(Message::Watch).is_ok()
    }

    /// Finishes the work that is queued, moves the log into the file and closes the connection.
    pub(crate) async fn close(&self) -> Result<(), RepositoryError> {
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
    // What comes after this is a change.
    let _ = Watcher { role: &role, connection: &connection, last_version: &last_version }.notice();
    let mut watching = false;
    while closing.is_none() {
        let watcher = Watcher { role: &role, connection: &connection, last_version: &last_version };
        let first = match messages.recv_timeout(if watching { LOOK_EVERY } else { role.rest() }) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => Some(Message::Watch),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut batch = Vec::new();
        for message in first.into_iter().chain(messages.try_iter().take(BATCH - 1)) {
            match message {
                Message::Work(work) if work.claim() => batch.push(work),
                Message::Work(_) => {}
                Message::Watch => {
                    watcher.inspect();
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
            log::warn!("the WAL cannot be truncated: {}", Chain(&error));
        }
    }
    Watcher { role: &role, connection: &connection, last_version: &last_version }.inspect();
    let may_be_saved = role.may_be_saved();
    // Only the server moves the log into the file when it ends; a command leaves that to it.
    let moved = match role {
        Role::Server { checkpoints, .. } => checkpoints.finish(&connection),
        Role::Command { .. } => Ok(()),
    };
    let closed = if may_be_saved {
        moved.and_then(|()| connection.close().map_err(|(_, error)| error))
    } else {
        // Whichever connection is closed last moves the WAL into the file and deletes it: so none is.
        mem::forget(connection);
        moved
    };
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
pub(crate) struct Transaction<'a> {
    connection: &'a Connection,
    cache: Option<&'a SessionCache>,
    changed: RefCell<Vec<(UserId, Change)>>,
}

impl Transaction<'_> {
    /// This user changes in this piece of work. Whoever changes it says so.
    pub(crate) fn changes(&self, user_id: UserId, change: Change) {
        self.changed.borrow_mut().push((user_id, change));
    }

    /// A live session, where it is known without a look at the file. It is as certain as one: other processes cannot
    /// write now, what they wrote before was noticed when the transaction began (or, if that failed, is as old as the
    /// cache may ever be), and what was written since the beginning is known.
    pub(crate) fn known_session(&self, caller: &Caller) -> Option<Session> {
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
    /// Looks what other processes have changed.
    fn look(&self) {
        let began = Instant::now();
        // Without an answer there was no look, and soon nothing is believed any more.
        if let (Ok(()), Some(cache)) = (self.notice(), self.role.cache()) {
            cache.looked(began);
        }
    }

    /// Tells everyone of what other processes have changed since the last time.
    fn notice(&self) -> rusqlite::Result<()> {
        let version = self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.last_version.replace(Some(version)) != Some(version) {
            if let Some(cache) = self.role.cache() {
                cache.change_all();
            }
            if let Some(guard) = self.role.guard() {
                guard.changed_by_others();
            }
        }
        Ok(())
    }

    /// Looks without a transaction, and does what there is to do.
    fn inspect(&self) {
        self.look();
        if let Some(guard) = self.role.guard() {
            // The log is told, and whoever wants to change something.
            let _ = guard.check();
        }
        self.rescue();
    }

    /// Whether a transaction, which has begun, finds the files as the last one left them, and what they were.
    fn check(&self) -> Result<Option<IndexHeader>, Lost> {
        self.look();
        self.role.guard().map_or(Ok(None), FileGuard::check_before)
    }

    /// What has happened to the files, where that may be why a transaction could not begin; else the error itself.
    fn why(&self, error: rusqlite::Error) -> Result<Lost, rusqlite::Error> {
        match self.role.guard().map(FileGuard::check) {
            Some(Err(lost)) => Ok(lost),
            _ => Err(error),
        }
    }

    /// Whether what was committed just now is where the next start looks for it. `before` is what the check has found.
    fn confirm(&self, before: Option<&IndexHeader>) -> Result<(), Lost> {
        self.role.guard().map_or(Ok(()), |guard| guard.confirm(before))
    }

    /// Saves what a WAL holds that has lost its name: nobody else can.
    fn rescue(&self) {
        let Role::Server { checkpoints, guard, .. } = self.role else { return };
        if guard.lost() == Some(Lost::Wal) && guard.begin_rescue() {
            checkpoints.rescue(self.connection);
        }
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            log::error!("a transaction could not be rolled back: {}", Chain(&error));
        }
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
    let transaction = transact(&open, watcher, &mut batch, tally, map_error);
    watcher.roll_back();
    let has_written = take_written();
    let transaction = transaction.and_then(|before| {
        tally.commits.fetch_add(1, Ordering::Relaxed);
        watcher.confirm(before.as_ref()).map_err(|lost| RepositoryError::OutcomeUnknown(lost.into()))
    });
    match &transaction {
        Ok(()) if has_written => tally.changed(),
        Err(RepositoryError::Unavailable(_) | RepositoryError::OutcomeUnknown(_)) => tally.failed(),
        _ => {}
    }
    watcher.rescue();
    match watcher.role.cache() {
        // Whether or not it was committed: to read once more than needed does no harm.
        Some(cache) => cache.change(&open.changed.into_inner()),
        // A command's change is felt by the server before the command says that it is done.
        None => thread::sleep(MAX_STALENESS),
    }
    for work in batch {
        work.answer(transaction.clone());
    }
}

fn transact(
    transaction: &Transaction<'_>,
    watcher: &Watcher<'_>,
    batch: &mut [Box<dyn Work>],
    tally: &Tally,
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) -> Result<Option<IndexHeader>, RepositoryError> {
    let connection = transaction.connection;
    begin(watcher).map_err(|error| watcher.why(error).map_or_else(map_error, unavailable))?;
    let before = watcher.check().map_err(unavailable)?;
    let mut sees_uncommitted = false;
    for work in batch {
        run(connection, "SAVEPOINT work").map_err(map_error)?;
        let ran = work.run(transaction, sees_uncommitted);
        if ran == Ran::Failed {
            tally.failed();
        }
        if connection.is_autocommit() {
            // A full disk or a failed write makes SQLite undo everything, not only the statement that met it.
            return Err(RepositoryError::Unavailable(WriterError::RolledBack.into()));
        }
        if ran == Ran::Kept {
            sees_uncommitted = true;
        } else {
            run(connection, "ROLLBACK TO work").map_err(map_error)?;
        }
        run(connection, "RELEASE work").map_err(map_error)?;
    }
    run(connection, "COMMIT").map_err(|error| commit_error(error, map_error))?;
    Ok(before)
}

/// Takes the lock that one writer at a time has.
fn begin(watcher: &Watcher<'_>) -> rusqlite::Result<()> {
    let Role::Command { patience, .. } = *watcher.role else { return run(watcher.connection, "BEGIN IMMEDIATE") };
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
    let failed_while_writing = is_io_failure(&error);
    match map_error(error) {
        RepositoryError::Unavailable(cause) if failed_while_writing => RepositoryError::OutcomeUnknown(cause),
        other => other,
    }
}

fn is_io_failure(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure)
}

fn unavailable(lost: Lost) -> RepositoryError {
    RepositoryError::Unavailable(lost.into())
}
