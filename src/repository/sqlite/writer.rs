//! The one writer: a thread that owns the only connection allowed to change the file. SQLite lets one transaction write
//! at a time. With a single thread behind a bounded queue nobody contends for the lock, and the thread can commit all
//! queued work in one transaction (group commit). Each piece of work runs in a savepoint of its own, so that one may
//! fail alone. Each is answered only after the COMMIT that makes it durable, and so is a refusal: it may be due to
//! another's change that the COMMIT then fails to keep.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::checkpoint::{Checkpoints, take_written};
use super::error::is_busy;
use super::guard::{IndexHeader, Lost};
use super::transaction::Transaction;
use super::watcher::{MAX_STALENESS, Role, Watcher};
use super::work::{QUEUE, QUEUED_FOR, Ran, Task, Work, WriterError};
use crate::repository::{Notices, RepositoryError};
use crate::system::error_chain::Chain;
use crate::system::watched::WatchedThreads;

/// How many pieces of work share a commit at most, so that the first of them does not wait too long.
const BATCH: usize = 256;

/// How long after a change the store counts as writable without a write probe.
const PROVEN_FOR: Duration = Duration::from_secs(60);

/// How often the writer polls for other processes' changes while the cache is in use.
const LOOK_EVERY: Duration = MAX_STALENESS.checked_div(2).unwrap();

/// The handle on the writer's thread.
pub(super) struct Writer {
    queue: SyncSender<Message>,
    tally: Arc<Tally>,
}

/// Counters of the writes, for the metrics, and what readiness needs to know.
#[derive(Default)]
pub(super) struct Tally {
    /// How many writes were queued.
    pub(super) queued: AtomicU64,
    /// How many of them were begun.
    pub(super) begun: AtomicU64,
    /// How many of them were given up before.
    pub(super) late: AtomicU64,
    pub(super) commits: AtomicU64,
    /// How many found the queue full or waited in it for too long.
    pub(super) refused: AtomicU64,
    /// Whether a read or a write has failed since the last write probe succeeded.
    failing: AtomicBool,
    /// When a change was last made.
    changed: Mutex<Option<Instant>>,
}

impl Tally {
    /// Whether the write probe must reach the disk: something has failed, or nothing was written for a while.
    pub(super) fn needs_proof(&self) -> bool {
        let changed = *self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        self.failing.load(Ordering::SeqCst) || changed.is_none_or(|at| at.elapsed() >= PROVEN_FOR)
    }

    /// A write probe has succeeded.
    pub(super) fn proven(&self) {
        self.failing.store(false, Ordering::SeqCst);
    }

    /// A read or a write has failed.
    pub(super) fn failed(&self) {
        self.failing.store(true, Ordering::SeqCst);
    }

    fn changed(&self) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

enum Message {
    Work(Box<dyn Work>),
    /// Poll for other processes' changes, now and for as long as the cache is in use.
    Watch,
    Close(oneshot::Sender<Result<(), RepositoryError>>),
}

impl Writer {
    /// Starts the thread. `notices` are put in the outbox; `map_error` maps SQLite's errors.
    pub(super) fn start(
        threads: &WatchedThreads,
        connection: Connection,
        role: Role,
        notices: Notices,
        map_error: impl Fn(rusqlite::Error) -> RepositoryError + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let tally = Arc::new(Tally::default());
        threads.spawn_that_may_return("authtokens writer", {
            let tally = Arc::clone(&tally);
            move || serve(connection, messages, role, notices, &tally, &map_error)
        })?;
        Ok(Self { queue, tally })
    }

