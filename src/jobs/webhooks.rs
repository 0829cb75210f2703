//! The job that sends events to webhooks.
//!
//! Twice a second it asks the store which webhooks something is to be sent to. Each of these gets a task of its own, so that
//! one whose receiver hangs holds up no other. The task claims the webhook, sends a round of messages at once, and stores what
//! came of them, until nothing is left; only then the cursor has moved. A process that dies meanwhile sends the round again,
//! with the same ids: at least once, never not at all.
//!
//! What has failed is tried again by its own schedule. While all fails, a webhook is left alone for ever longer, up to a
//! minute, and one message at a time is tried.
//!
//! The log names a webhook by its id, never its address, which may hold a secret.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::accounts::Accounts;
use crate::accounts::webhooks::{Answer, open_secrets, send};
use crate::domain::webhook::{
    AT_ONCE, DISABLED_AFTER, DisabledBy, MAX_WEBHOOKS, WebhookId, WebhookSecret, pause_after, wait_after,
};
use crate::jobs::{Job, JobError};
use crate::outbound::Client;
use crate::repository::{ClaimedWebhook, DeliveryOutcome, RepositoryError, Settlement, WebhookDelivery};
use crate::system::clock::Timestamp;
use crate::system::error_chain::Chain;
use crate::telemetry::metrics::{Metrics, WebhookOutcome};

/// How often the job looks for what is to be sent.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a round may take to be settled, beside its deliveries, before the claim to its webhook ends.
const CLAIM_MARGIN: Duration = Duration::from_secs(20);

/// How long a round is tried to be settled where the store fails: what was delivered must not be sent again for that.
const SETTLED_WITHIN: u32 = 5;
const SETTLE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a webhook whose secret cannot be opened is left alone.
const UNSEALED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How long a stop waits for the rounds that are under way.
const GRACE: Duration = Duration::from_secs(1);

/// How many requests there are at most, to all webhooks together.
const MAX_REQUESTS: usize = (MAX_WEBHOOKS * AT_ONCE) as usize;

/// The job.
pub struct DeliverWebhooks {
    sender: Arc<Sender>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What the job and its tasks share.
struct Sender {
    accounts: Arc<Accounts>,
    client: Client,
    metrics: Option<Arc<Metrics>>,
    /// The webhooks that have a task.
    busy: Mutex<HashSet<WebhookId>>,
}

/// A webhook that has a task, for as long as that lives.
struct Busy {
    sender: Arc<Sender>,
    id: WebhookId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.sender.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl DeliverWebhooks {
    /// A job whose requests take `longest` at most.
    #[must_use]
    pub fn new(accounts: Arc<Accounts>, longest: Duration, metrics: Option<Arc<Metrics>>) -> Self {
        let client = Client::bounded_by_caller(longest, MAX_REQUESTS);
        let sender = Arc::new(Sender { accounts, client, metrics, busy: Mutex::default() });
        Self { sender, tasks: tokio::sync::Mutex::default() }
    }
}

#[async_trait]
impl Job for DeliverWebhooks {
    fn name(&self) -> &'static str {
        "webhooks"
    }

    fn interval(&self) -> Duration {
        LOOK_EVERY
    }

    async fn start(&self) -> Result<(), JobError> {
        let released = self.sender.accounts.repository.release_webhooks().await;
        released.map_err(JobError::because("the claims to webhooks of an earlier server could not be ended"))
    }

    async fn run(&self) -> Result<(), JobError> {
        let mut tasks = self.tasks.lock().await;
        while let Some(ended) = tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                log::error!("a task that sends to a webhook panicked, and is tried again");
            }
        }
        let due = self.sender.accounts.repository.list_due_webhooks(self.sender.accounts.clock.now()).await;
        for id in due.map_err(JobError::because("the webhooks could not be asked for what is to be sent"))? {
            if self.sender.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone()) {
                let busy = Busy { sender: Arc::clone(&self.sender), id };
                tasks.spawn(async move {
                    if let Err(error) = busy.sender.send_all(&busy.id).await {
                        log::warn!("the webhook {} could not be sent to: {}", busy.id, Chain(&error));
                    }
                });
            }
        }
        Ok(())
    }

    async fn finish(&self) -> Result<(), JobError> {
        let mut tasks = self.tasks.lock().await;
        // What is not settled by then is sent again at the next start.
        let _ = timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
        Ok(())
    }
}

impl Sender {
    /// Sends a webhook what there is for it, a round at a time.
    async fn send_all(&self, id: &WebhookId) -> Result<(), RepositoryError> {
        loop {
            let now = self.accounts.clock.now();
            let until = now.plus(self.client.timeout() + CLAIM_MARGIN);
            let claimed = self.accounts.repository.claim_webhook(id, now, until).await?;
            let Some(claimed) = claimed else { return Ok(()) };
            let is_paused = !self.send_round(claimed).await?;
            if is_paused {
                return Ok(());
            }
        }
    }

