//! The pages where the links of mails lead: what they change and when, what they tell, and who may read them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use authtokens::config::Config;
use authtokens::config::mail::{Encryption, Sender, Transport};
use authtokens::domain::email::EmailAddress;
use authtokens::domain::rate::Rate;
use authtokens::server::application::Application;
use authtokens::system::clock::Clock;
use mail_parser::MessageParser;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::json;

use crate::helpers::{HOUR, Response, TestApp, UNKNOWN_TOKEN, session_of, test_config, until};
use crate::imported_names::NASTY;

/// The pages with forms.
const FORMS: [&str; 3] = ["/account/reset", "/account/confirm", "/account/not-me"];

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

const REFUSED: &str = "is wrong, has been used, or has expired";

/// Mails are written to a folder beside the database.
fn with_mail(config: &mut Config) {
    config.mail.transport = Transport::Folder;
    config.mail.folder = folder_of(config);
    config.mail.from = Some(sender(Some("Diamonds")));
    config.server.public_url = Some("https://accounts.example.org".to_owned());
}

/// Only a service that browsers reach on the machine itself shows its mails.
fn on_this_machine(config: &mut Config) {
    config.server.public_url = Some("http://localhost:8000".to_owned());
}

fn sender(name: Option<&str>) -> Sender {
    let email = EmailAddress::parse("noreply@diamond.example").unwrap();
    Sender { name: name.map(str::to_owned), email }
}

fn folder_of(config: &Config) -> PathBuf {
    config.database.path.parent().unwrap().parent().unwrap().join("mail")
}

/// A server with mail, and the mails that it has written.
struct Mailing {
    app: TestApp,
    folder: PathBuf,
    read: Mutex<BTreeSet<PathBuf>>,
}

/// A mail as it is read.
struct Read {
    to: String,
    text: String,
    link: String,
    code: String,
}

impl Mailing {
    fn spawn() -> Self {
        Self::spawn_with(|_| {})
    }

    fn spawn_with(configure: impl FnOnce(&mut Config)) -> Self {
        let mut folder = PathBuf::new();
        let app = TestApp::spawn_with(|config| {
            with_mail(config);
            folder.clone_from(&config.mail.folder);
            configure(config);
        });
        Self { app, folder, read: Mutex::default() }
    }

    fn unread(&self) -> BTreeSet<PathBuf> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let read = self.read.lock().unwrap();
        files.filter(|file| file.extension().is_some_and(|is| is == "eml") && !read.contains(file)).collect()
    }

    /// The next mail.
    async fn mail(&self) -> Read {
        until("a mail", || !self.unread().is_empty()).await;
        let file = self.unread().pop_first().unwrap();
        let bytes = fs::read(&file).unwrap();
        self.read.lock().unwrap().insert(file);
        let mail = MessageParser::default().parse(&bytes).unwrap();
        let text = mail.body_text(0).unwrap().into_owned();
        let link = text.split_whitespace().find(|word| word.contains("://")).unwrap_or_default().to_owned();
        let is_code = |line: &&str| line.len() == 7 && line.replace(' ', "").parse::<u32>().is_ok();
        let code = text.lines().map(str::trim).find(is_code).unwrap_or_default().to_owned();
        Read { to: mail.to().unwrap().first().unwrap().address().unwrap().to_owned(), text, link, code }
    }

    async fn get(&self, path: &str) -> Response {
        self.app.client.get(self.app.url(path)).send().await.unwrap()
    }

    /// Sends a form as a browser does.
    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.send_bytes(path, &encoded(fields), &[]).await
    }

    async fn send_bytes(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.app.client.post(self.app.url(path)).body(body.to_owned());
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    }

    /// Sends the form that asks for a reset, and gives the request id that its answer has.
    async fn forget(&self, account: &str) -> String {
        let asked = self.send("/account/reset", &[("step", "ask"), ("account", account)]).await;
        hidden(&page(asked, 200).await, "request")
    }

    /// An account with an address that its owner has confirmed on the page, and its token.
    async fn owner(&self, username: &str) -> String {
        let email = format!("{username}@diamond.example");
        let body = json!({"username": username, "password": "hunter2", "email": email});
        let (token, _) = session_of(self.app.post("/api/register", &body).await).await;
        let mail = self.mail().await;
        assert_eq!(mail.to, email);
        page(self.send("/account/confirm", &[("proof", &mail.link)]).await, 200).await;
        token
    }

    async fn logs_in(&self, username: &str, password: &str) -> bool {
        self.app.log_in(username, password).await.status() == 200
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The text of a page, after checking what every page must be.
async fn page(response: Response, status: u16) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert_headers(response.headers());
    let html = response.text().await.unwrap();
    assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{html}");
    assert!(html.contains("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"), "{html}");
    for once in ["<h1>", "<main", "<title>"] {
        assert_eq!(html.matches(once).count(), 1, "{once} in {html}");
    }
    for never in ["<style", " style=", "javascript:", "http://", " onclick", " onload", "<base", "<img", "<iframe"] {
        assert!(!html.contains(never), "{never} in {html}");
    }
    let is_error = status >= 400;
    assert_eq!((html.contains("role=\"alert\""), html.contains("<title>Error: ")), (is_error, is_error), "{html}");
    html
}

