//! What browsers and the systems of phones fetch below `/.well-known/` before they let a page or an app use the domain's
//! passkeys. It is made once, of the configuration.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::config::PasskeysConfig;
use crate::http::json;

/// The documents, each where something is configured that it tells.
#[derive(Default)]
pub struct WellKnown {
    /// The origins of pages that may use passkeys of the domain: those elsewhere are related origins of WebAuthn.
    pub(crate) origins: Option<Bytes>,
    /// Apps of iOS.
    pub(crate) apple_apps: Option<Bytes>,
    /// Apps of Android.
    pub(crate) android_apps: Option<Bytes>,
}

impl WellKnown {
    /// The documents of a configuration.
    #[must_use]
    pub fn new(config: &PasskeysConfig) -> Self {
        let pages = config.origins.iter().filter(|origin| origin.starts_with("https://") && config.rp_id.is_some());
        let pages: Vec<_> = pages.collect();
        let apple = &config.apple_apps;
        let android: Vec<_> = config
            .android_apps
            .iter()
            .map(|app| {
                json!({
                    "relation": ["delegate_permission/common.get_login_creds"],
                    "target": {
                        "namespace": "android_app",
                        "package_name": app.package,
                        "sha256_cert_fingerprints": [app.fingerprint],
                    },
                })
            })
            .collect();
        Self {
            origins: (!pages.is_empty()).then(|| text(&json!({"origins": pages}))),
            apple_apps: (!apple.is_empty()).then(|| text(&json!({"webcredentials": {"apps": apple}}))),
            android_apps: (!android.is_empty()).then(|| text(&Value::Array(android))),
        }
    }
}

fn text(document: &Value) -> Bytes {
    json::to_vec(document).unwrap_or_default().into()
}
