//! The job that sends mail: what requests have queued in memory, and the store's outbox.
//!
//! A run begins deliveries until as many are under way as may be. They go on beside the job, each a task that reports how
//! it ended. Mails from memory and from the outbox take turns, so that neither waits for all of the other.
//!
//! - **A mail from memory** opens an account, so it is never stored. One that was not delivered is tried again while its
//!   code has some time left; a stop drops it.
//! - **A mail of the outbox** is claimed, so that no other process sends it too, and removed once the mail server has taken
//!   it. A process that dies between the two sends it again: at least once, never not at all.
//!
//! A delivery that fails by the mail server (it is not reached, or the login fails) says the same of every mail. Until
//! the next one succeeds, one at a time is tried, of another mail each time, with exponential backoff between them: a
//! server that is down is not asked for every mail that waits. A refusal of one mail says nothing of the server.
//!
//! What everybody is told of the server ([`MailStatus::shown_since`]) must not tell whether a mail was sent to an
//! address that somebody asked about. So it follows from the mails of the outbox alone: whether there is one depends on
//! no stranger's guess.
//!
//! The log tells of a mail's kind, attempt and cause of failure, never of its recipient or what it carries.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::accounts::mail_requests::{MailRequest, MailRequests, QueueSlot, QueuedRequest};
use crate::accounts::{Accounts, PreparedMail};
use crate::domain::mail::{Mail, MailKind, RETRY_AFTER};
use crate::domain::one_time::{CODE_LIFETIME, Purpose};
use crate::jobs::{Job, JobError};
use crate::mail::{DeliveryError, Postman};
use crate::repository::{OutboxMail, RepositoryError, Undelivered};
use crate::system::clock::{Clock, Monotonic, Timestamp};
use crate::system::error_chain::Chain;
use crate::telemetry::metrics::{MailOutcome, Metrics};

/// How often the outbox is looked at while nothing in it is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a request has to be answered before its mail is begun, and as long again at random.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);

/// How many deliveries are under way at most, so that a few slow ones do not hold up the others.
const AT_ONCE: usize = 16;

/// How long after each failed delivery a mail from memory is tried again; after the last of them, as after the last one.
const RETRY_MEMORY_AFTER: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(3 * 60)];

/// How much of its code's lifetime must be left for a mail from memory to be sent.
const LEAST_LEFT: Duration = Duration::from_secs(2 * 60);

/// How long a mail may take to be prepared and settled, beside its delivery, before the claim to it ends.
const CLAIM_MARGIN: Duration = Duration::from_secs(60);

/// The pause after the first failed delivery; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two deliveries while they fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long the mail server must have failed before everybody is told.
const SHOWN_AFTER: Duration = Duration::from_secs(5 * 60);

/// How long a stop waits for the deliveries that are under way.
const GRACE: Duration = Duration::from_millis(500);

/// The job.
pub struct SendMail {
    sender: Arc<Sender>,
    state: tokio::sync::Mutex<State>,
}

/// What the job and its deliveries share.
struct Sender {
    accounts: Arc<Accounts>,
    requests: Arc<MailRequests>,
    postman: Postman,
    /// How long a mail of the outbox is claimed.
    claim: Duration,
    server: Arc<Mutex<ServerState>>,
    metrics: Option<Arc<Metrics>>,
    clock: Clock,
    /// A delivery has ended.
    ended: Notify,
}

/// What only the job changes.
#[derive(Default)]
struct State {
    /// The mails from memory that are not under way, the longest waiting first.
    waiting: VecDeque<MemoryMail>,
    /// Those under way. Each answers with a mail from memory that is to be tried again.
    deliveries: JoinSet<Option<MemoryMail>>,
    /// Whether the outbox has the next turn.
    is_outbox_next: bool,
    /// When the outbox was found empty.
    was_empty: Option<Instant>,
}

/// A mail that somebody without a session has asked for.
struct MemoryMail {
    content: Content,
    kind: MailKind,
    /// How many deliveries have failed.
    attempts: u32,
    /// When it is tried next.
    due: Monotonic,
    /// When it is no longer worth sending.
    expires: Monotonic,
    #[expect(dead_code, reason = "what counts is that it is held")]
    slot: QueueSlot,
}