fn assert_headers(headers: &HeaderMap) {
    assert_eq!(headers["content-security-policy"], POLICY);
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["x-robots-tag"], "noindex");
    assert!(headers.contains_key("x-request-id"));
    assert!(!headers.contains_key("set-cookie"));
    assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{headers:?}");
}

/// The value of a hidden field.
fn hidden(html: &str, name: &str) -> String {
    let start = format!("<input type=\"hidden\" name=\"{name}\" value=\"");
    html.split_once(&start).unwrap().1.split_once('"').unwrap().0.to_owned()
}

fn token_of(link: &str) -> &str {
    link.split_once('#').unwrap().1
}

#[tokio::test]
async fn no_other_origin_reads_a_page_and_no_cache_or_search_engine_keeps_one() {
    for origins in ["*", "https://app.example.org"] {
        let mailing = Mailing::spawn_with(|config| {
            config.cors.origins = vec![origins.to_owned()];
            config.accounts.login_by_mail = true;
            on_this_machine(config);
        });
        for path in FORMS.into_iter().chain(["/account/login", "/account/reset/", "/dev/mail"]) {
            for method in [Method::GET, Method::HEAD] {
                let request = mailing.app.client.request(method, mailing.app.url(path));
                let response = request.header("Origin", "https://app.example.org").send().await.unwrap();
                assert_eq!(response.status(), 200, "{path}");
                assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
                assert_headers(response.headers());
            }
            page(mailing.get(path).await, 200).await;
        }
        for (path, kind) in [("/account/page.css", "text/css"), ("/account/page.js", "text/javascript")] {
            let response = mailing.get(path).await;
            assert_eq!(response.headers()["content-type"], format!("{kind}; charset=utf-8"));
            assert_eq!(response.headers()["cache-control"], "public, max-age=86400");
            assert_headers(response.headers());
        }
        // Errors and what is not there are no exception.
        for path in ["/account/nothing", "/account/page.html", "/dev/mail/nothing.eml", "/dev/mail/..%2fx.eml"] {
            let response = mailing.get(path).await;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (404, &"application/json".parse().unwrap())
            );
            assert_headers(response.headers());
        }
        for path in FORMS {
            page(mailing.send_bytes(path, "proof=", &[]).await, 400).await;
        }
    }
}

