//! The configuration: a file, over it the environment, over it the command line.
//!
//! Every setting has a default, so none of the three needs to exist. All that is given is checked before the server
//! touches anything. An error is one sentence that names its source: file and line, variable or flag.
//!
//! A setting is one line in its section below, and one in `config.toml` that says what it means:
//!
//! ```text
//! retries: u32 = whole(0..=9).default(3),
//! ```
//!
//! [`source`] gathers the values, [`table`] makes sections of them, [`value`] says what each may be, and [`mod@secret`] is
//! the kind that is never shown. A section is a `section!` and a field of the section that holds it: `nested()` for
//! `[a.b]`, `list()` for `[[a]]`.

mod conflicts;
pub mod cors;
pub mod identity;
pub mod mail;
mod names;
pub mod secret;
pub mod source;
pub mod table;
pub mod value;
pub mod warnings;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use crate::domain::item::MAX_ITEMS;
use crate::domain::rate::{LimitsPolicy, Rate};
use crate::domain::session::SessionPolicy;
use crate::domain::user::COSTS;
use crate::system::memory;

pub(crate) use names::header;
pub use source::{ConfigError, Origin, Setting, Settings};

use cors::origins;
use identity::{
    AndroidApp, PRESETS, Preset, android_apps, apple_apps, domain, passkey_origins, provider_address, provider_name,
    return_addresses, texts,
};
use mail::{ENCRYPTIONS, Encryption, Sender, TRANSPORTS, Transport, choice, prefixes, public_url, sender, text};
use secret::{Secret, secret};
use table::{list, nested, optional, section};
use value::{address, boolean, file, folder, networks, rate, seconds, size, threads, time, time_or, whole};

section! {
    "" =>
    /// Everything that can be configured.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Config {
        server: ServerConfig = nested(),
        database: DatabaseConfig = nested(),
        password: PasswordConfig = nested(),
        tokens: SessionPolicy = nested(),
        lists: ListsConfig = nested(),
        cors: CorsConfig = nested(),
        backup: BackupConfig = nested(),
        rate_limit: LimitsPolicy = nested(),
        events: EventsConfig = nested(),
        accounts: AccountsConfig = nested(),
        mail: MailConfig = nested(),
        sealing: SealingConfig = nested(),
        passkeys: PasskeysConfig = nested(),
        identities: IdentitiesConfig = nested(),
        outbound: OutboundConfig = nested(),
        metrics: MetricsConfig = nested(),
        provider: Vec<ProviderConfig> = list(),
    }
}

section! {
    "server" =>
    /// The listener, and the limits of a connection.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ServerConfig {
        listen: SocketAddr = address(8000).default("127.0.0.1:8000"),
        public_url: Option<String> = optional(public_url()),
        name: String = text().default("authtokens"),
        workers: NonZeroUsize = threads(half_of_the_cores),
        body_limit: ByteSize = size("1 KiB"..="64 MiB", "1 MiB").default("1 MiB"),
        password_body_limit: ByteSize = size("1 KiB"..="64 MiB", "1 MiB").default("16 KiB"),
        body_budget: ByteSize = size("1 MiB"..="64 GiB", "32 MiB").default("32 MiB"),
        body_timeout: Duration = time("1ms"..="1day", "30s").default("30s"),
        header_timeout: Duration = time("1ms"..="1day", "30s").default("10s"),
        keep_alive: Duration = time("1ms"..="1day", "30s").default("75s"),
        drain: Duration = seconds("0s"..="10min").default("0s"),
        shutdown_timeout: Duration = seconds("1s"..="1h").default("30s"),
        max_connections: usize = whole(1..=1_000_000).default(4096),
        trusted_proxies: Vec<IpNet> = networks().default([]),
    }
}

