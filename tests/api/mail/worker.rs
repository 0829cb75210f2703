//! The job that sends mail: what becomes of mails while the mail server fails, hangs or refuses, and of those that wait at
//! a stop.

use std::time::Duration;

use authtokens::accounts::mail_requests::CAPACITY;
use authtokens::config::Config;
use authtokens::config::mail::Encryption;
use authtokens::domain::mail::RETRY_AFTER;
use authtokens::domain::rights::Actor;
use authtokens::domain::user::Username;
use authtokens::repository::{EmailVerification, OutboxMail, OutboxStatistics};
use reqwest::Method;
use serde_json::{Value, json};

use super::smtp_server::{Behaviour, Fault, SmtpServer, Stage};
use crate::helpers::{HOUR, TestApp, session_of};
use crate::metrics::{ANY_PORT, read_metrics, value};
use crate::process::{Server, post};

const MINUTE: Duration = Duration::from_secs(60);

/// What the subject of a notice of a changed password says.
const CHANGED: &str = "was changed";

fn spawn(smtp: &SmtpServer) -> TestApp {
    TestApp::spawn_with(|config| configure(smtp, config))
}

fn configure(smtp: &SmtpServer, config: &mut Config) {
    smtp.configure(config);
    config.metrics.listen = Some(ANY_PORT);
}

/// A server that takes no mail.
fn failing() -> Behaviour {
    Behaviour::default().failing(Stage::Connect, Fault::Drop)
}

/// A server that takes a connection and says nothing.
fn hanging() -> Behaviour {
    Behaviour::default().failing(Stage::Connect, Fault::Hang)
}

/// An account with a verified address, whose confirmation the server has taken. It must take mail.
async fn new_owner(app: &TestApp, smtp: &SmtpServer, username: &str) -> Owner {
    let email = format!("{username}@diamond.example");
    let body = json!({"username": username, "password": "hunter2", "email": email});
    let (token, _) = session_of(app.post("/api/register", &body).await).await;
    smtp.next().await;
    until(app, "authtokens_mail_queue{queue=\"outbox\"}", 0.0).await;
    let (repository, name) = (app.store.open_beside(), Username::parse(username).unwrap());
    let verified = repository.verify_account_email(&Actor::CommandLine, &name, app.clock.now()).await.unwrap();
    assert_eq!(verified, Some(EmailVerification::Verified));
    Owner { username: username.to_owned(), token, password: "hunter2".to_owned() }
}

struct Owner {
    username: String,
    token: String,
    password: String,
}

impl Owner {
    /// Causes a notice.
    async fn change_password(&mut self, app: &TestApp) {
        let new = format!("{}x", self.password);
        let body = json!({"current_password": self.password, "new_password": new});
        app.get(Method::POST, "/api/user/password", &self.token, Some(&body)).await;
        self.password = new;
    }

    /// Asks for a mail that waits in memory.
    async fn forget_password(&self, app: &TestApp) -> reqwest::Response {
        app.post("/api/password/forgot", &json!({"username": self.username})).await
    }
}

/// Waits until a series has this value.
async fn until(app: &TestApp, series: &str, expected: f64) {
    crate::helpers::until(series, || value(&read_metrics(app), series) == Some(expected)).await;
}

/// The series of the mails of a kind with an outcome.
fn mails(kind: &str, outcome: &str) -> String {
    format!("authtokens_mails_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}")
}

async fn readyz(app: &TestApp) -> Value {
    let response = app.client.get(app.url("/readyz")).send().await.unwrap();
    assert_eq!(response.status(), 200, "mail does not make it less ready");
    response.json().await.unwrap()
}

/// Claims mails as another process does.
async fn claim(app: &TestApp, after: Duration, held_for: Duration) -> Vec<OutboxMail> {
    let now = app.clock.now().plus(after);
    app.store.open_beside().claim_mails(10, now, now.plus(held_for)).await.unwrap()
}

async fn outbox(app: &TestApp) -> OutboxStatistics {
    app.store.open_beside().outbox_statistics().await.unwrap()
}

