//! Background jobs: the work that the service does by itself, beside answering requests.
//!
//! [`Jobs`] runs each [`Job`] at its interval, or as soon as the job says that it is due. Jobs run beside each other, but
//! a job never beside itself. A run that fails, or panics, is logged with its causes and tried again after the interval,
//! with exponential backoff while it keeps failing. A [`JobStatus`] counts each job's runs for the metrics.
//!
//! To add a job: implement [`Job`] in a file of its own, and add it where the application adds its jobs.

pub mod activity;
pub mod backups;
pub mod mail;
pub mod pruning;
pub mod revocations;
pub mod webhooks;

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::system::clock::{Clock, Monotonic, Timestamp};
use crate::system::error_chain::Chain;

/// How often the clock is read. One long sleep until a job is due would not count the time of a suspended machine.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest backoff of a job that keeps failing, but for its jitter. A job with a longer interval waits for its
/// interval. It is short: failed attempts and passwords that were set anew wait meanwhile.
const MAX_BACKOFF: Duration = Duration::from_secs(4);

/// Work that is done again and again.
#[async_trait]
pub trait Job: Send + Sync {
    /// Its name in the metrics.
    fn name(&self) -> &'static str;

    /// The time from the beginning of one run to the next, and from the start to the first.
    fn interval(&self) -> Duration;

    /// Resolves when a run should not wait for the interval. Nobody asks after a failed run: that one's backoff is kept.
    async fn due(&self) {
        std::future::pending::<()>().await;
    }

    /// What must be done before the service answers the first request.
    async fn start(&self) -> Result<(), JobError> {
        Ok(())
    }

    /// One run.
    async fn run(&self) -> Result<(), JobError>;

    /// What must be done after the service has answered its last request.
    async fn finish(&self) -> Result<(), JobError> {
        Ok(())
    }
}

/// What a job could not do, and why.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct JobError {
    what: String,
    source: Box<dyn Error + Send + Sync>,
}

impl JobError {
    /// For `map_err`: says what could not be done; the error becomes the cause.
    pub fn because<E: Into<Box<dyn Error + Send + Sync>>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        |source| Self { what: what.into(), source: source.into() }
    }
}

/// Counts a job's runs. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct JobStatus(Arc<Mutex<JobFigures>>);

/// A job's runs as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobFigures {
    /// When a run last succeeded.
    pub last_success: Option<Timestamp>,
    /// How many runs succeeded since the start.
    pub succeeded: u64,
    /// How many runs failed since the start.
    pub failed: u64,
}

impl JobStatus {
    /// The figures as of now.
    #[must_use]
    pub fn figures(&self) -> JobFigures {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a run that has succeeded.
    pub fn succeeded(&self, at: Timestamp) {
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.last_success = Some(at);
        figures.succeeded += 1;
    }

    /// Counts a run that has failed.
    pub fn failed(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failed += 1;
    }
}

/// The status of every job by its name, whether [`Jobs`] runs it or it has a thread of its own.
#[derive(Clone, Debug, Default)]
pub struct JobRegistry(Arc<Mutex<Vec<(&'static str, JobStatus)>>>);

impl JobRegistry {
    /// Adds a job; answers its status.
    #[must_use]
    pub fn register(&self, name: &'static str) -> JobStatus {
        let status = JobStatus::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, status.clone()));
        status
    }

    /// The figures of all jobs, in the order in which they were registered.
    #[must_use]
    pub fn figures(&self) -> Vec<(&'static str, JobFigures)> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().map(|(name, status)| (*name, status.figures())).collect()
    }
}

/// The scheduler of the jobs.
pub struct Jobs {
    scheduled: Vec<Scheduled>,
    registry: JobRegistry,
    clock: Clock,
    /// When the first interval begins.
    started: Monotonic,
    stop: watch::Sender<bool>,
}

struct Scheduled {
    job: Box<dyn Job>,
    status: JobStatus,
}

impl Jobs {
    /// A scheduler without jobs.
    #[must_use]
    pub fn new(registry: JobRegistry, clock: Clock) -> Self {
        Self { scheduled: Vec::new(), registry, started: clock.monotonic(), clock, stop: watch::Sender::new(false) }
    }

    /// Adds a job, which [`Jobs::run`] will run.
    pub fn add(&mut self, job: impl Job + 'static) {
        let status = self.registry.register(job.name());
        self.scheduled.push(Scheduled { job: Box::new(job), status });
    }

    /// Calls each job's [`Job::start`], one after another.
    pub async fn start(&self) {
        for scheduled in &self.scheduled {
            scheduled.attempt(scheduled.job.start()).await;
        }
    }

