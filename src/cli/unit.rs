//! The systemd unit that the service is installed by, read for one question: does its sandbox let the service do what the
//! configuration asks for? A mail server or a database on another machine, or a folder outside of the state directory fails only when it
//! is used, and then without a word of the sandbox.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;

use crate::cli::context::CommandError;
use crate::config::Config;
use crate::config::mail::Transport;
use crate::repository::open;
use crate::system::small_file;

/// Where a unit is installed, in the order in which systemd looks.
const INSTALLED: [&str; 3] = [
    "/etc/systemd/system/authtokens.service",
    "/usr/local/lib/systemd/system/authtokens.service",
    "/usr/lib/systemd/system/authtokens.service",
];

/// Who answers for names.
const RESOLVERS: &str = "/etc/resolv.conf";

/// A server on the network that the configuration names.
struct Peer {
    /// Who needs it.
    who: &'static str,
    /// What it is in a sentence.
    server: &'static str,
    host: String,
}

/// The servers that the configuration names.
fn peers(config: &Config) -> Vec<Peer> {
    let mail = config.mail.smtp.host.clone().filter(|_| config.mail.transport == Transport::Smtp);
    let mail = mail.map(|host| Peer { who: "mail", server: "the mail server", host });
    let databases = open::hosts(&config.database).into_iter();
    let databases = databases.map(|host| Peer { who: "PostgreSQL", server: "the database server", host });
    mail.into_iter().chain(databases).collect()
}

/// The settings of a unit's section `[Service]`, each with its values in their order.
#[derive(Debug, Default)]
struct Unit(BTreeMap<String, Vec<String>>);

/// Compares the unit with the configuration. Returns which unit that was; `None` where none is installed.
///
/// # Errors
/// [`CommandError::Unit`] with what the unit forbids.
pub(super) fn check(file: Option<&Path>, config: &Config) -> Result<Option<PathBuf>, CommandError> {
    let installed = || INSTALLED.iter().map(Path::new).find(|path| path.exists());
    let Some(file) = file.or_else(installed) else { return Ok(None) };
    let shown = || file.display().to_string();
    let unit = Unit::read(file).map_err(|source| CommandError::UnreadableUnit { unit: shown(), source })?;
    let forbidden: Vec<_> = unit.of_the_network(config).into_iter().chain(unit.of_paths(config)).collect();
    if forbidden.is_empty() {
        return Ok(Some(file.to_owned()));
    }
    Err(CommandError::Unit { unit: shown(), why: forbidden.join("; ") })
}

impl Unit {
    /// Reads a unit and its drop-ins.
    fn read(file: &Path) -> io::Result<Self> {
        let mut unit = Self::default();
        unit.add(&read(file)?);
        let mut folder = file.as_os_str().to_owned();
        folder.push(".d");
        let mut drop_ins = match fs::read_dir(Path::new(&folder)) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        drop_ins.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        drop_ins.sort_unstable();
        for path in drop_ins {
            unit.add(&read(&path)?);
        }
        Ok(unit)
    }

