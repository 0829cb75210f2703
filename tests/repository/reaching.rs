//! Reaching PostgreSQL over the network: with TLS and a password, and what is said where it is refused. A real server with
//! certificates of an authority of its own.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use authtokens::config::secret::Secret;
use authtokens::repository::Notices;
use authtokens::repository::postgres::{PostgresRepository, PostgresSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::cluster::{as_user, execute, find_programs, left_out, on, unprivileged};

const PASSWORD: &str = "correct-horse-s3cret";

/// How long a change of the server's settings may take to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A PostgreSQL that listens on a port, with TLS, and asks for passwords by SCRAM. It is trusted who comes by its socket.
struct Server {
    folder: TempDir,
    port: u16,
    /// Ends it when this process ends, however it does.
    guard: Child,
}

impl Server {
    fn start(programs: &Path, authority: &Authority) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.args([
            "-U",
            "owner",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "-E",
            "UTF8",
            "--no-sync",
            "-D",
        ]);
        initdb.arg("data").current_dir(folder.path()).env("LC_ALL", "C.UTF-8");
        let made = as_user(&mut initdb, user).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // SIGTERM ends it where it has only begun to start, and does not handle SIGQUIT yet.
        let script = "\"$1/postgres\" -D data -k \"$PWD\" -p \"$2\" -c listen_addresses=127.0.0.1 -c fsync=off \
             -c log_min_messages=fatal < /dev/null > log 2>&1 & server=$!; read line; kill -TERM $server; kill -QUIT $server; wait $server";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(programs).arg(port.to_string()).current_dir(folder.path());
        write_certificate(folder.path(), authority, &["localhost", "127.0.0.1"], false);
        // Not as options, which would win over what a test sets later.
        let mut settings = OpenOptions::new().append(true).open(folder.path().join("data/postgresql.conf")).unwrap();
        writeln!(settings, "ssl = on\nssl_cert_file = '../server.pem'\nssl_key_file = '../server.key'").unwrap();
        let guard = as_user(&mut shell, user).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let server = Self { folder, port, guard };
        let since = Instant::now();
        while let Err(error) = execute(&server.owner("postgres"), "SELECT 1") {
            assert!(since.elapsed() < Duration::from_secs(60), "PostgreSQL does not start: {error}");
            thread::sleep(Duration::from_millis(50));
        }
        server.set(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"));
        server.set("CREATE DATABASE data OWNER app");
        server
    }

    /// The URL by which its superuser comes in.
    fn owner(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port={}&user=owner", self.folder.path().display(), self.port)
    }

    fn set(&self, sql: &str) {
        execute(&self.owner("postgres"), sql).unwrap();
    }

    /// The service's URL, with what follows the port.
    fn url(&self, rest: &str) -> String {
        format!("postgres://app:{PASSWORD}@127.0.0.1:{}/{rest}", self.port)
    }

    fn certify(&self, authority: &Authority, names: &[&str], is_expired: bool) {
        write_certificate(self.folder.path(), authority, names, is_expired);
        self.set("SELECT pg_reload_conf()");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes the server's certificate and its key, which nobody else may read.
fn write_certificate(folder: &Path, authority: &Authority, names: &[&str], is_expired: bool) {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(names).unwrap();
    if is_expired {
        params.not_before = rcgen::date_time_ymd(2014, 1, 1);
        params.not_after = rcgen::date_time_ymd(2015, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    for (name, text, mode) in [("server.pem", certificate.pem(), 0o644), ("server.key", key.serialize_pem(), 0o600)] {
        // In one step: the server may read it at any time.
        let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            chown(file.path(), Some(uid), Some(gid)).unwrap();
        }
        file.persist(folder.join(name)).unwrap();
    }
}

fn open(url: &str, ca_file: Option<PathBuf>) -> Result<PostgresRepository, String> {
    let settings = PostgresSettings {
        url: Secret::from(url.to_owned()),
        ca_file,
        connections: 2,
        cache: 0,
        max_staleness: Duration::from_millis(100),
        notices: Notices::default(),
    };
    PostgresRepository::open(&settings).map_err(|error| {
        let told = error.to_string();
        assert!(!told.contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD), "{told}");
        assert!(!told.contains('\n'), "{told}");
        told
    })
}

/// Waits until it is refused with this sentence.
fn until_refused(url: &str, ca_file: &Path, why: &str) {
    let since = Instant::now();
    loop {
        let told = open(url, Some(ca_file.to_owned())).map(drop).err().unwrap_or_default();
        if told.ends_with(why) {
            return;
        }
        assert!(since.elapsed() < SEEN_WITHIN, "{why}, and not: {told}");
        thread::sleep(Duration::from_millis(100));
    }
}

// On an async thread, as at the start of the server.
#[tokio::test]
async fn tls_is_checked_in_full_and_what_is_wrong_with_it_is_said_in_a_sentence() {
    let Some(programs) = find_programs() else { return left_out("TLS to PostgreSQL") };
    let ours = authority("Ours");
    let server = Server::start(&programs, &ours);
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ours.pem()).unwrap();
    let url = server.url("data?sslmode=verify-full&channel_binding=require");

    let repository = open(&url, Some(ca_file.clone())).unwrap();
    let encrypted = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) \
         FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app'";
    let counts = || {
        on(&server.owner("postgres"), async |client| {
            let row = client.query_one(encrypted, &[]).await?;
            Ok((row.get::<_, i64>(0), row.get::<_, i64>(1)))
        })
        .unwrap()
    };
    let since = Instant::now();
    while counts().0 == 0 {
        assert!(since.elapsed() < SEEN_WITHIN, "nothing is connected");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(counts().1, 0, "nothing goes in clear");
    drop(repository);

    let untrusted = "its certificate is by an authority that is not trusted; name the authority's in database.ca_file if it \
         is yours";
    let other_file = folder.path().join("other.pem");
    std::fs::write(&other_file, authority("Another").pem()).unwrap();
    until_refused(&url, &other_file, untrusted);
    let told = open(&url, None).map(drop).unwrap_err();
    assert!(told.ends_with(untrusted) || told.contains("no certificates of authorities"), "{told}");
    server.certify(&ours, &["db.other.example"], false);
    until_refused(&url, &ca_file, "its certificate is for another name than the host in database.url");
    server.certify(&ours, &["127.0.0.1"], true);
    until_refused(&url, &ca_file, "its certificate has expired, or this machine's clock is wrong");
    // One of the same name with another key is another authority.
    server.certify(&authority("Ours"), &["127.0.0.1"], false);
    until_refused(&url, &ca_file, untrusted);
    let missing = folder.path().join("missing.pem");
    let told = open(&url, Some(missing)).map(drop).unwrap_err();
    assert!(told.starts_with("database.ca_file: ") && told.contains("missing.pem cannot be read"), "{told}");
    server.certify(&ours, &["127.0.0.1"], false);
    server.set("ALTER SYSTEM SET ssl = off");
    server.set("SELECT pg_reload_conf()");
    let plain = "it offers no TLS: set ssl = on in its postgresql.conf, or sslmode=disable in database.url where the network \
         is trusted";
    until_refused(&url, &ca_file, plain);
    assert!(open(&server.url("data"), None).is_ok(), "on this machine TLS is not asked for");
}

#[tokio::test]
async fn why_the_server_cannot_be_used_is_said_in_a_sentence() {
    let Some(programs) = find_programs() else { return left_out("what PostgreSQL refuses") };
    let server = Server::start(&programs, &authority("Ours"));
    let port = server.port;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = |url: &str, why: &str| {
        let told = open(url, None).map(drop).unwrap_err();
        assert!(told.starts_with("cannot reach PostgreSQL at ") && told.contains(why), "{why}, and not: {told}");
    };
    let wrong = "the user or the password in database.url is wrong";
    refused(&format!("postgres://app:wrong@127.0.0.1:{port}/data"), wrong);
    refused(&format!("postgres://nobody:{PASSWORD}@127.0.0.1:{port}/data"), wrong);
    refused(&format!("postgres://app@127.0.0.1:{port}/data"), "it asks for a password, and database.url has none");
    refused(&server.url("missing"), "it has no such database: create it, or name another at the end of database.url");
    refused(&format!("postgres://app:{PASSWORD}@no-such-host.invalid/data?sslmode=disable"), "the name of the host");
    refused(&format!("postgres://app:{PASSWORD}@127.0.0.1:{closed}/data"), "nobody listens there");
    refused("postgres:///data?host=/nonexistent&user=app", "there is no socket of it there");
    server.set("ALTER ROLE app SET default_transaction_read_only = on");
    refused(&server.url("data"), "it is a standby, which takes no writes");
    server.set("ALTER ROLE app RESET default_transaction_read_only; ALTER ROLE app CONNECTION LIMIT 0");
    refused(&server.url("data"), "it has no connection left: lower database.connections");
    server.set("ALTER ROLE app CONNECTION LIMIT -1; ALTER DATABASE data CONNECTION LIMIT -1");
    server.set("REVOKE CONNECT ON DATABASE data FROM PUBLIC, app; ALTER DATABASE data OWNER TO owner");
    refused(&server.url("data"), "GRANT CONNECT ON DATABASE");
    server.set("ALTER DATABASE data OWNER TO app");
    server.set("GRANT CONNECT ON DATABASE data TO app; ALTER ROLE app NOLOGIN");
    refused(&server.url("data"), "pg_hba.conf");
    server.set("ALTER ROLE app LOGIN");
    assert!(open(&server.url("data"), None).is_ok());
}
