//! `GET /healthz` and `GET /readyz`: liveness and readiness, for whoever watches over the process.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::state::State;
use crate::http::views::{ErrorResponse, respond};
use crate::system::clock::Timestamp;

/// How it is.
#[derive(Serialize, ToSchema)]
pub(crate) struct HealthResponse {
    #[schema(example = "ready")]
    status: &'static str,
}

/// Whether it is ready, and what else its keeper must know.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadyResponse {
    #[schema(example = "ready")]
    status: &'static str,
    /// The moment that the newest good backup holds, or null where there is none yet; absent where the server makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false, example = "2015-01-04T22:51:35.000Z")]
    #[expect(clippy::option_option, reason = "null and absent say different things")]
    last_backup: Option<Option<Timestamp>>,
    /// Whether mail is delivered, which does not make the service less ready; absent where it sends none.
    #[serde(skip_serializing_if = "Option::is_none")]
    mail: Option<MailResponse>,
}

/// Whether mail is delivered.
#[derive(Serialize, ToSchema)]
pub(crate) struct MailResponse {
    /// `ok`, or `failing`: the mail server has taken no confirmation and no notice for five minutes and more.
    #[schema(example = "ok")]
    status: &'static str,
    /// Since when, to the minute; null where it is not failing.
    #[schema(value_type = Option<String>, format = DateTime, example = "2015-01-04T22:51:00.000Z")]
    failing_since: Option<Timestamp>,
}

/// Whether the process serves
#[utoipa::path(
    get, path = "/healthz", operation_id = "check_alive", tag = "service",
    responses((status = 200, description = "It does", body = HealthResponse)),
)]
pub(crate) async fn alive() -> Result<HttpResponse, ApiError> {
    respond(HttpResponse::Ok(), &HealthResponse { status: "alive" })
}

/// Whether the store can be read and written
#[utoipa::path(
    get, path = "/readyz", operation_id = "check_ready", tag = "service",
    responses(
        (status = 200, description = "It can", body = ReadyResponse),
        (status = 503, description = "It cannot, now; `Retry-After` says when to look again", body = ErrorResponse),
    ),
)]
pub(crate) async fn ready(state: State) -> Result<HttpResponse, ApiError> {
    state.readiness.check(state.accounts.repository.as_ref()).await?;
    let last_backup = state.backups.as_ref().map(|backups| backups.figures().last_good);
    let mail = state.mail.as_ref().map(|mail| {
        let failing_since = mail.shown_since(state.accounts.clock.monotonic());
        MailResponse { status: if failing_since.is_some() { "failing" } else { "ok" }, failing_since }
    });
    respond(HttpResponse::Ok(), &ReadyResponse { status: "ready", last_backup, mail })
}
