//! Sections: turns the tree of what was given into structs, and finds unknown names.
//!
//! The macro `section!` declares a section with its settings, one a line. A setting is a [`Kind`]. A section can also
//! hold other sections ([`nested`], written `[a.b]`) and lists of them ([`list`], written `[[a]]`). The configuration
//! as a whole is the section without a name.
//!
//! A section that holds a [`secret::Secret`] cannot derive `Debug`: it implements it itself, and shows only its own
//! name.

use std::mem;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::names::{Names, Sections, file_key, last_part};
use crate::config::secret;
use crate::config::source::{ConfigError, Entries, Given, Node, Origin, Setting, Settings, Unknown, join};
use crate::config::value::{self, Fallback, Kind, Raw};

/// A section of the configuration, which the macro `section!` implements.
pub trait Section: Sized {
    /// Its name in full, such as `mail.smtp`.
    const NAME: &'static str;

    /// Takes its settings out of a table.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that is invalid.
    fn read(table: &mut Table<'_>) -> Result<Self, ConfigError>;
}

/// Declares a section: its name, its struct, and how each setting is read. Where the struct is declared elsewhere, the
/// types are left out. `config.toml` says what each setting means.
macro_rules! section {
    ($name:literal => $(#[$attribute:meta])* pub struct $section:ident { $($field:ident: $type:ty = $how:expr,)* }) => {
        $(#[$attribute])*
        #[allow(missing_docs, reason = "config.toml explains every setting")]
        pub struct $section { $(pub $field: $type,)* }

        section!($name => $section { $($field = $how,)* });
    };
    ($name:literal => $section:ident { $($field:ident = $how:expr,)* }) => {
        impl $crate::config::table::Section for $section {
            const NAME: &'static str = $name;

            fn read(table: &mut $crate::config::table::Table<'_>) -> Result<Self, $crate::config::source::ConfigError> {
                use $crate::config::table::Take as _;
                Ok(Self { $($field: $how.take(table, stringify!($field))?,)* })
            }
        }
    };
}

pub(crate) use section;

/// What can be taken out of a table: a setting, a section or a list of sections.
pub trait Take<T> {
    /// Takes it.
    ///
    /// # Errors
    /// [`ConfigError`] when it is missing or invalid.
    fn take(self, table: &mut Table<'_>, key: &'static str) -> Result<T, ConfigError>;
}

/// A section inside of this one. Its key is the last part of its name.
#[must_use]
pub fn nested() -> Nested {
    Nested
}

/// See [`nested`].
pub struct Nested;

/// Any number of sections of one name. Only a file gives them: a variable has no way to say which one it is for.
#[must_use]
pub fn list() -> List {
    List
}

/// See [`list`].
pub struct List;

/// A setting that may be given or not.
#[must_use]
pub fn optional<T>(kind: Kind<T>) -> Optional<T> {
    Optional(kind)
}

/// See [`optional`].
pub struct Optional<T>(Kind<T>);

/// The part of the tree that is one section's.
pub struct Table<'a> {
    name: &'static str,
    /// Its index, where it is in a list.
    entry: Option<usize>,
    /// Whether it, or a section around it, is in a list: then no variable and no credential can be for it.
    is_in_list: bool,
    /// Where it begins, if anywhere.
    origin: Option<Origin>,
    given: Entries,
    /// Where the section's next setting is inserted: before those of the sections inside of it.
    next: usize,
    known: &'a mut Known,
}

/// What has been found while the tree is read.
#[derive(Default)]
struct Known {
    /// All settings, in the order in which a file has them.
    settings: Vec<Setting>,
    sections: Sections,
    unknown: Vec<Unknown>,
    replaced_lists: Vec<(String, Origin)>,
    credentials: Option<PathBuf>,
}

impl Settings {
    /// Reads what was gathered as a section, and lists every setting with its value and its origin.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that is invalid, or a name that is unknown.
    pub fn read<S: Section>(self) -> Result<(S, Vec<Setting>), ConfigError> {
        let mut known = Known {
            unknown: self.replaced,
            replaced_lists: self.replaced_lists,
            credentials: self.credentials,
            ..Known::default()
        };
        let section = known.read(self.given, None, None, false)?;
        // What stands below a setting has no name, whether it replaced the setting's value or was replaced by it.
        for (name, below) in self.shadowed {
            if known.is_setting(&name) {
                for (key, given) in below {
                    known.add_unknown(join(&name, &key), given);
                }
            }
        }
        let unknown = mem::take(&mut known.unknown);
        known.unknown = unknown.into_iter().filter(|unknown| !known.is_setting(&unknown.name)).collect();
        match known.unknown.into_iter().min_by(|one, other| one.name.cmp(&other.name)) {
            None => Ok((section, known.settings)),
            Some(unknown) => Err(Names::new(&known.settings, &known.sections).refuse(unknown)),
        }
    }
}

impl<T> Take<T> for Kind<T> {
    fn take(self, table: &mut Table<'_>, key: &'static str) -> Result<T, ConfigError> {
        let given = match table.find(key, self.is_secret)? {
            Some((raw, origin)) => (raw, Some(origin)),
            None => (table.fallback(key, &self)?, None),
        };
        table.interpret(key, &self, given)
    }
}

impl<T> Take<Option<T>> for Optional<T> {
    fn take(self, table: &mut Table<'_>, key: &'static str) -> Result<Option<T>, ConfigError> {
        let Self(kind) = self;
        if let Some((raw, origin)) = table.find(key, kind.is_secret)? {
            return table.interpret(key, &kind, (raw, Some(origin))).map(Some);
        }
        table.tell(key, Value::Null, kind.is_secret, None);
        Ok(None)
    }
}

impl<S: Section> Take<S> for Nested {
    fn take(self, table: &mut Table<'_>, _field: &'static str) -> Result<S, ConfigError> {
        let is_one_section = |origin| {
            let expected = format!("one section, written [{}]", S::NAME);
            ConfigError::Invalid { origin: Some(origin), name: S::NAME.to_owned(), expected }
        };
        let lists = &table.known.replaced_lists;
        if let Some((_, origin)) = lists.iter().find(|(name, _)| name == S::NAME) {
            return Err(is_one_section(origin.clone()));
        }
        let (entries, origin) = match table.given.remove(last_part(S::NAME)) {
            None => (Entries::new(), None),
            Some(Given { node: Node::Table(entries), origin }) => (entries, Some(origin)),
            // The variable's name ends too early: it names the section itself.
            Some(Given { node: Node::Value(_), origin: origin @ Origin::Variable(_) }) => {
                table.known.unknown.push(Unknown { name: S::NAME.to_owned(), origin });
                (Entries::new(), None)
            }
            Some(Given { origin, .. }) => return Err(is_one_section(origin)),
        };
        let is_in_list = table.is_in_list;
        table.known.read(entries, origin, None, is_in_list)
    }
}

impl<S: Section> Take<Vec<S>> for List {
    fn take(self, table: &mut Table<'_>, _field: &'static str) -> Result<Vec<S>, ConfigError> {
        table.known.add_section(S::NAME, true);
        match table.given.remove(last_part(S::NAME)) {
            None => Ok(Vec::new()),
            Some(Given { node: Node::List(list), .. }) => {
                let read = |(entry, (entries, origin))| table.known.read(entries, Some(origin), Some(entry), true);
                list.into_iter().enumerate().map(read).collect()
            }
            Some(Given { origin, .. }) => {
                let expected = format!("a list of sections, each written [[{}]] in the file and nowhere else", S::NAME);
                Err(ConfigError::Invalid { origin: Some(origin), name: S::NAME.to_owned(), expected })
            }
        }
    }
}

impl Table<'_> {
    fn name_of(&self, key: &str) -> String {
        join(self.name, key)
    }

    /// Takes out what was given under a key. A secret may also come from a file of its own or a credential.
    fn find(&mut self, key: &str, is_secret: bool) -> Result<Option<(Raw, Origin)>, ConfigError> {
        let value = self.find_value(key);
        if !is_secret {
            return Ok(value);
        }
        let Some((file, named)) = self.find_value(&file_key(key)) else {
            return value.map_or_else(|| self.find_credential(key), |value| Ok(Some(value)));
        };
        if let Some((_, value)) = value {
            return Err(ConfigError::Twice { file: named, value, name: self.name_of(key) });
        }
        let Kind { read, expected, .. } = value::file();
        let Some((path, _)) = read(&file) else {
            return Err(ConfigError::Invalid { origin: Some(named), name: self.name_of(&file_key(key)), expected });
        };
        let (text, is_open_to_all) = self.read_secret(key, &path, &named)?;
        Ok(Some((text, Origin::SecretFile { path, named: Box::new(named), is_open_to_all })))
    }

    fn find_value(&mut self, key: &str) -> Option<(Raw, Origin)> {
        let Given { node, origin } = self.given.remove(key)?;
        match node {
            Node::Value(raw) => Some((raw, origin)),
            // The variable's name goes on behind the setting's.
            Node::Table(_) if matches!(origin, Origin::Variable(_)) => {
                self.known.add_unknown(self.name_of(key), Given { node, origin });
                None
            }
            _ => Some((Raw::Other, origin)),
        }
    }

    fn find_credential(&self, key: &str) -> Result<Option<(Raw, Origin)>, ConfigError> {
        let Some(folder) = self.known.credentials.as_deref().filter(|_| !self.is_in_list) else { return Ok(None) };
        let name = self.name_of(key);
        let path = folder.join(&name);
        if !path.exists() {
            return Ok(None);
        }
        let origin = Origin::Credential(name);
        let (text, _) = self.read_secret(key, &path, &origin)?;
        Ok(Some((text, origin)))
    }

    fn read_secret(&self, key: &str, path: &Path, origin: &Origin) -> Result<(Raw, bool), ConfigError> {
        let (mut text, is_open_to_all) = secret::read_file(path).map_err(|why| ConfigError::SecretFile {
            origin: origin.clone(),
            name: self.name_of(key),
            path: path.to_owned(),
            why,
        })?;
        Ok((Raw::String(mem::take(&mut text)), is_open_to_all))
    }

    /// The value of a setting that was not given.
    fn fallback<T>(&self, key: &str, kind: &Kind<T>) -> Result<Raw, ConfigError> {
        match &kind.fallback {
            Fallback::Value(raw) => Ok(raw.clone()),
            Fallback::Beside { setting, name } => {
                let other = self.known.settings.iter().find(|known| known.name() == *setting);
                let path = other.and_then(|known| known.value.as_str()).unwrap_or_default();
                Ok(Raw::String(Path::new(path).with_file_name(name).to_string_lossy().into_owned()))
            }
            Fallback::None => Err(ConfigError::Missing {
                origin: self.origin.clone(),
                name: self.name_of(key),
                expected: kind.expected.clone(),
            }),
        }
    }

    /// Reads a value, and lists the setting.
    fn interpret<T>(
        &mut self,
        key: &'static str,
        kind: &Kind<T>,
        (raw, origin): (Raw, Option<Origin>),
    ) -> Result<T, ConfigError> {
        let Some((value, shown)) = (kind.read)(&raw) else {
            let expected = format!("{}{}", kind.expected, (kind.hint)(&raw));
            return Err(ConfigError::Invalid { origin, name: self.name_of(key), expected });
        };
        if kind.is_secret {
            raw.wipe();
        }
        self.tell(key, shown, kind.is_secret, origin);
        Ok(value)
    }

    fn tell(&mut self, key: &'static str, value: Value, is_secret: bool, origin: Option<Origin>) {
        let setting = Setting { section: self.name, entry: self.entry, key, value, is_secret, origin };
        self.known.settings.insert(self.next, setting);
        self.next += 1;
    }
}

impl Known {
    fn read<S: Section>(
        &mut self,
        given: Entries,
        origin: Option<Origin>,
        entry: Option<usize>,
        is_in_list: bool,
    ) -> Result<S, ConfigError> {
        self.add_section(S::NAME, entry.is_some());
        let next = self.settings.len();
        let mut table = Table { name: S::NAME, entry, is_in_list, origin, given, next, known: self };
        let section = S::read(&mut table)?;
        // What was not taken has an unknown name.
        for (key, given) in table.given {
            self.add_unknown(join(S::NAME, &key), given);
        }
        Ok(section)
    }