    /// Adds the settings of a file: systemd.syntax(7). An empty value takes those before it away.
    fn add(&mut self, text: &str) {
        let mut is_ours = false;
        let text = text.replace("\\\n", " ");
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if line.starts_with('[') {
                is_ours = line == "[Service]";
            } else if let Some((name, value)) = line.split_once('=').filter(|_| is_ours) {
                let values = self.0.entry(name.trim().to_owned()).or_default();
                if value.trim().is_empty() {
                    values.clear();
                }
                values.extend(value.split_whitespace().map(|value| value.trim_matches('"').to_owned()));
            }
        }
    }

    fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The last value of a setting that has one.
    fn value(&self, name: &str) -> &str {
        self.values(name).last().map_or("", String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        ["yes", "true", "on", "1"].contains(&self.value(name).to_ascii_lowercase().as_str())
    }

    /// What of the network it forbids that mail or PostgreSQL needs.
    fn of_the_network(&self, config: &Config) -> Vec<String> {
        let mut forbidden: Vec<_> = peers(config).iter().flat_map(|peer| self.of_a_peer(peer)).collect();
        // Several hosts may be forbidden for one reason.
        forbidden.dedup();
        forbidden
    }

    fn of_a_peer(&self, Peer { who, server, host }: &Peer) -> Vec<String> {
        let mut forbidden = Vec::new();
        let families = self.values("RestrictAddressFamilies");
        if let Some(first) = families.first() {
            let (is_denied, first) = first.strip_prefix('~').map_or((false, first.as_str()), |first| (true, first));
            let listed: Vec<_> = std::iter::once(first).chain(families[1..].iter().map(String::as_str)).collect();
            if ["AF_INET", "AF_INET6"].iter().all(|family| listed.contains(family) == is_denied) {
                forbidden.push(format!("RestrictAddressFamilies has neither AF_INET nor AF_INET6, which {who} needs"));
            }
        }
        if self.is_on("PrivateNetwork") {
            forbidden.push(format!("PrivateNetwork is on, so that {server} is not reached"));
        }
        // Without a list of what is denied, nothing is; and what is allowed goes before it.
        if self.values("IPAddressDeny").is_empty() || self.values("IPAddressAllow").iter().any(|all| all == "any") {
            return forbidden;
        }
        let remedy = "allow it with IPAddressAllow, as the drop-in deploy/mail.conf does";
        match (host.as_str(), 0).to_socket_addrs() {
            Ok(found) => {
                let denied = found.map(|address| address.ip().to_canonical()).find(|address| !self.allows(*address));
                if let Some(address) = denied {
                    forbidden.push(format!("{server} {host} is at {address}, which IPAddressDeny denies; {remedy}"));
                }
            }
            Err(error) => forbidden.push(format!(
                "the address of {server} {host} is not found ({error}), so nobody can say whether IPAddressDeny denies it"
            )),
        }
        let is_name = host.parse::<IpAddr>().is_err() && !host.eq_ignore_ascii_case("localhost");
        let resolvers = resolvers(&fs::read_to_string(RESOLVERS).unwrap_or_default());
        if is_name && !resolvers.is_empty() && !resolvers.iter().any(|address| self.allows(*address)) {
            forbidden.push(format!(
                "the name {host} is looked up at {}, as {RESOLVERS} has it, which IPAddressDeny denies; {remedy}",
                resolvers[0]
            ));
        }
        forbidden
    }

    /// Whether packets to an address pass: systemd.resource-control(5). What is allowed goes before what is denied.
    fn allows(&self, address: IpAddr) -> bool {
        let matches = |name| self.values(name).iter().any(|network| is_in(address, network));
        matches("IPAddressAllow") || !matches("IPAddressDeny")
    }

    /// Which files and folders of the configuration it hides or protects.
    fn of_paths(&self, config: &Config) -> Vec<String> {
        let folder = |path: &Path| path.parent().map_or_else(|| path.to_owned(), Path::to_owned);
        let mut written = Vec::new();
        if config.database.url.is_none() {
            written.push(("database.path", folder(&config.database.path)));
        }
        if config.backup.every.is_some() {
            written.push(("backup.folder", config.backup.folder.clone()));
        }
        if config.mail.transport == Transport::Folder {
            written.push(("mail.folder", config.mail.folder.clone()));
        }
        let read = [
            ("database.ca_file", &config.database.ca_file),
            ("mail.templates", &config.mail.templates),
            ("mail.smtp.ca_file", &config.mail.smtp.ca_file),
        ];
        let read = read.into_iter().filter_map(|(name, path)| Some((name, path.clone()?, false)));
        let written = written.into_iter().map(|(name, path)| (name, path, true));
        written
            .chain(read)
            .filter_map(|(name, path, is_written)| {
                let path = absolute(Path::new(self.value("WorkingDirectory").trim_start_matches('-')), &path);
                let why = self.hides(&path).or_else(|| self.protects(&path).filter(|_| is_written))?;
                Some(format!("{name} is {}, {why}", path.display()))
            })
            .collect()
    }

    fn hides(&self, path: &Path) -> Option<String> {
        let is_below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        let home = self.value("ProtectHome");
        if (self.is_on("ProtectHome") || home == "tmpfs") && is_below(&["/home", "/root", "/run/user"]) {
            return Some("which ProtectHome hides".to_owned());
        }
        if self.is_on("PrivateTmp") && is_below(&["/tmp", "/var/tmp"]) {
            return Some("and PrivateTmp gives the service folders of its own there".to_owned());
        }
        let mut hidden = self.values("InaccessiblePaths").iter();
        hidden.any(|hidden| path.starts_with(plain(hidden))).then(|| "which InaccessiblePaths hides".to_owned())
    }

    fn protects(&self, path: &Path) -> Option<String> {
        let states = [("StateDirectory", "/var/lib"), ("CacheDirectory", "/var/cache"), ("LogsDirectory", "/var/log")];
        let is_own = states
            .iter()
            .any(|(name, base)| self.values(name).iter().any(|folder| path.starts_with(Path::new(base).join(folder))));
        if is_own || self.values("ReadWritePaths").iter().any(|open| path.starts_with(plain(open))) {
            return None;
        }
        let protected: &[&str] = match self.value("ProtectSystem") {
            "strict" => &["/"],
            "full" => &["/usr", "/boot", "/efi", "/etc"],
            _ if self.is_on("ProtectSystem") => &["/usr", "/boot", "/efi"],
            _ => &[],
        };
        let is_protected = protected.iter().any(|folder| path.starts_with(folder));
        is_protected.then(|| "which ProtectSystem makes read-only; name it in ReadWritePaths".to_owned())
    }
}

