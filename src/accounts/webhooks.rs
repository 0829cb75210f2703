//! Webhooks: adding and changing them, and sending a message.
//!
//! A secret is shown once, when it is made, and stored sealed. Who may do this is decided by the store.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::domain::rights::Actor;
use crate::domain::webhook::{
    LONGEST_RETRY_AFTER, MAX_TOLD, MAX_URL, MAX_WEBHOOKS, Message, ROTATED_WITHIN, WebhookId, WebhookKinds,
    WebhookSecret, signatures,
};
use crate::outbound::{Client, Reach, Response, check_url};
use crate::repository::{
    Enabled, FailedDelivery, NewWebhook, Replay, Replayed, Repository, RepositoryError, StoredWebhook, WebhookTarget,
};
use crate::system::clock::{Clock, Timestamp};
use crate::system::sealing::{SealingKey, UnsealError};
use crate::system::visible::is_unseen;

/// Why nothing was done to a webhook.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// The address cannot be one.
    #[error("the address cannot be used: {0}")]
    Url(String),
    /// There are as many as there may be.
    #[error("there are {MAX_WEBHOOKS} webhooks already, which is the most")]
    TooMany,
    /// There is no key to seal a secret with.
    #[error("the secret of a webhook is stored sealed, and there is no key: set sealing.key")]
    NoKey,
    /// There is none of this id.
    #[error("there is no such webhook")]
    NoWebhook,
    /// It is disabled already.
    #[error("the webhook is disabled already")]
    Disabled,
    /// The key to its secret was lost.
    #[error("the key to the webhook's secret was lost: rotate it first")]
    NoSecret,
    /// Its secret is not opened by the key.
    #[error("the webhook's secret cannot be opened: {0}")]
    Unseal(#[from] UnsealError),
    /// The store failed, or refused the actor.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Answer {
    pub is_delivered: bool,
    /// What the receiver has answered, or why there is no answer; shortened, and without control characters.
    pub told: String,
    /// Whether the receiver has said that it is gone for good.
    pub is_gone: bool,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// What an actor does to webhooks.
pub struct WebhookAdministration<'a> {
    repository: &'a dyn Repository,
    key: Option<&'a SealingKey>,
    clock: &'a Clock,
    actor: Actor,
}

impl<'a> WebhookAdministration<'a> {
    /// On behalf of an actor.
    #[must_use]
    pub fn new(repository: &'a dyn Repository, key: Option<&'a SealingKey>, clock: &'a Clock, actor: Actor) -> Self {
        Self { repository, key, clock, actor }
    }

    /// Adds a webhook. Answers its id and its secret, which is not shown again.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn add(
        &self,
        url: &str,
        kinds: WebhookKinds,
        allow_private: bool,
    ) -> Result<(WebhookId, WebhookSecret), WebhookError> {
        let url = check_url(url, reach(allow_private)).map_err(WebhookError::Url)?;
        if url.len() > MAX_URL {
            return Err(WebhookError::Url(format!("it has more than {MAX_URL} bytes")));
        }
        let (id, secret) = (WebhookId::generate(), WebhookSecret::generate());
        let sealed = self.seal(&id, &secret)?;
        let new = NewWebhook { id: id.clone(), url, kinds, allow_private, secret: sealed };
        if !self.repository.add_webhook(&self.actor, new, self.clock.now()).await? {
            return Err(WebhookError::TooMany);
        }
        Ok((id, secret))
    }

    /// All webhooks, the oldest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn list(&self) -> Result<Vec<StoredWebhook>, RepositoryError> {
        self.repository.list_webhooks(&self.actor).await
    }

    /// Gives a webhook another secret, which is not shown again. The former one signs, too, until the time that is answered.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn rotate(&self, id: &WebhookId) -> Result<(WebhookSecret, Timestamp), WebhookError> {
        let (secret, now) = (WebhookSecret::generate(), self.clock.now());
        let (sealed, until) = (self.seal(id, &secret)?, now.plus(ROTATED_WITHIN));
        if !self.repository.rotate_webhook(&self.actor, id, sealed, until, now).await? {
            return Err(WebhookError::NoWebhook);
        }
        Ok((secret, until))
    }

    /// Sends nothing to a webhook any more.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn disable(&self, id: &WebhookId) -> Result<(), WebhookError> {
        if self.repository.disable_webhook(&self.actor, id, self.clock.now()).await? {
            return Ok(());
        }
        let exists = self.repository.find_webhook_target(&self.actor, id, self.clock.now()).await?.is_some();
        Err(if exists { WebhookError::Disabled } else { WebhookError::NoWebhook })
    }

    /// Sends to a webhook again, from where it has stopped.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn enable(&self, id: &WebhookId) -> Result<(), WebhookError> {
        match self.repository.enable_webhook(&self.actor, id, self.clock.now()).await? {
            Enabled::Done => Ok(()),
            Enabled::NoWebhook => Err(WebhookError::NoWebhook),
            Enabled::NoSecret => Err(WebhookError::NoSecret),
        }
    }

    /// Removes a webhook.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn remove(&self, id: &WebhookId) -> Result<(), WebhookError> {
        let is_removed = self.repository.remove_webhook(&self.actor, id, self.clock.now()).await?;
        if is_removed { Ok(()) } else { Err(WebhookError::NoWebhook) }
    }

    /// Has events sent again.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn replay(&self, id: &WebhookId, replay: Replay) -> Result<Replayed, WebhookError> {
        let replayed = self.repository.replay_webhook(&self.actor, id, replay, self.clock.now()).await?;
        replayed.ok_or(WebhookError::NoWebhook)
    }

    /// The deliveries of a webhook that have failed or wait, those that were tried last first.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn failed_deliveries(&self, id: &WebhookId, limit: u32) -> Result<Vec<FailedDelivery>, WebhookError> {
        let listed = self.repository.list_failed_deliveries(&self.actor, id, limit).await?;
        listed.ok_or(WebhookError::NoWebhook)
    }

    /// Sends a message of the type `test` to a webhook, also where it is disabled. Nothing is stored.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn test(&self, id: &WebhookId, client: &Client) -> Result<Answer, WebhookError> {
        let now = self.clock.now();
        let target = self.repository.find_webhook_target(&self.actor, id, now).await?;
        let target = target.ok_or(WebhookError::NoWebhook)?;
        let secrets = open_secrets(&target, self.key)?;
        Ok(send(client, &target, &secrets, &Message::test(id, now), self.clock).await)
    }

    fn seal(&self, id: &WebhookId, secret: &WebhookSecret) -> Result<Vec<u8>, WebhookError> {
        let key = self.key.ok_or(WebhookError::NoKey)?;
        Ok(key.seal(&id.secret_binding(), secret.as_bytes()))
    }
}

