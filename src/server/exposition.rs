//! The exposition: gathers all metrics into one page in the text format of Prometheus.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder};
use tokio::sync::Mutex;

use crate::accounts::Accounts;
use crate::jobs::JobRegistry;
use crate::jobs::backups::BackupStatus;
use crate::jobs::mail::MailStatus;
use crate::passwords::threads::{HashingLoad, HashingThreads};
use crate::repository::{Figure, FigureValue, StoreCounts, StoreStatistics, WebhookStatistics};
use crate::system::clock::Timestamp;
use crate::system::error_chain::Chain;
use crate::telemetry::metrics::{Metrics, Reason};

/// The least age at which the store's counts are taken again, so that nobody can make it count at will.
const COUNTS_BELIEVED_FOR: Duration = Duration::from_secs(30);

/// Counting takes at most one part in this many of the time, however much there is to count.
const COUNTING_SHARE: u32 = 100;

/// Gathers the metrics: those that are counted as events happen, and those that are read at that moment.
pub struct Exposition {
    started: Timestamp,
    metrics: Arc<Metrics>,
    accounts: Arc<Accounts>,
    threads: HashingThreads,
    backups: Option<BackupStatus>,
    mail: Option<MailStatus>,
    jobs: JobRegistry,
    counts: Mutex<Option<Counted>>,
}

/// The store's counts, and until when they are shown.
struct Counted {
    counts: Option<StoreCounts>,
    until: Instant,
}

