//! The templates of mails. They are part of the program; a folder may override each file, for other words or another
//! language.
//!
//! A mail named `x` has two files: `x.txt`, whose first line is its subject, and `x.html`, which extends `layout.html`. Those
//! that tell of a change extend `notice.txt` and `notice.html`.
//! All are rendered once at the start, with and without what may be missing: a template that is wrong is a
//! sentence then, and never a mail that cannot be sent.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::domain::mail::MailKind;
use crate::domain::one_time::CODE_LIFETIME;
use crate::mail::error::MailError;
use crate::templates::{self, TemplateError};

/// The name of the mail that tries the way out.
pub(super) const TEST: &str = "test";

/// The two files of each mail.
macro_rules! files {
    ($($name:literal)*) => {
        &[
            $(
                (concat!($name, ".txt"), include_str!(concat!("templates/", $name, ".txt"))),
                (concat!($name, ".html"), include_str!(concat!("templates/", $name, ".html"))),
            )*
            ("layout.html", include_str!("templates/layout.html")),
            ("notice.html", include_str!("templates/notice.html")),
            ("notice.txt", include_str!("templates/notice.txt")),
        ]
    };
}

/// Every file, as it is part of the program.
const FILES: &[(&str, &str)] = files![
    "confirm_email" "email_taken" "reset_password" "sign_in" "reauthenticate" "password_changed" "password_set"
    "password_reset" "email_change_requested" "email_changed" "unfamiliar_sign_in" "totp_added" "totp_removed"
    "recovery_code_used" "recovery_codes_replaced" "passkey_added" "passkey_removed" "identity_linked"
    "identity_unlinked" "factors_reset" "account_deleted" "webhook_disabled" "test"
];

/// What a template may show. What a mail does not have is empty or 0.
#[derive(Clone, Default, Serialize)]
pub(super) struct Values {
    pub service_name: String,
    pub username: String,
    /// With a space in its middle.
    pub code: String,
    pub link: String,
    /// How long the code is valid, and the link.
    pub minutes: u64,
    pub link_minutes: u64,
    pub when: String,
    pub ip: String,
    pub program: String,
    /// The provider of an identity, as the configuration calls it.
    pub provider: String,
    /// The id of a webhook.
    pub webhook: String,
}

/// All that a template is given. The HTML has the subject, too.
#[derive(Serialize)]
struct Shown<'a> {
    subject: &'a str,
    #[serde(flatten)]
    values: &'a Values,
}

/// A mail as it is read.
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// As plain text.
    pub text: String,
    /// As HTML.
    pub html: String,
}

/// The templates, ready to be rendered.
pub(super) struct Templates(templates::Templates);

impl Templates {
    /// Those of the program, each replaced by the file of its name in `folder` where there is one.
    pub(super) fn load(folder: Option<&Path>) -> Result<Self, MailError> {
        let templates = Self(templates::Templates::load(FILES, folder)?);
        for name in MailKind::ALL.map(MailKind::name).into_iter().chain([TEST]) {
            templates.check(name)?;
        }
        Ok(templates)
    }

    /// Renders the mail of this name.
    pub(super) fn render(&self, name: &str, values: &Values) -> Result<Rendered, MailError> {
        let rendered = self.0.render(&format!("{name}.txt"), &Shown { subject: "", values })?;
        let (first, text) = rendered.split_once('\n').unwrap_or((&rendered, ""));
        let subject = first.strip_prefix("Subject: ").unwrap_or_default().trim().to_owned();
        let html = self.0.render(&format!("{name}.html"), &Shown { subject: &subject, values })?;
        Ok(Rendered { subject, text: text.trim_start_matches(['\r', '\n']).to_owned(), html })
    }

    /// Renders a mail with every choice of what it may have.
    fn check(&self, name: &str) -> Result<(), MailError> {
        let full = sample(name);
        for choice in 0..16_u8 {
            let mut values = full.clone();
            let may_lack = [&mut values.username, &mut values.ip, &mut values.program, &mut values.code];
            for (bit, value) in may_lack.into_iter().enumerate() {
                if choice >> bit & 1 == 1 {
                    value.clear();
                }
            }
            let rendered = self.render(name, &values)?;
            let refused = |file: &str, why: &str| MailError(format!("the mail template {name}.{file} {why}"));
            if rendered.subject.is_empty() {
                return Err(refused("txt", "must begin with a line such as \"Subject: Hello\""));
            }
            for (what, value) in [("code", &values.code), ("link", &values.link)] {
                if value.is_empty() {
                    continue;
                }
                if rendered.subject.contains(value.as_str()) {
                    return Err(refused("txt", &format!("has the {what} in its subject, which mail servers log")));
                }
                if !rendered.text.contains(value.as_str()) {
                    return Err(refused("txt", &format!("does not show the {what}: it needs {{{{ {what} }}}}")));
                }
                if !rendered.html.contains(value.as_str()) {
                    return Err(refused("html", &format!("does not show the {what}: it needs {{{{ {what} }}}}")));
                }
            }
        }
        Ok(())
    }
}

