//! Checkpoints the WAL beside the writer: copies what it holds into the database file.
//!
//! By default SQLite checkpoints in the commit that makes the WAL long, and every queued change waits for it. Here a
//! thread with a connection of its own copies while the writer goes on. The writer itself only copies the last part:
//! SQLite restarts the WAL at its beginning once all of it is checkpointed, and that takes a moment without a change.
//!
//! A WAL that stays short is truncated about once a minute, so that deleted data does not stay in it. The writer does
//! that itself once the thread has copied all of it: done by another connection it would look to the writer like a
//! change by another process.
//!
//! The WAL of a damaged database is left as it is: it may be needed to repair the database.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::guard::FileGuard;
use crate::system::error_chain::Chain;
use crate::system::watched::WatchedThreads;

/// When to checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// At how many pages of the WAL to checkpoint.
    long: i32,
    /// After how many more pages to try again, where a reader has kept the WAL from being restarted.
    step: i32,
    /// How long a WAL may be idle before the thread copies it; so long again until the writer truncates it at the
    /// latest.
    truncated_every: Duration,
}

/// 64 MiB, sixteen times SQLite's default: a page that changes often is copied once for many changes.
pub(super) const PACE: Pace = Pace { long: 16_000, step: 4_000, truncated_every: Duration::from_secs(60) };

/// How long the last checkpoint waits for readers of the WAL.
const LAST_BUSY_TIMEOUT: Duration = Duration::from_millis(100);

thread_local! {
    /// How many pages the WAL had after this thread's last commit.
    static PAGES: Cell<i32> = const { Cell::new(0) };
    /// Whether there was a commit since [`take_written`] was called last.
    static WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has written to the WAL since the last call.
pub(super) fn take_written() -> bool {
    WRITTEN.take()
}

/// What the thread has copied.
#[derive(Default)]
struct Copied {
    /// A WAL that the writer asked it to copy.
    asked: AtomicBool,
    /// An idle WAL, which is to be truncated.
    idle: AtomicBool,
}

/// Whether the WAL may be checkpointed.
#[derive(Clone)]
pub(super) struct FileState {
    /// Whether SQLite has found the file damaged.
    pub(super) damaged: Arc<AtomicBool>,
    /// Whether the files are still at their names.
    pub(super) guard: Arc<FileGuard>,
}

impl FileState {
    fn may_copy(&self) -> bool {
        !self.damaged.load(Ordering::Relaxed) && self.guard.check().is_ok()
    }

    fn may_be_saved(&self) -> bool {
        !self.damaged.load(Ordering::Relaxed) && self.guard.may_be_saved()
    }
}

/// The writer's handle on the checkpoint thread.
pub(super) struct Checkpoints {
    /// To ask the thread for a checkpoint. Closed where the thread could not open the file.
    ask: SyncSender<()>,
    thread: JoinHandle<()>,
    copied: Arc<Copied>,
    asked: bool,
    state: FileState,
    /// The busy timeout of the writer's connection.
    patience: Duration,
    pace: Pace,
    /// At how many pages of the WAL to ask again.
    due_at: i32,
    pages: i32,
}

impl Checkpoints {
    /// Starts the thread. `open` opens its connection; `wal` is the WAL's name.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        threads: &WatchedThreads,
        open: impl FnOnce() -> rusqlite::Result<Connection> + Send + 'static,
        wal: PathBuf,
        pace: Pace,
        patience: Duration,
        state: FileState,
    ) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let copied = Arc::new(Copied::default());
        let thread = threads.spawn_that_may_return("authtokens checkpoint", {
            let (copied, state) = (Arc::clone(&copied), state.clone());
            move || match open() {
                Ok(connection) => serve(&connection, &asked, &copied, &state, &wal, pace.truncated_every),
                Err(error) => log::warn!("the writer itself must checkpoint the WAL: {}", Chain(&error)),
            }
        })?;
        Ok(Self { ask, thread, copied, asked: false, state, patience, pace, due_at: pace.long, pages: 0 })
    }

    /// Turns off SQLite's automatic checkpoints. To be called on the writer's thread.
    pub(super) fn take_over(writer: &Connection) {
        writer.wal_hook(Some(|_, pages| {
            PAGES.set(pages);
            WRITTEN.set(true);
            Ok(())
        }));
    }

    /// To be called after each commit: checkpoints, or has the thread do so, where the WAL is long.
    pub(super) fn committed(&mut self, writer: &Connection) {
        let before = std::mem::replace(&mut self.pages, PAGES.get());
        if self.pages < before {
            // The WAL was restarted, so what the thread was asked for before that is obsolete.
            self.due_at = self.pace.long;
            self.asked &= !self.copied.asked.swap(false, Ordering::SeqCst);
        }
        if self.pages < self.due_at {
            return;
        }
        if !self.asked {
            self.asked = self.ask.send(()).is_ok();
        }
        if !self.asked || self.copied.asked.swap(false, Ordering::SeqCst) || self.thread.is_finished() {
            self.asked = false;
            copy(writer, "PASSIVE", &self.state);
            self.due_at = self.pages + self.pace.step;
        }
    }

    /// How long the writer may wait before it comes back to [`Checkpoints::truncate_copied`].
    pub(super) fn idle_for(&self) -> Duration {
        self.pace.truncated_every
    }

    /// Truncates the WAL where the thread has copied it and nobody else holds it.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn truncate_copied(&self, writer: &Connection) -> rusqlite::Result<()> {
        if self.copied.idle.swap(false, Ordering::SeqCst) {
            // It does not wait for readers: it is tried again later.
            writer.busy_timeout(Duration::ZERO)?;
            copy(writer, "TRUNCATE", &self.state);
            writer.busy_timeout(self.patience)?;
        }
        Ok(())
    }

    /// Whether the WAL may be checkpointed at the end.
    pub(super) fn may_be_saved(&self) -> bool {
        self.state.may_be_saved()
    }

    /// Checkpoints a WAL that was moved or deleted, while it is still open.
    pub(super) fn rescue(&self, writer: &Connection) {
        if !self.may_be_saved() {
            log::error!(
                "what the lost WAL holds is not saved: it is not all that was committed, or the database is damaged"
            );
            return;
        }
        let saved = writer.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
            Ok(row.get::<_, i64>(0)? == 0 && row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
        });
        match saved {
            Ok(true) => log::warn!("what the lost WAL held is saved in the database"),
            Ok(false) => log::error!("not all that the lost WAL holds is saved yet: the server's stop tries again"),
            Err(error) => log::error!("what the lost WAL holds could not be saved: {}", Chain(&error)),
        }
    }

    /// Ends the thread, checkpoints all of the WAL and truncates it. Where another process still reads it, the WAL
    /// stays: the next start reads it.
    ///
    /// # Errors
    /// SQLite's; busy where another process reads the WAL.
    pub(super) fn finish(self, writer: &Connection) -> rusqlite::Result<()> {
        drop(self.ask);
        // Where it has panicked, that was reported.
        let _ = self.thread.join();
        if !self.state.may_be_saved() {
            return Ok(());
        }
        writer.busy_timeout(LAST_BUSY_TIMEOUT)?;
        let is_busy: bool = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None));
        }
        Ok(())
    }
}