#[tokio::test]
async fn a_notice_waits_for_the_mail_server_to_come_back_and_readyz_tells_meanwhile() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    assert_eq!(readyz(&app).await["mail"], json!({"status": "ok", "failing_since": null}));

    smtp.behave(failing());
    owner.change_password(&app).await;
    until(&app, &mails("password_changed", "retried"), 1.0).await;
    until(&app, "authtokens_mail_failing_since_timestamp_seconds", 1_420_411_895.144).await;
    assert_eq!(outbox(&app).await.waiting, 1);
    app.clock.advance(MINUTE);
    until(&app, &mails("password_changed", "retried"), 2.0).await;
    until(&app, "authtokens_mail_outbox_oldest_seconds", 60.0).await;
    app.clock.advance(3 * MINUTE);
    assert_eq!(readyz(&app).await["mail"]["status"], "ok", "it may be over soon");
    app.clock.advance(MINUTE);
    let failing = json!({"status": "failing", "failing_since": "2015-01-04T22:51:00.000Z"});
    assert_eq!(readyz(&app).await["mail"], failing, "since the minute of the first failure");

    smtp.behave(Behaviour::default());
    app.clock.advance(MINUTE);
    assert!(smtp.next().await.subject().contains(CHANGED));
    until(&app, &mails("password_changed", "sent"), 1.0).await;
    until(&app, "authtokens_mail_queue{queue=\"outbox\"}", 0.0).await;
    assert_eq!(readyz(&app).await["mail"]["status"], "ok");
    until(&app, "authtokens_mail_failing_since_timestamp_seconds", 0.0).await;
    until(&app, "authtokens_mail_delivery_duration_seconds_count", 4.0).await;
    assert_eq!(app.count_events("mail_failed"), 0);
}

#[tokio::test]
async fn what_a_stranger_asks_for_neither_begins_nor_ends_that_readyz_says_failing() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(failing());
    owner.forget_password(&app).await;
    until(&app, &mails("reset_password", "retried"), 1.0).await;
    for retried in [2.0, 3.0] {
        app.clock.advance(2 * MINUTE);
        until(&app, &mails("reset_password", "retried"), retried).await;
    }
    app.clock.advance(2 * MINUTE);
    assert_eq!(readyz(&app).await["mail"], json!({"status": "ok", "failing_since": null}));

    owner.change_password(&app).await;
    until(&app, &mails("password_changed", "retried"), 1.0).await;
    for retried in [2.0, 3.0] {
        app.clock.advance(6 * MINUTE);
        until(&app, &mails("password_changed", "retried"), retried).await;
    }
    let shown = readyz(&app).await["mail"].clone();
    assert_eq!(shown["status"], "failing");
    smtp.behave(Behaviour::default());
    app.clock.advance(10 * MINUTE);
    owner.forget_password(&app).await;
    until(&app, &mails("reset_password", "sent"), 1.0).await;
    until(&app, "authtokens_mail_failing_since_timestamp_seconds", 0.0).await;
    assert_eq!(readyz(&app).await["mail"], shown);
    app.clock.advance(20 * MINUTE);
    until(&app, &mails("password_changed", "sent"), 1.0).await;
    assert_eq!(readyz(&app).await["mail"]["status"], "ok");
}

#[tokio::test]
async fn a_mail_that_is_refused_for_now_says_nothing_of_the_server_and_holds_up_no_other() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(Behaviour::default().replying(Stage::Rcpt, "450 4.2.0 greylisted"));
    for retried in [1.0, 2.0, 3.0] {
        // The clock stands still: after a failure of the server no other would be tried.
        owner.change_password(&app).await;
        until(&app, &mails("password_changed", "retried"), retried).await;
    }
    until(&app, "authtokens_mail_failing_since_timestamp_seconds", 0.0).await;
    smtp.behave(failing());
    owner.change_password(&app).await;
    until(&app, &mails("password_changed", "retried"), 4.0).await;
    until(&app, "authtokens_mail_failing_since_timestamp_seconds", 1_420_411_895.144).await;
    for reply in ["450 4.2.0 greylisted", "550 5.1.1 no such mailbox"] {
        smtp.behave(Behaviour::default().replying(Stage::Rcpt, reply));
        let before = smtp.connections();
        app.clock.advance(2 * MINUTE);
        owner.forget_password(&app).await;
        crate::helpers::until("a try", || smtp.connections() > before).await;
        assert_eq!(
            value(&read_metrics(&app), "authtokens_mail_failing_since_timestamp_seconds"),
            Some(1_420_411_895.144)
        );
    }
}

