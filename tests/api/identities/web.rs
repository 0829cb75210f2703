//! Logins by way of a browser.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{REFUSED, RETURN_TO, claims, identities, link, link_token, make_fresh, session, spawn, with_email};
use crate::helpers::{Response, START_MILLIS, TestApp, error_of, until};
use crate::provider::Provider;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

const ENDED: &str = "Invalid Data: this login was ended before, or has expired";

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// A browser, which a test leads from one place to the next.
fn browser() -> reqwest::Client {
    reqwest::Client::builder().redirect(Policy::none()).build().unwrap()
}

async fn start_with(app: &TestApp, name: &str, query: &[(&str, &str)]) -> Response {
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(query);
    let url = app.url(&format!("/api/login/oidc/{name}/start?{}", encoded.finish()));
    browser().get(url).send().await.unwrap()
}

async fn start(app: &TestApp, name: &str, return_to: &str) -> Response {
    let challenge = challenge(VERIFIER);
    start_with(app, name, &[("return_to", return_to), ("code_challenge", &challenge), ("state", "of the app")]).await
}

/// Where a browser is sent, and with which parameters.
fn sent_to(response: &Response) -> (String, Vec<(String, String)>) {
    assert_eq!(response.status(), 303);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["referrer-policy"], "no-referrer");
    let location = response.headers()["location"].to_str().unwrap();
    let (address, query) = location.split_once('?').unwrap();
    (address.to_owned(), form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

fn value(query: &[(String, String)], name: &str) -> String {
    query.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

/// Begins a login, and has the provider give a code for what it says of somebody; our state.
async fn begin(app: &TestApp, provider: &Provider, name: &str, mut told: Value, code: &str) -> String {
    let (_, query) = sent_to(&start(app, name, RETURN_TO).await);
    told["nonce"] = value(&query, "nonce").into();
    provider.give(code, &told, Some("of-a-browser"), Some(&value(&query, "code_challenge")));
    value(&query, "state")
}

async fn come_back(app: &TestApp, name: &str, query: &[(&str, &str)]) -> Response {
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(query);
    let url = app.url(&format!("/api/login/oidc/{name}/callback?{}", encoded.finish()));
    browser().get(url).send().await.unwrap()
}

async fn exchange(app: &TestApp, code: &str, verifier: &str) -> Response {
    app.post("/api/login/oidc/exchange", &json!({"code": code, "code_verifier": verifier})).await
}

/// The code of a browser that was sent back to the app.
fn code_of(response: &Response) -> String {
    let (address, query) = sent_to(response);
    assert_eq!((address.as_str(), value(&query, "state").as_str()), (RETURN_TO, "of the app"));
    assert_eq!(value(&query, "error"), "");
    value(&query, "code")
}

/// Goes to a provider that says this of somebody and back; what the app is given shows it.
async fn shown(app: &TestApp, provider: &Provider, name: &str, told: Value) -> Value {
    let state = begin(app, provider, name, told, "c1").await;
    let issuer = super::issuer_of(name, provider);
    let mut query = vec![("state", state.as_str()), ("code", "c1")];
    // GitHub does not say who it is.
    query.extend((name != "github").then_some(("iss", issuer.as_str())));
    let code = code_of(&come_back(app, name, &query).await);
    json!({"code": code, "code_verifier": VERIFIER})
}

async fn reauthenticate(app: &TestApp, token: &str, body: &Value) -> Response {
    app.ask(Method::POST, "/api/user/reauthenticate", token, Some(body)).await
}

#[tokio::test]
async fn a_browser_goes_to_the_provider_and_back_and_the_app_fetches_the_session() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    for name in ["google", "plain"] {
        let (address, query) = sent_to(&start(&app, name, RETURN_TO).await);
        assert!(address.starts_with(&provider.url()), "{address}");
        assert_eq!(value(&query, "redirect_uri"), format!("https://diamond.example/api/login/oidc/{name}/callback"));
        assert_eq!(
            (value(&query, "response_type"), value(&query, "code_challenge_method")),
            ("code".into(), "S256".into())
        );
        let state = begin(&app, &provider, name, claims(name, &provider, "1"), "c1").await;
        let issuer = super::issuer_of(name, &provider);
        let back = come_back(&app, name, &[("state", &state), ("code", "c1"), ("iss", &issuer)]).await;
        let code = code_of(&back);
        let (token, _) = session(exchange(&app, &code, VERIFIER).await, 201).await;
        assert!(!back.headers()["location"].to_str().unwrap().contains(&token));
        // Once.
        assert_eq!(error_of(exchange(&app, &code, VERIFIER).await, 401).await, REFUSED);
        assert_eq!(error_of(come_back(&app, name, &[("state", &state), ("code", "c1")]).await, 400).await, ENDED);
    }
}

#[tokio::test]
async fn apple_has_the_browser_post_a_form_from_its_own_page() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let state = begin(&app, &provider, "apple", claims("apple", &provider, "1"), "c1").await;
    let form = format!("state={state}&code=c1&user=%7B%22name%22%3A1%7D");
    let request =
        browser().post(app.url("/api/login/oidc/apple/callback")).header("Origin", "https://appleid.apple.com");
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    let back = request.body(form).send().await.unwrap();
    session(exchange(&app, &code_of(&back), VERIFIER).await, 201).await;
}