section! {
    "database" =>
    /// The store and how it is used: a SQLite file, or PostgreSQL where a URL is given.
    #[derive(Clone, PartialEq, Eq)]
    pub struct DatabaseConfig {
        path: PathBuf = file().default("data/authtokens.db"),
        url: Option<Secret> = optional(secret()),
        ca_file: Option<PathBuf> = optional(file()),
        connections: usize = whole(2..=1_000).default(10),
        readers: u32 = whole(1..=64).default(4),
        busy_timeout: Duration = time("0s"..="1min", "2s").default("2s"),
        cache: ByteSize = size("0 B"..="64 GiB", "64 MiB").or("auto", usual_cache).default("auto"),
        keep_before_upgrade: bool = boolean().default(true),
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

section! {
    "password" =>
    /// How passwords are hashed and what is asked of them.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PasswordConfig {
        bcrypt_cost: u32 = whole(COSTS).default(12),
        hash_threads: NonZeroUsize = threads(cores),
        hash_queue: usize = whole(1..=100_000).default(64),
        min_length: usize = whole(1..=1024).default(1),
        reject_common: bool = boolean().default(false),
    }
}

section! {
    "tokens" => SessionPolicy {
        // At least 5 min, because a last use is stored once a minute: a shorter timeout could end a session in use.
        lifetime = time_or("never", "5min"..="36500days", "30d").default("365d"),
        idle_timeout = time_or("never", "5min"..="36500days", "30d").default("30d"),
        max_per_user = whole(1..=SessionPolicy::HIGHEST_MAX_PER_USER).default(100),
    }
}

section! {
    "lists" =>
    /// What a list may hold.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ListsConfig {
        max_items: usize = whole(1..=MAX_ITEMS).default(10_000),
    }
}

section! {
    "cors" =>
    /// Which pages may call the API.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CorsConfig {
        origins: Vec<String> = origins().default(["*"]),
    }
}

section! {
    "backup" =>
    /// Backups that the server makes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BackupConfig {
        every: Option<Duration> = time_or("off", "1min"..="365days", "1day").default("off"),
        keep: usize = whole(1..=10_000).default(7),
        folder: PathBuf = folder().default_beside("database.path", "backups"),
    }
}

section! {
    "rate_limit" => LimitsPolicy {
        enabled = boolean().default(true),
        register = rate().default("20 per 1h"),
        login = rate().default("30 per 1min"),
        introspect = rate().default("60000 per 1min"),
    }
}

section! {
    "events" =>
    /// How long security events are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventsConfig {
        retention: Duration = time("1h"..="36500days", "90d").default("90d"),
        max: u64 = whole(1_000..=1_000_000_000).default(1_000_000),
    }
}

section! {
    "accounts" =>
    /// What accounts may do by means of mail.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AccountsConfig {
        require_verified_email: bool = boolean().default(false),
        login_by_mail: bool = boolean().default(false),
        staff_set_passwords: bool = boolean().default(false),
    }
}

section! {
    "mail" =>
    /// How mail is sent.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MailConfig {
        transport: Transport = choice(TRANSPORTS).default("off"),
        from: Option<Sender> = optional(sender()),
        folder: PathBuf = folder().default_beside("database.path", "mail"),
        templates: Option<PathBuf> = optional(folder()),
        app_links: Vec<String> = prefixes().default([]),
        limit: Rate = rate().default("1000 per 1h"),
        sign_in_notices: bool = boolean().default(true),
        smtp: SmtpConfig = nested(),
    }
}

section! {
    "mail.smtp" =>
    /// The mail server.
    #[derive(Clone, PartialEq, Eq)]
    pub struct SmtpConfig {
        host: Option<String> = optional(text()),
        port: Option<u16> = whole(1..=65535).or_none("auto").default("auto"),
        tls: Encryption = choice(ENCRYPTIONS).default("tls"),
        ca_file: Option<PathBuf> = optional(file()),
        user: Option<String> = optional(text()),
        password: Option<Secret> = optional(secret()),
        timeout: Duration = time("1s"..="5min", "30s").default("30s"),
    }
}

impl fmt::Debug for SmtpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpConfig").finish_non_exhaustive()
    }
}

section! {
    "sealing" =>
    /// The key that stored secrets are sealed with.
    #[derive(Clone, PartialEq, Eq)]
    pub struct SealingConfig {
        key: Option<Secret> = optional(secret()),
    }
}

impl fmt::Debug for SealingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingConfig").finish_non_exhaustive()
    }
}