/// A mail from memory, before and after its first attempt.
enum Content {
    Request(MailRequest),
    Prepared(Mail),
}

/// Where a mail has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Memory,
    Outbox,
}

/// Whether the mail server takes mail. Clones tell the same.
#[derive(Clone, Default)]
pub struct MailStatus(Arc<Mutex<ServerState>>);

impl MailStatus {
    /// Since when deliveries fail; `None` where the last one did not. It is for the operator alone.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failing_since
    }

    /// The same for everybody: to the minute, once it has lasted for five minutes, by the mails of the outbox alone.
    #[must_use]
    pub fn shown_since(&self, now: Monotonic) -> Option<Timestamp> {
        let (since, at) = self.0.lock().unwrap_or_else(PoisonError::into_inner).outbox_failing?;
        (now.since(at) >= SHOWN_AFTER)
            .then(|| since.minus(Duration::from_millis(since.as_millis().rem_euclid(60_000).unsigned_abs())))
    }
}

/// How deliveries went lately.
#[derive(Default)]
struct ServerState {
    failing_since: Option<Timestamp>,
    /// Since when deliveries of the outbox fail, by both clocks.
    outbox_failing: Option<(Timestamp, Monotonic)>,
    /// How many pauses there were since then.
    failures: u32,
    /// When the next delivery may be tried.
    next: Monotonic,
}

impl ServerState {
    /// How many deliveries may be under way.
    fn at_once(&self, now: Monotonic) -> usize {
        match self.failing_since {
            None => AT_ONCE,
            Some(_) if now >= self.next => 1,
            Some(_) => 0,
        }
    }

    /// Notes that the server has taken a mail. Answers since when it had not.
    fn succeeded(&mut self, origin: Origin) -> Option<Timestamp> {
        self.failures = 0;
        if origin == Origin::Outbox {
            self.outbox_failing = None;
        }
        self.failing_since.take()
    }

    /// Notes a delivery that has failed by the server.
    fn failed(&mut self, origin: Origin, clock: &Clock) {
        let now = clock.monotonic();
        self.failing_since.get_or_insert_with(|| clock.now());
        if origin == Origin::Outbox {
            self.outbox_failing.get_or_insert_with(|| (clock.now(), now));
        }
        // Those that were under way together fail together, and count once.
        if self.failures == 0 || now >= self.next {
            let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
            self.failures = self.failures.saturating_add(1);
            self.next = now.plus(pause);
        }
    }
}

impl SendMail {
    /// A job that sends by `postman`, whose deliveries take `longest` at most.
    #[must_use]
    pub fn new(
        accounts: Arc<Accounts>,
        requests: Arc<MailRequests>,
        postman: Postman,
        longest: Duration,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        let sender = Sender {
            clock: accounts.clock.clone(),
            accounts,
            requests,
            postman,
            claim: longest + CLAIM_MARGIN,
            server: Arc::default(),
            metrics,
            ended: Notify::new(),
        };
        Self { sender: Arc::new(sender), state: tokio::sync::Mutex::default() }
    }

    /// Whether the mail server takes mail.
    #[must_use]
    pub fn status(&self) -> MailStatus {
        MailStatus(Arc::clone(&self.sender.server))
    }
}

#[async_trait]
impl Job for SendMail {
    fn name(&self) -> &'static str {
        "mail"
    }

    fn interval(&self) -> Duration {
        LOOK_EVERY
    }

    async fn due(&self) {
        let asked = async {
            self.sender.requests.added().await;
            // Not beside the answer to the request, which would take longer where there is a mail to be made.
            sleep(ANSWERED_WITHIN.mul_f64(1.0 + rand::random::<f64>())).await;
        };
        tokio::select! {
            () = asked => {}
            () = self.sender.ended.notified() => {}
        }
    }

    async fn run(&self) -> Result<(), JobError> {
        let mut state = self.state.lock().await;
        state.collect(&self.sender);
        while state.deliveries.len() < self.sender.at_once() {
            let is_memory_first = !state.is_outbox_next;
            let has_begun = (is_memory_first && state.begin_from_memory(&self.sender))
                || state.begin_from_outbox(&self.sender).await?
                || (!is_memory_first && state.begin_from_memory(&self.sender));
            if !has_begun {
                break;
            }
            state.is_outbox_next = is_memory_first;
        }
        Ok(())
    }

    /// Mails of the outbox stay there. Those from memory are lost, but for those that are delivered within a moment.
    async fn finish(&self) -> Result<(), JobError> {
        let mut state = self.state.lock().await;
        let deliveries = &mut state.deliveries;
        let _ = tokio::time::timeout(GRACE, async { while deliveries.join_next().await.is_some() {} }).await;
        let dropped = self.sender.requests.waiting();
        if dropped > 0 {
            log::warn!("{dropped} mails that were asked for were not sent before the stop, and are lost");
        }
        deliveries.shutdown().await;
        Ok(())
    }
}

