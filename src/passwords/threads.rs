//! The threads that hash passwords, and the bounded queue in front of them.
//!
//! One hash at cost 12 takes a core for about a quarter of a second. Nothing else that the service does costs as much,
//! so a flood of logins would slow down all other requests. So hashing has a fixed number of threads of its own at low
//! priority, and a bounded queue (load shedding): where the queue is full, work is refused at once. Work that nobody
//! waits for any more leaves the queue at once.
//!
//! Work that takes much memory is done alone: one piece at a time, beside other work. What waits for its turn waits in a
//! queue of its own, as long as the other, and holds no thread.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::system::priority::lower_priority;
use crate::system::watched::WatchedThreads;

/// How long the work of a client that has closed its sending half stays in the queue. Such a client may have gone away,
/// or may still read. Where a thread is free, the work starts well within this time.
const GRACE: Duration = Duration::from_millis(100);

/// Why there is no result.
#[derive(Debug, Error)]
pub enum HashingError {
    /// The queue is full.
    #[error("the hashing queue is full")]
    Full {
        /// When a slot may be free, in seconds.
        retry_after: u64,
    },
    /// The client disconnected before a thread was free.
    #[error("the client went away")]
    Abandoned,
    /// The work panicked.
    #[error("hashing ended without a result")]
    Failed,
}

/// The load of the threads and their queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingLoad {
    /// How many threads are busy.
    pub running: usize,
    /// How many pieces of work wait for a thread.
    pub waiting: usize,
    /// How many were refused since the start because the queue was full.
    pub refused: u64,
}

/// A handle on the hashing threads. They end when its last clone is dropped.
#[derive(Clone)]
pub struct HashingThreads {
    shared: Arc<Shared>,
    _running: Arc<Running>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    threads: NonZeroUsize,
    /// The queue's capacity.
    slots: usize,
    /// How long the last piece of work took, in milliseconds.
    last_took: AtomicU64,
    refused: AtomicU64,
    /// Called with the duration of each piece of work.
    observer: OnceLock<Box<dyn Fn(Duration) + Send + Sync>>,
}

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    /// In the order of their numbers.
    waiting: BTreeMap<u64, Work>,
    /// Likewise, of which one runs at a time.
    waiting_alone: BTreeMap<u64, Work>,
    next_number: u64,
    busy: usize,
    /// Whether one of the latter runs.
    is_alone_busy: bool,
    stopped: bool,
}

impl Queue {
    fn lane(&mut self, is_alone: bool) -> &mut BTreeMap<u64, Work> {
        if is_alone { &mut self.waiting_alone } else { &mut self.waiting }
    }

    /// Takes the work that has waited longest among what may run now, and whether it is done alone.
    fn take(&mut self) -> Option<(Work, bool)> {
        let first = |lane: &BTreeMap<u64, Work>| lane.first_key_value().map(|(number, _)| *number);
        let (any, alone) = (first(&self.waiting), first(&self.waiting_alone).filter(|_| !self.is_alone_busy));
        let is_alone = alone.is_some_and(|alone| any.is_none_or(|any| alone < any));
        let (_, work) = if is_alone || any.is_some() { self.lane(is_alone).pop_first()? } else { return None };
        self.busy += 1;
        self.is_alone_busy |= is_alone;
        Some((work, is_alone))
    }

    /// Notes that work is done.
    fn done(&mut self, is_alone: bool) {
        self.busy -= 1;
        self.is_alone_busy &= !is_alone;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the threads when the last handle is dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.wake.notify_all();
    }
}

/// A slot in the queue, freed when the future that waits for it is dropped.
struct QueueSlot<'a> {
    shared: &'a Shared,
    number: u64,
    is_alone: bool,
}

