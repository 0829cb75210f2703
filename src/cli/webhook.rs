//! The commands of `webhook`. They work beside a running server, which sends.

use serde_json::json;

use crate::accounts::sealing::find_key;
use crate::accounts::webhooks::{WebhookAdministration, WebhookError};
use crate::cli::context::{CommandError, Context, close, open};
use crate::cli::output::pairs;
use crate::cli::prompt::confirm;
use crate::domain::event::EventKind;
use crate::domain::rights::Actor;
use crate::domain::webhook::{WebhookId, WebhookKinds};
use crate::http::views::webhook::{FailedDeliveryResponse, WebhookResponse};
use crate::outbound::Client;
use crate::repository::{MAX_BEHIND, Replay, StoredWebhook};

/// Opens the database, does `work` on behalf of the operator, and closes the database whether it failed or not. The key is
/// found as the server finds it: without one no secret can be sealed.
async fn administer<T>(
    context: &Context,
    work: impl AsyncFnOnce(WebhookAdministration<'_>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let repository = open(&context.config, &context.clock, false)?;
    let outcome = async {
        let key = find_key(&context.config, repository.as_ref()).await?;
        let actor = Actor::CommandLine;
        work(WebhookAdministration::new(repository.as_ref(), key.as_ref(), &context.clock, actor)).await
    };
    let outcome = outcome.await;
    close(repository.as_ref()).await;
    outcome
}

/// Adds a webhook, and shows its secret.
///
/// # Errors
/// See [`CommandError`].
pub async fn add(
    context: &mut Context,
    url: &str,
    kinds: Vec<EventKind>,
    allow_private: bool,
) -> Result<(), CommandError> {
    let kinds = WebhookKinds::new(kinds);
    let (id, secret) = administer(context, async |webhooks| Ok(webhooks.add(url, kinds, allow_private).await?)).await?;
    let (id, secret) = (id.as_str(), secret.reveal());
    context.tell(&json!({"id": id, "secret": secret}), || {
        let shown = [("Id", id.to_owned()), ("Secret", secret.clone())];
        format!(
            "{}The secret is not shown again: give it to the receiver now. Try it: authtokens webhook test {id}\n",
            pairs(&shown)
        )
    })
}

/// Lists webhooks.
///
/// # Errors
/// See [`CommandError`].
pub async fn list(context: &mut Context) -> Result<(), CommandError> {
    let webhooks = administer(context, async |webhooks| Ok(webhooks.list().await?)).await?;
    let mut list = context.output.list([
        "ID",
        "STATE",
        "BEHIND",
        "WAITING",
        "GIVEN UP",
        "LOST",
        "LAST SUCCESS",
        "KINDS",
        "ADDRESS",
    ]);
    list.add(webhooks.into_iter().map(|webhook| {
        let behind = if webhook.behind >= u64::from(MAX_BEHIND) { "or more" } else { "" };
        let cells = [
            webhook.id.to_string(),
            state(&webhook),
            format!("{} {behind}", webhook.behind).trim_end().to_owned(),
            webhook.waiting.to_string(),
            webhook.given_up.to_string(),
            webhook.lost.to_string(),
            webhook.last_success.map(|at| at.to_string()).unwrap_or_default(),
            if webhook.kinds == WebhookKinds::All { "all".to_owned() } else { webhook.kinds.names().join(",") },
            webhook.url.clone(),
        ];
        (WebhookResponse::from(webhook), cells)
    }))?;
    Ok(list.end()?)
}

fn state(webhook: &StoredWebhook) -> String {
    match (webhook.disabled, webhook.failing_since) {
        (Some((at, by)), _) => format!("disabled by {} at {at}", by.name().replace('_', " ")),
        (None, Some(at)) => format!("failing since {at}"),
        (None, None) => "enabled".to_owned(),
    }
}

/// Gives a webhook another secret, and shows it.
///
/// # Errors
/// See [`CommandError`].
pub async fn rotate(context: &mut Context, id: &WebhookId) -> Result<(), CommandError> {
    let (secret, until) = administer(context, async |webhooks| Ok(webhooks.rotate(id).await?)).await?;
    let secret = secret.reveal();
    let done = json!({"id": id.as_str(), "secret": secret, "previous_until": until.to_string()});
    context.tell(&done, || {
        let shown = [("Secret", secret.clone()), ("Former one signs until", until.to_string())];
        format!("{}The secret is not shown again: give it to the receiver now.\n", pairs(&shown))
    })
}

/// Sends a message to a webhook now, and tells the answer.
///
/// # Errors
/// [`CommandError::NotDelivered`], or another.
pub async fn test(context: &mut Context, id: &WebhookId) -> Result<(), CommandError> {
    let client = Client::bounded_by_caller(context.config.outbound.timeout, 1);
    let answer = administer(context, async |webhooks| Ok(webhooks.test(id, &client).await?)).await?;
    if !answer.is_delivered {
        return Err(CommandError::NotDelivered(crate::cli::output::printable(&answer.told).into_owned()));
    }
    let text = format!("It was delivered. The receiver has answered {}.\n", answer.told);
    context.tell(&json!({"answer": answer.told}), || text)
}

/// Has events sent again.
///
/// # Errors
/// See [`CommandError`].
pub async fn replay(context: &mut Context, id: &WebhookId, replay: Replay) -> Result<(), CommandError> {
    let replayed = administer(context, async |webhooks| Ok(webhooks.replay(id, replay).await?)).await?;
    let next = replayed.last.map(|at| at.to_string());
    let text = match (replayed.count, &next) {
        (0, None) => "There is no such event that this webhook was sent.\n".to_owned(),
        (1, None) => "1 event is sent again.\n".to_owned(),
        (count, None) => format!("{count} events are sent again.\n"),
        (count, Some(at)) => {
            format!("{count} events are sent again. No more can wait; the others, when they are sent: --since {at}\n")
        }
    };
    context.tell(&json!({"replayed": replayed.count, "next_since": next}), || text)
}

/// Sends nothing to a webhook any more.
///
/// # Errors
/// See [`CommandError`].
pub async fn disable(context: &mut Context, id: &WebhookId) -> Result<(), CommandError> {
    administer(context, async |webhooks| Ok(webhooks.disable(id).await?)).await?;
    context.tell(&json!({"disabled": id.as_str()}), || format!("Nothing is sent to {id} any more.\n"))
}

/// Sends to a webhook again.
///
/// # Errors
/// See [`CommandError`].
pub async fn enable(context: &mut Context, id: &WebhookId) -> Result<(), CommandError> {
    administer(context, async |webhooks| Ok(webhooks.enable(id).await?)).await?;
    let text = format!("Events are sent to {id} again, from where it has stopped.\n");
    context.tell(&json!({"enabled": id.as_str()}), || text)
}

/// Removes a webhook, after a question.
///
/// # Errors
/// See [`CommandError`].
pub async fn remove(context: &mut Context, id: &WebhookId, yes: bool) -> Result<(), CommandError> {
    let exists = administer(context, async |webhooks| Ok(webhooks.list().await?.iter().any(|it| it.id == *id))).await?;
    if !exists {
        return Err(WebhookError::NoWebhook.into());
    }
    confirm(&format!("Remove the webhook {id}, with what waits for it?"), yes)?;
    administer(context, async |webhooks| Ok(webhooks.remove(id).await?)).await?;
    context.tell(&json!({"removed": id.as_str()}), || format!("{id} is removed.\n"))
}

/// Lists deliveries that have failed.
///
/// # Errors
/// See [`CommandError`].
pub async fn log(context: &mut Context, id: &WebhookId, limit: u32) -> Result<(), CommandError> {
    let failed = administer(context, async |webhooks| Ok(webhooks.failed_deliveries(id, limit).await?)).await?;
    let mut list = context.output.list(["TRIED", "EVENT", "ATTEMPTS", "NEXT", "ANSWER"]);
    list.add(failed.into_iter().map(|delivery| {
        let cells = [
            delivery.tried.map(|at| at.to_string()).unwrap_or_default(),
            delivery.event.to_string(),
            delivery.attempts.to_string(),
            delivery.due.map_or_else(|| "given up".to_owned(), |at| at.to_string()),
            delivery.answer.clone(),
        ];
        (FailedDeliveryResponse::from(delivery), cells)
    }))?;
    Ok(list.end()?)
}
