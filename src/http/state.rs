//! The application's state, which handlers and extractors are given.

use std::sync::{Arc, OnceLock};

use actix_web::web;
use bytes::Bytes;
use utoipa::openapi::OpenApi as Document;

use crate::accounts::Accounts;
use crate::http::body_limits::BodyLimits;
use crate::http::extract::proxy::TrustedProxies;
use crate::http::pages::templates::Pages;
use crate::http::readiness::Readiness;
use crate::http::well_known::WellKnown;
use crate::jobs::backups::BackupStatus;
use crate::jobs::mail::MailStatus;

/// The parts of the service that serve requests, put together once.
pub struct AppState {
    /// The use cases.
    pub accounts: Arc<Accounts>,
    /// How many items a list may hold.
    pub max_items: usize,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub proxies: Arc<TrustedProxies>,
    /// The limits of request bodies.
    pub body_limits: BodyLimits,
    /// Whether the store can do its work.
    pub readiness: Readiness,
    /// The status of the backups; `None` where none are made.
    pub backups: Option<BackupStatus>,
    /// The pages where the links of mails lead; `None` where mail is off.
    pub pages: Option<Pages>,
    /// Whether the mail server takes mail; `None` where none is sent.
    pub mail: Option<MailStatus>,
    /// What is known of the apps and pages that use the domain's passkeys.
    pub well_known: WellKnown,
    /// The API's OpenAPI document.
    pub description: Description,
}

/// [`AppState`] as a handler takes it.
pub type State = web::Data<AppState>;

/// The cause of the error where there is no state.
pub(crate) const NO_STATE: &str = "the application has no state";

/// The API's OpenAPI document, made when it is first asked for.
pub struct Description {
    make: fn() -> Document,
    document: OnceLock<Document>,
    json: OnceLock<Bytes>,
}

impl Description {
    /// A document that `make` will make.
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