impl QueueSlot<'_> {
    /// Frees the slot; `false` when a thread has taken the work already.
    fn leave(&self) -> bool {
        self.shared.lock().lane(self.is_alone).remove(&self.number).is_some()
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl HashingThreads {
    /// Starts `threads` threads, watched by `watched`, with a queue of `slots`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(threads: NonZeroUsize, slots: usize, watched: &WatchedThreads) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            threads,
            slots,
            last_took: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            observer: OnceLock::new(),
        });
        let running = Arc::new(Running(Arc::clone(&shared)));
        for number in 0..threads.get() {
            let shared = Arc::clone(&shared);
            watched.spawn(&format!("authtokens hash {number}"), move || serve(&shared, number))?;
        }
        Ok(Self { shared, _running: running })
    }

    /// The load at this moment.
    #[must_use]
    pub fn load(&self) -> HashingLoad {
        let queue = self.shared.lock();
        HashingLoad {
            running: queue.busy,
            waiting: queue.waiting.len() + queue.waiting_alone.len(),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }

    /// Has `observer` called with the duration of each piece of work from now on. There can be one.
    pub fn observe(&self, observer: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.shared.observer.set(Box::new(observer));
    }

    /// Runs `work` on one of the threads. `gone` resolves when nobody waits for the result any more: work that no
    /// thread has taken a moment later is dropped.
    ///
    /// # Errors
    /// See [`HashingError`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        gone: impl Future<Output = ()>,
    ) -> Result<T, HashingError> {
        self.run_in(false, work, gone).await
    }

    /// The same for work that takes much memory, of which one piece is done at a time.
    ///
    /// # Errors
    /// See [`HashingError`].
    pub async fn run_alone<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        gone: impl Future<Output = ()>,
    ) -> Result<T, HashingError> {
        self.run_in(true, work, gone).await
    }

    async fn run_in<T: Send + 'static>(
        &self,
        is_alone: bool,
        work: impl FnOnce() -> T + Send + 'static,
        gone: impl Future<Output = ()>,
    ) -> Result<T, HashingError> {
        let (reply, mut result) = oneshot::channel();
        let work = move || {
            // Nobody may be waiting any more.
            let _ = reply.send(work());
        };
        let slot = self.shared.queue_up(Box::new(work), is_alone)?;
        let gone_for_good = async {
            gone.await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            done = &mut result => return done.map_err(|_| HashingError::Failed),
            () = gone_for_good => {}
        }
        if slot.leave() {
            return Err(HashingError::Abandoned);
        }
        result.await.map_err(|_| HashingError::Failed)
    }
}

impl Shared {
    fn queue_up(&self, work: Work, is_alone: bool) -> Result<QueueSlot<'_>, HashingError> {
        let mut queue = self.lock();
        let threads = if is_alone { 1 } else { self.threads.get() };
        let idle = self.threads.get().saturating_sub(queue.busy);
        let idle = if is_alone { idle.min(usize::from(!queue.is_alone_busy)) } else { idle };
        let waiting = queue.lane(is_alone).len();
        if waiting >= self.slots + idle {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(HashingError::Full { retry_after: self.retry_after(waiting, threads) });
        }
        let number = queue.next_number;
        queue.next_number += 1;
        queue.lane(is_alone).insert(number, work);
        drop(queue);
        self.wake.notify_one();
        Ok(QueueSlot { shared: self, number, is_alone })
    }

    /// How long a queue will take to drain by so many threads at the pace of the last hash, in whole seconds, at least
    /// one.
    fn retry_after(&self, waiting: usize, threads: usize) -> u64 {
        let rounds = u64::try_from(waiting.div_ceil(threads)).unwrap_or(u64::MAX);
        self.last_took.load(Ordering::Relaxed).saturating_mul(rounds).div_ceil(1_000).max(1)
    }
}

