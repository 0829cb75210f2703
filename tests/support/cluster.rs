//! A private PostgreSQL: a cluster in a temporary folder, without a network, that lives no longer than the tests' process.

use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use tempfile::TempDir;
use tokio_postgres::NoTls;

/// How long PostgreSQL may take to start.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// A running PostgreSQL.
pub struct Cluster {
    folder: PathBuf,
    databases: AtomicU32,
    /// The shell that ends PostgreSQL and removes the folder when this process ends, however it does: then the pipe that
    /// it reads is closed.
    _guard: Child,
}

/// The cluster of this process, which is started when it is first asked for; `None` where PostgreSQL is not installed.
pub fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| Some(Cluster::start(&find_programs()?))).as_ref()
}

/// The folder of PostgreSQL's programs: the newest that is installed.
pub fn find_programs() -> Option<PathBuf> {
    let named = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let mut installed: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.filter_map(Result::ok).map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    installed.sort_by_key(|folder: &PathBuf| {
        folder.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok())
    });
    let all = installed.into_iter().rev().chain(named);
    all.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

impl Cluster {
    fn start(programs: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("authtokens-pg-").tempdir_in("/dev/shm");
        let folder = folder.or_else(|_| tempfile::Builder::new().prefix("authtokens-pg-").tempdir()).unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let initdb = programs.join("initdb");
        let initialise = |locale: &[&str]| {
            let mut command = Command::new(&initdb);
            command.args(["-U", "authtokens", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]);
            command.arg(folder.path().join("data")).args(locale).current_dir(folder.path()).env("LC_ALL", "C.UTF-8");
            as_user(&mut command, user).output().unwrap()
        };
        // A collation that is not by bytes, where there is one: the service must not depend on it.
        let made = initialise(&["--locale-provider=icu", "--icu-locale=en"]);
        let made = if made.status.success() { made } else { initialise(&[]) };
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        // A background process of a shell ignores SIGQUIT until it has a handler of its own, so one may not be enough.
        let script = "\"$1/postgres\" -D data -k \"$PWD\" -c listen_addresses= -c fsync=off -c full_page_writes=off \
             -c max_connections=600 -c shared_buffers=64MB -c max_wal_size=2GB -c log_min_messages=fatal \
             < /dev/null > log 2>&1 & \
             server=$!; read line; \
             while kill -QUIT $server 2> /dev/null; do sleep 0.1; done; cd /; rm -rf \"$2\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(programs).arg(folder.path()).current_dir(folder.path());
        let guard = as_user(&mut shell, user).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let cluster = Self { folder: folder_of(folder), databases: AtomicU32::new(0), _guard: guard };
        let since = Instant::now();
        while let Err(error) = cluster.run("postgres", "SELECT 1") {
            assert!(since.elapsed() < STARTED_WITHIN, "PostgreSQL does not start: {error}");
            thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    /// A new, empty database: its URL.
    pub fn new_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.run("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=authtokens", self.folder.display())
    }

    /// Runs statements without an answer.
    fn run(&self, database: &str, sql: &str) -> Result<(), String> {
        execute(&self.url(database), sql)
    }
}

/// Runs statements on the database of this URL. It blocks, and may be called on an async thread.
pub fn execute(url: &str, sql: &str) -> Result<(), String> {
    let sql = sql.to_owned();
    on(url, async move |client| client.batch_execute(&sql).await)
}

/// Does something on a connection of its own, on a thread of its own.
pub fn on<T: Send>(
    url: &str,
    work: impl AsyncFnOnce(&mut tokio_postgres::Client) -> Result<T, tokio_postgres::Error> + Send,
) -> Result<T, String> {
    let run = || {
        // Made and dropped on that thread: a runtime cannot be dropped on an async one.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
            let serving = tokio::spawn(connection);
            let outcome = work(&mut client).await;
            drop(client);
            let _ = serving.await;
            outcome
        })
    };
    let outcome = thread::scope(|scope| scope.spawn(run).join().unwrap());
    // The whole chain of causes: the driver's own text says "db error".
    outcome.map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
}

/// The folder, which the guard removes.
fn folder_of(folder: TempDir) -> PathBuf {
    folder.keep()
}

/// PostgreSQL refuses to run as root: then somebody else runs it, by these ids.
pub fn unprivileged() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id_of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
        Some((ids.next()??, ids.next()??))
    };
    is_root.then(|| {
        id_of("postgres").or_else(|| id_of("nobody")).expect("root runs these tests, and there is no other user")
    })
}

/// Has a command run by these ids.
pub fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    match user {
        Some((uid, gid)) => command.uid(uid).gid(gid),
        None => command,
    }
}

/// Reports that tests are left out because PostgreSQL is not installed. Where no test may be left out, as in CI, it fails.
pub fn left_out(what: &str) {
    let all = env::var_os("AUTHTOKENS_TEST_ALL").is_some_and(|all| all == "1");
    assert!(!all, "nothing may be left out: PostgreSQL is not installed");
    // Written past the capture of the tests' output, which hides what a passing test prints.
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {what}: PostgreSQL (initdb, postgres) is not installed");
}