#[tokio::test]
async fn without_mail_readyz_and_the_metrics_say_nothing_of_it() {
    let app = TestApp::spawn_with(|config| config.metrics.listen = Some(ANY_PORT));
    assert_eq!(readyz(&app).await, json!({"status": "ready"}));
    let text = read_metrics(&app);
    assert!(!text.contains("authtokens_mail") && !text.contains("mail_queue_full"), "{text}");
}

#[tokio::test]
async fn a_notice_is_tried_again_after_1_5_30_and_120_minutes_and_then_given_up_with_an_event() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(Behaviour::default().replying(Stage::Rcpt, "451 4.3.0 later"));
    owner.change_password(&app).await;
    assert_eq!(RETRY_AFTER, [1, 5, 30, 120].map(|minutes| minutes * MINUTE));
    for (retried, after) in (1_u32..).zip(RETRY_AFTER) {
        until(&app, &mails("password_changed", "retried"), retried.into()).await;
        let just_before = after.saturating_sub(Duration::from_millis(1));
        assert_eq!(claim(&app, just_before, MINUTE).await, [], "it is not due before {after:?}");
        app.clock.advance(after);
    }
    until(&app, &mails("password_changed", "failed"), 1.0).await;
    crate::helpers::until("the event", || app.count_events("mail_failed") == 1).await;
    assert_eq!(outbox(&app).await, OutboxStatistics::default());
    let given_up = app.store.events().into_iter().find(|event| event.kind == "mail_failed").unwrap();
    assert_eq!((given_up.username.as_str(), given_up.detail.as_str()), ("AzureDiamond", "password_changed"));
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_is_given_up_at_once_and_says_nothing_against_the_server() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(Behaviour::default().replying(Stage::Rcpt, "550 5.1.1 no such mailbox"));
    owner.change_password(&app).await;
    until(&app, &mails("password_changed", "failed"), 1.0).await;
    crate::helpers::until("the event", || app.count_events("mail_failed") == 1).await;
    assert_eq!(outbox(&app).await.waiting, 0);
    assert_eq!(readyz(&app).await["mail"]["status"], "ok");
    assert_eq!(value(&read_metrics(&app), &mails("password_changed", "retried")), None);
    owner.forget_password(&app).await;
    until(&app, &mails("reset_password", "failed"), 1.0).await;
    until(&app, "authtokens_mail_queue{queue=\"memory\"}", 0.0).await;
}

#[tokio::test]
async fn a_mail_with_a_code_is_tried_again_until_its_code_has_less_than_two_minutes_left() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(failing());
    assert_eq!(owner.forget_password(&app).await.status(), 202);
    for (retried, after) in (1_u32..).zip([10, 60, 180, 180]) {
        until(&app, &mails("reset_password", "retried"), retried.into()).await;
        until(&app, "authtokens_mail_queue{queue=\"memory\"}", 1.0).await;
        app.clock.advance(Duration::from_secs(after));
    }
    until(&app, &mails("reset_password", "failed"), 1.0).await;
    until(&app, "authtokens_mail_queue{queue=\"memory\"}", 0.0).await;
    assert_eq!(value(&read_metrics(&app), &mails("reset_password", "retried")), Some(4.0));

    // One that is delivered at the second attempt is delivered once.
    app.clock.advance(MINUTE);
    owner.forget_password(&app).await;
    until(&app, &mails("reset_password", "retried"), 5.0).await;
    smtp.behave(Behaviour::default());
    app.clock.advance(Duration::from_secs(60));
    until(&app, &mails("reset_password", "sent"), 1.0).await;
    assert_eq!(smtp.messages().len(), 2);
    assert_eq!(app.count_events("mail_failed"), 0, "only what is stored is an event");
}