    fn is_setting(&self, name: &str) -> bool {
        self.settings.iter().any(|setting| setting.name() == name)
    }

    fn add_section(&mut self, name: &'static str, is_list: bool) {
        if !name.is_empty() && !self.sections.contains(&(name, is_list)) {
            self.sections.push((name, is_list));
        }
    }

    fn add_unknown(&mut self, name: String, Given { node, origin }: Given) {
        match node {
            Node::Table(entries) if !entries.is_empty() => {
                for (key, given) in entries {
                    self.add_unknown(join(&name, &key), given);
                }
            }
            Node::List(list) => {
                for (entries, origin) in list {
                    self.add_unknown(name.clone(), Given { node: Node::Table(entries), origin });
                }
            }
            _ => self.unknown.push(Unknown { name, origin }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fmt;
    use std::fs;

    use super::*;
    use crate::config::secret::{MASK, Secret, secret};
    use crate::config::value::whole;

    section! {
        "" =>
        #[derive(Debug)]
        pub struct Root {
            mail: Mail = nested(),
            webhook: Vec<Webhook> = list(),
        }
    }

    section! {
        "mail" =>
        #[derive(Debug)]
        pub struct Mail {
            smtp: Smtp = nested(),
            sender: Option<String> = optional(text()),
            retries: u32 = whole(0..=9).default(3),
        }
    }

    section! {
        "mail.smtp" =>
        pub struct Smtp {
            port: u32 = whole(1..=65_535).default(465),
            password: Option<Secret> = optional(secret()),
        }
    }

    section! {
        "webhook" =>
        pub struct Webhook {
            url: String = text(),
            key: Secret = secret(),
            retry: Retry = nested(),
        }
    }

    section! {
        "webhook.retry" =>
        #[derive(Debug)]
        pub struct Retry {
            times: u32 = whole(1..=20).default(10),
        }
    }

    impl fmt::Debug for Smtp {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Smtp").finish_non_exhaustive()
        }
    }

    impl fmt::Debug for Webhook {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Webhook").finish_non_exhaustive()
        }
    }

    fn text() -> Kind<String> {
        Kind::new("a text", |raw| raw.text().map(str::to_owned), |text| text.as_str().into())
    }

    /// Reads this text as config.toml, with variables over it.
    fn read(text: &str, variables: &[(&str, &str)]) -> Result<(Root, Vec<Setting>), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
        let read = Settings::gather(Some(file.path()), variables, []).and_then(Settings::read);
        read.map_err(|error| error.to_string().replace(file.path().to_str().unwrap(), "config.toml"))
    }

