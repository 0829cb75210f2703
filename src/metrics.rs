//! What the service counts, in the text format of Prometheus.
//!
//! [`Metrics`] is what the service tells: each exchange, each hash. It is on the way of every request, so it looks no
//! label up that it has met before. What the store and the hashing threads count by themselves is only asked for when
//! somebody looks, by [`Exposition`]. No label holds anything that a client chose: paths are the route table's patterns,
//! methods come from a list, and both have an `other`.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, TextEncoder,
};
use tokio::sync::Mutex;

use crate::backups::BackupStatus;
use crate::clock::Timestamp;
use crate::error_chain::Chain;
use crate::hashing::{HashingLoad, HashingThreads};
use crate::repository::{Repository, StoreCounts, StoreStatistics};

/// How long the answers to requests may take, in seconds.
const ANSWER_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How long hashes may take, in seconds.
const HASH_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What stands for any route and any method that is not in the lists.
const OTHER: &str = "other";

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER];
const POST: usize = 2;

/// The statuses whose counters are found without a look at their labels. Another one is counted all the same.
const STATUSES: [u16; 17] = [200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 501, 503];

/// How long the store's counts are believed at least, so that nobody can make it count at will.
const COUNTS_BELIEVED_FOR: Duration = Duration::from_secs(30);

/// Of the time, the part that counting may take is one in this many, however much there is to count.
const COUNTING_SHARE: u32 = 100;

/// Why a request was turned away before its work was begun, where nobody below counts it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many attempts came from its address.
    RateLimitAddress,
    /// Too many attempts were made at its account.
    RateLimitAccount,
    /// Too many bodies were arriving.
    BodyBudget,
}

/// What the service tells as it goes. There is one an application.
pub struct Metrics {
    /// The routes' patterns, and at the end `other`.
    routes: Vec<&'static str>,
    requests: IntCounterVec,
    /// The counters of `requests` by route, method and status, each found by its labels once.
    found: Vec<OnceLock<IntCounter>>,
    durations: HistogramVec,
    /// Those of `durations` by route.
    route_durations: Vec<Histogram>,
    hash_durations: Histogram,
    rejected_by_address: AtomicU64,
    rejected_by_account: AtomicU64,
    rejected_by_budget: AtomicU64,
    started: Timestamp,
}

