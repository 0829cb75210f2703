//! The domain of passkeys: what is told of it, and what a start with another one says.

use authtokens::config::identity::AndroidApp;
use authtokens::server::application::Application;
use serde_json::{Value, json};

use super::authenticator::Algorithm;
use super::{added, fresh_user, spawn, with_passkeys};
use crate::helpers::{TestApp, error_of};

const PATHS: [&str; 3] =
    ["/.well-known/webauthn", "/.well-known/apple-app-site-association", "/.well-known/assetlinks.json"];

#[tokio::test]
async fn the_well_known_files_tell_what_is_configured_and_nothing_else_is_there() {
    let app = TestApp::spawn();
    for path in PATHS {
        error_of(app.client.get(app.url(path)).send().await.unwrap(), 404).await;
    }
    let app = TestApp::spawn_with(|config| {
        with_passkeys(config);
        config.passkeys.origins.push("https://diamond.test".to_owned());
        config.passkeys.origins.push("android:apk-key-hash:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU".to_owned());
        config.passkeys.apple_apps = vec!["ABCDE12345.org.example.app".to_owned()];
        let fingerprint = vec!["AB"; 32].join(":");
        config.passkeys.android_apps = vec![AndroidApp { package: "org.example.app".to_owned(), fingerprint }];
    });
    let expected = [
        json!({"origins": ["https://diamond.example", "https://diamond.test"]}),
        json!({"webcredentials": {"apps": ["ABCDE12345.org.example.app"]}}),
        json!([{
            "relation": ["delegate_permission/common.get_login_creds"],
            "target": {
                "namespace": "android_app",
                "package_name": "org.example.app",
                "sha256_cert_fingerprints": [vec!["AB"; 32].join(":")],
            },
        }]),
    ];
    for (path, expected) in PATHS.into_iter().zip(expected) {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["cache-control"], "public, max-age=3600");
        assert_eq!(response.json::<Value>().await.unwrap(), expected, "{path}");
    }
}

#[tokio::test]
async fn the_start_is_refused_where_passkeys_are_stored_for_another_domain() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    added(&app, &token, Algorithm::Es256).await;
    let refused = app.refused_start(|config| {
        with_passkeys(config);
        config.passkeys.rp_id = Some("diamond.test".to_owned());
    });
    let sentence = "passkeys.rp_id is diamond.test, and the store has 1 passkeys for diamond.example, which work for no \
                    other domain: ";
    assert!(refused.starts_with(sentence), "{refused}");
    // Without any, the service starts, and says in its log that nobody can use them.
    let app = app.restart_with(|_| {});
    assert_eq!(app.ask(reqwest::Method::GET, "/api/user/passkeys", &token, None).await.status(), 200);
}

impl TestApp {
    /// What a start on a copy of the store says that is refused.
    fn refused_start(&self, configure: impl FnOnce(&mut authtokens::config::Config)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut config = crate::helpers::test_config(&folder);
        self.store.copy_to(&config);
        configure(&mut config);
        let clock = self.clock.clone();
        let build = move || {
            actix_rt::System::new()
                .block_on(async move { Application::build(&config, clock).await.err().map(|error| error.to_string()) })
        };
        std::thread::spawn(build).join().unwrap().unwrap_or_default()
    }
}
