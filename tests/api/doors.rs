//! Every door into an account against every state that it may be in: none skips a second factor, a limit, or the end of
//! an account.

use std::time::Duration;

use authtokens::config::identity::Preset;
use authtokens::system::clock::Clock;
use authtokens::system::sealing::generate_key;
use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::{self, Machine, status_of};
use crate::helpers::{JSON, Response, TestApp, post_bytes};
use crate::identities::{claims, configured};
use crate::imports::sources::{PASSWORD, Site, drf_token};
use crate::mail::mailbox::{Post, accounts_alone, request_of};
use crate::mail::smtp_server::Received;
use crate::passkeys::authenticator::{Algorithm, Authenticator};
use crate::passkeys::{added, login_options, with_passkeys};
use crate::process::Server;
use crate::provider::Provider;
use crate::second_factor::{App, set_up_fresh};

const NAME: &str = "AzureDiamond";
const EMAIL: &str = "azure@diamond.example";

/// A minute must lie between two mails to one address.
const BETWEEN_MAILS: Duration = Duration::from_secs(61);

const STEP: Duration = Duration::from_secs(30);

/// What an account is like. All have a passkey and an identity: else these would be no doors.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Plain,
    Totp,
    Deactivated,
    DeactivatedTotp,
    Unverified,
    UnverifiedTotp,
    Locked,
    LockedTotp,
}

impl State {
    fn has_totp(self) -> bool {
        matches!(self, Self::Totp | Self::DeactivatedTotp | Self::UnverifiedTotp | Self::LockedTotp)
    }

    fn is_unverified(self) -> bool {
        matches!(self, Self::Unverified | Self::UnverifiedTotp)
    }
}

/// An account in a state, and what its owner has.
struct House {
    post: Post,
    provider: Provider,
    app: Option<App>,
    authenticator: Authenticator,
    /// What was begun before the account came into its state.
    pending: String,
    sign_in: Value,
    reset: String,
}

impl House {
    async fn in_state(state: State) -> Self {
        let provider = Provider::start();
        let post = Post::spawn_with(|config| {
            accounts_alone(config);
            with_passkeys(config);
            config.accounts.login_by_mail = true;
            config.accounts.require_verified_email = true;
            config.outbound.allow = vec!["127.0.0.0/8".parse().unwrap()];
            config.provider = vec![configured("google", Preset::Google, &provider)];
        });
        let token =
            if state.is_unverified() { post.register(NAME, EMAIL).await.0 } else { post.new_owner(NAME, EMAIL).await };
        let password = json!({"password": "hunter2"});
        post.app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&password)).await;
        let (authenticator, _) = added(&post.app, &token, Algorithm::Es256).await;
        let id_token = provider.sign(&claims("google", &provider, "1"));
        let identity = json!({"provider": "google", "id_token": id_token});
        let linked = post.post("/api/user/identities", &token, &identity).await;
        assert!(linked.status().is_success(), "{:?}", linked.text().await);
        let app = if state.has_totp() { Some(set_up_fresh(&post.app, &token).await) } else { None };
        post.app.clock.advance(BETWEEN_MAILS);
        let request = request_of(post.app.post("/api/login/mail", &json!({"email": EMAIL})).await).await;
        let code = mail_about(&post, "Log in to ").await.code();
        post.app.clock.advance(BETWEEN_MAILS);
        request_of(post.app.post("/api/password/forgot", &json!({"username": NAME})).await).await;
        let reset = mail_about(&post, "Your new password").await.token();
        let first: Value = post.app.log_in(NAME, "hunter2").await.json().await.unwrap();
        let pending = first["second_factor"]["token"].as_str().unwrap_or(&"0".repeat(40)).to_owned();
        match state {
            State::Deactivated | State::DeactivatedTotp => post.app.deactivate(NAME),
            State::Locked | State::LockedTotp => {
                // Until an attempt has to wait for longer than the doors are tried: two minutes.
                for wait in [0; 10].into_iter().chain((0..7).map(|doubled| 1 << doubled)) {
                    post.app.clock.advance(Duration::from_secs(wait));
                    assert_eq!(post.log_in(NAME, "wrong").await, 401);
                }
            }
            State::Plain | State::Totp | State::Unverified | State::UnverifiedTotp => {}
        }
        let sign_in = json!({"request": request, "code": code});
        Self { post, provider, app, authenticator, pending, sign_in, reset }
    }

    fn server(&self) -> &TestApp {
        &self.post.app
    }

    /// A code of the authenticator app that was never given; six digits where there is no app.
    fn code(&self) -> String {
        self.server().clock.advance(STEP);
        self.app.as_ref().map_or("000000".to_owned(), |app| app.code(self.server(), 0))
    }

    /// What each door answers, in one order.
    async fn tried(&mut self) -> [String; 7] {
        let password = json!({"username": NAME, "password": "hunter2"});
        let by_password = self.open("/api/login", &password).await;
        let with_code = json!({"username": NAME, "password": "hunter2", "code": self.code()});
        let by_both = self.open("/api/login", &with_code).await;
        let second = json!({"token": self.pending, "code": self.code()});
        let by_second = self.open("/api/login/second", &second).await;
        let mut told = claims("google", &self.provider, "1");
        let now = self.server().clock.now().as_millis() / 1_000;
        (told["iat"], told["exp"]) = (now.into(), (now + 600).into());
        let identity = json!({"provider": "google", "id_token": self.provider.sign(&told)});
        let by_identity = self.open("/api/login/oidc", &identity).await;
        let options = login_options(self.server()).await;
        let passkey = json!({"passkey": self.authenticator.get(&options)});
        let by_passkey = self.open("/api/login/passkey", &passkey).await;
        let sign_in = self.sign_in.clone();
        let by_mail = self.open("/api/login/mail/confirm", &sign_in).await;
        let reset = json!({"token": self.reset, "new_password": "correct horse"});
        let reset = self.open("/api/password/reset", &reset).await;
        let new_password = json!({"username": NAME, "password": "correct horse"});
        let after_reset = self.open("/api/login", &new_password).await;
        let by_reset = format!("{reset}, then {after_reset}");
        [by_password, by_both, by_second, by_identity, by_passkey, by_mail, by_reset]
    }

    /// `open` where there is a session, `done` where something was done and no session opened, `due` where the second
    /// factor is asked for; else the status.
    async fn open(&self, path: &str, body: &Value) -> String {
        let response: Response = self.server().post(path, body).await;
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        match status {
            200 | 201 if answer["token"].is_string() => "open".to_owned(),
            200 => "done".to_owned(),
            401 if answer["second_factor"]["token"].is_string() => "due".to_owned(),
            status => status.to_string(),
        }
    }
}

