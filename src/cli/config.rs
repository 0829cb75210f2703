//! The commands about the configuration: the settings in effect, and where each comes from, with secrets masked; and
//! whether they can work.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::accounts::sealing;
use crate::cli::context::CommandError;
use crate::cli::output::{Output, printable, to_toml};
use crate::cli::unit;
use crate::config::{Config, ConfigError, Setting, header};
use crate::http::pages::templates::Pages;
use crate::mail;
use crate::repository::open::check_settings;

/// Prints which file was read, and the configuration as a file that reads back as the same, except for its secrets; or
/// both as JSON. Warnings go to standard error.
///
/// # Errors
/// [`CommandError::Output`].
pub fn show(
    output: &mut Output,
    file: Option<&Path>,
    settings: &[Setting],
    warnings: &[String],
) -> Result<(), CommandError> {
    let text = as_toml(file, settings)?;
    output.print(&as_json(file, settings), || text)?;
    warn(warnings);
    Ok(())
}

/// Checks how the store is reached, and connects to nothing.
///
/// # Errors
/// [`ConfigError`], for what is wrong.
pub(crate) fn check_store(config: &Config) -> Result<(), ConfigError> {
    check_settings(config).map_err(|error| ConfigError::Conflict(error.to_string()))
}

/// Checks a configuration that is valid by itself: the templates, the certificates and the key that it names, and what the
/// systemd unit allows. Warnings go to standard error.
///
/// # Errors
/// [`CommandError`], for what is wrong.
pub fn check(
    output: &mut Output,
    file: Option<&Path>,
    unit: Option<&Path>,
    config: &Config,
    warnings: &[String],
) -> Result<(), CommandError> {
    check_store(config)?;
    sealing::check(config)?;
    mail::check(config)?;
    Pages::check(config)?;
    let unit = unit::check(unit, config)?;
    let checked = json!({
        "file": file.map(Path::to_string_lossy),
        "unit": unit.as_deref().map(Path::to_string_lossy),
        "warnings": warnings,
    });
    output.print(&checked, || {
        let file = file.map_or_else(|| "without a file".to_owned(), |file| file.display().to_string());
        let unit = unit.as_ref().map_or_else(
            || "No systemd unit is installed.".to_owned(),
            |unit| format!("The unit {} lets the service do what it asks for.", unit.display()),
        );
        format!("The configuration ({}) is right.\n{}\n", printable(&file), printable(&unit))
    })?;
    warn(warnings);
    Ok(())
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        // Whether anyone reads it is not the command's concern.
        let _ = writeln!(io::stderr(), "authtokens: warning: {}", printable(warning));
    }
}

fn as_toml(file: Option<&Path>, settings: &[Setting]) -> io::Result<String> {
    let mut text = match file {
        Some(file) => format!("# The file that was read is {}.\n", printable(&file.to_string_lossy())),
        None => "# No file was read.\n".to_owned(),
    };
    if settings.iter().any(is_masked) {
        text.push_str("# Secrets are masked: without them, this does not read back as a configuration.\n");
    }
    let mut section = None;
    for setting in settings {
        if section != Some((setting.section, setting.entry)) {
            let _ = writeln!(text, "\n{}", header(setting.section, setting.entry.is_some()));
            section = Some((setting.section, setting.entry));
        }
        let origin = origin_of(setting);
        let origin = printable(&origin);
        let _ = match (&setting.value, is_masked(setting)) {
            (Value::Null, _) => writeln!(text, "# {} is not given", setting.key),
            (value, true) => writeln!(text, "{} = {} # masked, from {origin}", setting.key, to_toml(value)?),
            (value, false) => writeln!(text, "{} = {} # {origin}", setting.key, to_toml(value)?),
        };
    }
    Ok(text)
}

fn as_json(file: Option<&Path>, settings: &[Setting]) -> Value {
    let mut sections = json!({"file": file.map(Path::to_string_lossy)});
    for setting in settings {
        let mut section = &mut sections;
        let mut parts = setting.section.split('.').peekable();
        while let Some(part) = parts.next() {
            section = &mut section[part];
            let entry = setting.entry.filter(|_| parts.peek().is_none());
            if section.is_null() {
                *section = if entry.is_some() { json!([]) } else { json!({}) };
            }
            if let Value::Array(entries) = section {
                if entry == Some(entries.len()) {
                    entries.push(json!({}));
                }
                // A section inside of a list follows the entry that it belongs to.
                let last = entries.len() - 1;
                section = &mut entries[last];
            }
        }
        let mut shown = json!({"value": setting.value, "origin": origin_of(setting)});
        if is_masked(setting) {
            shown["masked"] = true.into();
        }
        section[setting.key] = shown;
    }
    sections
}

fn is_masked(setting: &Setting) -> bool {
    setting.is_secret && !setting.value.is_null()
}

fn origin_of(setting: &Setting) -> String {
    setting.origin.as_ref().map_or_else(|| "default".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn settings() -> [Setting; 6] {
        let setting = |section, entry, key, value, is_secret| {
            let origin = Some(Origin::Flag("--x"));
            Setting { section, entry, key, value, is_secret, origin }
        };
        [
            setting("mail", None, "retries", json!(3), false),
            setting("mail.smtp", None, "user", Value::Null, false),
            setting("mail.smtp", None, "password", json!("********"), true),
            setting("webhook", Some(0), "url", json!("a"), false),
            setting("webhook", Some(1), "url", json!("b"), false),
            setting("webhook.retry", None, "times", json!(2), false),
        ]
    }

    #[test]
    fn sections_in_sections_lists_and_masked_secrets_are_shown_as_a_file_has_them() {
        let text = as_toml(None, &settings()).unwrap();
        let expected = "# No file was read.\n\
            # Secrets are masked: without them, this does not read back as a configuration.\n\n\
            [mail]\nretries = 3 # flag --x\n\n\
            [mail.smtp]\n# user is not given\npassword = \"********\" # masked, from flag --x\n\n\
            [[webhook]]\nurl = \"a\" # flag --x\n\n\
            [[webhook]]\nurl = \"b\" # flag --x\n\n[webhook.retry]\ntimes = 2 # flag --x\n";
        assert_eq!(text, expected);
        let read: Value = toml::from_str(&text).unwrap();
        assert_eq!(read["webhook"][1], json!({"url": "b", "retry": {"times": 2}}));
    }

    #[test]
    fn sections_in_sections_are_objects_and_lists_are_arrays_in_json() {
        let one = |value: Value| json!({"value": value, "origin": "flag --x"});
        let password = json!({"value": "********", "origin": "flag --x", "masked": true});
        let expected = json!({
            "file": "a.toml",
            "mail": {"retries": one(json!(3)), "smtp": {"user": one(Value::Null), "password": password}},
            "webhook": [{"url": one(json!("a"))}, {"url": one(json!("b")), "retry": {"times": one(json!(2))}}],
        });
        assert_eq!(as_json(Some(Path::new("a.toml")), &settings()), expected);
    }
}
