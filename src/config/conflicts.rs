//! What settings need of each other: each is valid by itself, and together they may not work.

use url::Url;

use crate::config::identity::Preset;
use crate::config::mail::{Encryption, Transport, is_loopback};
use crate::config::{Config, ConfigError, Origin, PasskeysConfig, ProviderConfig, Setting, SmtpConfig};

/// What the metrics call the ways in that are no provider's. A provider of such a name could not be told from them there.
const NO_NAMES: [&str; 5] = ["password", "mail", "passkey", "registration", "second_step"];

impl SmtpConfig {
    /// The port: by default the one that is usual for the encryption.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Encryption::Tls => 465,
            Encryption::StartTls => 587,
            Encryption::None => 25,
        })
    }
}

impl Config {
    /// Whether mail is sent.
    #[must_use]
    pub fn sends_mail(&self) -> bool {
        self.mail.transport != Transport::Off
    }

    /// Refuses a configuration that names two databases, or asks for backups of one that the service cannot copy as a file.
    pub(super) fn check_database(&self, settings: &[Setting]) -> Result<(), ConfigError> {
        let is_given =
            |setting: &Setting| setting.name() == "database.path" && matches!(setting.origin, Some(Origin::Flag(_)));
        if self.database.url.is_some() && settings.iter().any(is_given) {
            return Err(ConfigError::Conflict(
                "--database names a file and database.url is given: leave one of the two".to_owned(),
            ));
        }
        if self.database.url.is_some() && self.backup.every.is_some() {
            return Err(ConfigError::Conflict(
                "backup.every is given and so is database.url: PostgreSQL is backed up by its own means, such as pg_dump or \
                 pgBackRest; set backup.every = \"off\""
                    .to_owned(),
            ));
        }
        if self.database.ca_file.is_some() && self.database.url.is_none() {
            return Err(ConfigError::Conflict(
                "database.ca_file is given and database.url is not: only PostgreSQL is reached by TLS".to_owned(),
            ));
        }
        Ok(())
    }

    /// Refuses passkeys that no page could use.
    pub(super) fn check_passkeys(&self) -> Result<(), ConfigError> {
        self.passkeys_conflict().map_or(Ok(()), |sentence| Err(ConfigError::Conflict(sentence)))
    }

    fn passkeys_conflict(&self) -> Option<String> {
        let PasskeysConfig { rp_id, origins, .. } = &self.passkeys;
        let Some(rp_id) = rp_id else {
            let needs_it =
                "passkeys.rp_id is missing: passkeys.origins says where passkeys are used, and not of which domain";
            return (!origins.is_empty()).then(|| needs_it.to_owned());
        };
        if origins.is_empty() {
            return Some(
                "passkeys.origins is missing: with passkeys.rp_id, it says where passkeys are used".to_owned(),
            );
        }
        let pages: Vec<Url> = origins.iter().filter_map(|origin| Url::parse(origin).ok()).collect();
        let is_within = |page: &&Url, domain: &str| {
            page.domain().is_some_and(|host| {
                host.strip_suffix(domain).is_some_and(|below| below.is_empty() || below.ends_with('.'))
            })
        };
        if let Some(page) = pages.iter().find(|page| page.scheme() == "http" && !is_within(page, "localhost")) {
            let origin = page.origin().ascii_serialization();
            return Some(format!(
                "passkeys.origins has {origin}: browsers have passkeys only with https, or on localhost"
            ));
        }
        let is_an_app = |page: &Url| page.scheme() == "android";
        let is_used = pages.iter().any(|page| is_an_app(page) || is_within(&page, rp_id));
        (!is_used).then(|| {
            format!("passkeys.rp_id is {rp_id}, and none of passkeys.origins is of this domain or one below it")
        })
    }

    /// Refuses a configuration that sends mail and lacks what mail needs, or needs mail and sends none.
    pub(super) fn check_mail(&self) -> Result<(), ConfigError> {
        self.mail_conflict().map_or(Ok(()), |sentence| Err(ConfigError::Conflict(sentence)))
    }

