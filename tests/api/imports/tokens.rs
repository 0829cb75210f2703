//! What becomes of tokens: whoever holds one goes on as before.

use std::time::Duration;

use authtokens::system::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use super::sources::{PASSWORD, Site, drf_token, knox_token};
use super::{imported, user_of, with_token};
use crate::commands::{Machine, log_in, run_with, status_of};
use crate::helpers::{HOUR, TestApp};
use crate::process::logout;

/// A site whose users have a token each: of Django REST framework, and of knox 5 and 4.2.
fn site_with_tokens(machine: &Machine) -> [String; 3] {
    let site = Site::new(machine.path().join("site.db"));
    let tokens = [drf_token(0xa1), knox_token(0xb2), knox_token(0xc3)];
    site.token(site.user("drf"), &tokens[0]);
    site.knox(site.user("knox"), &tokens[1], None);
    site.old_knox(site.user("old_knox"), &tokens[2], None);
    site.close();
    tokens
}

#[test]
fn a_token_works_at_once_at_a_server_that_ran_before() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let tokens = site_with_tokens(&machine);
    for token in &tokens {
        assert_eq!(status_of(&server, token), 401, "not before");
    }
    // knox 4.2 and 5 in one database: what 5 no longer finds is not carried.
    let report = imported(&machine, "django site.db");
    assert_eq!(report["tokens"]["carried"], 2, "{report}");
    assert!(report["next"]["tokens_end_unused"].is_string(), "{report}");
    for (token, name) in tokens.iter().zip(["drf", "knox"]) {
        assert_eq!(user_of(&server, token)["username"], name);
        assert_eq!(user_of(&server, token)["username"], name, "and again");
    }
    assert_eq!(status_of(&server, &tokens[2]), 401);
}

#[test]
fn tokens_of_knox_4_2_work_too() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let site = Site::new(machine.path().join("site.db"));
    let token = knox_token(0x42);
    site.old_knox(site.user("old_knox"), &token, None);
    site.close();
    imported(&machine, "django site.db");
    assert_eq!(user_of(&server, &token)["username"], "old_knox");
    assert_eq!(status_of(&server, &token[1..]), 401);
}

#[test]
fn the_token_of_an_import_is_listed_and_ended_like_any_other() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let tokens = site_with_tokens(&machine);
    imported(&machine, "django site.db");
    for name in ["drf", "knox"] {
        let sessions = machine.json(&format!("token list {name}"));
        assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
        assert_eq!(sessions[0]["user_agent"], "imported from django");
    }
    // Before its first use, and after it.
    assert_eq!(machine.json("token revoke drf --all"), json!({"revoked": 1}));
    assert_eq!(status_of(&server, &tokens[0]), 401);
    assert_eq!(server.ask(&logout(&tokens[1])).status(), 200);
    assert_eq!(status_of(&server, &tokens[1]), 401);
    assert_eq!(log_in(&server, "knox", PASSWORD).0, 200);
    assert_eq!(machine.json("token list knox").as_array().unwrap().len(), 1, "the new one");
}

#[test]
fn a_logout_may_be_the_first_use_of_a_token_and_a_change_too() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let site = Site::new(machine.path().join("site.db"));
    let (first, second) = (knox_token(1), knox_token(2));
    let user = site.user("knox");
    site.knox(user, &first, None);
    site.knox(user, &second, None);
    site.close();
    imported(&machine, "django site.db");
    assert_eq!(server.ask(&with_token("PUT", "/api/user/cellar/7", &first)).status(), 200);
    assert_eq!(user_of(&server, &first)["cellar"], json!([7]));
    assert_eq!(server.ask(&logout(&second)).status(), 200);
    assert_eq!([status_of(&server, &first), status_of(&server, &second)], [200, 401]);
}

#[tokio::test]
async fn the_expiry_of_a_token_is_kept() {
    let app = TestApp::spawn();
    app.clock.set(Clock::system().now());
    let machine = Machine::new();
    let site = Site::new(machine.path().join("site.db"));
    let user = site.user("knox");
    let [soon, later] = [knox_token(1), knox_token(2)];
    let expires = |hours: u32| String::from_utf8(app.clock.now().plus(HOUR * hours).text().into()).unwrap();
    let stored = |hours| expires(hours).replace('T', " ").trim_end_matches('Z').to_owned();
    let ends = expires(2);
    site.knox(user, &soon, Some(&stored(2)));
    site.knox(user, &later, Some("2099-01-01 00:00:00"));
    site.knox(user, &knox_token(3), Some("2024-01-01 00:00:00"));
    site.close();
    let mut command = machine.command("import django site.db --json");
    app.store.point(&mut command);
    let output = run_with(&mut command, "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tokens"], json!({"carried": 2, "not_carried": {"expired": 1}}));

    let status = async |token: &str| app.ask(Method::GET, "/api/user", token, None).await.status().as_u16();
    assert_eq!([status(&soon).await, status(&later).await], [200, 200]);
    let sessions = app.get(Method::GET, "/api/user/tokens", &later, None).await;
    assert!(sessions.as_array().unwrap().iter().any(|session| session["expires"] == ends), "{sessions}");
    app.clock.advance(HOUR * 2 + Duration::from_millis(1));
    assert_eq!([status(&soon).await, status(&later).await], [401, 200]);
}