#[tokio::test]
async fn github_is_believed_of_the_primary_address_that_it_has_verified() {
    let provider = Provider::start();
    let app = spawn(&provider, super::with_mail);
    provider.pose_as_github(
        json!({"id": 583_231, "login": "octocat", "email": "public@diamond.example"}),
        json!([
            {"email": "other@diamond.example", "primary": false, "verified": true},
            {"email": "azure@diamond.example", "primary": true, "verified": true},
        ]),
    );
    let state = begin(&app, &provider, "github", json!({}), "c1").await;
    let code = code_of(&come_back(&app, "github", &[("state", &state), ("code", "c1")]).await);
    let (token, username) = session(exchange(&app, &code, VERIFIER).await, 201).await;
    assert!(username.starts_with("user-"), "{username}");
    let email = app.get(Method::GET, "/api/user/email", &token, None).await;
    assert_eq!(email["email"], "azure@diamond.example");
    assert_eq!(email["verified"], true);
}

#[tokio::test]
async fn a_browser_goes_back_to_a_configured_address_alone_as_it_is_written() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    for bad in [
        "",
        "https://app.diamond.example/in/",
        "https://app.diamond.example/",
        "https://app.diamond.example/int",
        "https://app.diamond.example/in?x=1",
        "https://app.diamond.example/in#x",
        "https://APP.diamond.example/in",
        "HTTPS://app.diamond.example/in",
        "https://app.diamond.example:443/in",
        "https://app.diamond.example./in",
        "https://a@app.diamond.example/in",
        "https://app.diamond.example@evil.example/in",
        "https://app.diamond.example.evil.example/in",
        "https://app.diamond.example/%69n",
        "https://app.diamond.example/x/../in",
        "https://app.diamond.example\\in",
        "https:app.diamond.example/in",
        "//app.diamond.example/in",
        " https://app.diamond.example/in",
        "https://app.diamond.example/in\n",
        "javascript:alert(1)",
        "diamonds://in",
        "diamonds://in?x=1&y=2",
    ] {
        let refused = error_of(start(&app, "google", bad).await, 400).await;
        assert!(refused.starts_with("Invalid Data: return_to must be one of "), "{bad}: {refused}");
    }
    let challenge = challenge(VERIFIER);
    let twice = [("return_to", RETURN_TO), ("return_to", "https://evil.example"), ("code_challenge", &challenge)];
    assert_eq!(start_with(&app, "google", &twice).await.status(), 400);
    assert_eq!(app.count("challenges"), 0, "nothing is stored for these");
    // What an address has of its own stays.
    let (_, query) = sent_to(&start(&app, "google", "diamonds://in?x=1").await);
    let back = come_back(&app, "google", &[("state", &value(&query, "state")), ("error", "access_denied")]).await;
    assert_eq!(back.headers()["location"], "diamonds://in?x=1&error=access_denied&state=of+the+app");
}

