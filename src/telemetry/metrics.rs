//! The metrics that are counted as events happen, in the types of Prometheus.
//!
//! Every request passes [`Metrics`], so it looks up each combination of labels only once. No label holds anything that
//! a client chose: paths are the route table's patterns, methods come from a list, and both have an `other`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

use crate::domain::mail::MailKind;

/// The histogram buckets for the times of answers, in seconds.
const ANSWER_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The histogram buckets for the times of hashes, in seconds.
const HASH_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The histogram buckets for the times of deliveries of mails and to webhooks, in seconds.
const DELIVERY_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The label of any route and any method that is not in the lists.
const OTHER: &str = "other";

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER];

/// The statuses whose counters are kept at hand. Others are counted too, by looking up their labels.
const STATUSES: [u16; 17] = [200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 501, 503];

/// Why a request was rejected before its work began, where no lower layer counts that already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// Too many attempts came from its address.
    RateLimitAddress,
    /// Too many attempts were made at its account.
    RateLimitAccount,
    /// Too many bodies were arriving.
    BodyBudget,
    /// Too many mails were asked for.
    RateLimitMail,
    /// A service has asked too often whose tokens are.
    RateLimitService,
}

/// What became of a mail, or of an attempt to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailOutcome {
    /// It was delivered.
    Sent,
    /// It was not, and is tried again.
    Retried,
    /// It was given up.
    Failed,
}

impl MailOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retried => "retried",
            Self::Failed => "failed",
        }
    }
}

/// What became of an attempt to deliver an event to a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// It was delivered.
    Delivered,
    /// It was not, and is tried again.
    Retried,
    /// It was given up.
    GivenUp,
}

impl WebhookOutcome {
    const ALL: [Self; 3] = [Self::Delivered, Self::Retried, Self::GivenUp];

    const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::GivenUp => "given_up",
        }
    }
}

/// The counters and histograms. There is one an application.
pub struct Metrics {
    /// The routes' patterns, and `other` at the end.
    routes: Vec<&'static str>,
    requests: IntCounterVec,
    /// The counters of `requests` by route, method and status, each looked up once.
    found: Vec<OnceLock<IntCounter>>,
    durations: HistogramVec,
    /// The histograms of `durations` by route.
    route_durations: Vec<Histogram>,
    hash_durations: Histogram,
    /// By [`Reason`].
    rejected: [AtomicU64; 5],
    mails: IntCounterVec,
    mail_durations: Histogram,
    webhooks: IntCounterVec,
    webhook_durations: Histogram,
    sign_ins: IntCounterVec,
    second_factors_due: IntCounterVec,
    /// Logins that succeeded and that failed, and accounts that were registered.
    logins: [AtomicU64; 2],
    registrations: AtomicU64,
}