#[tokio::test]
async fn without_mail_no_page_is_there_and_the_one_for_logins_only_where_a_mail_may_log_in() {
    let app = TestApp::spawn();
    for path in FORMS.into_iter().chain([
        "/account/login",
        "/account/page.css",
        "/account/page.js",
        "/dev/mail",
        "/dev/mail/1.eml",
    ]) {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
    }
    for path in FORMS {
        let response = app.client.post(app.url(path)).body("step=ask&account=a").send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    assert_eq!(Mailing::spawn().get("/account/login").await.status(), 404);
}

#[tokio::test]
async fn whoever_fetches_every_link_of_a_mail_changes_nothing_and_the_link_still_works() {
    let mailing = Mailing::spawn();
    let body = json!({"username": "azure", "password": "hunter2", "email": "azure@diamond.example"});
    assert_eq!(mailing.app.post("/api/register", &body).await.status(), 201);
    let confirmation = mailing.mail().await;
    let scan = async |link: &str| {
        let path = link.strip_prefix("https://accounts.example.org").unwrap();
        let before = mailing.app.dump();
        for _ in 0..2 {
            for method in [Method::HEAD, Method::GET] {
                let response = mailing.app.client.request(method, mailing.app.url(path)).send().await.unwrap();
                assert_eq!(response.status(), 200);
                // A scanner that misunderstands the link sends what is behind the # as well.
                let query = path.replace('#', "?");
                let response = mailing.get(&query).await;
                assert!(!page(response, 200).await.contains(token_of(link)));
            }
        }
        assert_eq!(mailing.app.dump(), before);
    };
    scan(&confirmation.link).await;
    page(mailing.send("/account/confirm", &[("proof", &confirmation.link)]).await, 200).await;
    mailing.forget("azure@diamond.example").await;
    let reset = mailing.mail().await;
    scan(&reset.link).await;
    let fields = [("step", "set"), ("proof", token_of(&reset.link)), ("new_password", "correct horse")];
    page(mailing.send("/account/reset", &fields).await, 200).await;
    let notice = mailing.mail().await;
    scan(&notice.link).await;
    page(mailing.send("/account/not-me", &[("proof", &notice.link)]).await, 200).await;
    assert!(mailing.mail().await.link.contains("/account/reset#"));
}

#[tokio::test]
async fn a_password_is_reset_by_the_page_alone_and_without_a_script() {
    let mailing = Mailing::spawn();
    let token = mailing.owner("azure").await;
    // By the code, on the page that has asked.
    let request = mailing.forget("azure").await;
    let mail = mailing.mail().await;
    let fields = |proof: &str, password: &str| {
        let mut fields = vec![("step", "set"), ("request", request.as_str()), ("account", "azure")];
        fields.extend([("proof", proof), ("new_password", password)]);
        encoded(&fields)
    };
    let html = page(mailing.send_bytes("/account/reset", &fields(&mail.code, "correct horse"), &[]).await, 200).await;
    assert!(html.contains("Your new password is set") && html.contains("Log in again in the app"), "{html}");
    assert!(mailing.logs_in("azure", "correct horse").await && !mailing.logs_in("azure", "hunter2").await);
    assert_eq!(mailing.app.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
    mailing.mail().await;
    // Code and link end with their use.
    for proof in [&mail.code, &mail.link] {
        let again = page(mailing.send_bytes("/account/reset", &fields(proof, "other"), &[]).await, 400).await;
        assert!(again.contains(REFUSED), "{again}");
    }
    // By the link, pasted into the page that anybody can open.
    mailing.app.clock.advance(HOUR);
    mailing.forget("azure@diamond.example").await;
    let link = mailing.mail().await.link;
    let fields = [("step", "set"), ("proof", link.as_str()), ("new_password", "battery staple")];
    page(mailing.send("/account/reset", &fields).await, 200).await;
    assert!(mailing.logs_in("azure", "battery staple").await);
}

#[tokio::test]
async fn what_is_wrong_is_said_on_the_page_and_everything_but_the_password_is_kept() {
    let mailing = Mailing::spawn_with(|config| {
        config.password.min_length = 8;
        config.password.reject_common = true;
    });
    let body = json!({"username": "azure", "password": "correct horse", "email": "azure@diamond.example"});
    mailing.app.post("/api/register", &body).await;
    mailing.mail().await;
    let request = mailing.forget("azure").await;
    let code = mailing.mail().await.code;
    let wrong = if code == "123 456" { "654321" } else { "123456" };
    let send = async |request: &str, proof: &str, password: &str| {
        let mut fields = vec![("step", "set"), ("proof", proof), ("new_password", password)];
        if !request.is_empty() {
            fields.extend([("request", request), ("account", "azure")]);
        }
        let html = page(mailing.send("/account/reset", &fields).await, 400).await;
        assert!(password.is_empty() || !html.contains(password), "{html}");
        assert_eq!(html.matches(" autofocus").count(), 1, "{html}");
        // A link that is worth nothing leads back to asking for a mail.
        let wrong_fields = usize::from(!html.contains("This link is wrong"));
        assert_eq!(html.matches("aria-invalid=\"true\" aria-describedby=\"error").count(), wrong_fields, "{html}");
        html
    };
    let unknown = format!("#{UNKNOWN_TOKEN}");
    for (request, proof, password, sentence) in [
        (request.as_str(), code.as_str(), "", "Choose a new password."),
        (&request, &code, "Sh0rt.", "The new password must have at least 8 characters."),
        (&request, &code, "Password1", "This is one of the most common passwords."),
        (&request, "12345", "battery staple", "Type the six digits of the code"),
        (&request, wrong, "battery staple", "This code is wrong, has been used, or has expired."),
        (&request, &unknown, "battery staple", REFUSED),
        ("", &unknown, "battery staple", "This link is wrong, has been used, or has expired."),
        ("", "nonsense", "battery staple", "Paste the whole link from the mail."),
        ("", &code, "battery staple", "A code works only on the page that has asked for the mail."),
        ("", &unknown, "Sh0rt.", "at least 8 characters"),
    ] {
        let html = send(request, proof, password).await;
        assert!(html.contains(sentence), "{sentence} in {html}");
        if !request.is_empty() {
            assert_eq!(hidden(&html, "request"), request);
            assert!(html.contains("name=\"account\" value=\"azure\""), "{html}");
        }
        if sentence.contains("password") {
            assert!(html.contains(&format!("name=\"proof\" value=\"{proof}\"")), "{html}");
        }
    }
    // None of that has used the code up.
    let fields = [("step", "set"), ("request", &request), ("proof", &code), ("new_password", "battery staple")];
    page(mailing.send("/account/reset", &fields).await, 200).await;
    for (path, proof, sentence) in [
        ("/account/confirm", unknown.as_str(), "This link is wrong"),
        ("/account/confirm", "123456", "The code is for the app."),
        ("/account/confirm", "", "Paste the whole link"),
        ("/account/not-me", &unknown, "This link is wrong"),
        ("/account/not-me", "x", "Paste the whole link"),
    ] {
        let html = page(mailing.send(path, &[("proof", proof)]).await, 400).await;
        assert!(html.contains(sentence), "{sentence} in {html}");
    }
    for account in ["", " ", "no name", "two@a.example,b@c.example"] {
        let html = page(mailing.send("/account/reset", &[("step", "ask"), ("account", account)]).await, 400).await;
        assert!(html.contains("Type your e-mail address or your username."), "{html}");
    }
}

#[tokio::test]
async fn what_was_typed_is_text_on_the_page_whatever_it_is() {
    let mailing = Mailing::spawn();
    let naughty = [
        "<script>alert(1)</script>",
        "\"><img src=x>",
        "' autofocus x='",
        "{{ 7*7 }}",
        "{% raw %}",
        "\u{202e}ab",
        "&amp;",
    ];
    for text in naughty {
        for fields in [
            vec![("step", "ask"), ("account", text)],
            vec![("step", "set"), ("account", text), ("request", text), ("proof", text), ("new_password", text)],
            vec![
                ("step", "set"),
                ("account", text),
                ("request", UNKNOWN_TOKEN),
                ("proof", text),
                ("new_password", text),
            ],
        ] {
            let html = page(mailing.send("/account/reset", &fields).await, 400).await;
            assert!(!html.contains("<img") && !html.contains("alert(1)</script>") && !html.contains("49"), "{html}");
            assert_eq!(html.matches("<script").count(), 1, "{html}");
            assert!(!html.contains("x='"), "{html}");
        }
    }
}

#[tokio::test]
async fn where_names_were_imported_what_was_asked_for_is_text_on_the_page_too() {
    let mailing = Mailing::spawn();
    mailing.app.store.remember_imported_name();
    for text in NASTY {
        let html = page(mailing.send("/account/reset", &[("step", "ask"), ("account", text)]).await, 200).await;
        assert_eq!(hidden(&html, "request").len(), 40, "{text}");
        assert!(!html.contains("<b>") && !html.contains("\"bold\""), "{html}");
        assert_eq!(html.contains("{{ code }}{% if a %}"), text.starts_with("{{"), "{html}");
    }
}

#[tokio::test]
async fn the_page_after_asking_is_the_same_whether_or_not_there_is_such_an_account() {
    let mailing = Mailing::spawn();
    mailing.owner("azure").await;
    let mut pages = BTreeSet::new();
    for account in ["azure", "nobody", "azure@diamond.example", "nobody@diamond.example", " azure "] {
        let asked = mailing.send("/account/reset", &[("step", "ask"), ("account", account)]).await;
        let html = page(asked, 200).await;
        let request = hidden(&html, "request");
        assert_eq!(request.len(), 40);
        pages.insert(html.replace(&request, "REQUEST").replace(&format!("value=\"{account}\""), "value=\"\""));
    }
    assert_eq!(pages.len(), 1);
    assert_eq!(mailing.mail().await.to, "azure@diamond.example");
}

#[tokio::test]
async fn no_host_that_a_client_names_gets_into_a_mail_or_a_page() {
    let mailing = Mailing::spawn_with(|config| config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]);
    mailing.owner("azure").await;
    let evil = [
        ("Host", "evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "gopher"),
        ("Forwarded", "host=evil.example;proto=gopher"),
        ("X-Original-URL", "https://evil.example/"),
    ];
    for path in FORMS {
        let request = mailing.app.client.get(mailing.app.url(path));
        let request = evil.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap();
        assert!(!format!("{:?}", response.headers()).contains("evil"));
        assert!(!page(response, 200).await.contains("evil"), "{path}");
    }
    let asked = mailing.send_bytes("/account/reset", "step=ask&account=azure", &evil).await;
    assert!(!page(asked, 200).await.contains("evil"));
    let mail = mailing.mail().await;
    assert!(mail.link.starts_with("https://accounts.example.org/account/reset#"), "{}", mail.text);
    assert!(!mail.text.contains("evil"), "{}", mail.text);
}

#[tokio::test]
async fn a_form_is_taken_from_pages_of_the_service_alone_and_only_as_they_send_it() {
    let mailing = Mailing::spawn();
    let body = "step=ask&account=azure";
    for (headers, status) in [
        (vec![], 200),
        (vec![("Sec-Fetch-Site", "same-origin"), ("Origin", "null")], 200),
        (vec![("Sec-Fetch-Site", "none")], 200),
        (vec![("Origin", "https://accounts.example.org")], 200),
        (vec![("Origin", "null")], 200),
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Sec-Fetch-Site", "same-site")], 403),
        (vec![("Sec-Fetch-Site", "cross-site"), ("Origin", "https://accounts.example.org")], 403),
        (vec![("Origin", "https://evil.example")], 403),
        (vec![("Origin", "https://accounts.example.org.evil.example")], 403),
        (vec![("Origin", "http://accounts.example.org")], 403),
        (vec![("Content-Encoding", "gzip")], 415),
    ] {
        page(mailing.send_bytes("/account/reset", body, &headers).await, status).await;
    }
    let json = mailing.app.client.post(mailing.app.url("/account/reset")).json(&json!({"step": "ask"}));
    page(json.send().await.unwrap(), 415).await;
    for (body, status) in [
        ("step=ask&account=a&account=b", 400),
        ("step=ask&account=a&next=https%3A%2F%2Fevil.example", 400),
        ("step=ask&account=%ff", 400),
        ("step=ask&account=%4", 400),
        ("step", 400),
        (&format!("step=ask&account={}", "a".repeat(16 * 1024)), 413),
    ] {
        page(mailing.send_bytes("/account/reset", body, &[]).await, status).await;
    }
    for path in FORMS {
        let response = mailing.app.client.put(mailing.app.url(path)).body("").send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"GET, HEAD, POST".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn the_forms_have_the_limits_of_the_calls_and_say_when_to_try_again() {
    let mailing = Mailing::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.rate_limit.login = Rate { count: 3, period: 5 * HOUR / 60 };
    });
    for _ in 0..3 {
        page(mailing.send("/account/confirm", &[("proof", UNKNOWN_TOKEN)]).await, 400).await;
    }
    for path in FORMS {
        let refused = mailing.send(path, &[("proof", UNKNOWN_TOKEN)]).await;
        assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 60);
        let html = page(refused, 429).await;
        assert!(html.contains("There were too many attempts. Wait 2 minutes and try again."), "{html}");
        assert!(html.contains(&format!("account/{}\">Go back", path.rsplit_once('/').unwrap().1)), "{html}");
        assert_eq!(mailing.get(path).await.status(), 200, "a page that changes nothing has no limit");
    }
    let mailing = Mailing::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.mail.limit = Rate { count: 2, period: HOUR };
    });
    for _ in 0..2 {
        mailing.forget("nobody").await;
    }
    let refused = mailing.send("/account/reset", &[("step", "ask"), ("account", "nobody")]).await;
    assert!(refused.headers().contains_key("retry-after"));
    page(refused, 429).await;
}

