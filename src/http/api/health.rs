//! `GET /healthz` and `GET /readyz`: for whoever watches over the process.

use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::routes::respond;
use crate::http::views::ErrorResponse;
use crate::jobs::backups::BackupStatus;
use crate::repository::Repository;
use crate::system::clock::Timestamp;

/// How long an answer of the store is believed, so that nobody can make it write at will.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// When the store was last asked, and whether it could read and write. Locked while it is asked: one question at a time.
#[derive(Default)]
pub struct Readiness(Mutex<Option<(Instant, bool)>>);

impl Readiness {
    /// Whether the store can read and write.
    async fn check(&self, repository: &dyn Repository) -> Result<(), ApiError> {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, true)) if at.elapsed() < BELIEVED_FOR => Ok(()),
            Some((at, false)) if at.elapsed() < BELIEVED_FOR => {
                Err(ApiError::Unavailable { retry_after: 1, cause: None })
            }
            _ => {
                let checked = repository.check_ready().await;
                *last = Some((Instant::now(), checked.is_ok()));
                checked.map_err(|error| ApiError::Unavailable { retry_after: 1, cause: Some(Box::new(error)) })
            }
        }
    }
}

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
pub(crate) async fn ready(
    repository: web::Data<dyn Repository>,
    readiness: web::Data<Readiness>,
    backups: web::Data<Option<BackupStatus>>,
) -> Result<HttpResponse, ApiError> {
    readiness.check(repository.get_ref()).await?;
    let last_backup = backups.as_ref().as_ref().map(|backups| backups.figures().last_good);
    respond(HttpResponse::Ok(), &ReadyResponse { status: "ready", last_backup })
}