/// What the templates of mails say is wrong, without any value.
impl From<TemplateError> for MailError {
    fn from(error: TemplateError) -> Self {
        Self(match error {
            TemplateError::Unreadable { path, source } => {
                format!("mail.templates: {} cannot be read: {source}", path.display())
            }
            TemplateError::TooLarge { path } => format!("mail.templates: {} is larger than 256 KiB", path.display()),
            TemplateError::Unknown { path, known } => {
                format!("mail.templates: {} overrides nothing; there are {known}", path.display())
            }
            TemplateError::Broken { name, line, why } => {
                let line = line.map(|line| format!(" line {line}")).unwrap_or_default();
                format!("the mail template {name}{line}: {why}")
            }
        })
    }
}

/// What the mail of this name has, with values of nobody's.
pub(super) fn sample(name: &str) -> Values {
    let kind = MailKind::parse(name);
    let (code, page) = kind.map_or((false, None), |kind| (kind.has_code(), kind.page()));
    let purpose = kind.and_then(MailKind::purpose);
    Values {
        service_name: "Diamonds".to_owned(),
        username: "AzureDiamond".to_owned(),
        code: if code { "123 456".to_owned() } else { String::new() },
        link: page.map_or_else(String::new, |page| {
            format!("https://diamond.example/account/{page}#d96163b8bc9127d8c5d5839018580123c64a324b")
        }),
        minutes: minutes(CODE_LIFETIME),
        link_minutes: purpose.map_or(0, |purpose| minutes(purpose.lifetime())),
        when: "2015-01-04 22:51 UTC".to_owned(),
        ip: "203.0.113.7".to_owned(),
        program: "Firefox on Linux".to_owned(),
        provider: kind.filter(|kind| kind.names_provider()).map_or_else(String::new, |_| "example".to_owned()),
        webhook: kind.filter(|kind| kind.names_webhook()).map_or_else(String::new, |_| "0123456789abcdef".to_owned()),
    }
}