    /// The counters.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Queues `work` and waits until it is committed.
    pub(super) async fn write<T: Send + 'static>(
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
            // It has begun, and may still succeed.
            Err(_) => answer.await,
        };
        // Without an answer the thread has ended in the middle of the work.
        answer.unwrap_or_else(|_| Err(RepositoryError::OutcomeUnknown(WriterError::Stopped.into())))
    }

    /// Has the thread poll for other processes' changes for as long as the cache is in use; `false` where its queue is
    /// full.
    pub(super) fn watch(&self) -> bool {
        self.queue.try_send(Message::Watch).is_ok()
    }

    /// Finishes the work that is queued, checkpoints the WAL and closes the connection.
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
    notices: Notices,
    tally: &Tally,
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) {
    if let Role::Server { .. } = role {
        Checkpoints::take_over(&connection);
    }
    let mut closing = None;
    let last_version = Cell::new(None);
    // The first poll: what comes after it is a change.
    let _ = Watcher { role: &role, connection: &connection, last_version: &last_version }.notice();
    let mut watching = false;
    while closing.is_none() {
        let watcher = Watcher { role: &role, connection: &connection, last_version: &last_version };
        let first = match messages.recv_timeout(if watching { LOOK_EVERY } else { role.idle_for() }) {
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
                    watching = role.cache().is_some_and(|cache| cache.lease().is_in_use());
                }
                Message::Close(reply) => {
                    closing = Some(reply);
                    break;
                }
            }
        }
        if !batch.is_empty() {
            tally.begun.fetch_add(u64::try_from(batch.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            commit_together(&watcher, batch, notices, tally, map_error);
            if let Role::Server { checkpoints, .. } = &mut role {
                checkpoints.committed(&connection);
            }
        }
        if let Role::Server { checkpoints, .. } = &role
            && let Err(error) = checkpoints.truncate_copied(&connection)
        {
            log::warn!("the WAL cannot be truncated: {}", Chain(&error));
        }
    }
    Watcher { role: &role, connection: &connection, last_version: &last_version }.inspect();
    let may_be_saved = role.may_be_saved();
    // Only the server checkpoints the WAL when it ends; a command leaves that to it.
    let checkpointed = match role {
        Role::Server { checkpoints, .. } => checkpoints.finish(&connection),
        Role::Command { .. } => Ok(()),
    };
    let closed = if may_be_saved {
        checkpointed.and_then(|()| connection.close().map_err(|(_, error)| error))
    } else {
        // The last connection to be closed checkpoints the WAL and deletes it: so this one is not closed.
        mem::forget(connection);
        checkpointed
    };
    let closed = closed.map_err(map_error);
    // Work that was queued behind the close is refused; from now on the queue is closed.
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

fn commit_together(
    watcher: &Watcher<'_>,
    mut batch: Vec<Box<dyn Work>>,
    notices: Notices,
    tally: &Tally,
    map_error: &impl Fn(rusqlite::Error) -> RepositoryError,
) {
    let connection = watcher.connection;
    let open = Transaction { connection, cache: watcher.role.cache(), changed: RefCell::default(), notices };
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
        // Whether or not it was committed: one read more than needed does no harm.
        Some(cache) => cache.change(&open.changed.into_inner()),
        // A command's change is noticed by the server before the command says that it is done.
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
            // After a full disk or a failed write SQLite rolls back the whole transaction, not only the statement.
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

/// Begins a transaction with the write lock, of which there is one.
fn begin(watcher: &Watcher<'_>) -> rusqlite::Result<()> {
    let Role::Command { patience, .. } = *watcher.role else { return run(watcher.connection, "BEGIN IMMEDIATE") };
    // A busy server frees it for moments only. SQLite's own busy handler soon tries only ten times a second, and would
    // miss them.
    watcher.connection.busy_timeout(Duration::ZERO)?;
    let since = Instant::now();
    loop {
        match run(watcher.connection, "BEGIN IMMEDIATE") {
            Err(error) if is_busy(&error) && since.elapsed() < patience => thread::sleep(Duration::from_millis(1)),
            outcome => return outcome,
        }
    }
}

/// Runs a statement that every batch needs, and caches it.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

/// The error of a COMMIT. One that fails for lack of space or of the lock has changed nothing. One that fails while it
/// writes to the disk may have got so far that the next start finds it.
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::item::{ItemId, List};
    use crate::domain::session::{Caller, SessionCutoffs};
    use crate::repository::sqlite::SqliteRepository;
    use crate::repository::sqlite::error::Failure;
    use crate::repository::sqlite::test_store::{obstacle, open_in, registration, worker};
    use crate::repository::{Accounts as _, FigureValue, Lists as _, Maintenance as _, Sessions as _};
    use crate::system::clock::Timestamp;

    /// How many writes wait, as the metrics show it.
    async fn waiting(repository: &SqliteRepository) -> u64 {
        let figures = repository.statistics().await.figures;
        match figures.iter().find(|figure| figure.name == "authtokens_store_waiting_writes").unwrap().value {
            FigureValue::Gauge(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_write_that_finds_the_queue_full_or_waits_for_too_long_is_refused_and_never_done() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let (release, begun, hold) = obstacle();
            let mut obstacle = Box::pin(repository.write(|_| hold()));
            assert!(obstacle.as_mut().now_or_never().is_none());
            begun.await.unwrap();
            let done = Arc::new(AtomicU64::new(0));
            let write = || {
                let done = Arc::clone(&done);
                Box::pin(repository.write(move |_| {
                    done.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }))
            };
            let mut queued = Vec::new();
            let full = loop {
                let mut write = write();
                match write.as_mut().now_or_never() {
                    Some(refused) => break refused,
                    None => queued.push(write),
                }
            };
            assert!(matches!(full, Err(RepositoryError::Unavailable(_))), "{full:?}");
            let tally = repository.writer.tally();
            let refused = || tally.refused.load(Ordering::Relaxed);
            assert_eq!((waiting(&repository).await, refused()), (1024, 1));
            for late in futures_util::future::join_all(queued).await {
                assert!(matches!(late, Err(RepositoryError::Unavailable(_))), "{late:?}");
            }
            assert_eq!((waiting(&repository).await, refused()), (0, 1025));
            drop(release);
            obstacle.await.unwrap();
            // Until the writer has thrown the others away, its queue is full.
            while write().await.is_err() {
                tokio::task::yield_now().await;
            }
            assert_eq!(done.load(Ordering::SeqCst), 1, "what was refused was not done");
            assert_eq!(tally.begun.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn what_was_refused_because_of_a_change_that_was_rolled_back_is_not_answered_with_the_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let now = Timestamp::from_millis(0).unwrap();
            let mut callers = Vec::new();
            for number in 0..2 {
                let (user, session) = registration(number);
                let cutoffs = SessionCutoffs::EVER;
                callers.push(Caller { digest: session.digest, cutoffs, ip: None });
                repository.register_user(user, session, None, now).await.unwrap();
            }
            let unknown = Caller { digest: crate::domain::token::PlainToken::generate().digest(), ..callers[0] };
            let item = ItemId::new(1).unwrap();
            let (release, begun, hold) = obstacle();
            let mut obstacle = Box::pin(repository.write(|_| hold()));
            assert!(obstacle.as_mut().now_or_never().is_none());
            begun.await.unwrap();
            let (user, session) = registration(2);
            let (same_name, other_session) = registration(2);
            // Deferred to the COMMIT, which then fails, after all of them have run.
            let orphan = repository.write(|connection| {
                connection.pragma_update(None, "defer_foreign_keys", true)?;
                connection.execute("INSERT INTO cellar (user_id, item_id, added) VALUES (99, 1, 0)", [])?;
                Ok(())
            });
            let together = futures_util::future::join(
                futures_util::future::join3(
                    repository.add_item(&unknown, List::Cellar, item, 10, now),
                    repository.revoke_own_session(&callers[0], now),
                    repository.add_item(&callers[0], List::Cellar, item, 10, now),
                ),
                futures_util::future::join4(
                    repository.register_user(user, session, None, now),
                    repository.register_user(same_name, other_session, None, now),
                    repository.add_item(&unknown, List::Cellar, item, 10, now),
                    orphan,
                ),
            );
            let mut together = Box::pin(together);
            assert!(together.as_mut().now_or_never().is_none());
            drop(release);
            obstacle.await.unwrap();
            let ((first, log_out, after), (register, conflict, last, orphan)) = together.await;
            assert!(matches!(first, Err(RepositoryError::NoSession)), "it saw what is committed: {first:?}");
            for undone in [log_out.err(), after.err(), register.err(), conflict.err(), last.err(), orphan.err()] {
                assert!(matches!(undone, Some(RepositoryError::Backend(_))), "{undone:?}");
            }
            assert!(repository.find_session(&callers[0]).await.unwrap().is_some(), "it did not end");
            let (user, session) = registration(2);
            repository.register_user(user, session, None, now).await.unwrap();
        });
    }

    /// Work that the writer cannot even begin.
    struct Poison;

    impl Work for Poison {
        fn claim(&self) -> bool {
            panic!("on purpose")
        }

        fn run(&mut self, _: &Transaction<'_>, _: bool) -> Ran {
            Ran::Refused
        }

        fn answer(self: Box<Self>, _: Result<(), RepositoryError>) {}
    }

    #[tokio::test]
    async fn a_writer_that_ends_by_itself_is_reported_and_one_that_is_closed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        repository.close().await.unwrap();
        assert!(repository.wait_for_failure().now_or_never().is_none());
        drop(repository);

        let repository = open_in(folder.path());
        repository.write(|_| Ok(())).await.unwrap();
        assert!(repository.wait_for_failure().now_or_never().is_none());
        repository.writer.send(Message::Work(Box::new(Poison))).unwrap();
        let told = tokio::time::timeout(Duration::from_secs(60), repository.wait_for_failure()).await.unwrap();
        assert_eq!(told.to_string(), "the thread \"authtokens writer\" has ended by itself");
        let refused = repository.write(|_| Ok(())).await;
        assert!(matches!(refused, Err(RepositoryError::Unavailable(_))), "{refused:?}");
    }

    #[test]
    fn a_write_that_panics_or_fails_takes_none_of_its_neighbours_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let insert = |name: &'static str, then: fn() -> Result<(), Failure>| {
            repository.write(move |connection| {
                connection.execute(
                    "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, \
                     last_login) VALUES (?1, ?1, '', 0, 0, 0, 0)",
                    [name],
                )?;
                then()
            })
        };
        runtime.block_on(async {
            let (kept, panicked, failed, last) = tokio::join!(
                insert("kept", || Ok(())),
                insert("panicked", || panic!("on purpose")),
                insert("failed", || Err(rusqlite::Error::InvalidQuery.into())),
                insert("last", || Ok(())),
            );
            assert!(kept.is_ok() && last.is_ok());
            assert!(matches!(panicked, Err(RepositoryError::Backend(_))));
            assert!(matches!(failed, Err(RepositoryError::Backend(_))));
        });
        let names: Vec<String> = repository
            .readers
            .pool
            .get()
            .unwrap()
            .prepare("SELECT username FROM users ORDER BY id")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(names, ["kept", "last"]);
    }
}
