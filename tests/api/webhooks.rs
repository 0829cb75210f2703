//! Webhooks: a real receiver, and the operator's commands beside a running server.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use authtokens::accounts::administer::Administration;
use authtokens::accounts::webhooks::WebhookAdministration;
use authtokens::config::mail::{Sender, Transport};
use authtokens::domain::email::EmailAddress;
use authtokens::domain::event::EventKind;
use authtokens::domain::rights::Actor;
use authtokens::domain::user::Username;
use authtokens::domain::webhook::{MAX_WEBHOOKS, WebhookId, WebhookKinds};
use authtokens::repository::{Replay, Repository, StoredWebhook};
use authtokens::system::sealing::{SealingKey, read_key};
use serde_json::{Value, json};

use crate::commands::{Machine, log_in};
use crate::helpers::{HOUR, PATIENCE, TestApp, until};
use crate::process::{Server, failure_of, run};
use crate::receiver::{Received, Receiver};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The operator, at a running server.
struct Operator<'a> {
    app: &'a TestApp,
    repository: Box<dyn Repository>,
    key: SealingKey,
}

impl<'a> Operator<'a> {
    fn of(app: &'a TestApp) -> Self {
        let file = read_key(&app.database.with_extension("key")).unwrap();
        let key = file.unwrap_or_else(|| SealingKey::parse(&"5a".repeat(32)).unwrap());
        Self { app, repository: app.store.open_beside(), key }
    }

    fn administration(&self) -> WebhookAdministration<'_> {
        WebhookAdministration::new(self.repository.as_ref(), Some(&self.key), &self.app.clock, Actor::CommandLine)
    }

    /// The id of a webhook that is added, and its secret.
    async fn add(&self, url: &str, kinds: &[EventKind]) -> (WebhookId, String) {
        let added = self.administration().add(url, WebhookKinds::new(kinds.to_vec()), true).await;
        let (id, secret) = added.map_err(|error| error.to_string()).unwrap();
        (id, secret.reveal())
    }

    async fn find(&self, id: &WebhookId) -> StoredWebhook {
        self.administration().list().await.unwrap().into_iter().find(|webhook| webhook.id == *id).unwrap()
    }

    async fn until(&self, what: &str, id: &WebhookId, is_so: impl Fn(&StoredWebhook) -> bool) {
        for _ in 0..3_000 {
            if is_so(&self.find(id).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} does not happen: {:?}", self.find(id).await);
    }
}

async fn received(receiver: &Receiver, path: &str, count: usize) {
    until(&format!("message {count} to {path}"), || receiver.received(path).len() >= count).await;
}

#[tokio::test]
async fn an_event_is_sent_once_it_has_happened_thin_and_signed_as_the_standard_says() {
    let (app, receiver) = (TestApp::spawn(), Receiver::start());
    app.new_user("Before").await;
    let operator = Operator::of(&app);
    let (id, secret) = operator.add(&receiver.url("/all"), &[]).await;
    let (_, other) = operator.add(&receiver.url("/deleted"), &[EventKind::Deleted, EventKind::LoggedOut]).await;
    let token = app.new_user("AzureDiamond").await;
    app.log_out(&token).await;
    received(&receiver, "/all", 2).await;
    received(&receiver, "/deleted", 1).await;
    let messages = receiver.received("/all");
    let events = app.store.events();
    let numbered = |kind: &str| events.iter().find(|e| e.kind == kind && e.username == "AzureDiamond").unwrap().id;
    let registered = messages.iter().find(|message| message.json()["type"] == "registered").unwrap();
    assert_eq!(
        registered.json(),
        json!({
            "type": "registered",
            "timestamp": "2015-01-04T22:51:35.144Z",
            "data": {"username": "AzureDiamond", "event": numbered("registered")}
        })
    );
    assert_eq!(registered.headers["content-type"], "application/json");
    assert_eq!(registered.headers["webhook-timestamp"], "1420411895");
    for message in &messages {
        assert_eq!(message.signed_by(&[&secret, &other]), [&secret]);
        assert!(!message.body.contains("Before") && !message.body.contains("127.0.0.1"), "{}", message.body);
    }
    assert_eq!(messages.iter().map(Received::id).collect::<HashSet<_>>().len(), 2);
    let only = receiver.received("/deleted");
    assert_eq!((only.len(), only[0].json()["type"].clone()), (1, json!("logged_out")));
    operator.until("all is sent", &id, |webhook| webhook.behind == 0 && webhook.last_success.is_some()).await;
    // What happens to webhooks is an event, and sent to none.
    let all = [EventKind::WebhookAdded, EventKind::WebhookDisabled];
    operator.administration().disable(&id).await.unwrap();
    let told: Vec<_> = app.store.events().into_iter().filter(|event| event.kind.starts_with("webhook_")).collect();
    assert_eq!(told.len(), 3);
    assert_eq!((&*told[0].kind, &*told[2].kind), (all[0].name(), all[1].name()));
    assert_eq!((&*told[2].detail, &*told[2].actor, &*told[2].username), (id.as_str(), "command line", ""));
    assert_eq!(receiver.received("/all").len(), 2);
}