impl State {
    /// Takes what was queued, and the deliveries that have ended.
    fn collect(&mut self, sender: &Sender) {
        let now = sender.clock.monotonic();
        while let Some(QueuedRequest { request, slot }) = sender.requests.pop() {
            let (kind, expires) = (kind_of(request.purpose), now.plus(CODE_LIFETIME));
            let content = Content::Request(request);
            self.waiting.push_back(MemoryMail { content, kind, attempts: 0, due: now, expires, slot });
        }
        while let Some(ended) = self.deliveries.try_join_next() {
            match ended {
                Ok(again) => self.waiting.extend(again),
                // The panic has logged itself. The claim to a mail of the outbox ends by itself.
                Err(error) => log::error!("a delivery panicked: {error}"),
            }
        }
        let before = self.waiting.len();
        self.waiting.retain(|mail| {
            let is_worth_sending = now < mail.expires;
            if !is_worth_sending {
                sender.count(mail.kind, MailOutcome::Failed);
            }
            is_worth_sending
        });
        let expired = before - self.waiting.len();
        if expired > 0 {
            log::warn!("{expired} mails waited for so long that they are no longer worth sending");
        }
    }

    /// Begins to deliver the mail from memory that has waited longest. `false` where none is due.
    fn begin_from_memory(&mut self, sender: &Arc<Sender>) -> bool {
        let now = sender.clock.monotonic();
        let due = self.waiting.iter().position(|mail| mail.due <= now);
        let Some(mail) = due.and_then(|index| self.waiting.remove(index)) else { return false };
        let sender = Arc::clone(sender);
        self.deliveries.spawn(async move {
            let again = sender.send_from_memory(mail).await;
            sender.ended.notify_one();
            again
        });
        true
    }

    /// Claims a mail of the outbox and begins to deliver it. `false` where none is due.
    async fn begin_from_outbox(&mut self, sender: &Arc<Sender>) -> Result<bool, JobError> {
        // Requests that wake the job all the time must not have it ask the store as often.
        let is_woken = sender.requests.take_wake();
        if !is_woken && self.was_empty.is_some_and(|at| at.elapsed() < LOOK_EVERY / 2) {
            return Ok(false);
        }
        let now = sender.clock.now();
        let claimed = sender.accounts.repository.claim_mails(1, now, now.plus(sender.claim)).await;
        let claimed = claimed.map_err(JobError::because("the mails that wait could not be read"))?;
        self.was_empty = claimed.is_empty().then(Instant::now);
        let has_some = !claimed.is_empty();
        for mail in claimed {
            let sender = Arc::clone(sender);
            self.deliveries.spawn(async move {
                if let Err(error) = sender.send_from_outbox(&mail).await {
                    log::warn!(
                        "a mail ({}) could not be settled, and may be sent again: {}",
                        mail.kind.name(),
                        Chain(&error)
                    );
                }
                sender.ended.notify_one();
                None
            });
        }
        Ok(has_some)
    }
}

