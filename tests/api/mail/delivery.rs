//! What reaches a mail server, and what is told where nothing does.

use std::fs;
use std::time::Duration;

use authtokens::config::Config;
use authtokens::config::mail::{Encryption, Sender, Transport};
use authtokens::domain::email::EmailAddress;
use authtokens::domain::mail::{Mail, MailKind};
use authtokens::domain::one_time::Code;
use authtokens::domain::session::UserAgent;
use authtokens::domain::token::PlainToken;
use authtokens::mail::{DeliveryError, Postman};
use authtokens::system::clock::{Clock, Timestamp};

use super::smtp_server::{
    Behaviour, Certificate, Fault, PASSWORD, Received, SmtpServer, Stage, closed_port, from_text,
};
use crate::helpers::{START_MILLIS, UNKNOWN_TOKEN};

const CODE: &str = "482913";

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

/// A mail with all that its kind may have.
fn mail(kind: MailKind) -> Mail {
    Mail {
        kind,
        to: email("bob.secret@diamond.example"),
        username: Some("AzureDiamond".to_owned()),
        code: kind.has_code().then(|| Code::parse(CODE).unwrap()),
        token: kind.page().is_some().then(|| PlainToken::parse(UNKNOWN_TOKEN).unwrap()),
        link: None,
        at: Timestamp::from_millis(START_MILLIS).unwrap(),
        made: Timestamp::from_millis(START_MILLIS).unwrap(),
        ip: Some("203.0.113.7".parse().unwrap()),
        user_agent: Some(UserAgent::from_header("Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0")),
        provider: kind.names_provider().then(|| "example".to_owned()),
        webhook: kind.names_webhook().then(|| "0123456789abcdef".to_owned()),
    }
}

fn config_for(server: &SmtpServer) -> Config {
    let mut config = from_text("").unwrap();
    server.configure(&mut config);
    config
}

fn postman(config: &Config) -> Postman {
    Postman::new(config, Clock::held_at(Timestamp::from_millis(START_MILLIS).unwrap())).unwrap()
}

/// Delivers a mail to a server that takes it.
async fn delivered(mail: &Mail, configure: impl FnOnce(&mut Config)) -> Received {
    let server = SmtpServer::start(Behaviour::default());
    let mut config = config_for(&server);
    configure(&mut config);
    postman(&config).deliver(mail).await.unwrap();
    server.next().await
}

/// Fails to deliver a mail, and checks that what is told shows nothing that is somebody's.
async fn failure(config: &Config) -> DeliveryError {
    let failure = postman(config).deliver(&mail(MailKind::ResetPassword)).await.unwrap_err();
    let told = failure.to_string();
    assert!(!told.contains(char::is_control) && told.len() < 450, "{told}");
    for secret in ["bob.secret", CODE, "482 913", UNKNOWN_TOKEN, PASSWORD, "battery"] {
        assert!(!told.to_lowercase().contains(&secret.to_lowercase()), "{told}");
    }
    failure
}

async fn failure_of(behaviour: Behaviour) -> DeliveryError {
    let server = SmtpServer::start(behaviour);
    let failure = failure(&config_for(&server)).await;
    assert_eq!(server.messages(), []);
    failure
}

#[tokio::test]
async fn a_mail_arrives_over_tls_after_starttls_and_on_this_machine_in_clear_as_whoever_is_configured() {
    for encryption in [Encryption::Tls, Encryption::StartTls, Encryption::None] {
        for mechanisms in ["PLAIN LOGIN", "LOGIN", "PLAIN"] {
            let server = SmtpServer::start(Behaviour { mechanisms, ..Behaviour::with(encryption) });
            postman(&config_for(&server)).deliver(&mail(MailKind::ResetPassword)).await.unwrap();
            let received = server.next().await;
            assert_eq!(received.is_encrypted, encryption != Encryption::None);
            assert_eq!(received.user.as_deref(), Some("authtokens"));
            assert_eq!(
                (received.from.as_str(), received.to.as_str()),
                ("noreply@diamond.example", "bob.secret@diamond.example")
            );
            assert_eq!((received.code().as_str(), received.token().as_str()), (CODE, UNKNOWN_TOKEN));
            assert_eq!(received.link(), format!("https://diamond.example/account/reset#{UNKNOWN_TOKEN}"));
            assert_eq!(server.connections(), 1, "and no connection is kept");
            assert_eq!(server.commands().last().unwrap(), "QUIT");
            if encryption == Encryption::StartTls {
                assert_eq!(server.in_clear(), "EHLO diamond.example\r\nSTARTTLS\r\n");
            }
        }
    }
    // A server on this machine often asks for no login.
    let server = SmtpServer::start(Behaviour { mechanisms: "", ..Behaviour::with(Encryption::None) });
    let mut config = config_for(&server);
    config.mail.smtp.user = None;
    config.mail.smtp.password = None;
    postman(&config).deliver(&mail(MailKind::SignIn)).await.unwrap();
    assert_eq!(server.next().await.user, None);
}