#[tokio::test]
async fn who_confirms_an_address_is_told_that_somebody_can_log_in_and_how_to_end_that() {
    let mailing = Mailing::spawn();
    let body = json!({"username": "thief", "password": "hunter2", "email": "azure@diamond.example"});
    let (token, _) = session_of(mailing.app.post("/api/register", &body).await).await;
    let link = mailing.mail().await.link;
    let wrong = mailing.send("/account/confirm", &[("proof", UNKNOWN_TOKEN)]).await;
    for html in [page(mailing.get("/account/confirm").await, 200).await, page(wrong, 400).await] {
        assert!(html.contains("Somebody has an account at Diamonds with the address"), "{html}");
        assert!(
            html.contains("and knows its password.") && html.contains("If it is not you, do not confirm."),
            "{html}"
        );
    }
    let html = page(mailing.send("/account/confirm", &[("proof", &link)]).await, 200).await;
    let way_back = "Did somebody else make the account? Then <a href=\"/account/reset\">set a new password</a> now.";
    assert!(html.contains(way_back), "{html}");
    // What the page promises of it.
    let request = mailing.forget("azure@diamond.example").await;
    let code = mailing.mail().await.code;
    let fields = [("step", "set"), ("request", &request), ("proof", &code), ("new_password", "mine")];
    page(mailing.send("/account/reset", &fields).await, 200).await;
    assert_eq!(mailing.app.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
    assert!(!mailing.logs_in("thief", "hunter2").await && mailing.logs_in("thief", "mine").await);
}

#[tokio::test]
async fn a_notice_is_disowned_on_the_page_which_ends_the_session_and_starts_a_reset() {
    let mailing = Mailing::spawn();
    let token = mailing.owner("azure").await;
    let change = json!({"current_password": "hunter2", "new_password": "stolen"});
    assert_eq!(mailing.app.ask(Method::POST, "/api/user/password", &token, Some(&change)).await.status(), 200);
    let notice = mailing.mail().await;
    assert!(notice.link.starts_with("https://accounts.example.org/account/not-me#"), "{}", notice.text);
    let opened = page(mailing.get("/account/not-me").await, 200).await;
    assert!(opened.contains("remove the password so that nobody can log in with it any more"), "{opened}");
    let html = page(mailing.send("/account/not-me", &[("proof", &notice.link)]).await, 200).await;
    assert!(html.contains("A mail to set a new password is on its way to you."), "{html}");
    assert!(html.contains("nobody can log in with the old password any more"), "{html}");
    assert!(!mailing.logs_in("azure", "stolen").await);
    assert_eq!(mailing.app.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
    let reset = mailing.mail().await;
    let fields = [("step", "set"), ("proof", &reset.link), ("new_password", "mine again")];
    page(mailing.send("/account/reset", &fields).await, 200).await;
    assert!(mailing.logs_in("azure", "mine again").await);
    let again = page(mailing.send("/account/not-me", &[("proof", &notice.link)]).await, 400).await;
    assert!(again.contains(REFUSED), "{again}");
}

#[tokio::test]
async fn the_login_page_leads_into_the_app_by_a_configured_prefix_and_has_nothing_to_send() {
    let spawn = |links: &[&str]| {
        Mailing::spawn_with(|config| {
            config.accounts.login_by_mail = true;
            config.mail.app_links = links.iter().map(|link| (*link).to_owned()).collect();
        })
    };
    let html = page(spawn(&["diamonds://account", "https://other.example/a/"]).get("/account/login").await, 200).await;
    let app = "data-app-link=\"diamonds://account/login\"";
    assert!(html.contains(app) && !html.contains("<form") && !html.contains("other.example"), "{html}");
    let html = page(spawn(&[]).get("/account/login").await, 200).await;
    assert!(!html.contains("data-app-link") && html.contains("type the code of six digits"), "{html}");
}

#[tokio::test]
async fn pages_stand_below_the_path_of_the_public_url_and_are_named_after_the_sender_or_its_host() {
    let mailing = Mailing::spawn_with(|config| {
        config.server.public_url = Some("https://example.org:8443/auth".to_owned());
        config.mail.from = Some(sender(None));
    });
    let html = page(mailing.get("/account/reset").await, 200).await;
    assert!(
        html.contains("· example.org:8443</title>") && html.contains("<p class=\"service\">example.org:8443</p>"),
        "{html}"
    );
    for own in ["href=\"/auth/account/page.css?v=", "src=\"/auth/account/page.js?v=", "action=\"/auth/account/reset\""]
    {
        assert!(html.contains(own), "{own} in {html}");
    }
    let origin = [("Origin", "https://example.org:8443")];
    page(mailing.send_bytes("/account/reset", "step=ask&account=azure", &origin).await, 200).await;
}

#[tokio::test]
async fn a_folder_gives_the_pages_other_words_and_a_broken_template_stops_the_start() {
    let templates = tempfile::tempdir().unwrap();
    let pages = templates.path().join("pages");
    fs::create_dir(&pages).unwrap();
    let german = "{% extends \"layout.html\" %}{% block title %}Adresse bestätigen{% endblock %}\
                  {% block content %}<p>Hallo von {{ service }}.</p>{% endblock %}";
    fs::write(pages.join("confirm.html"), german).unwrap();
    fs::write(pages.join("page.css"), "body { color: green }").unwrap();
    let use_them = |config: &mut Config| config.mail.templates = Some(templates.path().to_owned());
    let mailing = Mailing::spawn_with(use_them);
    let html = page(mailing.get("/account/confirm").await, 200).await;
    assert!(html.contains("<h1>Adresse bestätigen</h1>") && html.contains("<p>Hallo von Diamonds.</p>"), "{html}");
    assert_eq!(mailing.get("/account/page.css").await.text().await.unwrap(), "body { color: green }");
    assert!(page(mailing.get("/account/reset").await, 200).await.contains("Set a new password"));
    for (file, text, sentence) in [
        ("confirm.html", "{% if %}", "the template confirm.html is broken: line 1, syntax error"),
        ("confirm.html", "\n{{ servce }}", "the template confirm.html is broken: line 2, undefined value"),
        ("errors.html", "{{ no }}", "the template errors.html is broken: line 1, undefined value"),
        ("konfirm.html", "", "konfirm.html overrides no template; there are layout.html, "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("pages");
        fs::create_dir(&pages).unwrap();
        fs::write(pages.join(file), text).unwrap();
        let database = tempfile::tempdir().unwrap();
        let mut config = test_config(&database);
        with_mail(&mut config);
        config.mail.templates = Some(folder.path().to_owned());
        let refused = Application::build(&config, Clock::system()).await.err().unwrap().to_string();
        assert!(refused.contains(sentence), "{refused}");
    }
}

#[tokio::test]
async fn a_developer_reads_mails_on_the_machine_itself_and_nobody_else_does() {
    let mailing = Mailing::spawn_with(on_this_machine);
    assert!(page(mailing.get("/dev/mail").await, 200).await.contains("There are none yet."));
    mailing.forget("nobody").await;
    mailing.owner("azure").await;
    mailing.forget("azure").await;
    let mail = mailing.mail().await;
    let list = page(mailing.get("/dev/mail").await, 200).await;
    let files: Vec<&str> = list.split("/dev/mail/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(files.len(), 2, "{list}");
    assert!(files[0] > files[1] && list.contains("to azure@diamond.example"), "{list}");
    let path = format!("/dev/mail/{}", files[0]);
    let shown = mailing.get(&path).await.text().await.unwrap();
    assert!(shown.contains(&format!("<strong class=\"code\">{}</strong>", mail.code)), "{shown}");
    let link = &mail.link;
    assert!(shown.contains(&format!("<a href=\"{link}\">{link}</a>")), "{shown}");
    // What leads out of the folder, or is no mail in it.
    fs::write(mailing.folder.with_file_name("secret.eml"), "secret").unwrap();
    std::os::unix::fs::symlink(mailing.folder.with_file_name("secret.eml"), mailing.folder.join("9.eml")).unwrap();
    fs::write(mailing.folder.join("9.txt"), "secret").unwrap();
    for file in ["9.eml", "9.txt", "..%2fsecret.eml", "..%5csecret.eml", "%2e%2e%2fsecret.eml", "%00.eml", ".eml"] {
        assert_eq!(mailing.get(&format!("/dev/mail/{file}")).await.status(), 404, "{file}");
    }
    // A mail's text is text.
    fs::write(mailing.folder.join("8.eml"), "Subject: <b>x</b>\r\n\r\n<script>alert(1)</script>\r\n").unwrap();
    let html = page(mailing.get("/dev/mail/8.eml").await, 200).await;
    assert!(html.contains("&lt;script&gt;") && html.contains("&lt;b&gt;") && !html.contains("<b>"), "{html}");
    // Another host's name (DNS rebinding), and a proxy in between.
    let port = mailing.app.address.port();
    for (headers, status) in [
        (vec![("Host", format!("localhost:{port}"))], 200),
        (vec![("Host", "127.0.0.1".to_owned())], 200),
        (vec![("Host", format!("[::1]:{port}"))], 200),
        (vec![("Host", format!("evil.example:{port}"))], 404),
        (vec![("Host", "127.0.0.1.evil.example".to_owned())], 404),
        (vec![("X-Forwarded-For", "203.0.113.9".to_owned())], 404),
        (vec![("X-Forwarded-For", "127.0.0.1".to_owned())], 404),
        (vec![("X-Forwarded-Proto", "https".to_owned())], 404),
        (vec![("X-Real-IP", "127.0.0.1".to_owned())], 404),
        (vec![("Via", "1.1 proxy".to_owned())], 404),
        (vec![("Forwarded", "for=127.0.0.1".to_owned())], 404),
    ] {
        for path in ["/dev/mail", path.as_str()] {
            let request = mailing.app.client.get(mailing.app.url(path));
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
            assert_eq!(request.send().await.unwrap().status(), status, "{path} {headers:?}");
        }
    }
    // A listener that others can reach, and mail that really leaves.
    let open = Mailing::spawn_with(|config| {
        on_this_machine(config);
        config.server.listen = "0.0.0.0:0".parse().unwrap();
    });
    let url = format!("http://127.0.0.1:{}/dev/mail", open.app.address.port());
    assert_eq!(open.app.client.get(url).send().await.unwrap().status(), 404);
    let smtp = Mailing::spawn_with(|config| {
        on_this_machine(config);
        config.mail.transport = Transport::Smtp;
        config.mail.smtp.host = Some("127.0.0.1".to_owned());
        config.mail.smtp.tls = Encryption::None;
    });
    assert_eq!(smtp.get("/account/reset").await.status(), 200);
    assert_eq!(smtp.get("/dev/mail").await.status(), 404);
}

#[tokio::test]
async fn behind_a_proxy_that_tells_nothing_of_itself_no_mail_is_shown() {
    // Such a proxy sends what a browser on the machine itself would: a loopback `Host`, and no header of its own.
    for (public_url, trusted_proxy, status) in [
        ("http://127.0.0.1:8000", None, 200),
        ("http://[::1]:8000/auth", None, 200),
        ("https://localhost", None, 200),
        ("https://accounts.example.org", None, 404),
        ("https://localhost.example.org", None, 404),
        ("http://10.0.0.1:8000", None, 404),
        ("http://127.0.0.1:8000", Some("127.0.0.1/32"), 404),
        ("http://127.0.0.1:8000", Some("10.0.0.0/8"), 404),
    ] {
        let mailing = Mailing::spawn_with(|config| {
            config.server.public_url = Some(public_url.to_owned());
            config.server.trusted_proxies = trusted_proxy.iter().map(|proxy| proxy.parse().unwrap()).collect();
        });
        fs::create_dir_all(&mailing.folder).unwrap();
        fs::write(mailing.folder.join("1.eml"), "Subject: x\r\n\r\nx\r\n").unwrap();
        for path in ["/dev/mail", "/dev/mail/1.eml"] {
            let request = mailing.app.client.get(mailing.app.url(path)).header("Host", "127.0.0.1:8000");
            assert_eq!(request.send().await.unwrap().status(), status, "{path} {public_url} {trusted_proxy:?}");
        }
    }
}