/// Reads a file of a unit. A link to `/dev/null` stands for one that has nothing: systemd.unit(5).
fn read(file: &Path) -> io::Result<String> {
    if fs::canonicalize(file)? == Path::new("/dev/null") {
        return Ok(String::new());
    }
    String::from_utf8(small_file::read(file, small_file::ONE_MIB)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A path of a list in a unit, without its prefixes.
fn plain(path: &str) -> &Path {
    Path::new(path.trim_start_matches(['-', '+']))
}

/// A path as the service sees it, without `.` and `..`.
fn absolute(folder: &Path, path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            Component::Normal(part) => whole.push(part),
            _ => {}
        }
    }
    whole
}

/// Whether an address is in a network as a unit writes it.
fn is_in(address: IpAddr, network: &str) -> bool {
    match network {
        "any" => true,
        "localhost" => address.is_loopback(),
        "link-local" => contains("169.254.0.0/16", address) || contains("fe80::/64", address),
        "multicast" => address.is_multicast(),
        network => contains(network, address),
    }
}

/// Whether a network that is written as `10.0.0.0/8`, or a single address, has an address.
fn contains(network: &str, address: IpAddr) -> bool {
    let network = network.parse::<IpNet>().or_else(|_| network.parse::<IpAddr>().map(IpNet::from));
    network.is_ok_and(|network| network.contains(&address))
}

