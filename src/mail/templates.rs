//! The templates of mails. They are part of the program; a folder may override each file, for other words or another
//! language.
//!
//! A mail named `x` has two files: `x.txt`, whose first line is its subject, and `x.html`, which extends `layout.html`.
//! All are parsed and rendered once at the start, with and without what may be missing: a template that is wrong is a
//! sentence then, and never a mail that cannot be sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, UndefinedBehavior, Value};

use crate::domain::mail::MailKind;
use crate::domain::one_time::CODE_LIFETIME;
use crate::mail::error::MailError;

/// The name of the mail that tries the way out.
pub(super) const TEST: &str = "test";

/// The frame of every mail's HTML.
const LAYOUT: &str = "layout.html";

/// The largest file that overrides a template, in bytes.
const MAX_SIZE: u64 = 256 * 1024;

/// The two files of each mail.
macro_rules! files {
    ($($name:literal)*) => {
        &[
            $(
                (concat!($name, ".txt"), include_str!(concat!("templates/", $name, ".txt"))),
                (concat!($name, ".html"), include_str!(concat!("templates/", $name, ".html"))),
            )*
            (LAYOUT, include_str!("templates/layout.html")),
        ]
    };
}

/// Every file, as it is part of the program.
const FILES: &[(&str, &str)] = files![
    "confirm_email" "email_taken" "reset_password" "sign_in" "reauthenticate" "password_changed" "password_set"
    "password_reset" "email_change_requested" "email_changed" "unfamiliar_sign_in" "account_deleted" "test"
];

/// What a template may show. What a mail does not have is empty or 0.
#[derive(Clone, Default)]
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
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// Those of the program, each replaced by the file of its name in `folder` where there is one.
    pub(super) fn load(folder: Option<&Path>) -> Result<Self, MailError> {
        let mut environment = Environment::new();
        // A name that there is none of is an error, in the place of an empty text that nobody notices.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| wrong("a template", &error))?);
        let mut overrides = folder.map_or_else(|| Ok(BTreeMap::new()), read_folder)?;
        for (name, text) in FILES {
            let text = overrides.remove(*name).unwrap_or_else(|| (*text).to_owned());
            environment.add_template_owned(*name, text).map_err(|error| wrong(name, &error))?;
        }
        let templates = Self(environment);
        for name in MailKind::ALL.map(MailKind::name).into_iter().chain([TEST]) {
            templates.check(name)?;
        }
        Ok(templates)
    }

    /// Renders the mail of this name.
    pub(super) fn render(&self, name: &str, values: &Values) -> Result<Rendered, Error> {
        let rendered =
            self.0.get_template(&format!("{name}.txt"))?.render(context(values, "", &values.link.as_str().into()))?;
        let (first, text) = rendered.split_once('\n').unwrap_or((&rendered, ""));
        let subject = first.strip_prefix("Subject: ").unwrap_or_default().trim().to_owned();
        let link = Value::from_safe_string(escape(&values.link));
        let html = self.0.get_template(&format!("{name}.html"))?.render(context(values, &subject, &link))?;
        Ok(Rendered { subject, text: text.trim_start_matches(['\r', '\n']).to_owned(), html })
    }

    /// Renders a mail with what it may have, and with what it has at least.
    fn check(&self, name: &str) -> Result<(), MailError> {
        let full = sample(name);
        let least = Values { username: String::new(), ip: String::new(), program: String::new(), ..full.clone() };
        for values in [full, least] {
            let rendered = self.render(name, &values).map_err(|error| wrong(name, &error))?;
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
                if !rendered.html.contains(&escape(value)) {
                    return Err(refused("html", &format!("does not show the {what}: it needs {{{{ {what} }}}}")));
                }
            }
        }
        Ok(())
    }
}

/// Reads the files of a folder that override templates.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>, MailError> {
    let unreadable = |path: &Path, error: &io::Error| {
        MailError(format!("mail.templates: {} cannot be read: {error}", path.display()))
    };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if !path.extension().is_some_and(|extension| extension == "txt" || extension == "html") {
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !FILES.iter().any(|(known, _)| *known == name) {
            let known = FILES.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
            let path = path.display();
            return Err(MailError(format!("mail.templates: {path} overrides nothing; there are {known}")));
        }
        let size = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
        if size > MAX_SIZE {
            return Err(MailError(format!("mail.templates: {} is larger than 256 KiB", path.display())));
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        found.insert(name, text.replace("\r\n", "\n"));
    }
    Ok(found)
}

/// What is wrong with a template, without any value.
pub(super) fn wrong(name: &str, error: &Error) -> MailError {
    let mut text = format!("the mail template {}", error.name().unwrap_or(name));
    // Writing to a string does not fail.
    if let Some(line) = error.line() {
        let _ = write!(text, " line {line}");
    }
    let _ = write!(text, ": {}", error.kind());
    if let Some(detail) = error.detail() {
        let _ = write!(text, ", {detail}");
    }
    MailError(text)
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
    }
}

/// A time as a template shows it.
pub(super) fn minutes(time: Duration) -> u64 {
    time.as_secs() / 60
}

fn context(values: &Values, subject: &str, link: &Value) -> Value {
    let values = values.clone();
    Value::from(BTreeMap::from([
        ("subject", Value::from(subject)),
        ("service_name", values.service_name.into()),
        ("username", values.username.into()),
        ("code", values.code.into()),
        ("link", link.clone()),
        ("minutes", values.minutes.into()),
        ("link_minutes", values.link_minutes.into()),
        ("when", values.when.into()),
        ("ip", values.ip.into()),
        ("program", values.program.into()),
    ]))
}

/// A link as an attribute and as text of HTML. The template engine would write each slash as `&#x2f;`, which some mail
/// programs show.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let refused = Templates::load(Some(Path::new("/nowhere"))).err().unwrap().to_string();
        assert!(refused.starts_with("mail.templates: /nowhere cannot be read: "), "{refused}");
    }
}