#[tokio::test]
async fn a_request_that_has_waited_for_ten_minutes_is_not_answered_by_a_mail_any_more() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(failing());
    owner.change_password(&app).await;
    until(&app, &mails("password_changed", "retried"), 1.0).await;
    // The server is not asked again so soon.
    owner.forget_password(&app).await;
    until(&app, "authtokens_mail_queue{queue=\"memory\"}", 1.0).await;
    // Its age counts from when the job has seen it.
    let runs = || value(&read_metrics(&app), "authtokens_job_runs_total{job=\"mail\",outcome=\"success\"}").unwrap();
    let before = runs();
    crate::helpers::until("two runs", || runs() >= before + 2.0).await;
    smtp.behave(Behaviour::default());
    app.clock.advance(10 * MINUTE);
    until(&app, &mails("reset_password", "failed"), 1.0).await;
    until(&app, "authtokens_mail_queue{queue=\"memory\"}", 0.0).await;
    until(&app, &mails("password_changed", "sent"), 1.0).await;
    assert_eq!(value(&read_metrics(&app), &mails("reset_password", "sent")), None);
}

#[tokio::test]
async fn while_the_server_fails_one_mail_at_a_time_is_tried_and_not_all_that_wait() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(failing());
    owner.change_password(&app).await;
    until(&app, &mails("password_changed", "retried"), 1.0).await;
    for _ in 0..20 {
        owner.change_password(&app).await;
    }
    // After the first failure there is a pause of a second, and then one of two.
    for (tried, pause) in [(2.0, 1), (3.0, 2), (4.0, 4)] {
        let before = smtp.connections();
        app.clock.advance(Duration::from_secs(pause));
        until(&app, &mails("password_changed", "retried"), tried).await;
        // The job looks every second; nothing says when it has looked and done nothing.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(smtp.connections(), before + 1);
    }
    smtp.behave(Behaviour::default());
    app.clock.advance(MINUTE);
    smtp.wait_for(1 + 21).await;
}

#[tokio::test]
async fn a_slow_delivery_does_not_hold_up_the_next_one() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    let before = smtp.connections();
    smtp.behave(hanging());
    owner.change_password(&app).await;
    crate::helpers::until("a connection", || smtp.connections() > before).await;
    smtp.behave(Behaviour::default());
    owner.change_password(&app).await;
    owner.forget_password(&app).await;
    let subjects = [smtp.next().await.subject(), smtp.next().await.subject()];
    assert_eq!(subjects.iter().filter(|subject| subject.contains(CHANGED)).count(), 1, "{subjects:?}");
}

#[tokio::test]
async fn two_processes_never_send_one_mail_and_that_of_a_process_that_dies_is_sent_by_the_other() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    let before = smtp.connections();
    smtp.behave(hanging());
    owner.change_password(&app).await;
    crate::helpers::until("a connection", || smtp.connections() > before).await;
    assert_eq!(claim(&app, Duration::ZERO, HOUR).await, [], "the server has claimed it");
    let app = app.restart_with(|config| configure(&smtp, config));
    smtp.behave(Behaviour::default());
    // The claim of the one that was stopped ends by itself. Until then there is nothing to send, and this process claims
    // the second one.
    owner.change_password(&app).await;
    app.clock.advance(10 * MINUTE);
    smtp.wait_for(1 + 2).await;

    smtp.behave(failing());
    owner.change_password(&app).await;
    until(&app, &mails("password_changed", "retried"), 1.0).await;
    // The server is not asked before the clock has moved.
    owner.change_password(&app).await;
    let claimed = claim(&app, Duration::ZERO, HOUR).await;
    assert_eq!(claimed.len(), 1);
    smtp.behave(Behaviour::default());
    app.clock.advance(2 * MINUTE);
    smtp.wait_for(1 + 3).await;
    until(&app, "authtokens_mail_queue{queue=\"outbox\"}", 1.0).await;
    // The other process has died.
    app.clock.advance(HOUR);
    smtp.wait_for(1 + 4).await;
    until(&app, "authtokens_mail_queue{queue=\"outbox\"}", 0.0).await;
    let late = app.store.open_beside().complete_mail(claimed[0].id).await.unwrap();
    assert!(!late, "its claim is over");
}