impl Exposition {
    /// Shows `metrics` and the state of the store, the hashing threads, the background jobs, and the backups and the mails
    /// where there are any. The process counts as started now.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        accounts: Arc<Accounts>,
        backups: Option<BackupStatus>,
        mail: Option<MailStatus>,
        jobs: JobRegistry,
    ) -> Self {
        let threads = accounts.passwords.threads().clone();
        threads.observe({
            let metrics = Arc::clone(&metrics);
            move |took| metrics.hashed(took)
        });
        Self {
            started: accounts.clock.now(),
            metrics,
            accounts,
            threads,
            backups,
            mail,
            jobs,
            counts: Mutex::default(),
        }
    }

    /// All metrics, in version 0.0.4 of the text format.
    ///
    /// # Errors
    /// Where a metric has a name that the format does not allow.
    pub async fn text(&self) -> prometheus::Result<String> {
        let load = self.threads.load();
        let store = self.accounts.repository.statistics().await;
        let mut page = Page::default();
        self.show_process(&mut page)?;
        self.show_requests(&mut page)?;
        self.show_hashing(&mut page, load)?;
        self.show_store(&mut page, &store).await?;
        self.show_rejected(&mut page, load, &store)?;
        self.show_jobs(&mut page)?;
        self.show_mails(&mut page).await?;
        self.show_webhooks(&mut page).await?;
        TextEncoder::new().encode_to_string(&page.0)
    }

    fn show_process(&self, page: &mut Page) -> prometheus::Result<()> {
        let version = ("version", env!("CARGO_PKG_VERSION"));
        page.gauge("authtokens_build_info", "Always 1; the label is the release.", Some(version), Some(1))?;
        page.seconds_since_1970("process_start_time_seconds", "When the process began.", Some(self.started))?;
        let memory = resident_memory();
        page.gauge("process_resident_memory_bytes", "Memory that the process holds, in bytes.", None, memory)
    }

    fn show_requests(&self, page: &mut Page) -> prometheus::Result<()> {
        for metric in self.metrics.of_requests() {
            page.add(metric);
        }
        let [success, failure] = self.metrics.logins();
        page.counters(
            "authtokens_logins_total",
            "Logins that were verified, by outcome.",
            "outcome",
            &[("success", success), ("failure", failure)],
        )?;
        page.counter("authtokens_registrations_total", "Accounts that were made.", self.metrics.registrations())?;
        for metric in self.metrics.of_sign_ins() {
            page.add(metric);
        }
        Ok(())
    }

    fn show_hashing(&self, page: &mut Page, load: HashingLoad) -> prometheus::Result<()> {
        page.gauge("authtokens_hashes_running", "Passwords that are being hashed.", None, Some(load.running))?;
        page.gauge("authtokens_hashes_waiting", "Passwords that wait for a thread.", None, Some(load.waiting))?;
        page.add(self.metrics.of_hashes());
        Ok(())
    }

    async fn show_store(&self, page: &mut Page, store: &StoreStatistics) -> prometheus::Result<()> {
        store.figures.iter().try_for_each(|figure| page.figure(figure))?;
        let counts = self.counts().await;
        page.gauge("authtokens_users", "Accounts.", None, counts.map(|counts| counts.users))?;
        page.gauge(
            "authtokens_tokens",
            "Tokens that are live, or ended by their lifetime or idle timeout within the last hour.",
            None,
            counts.map(|counts| counts.sessions),
        )?;
        page.gauge(
            "authtokens_revocations_waiting",
            "Refresh tokens of identities that are gone, which wait to be revoked.",
            None,
            counts.map(|counts| counts.revocations),
        )?;
        self.show_backups(page)
    }

    fn show_backups(&self, page: &mut Page) -> prometheus::Result<()> {
        let Some(status) = &self.backups else { return Ok(()) };
        let (backups, runs) = (status.figures(), status.runs().figures());
        page.seconds_since_1970(
            "authtokens_last_backup_timestamp_seconds",
            "The moment that the newest good backup holds.",
            backups.last_good,
        )?;
        page.gauge("authtokens_last_backup_bytes", "The size of the last backup.", None, Some(backups.size))?;
        page.counters(
            "authtokens_backups_total",
            "Backups by the clock, by outcome.",
            "outcome",
            &[("success", runs.succeeded), ("failure", runs.failed)],
        )
    }

    fn show_rejected(&self, page: &mut Page, load: HashingLoad, store: &StoreStatistics) -> prometheus::Result<()> {
        let mut refused = vec![("hash_queue_full", load.refused)];
        refused.extend(&store.refused);
        refused.extend([
            ("rate_limit_address", self.metrics.rejections(Reason::RateLimitAddress)),
            ("rate_limit_account", self.metrics.rejections(Reason::RateLimitAccount)),
            ("rate_limit_service", self.metrics.rejections(Reason::RateLimitService)),
            ("body_budget", self.metrics.rejections(Reason::BodyBudget)),
        ]);
        if let Some(mail) = &self.accounts.mail {
            refused.extend([
                ("rate_limit_mail", self.metrics.rejections(Reason::RateLimitMail)),
                ("mail_queue_full", mail.requests.refused()),
            ]);
        }
        page.counters(
            "authtokens_rejected_total",
            "Requests that were turned away before their work was begun, by reason.",
            "reason",
            &refused,
        )
    }

    fn show_jobs(&self, page: &mut Page) -> prometheus::Result<()> {
        let runs = IntCounterVec::new(
            Opts::new("authtokens_job_runs_total", "Runs of the background jobs, by outcome."),
            &["job", "outcome"],
        )?;
        let last_success = GaugeVec::new(
            Opts::new("authtokens_job_last_success_timestamp_seconds", "When a run of each job last succeeded."),
            &["job"],
        )?;
        for (job, figures) in self.jobs.figures() {
            runs.get_metric_with_label_values(&[job, "success"])?.inc_by(figures.succeeded);
            runs.get_metric_with_label_values(&[job, "failure"])?.inc_by(figures.failed);
            if let Some(at) = figures.last_success {
                last_success.get_metric_with_label_values(&[job])?.set(in_seconds(at));
            }
        }
        page.add(&runs);
        page.add(&last_success);
        Ok(())
    }

    async fn show_mails(&self, page: &mut Page) -> prometheus::Result<()> {
        let Some(mail) = &self.accounts.mail else { return Ok(()) };
        for metric in self.metrics.of_mails() {
            page.add(metric);
        }
        let limited = "Mails that were not sent, or put off, because their mailbox has had as many as it may.";
        page.counter("authtokens_mails_limited_total", limited, mail.limits.limited())?;
        let outbox = self.accounts.repository.outbox_statistics().await;
        let outbox = outbox.inspect_err(|error| log::warn!("the outbox cannot be counted: {}", Chain(error))).ok();
        let queue = IntGaugeVec::new(Opts::new("authtokens_mail_queue", "Mails that wait, by where."), &["queue"])?;
        let memory = Some(u64::try_from(mail.requests.waiting()).unwrap_or(u64::MAX));
        for (name, waiting) in [("memory", memory), ("outbox", outbox.map(|outbox| outbox.waiting))] {
            if let Some(waiting) = waiting {
                queue.get_metric_with_label_values(&[name])?.set(i64::try_from(waiting).unwrap_or(i64::MAX));
            }
        }
        page.add(&queue);
        if let Some(status) = &self.mail {
            let help = "When deliveries began to fail by the mail server; 0 while the last one did not.";
            let failing = Gauge::new("authtokens_mail_failing_since_timestamp_seconds", help)?;
            failing.set(status.failing_since().map_or(0.0, in_seconds));
            page.add(&failing);
        }
        let age = outbox.map(|outbox| outbox.oldest.map_or(Duration::ZERO, |at| self.accounts.clock.now().since(at)));
        let help = "How long the mail that has waited longest has been in the outbox.";
        page.gauge("authtokens_mail_outbox_oldest_seconds", help, None, age.map(|age| age.as_secs()))
    }

    /// Only where there is a webhook.
    async fn show_webhooks(&self, page: &mut Page) -> prometheus::Result<()> {
        let webhooks = self.accounts.repository.webhook_statistics().await;
        let webhooks = webhooks.inspect_err(|error| log::warn!("the webhooks cannot be counted: {}", Chain(error)));
        let Ok(Some(webhooks)) = webhooks else { return Ok(()) };
        for metric in self.metrics.of_webhooks() {
            page.add(metric);
        }
        let states = IntGaugeVec::new(Opts::new("authtokens_webhooks", "Webhooks, by state."), &["state"])?;
        let WebhookStatistics { working, failing, disabled, behind, waiting, lost } = webhooks;
        for (state, count) in [("working", working), ("failing", failing), ("disabled", disabled)] {
            states.get_metric_with_label_values(&[state])?.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        page.add(&states);
        let help = "Events that enabled webhooks were not sent yet.";
        page.gauge("authtokens_webhook_events_behind", help, None, Some(behind))?;
        let help = "Deliveries to webhooks that wait for another attempt.";
        page.gauge("authtokens_webhook_deliveries_waiting", help, None, Some(waiting))?;
        let help = "Events that were pruned before the webhooks that there are were sent them.";
        page.gauge("authtokens_webhook_events_lost", help, None, Some(lost))
    }

    /// How much the store held when it last counted; `None` where it could not count.
    async fn counts(&self) -> Option<StoreCounts> {
        let mut last = self.counts.lock().await;
        if let Some(counted) = last.as_ref().filter(|counted| Instant::now() < counted.until) {
            return counted.counts;
        }
        let began = Instant::now();
        let counts = self
            .accounts
            .repository
            .count()
            .await
            .inspect_err(|error| log::warn!("the store cannot count: {}", Chain(error)));
        let until = Instant::now() + COUNTS_BELIEVED_FOR.max(began.elapsed() * COUNTING_SHARE);
        last.insert(Counted { counts: counts.ok(), until }).counts
    }
}