/// Opens what signs the messages to a webhook.
///
/// # Errors
/// [`WebhookError::NoKey`], [`WebhookError::NoSecret`] or [`WebhookError::Unseal`].
pub fn open_secrets(target: &WebhookTarget, key: Option<&SealingKey>) -> Result<Arc<[WebhookSecret]>, WebhookError> {
    if target.secrets.is_empty() {
        return Err(WebhookError::NoSecret);
    }
    let key = key.ok_or(WebhookError::NoKey)?;
    let binding = target.id.secret_binding();
    let open = |sealed: &Vec<u8>| Ok(WebhookSecret::from_bytes(&key.open(&binding, sealed)?));
    target.secrets.iter().map(open).collect()
}

/// Sends a message, once.
pub async fn send(
    client: &Client,
    target: &WebhookTarget,
    secrets: &[WebhookSecret],
    message: &Message,
    clock: &Clock,
) -> Answer {
    let at = clock.now().as_millis().div_euclid(1_000);
    let (signature, time) = (signatures(secrets, &message.id, at, &message.body), at.to_string());
    let headers = [("webhook-id", &*message.id), ("webhook-timestamp", &*time), ("webhook-signature", &*signature)];
    let body = ("application/json", message.body.clone().into_bytes());
    match client.post(reach(target.allow_private), &target.url, &headers, body).await {
        Ok(response) => read_answer(&response, clock.now()),
        Err(error) => {
            Answer { is_delivered: false, told: shorten(&error.to_string()), is_gone: false, retry_after: None }
        }
    }
}

fn read_answer(response: &Response, now: Timestamp) -> Answer {
    let is_delivered = (200..300).contains(&response.status);
    let said = String::from_utf8_lossy(&response.body);
    let told = if said.trim().is_empty() {
        response.status.to_string()
    } else {
        shorten(&format!("{}: {}", response.status, said.trim()))
    };
    let asks = [429, 503].contains(&response.status);
    let retry_after = response.header("retry-after").filter(|_| asks).and_then(|text| read_retry_after(text, now));
    Answer { is_delivered, told, is_gone: response.status == 410, retry_after }
}

/// How long a receiver wants to be left alone: in seconds, or until a time.
fn read_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        // More digits than a number has.
        Err(_) if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) => LONGEST_RETRY_AFTER,
        Err(_) => Timestamp::from_http_date(text)?.since(now),
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// A text that was answered, as it is kept: short, and on one line.
fn shorten(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { ' ' } else { c }).take(MAX_TOLD).collect()
}

/// Which addresses a webhook may have.
fn reach(allow_private: bool) -> Reach {
    if allow_private { Reach::Private } else { Reach::Public }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let now = Timestamp::from_millis(784_111_777_000).unwrap();
        read_answer(&Response { status, headers, body: body.to_vec() }, now)
    }

    #[test]
    fn what_a_receiver_answers_is_read_and_kept_short_and_printable() {
        assert!(answer(200, &[], b"").is_delivered && answer(299, &[], b"").is_delivered);
        for status in [199, 300, 400, 404, 410, 429, 500, 503] {
            assert!(!answer(status, &[], b"").is_delivered, "{status}");
        }
        assert!(answer(410, &[], b"").is_gone && !answer(404, &[], b"").is_gone);
        assert_eq!(answer(500, &[], b"oh\x1b[31m\r\nno\xff").told, "500: oh [31m  no\u{fffd}");
        assert_eq!(answer(500, &[], &[b'x'; 1_000]).told.chars().count(), MAX_TOLD);
        assert_eq!(answer(404, &[], b" \n").told, "404");
    }

    #[test]
    fn a_receiver_may_ask_to_be_left_alone_for_a_day_at_most() {
        let asked =
            |status, value| answer(status, &[("retry-after", value)], b"").retry_after.map(|wait| wait.as_secs());
        assert_eq!(asked(429, "120"), Some(120));
        assert_eq!(asked(503, " 0 "), Some(0));
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for long in ["999999999", "99999999999999999999999999", "Sat, 06 Nov 2094 08:50:37 GMT"] {
            assert_eq!(asked(429, long), Some(86_400), "{long}");
        }
        for none in ["", "-1", "soon", "1.5"] {
            assert_eq!(asked(429, none), None, "{none}");
        }
        assert_eq!(asked(500, "120"), None);
    }
}