    /// Refuses providers that cannot be asked as they are given.
    pub(super) fn check_providers(&self) -> Result<(), ConfigError> {
        for (number, provider) in self.provider.iter().enumerate() {
            let name = &provider.name;
            if self.provider[..number].iter().any(|other| other.name == *name) {
                return Err(ConfigError::Conflict(format!(
                    "two providers are called {name}: each has a name of its own"
                )));
            }
            if NO_NAMES.contains(&name.as_str()) {
                return Err(ConfigError::Conflict(format!(
                    "a provider is called {name}: the metrics call another way in so; choose another name"
                )));
            }
            // Whose notices and keys these are must be clear.
            let is_apple = |other: &&ProviderConfig| other.preset == Preset::Apple;
            if is_apple(&provider) && self.provider[..number].iter().any(|other| is_apple(&other)) {
                return Err(ConfigError::Conflict(format!(
                    "provider {name} is a second one of the preset \"apple\": give all client_ids to the first"
                )));
            }
            if let Some(why) = provider.conflict() {
                return Err(ConfigError::Conflict(format!("provider {name}: {why}")));
            }
        }
        if !self.identities.return_to.is_empty() && self.server.public_url.is_none() {
            return Err(ConfigError::Conflict(
                "identities.return_to is given and server.public_url is not: providers send browsers back to it"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn mail_conflict(&self) -> Option<String> {
        let SmtpConfig { host, tls, user, password, .. } = &self.mail.smtp;
        if !self.sends_mail() {
            let needing = [
                ("accounts.require_verified_email", self.accounts.require_verified_email),
                ("accounts.login_by_mail", self.accounts.login_by_mail),
            ];
            let (name, _) = needing.into_iter().find(|(_, is_on)| *is_on)?;
            return Some(format!("{name} is true and mail.transport is \"off\": it needs mail"));
        }
        if self.mail.from.is_none() {
            return Some("mail.from is missing: a mail needs a sender where mail.transport is not \"off\"".to_owned());
        }
        if self.server.public_url.is_none() {
            return Some(
                "server.public_url is missing: the links in mails are made of it where mail.transport is not \"off\""
                    .to_owned(),
            );
        }
        if self.mail.transport != Transport::Smtp {
            return None;
        }
        let Some(host) = host else {
            return Some("mail.smtp.host is missing: mail.transport is \"smtp\"".to_owned());
        };
        if user.is_some() != password.is_some() {
            let (given, missing) = if user.is_some() { ("user", "password") } else { ("password", "user") };
            return Some(format!("mail.smtp.{missing} is missing: mail.smtp.{given} is given"));
        }
        (*tls == Encryption::None && !is_loopback(host)).then(|| {
            format!(
                "mail.smtp.tls is \"none\" and mail.smtp.host is {host}: without TLS mail goes to this machine alone, to \
                 localhost or a loopback address"
            )
        })
    }
}

impl ProviderConfig {
    /// What its settings lack or have too much of.
    fn conflict(&self) -> Option<&'static str> {
        let apple = [self.apple_team.is_some(), self.apple_key_id.is_some(), self.apple_key.is_some()];
        if self.client_ids.is_empty() {
            return Some("client_ids is empty: an ID token for anybody's app would count");
        }
        if self.issuer.is_some() != (self.preset == Preset::None) {
            return Some(match self.preset {
                Preset::None => "issuer is missing: preset is \"none\"",
                _ => "issuer is given, and the preset has its own",
            });
        }
        if self.test_address.is_some() && self.preset == Preset::None {
            return Some("test_address is given and preset is \"none\": give it as issuer");
        }
        if self.preset != Preset::Apple && apple.contains(&true) {
            return Some("apple_team, apple_key_id and apple_key are for the preset \"apple\" alone");
        }
        if self.preset == Preset::Apple && apple.contains(&true) && apple.contains(&false) {
            return Some("apple_team, apple_key_id and apple_key are given together or not at all");
        }
        if self.preset == Preset::Apple && self.client_secret.is_some() {
            return Some("client_secret is given, and Apple's is made from apple_key");
        }
        if self.preset == Preset::Github && self.client_secret.is_none() {
            return Some("client_secret is missing: GitHub has no ID tokens, so it is asked for pages alone");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;

    fn refusal(text: &str) -> Option<String> {
        let mut settings = Settings::default();
        settings.add_file(Path::new("config.toml"), text).unwrap();
        Config::from_settings(settings).err().map(|error| error.to_string())
    }

    const NEEDED: &str =
        "[server]\npublic_url = \"https://diamond.example\"\n[mail]\nfrom = \"noreply@diamond.example\"\n";

    #[test]
    fn a_configuration_that_sends_mail_has_what_mail_needs() {
        for (more, sentence) in [
            ("transport = \"folder\"", None),
            ("transport = \"smtp\"\nsmtp.host = \"mail.diamond.example\"", None),
            ("transport = \"smtp\"", Some("mail.smtp.host is missing: ")),
            (
                "transport = \"smtp\"\nsmtp.host = \"a.example\"\nsmtp.user = \"a\"",
                Some("mail.smtp.password is missing: mail.smtp.user is given"),
            ),
            (
                "transport = \"smtp\"\nsmtp.host = \"a.example\"\nsmtp.password = \"a\"",
                Some("mail.smtp.user is missing: mail.smtp.password is given"),
            ),
        ] {
            let refused = refusal(&format!("{NEEDED}{more}"));
            assert_eq!(refused.is_some(), sentence.is_some(), "{refused:?}");
            assert!(refused.unwrap_or_default().starts_with(sentence.unwrap_or_default()), "{more}");
        }
        let refused = refusal("[mail]\ntransport = \"folder\"\nfrom = \"a@diamond.example\"").unwrap();
        assert!(refused.starts_with("server.public_url is missing: "), "{refused}");
        let refused = refusal("[mail]\ntransport = \"folder\"").unwrap();
        assert!(refused.starts_with("mail.from is missing: "), "{refused}");
        for name in ["require_verified_email", "login_by_mail"] {
            let refused = refusal(&format!("[accounts]\n{name} = true")).unwrap();
            assert_eq!(refused, format!("accounts.{name} is true and mail.transport is \"off\": it needs mail"));
            assert_eq!(refusal(&format!("{NEEDED}transport = \"folder\"\n[accounts]\n{name} = true")), None);
        }
    }

    #[test]
    fn a_provider_has_what_its_preset_needs_and_a_name_of_its_own() {
        const IDS: &str = "client_ids = [\"a\"]\n";
        let provider = |more: &str| format!("[[provider]]\nname = \"one\"\n{IDS}{more}\n");
        for good in [
            provider("issuer = \"https://id.example\""),
            provider("preset = \"google\""),
            provider("preset = \"apple\""),
            provider("preset = \"apple\"\napple_team = \"t\"\napple_key_id = \"k\"\napple_key = \"p\""),
            provider("preset = \"github\"\nclient_secret = \"s3cret\""),
        ] {
            assert_eq!(refusal(&good), None, "{good}");
        }
        for (bad, sentence) in [
            (
                "[[provider]]\nname = \"one\"\npreset = \"google\"\nclient_ids = []".to_owned(),
                "provider one: client_ids is",
            ),
            (provider(""), "provider one: issuer is missing: "),
            (provider("preset = \"google\"\nissuer = \"https://id.example\""), "provider one: issuer is given, "),
            (
                provider("issuer = \"https://id.example\"\ntest_address = \"http://127.0.0.1:9\""),
                "provider one: test_address is given ",
            ),
            (
                provider("preset = \"google\"\napple_key = \"p\""),
                "provider one: apple_team, apple_key_id and apple_key are for",
            ),
            (
                provider("preset = \"apple\"\napple_key = \"p\""),
                "provider one: apple_team, apple_key_id and apple_key are given",
            ),
            (provider("preset = \"apple\"\nclient_secret = \"s3cret\""), "provider one: client_secret is given, "),
            (provider("preset = \"github\""), "provider one: client_secret is missing: "),
            (provider("preset = \"google\"").repeat(2), "two providers are called one: "),
            (provider("preset = \"google\"").replace("one", "passkey"), "a provider is called passkey: "),
            (
                provider("preset = \"apple\"") + &provider("preset = \"apple\"").replace("one", "two"),
                "provider two is a second one of the preset \"apple\": ",
            ),
            (
                "[identities]\nreturn_to = [\"app://in\"]".to_owned(),
                "identities.return_to is given and server.public_url ",
            ),
        ] {
            let refused = refusal(&bad).unwrap_or_default();
            assert!(refused.starts_with(sentence) && !refused.contains("s3cret"), "{bad}: {refused}");
        }
    }

    #[test]
    fn passkeys_are_of_a_domain_and_are_used_there_over_https() {
        const APP: &str = "\"android:apk-key-hash:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU\"";
        let with =
            |rp_id: &str, origins: &str| refusal(&format!("[passkeys]\nrp_id = \"{rp_id}\"\norigins = [{origins}]"));
        for (rp_id, origins) in [
            ("diamond.example", "\"https://diamond.example\""),
            ("diamond.example", "\"https://a.b.diamond.example:8443\""),
            ("diamond.example", "\"https://diamond.example\", \"https://diamond.test\""),
            ("diamond.example", APP),
            ("localhost", "\"http://localhost:3000\""),
        ] {
            assert_eq!(with(rp_id, origins), None, "{origins}");
        }
        for (rp_id, origins, sentence) in [
            ("diamond.example", "", "passkeys.origins is missing: "),
            ("diamond.example", "\"http://diamond.example\"", "passkeys.origins has http://diamond.example: "),
            ("diamond.example", "\"https://notdiamond.example\"", "passkeys.rp_id is diamond.example, and none of "),
            ("a.diamond.example", "\"https://diamond.example\"", "passkeys.rp_id is a.diamond.example, and none of "),
        ] {
            let refused = with(rp_id, origins).unwrap_or_default();
            assert!(refused.starts_with(sentence), "{origins}: {refused}");
        }
        let refused = refusal("[passkeys]\norigins = [\"https://diamond.example\"]").unwrap_or_default();
        assert!(refused.starts_with("passkeys.rp_id is missing: "), "{refused}");
    }

    #[test]
    fn postgresql_is_neither_backed_up_by_the_service_nor_given_beside_a_file() {
        const URL: &str = "[database]\nurl = \"postgres://a:s3cret@localhost/d\"\n";
        assert_eq!(refusal(URL), None);
        let refused = refusal(&format!("{URL}[backup]\nevery = \"1day\"")).unwrap();
        assert!(refused.starts_with("backup.every is given and so is database.url: ") && refused.contains("pg_dump"));
        assert!(!refused.contains("s3cret"), "{refused}");
        let refused = refusal("[database]\nca_file = \"ca.pem\"").unwrap();
        assert!(refused.starts_with("database.ca_file is given and database.url is not: "), "{refused}");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, URL.as_bytes()).unwrap();
        let flag = [("--database", "database", "path", "a.db".to_owned())];
        let settings = Settings::gather(Some(file.path()), [], flag).unwrap();
        let refused = Config::from_settings(settings).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.starts_with("--database names a file and database.url is given: "), "{refused}");
    }

    #[test]
    fn without_tls_mail_goes_to_this_machine_alone() {
        for (host, is_taken) in [
            ("localhost", true),
            ("LocalHost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("[::1]", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("mail.diamond.example", false),
            ("localhost.diamond.example", false),
            ("127.0.0.1.diamond.example", false),
        ] {
            let refused =
                refusal(&format!("{NEEDED}transport = \"smtp\"\nsmtp.tls = \"none\"\nsmtp.host = \"{host}\""));
            assert_eq!(refused.is_none(), is_taken, "{host}: {refused:?}");
        }
    }
}