#[tokio::test]
async fn a_restart_loses_what_waits_in_memory_and_nothing_of_the_outbox() {
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&smtp);
    let mut owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(failing());
    owner.forget_password(&app).await;
    until(&app, &mails("reset_password", "retried"), 1.0).await;
    for _ in 0..5 {
        owner.change_password(&app).await;
        owner.forget_password(&app).await;
    }
    let app = app.restart_with(|config| configure(&smtp, config));
    assert_eq!(outbox(&app).await.waiting, 5);
    smtp.behave(Behaviour::default());
    app.clock.advance(10 * MINUTE);
    let messages = smtp.wait_for(1 + 5).await;
    assert!(messages[1..].iter().all(|mail| mail.subject().contains(CHANGED)));
    until(&app, "authtokens_mail_queue{queue=\"outbox\"}", 0.0).await;
    until(&app, "authtokens_mail_queue{queue=\"memory\"}", 0.0).await;
    assert_eq!(smtp.messages().len(), 1 + 5);
}

#[tokio::test]
async fn a_thousand_mails_wait_for_a_server_that_hangs_while_the_service_answers_and_then_leave() {
    let smtp = SmtpServer::start(Behaviour::with(Encryption::None));
    let app = TestApp::spawn_with(|config| {
        configure(&smtp, config);
        config.mail.smtp.timeout = Duration::from_secs(1);
    });
    let owner = new_owner(&app, &smtp, "AzureDiamond").await;
    smtp.behave(Behaviour::with(Encryption::None).failing(Stage::Connect, Fault::Hang));
    for _ in 0..CAPACITY {
        assert_eq!(owner.forget_password(&app).await.status(), 202);
    }
    let refused = owner.forget_password(&app).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(value(&read_metrics(&app), "authtokens_rejected_total{reason=\"mail_queue_full\"}"), Some(1.0));
    #[expect(clippy::cast_precision_loss, reason = "a thousand is far below 2^53")]
    until(&app, "authtokens_mail_queue{queue=\"memory\"}", CAPACITY as f64).await;
    for _ in 0..10 {
        assert_eq!(app.ask(Method::GET, "/api/user", &owner.token, None).await.status(), 200);
        assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
    }
    until(&app, &mails("reset_password", "retried"), 16.0).await;
    smtp.behave(Behaviour::with(Encryption::None));
    app.clock.advance(MINUTE);
    smtp.wait_for(1 + CAPACITY).await;
    until(&app, "authtokens_mail_queue{queue=\"memory\"}", 0.0).await;
}

#[test]
fn a_server_that_hangs_does_not_hold_up_the_stop_and_the_log_says_how_many_mails_are_lost_and_nothing_of_them() {
    let smtp = SmtpServer::start(hanging());
    let folder = tempfile::tempdir().unwrap();
    // A stop would last for as long as this, or longer than a test waits.
    let config = format!("{}timeout = \"5min\"\n", smtp.config_file());
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let mut server = Server::start(folder.path(), |_| {});
    let body = json!({"username": "AzureDiamond", "password": "hunter2", "email": "azure@diamond.example"});
    assert_eq!(post(server.address, "/api/register", &body).status(), 201);
    for _ in 0..3 {
        let answer = post(server.address, "/api/password/forgot", &json!({"email": "azure@diamond.example"}));
        assert_eq!(answer.status(), 202);
    }
    let deadline = std::time::Instant::now() + crate::helpers::PATIENCE;
    while smtp.connections() < 2 {
        assert!(std::time::Instant::now() < deadline, "{}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let log = server.log();
    assert!(log.trim_end().ends_with("stopped"), "{log}");
    assert!(log.contains("mail leaves by localhost:"), "{log}");
    assert!(log.contains("3 mails that were asked for were not sent before the stop, and are lost"), "{log}");
    assert!(!log.contains("azure"), "{log}");
}