/// The addresses of the name servers that resolv.conf(5) has.
fn resolvers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|server| server.trim().split('%').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::config::mail::Encryption;

    fn config() -> Config {
        let mut config = Config::from_settings(Settings::default()).unwrap();
        config.database.path = "/var/lib/authtokens/authtokens.db".into();
        config.mail.transport = Transport::Smtp;
        config.mail.smtp.tls = Encryption::Tls;
        config.mail.smtp.host = Some("203.0.113.25".to_owned());
        config
    }

    fn shipped() -> Unit {
        let mut unit = Unit::default();
        unit.add(include_str!("../../deploy/authtokens.service"));
        unit
    }

    fn forbidden(unit: &Unit, config: &Config) -> Vec<String> {
        unit.of_the_network(config).into_iter().chain(unit.of_paths(config)).collect()
    }

    #[test]
    fn the_units_own_network_is_not_enough_for_a_mail_server_elsewhere_and_its_drop_in_is() {
        let mut unit = shipped();
        assert_eq!(
            forbidden(&unit, &config()),
            [
                "the mail server 203.0.113.25 is at 203.0.113.25, which IPAddressDeny denies; allow it with IPAddressAllow, as the \
                 drop-in deploy/mail.conf does"
            ]
        );
        let mut local = config();
        local.mail.smtp.host = Some("localhost".to_owned());
        assert_eq!(forbidden(&unit, &local), [""; 0]);
        unit.add("[Service]\nIPAddressAllow=203.0.113.0/24\n");
        assert_eq!(forbidden(&unit, &config()), [""; 0]);
        unit.add("[Service]\nIPAddressAllow=\n");
        assert_eq!(forbidden(&unit, &config()).len(), 1, "an empty value takes those before it away");
        unit.add(include_str!("../../deploy/mail.conf"));
        assert_eq!(forbidden(&unit, &config()), [""; 0]);
    }

    #[test]
    fn what_the_sandbox_takes_away_from_mail_is_told() {
        for (setting, sentence) in [
            ("RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX", "RestrictAddressFamilies has neither "),
            (
                "RestrictAddressFamilies=\nRestrictAddressFamilies=~AF_INET AF_INET6",
                "RestrictAddressFamilies has neither ",
            ),
            ("RestrictAddressFamilies=\nRestrictAddressFamilies=~AF_NETLINK", ""),
            ("PrivateNetwork=yes", "PrivateNetwork is on, "),
        ] {
            let mut unit = shipped();
            unit.add(&format!("[Service]\nIPAddressAllow=any\n{setting}\n[Install]\nPrivateNetwork=yes\n"));
            let told = forbidden(&unit, &config());
            assert_eq!(told.len(), usize::from(!sentence.is_empty()), "{told:?}");
            assert!(told.first().is_none_or(|told| told.starts_with(sentence)), "{told:?}");
        }
    }

    #[test]
    fn a_file_that_the_sandbox_hides_or_protects_is_told_with_its_setting() {
        let told = |change: &dyn Fn(&mut Config), more: &str| {
            let mut config = config();
            config.mail.smtp.host = Some("127.0.0.1".to_owned());
            change(&mut config);
            let mut unit = shipped();
            unit.add(&format!("[Service]\n{more}"));
            forbidden(&unit, &config)
        };
        assert_eq!(told(&|_| {}, ""), [""; 0]);
        assert_eq!(told(&|config| config.database.path = "data/authtokens.db".into(), ""), [""; 0]);
        assert_eq!(
            told(&|config| config.database.path = "../other/authtokens.db".into(), ""),
            ["database.path is /var/lib/other, which ProtectSystem makes read-only; name it in ReadWritePaths"]
        );
        let backups = |config: &mut Config| {
            config.backup.every = Some(std::time::Duration::from_secs(86_400));
            config.backup.folder = "/mnt/backups".into();
        };
        assert_eq!(told(&backups, "").len(), 1);
        assert_eq!(told(&backups, "ReadWritePaths=-/mnt/backups"), [""; 0]);
        assert_eq!(told(&backups, "ProtectSystem=full"), [""; 0]);
        assert_eq!(
            told(&|config| config.mail.smtp.ca_file = Some("/root/ca.pem".into()), ""),
            ["mail.smtp.ca_file is /root/ca.pem, which ProtectHome hides"]
        );
        assert_eq!(told(&|config| config.mail.smtp.ca_file = Some("/etc/ssl/ca.pem".into()), ""), [""; 0]);
        assert_eq!(
            told(&|config| config.mail.templates = Some("/tmp/templates".into()), ""),
            ["mail.templates is /tmp/templates, and PrivateTmp gives the service folders of its own there"]
        );
    }

    #[test]
    fn postgresql_needs_its_servers_and_no_folder_of_a_file() {
        let mut config = config();
        config.mail.transport = Transport::Off;
        config.database.path = "/mnt/none/authtokens.db".into();
        config.database.url = Some("postgres://a:s3cret@203.0.113.5,127.0.0.1/d".to_owned().into());
        let mut unit = shipped();
        let told = forbidden(&unit, &config);
        assert!(
            told.len() == 1 && told[0].starts_with("the database server 203.0.113.5 is at 203.0.113.5, "),
            "{told:?}"
        );
        unit.add("[Service]\nIPAddressAllow=203.0.113.0/24\n");
        assert_eq!(forbidden(&unit, &config), [""; 0]);
        config.database.ca_file = Some("/root/ca.pem".into());
        assert_eq!(forbidden(&unit, &config), ["database.ca_file is /root/ca.pem, which ProtectHome hides"]);
        config.database.url = Some("postgres:///d?host=/run/postgresql&user=a".to_owned().into());
        config.database.ca_file = None;
        unit.add("[Service]\nPrivateNetwork=yes\n");
        assert_eq!(forbidden(&unit, &config), [""; 0], "a socket in the file system is no network");
    }

    #[test]
    fn name_servers_are_read_as_the_system_reads_them() {
        let text = "# a comment\nsearch example.org\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\noptions edns0\n";
        assert_eq!(resolvers(text), ["127.0.0.53".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
    }
}