#[tokio::test]
async fn a_login_that_a_browser_begins_needs_the_challenge_of_its_app() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    for bad in ["", "short", &"a".repeat(44), &format!("{}=", "a".repeat(42)), &"+".repeat(43)] {
        let query = [("return_to", RETURN_TO), ("code_challenge", bad)];
        assert!(error_of(start_with(&app, "google", &query).await, 400).await.contains("code_challenge"), "{bad}");
    }
    let missing = error_of(start_with(&app, "google", &[("return_to", RETURN_TO)]).await, 400).await;
    assert_eq!(missing, "Invalid Data: code_challenge is required");
    let long = "s".repeat(513);
    let query = [("return_to", RETURN_TO), ("code_challenge", &challenge(VERIFIER)), ("state", &long)];
    assert!(error_of(start_with(&app, "google", &query).await, 400).await.contains("state"));
}

#[tokio::test]
async fn the_session_is_for_whoever_knows_the_verifier_and_a_wrong_one_ends_it() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let state = begin(&app, &provider, "google", claims("google", &provider, "1"), "c1").await;
    let code = code_of(&come_back(&app, "google", &[("state", &state), ("code", "c1")]).await);
    assert_eq!(error_of(exchange(&app, &code, "another").await, 401).await, REFUSED);
    assert_eq!(error_of(exchange(&app, &code, VERIFIER).await, 401).await, REFUSED);
    assert_eq!(app.usernames(), [""; 0]);
}

#[tokio::test]
async fn a_name_that_is_taken_uses_no_code_up() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    app.new_user("AzureDiamond").await;
    let login = shown(&app, &provider, "google", claims("google", &provider, "1")).await;
    let exchange_as = async |username: &str| {
        let mut body = login.clone();
        body["username"] = username.into();
        app.post("/api/login/oidc/exchange", &body).await
    };
    assert_eq!(exchange_as("azurediamond").await.status(), 400);
    assert_eq!(exchange_as("AZUREDIAMOND").await.status(), 400);
    assert_eq!(session(exchange_as("Other").await, 201).await.1, "Other");
    assert_eq!(error_of(exchange_as("Another").await, 401).await, REFUSED);
}

#[tokio::test]
async fn a_name_that_is_taken_keeps_a_code_for_ten_minutes_at_most() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    app.new_user("AzureDiamond").await;
    let mut body = shown(&app, &provider, "google", claims("google", &provider, "1")).await;
    body["username"] = "azurediamond".into();
    for _ in 0..11 {
        app.clock.advance(Duration::from_secs(55));
        assert_eq!(app.post("/api/login/oidc/exchange", &body).await.status(), 400);
    }
    body["username"] = "Other".into();
    assert_eq!(error_of(app.post("/api/login/oidc/exchange", &body).await, 401).await, REFUSED);
}

#[tokio::test]
async fn of_many_at_once_one_finishes() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let state = begin(&app, &provider, "google", claims("google", &provider, "1"), "c1").await;
    let query = [("state", state.as_str()), ("code", "c1")];
    let all = futures_util::future::join_all((0..10).map(|_| come_back(&app, "google", &query))).await;
    let back: Vec<_> = all.iter().filter(|response| response.status() == 303).collect();
    assert_eq!(back.len(), 1);
    let code = code_of(back[0]);
    let all = futures_util::future::join_all((0..10).map(|_| exchange(&app, &code, VERIFIER))).await;
    assert_eq!(all.iter().filter(|response| response.status() == 201).count(), 1);
    assert_eq!(app.usernames().len(), 1);
}

#[tokio::test]
async fn what_was_begun_expires() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let state = begin(&app, &provider, "google", claims("google", &provider, "1"), "c1").await;
    app.clock.advance(Duration::from_secs(600));
    assert_eq!(error_of(come_back(&app, "google", &[("state", &state), ("code", "c1")]).await, 400).await, ENDED);
    let mut told = claims("google", &provider, "1");
    let now = app.clock.now().as_millis() / 1000;
    (told["iat"], told["exp"]) = (now.into(), (now + 600).into());
    let state = begin(&app, &provider, "google", told, "c2").await;
    let code = code_of(&come_back(&app, "google", &[("state", &state), ("code", "c2")]).await);
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(error_of(exchange(&app, &code, VERIFIER).await, 401).await, REFUSED);
}