    /// Runs all jobs until [`Jobs::stop`], then calls each job's [`Job::finish`].
    pub async fn run(&self) {
        join_all(self.scheduled.iter().map(|scheduled| self.keep_running(scheduled))).await;
    }

    /// Lets no more runs begin, and gives up those that are under way: what a run has asked of the store is done or not,
    /// and never by half.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    async fn keep_running(&self, scheduled: &Scheduled) {
        let mut stop = self.stop.subscribe();
        let (mut began, mut failures) = (self.started, 0);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.until_due(scheduled, began, failures) => {}
                () = scheduled.job.due(), if failures == 0 => {}
            }
            began = self.clock.monotonic();
            let succeeded = tokio::select! {
                biased;
                succeeded = scheduled.attempt(scheduled.job.run()) => succeeded,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            if succeeded {
                scheduled.status.succeeded(self.clock.now());
                failures = 0;
            } else {
                scheduled.status.failed();
                failures = failures.saturating_add(1);
            }
        }
        scheduled.attempt(scheduled.job.finish()).await;
    }

    /// Waits until the job's interval, or its backoff after a failure, is over by the monotonic clock.
    async fn until_due(&self, scheduled: &Scheduled, began: Monotonic, failures: u32) {
        let wait = wait_after(failures, scheduled.job.interval());
        let step = LOOK_EVERY.min(wait);
        let (mut last, mut waited) = (began, Duration::ZERO);
        while waited < wait {
            sleep(step).await;
            let now = self.clock.monotonic();
            // At least the sleep has passed, also where a test holds the clock.
            waited += now.since(last).max(step);
            last = now;
        }
    }
}

/// The exponential backoff after so many failures in a row: the interval after none and after one, then twice as long
/// each time. A random jitter of up to a quarter is added, so that jobs that failed together do not come back together.
fn wait_after(failures: u32, interval: Duration) -> Duration {
    if failures < 2 {
        return interval;
    }
    let wait = interval.saturating_mul(2_u32.saturating_pow(failures - 1)).min(MAX_BACKOFF);
    wait.mul_f64(1.0 + rand::random::<f64>() / 4.0).max(interval)
}

impl Scheduled {
    /// Whether the work succeeded. A failure is logged.
    async fn attempt(&self, work: impl Future<Output = Result<(), JobError>>) -> bool {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => log::warn!("{}", Chain(&error)),
            // The panic has logged itself, with its message.
            Err(_) => log::error!("the job \"{}\" panicked, and is tried again", self.job.name()),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::{Notify, mpsc};

    use super::*;

    /// A job that reports each run, and runs a closure.
    struct TestJob<F> {
        interval: Duration,
        ran: mpsc::UnboundedSender<&'static str>,
        run: F,
    }

    #[async_trait]
    impl<F: Fn() -> Result<(), JobError> + Send + Sync> Job for TestJob<F> {
        fn name(&self) -> &'static str {
            "test"
        }

        fn interval(&self) -> Duration {
            self.interval
        }

        async fn run(&self) -> Result<(), JobError> {
            let _ = self.ran.send("run");
            (self.run)()
        }

        async fn finish(&self) -> Result<(), JobError> {
            let _ = self.ran.send("finish");
            Ok(())
        }
    }

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(1_000_000);

    fn jobs() -> (Jobs, JobRegistry, Clock) {
        let (registry, clock) = (JobRegistry::default(), Clock::held_at(Timestamp::BEFORE_THIS_RELEASE));
        (Jobs::new(registry.clone(), clock.clone()), registry, clock)
    }

