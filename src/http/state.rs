//! What the handlers and the extractors are given.

use std::sync::{Arc, OnceLock};

use actix_web::web;
use bytes::Bytes;
use utoipa::openapi::OpenApi as Document;

use crate::accounts::Accounts;
use crate::http::body_limits::BodyLimits;
use crate::http::extract::proxy::TrustedProxies;
use crate::http::readiness::Readiness;
use crate::jobs::backups::BackupStatus;

/// The parts of the service, put together once.
pub struct AppState {
    /// The use cases.
    pub accounts: Accounts,
    /// How many items a list may hold.
    pub max_items: usize,
    /// Whose word is taken on where a request comes from.
    pub proxies: Arc<TrustedProxies>,
    /// What a body may cost.
    pub body_limits: BodyLimits,
    /// Whether the store can do its work.
    pub readiness: Readiness,
    /// How the backups are doing, where any are made.
    pub backups: Option<BackupStatus>,
    /// The API's description.
    pub description: Description,
}

/// What a handler takes to reach [`AppState`].
pub type State = web::Data<AppState>;

/// What is wrong where there is none.
pub(crate) const NO_STATE: &str = "the application has no state";

/// The API's description, made when it is first asked for.
pub struct Description {
    make: fn() -> Document,
    document: OnceLock<Document>,
    json: OnceLock<Bytes>,
}

impl Description {
    /// Will be what `make` makes.
    #[must_use]
    pub fn new(make: fn() -> Document) -> Self {
        Self { make, document: OnceLock::new(), json: OnceLock::new() }
    }

    /// The document.
    pub(crate) fn document(&self) -> &Document {
        self.document.get_or_init(self.make)
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Bytes {
        self.json.get_or_init(|| self.document().to_json().unwrap_or_default().into()).clone()
    }
}
