//! Warnings about settings that are allowed but unwise: logged when the server has started, and printed by `config
//! show`. The defaults have none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::config::mail::{Transport, is_in_clear, is_on_this_machine};
use crate::config::{Config, Origin, Setting};
use crate::system::address::is_close;

/// The cost from which on a login takes longer than people wait.
const SLOW_COST: u32 = 15;

/// The cost below which the hashes of a stolen file are cheap to guess: OWASP's minimum for bcrypt.
const CHEAP_COST: u32 = 10;

impl Config {
    /// The warnings, each a sentence that names the setting and says what to do. `settings` are those of this
    /// configuration.
    #[must_use]
    pub fn warnings(&self, settings: &[Setting]) -> Vec<String> {
        let checks = [
            self.of_the_cost(),
            self.of_plain_http(),
            self.of_proxies(),
            self.of_limits(),
            self.of_tokens(),
            self.of_plain_links(),
            self.of_mail_that_is_not_sent(),
        ];
        checks
            .into_iter()
            .flatten()
            .chain(self.of_providers())
            .chain(settings.iter().filter_map(of_an_open_file))
            .collect()
    }

    fn of_the_cost(&self) -> Option<String> {
        let cost = self.password.bcrypt_cost;
        let why = if cost >= SLOW_COST {
            // A quarter of a second at 12, doubled with each further step.
            let time = Duration::from_millis(250) * (1 << (cost - 12));
            format!("a login hashes for about {} s; 12 to 14 is usual", time.as_secs())
        } else if cost < CHEAP_COST {
            format!("whoever steals the database tries passwords fast; give it at least {CHEAP_COST}")
        } else {
            return None;
        };
        Some(format!("password.bcrypt_cost is {cost}: {why}"))
    }

    fn of_plain_http(&self) -> Option<String> {
        let address = self.server.listen.ip();
        (self.server.trusted_proxies.is_empty() && !is_close(address.to_canonical())).then(|| {
            format!(
                "server.listen is {}, where passwords and tokens come as plain HTTP: put a proxy that speaks TLS in front, \
                 and name it in server.trusted_proxies",
                self.server.listen
            )
        })
    }

    fn of_proxies(&self) -> Option<String> {
        let everybody = self.server.trusted_proxies.iter().find(|network| network.prefix_len() == 0)?;
        Some(format!(
            "server.trusted_proxies has {everybody}: any client can claim to be at any address, and gets past the limits; \
             name your proxies alone"
        ))
    }

    fn of_limits(&self) -> Option<String> {
        (!self.rate_limit.enabled).then(|| {
            "rate_limit.enabled is false: passwords can be guessed without end; set it to true unless something in front \
             limits attempts"
                .to_owned()
        })
    }

    fn of_tokens(&self) -> Option<String> {
        (self.tokens.lifetime.is_none() && self.tokens.idle_timeout.is_none()).then(|| {
            "tokens.lifetime and tokens.idle_timeout are \"never\": a token that is lost or stolen is good for ever; give one \
             of them a time"
                .to_owned()
        })
    }

    fn of_plain_links(&self) -> Option<String> {
        let url = self.server.public_url.as_ref().filter(|url| is_in_clear(url))?;
        Some(format!(
            "server.public_url is {url}: the links in mails open accounts, and lead there as plain HTTP; give it the \
             address with https"
        ))
    }

    fn of_mail_that_is_not_sent(&self) -> Option<String> {
        if self.mail.transport != Transport::Folder {
            return None;
        }
        let address = self.server.listen;
        let others = match &self.server.public_url {
            Some(url) if !is_on_this_machine(url) => format!("server.public_url is {url}"),
            _ if !address.ip().to_canonical().is_loopback() => format!("server.listen is {address}"),
            _ => return None,
        };
        Some(format!(
            "mail.transport is \"folder\" and {others}: mails are files in {} on this machine, and nobody gets them; \
             set it to \"smtp\"",
            self.mail.folder.display()
        ))
    }
}

impl Config {
    fn of_providers(&self) -> impl Iterator<Item = String> {
        self.provider.iter().flat_map(|provider| {
            let name = &provider.name;
            let test = provider.test_address.as_ref().map(|address| {
                format!(
                    "provider {name} has test_address {address}: whoever answers there is believed to be the real one; leave \
                     it out but for tests"
                )
            });
            let trust = provider.trust_email.then(|| {
                format!(
                    "provider {name} has trust_email: whoever can give themselves an address there gets into the account of \
                     that address here; leave it out unless the provider verifies every address"
                )
            });
            test.into_iter().chain(trust)
        })
    }
}

/// A secret in a file of its own, or in the configuration itself, that is open to all.
fn of_an_open_file(setting: &Setting) -> Option<String> {
    let path = match setting.origin.as_ref()? {
        Origin::SecretFile { path, is_open_to_all: true, .. } => path,
        Origin::File { path, .. } if setting.is_secret && is_open_to_all(path) => path,
        _ => return None,
    };
    let (name, path) = (setting.name(), path.display());
    Some(format!("{name} is in {path}, which every user of this machine can read: take that away with chmod o-r"))
}

fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn warnings(text: &str) -> Vec<String> {
        let mut settings = Settings::default();
        settings.add_file(Path::new("config.toml"), text).unwrap();
        let (config, settings) = Config::explain(settings).unwrap();
        config.warnings(&settings)
    }

    #[test]
    fn what_is_legal_and_unwise_is_one_sentence_that_names_the_setting() {
        for (text, sentence) in [
            (
                "[password]\nbcrypt_cost = 16",
                "password.bcrypt_cost is 16: a login hashes for about 4 s; 12 to 14 is usual",
            ),
            (
                "[password]\nbcrypt_cost = 15",
                "password.bcrypt_cost is 15: a login hashes for about 2 s; 12 to 14 is usual",
            ),
            (
                "[password]\nbcrypt_cost = 9",
                "password.bcrypt_cost is 9: whoever steals the database tries passwords fast; give it at least 10",
            ),
            (
                "[server]\nlisten = \"0.0.0.0:80\"",
                "server.listen is 0.0.0.0:80, where passwords and tokens come as plain ",
            ),
            ("[server]\nlisten = \"[::]:80\"", "server.listen is [::]:80, where passwords and tokens come as plain "),
            (
                "[server]\nlisten = \"203.0.113.1:80\"",
                "server.listen is 203.0.113.1:80, where passwords and tokens come ",
            ),
            (
                "[server]\ntrusted_proxies = [\"0.0.0.0/0\"]",
                "server.trusted_proxies has 0.0.0.0/0: any client can claim ",
            ),
            (
                "[server]\ntrusted_proxies = [\"10.0.0.1\", \"::/0\"]",
                "server.trusted_proxies has ::/0: any client can claim ",
            ),
            ("[rate_limit]\nenabled = false", "rate_limit.enabled is false: passwords can be guessed without end; "),
            (
                "[tokens]\nlifetime = \"never\"\nidle_timeout = \"never\"",
                "tokens.lifetime and tokens.idle_timeout are \"never\": a token that is lost or stolen is good for ever; ",
            ),
            (
                "[server]\npublic_url = \"http://diamond.example\"",
                "server.public_url is http://diamond.example: the links in mails open accounts, ",
            ),
            (
                "[server]\nlisten = \"10.0.0.1:80\"\npublic_url = \"http://localhost\"\n\
                 [mail]\ntransport = \"folder\"\nfrom = \"a@diamond.example\"",
                "mail.transport is \"folder\" and server.listen is 10.0.0.1:80: mails are files in data/mail on this ",
            ),
            (
                "[server]\npublic_url = \"https://diamond.example\"\n\
                 [mail]\ntransport = \"folder\"\nfrom = \"a@diamond.example\"",
                "mail.transport is \"folder\" and server.public_url is https://diamond.example: mails are files in ",
            ),
            (
                "[[provider]]\nname = \"a\"\npreset = \"google\"\nclient_ids = [\"b\"]\ntest_address = \"http://127.0.0.1:9\"",
                "provider a has test_address http://127.0.0.1:9: whoever answers there is believed to be the real one; ",
            ),
            (
                "[[provider]]\nname = \"a\"\nissuer = \"https://id.example\"\nclient_ids = [\"b\"]\ntrust_email = true",
                "provider a has trust_email: whoever can give themselves an address there gets into the account of that ",
            ),
        ] {
            let told = warnings(text);
            assert!(told.len() == 1 && told[0].starts_with(sentence), "{told:?}");
        }
    }

    #[test]
    fn the_defaults_and_what_is_usual_are_not_warned_of() {
        for text in [
            "",
            "[password]\nbcrypt_cost = 10",
            "[password]\nbcrypt_cost = 14",
            "[server]\nlisten = \"10.0.0.1:80\"",
            "[server]\nlisten = \"[::1]:80\"",
            "[server]\nlisten = \"0.0.0.0:80\"\ntrusted_proxies = [\"172.17.0.1\"]",
            "[tokens]\nlifetime = \"never\"",
            "[server]\npublic_url = \"https://diamond.example\"\n\
             [mail]\ntransport = \"smtp\"\nfrom = \"a@diamond.example\"\n[mail.smtp]\nhost = \"diamond.example\"",
            "[server]\npublic_url = \"http://[::1]:8000/auth\"\n\
             [mail]\ntransport = \"folder\"\nfrom = \"a@diamond.example\"",
            "[server]\npublic_url = \"http://localhost:8000\"\n\
             [mail]\ntransport = \"folder\"\nfrom = \"a@diamond.example\"",
            include_str!("../../config.toml"),
            include_str!("../../deploy/config.toml"),
        ] {
            assert_eq!(warnings(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn the_file_of_a_secret_that_every_user_can_read_is_warned_of() {
        let origin = |is_open_to_all| Origin::SecretFile {
            path: "/run/secret".into(),
            named: Box::new(Origin::Variable("X".to_owned())),
            is_open_to_all,
        };
        let setting = |is_open_to_all| Setting {
            section: "mail.smtp",
            entry: None,
            key: "password",
            value: "********".into(),
            is_secret: true,
            origin: Some(origin(is_open_to_all)),
        };
        let (config, _) = Config::explain(Settings::default()).unwrap();
        assert_eq!(
            config.warnings(&[setting(true), setting(false)]),
            [
                "mail.smtp.password is in /run/secret, which every user of this machine can read: take that away with chmod o-r"
            ]
        );
    }

    #[test]
    fn a_configuration_with_a_secret_that_every_user_can_read_is_warned_of() {
        let text = "[database]\nurl = \"postgres://a:s3cret@localhost/d\"";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        for (mode, is_told) in [(0o644, true), (0o640, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut settings = Settings::default();
            settings.add_file(&path, text).unwrap();
            let (config, settings) = Config::explain(settings).unwrap();
            let told = config.warnings(&settings);
            assert_eq!(told.len(), usize::from(is_told), "{told:?}");
            assert!(
                told.iter().all(|told| told.starts_with("database.url is in ") && !told.contains("s3cret")),
                "{told:?}"
            );
        }
    }
}