    fn add(
        jobs: &mut Jobs,
        interval: Duration,
        run: impl Fn() -> Result<(), JobError> + Send + Sync + 'static,
    ) -> mpsc::UnboundedReceiver<&'static str> {
        let (ran, runs) = mpsc::unbounded_channel();
        jobs.add(TestJob { interval, ran, run });
        runs
    }

    fn failure() -> JobError {
        JobError::because("it could not be done")(std::io::Error::other("on purpose"))
    }

    /// Runs the jobs beside `work`, then stops them.
    async fn beside(jobs: &Jobs, work: impl Future<Output = ()>) {
        let work = async {
            work.await;
            jobs.stop();
        };
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(jobs.run(), work) }).await.unwrap();
    }

    /// A job whose run never ends.
    struct Endless(mpsc::UnboundedSender<&'static str>);

    #[async_trait]
    impl Job for Endless {
        fn name(&self) -> &'static str {
            "endless"
        }

        fn interval(&self) -> Duration {
            SOON
        }

        async fn run(&self) -> Result<(), JobError> {
            let _ = self.0.send("run");
            std::future::pending().await
        }

        async fn finish(&self) -> Result<(), JobError> {
            let _ = self.0.send("finish");
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_run_that_is_under_way_does_not_hold_up_the_stop() {
        let (mut jobs, ..) = jobs();
        let (ran, mut runs) = mpsc::unbounded_channel();
        jobs.add(Endless(ran));
        beside(&jobs, async { assert_eq!(runs.recv().await, Some("run")) }).await;
        assert_eq!(runs.recv().await, Some("finish"));
    }

    #[tokio::test]
    async fn a_job_that_panics_or_fails_is_counted_and_tried_again_and_the_others_go_on() {
        let (mut jobs, registry, clock) = jobs();
        let tried = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&tried);
        let mut panicking = add(&mut jobs, SOON, move || match count.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("on purpose"),
            _ => Err(failure()),
        });
        let mut others = add(&mut jobs, SOON, || Ok(()));
        beside(&jobs, async {
            for _ in 0..2 {
                panicking.recv().await;
                others.recv().await;
            }
        })
        .await;
        let figures: Vec<JobFigures> = registry.figures().into_iter().map(|(_, figures)| figures).collect();
        assert_eq!(
            figures[0],
            JobFigures { last_success: None, succeeded: 0, failed: tried.load(Ordering::Relaxed).into() }
        );
        assert!(figures[0].failed >= 2, "{figures:?}");
        assert_eq!((figures[1].last_success, figures[1].failed), (Some(clock.now()), 0));
        assert!(figures[1].succeeded >= 1, "{figures:?}");
    }

    /// A job whose interval is never over, and that is woken.
    struct Woken {
        due: Arc<Notify>,
        ran: mpsc::UnboundedSender<()>,
        fails: bool,
    }

    #[async_trait]
    impl Job for Woken {
        fn name(&self) -> &'static str {
            "woken"
        }

        fn interval(&self) -> Duration {
            NEVER
        }

        async fn due(&self) {
            self.due.notified().await;
        }

        async fn run(&self) -> Result<(), JobError> {
            let _ = self.ran.send(());
            if self.fails { Err(failure()) } else { Ok(()) }
        }
    }

    #[tokio::test]
    async fn a_job_that_is_due_does_not_wait_for_its_interval_unless_it_has_just_failed() {
        for fails in [false, true] {
            let (mut jobs, ..) = jobs();
            let due = Arc::new(Notify::new());
            let (ran, mut runs) = mpsc::unbounded_channel();
            jobs.add(Woken { due: Arc::clone(&due), ran, fails });
            beside(&jobs, async {
                // Also where it was woken before anybody waited.
                due.notify_one();
                runs.recv().await;
                due.notify_one();
                let again = tokio::time::timeout(LOOK_EVERY / 2, runs.recv()).await;
                assert_eq!(again.is_ok(), !fails);
            })
            .await;
        }
    }

    #[tokio::test]
    async fn told_to_stop_a_job_does_not_begin_another_run_and_finishes() {
        let (mut jobs, _, _) = jobs();
        // It is due at once.
        let mut runs = add(&mut jobs, Duration::ZERO, || Ok(()));
        jobs.stop();
        jobs.run().await;
        drop(jobs);
        assert_eq!((runs.recv().await, runs.recv().await), (Some("finish"), None));
    }

    #[tokio::test]
    async fn an_interval_is_over_when_the_monotonic_clock_says_so_whatever_the_wall_clock_is_set_to() {
        let (mut jobs, _, clock) = jobs();
        let mut runs = add(&mut jobs, NEVER, || Ok(()));
        beside(&jobs, async {
            clock.set(clock.now().plus(NEVER * 2));
            assert!(tokio::time::timeout(LOOK_EVERY * 3 / 2, runs.recv()).await.is_err());
            clock.advance(NEVER);
            runs.recv().await;
        })
        .await;
    }

    #[test]
    fn a_job_that_keeps_failing_waits_ever_longer_and_never_shorter_than_its_interval() {
        let second = Duration::from_secs(1);
        assert_eq!([wait_after(0, second), wait_after(1, second)], [second; 2]);
        for (failures, wait) in [(2, 2), (3, 4), (4, 4), (50, 4), (u32::MAX, 4)] {
            let wait = Duration::from_secs(wait);
            assert!((wait..=wait * 5 / 4).contains(&wait_after(failures, second)), "{failures}");
        }
        assert_eq!(wait_after(7, Duration::from_secs(60 * 60)), Duration::from_secs(60 * 60));
    }
}