    fn refused(text: &str, variables: &[(&str, &str)]) -> String {
        read(text, variables).unwrap_err()
    }

    fn origin(settings: &[Setting], name: &str) -> String {
        let setting = settings.iter().find(|setting| setting.name() == name).unwrap();
        setting.origin.as_ref().map_or("default".to_owned(), ToString::to_string)
    }

    #[test]
    fn a_section_inside_of_a_section_is_read_from_the_file_and_the_environment() {
        let (root, settings) = read("", &[]).unwrap();
        assert_eq!((root.mail.smtp.port, root.mail.retries, root.mail.sender), (465, 3, None));
        let names: Vec<_> = settings.iter().map(Setting::name).collect();
        let expected = ["mail.sender", "mail.retries", "mail.smtp.port", "mail.smtp.password"];
        assert_eq!(names, expected, "a section's own settings stand before those inside of it, as TOML wants it");

        let text = "[mail]\nretries = 5\n[mail.smtp]\nport = 25\n";
        let (root, settings) = read(text, &[]).unwrap();
        assert_eq!((root.mail.smtp.port, root.mail.retries), (25, 5));
        assert!(origin(&settings, "mail.smtp.port").ends_with(" line 4"));
        for inline in ["[mail]\nsmtp.port = 25", "[mail]\nsmtp = { port = 25 }", "mail.smtp.port = 25"] {
            assert_eq!(read(inline, &[]).unwrap().0.mail.smtp.port, 25, "{inline}");
        }

        let variable = "AUTHTOKENS__MAIL__SMTP__PORT";
        let (root, settings) = read(text, &[(variable, "587"), ("AUTHTOKENS__MAIL__SENDER", "a@b")]).unwrap();
        assert_eq!((root.mail.smtp.port, root.mail.retries, root.mail.sender.as_deref()), (587, 5, Some("a@b")));
        assert_eq!(origin(&settings, "mail.smtp.port"), format!("environment variable {variable}"));
        assert!(origin(&settings, "mail.retries").ends_with(" line 2"));
    }

