//! The URL of the database: what of it is PostgreSQL's own, and what is ours: `sslmode` and `sslrootcert`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use crate::config::secret::Secret;

/// How long each host may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long a sent byte may stay without acknowledgement, and how often a silent connection is probed.
const UNACKNOWLEDGED_FOR: Duration = Duration::from_secs(3);

/// Why a URL cannot be used. No message shows anything of it but the names of its parameters: it holds a password.
#[derive(Debug, Error)]
pub enum UrlError {
    /// It has another form.
    #[error("database.url must be postgres://user:password@host/database, with %XX for special characters: {0}")]
    Form(String),
    /// It asks for less than what is safe.
    #[error(
        "database.url has sslmode={0}, which does not check whom it talks to: it must be verify-full, or disable where the \
         network is trusted"
    )]
    Unsafe(String),
    /// A file of authorities is named twice, or without TLS.
    #[error("database.url has sslrootcert, and {0}")]
    Authorities(&'static str),
}

/// Where the database is, and how it is reached.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    /// Whether TLS is used, and verified in full.
    pub(super) tls: bool,
    /// The authorities that are trusted: this file's, or the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// The hosts and the database, for messages.
    pub(super) shown: String,
}

impl Address {
    pub(super) fn parse(url: &str, ca_file: Option<PathBuf>) -> Result<Self, UrlError> {
        let form = |why: &str| UrlError::Form(why.to_owned());
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(form("it begins otherwise"));
        }
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.to_owned()),
                Some(("sslrootcert", value)) => {
                    let decoded =
                        percent_decoded(value).ok_or_else(|| form("sslrootcert has %XX that is not UTF-8"))?;
                    root = Some(decoded).filter(|file| file != "system").map(PathBuf::from);
                }
                _ => rest.push(pair),
            }
        }
        let stripped = if rest.is_empty() { address.to_owned() } else { format!("{address}?{}", rest.join("&")) };
        let mut config: Config = stripped.parse().map_err(|error: tokio_postgres::Error| {
            // The source alone: it names a parameter, and shows no value.
            UrlError::Form(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        if config.get_hosts().is_empty() {
            return Err(form("it names no host"));
        }
        // Behind an @ in a password that is not written as %40 the rest of it would pass for a host, and be shown.
        if !config.get_hosts().iter().all(is_host) {
            return Err(form("a host's name has characters that none has"));
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(form("it names no user"));
        }
        let tls = match mode.as_deref() {
            // `require` is what managed services show. It is verified all the same.
            Some("verify-full" | "require") => true,
            Some("disable") => false,
            Some(other @ ("allow" | "prefer" | "verify-ca")) => return Err(UrlError::Unsafe(other.to_owned())),
            Some(_) => return Err(form("sslmode must be verify-full or disable")),
            None => !config.get_hosts().iter().all(is_here),
        };
        if root.is_some() && ca_file.is_some() {
            return Err(UrlError::Authorities("database.ca_file is given: leave one of the two"));
        }
        if !tls && root.is_some() {
            return Err(UrlError::Authorities("no sslmode=verify-full"));
        }
        if !tls && ca_file.is_some() {
            return Err(form("database.ca_file is given, and without sslmode=verify-full nothing is checked with it"));
        }
        config
            .ssl_mode(if tls { SslMode::Require } else { SslMode::Disable })
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .load_balance_hosts(LoadBalanceHosts::Random)
            .keepalives(true)
            .keepalives_idle(UNACKNOWLEDGED_FOR)
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(2)
            .tcp_user_timeout(UNACKNOWLEDGED_FOR);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WITHIN);
        }
        if config.get_application_name().is_none() {
            config.application_name("authtokens");
        }
        let shown = describe(&config);
        Ok(Self { config, tls, ca_file: root.or(ca_file), shown })
    }

    /// The hosts that are reached by the network.
    pub(super) fn hosts(&self) -> Vec<String> {
        let name = |host: &Host| match host {
            Host::Tcp(name) => Some(name.clone()),
            #[cfg(unix)]
            Host::Unix(_) => None,
        };
        self.config.get_hosts().iter().filter_map(name).collect()
    }
}