#[tokio::test]
async fn every_kind_of_mail_is_well_formed_and_has_the_headers_that_it_needs() {
    let server = SmtpServer::start(Behaviour::default());
    let postman = postman(&config_for(&server));
    let mut ids = Vec::new();
    for kind in MailKind::ALL {
        let mail = mail(kind);
        postman.deliver(&mail).await.unwrap();
        let received = server.next().await;
        assert!(received.bytes.is_ascii(), "any server takes it");
        assert!(received.bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= 78));
        let header = |name: &str| received.header(name);
        assert_eq!(header("From").unwrap(), "Diamonds <noreply@diamond.example>");
        assert_eq!(header("To").unwrap(), "bob.secret@diamond.example");
        assert_eq!(header("Auto-Submitted").unwrap(), "auto-generated");
        assert_eq!(header("Date").unwrap(), "Sun, 04 Jan 2015 22:51:35 +0000");
        assert_eq!(header("MIME-Version").unwrap(), "1.0");
        assert!(header("Content-Type").unwrap().starts_with("multipart/alternative;"));
        let id = header("Message-ID").unwrap();
        assert!(id.starts_with('<') && id.ends_with("@diamond.example>") && id.len() == 32 + 18, "{id}");
        ids.push(id);
        let parsed = received.parsed();
        let names: Vec<_> = parsed.headers().iter().map(|header| header.name.as_str().to_owned()).collect();
        assert_eq!(names.len(), 8, "nothing that tracks: {names:?}");
        assert_eq!((parsed.text_body.len(), parsed.html_body.len(), parsed.attachments.len()), (1, 1, 0));
        for part in [received.text(), received.html()] {
            assert_eq!(part.contains("482 913"), kind.has_code(), "{part}");
            let link = kind.page().map(|page| format!("https://diamond.example/account/{page}#{UNKNOWN_TOKEN}"));
            assert_eq!(part.contains(UNKNOWN_TOKEN), link.is_some(), "{part}");
            assert!(link.is_none_or(|link| part.contains(&link)), "{part}");
            let is_notice = kind.page() == Some("not-me");
            assert_eq!(part.contains("203.0.113.7") && part.contains("Firefox (Linux)"), is_notice, "{part}");
            assert!(!is_notice || part.contains("2015-01-04 22:51 UTC"), "{part}");
        }
        assert!(!received.subject().contains("482") && !received.subject().is_empty());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), MailKind::ALL.len());
}

#[tokio::test]
async fn to_an_address_that_is_not_verified_a_mail_carries_nothing_that_a_user_chose() {
    for kind in MailKind::ALL {
        let received = delivered(&Mail { username: None, ..mail(kind) }, |_| {}).await;
        for part in [received.text(), received.html()] {
            assert!(!part.contains("AzureDiamond") && !part.contains("Firefox"), "{part}");
            assert!(part.contains("Hello,"), "{part}");
        }
    }
}

#[tokio::test]
async fn a_link_of_the_mails_own_leads_into_an_app_with_the_same_token() {
    let link = Some("diamonds://account/reset?a=1&b='2'".to_owned());
    let received = delivered(&Mail { link, ..mail(MailKind::ResetPassword) }, |_| {}).await;
    assert_eq!(received.link(), format!("diamonds://account/reset?a=1&b='2'#{UNKNOWN_TOKEN}"));
    let html = received.html();
    assert!(
        html.contains(&format!("href=\"diamonds://account/reset?a=1&amp;b=&#39;2&#39;#{UNKNOWN_TOKEN}\"")),
        "{html}"
    );
}