    #[test]
    fn each_entry_of_a_list_has_its_own_values_lines_and_sections() {
        let text = "[[webhook]]\nurl = \"a\"\nkey = \"x\"\n\n[[webhook]]\nurl = \"b\"\nkey = \"y\"\n[webhook.retry]\ntimes = 2\n";
        let (root, settings) = read(text, &[]).unwrap();
        let read_back: Vec<_> =
            root.webhook.iter().map(|hook| (&*hook.url, hook.key.expose(), hook.retry.times)).collect();
        assert_eq!(read_back, [("a", "x", 10), ("b", "y", 2)]);
        let urls = settings.iter().filter(|setting| setting.name() == "webhook.url");
        let urls: Vec<_> = urls.map(|url| (url.entry, url.origin.as_ref().unwrap().to_string())).collect();
        assert!(
            matches!(&urls[..], [(Some(0), one), (Some(1), two)] if one.ends_with("line 2") && two.ends_with("line 6"))
        );
        assert_eq!(read("webhook = [{ url = \"a\", key = \"x\" }]", &[]).unwrap().0.webhook.len(), 1);
        assert_eq!(read("", &[]).unwrap().0.webhook.len(), 0);
    }

    #[test]
    fn what_is_wrong_at_any_depth_is_one_sentence_that_names_the_line_or_the_variable() {
        for (text, sentence) in [
            ("[mail.smtp]\nport = 0", "config.toml line 2: mail.smtp.port must be a whole number from 1 to 65535"),
            (
                "[mail.smtp]\nhost = 1",
                "config.toml line 2: there is no setting mail.smtp.host; [mail.smtp] has port, password, password_file",
            ),
            (
                "[mail]\nsubject = 1",
                "config.toml line 2: there is no setting mail.subject; [mail] has sender, retries, [mail.smtp]",
            ),
            (
                "[mail.imap.tls]\ncert = 1",
                "config.toml line 2: there is no setting mail.imap.tls.cert; [mail] has sender, retries, [mail.smtp]",
            ),
            (
                "[mail.imap]\n",
                "config.toml line 1: there is no setting mail.imap; [mail] has sender, retries, [mail.smtp]",
            ),
            ("[[mail]]\n", "config.toml line 1: mail must be one section, written [mail]"),
            ("[mail]\nsmtp = 1", "config.toml line 2: mail.smtp must be one section, written [mail.smtp]"),
            (
                "[webhook]\nurl = \"a\"",
                "config.toml line 1: webhook must be a list of sections, each written [[webhook]] in the file and nowhere \
                 else",
            ),
            (
                "[[webhook]]\nurl = \"a\"\nkey = \"x\"\n\n[[webhook]]\nurl = \"b\"\nkey = \"y\"\nname = 1",
                "config.toml line 8: there is no setting webhook.name; [[webhook]] has url, key, key_file, [webhook.retry]",
            ),
            (
                "[[webhook]]\nurl = \"a\"\nkey = \"x\"\n\n[[webhook]]\nkey = \"y\"\n",
                "config.toml line 5: webhook.url is missing; it must be a text",
            ),
            ("[[webhook]]\nurl = 1", "config.toml line 2: webhook.url must be a text"),
            (
                "[[webhooks]]\nurl = 1",
                "config.toml line 2: there is no setting webhooks.url; the sections are mail, mail.smtp, webhook",
            ),
        ] {
            assert_eq!(refused(text, &[]), sentence, "{text}");
        }
        for (name, sentence) in [
            (
                "AUTHTOKENS__WEBHOOK__URL",
                "webhook must be a list of sections, each written [[webhook]] in the file and nowhere else",
            ),
            (
                "AUTHTOKENS__WEBHOOK__0__URL",
                "webhook must be a list of sections, each written [[webhook]] in the file and nowhere else",
            ),
            ("AUTHTOKENS__MAIL__SMTP", "there is no setting mail.smtp; [mail.smtp] has port, password, password_file"),
            (
                "AUTHTOKENS__MAIL__RETRIES__X",
                "there is no setting mail.retries.x; [mail] has sender, retries, [mail.smtp]",
            ),
            (
                "AUTHTOKENS__MAIL__SMTP__TLS__X",
                "there is no setting mail.smtp.tls.x; [mail.smtp] has port, password, password_file",
            ),
        ] {
            let text = "[mail.smtp]\nport = 25\n[[webhook]]\nurl = \"a\"\nkey = \"x\"\n";
            assert_eq!(refused(text, &[(name, "x")]), format!("environment variable {name}: {sentence}"));
        }
    }