/// The next mail whose subject begins so. The notices before it are read over.
async fn mail_about(post: &Post, subject: &str) -> Received {
    loop {
        let mail = post.smtp.next().await;
        if mail.subject().starts_with(subject) {
            return mail;
        }
    }
}

#[tokio::test]
async fn no_door_skips_a_second_factor_a_lockout_a_verified_address_or_a_deactivation() {
    // By a password, with a code, by a second step, an identity, a passkey, a mail, a reset.
    let expected = [
        (State::Plain, ["open", "open", "401", "open", "open", "open", "done, then open"]),
        (State::Totp, ["due", "open", "open", "due", "open", "due", "done, then due"]),
        (State::Deactivated, ["401", "401", "401", "401", "401", "400", "done, then 401"]),
        (State::DeactivatedTotp, ["401", "401", "401", "401", "401", "400", "done, then 401"]),
        // The first proof of the mailbox removes what was set up before it: the password, and the mail of the reset.
        (State::Unverified, ["403", "403", "401", "403", "403", "open", "400, then 401"]),
        (State::UnverifiedTotp, ["403", "403", "401", "403", "403", "open", "400, then 401"]),
        // A lockout is of what can be guessed. A mail, an identity and a passkey cannot be.
        (State::Locked, ["429", "429", "401", "open", "open", "open", "done, then open"]),
        // A passkey, which is both factors, has lifted it when the reset is tried.
        (State::LockedTotp, ["429", "429", "429", "due", "open", "due", "done, then due"]),
    ];
    for (state, doors) in expected {
        let mut house = House::in_state(state).await;
        assert_eq!(house.tried().await, doors.map(str::to_owned), "{state:?}");
    }
}

#[tokio::test]
async fn what_staff_do_opens_no_session_and_takes_no_factor_away_but_the_reset_of_them_whatever_the_state() {
    // How a login by the password ends after a reset, a verified address, an activation, the end of all sessions, and the
    // reset of the factors.
    let expected = [
        (State::Plain, ["open"; 5]),
        (State::Totp, ["due", "due", "due", "due", "open"]),
        (State::Deactivated, ["401", "401", "open", "open", "open"]),
        (State::DeactivatedTotp, ["401", "401", "due", "due", "open"]),
        (State::Unverified, ["403", "open", "open", "open", "open"]),
        (State::UnverifiedTotp, ["403", "due", "due", "due", "open"]),
        (State::Locked, ["429"; 5]),
        (State::LockedTotp, ["429"; 5]),
    ];
    for (state, logins) in expected {
        let house = House::in_state(state).await;
        let staff = house.server().new_user("staff").await;
        house.server().make_staff("staff");
        let calls = [
            (Method::POST, "/reset", Value::Null),
            (Method::POST, "/verify-email", Value::Null),
            (Method::PATCH, "", json!({"is_active": true})),
            (Method::DELETE, "/tokens", Value::Null),
            (Method::POST, "/reset-factors", Value::Null),
        ];
        for ((method, path, body), then) in calls.into_iter().zip(logins) {
            let body = Some(&body).filter(|body| !body.is_null());
            let response = house.server().ask(method, &format!("/api/users/{NAME}{path}"), &staff, body).await;
            // There is no reset for who is deactivated, and nothing to verify where all is.
            let status = response.status().as_u16();
            assert!(status < 300 || status == 409 || status == 400, "{state:?}: {path}: {status}");
            assert!(!response.text().await.unwrap().contains("\"token\""), "{state:?}: {path}");
            let password = json!({"username": NAME, "password": "hunter2"});
            assert_eq!(house.open("/api/login", &password).await, then, "{state:?}: {path}");
        }
    }
}