impl Metrics {
    /// Nothing has happened yet. `routes` are the patterns of the route table, `started` is when the process began.
    ///
    /// # Panics
    /// Never: the names are written below, and whatever text a label may be.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = &'static str>, started: Timestamp) -> Self {
        Self::try_new(routes.into_iter().chain([OTHER]).collect(), started).expect("the names and labels are valid")
    }

    fn try_new(routes: Vec<&'static str>, started: Timestamp) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("authtokens_http_requests_total", "Requests that were answered."),
            &["method", "route", "status"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "authtokens_http_request_duration_seconds",
                "Time from the end of a request's head to its answer.",
            )
            .buckets(ANSWER_BUCKETS.to_vec()),
            &["route"],
        )?;
        let hash_durations = Histogram::with_opts(
            HistogramOpts::new("authtokens_hash_duration_seconds", "Time that a hashing thread took for a password.")
                .buckets(HASH_BUCKETS.to_vec()),
        )?;
        let route_durations =
            routes.iter().map(|route| durations.get_metric_with_label_values(&[*route])).collect::<Result<_, _>>()?;
        Ok(Self {
            found: (0..routes.len() * METHODS.len() * STATUSES.len()).map(|_| OnceLock::new()).collect(),
            routes,
            requests,
            durations,
            route_durations,
            hash_durations,
            rejected_by_address: AtomicU64::new(0),
            rejected_by_account: AtomicU64::new(0),
            rejected_by_budget: AtomicU64::new(0),
            started,
        })
    }

    /// A request was answered. `route` is the number of its pattern among those given at the start, `None` where it met
    /// none; `took` is not known of one that the framework refused.
    pub fn answered(&self, route: Option<usize>, method: &str, status: u16, took: Option<Duration>) {
        let other = self.routes.len() - 1;
        let route = route.unwrap_or(other).min(other);
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        if let Some(status) = STATUSES.iter().position(|known| *known == status) {
            self.found[place(route, method, status)]
                .get_or_init(|| self.requests(route, method, STATUSES[status]))
                .inc();
        } else {
            self.requests(route, method, status).inc();
        }
        if let Some(took) = took {
            self.route_durations[route].observe(took.as_secs_f64());
        }
    }

    fn requests(&self, route: usize, method: usize, status: u16) -> IntCounter {
        self.requests.with_label_values(&[METHODS[method], self.routes[route], status.to_string().as_str()])
    }

    /// A request was turned away.
    pub fn rejected(&self, reason: Reason) {
        let counter = match reason {
            Reason::RateLimitAddress => &self.rejected_by_address,
            Reason::RateLimitAccount => &self.rejected_by_account,
            Reason::BodyBudget => &self.rejected_by_budget,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A password was hashed or verified.
    pub fn hashed(&self, took: Duration) {
        self.hash_durations.observe(took.as_secs_f64());
    }

    /// How many POSTs to a route had this answer. It makes no series of what has not happened yet.
    fn posts(&self, route: &str, status: u16) -> u64 {
        let route = self.routes.iter().position(|known| *known == route);
        let status = STATUSES.iter().position(|known| *known == status);
        let found = route.zip(status).and_then(|(route, status)| self.found[place(route, POST, status)].get());
        found.map_or(0, IntCounter::get)
    }
}

/// Where the counter of a route, a method and a status is found, each given by its number.
fn place(route: usize, method: usize, status: usize) -> usize {
    (route * METHODS.len() + method) * STATUSES.len() + status
}

/// What is shown to whoever looks: what was told, and what is asked for at that moment.
pub struct Exposition {
    metrics: Arc<Metrics>,
    repository: Arc<dyn Repository>,
    threads: HashingThreads,
    backups: Option<BackupStatus>,
    counts: Mutex<Option<Counted>>,
}

/// What the store counted, and until when that is believed.
struct Counted {
    counts: Option<StoreCounts>,
    until: Instant,
}

impl Exposition {
    /// Shows `metrics` beside the state of the store, of the hashing threads and of the backups, where there are any.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        repository: Arc<dyn Repository>,
        threads: HashingThreads,
        backups: Option<BackupStatus>,
    ) -> Self {
        threads.observe({
            let metrics = Arc::clone(&metrics);
            move |took| metrics.hashed(took)
        });
        Self { metrics, repository, threads, backups, counts: Mutex::default() }
    }

    /// All of it, in version 0.0.4 of the text format.
    ///
    /// # Errors
    /// Where a metric has a name that the format does not allow.
    pub async fn text(&self) -> prometheus::Result<String> {
        let load = self.threads.load();
        let store = self.repository.statistics().await;
        let mut page = Page::default();
        self.show_process(&mut page)?;
        self.show_exchanges(&mut page)?;
        self.show_hashing(&mut page, load)?;
        self.show_store(&mut page, &store).await?;
        self.show_rejected(&mut page, load, &store)?;
        TextEncoder::new().encode_to_string(&page.0)
    }

    fn show_process(&self, page: &mut Page) -> prometheus::Result<()> {
        let version = ("version", env!("CARGO_PKG_VERSION"));
        page.gauge("authtokens_build_info", "Always 1; the label is the release.", Some(version), Some(1))?;
        page.seconds_since_1970("process_start_time_seconds", "When the process began.", Some(self.metrics.started))?;
        let memory = resident_memory();
        page.gauge("process_resident_memory_bytes", "Memory that the process holds, in bytes.", None, memory)
    }

    fn show_exchanges(&self, page: &mut Page) -> prometheus::Result<()> {
        page.add(&self.metrics.requests);
        page.add(&self.metrics.durations);
        let success = self.metrics.posts("/api/login", 200);
        let failure = self.metrics.posts("/api/login", 401);
        page.counters(
            "authtokens_logins_total",
            "Logins that were verified, by outcome.",
            "outcome",
            &[("success", success), ("failure", failure)],
        )?;
        let registrations = self.metrics.posts("/api/register", 201);
        page.counter("authtokens_registrations_total", "Accounts that were made.", registrations)
    }

    fn show_hashing(&self, page: &mut Page, load: HashingLoad) -> prometheus::Result<()> {
        page.gauge("authtokens_hashes_running", "Passwords that are being hashed.", None, Some(load.running))?;
        page.gauge("authtokens_hashes_waiting", "Passwords that wait for a thread.", None, Some(load.waiting))?;
        page.add(&self.metrics.hash_durations);
        Ok(())
    }

    async fn show_store(&self, page: &mut Page, store: &StoreStatistics) -> prometheus::Result<()> {
        page.gauge("authtokens_store_bytes", "Size of the database file, in bytes.", None, store.size)?;
        page.gauge(
            "authtokens_store_wal_bytes",
            "Size of the write-ahead log beside the database file, in bytes.",
            None,
            store.log_size,
        )?;
        page.counter("authtokens_store_reads_total", "Reads that the store was asked for.", store.reads)?;
        page.counter(
            "authtokens_store_delayed_reads_total",
            "Reads that had to wait for a free connection.",
            store.delayed_reads,
        )?;
        page.seconds(
            "authtokens_store_read_delay_seconds_total",
            "Time that reads waited for a free connection, all together.",
            store.read_delay,
        )?;
        let waiting = Some(store.waiting_writes);
        page.gauge("authtokens_store_waiting_writes", "Writes that wait for their turn.", None, waiting)?;
        page.counter("authtokens_store_writes_total", "Writes that were begun.", store.writes)?;
        page.counter("authtokens_store_commits_total", "Commits; one may hold many writes.", store.commits)?;
        let counts = self.counts().await;
        page.gauge("authtokens_users", "Accounts.", None, counts.map(|counts| counts.users))?;
        page.gauge(
            "authtokens_tokens",
            "Tokens that are live, or ended by their age or rest within the last hour.",
            None,
            counts.map(|counts| counts.sessions),
        )?;
        self.show_backups(page)
    }

    fn show_backups(&self, page: &mut Page) -> prometheus::Result<()> {
        let Some(backups) = self.backups.as_ref().map(BackupStatus::figures) else { return Ok(()) };
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
            &[("success", backups.made), ("failure", backups.failed)],
        )
    }

    fn show_rejected(&self, page: &mut Page, load: HashingLoad, store: &StoreStatistics) -> prometheus::Result<()> {
        page.counters(
            "authtokens_rejected_total",
            "Requests that were turned away before their work was begun, by reason.",
            "reason",
            &[
                ("hash_queue_full", load.refused),
                ("write_queue_full", store.refused_writes),
                ("pool_timeout", store.refused_reads),
                ("rate_limit_address", self.metrics.rejected_by_address.load(Ordering::Relaxed)),
                ("rate_limit_account", self.metrics.rejected_by_account.load(Ordering::Relaxed)),
                ("body_budget", self.metrics.rejected_by_budget.load(Ordering::Relaxed)),
            ],
        )
    }

    /// How much the store holds, as of a while ago; `None` where it could not tell.
    async fn counts(&self) -> Option<StoreCounts> {
        let mut last = self.counts.lock().await;
        if let Some(counted) = last.as_ref().filter(|counted| Instant::now() < counted.until) {
            return counted.counts;
        }
        let began = Instant::now();
        let counts =
            self.repository.count().await.inspect_err(|error| log::warn!("the store cannot count: {}", Chain(error)));
        let until = Instant::now() + COUNTS_BELIEVED_FOR.max(began.elapsed() * COUNTING_SHARE);
        last.insert(Counted { counts: counts.ok(), until }).counts
    }
}