fn serve(shared: &Shared, number: usize) {
    lower_priority(&format!("hashing thread {number}"), NICENESS);
    let mut queue = shared.lock();
    loop {
        if let Some((work, is_alone)) = queue.take() {
            drop(queue);
            let started = Instant::now();
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                log::error!("a hashing thread caught a panic and goes on");
            }
            let took = started.elapsed();
            shared.last_took.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            if let Some(observer) = shared.observer.get() {
                observer(took);
            }
            queue = shared.lock();
            queue.done(is_alone);
            if is_alone {
                // The next of its kind may run now, and this thread may take other work.
                shared.wake.notify_one();
            }
        } else if queue.stopped {
            return;
        } else {
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The niceness of the threads. Against a thread of normal priority that wants the same core all the time, Linux gives
/// one of this niceness a fifteenth of that core. Niceness 4 to 16 was measured: the higher it is, the less a flood of
/// logins slows down token checks, and the fewer logins get through beside a flood of token checks. At 12, four fifths
/// of the token checks and a seventh of the logins are left.
const NICENESS: i32 = 12;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn start(slots: usize, watched: &WatchedThreads) -> HashingThreads {
        HashingThreads::start(NonZeroUsize::MIN, slots, watched).unwrap()
    }

    /// One thread, kept busy until the returned sender is dropped or used.
    async fn busy_thread(slots: usize) -> (HashingThreads, mpsc::Sender<()>) {
        let threads = start(slots, &WatchedThreads::default());
        let (started, has_started) = oneshot::channel();
        let (release, wait) = mpsc::channel::<()>();
        let background = threads.clone();
        tokio::spawn(async move {
            let work = move || {
                let _ = started.send(());
                let _ = wait.recv();
            };
            background.run(work, std::future::pending()).await
        });
        has_started.await.unwrap();
        (threads, release)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
        let (threads, release) = busy_thread(1).await;
        let waiting = tokio::spawn({
            let threads = threads.clone();
            async move { threads.run(|| 7, std::future::pending()).await }
        });
        while threads.shared.lock().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        let refused = threads.run(|| 8, std::future::pending()).await;
        assert!(matches!(refused, Err(HashingError::Full { retry_after }) if retry_after >= 1));
        assert_eq!(threads.load(), HashingLoad { running: 1, waiting: 1, refused: 1 });
        drop(release);
        assert_eq!(waiting.await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_takes_much_memory_runs_alone_and_holds_no_thread_while_it_waits() {
        let threads = HashingThreads::start(NonZeroUsize::new(3).unwrap(), 2, &WatchedThreads::default()).unwrap();
        let (started, starts) = mpsc::channel();
        let (release, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let start = |number: usize| {
            let (threads, started, wait) = (threads.clone(), started.clone(), Arc::clone(&wait));
            tokio::spawn(async move {
                let work = move || {
                    started.send(number).unwrap();
                    wait.lock().unwrap().recv().unwrap();
                };
                threads.run_alone(work, std::future::pending()).await
            })
        };
        let mut tasks = Vec::new();
        for number in 0..3 {
            tasks.push(start(number));
            while threads.load().waiting < number {
                tokio::task::yield_now().await;
            }
            if number == 0 {
                while threads.load().running == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        assert_eq!(threads.load(), HashingLoad { running: 1, waiting: 2, refused: 0 });

        // The queue of such work is full, and other work goes on beside it.
        let refused = threads.run_alone(|| 8, std::future::pending()).await;
        assert!(matches!(refused, Err(HashingError::Full { retry_after }) if retry_after >= 1));
        assert_eq!(threads.run(|| 7, std::future::pending()).await.unwrap(), 7);
        assert_eq!(starts.try_iter().collect::<Vec<_>>(), [0], "one at a time");

        for number in 1..3 {
            release.send(()).unwrap();
            while threads.load().waiting > 2 - number {
                tokio::task::yield_now().await;
            }
            assert_eq!(starts.recv().unwrap(), number, "in their order");
            assert_eq!(threads.load().running, 1);
        }
        release.send(()).unwrap();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn work_that_waits_alone_leaves_the_queue_with_its_client_and_a_panic_lets_the_next_run() {
        let threads = start(1, &WatchedThreads::default());
        let failed: Result<(), _> = threads.run_alone(|| panic!("on purpose"), std::future::pending()).await;
        assert!(matches!(failed, Err(HashingError::Failed)));
        assert_eq!(threads.run_alone(|| 7, std::future::pending()).await.unwrap(), 7);

        let (threads, release) = busy_thread(1).await;
        let held = Arc::new(());
        let work = {
            let held = Arc::clone(&held);
            move || drop(held)
        };
        let abandoned = threads.run_alone(work, std::future::ready(())).await;
        assert!(matches!(abandoned, Err(HashingError::Abandoned)));
        assert_eq!((threads.load().waiting, Arc::strong_count(&held)), (0, 1), "what it held is freed");
        drop(release);
    }

    #[tokio::test]
    async fn a_client_that_has_gone_away_does_not_leave_its_hash_in_the_queue() {
        let (threads, release) = busy_thread(1).await;
        let abandoned = threads.run(|| 7, std::future::ready(())).await;
        assert!(matches!(abandoned, Err(HashingError::Abandoned)));
        assert!(threads.shared.lock().waiting.is_empty());

        let dropped = tokio::time::timeout(Duration::from_millis(10), threads.run(|| 7, std::future::pending()));
        assert!(dropped.await.is_err());
        assert!(threads.shared.lock().waiting.is_empty());
        drop(release);
    }

    #[tokio::test]
    async fn a_client_that_only_closed_its_sending_half_is_answered_where_a_thread_is_free() {
        let threads = start(1, &WatchedThreads::default());
        assert_eq!(threads.run(|| 7, std::future::ready(())).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_in_one_hash_fails_that_one_alone() {
        let threads = start(1, &WatchedThreads::default());
        let failed: Result<(), _> = threads.run(|| panic!("on purpose"), std::future::pending()).await;
        assert!(matches!(failed, Err(HashingError::Failed)));
        assert_eq!(threads.run(|| 7, std::future::pending()).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_thread_that_ends_though_panics_are_caught_is_reported() {
        let watched = WatchedThreads::default();
        let threads = start(1, &watched);
        threads.observe(|_| panic!("on purpose, where nothing catches it"));
        assert_eq!(threads.run(|| 7, std::future::pending()).await.unwrap(), 7);
        let ended = tokio::time::timeout(Duration::from_secs(60), watched.failure()).await;
        assert_eq!(ended.unwrap().0, "authtokens hash 0");
    }
}