    #[test]
    fn what_is_no_section_is_refused_whatever_a_later_source_has_in_its_place() {
        let (section, setting) = ("AUTHTOKENS__MAIL__SMTP", "AUTHTOKENS__MAIL__SMTP__PORT");
        let sentence = format!("environment variable {section}: there is no setting mail.smtp; [mail.smtp] has port, ");
        for variables in [[(section, "x"), (setting, "25")], [(setting, "25"), (section, "x")]] {
            assert!(refused("", &variables).starts_with(&sentence), "{variables:?}");
        }
        let said = refused("[[mail.smtp]]\nport = 1", &[(setting, "25")]);
        assert_eq!(said, "config.toml line 1: mail.smtp must be one section, written [mail.smtp]");
        let (setting, below) = ("AUTHTOKENS__MAIL__RETRIES", "AUTHTOKENS__MAIL__RETRIES__X");
        let sentence = format!("environment variable {below}: there is no setting mail.retries.x; ");
        for variables in [[(setting, "1"), (below, "1")], [(below, "1"), (setting, "1")]] {
            assert!(refused("[mail]\nretries = 2", &variables).starts_with(&sentence), "{variables:?}");
        }
    }

    #[test]
    fn a_name_that_nothing_has_is_told_the_one_that_was_meant() {
        let hook = "[[webhook]]\nurl = \"a\"\nkey = \"x\"\n";
        for (text, meant) in [
            ("[mail]\nretires = 1".to_owned(), "mail.retries? [mail] has sender, "),
            ("[mail.smtp]\nprot = 1".to_owned(), "mail.smtp.port? [mail.smtp] has port, "),
            ("[mail.smpt]\nport = 1".to_owned(), "mail.smtp.port? [mail] has sender, "),
            ("[mail.smpt]\n".to_owned(), "mail.smtp? [mail] has sender, "),
            ("[mial]\nretries = 1".to_owned(), "mail.retries? The sections are mail, mail.smtp, webhook"),
            ("[mial]\n".to_owned(), "mail? The sections are mail, mail.smtp, webhook"),
            ("[mail.smtp]\npasword_file = \"x\"".to_owned(), "mail.smtp.password_file? [mail.smtp] has port, "),
            (format!("{hook}ulr = \"b\""), "webhook.url? [[webhook]] has url, "),
            (format!("{hook}[[webhok]]\nurl = \"b\""), "webhook.url? The sections are mail, "),
            // A valid name, but in another section.
            (format!("{hook}retries = 1"), "mail.retries? [[webhook]] has url, "),
        ] {
            let said = refused(&text, &[]);
            assert!(said.contains(&format!("; did you mean {meant}")), "{said}");
        }
        for (name, meant) in [
            ("AUTHTOKENS__MAIL__RETIRES", "AUTHTOKENS__MAIL__RETRIES? [mail] has sender, "),
            ("AUTHTOKENS__MAIL__SMPT__PORT", "AUTHTOKENS__MAIL__SMTP__PORT? [mail] has sender, "),
            ("AUTHTOKENS__MIAL__RETRIES", "AUTHTOKENS__MAIL__RETRIES? The sections are mail, "),
            ("AUTHTOKENS__WEBHOK__RETRIES", "AUTHTOKENS__MAIL__RETRIES? The sections are mail, "),
        ] {
            let said = refused("", &[(name, "1")]);
            assert!(said.starts_with(&format!("environment variable {name}: there is no setting ")), "{said}");
            assert!(said.contains(&format!("; did you mean {meant}")), "{said}");
        }
        assert!(
            !refused(hook, &[("AUTHTOKENS__WEBHOK__URL", "1")]).contains("did you mean"),
            "no variable reaches there"
        );
        for text in ["[mail]\nxyz = 1", "[other]\nxyz = 1", "[mail]\nsend_from = 1"] {
            assert!(!refused(text, &[]).contains("did you mean"), "{text}");
        }
    }

