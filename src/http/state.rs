//! The application's state, which handlers and extractors are given.

use std::sync::Arc;

use actix_web::web;

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
}

/// [`AppState`] as a handler takes it.
pub type State = web::Data<AppState>;

/// The cause of the error where there is no state.
pub(crate) const NO_STATE: &str = "the application has no state";