impl Sender {
    fn at_once(&self) -> usize {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).at_once(self.clock.monotonic())
    }

    fn count(&self, kind: MailKind, outcome: MailOutcome) {
        if let Some(metrics) = &self.metrics {
            metrics.mail(kind, outcome);
        }
    }

    /// Sends a mail from memory, once. Answers with the mail where it is to be tried again.
    async fn send_from_memory(&self, mut memory: MemoryMail) -> Option<MemoryMail> {
        let mail = match memory.content {
            Content::Prepared(mail) => mail,
            Content::Request(request) => match self.accounts.prepare_mail(&request).await {
                Ok(mail) => {
                    memory.expires = self.clock.monotonic().plus(CODE_LIFETIME.saturating_sub(LEAST_LEFT));
                    mail?
                }
                Err(error) => {
                    log::warn!("a mail ({}) could not be made: {}", memory.kind.name(), Chain(&error));
                    memory.content = Content::Request(request);
                    let is_given_up = !self.put_off(&mut memory);
                    self.count(memory.kind, if is_given_up { MailOutcome::Failed } else { MailOutcome::Retried });
                    return (!is_given_up).then_some(memory);
                }
            },
        };
        let error = self.deliver(&mail, Origin::Memory).await.err()?;
        memory.content = Content::Prepared(mail);
        let is_given_up = !self.put_off(&mut memory) || error.is_permanent;
        self.note_failure(memory.kind, memory.attempts, &error, is_given_up);
        (!is_given_up).then_some(memory)
    }

    /// Has a mail from memory wait after a failure. `false` where it would then no longer be worth sending.
    fn put_off(&self, memory: &mut MemoryMail) -> bool {
        let after = RETRY_MEMORY_AFTER.get(memory.attempts as usize).or(RETRY_MEMORY_AFTER.last());
        memory.attempts += 1;
        memory.due = self.clock.monotonic().plus(after.copied().unwrap_or_default());
        memory.due < memory.expires
    }

    /// Sends a mail of the outbox, once, and settles the claim to it.
    async fn send_from_outbox(&self, claimed: &OutboxMail) -> Result<(), RepositoryError> {
        let repository = &self.accounts.repository;
        let mail = match self.accounts.prepare_outbox_mail(claimed).await? {
            PreparedMail::Send(mail) => mail,
            PreparedMail::Drop => {
                repository.complete_mail(claimed.id).await?;
                return Ok(());
            }
            PreparedMail::Later(wait) => {
                let now = self.clock.now();
                let later = Undelivered::Later(now.plus(wait).min(claimed.expires));
                repository.return_mail(claimed.id, later, now).await?;
                return Ok(());
            }
        };
        let Err(error) = self.deliver(&mail, Origin::Outbox).await else {
            repository.complete_mail(claimed.id).await?;
            return Ok(());
        };
        let now = self.clock.now();
        let next = RETRY_AFTER.get(claimed.attempts as usize).map(|after| now.plus(*after));
        let next = next.filter(|next| !error.is_permanent && *next < claimed.expires);
        self.note_failure(claimed.kind, claimed.attempts + 1, &error, next.is_none());
        repository.return_mail(claimed.id, next.map_or(Undelivered::GiveUp, Undelivered::Retry), now).await?;
        Ok(())
    }

    /// Delivers a mail, and notes how the mail server does.
    async fn deliver(&self, mail: &Mail, origin: Origin) -> Result<(), DeliveryError> {
        let began = Instant::now();
        let outcome = self.postman.deliver(mail).await;
        if let Some(metrics) = &self.metrics {
            metrics.delivered(began.elapsed());
        }
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Err(error) if error.is_of_server => server.failed(origin, &self.clock),
            Err(_) => {}
            Ok(()) => {
                if let Some(since) = server.succeeded(origin) {
                    log::info!("mail is delivered again, for the first time since {since}");
                }
            }
        }
        drop(server);
        if outcome.is_ok() {
            self.count(mail.kind, MailOutcome::Sent);
        }
        outcome
    }

    fn note_failure(&self, kind: MailKind, attempt: u32, error: &DeliveryError, is_given_up: bool) {
        let (outcome, what_now) = if is_given_up {
            (MailOutcome::Failed, "it is given up")
        } else {
            (MailOutcome::Retried, "it is tried again")
        };
        self.count(kind, outcome);
        log::warn!("a mail ({}) was not delivered at attempt {attempt}, {what_now}: {}", kind.name(), Chain(error));
    }
}

/// The kind of the mails that are asked for with this purpose.
const fn kind_of(purpose: Purpose) -> MailKind {
    match purpose {
        Purpose::ConfirmEmail => MailKind::ConfirmEmail,
        Purpose::ResetPassword | Purpose::NotMe => MailKind::ResetPassword,
        Purpose::SignIn => MailKind::SignIn,
        Purpose::Reauthenticate => MailKind::Reauthenticate,
    }
}