/// How a login by this password ends at a server of the program: as [`House::open`] says it.
fn by_password(server: &Server, username: &str, password: &str) -> String {
    match commands::log_in(server, username, password) {
        (200, _) => "open".to_owned(),
        (401, answer) if answer["second_factor"]["token"].is_string() => "due".to_owned(),
        (status, _) => status.to_string(),
    }
}

/// Sets up an authenticator app for an account of [`Machine::with_accounts`].
fn set_up_app(server: &Server, username: &str) {
    let (_, session) = commands::log_in(server, username, "hunter2");
    let head = format!("{JSON}Authorization: Token {}\r\n", session["token"].as_str().unwrap());
    let post = |path: &str, body: &Value| {
        let answer = server.ask(&post_bytes(path, &head, body.to_string()));
        assert!(answer.status() < 300, "{path}: {answer:?}");
        answer.json()
    };
    post("/api/user/reauthenticate", &json!({"password": "hunter2"}));
    let begun = post("/api/user/totp", &json!({}));
    let seconds = Clock::system().now().as_millis() / 1_000;
    let code = App::new(begun["secret"].as_str().unwrap()).code_at(seconds);
    post("/api/user/totp/confirm", &json!({"code": code}));
}

#[test]
fn no_command_opens_a_session_or_takes_a_factor_away_but_the_reset_of_them_and_no_import_touches_who_is_here() {
    let machine = Machine::with_accounts();
    let server = Server::start(machine.path(), |command| {
        command.env("AUTHTOKENS__SEALING__KEY", generate_key());
    });
    set_up_app(&server, "bob");
    let site = Site::with(machine.path(), &["bob"]);
    site.token(1, &drf_token(1));
    site.close();
    for (input, command, then) in [
        ("hunter2\n", "user set-password bob", "due"),
        ("", "user promote bob", "due"),
        ("", "user demote bob", "due"),
        ("", "import django site.db --leave-out-conflicts", "due"),
        ("", "user deactivate bob", "401"),
        ("", "import django site.db --leave-out-conflicts", "401"),
        ("", "user activate bob", "due"),
        ("", "user reset-factors bob", "open"),
    ] {
        let said = machine.said_to(input, command);
        let is_token = |word: &str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(!said.split(|letter: char| !letter.is_ascii_alphanumeric()).any(is_token), "{command}: {said}");
        assert_eq!(by_password(&server, "bob", "hunter2"), then, "{command}");
        assert_eq!(by_password(&server, "bob", PASSWORD), "401", "{command}");
        assert_eq!(status_of(&server, &drf_token(1)), 401, "{command}");
    }
}

#[test]
fn an_import_is_no_way_around_a_deactivation_a_lockout_a_verified_address_or_a_factor_that_was_set_up_since() {
    let machine = Machine::with_accounts();
    let server = Server::start(machine.path(), |command| {
        command
            .env("AUTHTOKENS__SEALING__KEY", generate_key())
            .env("AUTHTOKENS__RATE_LIMIT__ENABLED", "true")
            .env("AUTHTOKENS__RATE_LIMIT__LOGIN", "1000000 per 1s")
            .env("AUTHTOKENS__ACCOUNTS__REQUIRE_VERIFIED_EMAIL", "true")
            .env("AUTHTOKENS__MAIL__TRANSPORT", "folder")
            .env("AUTHTOKENS__MAIL__FOLDER", "mail")
            .env("AUTHTOKENS__MAIL__FROM", "noreply@diamond.example")
            .env("AUTHTOKENS__SERVER__PUBLIC_URL", "http://127.0.0.1:8000");
    });
    // The names, as their logins and the tokens that they had end. A token is a session that was open
    // before, and that the new password of the last one ends.
    let states = [("unverified", "403", 200), ("inactive", "401", 401), ("locked", "429", 200), ("factor", "due", 401)];
    let site = Site::new(machine.path().join("site.db"));
    for (number, (name, ..)) in (1..).zip(states) {
        let user = site.user(name);
        site.token(user, &drf_token(number));
        site.set(user, "email", &format!("{name}@diamond.example"));
        if name == "inactive" {
            site.set(user, "is_active", "0");
        }
    }
    site.close();
    machine.said("import django site.db");
    for name in ["locked", "factor"] {
        machine.said(&format!("user verify-email {name}"));
    }
    machine.said_to("hunter2\n", "user set-password factor");
    set_up_app(&server, "factor");
    while by_password(&server, "locked", "wrong") != "429" {}
    // Once more: what was imported before is not imported again.
    for _ in 0..2 {
        for (number, (name, login, token)) in (1..).zip(states) {
            let password = if name == "factor" { "hunter2" } else { PASSWORD };
            assert_eq!(by_password(&server, name, password), login, "{name}");
            assert_eq!(status_of(&server, &drf_token(number)), token, "{name}");
        }
        machine.said("import django site.db");
    }
}