    #[test]
    fn a_secret_is_given_as_a_value_or_by_a_file_or_a_credential_and_is_never_shown() {
        const FROM_FILE: &str = "AUTHTOKENS__MAIL__SMTP__PASSWORD_FILE";
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name).to_str().unwrap().to_owned()
        };
        let near = file("near", "s3cret of a file\n");
        let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
        let named = format!("[mail.smtp]\npassword_file = {near:?}\n");
        let value = "[mail.smtp]\npassword = \"s3cret of the configuration\"\n";
        let variable = ("AUTHTOKENS__MAIL__SMTP__PASSWORD", "s3cret of a variable");
        file("mail.smtp.password", "s3cret of a credential\n");
        for (text, variables, secret, from) in [
            ("", vec![], None, "default"),
            ("", vec![credentials], Some("s3cret of a credential"), "systemd credential mail.smtp.password"),
            (value, vec![credentials], Some("s3cret of the configuration"), "config.toml line 2"),
            (
                value,
                vec![variable],
                Some("s3cret of a variable"),
                "environment variable AUTHTOKENS__MAIL__SMTP__PASSWORD",
            ),
            (&named, vec![credentials], Some("s3cret of a file"), &format!("{near}, named by config.toml line 2")),
            (
                "",
                vec![(FROM_FILE, &*near)],
                Some("s3cret of a file"),
                &format!("{near}, named by environment variable {FROM_FILE}"),
            ),
        ] {
            let (root, settings) = read(text, &variables).unwrap();
            assert_eq!(root.mail.smtp.password.as_ref().map(Secret::expose), secret);
            let told = origin(&settings, "mail.smtp.password");
            assert!(
                told == from || (from.contains("config.toml") && told.ends_with(&from[from.len() - 7..])),
                "{told}"
            );
            let shown = settings.iter().find(|setting| setting.key == "password").unwrap();
            assert!(shown.is_secret && shown.value == secret.map_or(Value::Null, |_| MASK.into()));
            assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
        }