    /// Sends a round, and stores what came of it. `false` where the webhook is to be left alone now.
    async fn send_round(&self, claimed: ClaimedWebhook) -> Result<bool, RepositoryError> {
        let secrets = match open_secrets(&claimed.target, self.accounts.sealing.as_deref()) {
            Ok(secrets) => secrets,
            Err(error) => {
                // It is no failure of the receiver: nothing is sent until the key is there, and nothing is lost.
                log::error!("nothing is sent to the webhook {}: {error}", claimed.target.id);
                sleep(UNSEALED_AGAIN_AFTER).await;
                return Ok(false);
            }
        };
        let sending = claimed.deliveries.iter().map(|delivery| self.send(&claimed, &secrets, delivery));
        let answers = join_all(sending).await;
        let settlement = settlement_of(&claimed, answers, self.accounts.clock.now());
        for (_, outcome) in &settlement.outcomes {
            if let DeliveryOutcome::Failed { answer, retry } = outcome {
                let then = if retry.is_some() { "is tried again" } else { "is given up" };
                log::warn!("an event was not delivered to the webhook {}, and {then}: {answer}", claimed.target.id);
            }
        }
        if let Some(by) = settlement.disable {
            log::error!("the webhook {} is disabled ({})", claimed.target.id, by.name());
        }
        let goes_on = settlement.disable.is_none() && settlement.next <= self.accounts.clock.now();
        self.settle(&claimed, settlement).await?;
        Ok(goes_on)
    }

    async fn send(&self, claimed: &ClaimedWebhook, secrets: &[WebhookSecret], delivery: &WebhookDelivery) -> Answer {
        let began = Instant::now();
        let answer = send(&self.client, &claimed.target, secrets, &delivery.message, &self.accounts.clock).await;
        if let Some(metrics) = &self.metrics {
            let outcome = match (answer.is_delivered, wait_after(delivery.attempts + 1, 0.0)) {
                (true, _) => WebhookOutcome::Delivered,
                (false, Some(_)) => WebhookOutcome::Retried,
                (false, None) => WebhookOutcome::GivenUp,
            };
            metrics.webhook(outcome, began.elapsed());
        }
        answer
    }

    async fn settle(&self, claimed: &ClaimedWebhook, settlement: Settlement) -> Result<(), RepositoryError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let now = self.accounts.clock.now();
            match self.accounts.repository.settle_webhook(&claimed.claim, settlement.clone(), now).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    // It was removed or enabled meanwhile, or took too long and somebody else has it now.
                    log::info!("a round to the webhook {} was settled by nobody: its claim is over", claimed.target.id);
                    return Ok(());
                }
                Err(error) if tries >= SETTLED_WITHIN => return Err(error),
                Err(_) => sleep(SETTLE_AGAIN_AFTER).await,
            }
        }
    }
}

/// What is stored of a round, by its answers.
fn settlement_of(claimed: &ClaimedWebhook, answers: Vec<Answer>, now: Timestamp) -> Settlement {
    let has_success = answers.iter().any(|answer| answer.is_delivered);
    let is_gone = answers.iter().any(|answer| answer.is_gone);
    let left_alone = answers.iter().filter_map(|answer| answer.retry_after).max().unwrap_or_default();
    let pause = if has_success { Duration::ZERO } else { pause_after(claimed.failures.saturating_add(1)) };
    let failing_for = claimed.failing_since.map_or(Duration::ZERO, |since| now.since(since));
    let outcome = |(delivery, answer): (&WebhookDelivery, Answer)| {
        let outcome = if answer.is_delivered {
            DeliveryOutcome::Delivered
        } else {
            let wait = wait_after(delivery.attempts + 1, rand::random());
            let wait = wait.map(|wait| wait.max(answer.retry_after.unwrap_or_default()));
            DeliveryOutcome::Failed { answer: answer.told, retry: wait.map(|wait| now.plus(wait)) }
        };
        (delivery.clone(), outcome)
    };
    Settlement {
        outcomes: claimed.deliveries.iter().zip(answers).map(outcome).collect(),
        cursor: claimed.cursor,
        next: now.plus(pause.max(left_alone)),
        is_back: has_success && claimed.is_full,
        disable: if is_gone {
            Some(DisabledBy::Receiver)
        } else {
            (!has_success && failing_for >= DISABLED_AFTER).then_some(DisabledBy::Failures)
        },
    }
}