#[tokio::test]
async fn what_one_provider_began_another_does_not_finish() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let failed = |response: Response| {
        let (_, query) = sent_to(&response);
        (value(&query, "error"), value(&query, "code"))
    };
    let failure = || ("login_failed".to_owned(), String::new());
    let state = begin(&app, &provider, "google", claims("google", &provider, "1"), "c1").await;
    assert_eq!(failed(come_back(&app, "plain", &[("state", &state), ("code", "c1")]).await), failure());
    assert_eq!(provider.asked("/token"), 0, "the code is given to nobody");
    // It announces that it says who it is (RFC 9207): so it must, and be right.
    for iss in [None, Some("https://evil.example"), Some("https://accounts.google.com")] {
        let state = begin(&app, &provider, "plain", claims("plain", &provider, "1"), "c2").await;
        let mut query = vec![("state", state.as_str()), ("code", "c2")];
        query.extend(iss.map(|iss| ("iss", iss)));
        assert_eq!(failed(come_back(&app, "plain", &query).await), failure(), "{iss:?}");
    }
    assert_eq!(app.usernames(), [""; 0]);
}

#[tokio::test]
async fn whatever_the_provider_says_the_browser_goes_back_and_is_told_little() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let told = || claims("google", &provider, "1");
    for (query, error) in [
        (("error", "access_denied"), "access_denied"),
        (("error", "user_cancelled_authorize"), "access_denied"),
        (("error", "<script>"), "login_failed"),
        (("code", "unknown"), "login_failed"),
        (("x", "y"), "login_failed"),
    ] {
        let state = begin(&app, &provider, "google", told(), "c1").await;
        let (_, sent) = sent_to(&come_back(&app, "google", &[("state", &state), query]).await);
        assert_eq!(
            (value(&sent, "error").as_str(), value(&sent, "state").as_str()),
            (error, "of the app"),
            "{query:?}"
        );
    }
    // A code that was given for another login: its token has another nonce.
    let state = begin(&app, &provider, "google", told(), "c1").await;
    provider.give("c3", &told(), None, None);
    let (_, sent) = sent_to(&come_back(&app, "google", &[("state", &state), ("code", "c3")]).await);
    assert_eq!(value(&sent, "error"), "login_failed");
    provider.set_down(true);
    for state in ["", "x", &"0".repeat(40)] {
        assert_eq!(error_of(come_back(&app, "google", &[("state", state), ("code", "c1")]).await, 400).await, ENDED);
    }
    provider.set_down(false);
}

#[tokio::test]
async fn a_browser_may_end_at_a_link_token_as_an_app_does() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| config.identities.register = false);
    let told = with_email(claims("google", &provider, "1"), "azure@gmail.com");
    let state = begin(&app, &provider, "google", told, "c1").await;
    let code = code_of(&come_back(&app, "google", &[("state", &state), ("code", "c1")]).await);
    let offered = link_token(exchange(&app, &code, VERIFIER).await).await;
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(super::link(&app, &token, json!({"link_token": offered})).await.status(), 200);
}

#[tokio::test]
async fn an_account_that_was_made_by_way_of_a_browser_becomes_fresh_by_it_and_can_be_deleted() {
    for name in ["google", "apple", "github", "plain"] {
        let provider = Provider::start();
        if name == "github" {
            provider.pose_as_github(json!({"id": 1}), json!([]));
        }
        let app = spawn(&provider, |_| {});
        let told = || claims(name, &provider, "1");
        let login = shown(&app, &provider, name, told()).await;
        let (token, _) = session(app.post("/api/login/oidc/exchange", &login).await, 201).await;
        assert_eq!(app.ask(Method::DELETE, "/api/user", &token, Some(&json!({}))).await.status(), 400);
        assert_eq!(reauthenticate(&app, &token, &login).await.status(), 400, "{name}: it was used");
        let again = shown(&app, &provider, name, told()).await;
        assert_eq!(reauthenticate(&app, &token, &again).await.status(), 200, "{name}");
        assert_eq!(reauthenticate(&app, &token, &again).await.status(), 400, "{name}: it was used");
        assert_eq!(app.ask(Method::DELETE, "/api/user", &token, None).await.status(), 200, "{name}");
    }
}