section! {
    "passkeys" =>
    /// What passkeys are made for, and the apps that use them.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PasskeysConfig {
        rp_id: Option<String> = optional(domain()),
        origins: Vec<String> = passkey_origins().default([]),
        apple_apps: Vec<String> = apple_apps().default([]),
        android_apps: Vec<AndroidApp> = android_apps().default([]),
    }
}

section! {
    "identities" =>
    /// What logins by providers of identities may do.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IdentitiesConfig {
        register: bool = boolean().default(true),
        return_to: Vec<String> = return_addresses().default([]),
    }
}

section! {
    "outbound" =>
    /// Which private networks the service may connect to by HTTP.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OutboundConfig {
        allow: Vec<IpNet> = networks().default([]),
        timeout: Duration = time("1s"..="1min", "10s").default("10s"),
    }
}

section! {
    "provider" =>
    /// A provider of identities.
    #[derive(Clone, PartialEq, Eq)]
    pub struct ProviderConfig {
        name: String = provider_name(),
        preset: Preset = choice(PRESETS).default("none"),
        label: Option<String> = optional(text()),
        issuer: Option<String> = optional(provider_address()),
        client_ids: Vec<String> = texts("a list of the ids that the provider has given to your apps"),
        client_secret: Option<Secret> = optional(secret()),
        scopes: Vec<String> = texts("a list of scopes").default(["openid", "email"]),
        trust_email: bool = boolean().default(false),
        require_nonce: bool = boolean().default(false),
        apple_team: Option<String> = optional(text()),
        apple_key_id: Option<String> = optional(text()),
        apple_key: Option<Secret> = optional(secret()),
        test_address: Option<String> = optional(provider_address()),
    }
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

section! {
    "metrics" =>
    /// The metrics listener.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MetricsConfig {
        listen: Option<SocketAddr> = address(9100).or_none("off").default("off"),
    }
}

impl Config {
    /// Reads what was gathered.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that is invalid, or a name that is unknown.
    pub fn from_settings(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self::explain(settings)?.0)
    }

    /// Reads what was gathered, and lists every setting with its value and its origin.
    ///
    /// # Errors
    /// See [`Config::from_settings`].
    pub fn explain(settings: Settings) -> Result<(Self, Vec<Setting>), ConfigError> {
        let (config, settings): (Self, _) = settings.read()?;
        config.check_mail()?;
        config.check_database(&settings)?;
        config.check_providers()?;
        config.check_passkeys()?;
        Ok((config, settings))
    }
}

impl CorsConfig {
    /// Whether pages of every origin may call.
    #[must_use]
    pub fn any_origin(&self) -> bool {
        self.origins == ["*"]
    }
}

/// An eighth of the machine's memory, from 64 MiB to 1 GiB: enough for ninety thousand to more than a million sessions.
fn usual_cache() -> ByteSize {
    an_eighth_of(memory::available())
}

fn an_eighth_of(memory: Option<u64>) -> ByteSize {
    ByteSize(memory.unwrap_or_default() / 8).clamp(ByteSize::mib(64), ByteSize::gib(1))
}

fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Half of the cores, and at least one. The others are for the proxy in front, the writer and the hashing threads.
fn half_of_the_cores() -> NonZeroUsize {
    NonZeroUsize::new(cores().get() / 2).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use toml::de::{DeTable, DeValue};

    use super::value::Show as _;
    use super::*;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        settings.add_file(Path::new("config.toml"), text)?;
        Ok(settings)
    }

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        Config::from_settings(settings(text)?)
    }

    fn from_variable(name: &str, value: &str) -> Result<Config, ConfigError> {
        let nowhere = tempfile::NamedTempFile::new().unwrap();
        let variables = [(name.to_owned(), value.into())];
        Config::from_settings(Settings::gather(Some(nowhere.path()), variables, [])?)
    }

    #[test]
    fn the_shipped_file_lists_every_key_at_its_default_in_the_order_in_which_they_are_shown() {
        let shipped = include_str!("../../config.toml");
        assert_eq!(from_text(shipped).unwrap(), from_text("").unwrap());

        // A setting without a default is commented out with a `#` alone: its value is an example.
        let is_example = |after: &&str| after.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
        let uncomment = |line| str::strip_prefix(line, "#").filter(is_example).unwrap_or(line);
        let whole = shipped.lines().map(uncomment).collect::<Vec<_>>().join("\n");
        let mut listed = Vec::new();
        list("", DeTable::parse(&whole).unwrap().get_ref(), &mut listed);
        listed.sort();
        // Together the examples are in conflict.
        let (_, known): (Config, _) = settings(&whole).unwrap().read().unwrap();
        let known: Vec<_> = known.iter().map(Setting::name).collect();
        let listed: Vec<_> = listed.into_iter().map(|(_, name)| name).collect();
        assert_eq!(listed, known);
    }

    /// Lists the names of all settings of a file, with their positions in it.
    fn list(section: &str, table: &DeTable<'_>, listed: &mut Vec<(usize, String)>) {
        for (key, value) in table {
            let name = format!("{section}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(table) => list(&format!("{name}."), table, listed),
                DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                    for table in items.iter().filter_map(|item| item.get_ref().as_table()) {
                        list(&format!("{name}."), table, listed);
                    }
                }
                _ => listed.push((key.span().start, name)),
            }
        }
    }

    #[test]
    fn the_file_for_a_service_is_right_and_has_no_path_that_depends_on_the_working_folder() {
        let config = from_text(include_str!("../../deploy/config.toml")).unwrap();
        assert!(config.database.path.is_absolute() && config.backup.folder.is_absolute());
        assert_eq!(config.backup.folder, config.database.path.with_file_name("backups"));
        assert_eq!(config.server.trusted_proxies.show(), serde_json::json!(["127.0.0.1/32"]));
    }

    #[test]
    fn a_network_of_ipv4_addresses_in_their_ipv6_form_is_the_ipv4_network() {
        let proxies = |text: &str| from_text(&format!("[server]\ntrusted_proxies = [\"{text}\"]"));
        for (text, network) in [
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            let shown = proxies(text).unwrap().server.trusted_proxies.show();
            assert_eq!(shown, serde_json::json!([network]), "{text}");
        }
        assert!(proxies("::ffff:10.0.0.0/95").is_err());
    }

    #[test]
    fn a_variable_with_nearly_the_name_of_a_setting_is_refused_and_others_are_nobodys_concern() {
        for wrong in
            ["AUTHTOKENS_SERVER__LISTEN", "AUTHTOKENS_LISTEN", "AUTHTOKENS_CONFIG_FILE", "AUTHTOKENS_", "AUTHTOKENS__"]
        {
            assert_eq!(
                from_variable(wrong, "x").unwrap_err().to_string(),
                format!(
                    "environment variable {wrong}: a setting is given as AUTHTOKENS__SECTION__KEY, and the file as \
                     AUTHTOKENS_CONFIG"
                )
            );
        }
        for other in ["AUTHTOKENS", "AUTHTOKENSX"] {
            from_variable(other, "x").unwrap();
        }
    }

    #[test]
    fn what_kubernetes_tells_of_services_with_our_name_is_nobodys_concern() {
        for service in ["AUTHTOKENS", "AUTHTOKENS_METRICS", "AUTHTOKENS_2_READ_ONLY"] {
            for (end, value) in [
                ("SERVICE_HOST", "10.0.0.1"),
                ("SERVICE_PORT", "9100"),
                ("SERVICE_PORT_HTTP", "9100"),
                ("PORT", "tcp://10.0.0.1:9100"),
                ("PORT_9100_TCP", "tcp://10.0.0.1:9100"),
                ("PORT_9100_TCP_PROTO", "tcp"),
                ("PORT_9100_TCP_PORT", "9100"),
                ("PORT_9100_TCP_ADDR", "10.0.0.1"),
            ] {
                from_variable(&format!("{service}_{end}"), value).unwrap();
            }
        }
        for (wrong, value) in [("AUTHTOKENS_SERVER_PORT", "9100"), ("AUTHTOKENS_SERVER__PORT", "tcp://10.0.0.1:9100")] {
            assert!(from_variable(wrong, value).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variable_replaces_the_file_and_a_flag_replaces_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[password]\nbcrypt_cost = 5\nhash_queue = 6\nmin_length = 7\n").unwrap();
        let variables = [
            ("AUTHTOKENS__PASSWORD__HASH_QUEUE".to_owned(), "8".into()),
            ("AUTHTOKENS__PASSWORD__MIN_LENGTH".to_owned(), "9".into()),
            ("UNRELATED".to_owned(), "x".into()),
        ];
        let flags = [("--min-length", "password", "min_length", "10".to_owned())];
        let config = Config::from_settings(Settings::gather(Some(file.path()), variables, flags).unwrap()).unwrap();
        assert_eq!(config.password.bcrypt_cost, 5);
        assert_eq!(config.password.hash_queue, 8);
        assert_eq!(config.password.min_length, 10);
    }

    /// Whether this is the whole sentence; of one that ends in a list, the beginning.
    fn is_said(said: &str, sentence: &str) -> bool {
        said == sentence || (sentence.ends_with(", ") && said.starts_with(sentence))
    }

    #[test]
    fn an_unknown_key_a_wrong_type_or_an_impossible_value_is_one_sentence_that_names_the_source() {
        for (text, sentence) in [
            (
                "[server]\n\nlisten_on = 1",
                "config.toml line 3: there is no setting server.listen_on; [server] has listen, public_url, name, workers, ",
            ),
            (
                "[sever]\nlisten = 1",
                "config.toml line 2: there is no setting sever.listen; did you mean server.listen? The sections are server, database, ",
            ),
            (
                "[password]\nbcrypt_cost = 3",
                "config.toml line 2: password.bcrypt_cost must be a whole number from 4 to 16",
            ),
            (
                "[password]\nbcrypt_cost = \"12\"",
                "config.toml line 2: password.bcrypt_cost must be a whole number from 4 to 16",
            ),
            (
                "[cors]\norigins = [\"*\", \"https://a.example\"]",
                "config.toml line 2: cors.origins must be [\"*\"] or a list of origins such as \"https://app.example.org\"",
            ),
            (
                "[cors]\norigins = [\"https://a.example\", \"https://App.example:443/\"]",
                "config.toml line 2: cors.origins must be [\"*\"] or a list of origins such as \"https://app.example.org\"; \
                 a browser sends \"https://app.example\", not \"https://App.example:443/\"",
            ),
            (
                "[sever]\n",
                "config.toml line 1: there is no setting sever; did you mean server? The sections are server, database, ",
            ),
            (
                "[metrics]\nlisten = \"9100\"",
                "config.toml line 2: metrics.listen must be \"off\" or an address and a port such as \"127.0.0.1:9100\", for \
                 which \":9100\" and \"localhost:9100\" are short; no other name is looked up",
            ),
            ("listen = 1", "config.toml line 1: a setting must stand in a section such as [server]"),
        ] {
            let said = from_text(text).unwrap_err().to_string();
            assert!(is_said(&said, sentence), "{said}");
        }
        assert!(from_text("[server]\nlisten = ").unwrap_err().to_string().starts_with("config.toml line 2: "));
        for (name, value, sentence) in [
            (
                "AUTHTOKENS__SERVER__BODY_LIMIT",
                "a lot",
                "environment variable AUTHTOKENS__SERVER__BODY_LIMIT: server.body_limit must be a size from \"1 KiB\" to \"64 MiB\", such as \"1 MiB\"",
            ),
            (
                "AUTHTOKENS__SERVER",
                "x",
                "environment variable AUTHTOKENS__SERVER: there is no setting server; [server] has listen, public_url, name, workers, ",
            ),
        ] {
            let said = from_variable(name, value).unwrap_err().to_string();
            assert!(is_said(&said, sentence), "{said}");
        }
    }

    #[test]
    fn a_port_alone_and_one_of_localhost_is_on_the_loopback_address() {
        let listen = |text: &str| from_variable("AUTHTOKENS__SERVER__LISTEN", text).map(|config| config.server.listen);
        for text in ["127.0.0.1:8001", ":8001", "localhost:8001"] {
            assert_eq!(listen(text).unwrap(), SocketAddr::from(([127, 0, 0, 1], 8001)), "{text}");
            let metrics = from_text(&format!("[metrics]\nlisten = {text:?}")).unwrap().metrics.listen;
            assert_eq!(metrics, Some(SocketAddr::from(([127, 0, 0, 1], 8001))), "{text}");
        }
        assert_eq!(listen("[::]:8001").unwrap(), "[::]:8001".parse().unwrap());
        for wrong in
            ["8001", "localhost", ":", ":+80", ":65536", "::1:80", "localhosts:80", "example.org:80", "*:80", ""]
        {
            let said = listen(wrong).unwrap_err().to_string();
            assert!(said.ends_with("\"localhost:8000\" are short; no other name is looked up"), "{wrong}: {said}");
        }
    }

    #[test]
    fn backups_are_off_or_made_every_minute_to_every_year() {
        let config = from_text("[backup]\nevery = \"1day\"\nkeep = 1\nfolder = \"/mnt/backups\"").unwrap();
        let expected =
            BackupConfig { every: Some(Duration::from_secs(86_400)), keep: 1, folder: PathBuf::from("/mnt/backups") };
        assert_eq!(config.backup, expected);
        assert_eq!(from_variable("AUTHTOKENS__BACKUP__EVERY", "off").unwrap().backup.every, None);
        for bad in
            ["every = \"59s\"", "every = \"366days\"", "every = false", "keep = 0", "keep = 10001", "folder = \"\""]
        {
            assert!(from_text(&format!("[backup]\n{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_setting_is_shown_as_it_reads_back_and_with_where_it_was_given() {
        let text = "[server]\nlisten = \"[::1]:1\"\nbody_limit = 1025\nbody_timeout = \"1m 30s\"\nkeep_alive = \"1500us\"\n\
            trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n[database]\nbusy_timeout = \"0s\"\npath = \"a\\\"b\"\n\
            [tokens]\nlifetime = \"never\"\n[backup]\nevery = \"1day\"\n[rate_limit]\nlogin = \"3 per 90s\"";
        let mut settings = Settings::default();
        settings.add_file(Path::new("config.toml"), text).unwrap();
        let (config, shown) = Config::explain(settings).unwrap();
        let toml: String = shown
            .iter()
            .filter(|one| !one.value.is_null())
            .fold(String::new(), |toml, one| toml + &format!("{}.{} = {}\n", one.section, one.key, one.value));
        assert_eq!(from_text(&toml).unwrap(), config, "{toml}");
        let of = |section, key| shown.iter().find(|one| (one.section, one.key) == (section, key)).unwrap();
        assert_eq!(of("server", "workers").value, "auto", "and not the number of this machine's cores");
        assert_eq!(of("backup", "folder").value, "backups", "beside the database");
        assert_eq!(of("server", "body_limit").value, "1025 B");
        assert_eq!(of("server", "body_timeout").value, "90s");
        assert_eq!(of("tokens", "lifetime").value, "never");
        let origin = of("server", "body_limit").origin.clone().unwrap();
        assert_eq!(origin.to_string(), "config.toml line 3");
        assert_eq!(of("server", "shutdown_timeout").origin, None);
    }

    #[test]
    fn the_cache_is_an_eighth_of_the_memory_within_bounds() {
        for (memory, cache) in [(None, 64), (Some(256), 64), (Some(1024), 128), (Some(4096), 512), (Some(65_536), 1024)]
        {
            assert_eq!(an_eighth_of(memory.map(|mib| mib << 20)), ByteSize::mib(cache), "{memory:?}");
        }
        assert_eq!(from_text("[database]\ncache = \"0 B\"").unwrap().database.cache, ByteSize::b(0));
        assert!(from_text("[database]\ncache = \"all\"").is_err());
    }

    #[test]
    fn sizes_and_times_are_written_as_people_write_them() {
        let config =
            from_text("[server]\nbody_limit = \"512 KiB\"\nkeep_alive = \"2m 30s\"\nbody_timeout = \"250ms\"").unwrap();
        assert_eq!(config.server.body_limit, ByteSize::kib(512));
        assert_eq!(config.server.keep_alive, Duration::from_secs(150));
        assert_eq!(config.server.body_timeout, Duration::from_millis(250));
        for nonsense in ["\"1 mile\"", "\"-1s\"", "\"0s\"", "\"400days\"", "30"] {
            assert!(from_text(&format!("[server]\nkeep_alive = {nonsense}")).is_err(), "{nonsense}");
        }
    }
}
