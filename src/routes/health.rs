//! `GET /healthz` and `GET /readyz`: for whoever watches over the process.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::respond;
use super::shapes::ErrorResponse;
use crate::error::ApiError;
use crate::repository::Repository;

/// How long a good answer of the store is believed, so that nobody can make it write at will.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// When the store last read and wrote as it should.
#[derive(Default)]
pub struct Readiness(Mutex<Option<Instant>>);

impl Readiness {
    fn is_fresh(&self) -> bool {
        let last_good = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last_good.is_some_and(|at| at.elapsed() < BELIEVED_FOR)
    }

    fn record(&self, last_good: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last_good;
    }
}

/// How it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ready")]
    status: &'static str,
}

/// Whether the process serves
#[utoipa::path(
    get, path = "/healthz", tag = "service",
    responses((status = 200, description = "It does", body = Health)),
)]
pub(super) async fn alive() -> Result<HttpResponse, ApiError> {
    respond(HttpResponse::Ok(), &Health { status: "alive" })
}

/// Whether the store can be read and written
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It cannot, now; `Retry-After` says when to look again", body = ErrorResponse),
    ),
)]
pub(super) async fn ready(
    repository: web::Data<dyn Repository>,
    readiness: web::Data<Readiness>,
) -> Result<HttpResponse, ApiError> {
    if !readiness.is_fresh() {
        let checked = repository.check_ready().await;
        readiness.record(checked.is_ok().then(Instant::now));
        checked.map_err(|error| ApiError::Unavailable { retry_after: 1, cause: Some(Box::new(error)) })?;
    }
    respond(HttpResponse::Ok(), &Health { status: "ready" })
}