        // In a list, only a file of its own works: no variable and no credential can be for one entry.
        file("webhook.key", "s3cret of a credential\n");
        let hook = format!("[[webhook]]\nurl = \"a\"\nkey_file = {near:?}\n");
        assert_eq!(read(&hook, &[credentials]).unwrap().0.webhook[0].key.expose(), "s3cret of a file");
        let said = refused("[[webhook]]\nurl = \"a\"\n", &[credentials]);
        assert!(said.starts_with("config.toml line 1: webhook.key is missing; it must be a text "), "{said}");
    }

    #[test]
    fn a_secret_that_cannot_be_one_is_refused_without_a_word_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let [none, empty, good] = ["none", "empty", "good"].map(|name| folder.path().join(name));
        fs::write(&empty, "\n").unwrap();
        fs::write(&good, "s3cret").unwrap();
        let twice = format!("[mail.smtp]\npassword = \"s3cret\"\npassword_file = {good:?}");
        for (text, sentence) in [
            (
                twice,
                "config.toml line 3: mail.smtp.password is given already by config.toml line 2; leave one of the two"
                    .to_owned(),
            ),
            (
                format!("[mail.smtp]\npassword_file = {none:?}"),
                format!(
                    "config.toml line 2: the file for mail.smtp.password, {}, cannot be read: No such file or directory (os \
                     error 2)",
                    none.display()
                ),
            ),
            (
                format!("[mail.smtp]\npassword_file = {empty:?}"),
                format!("config.toml line 2: the file for mail.smtp.password, {}, is empty", empty.display()),
            ),
            (
                "[mail.smtp]\npassword_file = \"\"".to_owned(),
                "config.toml line 2: mail.smtp.password_file must be the path of a file".to_owned(),
            ),
        ] {
            assert_eq!(refused(&text, &[]), sentence);
        }
        let expected = "config.toml line 2: mail.smtp.password must be a text that is not empty, and is not the \
            \"********\" that is shown in the place of a secret";
        for value in ["\"\"", "\"********\"", "5", "[\"s3cret\"]", "{ s3cret = 1 }"] {
            assert_eq!(refused(&format!("[mail.smtp]\npassword = {value}"), &[]), expected, "{value}");
        }
        for wrong in ["s3cret", "\"s3cret", "'s3cret\"", "\"s3cret\" s3cret", "\"\\s3cret\"", "\"\"\"s3cret"] {
            let said = refused(&format!("[mail.smtp]\npassword = {wrong}\n"), &[]);
            assert!(said.starts_with("config.toml line ") && !said.contains("s3cret"), "{said}");
        }
        let said = refused("", &[("AUTHTOKENS__MAIL__SMTP__PASWORD", "s3cret")]);
        assert!(said.contains("did you mean AUTHTOKENS__MAIL__SMTP__PASSWORD?") && !said.contains("s3cret"), "{said}");
    }
}