fn serve(
    connection: &Connection,
    asked: &Receiver<()>,
    copied: &Copied,
    state: &FileState,
    wal: &Path,
    truncated_every: Duration,
) {
    let mut looked = Instant::now();
    loop {
        // Idle copies go on however often it is asked: in a WAL that is restarted often, the end keeps old pages.
        match asked.recv_timeout(truncated_every.saturating_sub(looked.elapsed())) {
            Ok(()) => {
                copy(connection, "PASSIVE", state);
                // Once more for the commits meanwhile: now little is left for the writer.
                copy(connection, "PASSIVE", state);
                copied.asked.store(true, Ordering::SeqCst);
            }
            Err(RecvTimeoutError::Timeout) => {
                looked = Instant::now();
                if fs::metadata(wal).is_ok_and(|wal| wal.len() > 0) {
                    copy(connection, "PASSIVE", state);
                    copied.idle.store(true, Ordering::SeqCst);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Runs a checkpoint. It is no error where a reader keeps a part of the WAL from being copied.
fn copy(connection: &Connection, how: &str, state: &FileState) {
    if !state.may_copy() {
        return;
    }
    if let Err(error) = connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(())) {
        log::warn!("the WAL cannot be checkpointed now: {}", Chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn open(file: &Path) -> Connection {
        let connection = Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        connection
    }

    fn start(file: &Path, wal: &Path, pace: Pace) -> (Connection, Checkpoints) {
        let writer = open(file);
        writer.execute_batch("CREATE TABLE texts (text BLOB)").unwrap();
        let thread = file.to_owned();
        let guard = Arc::new(FileGuard::of(file.to_owned(), 4096).unwrap());
        let state = FileState { damaged: Arc::default(), guard };
        let checkpoints = Checkpoints::start(
            &WatchedThreads::default(),
            move || Ok(open(&thread)),
            wal.to_owned(),
            pace,
            Duration::ZERO,
            state,
        )
        .unwrap();
        Checkpoints::take_over(&writer);
        (writer, checkpoints)
    }

    /// The greatest length of the WAL, in pages, in so many changes of `size` bytes. Where the thread was asked, it is
    /// waited for, so that the result does not depend on the machine's speed.
    fn longest(writer: &Connection, checkpoints: &mut Checkpoints, changes: u32, size: u32) -> i32 {
        (0..changes).fold(0, |longest, _| {
            writer.execute("INSERT INTO texts VALUES (zeroblob(?1))", [size]).unwrap();
            checkpoints.committed(writer);
            let since = Instant::now();
            while checkpoints.asked && !checkpoints.copied.asked.load(Ordering::SeqCst) {
                assert!(since.elapsed() < Duration::from_secs(60), "the WAL is not copied");
                thread::yield_now();
            }
            longest.max(checkpoints.pages)
        })
    }

    #[tokio::test]
    async fn a_checkpoint_thread_that_panics_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.db");
        let writer = open(&file);
        writer.execute_batch("CREATE TABLE texts (text BLOB)").unwrap();
        let state = FileState { damaged: Arc::default(), guard: Arc::new(FileGuard::of(file.clone(), 4096).unwrap()) };
        let threads = WatchedThreads::default();
        let open = || panic!("on purpose");
        let _checkpoints = Checkpoints::start(&threads, open, file, PACE, Duration::ZERO, state).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), threads.failure()).await.unwrap();
        assert_eq!(ended.0, "authtokens checkpoint");
    }

    #[test]
    fn the_wal_is_restarted_at_its_length_while_changes_go_on_and_is_truncated_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (file, wal) = (folder.path().join("test.db"), folder.path().join("test.db-wal"));
        let pace = Pace { long: 50, step: 10, truncated_every: Duration::from_secs(3_600) };
        let (writer, mut checkpoints) = start(&file, &wal, pace);
        let longest = longest(&writer, &mut checkpoints, 1_000, 1_000);
        assert!((50..=60).contains(&longest), "{longest} pages, and not 50 and what a change or two take");
        checkpoints.finish(&writer).unwrap();
        assert_eq!(fs::metadata(&wal).unwrap().len(), 0);
        assert_eq!(writer.query_row("SELECT count(*) FROM texts", [], |row| row.get::<_, i64>(0)).unwrap(), 1_000);
    }

    #[test]
    fn the_wal_of_a_server_gets_no_longer_than_64_mib_and_a_change_or_two() {
        let folder = tempfile::tempdir().unwrap();
        let (file, wal) = (folder.path().join("test.db"), folder.path().join("test.db-wal"));
        let (writer, mut checkpoints) = start(&file, &wal, PACE);
        writer.pragma_update(None, "synchronous", "OFF").unwrap();
        longest(&writer, &mut checkpoints, 150, 1 << 20);
        let length = fs::metadata(&wal).unwrap().len();
        assert!((60 << 20..=70 << 20).contains(&length), "{length} bytes of some 150 MiB that were written");
        checkpoints.finish(&writer).unwrap();
    }

    #[test]
    fn what_was_deleted_leaves_a_wal_that_stays_short() {
        let folder = tempfile::tempdir().unwrap();
        let (file, wal) = (folder.path().join("test.db"), folder.path().join("test.db-wal"));
        let pace = Pace { truncated_every: Duration::from_millis(50), ..PACE };
        let (writer, mut checkpoints) = start(&file, &wal, pace);
        writer
            .execute_batch("PRAGMA secure_delete = ON; INSERT INTO texts VALUES ('a secret'); DELETE FROM texts")
            .unwrap();
        checkpoints.committed(&writer);
        let version = || writer.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).unwrap();
        let (before, since) = (version(), Instant::now());
        while fs::metadata(&wal).unwrap().len() > 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "the WAL is not truncated");
            thread::sleep(Duration::from_millis(10));
            checkpoints.truncate_copied(&writer).unwrap();
        }
        assert_eq!(version(), before, "it is no change by another process");
        assert!(!fs::read(&file).unwrap().windows(8).any(|bytes| bytes == b"a secret"));
        checkpoints.finish(&writer).unwrap();
    }
}