#[tokio::test]
async fn no_field_can_break_a_line_or_add_a_header_or_end_the_message() {
    let evil = "x\r\nBcc: evil@example.org\r\n\r\n.\r\nMAIL FROM:<evil@example.org>\r\n\u{0}\u{1b}";
    let mail = Mail {
        username: Some(evil.to_owned()),
        link: Some(format!("https://diamond.example/{evil}")),
        user_agent: Some(UserAgent::from_stored(evil.to_owned())),
        ..mail(MailKind::PasswordChanged)
    };
    let received = delivered(&mail, |config| {
        config.mail.from = Some(Sender { name: Some(evil.to_owned()), email: email("noreply@diamond.example") });
    })
    .await;
    assert_eq!(received.to, "bob.secret@diamond.example");
    let parsed = received.parsed();
    assert!(parsed.bcc().is_none() && parsed.headers().len() == 8, "{:?}", parsed.headers());
    assert_eq!((parsed.text_body.len(), parsed.html_body.len(), parsed.attachments.len()), (1, 1, 0));
    assert!(parsed.from().unwrap().first().unwrap().address() == Some("noreply@diamond.example"));
    assert!(received.text().ends_with('\n'), "all of it came");
}

#[tokio::test]
async fn dots_long_lines_and_other_scripts_arrive_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let long = "ä".repeat(3_000);
    let text = format!(
        "Subject: Grüße von {{{{ service_name }}}} ✓\n\n.\n..\n. {long}\nFrom here\n{{{{ code }}}}\n{{{{ link }}}}\n"
    );
    fs::write(folder.path().join("reset_password.txt"), text).unwrap();
    let received = delivered(&mail(MailKind::ResetPassword), |config| {
        config.mail.templates = Some(folder.path().to_owned());
        config.mail.from =
            Some(Sender { name: Some("Größe, \"Glanz\" & Söhne".to_owned()), email: email("noreply@exämple.de") });
    })
    .await;
    assert_eq!(received.subject(), "Grüße von Größe, \"Glanz\" & Söhne ✓");
    let expected =
        format!(".\n..\n. {long}\nFrom here\n482 913\nhttps://diamond.example/account/reset#{UNKNOWN_TOKEN}\n");
    assert_eq!(received.text(), expected);
    assert_eq!(received.from, "noreply@xn--exmple-cua.de");
    let parsed = received.parsed();
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("Größe, \"Glanz\" & Söhne"), Some("noreply@xn--exmple-cua.de")));
    assert!(received.header("Message-ID").unwrap().ends_with("@xn--exmple-cua.de>"));
    assert!(received.html().contains("Größe, &quot;Glanz&quot; &amp; Söhne"));
}

#[tokio::test]
async fn a_domain_in_another_script_is_written_to_in_its_ascii_form() {
    let received = delivered(&Mail { to: email("Jurgen@exämple.de"), ..mail(MailKind::SignIn) }, |_| {}).await;
    assert_eq!(received.to, "Jurgen@xn--exmple-cua.de");
    assert_eq!(received.header("To").unwrap(), "Jurgen@xn--exmple-cua.de");
}