/// What is shown, in the order in which it was added. What is only asked for is counted nowhere else, so its metric is
/// made for this one page.
#[derive(Default)]
struct Page(Vec<MetricFamily>);

impl Page {
    /// A metric of which there is nothing yet is left out.
    fn add(&mut self, metric: &impl Collector) {
        self.0.extend(metric.collect().into_iter().filter(|family| !family.get_metric().is_empty()));
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
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
            gauge.set(at.as_millis() as f64 / 1_000.0);
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

/// In bytes, where the system tells.
fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kibibytes.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(["/api/login", "/api/user/{id}"], Timestamp::MAX)
    }

    fn count(metrics: &Metrics, labels: &[&str; 3]) -> u64 {
        metrics.requests.with_label_values(labels).get()
    }

    #[test]
    fn each_answer_is_counted_under_its_own_labels_and_what_is_in_no_list_is_other() {
        let metrics = metrics();
        for _ in 0..3 {
            metrics.answered(Some(1), "GET", 200, None);
        }
        metrics.answered(Some(0), "POST", 503, None);
        metrics.answered(Some(0), "POST", 599, None);
        metrics.answered(None, "BREW", 404, None);
        metrics.answered(Some(2), "get", 404, None);
        metrics.answered(Some(99), "GET", 404, None);
        assert_eq!(count(&metrics, &["GET", "/api/user/{id}", "200"]), 3);
        assert_eq!(count(&metrics, &["POST", "/api/login", "503"]), 1);
        assert_eq!(count(&metrics, &["POST", "/api/login", "599"]), 1);
        assert_eq!(count(&metrics, &["other", "other", "404"]), 2);
        assert_eq!(count(&metrics, &["GET", "other", "404"]), 1);
    }

    #[test]
    fn every_known_route_method_and_status_has_a_counter_of_its_own() {
        let metrics = metrics();
        for route in 0..3 {
            for method in METHODS {
                for status in STATUSES {
                    metrics.answered(Some(route), method, status, None);
                }
            }
        }
        for (route, method, status) in [("/api/login", "GET", "200"), ("other", "other", "503")] {
            assert_eq!(count(&metrics, &[method, route, status]), 1);
        }
        assert_eq!((metrics.posts("/api/login", 200), METHODS[POST]), (1, "POST"));
        assert_eq!(metrics.requests.collect()[0].get_metric().len(), 3 * METHODS.len() * STATUSES.len());
        assert!(metrics.found.iter().all(|counter| counter.get().is_some_and(|counter| counter.get() == 1)));
    }

    #[test]
    fn an_answer_falls_into_the_bucket_of_its_route_and_time() {
        let metrics = metrics();
        metrics.answered(Some(0), "POST", 200, Some(Duration::from_millis(300)));
        assert_eq!(metrics.route_durations[0].get_sample_count(), 1);
        assert!((metrics.route_durations[0].get_sample_sum() - 0.3).abs() < 1e-9);
        assert_eq!(metrics.route_durations[1].get_sample_count(), 0);
    }
}