#[tokio::test]
async fn a_session_becomes_fresh_by_way_of_a_browser_where_its_owner_was_just_asked_alone() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let asked = |subject: &str, seconds: i64| {
        let mut told = claims("plain", &provider, subject);
        told["auth_time"] = (START_MILLIS / 1000 - seconds).into();
        told
    };
    let login = shown(&app, &provider, "plain", asked("1", 0)).await;
    let (token, _) = session(app.post("/api/login/oidc/exchange", &login).await, 201).await;
    let long_ago = shown(&app, &provider, "plain", asked("1", 301)).await;
    let another = shown(&app, &provider, "plain", asked("2", 0)).await;
    let mut wrong = shown(&app, &provider, "plain", asked("1", 0)).await;
    wrong["code_verifier"] = "another".into();
    for body in [long_ago, another, wrong] {
        let refused = error_of(reauthenticate(&app, &token, &body).await, 400).await;
        assert_eq!(refused, "Invalid Data: code is worth nothing, was used, or has expired");
    }
    until("storing", || app.count_events("reauthentication_failed") == 3).await;
    assert_eq!(app.count_events("reauthenticated"), 0);
    for body in [
        json!({"code_verifier": VERIFIER}),
        json!({"code": "x", "code_verifier": VERIFIER, "password": "x"}),
        json!({"code": "x", "code_verifier": VERIFIER, "request": "x"}),
    ] {
        assert_eq!(reauthenticate(&app, &token, &body).await.status(), 400, "{body}");
    }
    let just_now = shown(&app, &provider, "plain", asked("1", 290)).await;
    assert_eq!(reauthenticate(&app, &token, &just_now).await.status(), 200);
}

#[tokio::test]
async fn an_openid_provider_is_told_to_ask_again_where_the_app_wants_that() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let challenge = challenge(VERIFIER);
    for (name, prompt, max_age) in [("plain", "login", "0"), ("google", "select_account", "0"), ("github", "", "")] {
        let mut query = vec![("return_to", RETURN_TO), ("code_challenge", challenge.as_str())];
        let (_, sent) = sent_to(&start_with(&app, name, &query).await);
        assert_eq!((value(&sent, "prompt").as_str(), value(&sent, "max_age").as_str()), ("", ""), "{name}");
        query.push(("prompt", "login"));
        let (_, sent) = sent_to(&start_with(&app, name, &query).await);
        assert_eq!((value(&sent, "prompt").as_str(), value(&sent, "max_age").as_str()), (prompt, max_age), "{name}");
    }
    let query = [("return_to", RETURN_TO), ("code_challenge", challenge.as_str()), ("prompt", "none")];
    assert_eq!(error_of(start_with(&app, "plain", &query).await, 400).await, "Invalid Data: prompt must be login");
}

#[tokio::test]
async fn an_identity_is_linked_by_way_of_a_browser_in_a_fresh_session_alone() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    provider.pose_as_github(json!({"id": 1}), json!([]));
    let token = app.new_user("AzureDiamond").await;
    let body = shown(&app, &provider, "github", json!({})).await;
    let refused = error_of(link(&app, &token, body.clone()).await, 400).await;
    assert_eq!(refused, "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first");
    make_fresh(&app, &token).await;
    let mut two = body.clone();
    two["link_token"] = "0".repeat(40).into();
    let refused = error_of(link(&app, &token, two).await, 400).await;
    assert_eq!(refused, "Invalid Data: give one of id_token, code and link_token");
    assert_eq!(link(&app, &token, body.clone()).await.status(), 200, "the code was not used up");
    assert_eq!(link(&app, &token, body).await.status(), 400, "it was used");
    let listed = identities(&app, &token).await;
    assert_eq!((listed.len(), &listed[0]["provider"], &listed[0]["subject"]), (1, &json!("github"), &json!("1")));
}

#[tokio::test]
async fn no_browser_is_sent_where_the_service_has_no_address_of_its_own() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| config.server.public_url = None);
    assert_eq!(start(&app, "google", RETURN_TO).await.status(), 404);
    assert_eq!(start(&app, "unknown", RETURN_TO).await.status(), 404);
}

#[tokio::test]
async fn the_store_holds_nothing_that_finishes_a_login() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let (_, query) = sent_to(&start(&app, "google", RETURN_TO).await);
    let dump = app.dump().join("\n");
    assert!(!dump.contains(&value(&query, "state")) && !dump.contains(&value(&query, "nonce")));
    let state = begin(&app, &provider, "google", claims("google", &provider, "1"), "c1").await;
    let code = code_of(&come_back(&app, "google", &[("state", &state), ("code", "c1")]).await);
    let dump = app.dump().join("\n");
    assert!(!dump.contains(&code) && !dump.contains("of-a-browser"));
}