/// The metrics of one page, in the order in which they were added. A value that is only read, not counted, gets a
/// metric that lives for this page.
#[derive(Default)]
struct Page(Vec<MetricFamily>);

impl Page {
    /// Adds a metric; one without any series yet is left out.
    fn add(&mut self, metric: &dyn Collector) {
        self.0.extend(metric.collect().into_iter().filter(|family| !family.get_metric().is_empty()));
    }

    fn figure(&mut self, figure: &Figure) -> prometheus::Result<()> {
        let Figure { name, help, value } = *figure;
        match value {
            FigureValue::Gauge(value) => self.gauge(name, help, None, Some(value)),
            FigureValue::GaugeSeconds(value) => {
                let gauge = Gauge::new(name, help)?;
                gauge.set(value.as_secs_f64());
                self.add(&gauge);
                Ok(())
            }
            FigureValue::Counter(value) => self.counter(name, help, value),
            FigureValue::Seconds(value) => self.seconds(name, help, value),
        }
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        label: Option<(&str, &str)>,
        value: Option<impl TryInto<u64>>,
    ) -> prometheus::Result<()> {
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            let opts = Opts::new(name, help);
            let opts = if let Some((label, text)) = label { opts.const_label(label, text) } else { opts };
            let gauge = IntGauge::with_opts(opts)?;
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            self.add(&gauge);
        }
        Ok(())
    }

    fn seconds_since_1970(&mut self, name: &str, help: &str, at: Option<Timestamp>) -> prometheus::Result<()> {
        if let Some(at) = at {
            let gauge = Gauge::new(name, help)?;
            gauge.set(in_seconds(at));
            self.add(&gauge);
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.add(&counter);
        Ok(())
    }

    fn seconds(&mut self, name: &str, help: &str, value: Duration) -> prometheus::Result<()> {
        let counter = Counter::new(name, help)?;
        counter.inc_by(value.as_secs_f64());
        self.add(&counter);
        Ok(())
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> prometheus::Result<()> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        for (text, value) in values {
            counters.get_metric_with_label_values(&[*text])?.inc_by(*value);
        }
        self.add(&counters);
        Ok(())
    }
}

/// In seconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
fn in_seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

/// In bytes, where the system tells.
fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kibibytes.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