#[tokio::test]
async fn a_folder_of_templates_gives_mails_another_language() {
    let folder = tempfile::tempdir().unwrap();
    let german = [
        (
            "reset_password.txt",
            "Subject: Ihr neues Passwort für {{ service_name }}\n\nGuten Tag{% if username %} {{ username }}{% endif %},\n\n\
             Ihr Code lautet:\n\n    {{ code }}\n\nOder öffnen Sie diesen Link:\n\n{{ link }}\n\nDer Code gilt {{ minutes }} \
             Minuten, der Link {{ link_minutes }} Minuten.\n",
        ),
        (
            "reset_password.html",
            "{% extends \"layout.html\" %}\n{% block language %}de{% endblock %}\n{% block greeting %}Guten Tag,{% endblock %}\n\
             {% block body %}<p>Ihr Code lautet:</p>{% endblock %}\n{% block button %}Passwort ändern{% endblock %}\n\
             {% block address %}Die Schaltfläche führt zu:{% endblock %}\n",
        ),
    ];
    for (name, text) in german {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let templates = |config: &mut Config| config.mail.templates = Some(folder.path().to_owned());
    let received = delivered(&mail(MailKind::ResetPassword), templates).await;
    assert_eq!(received.subject(), "Ihr neues Passwort für Diamonds");
    assert!(received.text().starts_with("Guten Tag AzureDiamond,\n\nIhr Code lautet:\n\n    482 913\n"));
    assert!(received.text().ends_with("Der Code gilt 10 Minuten, der Link 30 Minuten.\n"));
    let html = received.html();
    assert!(html.contains("lang=\"de\"") && html.contains("Guten Tag,") && html.contains("Passwort ändern"), "{html}");
    let other = delivered(&mail(MailKind::SignIn), templates).await;
    assert!(other.text().starts_with("Hello AzureDiamond,\n"), "what is not overridden stays");
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_is_sent_nothing() {
    for encryption in [Encryption::Tls, Encryption::StartTls] {
        for (certificate, sentence) in [
            (Certificate::OtherName, "is for another name than localhost"),
            (
                Certificate::OtherAuthority,
                "is by an authority that is not trusted; name the authority's in mail.smtp.ca_file",
            ),
            (Certificate::Expired, "has expired, or this machine's clock is wrong"),
        ] {
            let server = SmtpServer::start(Behaviour { certificate, ..Behaviour::with(encryption) });
            let failure = failure(&config_for(&server)).await;
            let told = failure.to_string();
            assert!(
                told.contains(&format!("the certificate of the mail server localhost:{} {sentence}", server.port)),
                "{told}"
            );
            assert!(!failure.is_permanent, "its owner will mend it");
            assert_eq!(server.messages(), []);
            assert!(server.in_clear().is_empty() || server.in_clear() == "EHLO diamond.example\r\nSTARTTLS\r\n");
        }
    }
    // By the system's authorities, the test's own is trusted by nobody.
    let server = SmtpServer::start(Behaviour::default());
    let mut config = config_for(&server);
    config.mail.smtp.ca_file = None;
    if Postman::new(&config, Clock::system()).is_ok() {
        assert!(failure(&config).await.to_string().contains("an authority that is not trusted"));
    }
}

#[tokio::test]
async fn without_tls_where_it_was_asked_for_nothing_is_sent() {
    let server = SmtpServer::start(Behaviour { offers_starttls: false, ..Behaviour::with(Encryption::StartTls) });
    let told = failure(&config_for(&server)).await;
    assert_eq!(
        told.to_string(),
        format!("the mail server localhost:{} does not offer STARTTLS, and nothing is sent without it", server.port)
    );
    assert!(!told.is_permanent);
    assert_eq!((server.in_clear().as_str(), server.messages()), ("EHLO diamond.example\r\n", vec![]));

    // A server in clear where TLS was expected, and the other way round.
    for (offered, expected) in [
        (Encryption::None, Encryption::Tls),
        (Encryption::None, Encryption::StartTls),
        (Encryption::Tls, Encryption::None),
    ] {
        let server = SmtpServer::start(Behaviour::with(offered));
        let mut config = config_for(&server);
        config.mail.smtp.tls = expected;
        config.mail.smtp.timeout = Duration::from_secs(2);
        let told = failure(&config).await.to_string();
        let sentence = match (offered, expected) {
            (Encryption::None, Encryption::Tls) => {
                "does not speak TLS there; mail.smtp.tls or mail.smtp.port may be wrong"
            }
            (Encryption::None, _) => "does not offer STARTTLS",
            // Both wait for the other to speak first.
            _ => "did not answer in 2 s when it was to greet",
        };
        assert!(told.contains(sentence), "{told}");
        let clear = server.in_clear();
        assert!(!clear.contains("AUTH") && !clear.contains("MAIL") && server.messages().is_empty(), "{clear}");
    }
}

#[tokio::test]
async fn what_somebody_on_the_way_puts_behind_starttls_is_not_taken_for_the_server() {
    let injected =
        "250-localhost\r\n250 AUTH PLAIN\r\n235 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n".to_owned();
    let failure =
        failure_of(Behaviour::with(Encryption::StartTls).failing(Stage::StartTls, Fault::Inject(injected))).await;
    assert!(failure.to_string().contains("does not speak TLS there"), "{failure}");
}

#[tokio::test]
async fn a_server_that_says_nothing_any_more_costs_the_timeout_and_no_more_at_every_stage() {
    let stages = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Quit);
    for stage in stages {
        let encryption = if stage == Stage::StartTls { Encryption::StartTls } else { Encryption::Tls };
        let server = SmtpServer::start(Behaviour::with(encryption).failing(stage, Fault::Hang));
        let mut config = config_for(&server);
        config.mail.smtp.timeout = Duration::from_secs(1);
        let failure = failure(&config).await;
        let told = failure.to_string();
        assert!(
            told.starts_with(&format!("the mail server localhost:{} did not answer in 1 s when ", server.port)),
            "{told}"
        );
        assert!(!failure.is_permanent);
    }
    // The mail is taken: what the server does after that is its own concern.
    for fault in [Fault::Hang, Fault::Drop, Fault::Reply("421 4.0.0 no".to_owned()), Fault::EndlessLine] {
        let server = SmtpServer::start(Behaviour::default().failing(Stage::Quit, fault));
        postman(&config_for(&server)).deliver(&mail(MailKind::SignIn)).await.unwrap();
        assert_eq!(server.wait_for(1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_a_sentence_at_every_stage_and_the_mail_is_tried_again() {
    for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Quit) {
        let encryption = if stage == Stage::StartTls { Encryption::StartTls } else { Encryption::Tls };
        let server = SmtpServer::start(Behaviour::with(encryption).failing(stage, Fault::Drop));
        let failure = failure(&config_for(&server)).await;
        let told = failure.to_string();
        assert!(told.contains(&format!("the mail server localhost:{}", server.port)), "{told}");
        assert!(!failure.is_permanent, "{told}");
    }
}

#[tokio::test]
async fn replies_without_end_end_the_delivery() {
    for encryption in [Encryption::Tls, Encryption::StartTls, Encryption::None] {
        for stage in [Stage::Connect, Stage::Content] {
            for fault in [Fault::EndlessLine, Fault::EndlessLines] {
                let server = SmtpServer::start(Behaviour::with(encryption).failing(stage, fault.clone()));
                let failure = failure(&config_for(&server)).await;
                let told = failure.to_string();
                let is_bounded =
                    told.contains("says too much without end") || told.contains("does not speak SMTP as it should");
                assert!(is_bounded && !failure.is_permanent, "{stage:?} {fault:?}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn a_reply_of_many_lines_is_read_to_16_kib_and_no_further() {
    let reply = |kib: usize| {
        let line = |code| format!("{code}{}\r\n", "x".repeat(58));
        format!("{}250 ok", line("250-").repeat(kib * 16))
    };
    for encryption in [Encryption::Tls, Encryption::StartTls, Encryption::None] {
        let server = SmtpServer::start(Behaviour::with(encryption));
        for stage in [Stage::Ehlo, Stage::Rcpt, Stage::Content] {
            server.behave(Behaviour::with(encryption).replying(stage, &reply(32)));
            let told = failure(&config_for(&server)).await.to_string();
            assert!(told.contains("says too much without end"), "{stage:?}: {told}");
        }
        for stage in [Stage::Rcpt, Stage::Content] {
            server.behave(Behaviour::with(encryption).replying(stage, &reply(12)));
            postman(&config_for(&server)).deliver(&mail(MailKind::SignIn)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_mail_that_is_sent_again_tells_how_long_its_code_and_its_link_are_still_valid() {
    let mail = Mail { made: Timestamp::from_millis(START_MILLIS - 220_000).unwrap(), ..mail(MailKind::ResetPassword) };
    let received = delivered(&mail, |_| {}).await;
    for (part, link) in [(received.text(), "link"), (received.html(), "button")] {
        let told = format!("The code is valid for 6 minutes, the {link} for 26 minutes.");
        assert!(part.contains(&told), "{part}");
    }
}

#[tokio::test]
async fn a_refusal_for_good_is_told_apart_from_one_for_now_and_from_what_the_operator_mends() {
    use Stage::{Auth, Connect, Content, Data, Ehlo, Mail, Rcpt, StartTls};
    for (stage, reply, sentence, is_permanent) in [
        (Connect, "554 5.7.1 you are blocked", "refuses the connection: 554 5.7.1 you are blocked", false),
        (Connect, "421 4.3.2 later", "refuses the connection: 421 4.3.2 later", false),
        (Ehlo, "550 no", "refuses the connection: 550 no", false),
        (StartTls, "454 4.7.0 not now", "refuses STARTTLS: 454 4.7.0 not now", false),
        (StartTls, "501 5.5.4 never", "refuses STARTTLS: 501 5.5.4 never", false),
        (Auth, "535 5.7.8 wrong", "refuses the user and the password of mail.smtp: 535 5.7.8 wrong", false),
        (Auth, "454 4.7.0 later", "refuses the user and the password of mail.smtp: 454 4.7.0 later", false),
        (Mail, "550 5.7.1 not yours", "refuses the sender, mail.from: 550 5.7.1 not yours", false),
        (Mail, "530 5.7.0 log in", "refuses the sender, mail.from: 530 5.7.0 log in", false),
        (Mail, "421 4.7.0 too many", "refuses the sender, mail.from: 421 4.7.0 too many", false),
        (Mail, "451 4.7.1 later", "refuses the sender, mail.from: 451 4.7.1 later", false),
        (Rcpt, "550 5.1.1 no such user", "refuses the recipient: 550 5.1.1 no such user", true),
        (Rcpt, "450 4.2.0 greylisted", "refuses the recipient: 450 4.2.0 greylisted", false),
        (Rcpt, "452 4.2.2 full", "refuses the recipient: 452 4.2.2 full", false),
        (Data, "554 5.5.1 no", "refuses the mail: 554 5.5.1 no", true),
        (Data, "451 4.3.0 later", "refuses the mail: 451 4.3.0 later", false),
        (Content, "554 5.7.1 spam", "refuses the mail: 554 5.7.1 spam", true),
        (Content, "452 4.3.1 disk full", "refuses the mail: 452 4.3.1 disk full", false),
    ] {
        let encryption = if stage == StartTls { Encryption::StartTls } else { Encryption::Tls };
        let failure = failure_of(Behaviour::with(encryption).replying(stage, reply)).await;
        assert!(failure.to_string().ends_with(sentence), "{failure}");
        assert_eq!(failure.is_permanent, is_permanent, "{failure}");
        let is_of_server = match stage {
            // A sender that is not taken is so for every mail.
            Mail => !reply.starts_with("451"),
            Rcpt | Data | Content => false,
            _ => true,
        };
        assert_eq!(failure.is_of_server, is_of_server, "{failure}");
    }
}

#[tokio::test]
async fn what_a_server_repeats_of_the_recipient_the_mail_or_the_login_is_not_told() {
    let encoded = "AGF1dGh0b2tlbnMAY29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==";
    for (stage, reply, told) in [
        (Stage::Rcpt, "550 5.1.1 <{to}>: unknown".to_owned(), "550 5.1.1 *** unknown"),
        (Stage::Rcpt, "550-5.1.1 BOB.SECRET\r\n550 5.1.1 is unknown".to_owned(), "550 5.1.1 *** is unknown"),
        (Stage::Rcpt, "550 bounce-bob.secret=diamond.example: no".to_owned(), "550 *** no"),
        (Stage::Content, format!("554 spam: 482 913 and {CODE}"), "554 spam: *** and ***"),
        (
            Stage::Content,
            format!("554 bad link https://diamond.example/account/reset#{UNKNOWN_TOKEN}"),
            "554 bad link ***",
        ),
        (Stage::Auth, format!("535 wrong: {PASSWORD}"), "535 wrong: ***"),
        (Stage::Auth, format!("535 wrong: {encoded}"), "535 wrong: ***"),
        (Stage::Rcpt, "550 no\u{1b}[2J \u{202e}way".to_owned(), "550 no [2J way"),
    ] {
        let failure = failure_of(Behaviour::default().replying(stage, &reply)).await;
        assert!(failure.to_string().ends_with(told), "{failure}");
    }
}

#[tokio::test]
async fn a_login_that_the_server_does_not_take_or_offer_is_a_sentence() {
    let server = SmtpServer::start(Behaviour::default());
    let mut config = config_for(&server);
    let other = "[mail.smtp]\nuser = \"authtokens\"\npassword = \"another\"";
    config.mail.smtp.password = from_text(other).unwrap().mail.smtp.password;
    let told = failure(&config).await;
    assert!(told.to_string().contains("refuses the user and the password of mail.smtp: 535 5.7.8 "), "{told}");
    assert!(!told.is_permanent);

    let server = SmtpServer::start(Behaviour { mechanisms: "GSSAPI", ..Behaviour::default() });
    let told = failure(&config_for(&server)).await.to_string();
    assert!(told.ends_with("offers no login by PLAIN or LOGIN, and mail.smtp has a user"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_sentence() {
    let server = SmtpServer::start(Behaviour::default());
    let mut config = config_for(&server);
    config.mail.smtp.port = Some(closed_port());
    let told = failure(&config).await.to_string();
    assert!(told.contains("is not reached: ") && told.contains("refused"), "{told}");
    config.mail.smtp.host = Some("no-such-host.invalid".to_owned());
    let told = failure(&config).await.to_string();
    assert!(told.starts_with("the address of the mail server no-such-host.invalid is not found: "), "{told}");
    // A configuration cannot ask for this; the connection would not be made either.
    config.mail.smtp.tls = Encryption::None;
    config.mail.smtp.host = Some("192.0.2.1".to_owned());
    let told = failure(&config).await.to_string();
    assert_eq!(told, "192.0.2.1 is not this machine, and without TLS mail leaves it for no other");
}

#[tokio::test]
async fn what_mail_needs_and_does_not_find_stops_the_start_with_a_sentence() {
    let server = SmtpServer::start(Behaviour::default());
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = config_for(&server);
        change(&mut config);
        Postman::new(&config, Clock::system()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(refused(&|_| {}), "");
    assert_eq!(refused(&|config| config.mail.transport = Transport::Off), "mail.transport is \"off\": no mail is sent");
    let told = refused(&|config| config.mail.smtp.ca_file = Some("/nowhere/ca.pem".into()));
    assert!(told.starts_with("mail.smtp.ca_file: /nowhere/ca.pem cannot be read: "), "{told}");
    let told = refused(&|config| config.mail.smtp.ca_file = Some("/dev/zero".into()));
    assert_eq!(told, "mail.smtp.ca_file: /dev/zero cannot be read: it is not a file");
    let told = refused(&|config| {
        config.mail.transport = Transport::Folder;
        config.mail.folder = "/dev/null/x".into();
    });
    assert_eq!(told, "mail.folder: /dev/null/x cannot be used: /dev/null is not a folder");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let told = refused(&|config| config.mail.smtp.ca_file = Some(empty.path().to_owned()));
    assert!(told.ends_with("has no certificate that can be used"), "{told}");
    let told = refused(&|config| config.mail.smtp.host = Some("not a host".to_owned()));
    assert_eq!(told, "mail.smtp.host must be a host's name or address");
    let told = refused(&|config| config.mail.templates = Some("/nowhere".into()));
    assert!(told.starts_with("mail.templates: /nowhere cannot be read: "), "{told}");
}

#[tokio::test]
async fn in_a_folder_each_mail_is_a_file_that_any_mail_program_reads() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = from_text(
        "[server]\npublic_url = \"http://127.0.0.1:8000\"\n[mail]\ntransport = \"folder\"\nfrom = \"noreply@diamond.example\"",
    )
    .unwrap();
    config.mail.folder = folder.path().join("mail");
    let postman = postman(&config);
    for kind in [MailKind::ResetPassword, MailKind::ConfirmEmail] {
        postman.deliver(&mail(kind)).await.unwrap();
    }
    let mut files: Vec<_> = fs::read_dir(&config.mail.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    let bytes = fs::read(&files[0]).unwrap();
    let parsed = mail_parser::MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.subject(), Some("Your new password for diamond.example"));
    assert!(parsed.body_text(0).unwrap().contains(&format!("http://127.0.0.1:8000/account/reset#{UNKNOWN_TOKEN}")));
    assert!(files.len() == 2 && files[1].to_str().unwrap().ends_with("-confirm_email.eml"), "{files:?}");
}