#[tokio::test]
async fn what_fails_is_tried_again_with_the_same_id_until_it_is_delivered() {
    let (app, receiver) = (TestApp::spawn(), Receiver::start());
    let operator = Operator::of(&app);
    receiver.answer("/", 500, "", "no \u{1b}[31m");
    let (id, _) = operator.add(&receiver.url("/"), &[EventKind::Registered]).await;
    app.new_user("AzureDiamond").await;
    received(&receiver, "/", 1).await;
    operator.until("the failure is stored", &id, |webhook| webhook.waiting == 1).await;
    let failed = operator.administration().failed_deliveries(&id, 10).await.unwrap();
    assert_eq!((failed[0].attempts, &*failed[0].answer), (1, "500: no  [31m"));
    let waits = failed[0].due.unwrap().since(app.clock.now());
    assert!((5_000..=5_500).contains(&waits.as_millis()), "{waits:?}");
    assert_eq!(operator.find(&id).await.failing_since, Some(app.clock.now()));
    // While it fails, one at a time is tried.
    for attempt in 2..=4 {
        app.clock.advance(HOUR);
        received(&receiver, "/", attempt).await;
        let what = "the next failure is stored";
        operator.until(what, &id, |webhook| webhook.waiting == 1).await;
        for _ in 0..3_000 {
            let failed = operator.administration().failed_deliveries(&id, 10).await.unwrap();
            if failed[0].attempts as usize == attempt {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    receiver.answer("/", 200, "", "");
    app.clock.advance(3 * HOUR);
    operator.until("it is delivered", &id, |webhook| webhook.waiting == 0).await;
    let messages = receiver.received("/");
    assert_eq!(messages.iter().map(Received::id).collect::<HashSet<_>>().len(), 1);
    assert_eq!(messages.iter().map(|message| &message.body).collect::<HashSet<_>>().len(), 1);
    let times: HashSet<_> = messages.iter().map(|message| &message.headers["webhook-timestamp"]).collect();
    assert_eq!(times.len(), messages.len(), "each attempt has its own time");
    assert_eq!(operator.find(&id).await.failing_since, None);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed_and_one_that_is_gone_is_disabled() {
    let (app, receiver) = (TestApp::spawn(), Receiver::start());
    let operator = Operator::of(&app);
    receiver.answer("/redirect", 302, &format!("location: {}\r\n", receiver.url("/elsewhere")), "");
    receiver.answer("/gone", 410, "", "");
    let (redirect, _) = operator.add(&receiver.url("/redirect"), &[EventKind::Registered]).await;
    let (gone, _) = operator.add(&receiver.url("/gone"), &[EventKind::Registered]).await;
    app.new_user("AzureDiamond").await;
    operator.until("the redirect has failed", &redirect, |webhook| webhook.waiting == 1).await;
    let failed = operator.administration().failed_deliveries(&redirect, 10).await.unwrap();
    assert!(failed[0].answer.contains("redirect"), "{}", failed[0].answer);
    assert!(receiver.received("/elsewhere").is_empty());
    operator.until("the other is disabled", &gone, |webhook| webhook.disabled.is_some()).await;
    assert_eq!(operator.find(&gone).await.disabled.unwrap().1.name(), "receiver");
    let count = receiver.received("/gone").len();
    app.new_user("bob").await;
    app.clock.advance(HOUR);
    received(&receiver, "/redirect", 2).await;
    assert_eq!(receiver.received("/gone").len(), count);
    // Enabled again, it goes on from where it has stopped.
    receiver.answer("/gone", 200, "", "");
    operator.administration().enable(&gone).await.unwrap();
    received(&receiver, "/gone", count + 2).await;
    operator.until("all is sent", &gone, |webhook| webhook.behind == 0 && webhook.waiting == 0).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let (app, receiver) =
        (TestApp::spawn_with(|config| config.outbound.timeout = Duration::from_secs(60)), Receiver::start());
    let operator = Operator::of(&app);
    receiver.hang("/hangs");
    let (hangs, _) = operator.add(&receiver.url("/hangs"), &[EventKind::Registered]).await;
    let (works, _) = operator.add(&receiver.url("/works"), &[EventKind::Registered]).await;
    for number in 0..20 {
        app.new_user(&format!("user{number}")).await;
    }
    received(&receiver, "/works", 20).await;
    operator.until("all is sent", &works, |webhook| webhook.behind == 0).await;
    assert!(operator.find(&hangs).await.last_success.is_none());
    assert!((1..=16).contains(&receiver.received("/hangs").len()));
}

#[tokio::test]
async fn five_days_without_success_disable_a_webhook_and_staff_are_told_by_mail() {
    let folder = tempfile::tempdir().unwrap();
    let mails = folder.path().join("mail");
    let sender = Sender { name: None, email: EmailAddress::parse("noreply@diamond.example").unwrap() };
    let (app, receiver) = (
        TestApp::spawn_with(|config| {
            config.server.public_url = Some("https://diamond.example".to_owned());
            config.mail.transport = Transport::Folder;
            config.mail.folder = mails.clone();
            config.mail.from = Some(sender);
        }),
        Receiver::start(),
    );
    for (username, address) in [("Admin", "admin@diamond.example"), ("bob", "bob@diamond.example")] {
        app.post("/api/register", &json!({"username": username, "password": "hunter2", "email": address})).await;
    }
    app.make_superuser("Admin");
    let operator = Operator::of(&app);
    for username in ["Admin", "bob"] {
        let administration = Administration::new(operator.repository.as_ref(), &app.clock, Actor::CommandLine);
        administration.verify_email(&Username::parse(username).unwrap()).await.map_err(|e| e.to_string()).unwrap();
    }
    receiver.answer("/", 503, "retry-after: 7200\r\n", "");
    let (id, _) = operator.add(&receiver.url("/"), &[EventKind::Registered]).await;
    app.new_user("AzureDiamond").await;
    operator.until("it has failed", &id, |webhook| webhook.waiting == 1).await;
    let failed = operator.administration().failed_deliveries(&id, 10).await.unwrap();
    let waits = failed[0].due.unwrap().since(app.clock.now());
    assert!(waits.as_secs() >= 7_200, "what the receiver asks for counts: {waits:?}");
    app.clock.advance(HOUR);
    app.new_user("Cotton").await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(receiver.received("/").len(), 1, "it is left alone");
    app.clock.advance(4 * DAY);
    received(&receiver, "/", 2).await;
    operator.until("it is stored", &id, |webhook| webhook.behind == 0 || webhook.waiting >= 1).await;
    assert!(operator.find(&id).await.disabled.is_none());
    app.clock.advance(DAY);
    operator.until("it is disabled", &id, |webhook| webhook.disabled.is_some()).await;
    assert_eq!(operator.find(&id).await.disabled.unwrap().1.name(), "failures");
    let told = || {
        let files = std::fs::read_dir(&mails).map(|files| files.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let texts = files.iter().map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
        texts.filter(|text| text.contains(id.as_str())).collect::<Vec<_>>()
    };
    until("staff are told", || !told().is_empty()).await;
    assert!(told().iter().all(|mail| mail.contains("admin@diamond.example") && !mail.contains("bob@")), "{:?}", told());
    assert_eq!(app.count_events("webhook_disabled"), 1);
}

#[tokio::test]
async fn after_a_rotation_both_secrets_sign_for_a_day_and_then_the_new_one_alone() {
    let (app, receiver) = (TestApp::spawn(), Receiver::start());
    let operator = Operator::of(&app);
    let (id, former) = operator.add(&receiver.url("/"), &[EventKind::Registered]).await;
    let (secret, until) = operator.administration().rotate(&id).await.map_err(|error| error.to_string()).unwrap();
    let secret = secret.reveal();
    assert_eq!(until, app.clock.now().plus(DAY));
    app.new_user("AzureDiamond").await;
    received(&receiver, "/", 1).await;
    assert_eq!(receiver.received("/")[0].signed_by(&[&former, &secret]), [&former, &secret]);
    operator.until("it is stored", &id, |webhook| webhook.behind == 0).await;
    app.clock.advance(DAY);
    app.new_user("bob").await;
    received(&receiver, "/", 2).await;
    assert_eq!(receiver.received("/")[1].signed_by(&[&former, &secret]), [&secret]);
    operator.until("the former one is forgotten", &id, |webhook| webhook.rotated_until.is_none()).await;
    for secret in [&former, &secret] {
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &secret[6..]).unwrap();
        assert!(!app.store.contains(&bytes) && !app.store.contains(secret.as_bytes()));
    }
}

#[tokio::test]
async fn what_was_sent_before_is_sent_again_with_its_id_when_it_is_asked_for() {
    let (app, receiver) = (TestApp::spawn(), Receiver::start());
    let operator = Operator::of(&app);
    let (id, _) = operator.add(&receiver.url("/"), &[EventKind::Registered]).await;
    for username in ["first", "second", "third"] {
        app.clock.advance(HOUR);
        app.new_user(username).await;
    }
    received(&receiver, "/", 3).await;
    operator.until("all is sent", &id, |webhook| webhook.behind == 0).await;
    let events = app.store.events();
    let of = |username: &str| events.iter().find(|e| e.kind == "registered" && e.username == username).unwrap();
    let administration = operator.administration();
    let replayed = administration.replay(&id, Replay::Event(of("first").id)).await.unwrap();
    assert_eq!((replayed.count, replayed.last), (1, None));
    received(&receiver, "/", 4).await;
    let since = app.clock.now().minus(HOUR);
    assert_eq!(administration.replay(&id, Replay::Since(since)).await.unwrap().count, 2);
    received(&receiver, "/", 6).await;
    let messages = receiver.received("/");
    assert_eq!(messages[3].json()["data"]["username"], "first");
    assert_eq!(messages.iter().map(Received::id).collect::<HashSet<_>>().len(), 3);
    // One that is none of its kinds, or that there is not, is not sent.
    let added = events.iter().find(|event| event.kind == "webhook_added").unwrap().id;
    for event in [added, 1_000_000] {
        assert_eq!(administration.replay(&id, Replay::Event(event)).await.unwrap().count, 0);
    }
    operator.until("all is sent", &id, |webhook| webhook.waiting == 0).await;
}

#[tokio::test]
async fn what_is_not_sent_before_a_stop_is_sent_after_the_next_start() {
    let (app, receiver) = (TestApp::spawn(), Receiver::start());
    receiver.answer("/", 500, "", "");
    let id = {
        let operator = Operator::of(&app);
        let (id, _) = operator.add(&receiver.url("/"), &[EventKind::Registered]).await;
        for number in 0..5 {
            app.new_user(&format!("user{number}")).await;
        }
        operator.until("one has failed", &id, |webhook| webhook.waiting > 0).await;
        id
    };
    receiver.answer("/", 200, "", "");
    let app = app.restart_with(|_| {});
    app.clock.advance(HOUR);
    let operator = Operator::of(&app);
    operator.until("all is sent", &id, |webhook| webhook.behind == 0 && webhook.waiting == 0).await;
    let names: HashSet<_> =
        receiver.received("/").iter().map(|message| message.json()["data"]["username"].to_string()).collect();
    assert_eq!(names.len(), 5);
}

#[tokio::test]
async fn an_address_that_must_not_be_asked_is_refused_and_so_is_one_webhook_too_many() {
    let app = TestApp::spawn();
    let operator = Operator::of(&app);
    let administration = operator.administration();
    for (url, allow_private) in [
        ("http://diamond.example/", false),
        ("https://127.0.0.1/", false),
        ("https://[::ffff:10.0.0.1]/", false),
        ("http://169.254.169.254/", true),
        ("https://user:hunter2@diamond.example/", false),
        ("nothing", true),
    ] {
        let refused = administration.add(url, WebhookKinds::All, allow_private).await.err().unwrap().to_string();
        assert!(refused.starts_with("the address cannot be used: ") && !refused.contains("hunter2"), "{refused}");
    }
    let long = format!("https://diamond.example/{}", "x".repeat(1_024));
    assert!(administration.add(&long, WebhookKinds::All, false).await.is_err());
    for _ in 0..MAX_WEBHOOKS {
        administration.add("https://diamond.example/", WebhookKinds::All, false).await.map_err(drop).unwrap();
    }
    let refused = administration.add("https://diamond.example/", WebhookKinds::All, false).await.err().unwrap();
    assert!(refused.to_string().contains("20"), "{refused}");
}

#[test]
fn the_operator_adds_tries_and_removes_webhooks_beside_a_running_server() {
    // A store that servers share has its key in a setting.
    const KEY: (&str, &str) =
        ("AUTHTOKENS__SEALING__KEY", "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a");
    let (machine, receiver) = (Machine::with_accounts(), Receiver::start());
    let server = Server::start(machine.path(), |command| {
        command.env(KEY.0, KEY.1);
    });
    let said = |arguments: &str| {
        let output = run(machine.command(arguments).env(KEY.0, KEY.1));
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |arguments: &str| serde_json::from_str::<Value>(&said(&format!("{arguments} --json"))).unwrap();
    let refused = |arguments: &str| failure_of(machine.command(arguments).env(KEY.0, KEY.1));
    let added = json(&format!("webhook add {} --allow-private --kind logged_in", receiver.url("/")));
    let (id, secret) = (added["id"].as_str().unwrap().to_owned(), added["secret"].as_str().unwrap().to_owned());
    assert!(secret.starts_with("whsec_"));
    assert_eq!(json(&format!("webhook test {id}"))["answer"], "204");
    let tried = receiver.received("/");
    assert_eq!((tried[0].json()["type"].clone(), tried[0].signed_by(&[&secret])), (json!("test"), vec![&*secret]));
    receiver.answer("/", 500, "", "no \u{202e}\u{7}");
    let (code, sentence) = refused(&format!("webhook test {id}"));
    assert_eq!((code, sentence.contains("500: no") && !sentence.contains('\u{202e}')), (1, true), "{sentence}");
    log_in(&server, "bob", "hunter2");
    let deadline = Instant::now() + PATIENCE;
    while json("webhook list")[0]["waiting"] == 0 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    let log = said(&format!("webhook log {id}"));
    assert!(log.contains("500: no") && !log.contains('\u{202e}'), "{log}");
    let listed = json("webhook list");
    assert_eq!(listed[0]["kinds"], json!(["logged_in"]));
    assert!(!listed.to_string().contains("whsec_") && listed[0]["failing_since"].is_string(), "{listed}");
    for command in ["disable", "enable", "rotate"] {
        said(&format!("webhook {command} {id}"));
    }
    assert_eq!(refused(&format!("webhook remove {id}")).0, 2, "it asks first");
    said(&format!("webhook remove {id} --yes"));
    for command in ["test", "rotate", "disable", "enable", "log", "remove --yes", "replay --event 1"] {
        let (code, sentence) = refused(&format!("webhook {command} {id}"));
        assert_eq!((code, &*sentence), (1, "there is no such webhook"), "{command}");
    }
    for wrong in
        ["webhook log 1", "webhook add https://a.example --kind webhook_added", "webhook replay 0123456789abcdef"]
    {
        assert_eq!(run(&mut machine.command(wrong)).status.code(), Some(2), "{wrong}");
    }
}