impl Metrics {
    /// Starts with nothing counted. `routes` are the patterns of the route table.
    ///
    /// # Panics
    /// Never: the names are valid constants, and a label may be any text.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = &'static str>) -> Self {
        Self::try_new(routes.into_iter().chain([OTHER]).collect()).expect("the names and labels are valid")
    }

    fn try_new(routes: Vec<&'static str>) -> prometheus::Result<Self> {
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
        let mails = IntCounterVec::new(
            Opts::new("authtokens_mails_total", "Mails by kind, and what became of them or of an attempt."),
            &["kind", "outcome"],
        )?;
        let mail_durations = Histogram::with_opts(
            HistogramOpts::new("authtokens_mail_delivery_duration_seconds", "Time that the delivery of a mail took.")
                .buckets(DELIVERY_BUCKETS.to_vec()),
        )?;
        let webhooks = IntCounterVec::new(
            Opts::new("authtokens_webhook_deliveries_total", "Attempts to deliver events to webhooks, by outcome."),
            &["outcome"],
        )?;
        for outcome in WebhookOutcome::ALL {
            webhooks.get_metric_with_label_values(&[outcome.name()])?;
        }
        let webhook_durations = Histogram::with_opts(
            HistogramOpts::new("authtokens_webhook_delivery_duration_seconds", "Time that an attempt took.")
                .buckets(DELIVERY_BUCKETS.to_vec()),
        )?;
        let sign_ins = IntCounterVec::new(
            Opts::new("authtokens_sign_ins_total", "Sessions that were opened, by what was shown first and second."),
            &["way", "second_factor"],
        )?;
        let second_factors_due = IntCounterVec::new(
            Opts::new(
                "authtokens_second_factors_due_total",
                "Logins that were asked for a second factor, by what was shown first.",
            ),
            &["way"],
        )?;
        // From 0 on, so that the first one is seen in a rate.
        for way in ["registration", "password"] {
            sign_ins.get_metric_with_label_values(&[way, "none"])?;
        }
        second_factors_due.get_metric_with_label_values(&["password"])?;
        let route_durations =
            routes.iter().map(|route| durations.get_metric_with_label_values(&[*route])).collect::<Result<_, _>>()?;
        Ok(Self {
            found: (0..routes.len() * METHODS.len() * STATUSES.len()).map(|_| OnceLock::new()).collect(),
            routes,
            requests,
            durations,
            route_durations,
            hash_durations,
            rejected: Default::default(),
            mails,
            mail_durations,
            webhooks,
            webhook_durations,
            sign_ins,
            second_factors_due,
            logins: Default::default(),
            registrations: AtomicU64::new(0),
        })
    }

    /// Counts a request that was answered. `route` is the index of its pattern in `routes`, `None` where it matched
    /// none; `took` is not known of one that the framework refused.
    pub fn answered(&self, route: Option<usize>, method: &str, status: u16, took: Option<Duration>) {
        let other = self.routes.len() - 1;
        let route = route.unwrap_or(other).min(other);
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        if let Some(status) = STATUSES.iter().position(|known| *known == status) {
            self.found[index_of(route, method, status)]
                .get_or_init(|| self.counter_of(route, method, STATUSES[status]))
                .inc();
        } else {
            self.counter_of(route, method, status).inc();
        }
        if let Some(took) = took {
            self.route_durations[route].observe(took.as_secs_f64());
        }
    }

    fn counter_of(&self, route: usize, method: usize, status: u16) -> IntCounter {
        self.requests.with_label_values(&[METHODS[method], self.routes[route], status.to_string().as_str()])
    }

    /// Counts a request that was rejected.
    pub fn rejected(&self, reason: Reason) {
        self.rejected[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were rejected for this reason.
    #[must_use]
    pub fn rejections(&self, reason: Reason) -> u64 {
        self.rejected[reason as usize].load(Ordering::Relaxed)
    }

    /// Counts a password that was hashed or verified.
    pub fn hashed(&self, took: Duration) {
        self.hash_durations.observe(took.as_secs_f64());
    }

    /// Counts a session that was opened: by which way in, and with which second factor.
    pub fn signed_in(&self, way: &str, second_factor: &str) {
        self.sign_ins.with_label_values(&[way, second_factor]).inc();
        self.logins[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an account that was registered, and the session that was opened with it.
    pub fn registered(&self, way: &str) {
        self.sign_ins.with_label_values(&[way, "none"]).inc();
        self.registrations.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a login that was asked for its second factor.
    pub fn second_factor_due(&self, way: &str) {
        self.second_factors_due.with_label_values(&[way]).inc();
    }

    /// Counts a login that has failed: a factor of it was wrong.
    pub fn login_failed(&self) {
        self.logins[1].fetch_add(1, Ordering::Relaxed);
    }

    /// How many logins succeeded, and how many failed.
    #[must_use]
    pub fn logins(&self) -> [u64; 2] {
        [0, 1].map(|outcome: usize| self.logins[outcome].load(Ordering::Relaxed))
    }

    /// How many accounts were registered.
    #[must_use]
    pub fn registrations(&self) -> u64 {
        self.registrations.load(Ordering::Relaxed)
    }

    /// The metrics of sign-ins.
    #[must_use]
    pub fn of_sign_ins(&self) -> [&dyn Collector; 2] {
        [&self.sign_ins, &self.second_factors_due]
    }

    /// Counts a mail.
    pub fn mail(&self, kind: MailKind, outcome: MailOutcome) {
        self.mails.with_label_values(&[kind.name(), outcome.name()]).inc();
    }

    /// Counts an attempt to deliver a mail, whatever its outcome.
    pub fn delivered(&self, took: Duration) {
        self.mail_durations.observe(took.as_secs_f64());
    }

    /// The metrics of mails.
    #[must_use]
    pub fn of_mails(&self) -> [&dyn Collector; 2] {
        [&self.mails, &self.mail_durations]
    }

    /// Counts an attempt to deliver an event to a webhook.
    pub fn webhook(&self, outcome: WebhookOutcome, took: Duration) {
        self.webhooks.with_label_values(&[outcome.name()]).inc();
        self.webhook_durations.observe(took.as_secs_f64());
    }

    /// The metrics of webhooks.
    #[must_use]
    pub fn of_webhooks(&self) -> [&dyn Collector; 2] {
        [&self.webhooks, &self.webhook_durations]
    }

    /// The metrics of requests and their answers.
    #[must_use]
    pub fn of_requests(&self) -> [&dyn Collector; 2] {
        [&self.requests, &self.durations]
    }

    /// The metric of how long hashes took.
    #[must_use]
    pub fn of_hashes(&self) -> &dyn Collector {
        &self.hash_durations
    }
}

/// The index of the counter of a route, a method and a status, each given by its own index.
fn index_of(route: usize, method: usize, status: usize) -> usize {
    (route * METHODS.len() + method) * STATUSES.len() + status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(["/api/login", "/api/user/{id}"])
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