/// The hosts and the database of a URL, for messages.
pub(in crate::repository) fn shown(url: &Secret) -> String {
    Address::parse(url.expose(), None).map_or_else(|_| "PostgreSQL".to_owned(), |address| address.shown)
}

/// The hosts of a URL that are reached by the network.
pub(in crate::repository) fn hosts(url: &Secret) -> Vec<String> {
    Address::parse(url.expose(), None).map_or_else(|_| Vec::new(), |address| address.hosts())
}

/// Whether it can be a host's name or address.
fn is_host(host: &Host) -> bool {
    match host {
        #[cfg(unix)]
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || ['.', '-', '_', ':', '%'].contains(&c))
        }
    }
}

/// Whether a host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        #[cfg(unix)]
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
    }
}

fn describe(config: &Config) -> String {
    let hosts: Vec<_> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(number, host)| {
            let ports = config.get_ports();
            let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(folder) => format!("{}:{port}", folder.display()),
            }
        })
        .collect();
    format!("PostgreSQL at {}/{}", hosts.join(","), config.get_dbname().or(config.get_user()).unwrap_or_default())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'%' {
            let hex = std::str::from_utf8(behind.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &behind[2..];
        } else {
            bytes.push(byte);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, UrlError> {
        Address::parse(url, None)
    }

    #[test]
    fn tls_is_verified_in_full_unless_every_host_is_this_machine_or_it_is_disabled() {
        for (url, tls) in [
            ("postgres://a:b@db.example/d", true),
            ("postgresql://a:b@db.example,localhost/d", true),
            ("postgres://a:b@localhost/d", false),
            ("postgres://a:b@127.0.0.1:5433,[::1]:5434/d", false),
            ("postgres://a@%2Frun%2Fpostgresql/d", false),
            ("postgres:///d?host=/run/postgresql&user=a", false),
            ("postgres://a:b@db.example/d?sslmode=disable", false),
            ("postgres://a:b@localhost/d?sslmode=verify-full", true),
            ("postgres://a:b@localhost/d?sslmode=require&connect_timeout=5", true),
        ] {
            assert_eq!(parse(url).ok().map(|address| address.tls), Some(tls), "{url}");
        }
        for mode in ["prefer", "allow", "verify-ca"] {
            let refused = parse(&format!("postgres://a:b@db.example/d?sslmode={mode}"));
            assert!(matches!(refused, Err(UrlError::Unsafe(_))), "{mode}");
        }
    }

    #[test]
    fn nothing_of_a_url_but_its_hosts_is_shown() {
        let address = parse("postgres://user:s3cret@db1.example:5433,db2.example/data").unwrap();
        assert_eq!(address.shown, "PostgreSQL at db1.example:5433,db2.example:5432/data");
        for url in [
            "mysql://user:s3cret@db/d",
            "postgres://user:s3cret@db:port/d",
            "postgres://user:s3cret@db/d?wrong=s3cret",
            "postgres://user:s3cret@db/d?connect_timeout=s3cret",
            "postgres://user:s3cret@db/d?sslrootcert=%ff",
            "postgres://user:a@s3cret@db/d",
            "postgres://user:a@db/d?sslmode=s3cret",
            "postgres://:s3cret@db/d",
            "postgres://user:s3cret@/d",
        ] {
            let told = parse(url).err().expect(url).to_string();
            assert!(!told.contains("s3") && !told.contains("cret"), "{told}");
        }
    }

    #[test]
    fn the_authorities_are_named_once_and_with_tls() {
        let address = parse("postgres://a@db.example/d?sslrootcert=/etc/ca%20x.pem").unwrap();
        assert_eq!(address.ca_file, Some(PathBuf::from("/etc/ca x.pem")));
        let twice = Address::parse("postgres://a@db.example/d?sslrootcert=/a", Some("/b".into()));
        assert!(matches!(twice, Err(UrlError::Authorities(_))));
        assert!(matches!(parse("postgres://a@localhost/d?sslrootcert=/a"), Err(UrlError::Authorities(_))));
        assert_eq!(parse("postgres://a@db.example/d?sslrootcert=system").unwrap().ca_file, None);
    }
}