/// A time as a template shows it.
pub(super) fn minutes(time: Duration) -> u64 {
    time.as_secs() / 60
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::one_time::Purpose;

    fn refusal(files: &[(&str, &str)]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Templates::load(Some(folder.path())).err().map(|error| error.to_string())
    }

    #[test]
    fn the_templates_of_the_program_show_what_a_mail_has_and_nothing_that_it_lacks() {
        let templates = Templates::load(None).unwrap();
        for name in MailKind::ALL.map(MailKind::name) {
            let full = sample(name);
            let rendered = templates.render(name, &full).unwrap();
            assert!(rendered.text.lines().all(|line| line.chars().count() < 100), "{}", rendered.text);
            assert!(!rendered.text.contains('{') && !rendered.text.contains("\n\n\n"), "{}", rendered.text);
            assert_eq!(rendered.text.contains("203.0.113.7"), rendered.text.contains("From: "), "{name}");
            let least = Values { username: String::new(), ip: String::new(), program: String::new(), ..full };
            let rendered = templates.render(name, &least).unwrap();
            assert!(rendered.text.starts_with("Hello,\n"), "{}", rendered.text);
            assert!(!rendered.text.contains("none"), "{}", rendered.text);
            for lacking in ["From:", "With:", "AzureDiamond"] {
                assert!(!rendered.text.contains(lacking) && !rendered.html.contains(lacking), "{name}: {lacking}");
            }
        }
    }

    #[test]
    fn a_mail_that_opens_an_account_says_how_long_it_does_and_that_it_may_be_ignored() {
        let templates = Templates::load(None).unwrap();
        for (kind, link) in [
            (MailKind::ConfirmEmail, "24 hours"),
            (MailKind::ResetPassword, "30 minutes"),
            (MailKind::SignIn, "10 minutes"),
            (MailKind::Reauthenticate, "10 minutes"),
        ] {
            let rendered = templates.render(kind.name(), &sample(kind.name())).unwrap();
            for part in [rendered.text, rendered.html] {
                let part = part.replace('\n', " ");
                assert!(
                    part.contains("10 minutes") && part.contains(link) && part.contains("ignore this mail"),
                    "{part}"
                );
                assert!(kind != MailKind::ResetPassword || part.contains("will ever ask you for"), "{part}");
            }
        }
    }

    #[test]
    fn a_confirmation_says_that_somebody_can_log_in_and_that_who_did_not_ask_must_not_confirm() {
        let rendered = Templates::load(None).unwrap().render("confirm_email", &sample("confirm_email")).unwrap();
        for part in [rendered.text, rendered.html.replace("&#39;", "'")] {
            let part = part.replace('\n', " ");
            for sentence in [
                "Somebody gave this address for an account at Diamonds, and can log in to that account.",
                "If it was not you, ignore this mail and confirm nothing: then nothing happens.",
                "somebody else's, who knows its password",
            ] {
                assert!(part.contains(sentence), "{sentence} in {part}");
            }
        }
    }

    #[test]
    fn a_notice_that_can_be_disowned_says_all_that_this_does() {
        let templates = Templates::load(None).unwrap();
        for kind in MailKind::ALL.into_iter().filter(|kind| kind.purpose() == Some(Purpose::NotMe)) {
            let rendered = templates.render(kind.name(), &sample(kind.name())).unwrap();
            for part in [rendered.text, rendered.html] {
                let part = part.replace('\n', " ");
                let ends = if kind == MailKind::UnfamiliarSignIn { "ends that session" } else { "ends all sessions" };
                for said in [
                    ends,
                    "so that nobody can log in with it any more",
                    "mails you a link to set a new one",
                    "It also removes authenticator apps, recovery codes, passkeys and linked logins that were added since.",
                ] {
                    assert!(part.contains(said), "{said} in {part}");
                }
            }
        }
    }

    #[test]
    fn a_reset_that_nobody_typed_a_code_for_promises_nothing_of_the_password() {
        // It may have been removed just before, by whoever disowned a notice.
        let values = Values { code: String::new(), ..sample("reset_password") };
        let rendered = Templates::load(None).unwrap().render("reset_password", &values).unwrap();
        for part in [rendered.text, rendered.html] {
            assert!(
                part.contains("ignore this mail: nothing changes then.") && !part.contains("stays as it is"),
                "{part}"
            );
        }
    }

    #[test]
    fn no_mail_loads_anything_from_elsewhere_or_leads_anywhere_but_to_the_service() {
        let templates = Templates::load(None).unwrap();
        for name in MailKind::ALL.map(MailKind::name).into_iter().chain([TEST]) {
            let html = templates.render(name, &sample(name)).unwrap().html;
            for foreign in ["<img", "<script", "src=", "@import", "url(", "<link", "<iframe", "<form"] {
                assert!(!html.contains(foreign), "{name}: {foreign}");
            }
            let links: Vec<_> = html.match_indices("://").collect();
            assert_eq!(links.len(), html.matches("https://diamond.example/account/").count(), "{name}");
        }
    }

    #[test]
    fn what_somebody_chose_is_text_in_html() {
        let templates = Templates::load(None).unwrap();
        let mut values = sample("password_changed");
        values.program = "<b>\"'&x".to_owned();
        values.username = "<i>".to_owned();
        values.link = "https://diamond.example/\"><b>'&#".to_owned();
        let html = templates.render("password_changed", &values).unwrap().html;
        assert!(!html.contains("<b>") && !html.contains("<i>"), "{html}");
        assert!(
            html.contains("&lt;b&gt;") && html.contains("https://diamond.example/&quot;&gt;&lt;b&gt;&#39;&amp;#\"")
        );
    }

    #[test]
    fn an_override_that_cannot_be_right_is_refused_at_the_start_in_a_sentence() {
        let german = "Subject: Ihr neues Passwort für {{ service_name }}\n\nCode: {{ code }}\nLink: {{ link }}\n";
        assert_eq!(refusal(&[("reset_password.txt", german), ("README.md", "not a template")]), None);
        for (name, text, sentence) in [
            (
                "reset_password.txt",
                "Subject: x\n{{ link }}",
                "the mail template reset_password.txt does not show the code: it needs {{ code }}",
            ),
            (
                "reset_password.txt",
                "Subject: x\n{% if username %}{{ code }} {{ link }}{% endif %}",
                "the mail template reset_password.txt does not show the code: it needs {{ code }}",
            ),
            (
                "sign_in.html",
                "<p>{{ code }}</p>",
                "the mail template sign_in.html does not show the link: it needs {{ link }}",
            ),
            (
                "sign_in.txt",
                "Subject: {{ code }}\n{{ code }} {{ link }}",
                "the mail template sign_in.txt has the code in its subject, which mail servers log",
            ),
            ("test.txt", "Hello\n", "the mail template test.txt must begin with a line such as \"Subject: Hello\""),
            ("test.txt", "Subject: x\n{{ nmae }}", "the mail template test.txt line 2: undefined value"),
            ("test.html", "{% if %}", "the mail template test.html line 1: syntax error, "),
            (
                "layout.html",
                "{% block body %}{% endblock %}",
                "the mail template confirm_email.html does not show the code",
            ),
            ("test.html", "{% include \"/etc/passwd\" %}", "the mail template test.html line 1: template not found"),
        ] {
            let refused = refusal(&[(name, text)]).unwrap();
            assert!(refused.starts_with(sentence), "{refused}");
        }
        let refused = refusal(&[("resetpassword.txt", "")]).unwrap();
        assert!(refused.contains("resetpassword.txt overrides nothing; there are confirm_email.txt, "), "{refused}");
        let refused = refusal(&[("test.html", &" ".repeat(256 * 1024 + 1))]).unwrap();
        assert!(refused.starts_with("mail.templates: /") && refused.ends_with("test.html is larger than 256 KiB"));
        let refused = Templates::load(Some(Path::new("/nowhere"))).err().unwrap().to_string();
        assert!(refused.starts_with("mail.templates: /nowhere cannot be read: "), "{refused}");
    }
}
