//! What the tests share: a real server on a port of its own over a real store, and a client that sends raw bytes.

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use authtokens::config::{Config, Settings};
use authtokens::server::application::Application;
use authtokens::system::clock::{Clock, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::store::{self, StoredAccount, TestStore};

/// 2015-01-04T22:51:35.144Z, the time in the API specification's examples: every test's clock starts there.
pub const START_MILLIS: i64 = 1_420_411_895_144;

pub const HOUR: Duration = Duration::from_secs(60 * 60);

/// A token of the right form that no session has.
pub const UNKNOWN_TOKEN: &str = "d96163b8bc9127d8c5d5839018580123c64a324b";

/// The users' own names for a request's outcome.
pub type Response = reqwest::Response;

/// How long a test waits for what must happen: hashing runs at low priority, and the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running server, stopped and removed when it goes out of scope.
pub struct TestApp {
    pub address: SocketAddr,
    pub metrics_address: Option<SocketAddr>,
    /// The part of the configuration that says where the store is.
    pub database: PathBuf,
    pub store: Box<dyn TestStore>,
    pub clock: Clock,
    pub client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    folder: Arc<TempDir>,
}

/// The default configuration, except for a port and a store of its own and hashes at the lowest cost.
pub fn test_config(folder: &TempDir) -> Config {
    let mut config = Config::from_settings(Settings::default()).unwrap();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.database.path = folder.path().join("data").join("test.db");
    store::keep_in(folder.path(), &mut config);
    // A store in a file has one beside it, which is made.
    config.sealing.key = config.database.url.as_ref().map(|_| "5a".repeat(32).into());
    config.password.bcrypt_cost = 4;
    // All tests come from one address.
    config.rate_limit.enabled = false;
    config
}

impl TestApp {
    pub fn spawn() -> Self {
        Self::spawn_with(|_| {})
    }

    pub fn spawn_with(configure: impl FnOnce(&mut Config)) -> Self {
        let clock = Clock::held_at(Timestamp::from_millis(START_MILLIS).unwrap());
        Self::spawn_in(Arc::new(tempfile::tempdir().unwrap()), clock, configure)
    }

    /// Stops the server, and starts another one on the same store and the same clock.
    pub fn restart_with(self, configure: impl FnOnce(&mut Config)) -> Self {
        let (folder, clock) = (Arc::clone(&self.folder), self.clock.clone());
        drop(self);
        Self::spawn_in(folder, clock, configure)
    }

    /// Starts another server on a copy of this one's store as it is now, with a clock of its own.
    pub fn spawn_copy_with(&self, configure: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        self.store.copy_to(&test_config(&folder));
        Self::spawn_in(folder, Clock::held_at(Timestamp::from_millis(START_MILLIS).unwrap()), configure)
    }

    fn spawn_in(folder: Arc<TempDir>, clock: Clock, configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = test_config(&folder);
        configure(&mut config);
        let (stop, stopped) = oneshot::channel();
        let (started, has_started) = std::sync::mpsc::channel();
        let (database, store) = (config.database.path.clone(), store::of(&config));
        let serving = thread::spawn({
            let clock = clock.clone();
            move || {
                actix_rt::System::new().block_on(async move {
                    let application = Application::build(&config, clock).await.unwrap();
                    started.send((application.address(), application.metrics_address())).unwrap();
                    let stop = async {
                        let _ = stopped.await;
                    };
                    application.run_until_stopped(stop).await.unwrap();
                });
            }
        });
        let (address, metrics_address) = has_started.recv().unwrap();
        Self {
            address,
            metrics_address,
            database,
            store,
            clock,
            client: reqwest::Client::new(),
            stop: Some(stop),
            serving: Some(serving),
            folder,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(self.url(path)).json(body).send().await.unwrap()
    }

    pub async fn register(&self, username: &str, password: &str) -> Response {
        self.post("/api/register", &json!({"username": username, "password": password})).await
    }

    pub async fn log_in(&self, username: &str, password: &str) -> Response {
        self.post("/api/login", &json!({"username": username, "password": password})).await
    }

    pub async fn log_out(&self, token: &str) -> Response {
        let request = self.client.post(self.url("/api/logout")).header("Authorization", format!("Token {token}"));
        request.send().await.unwrap()
    }

    /// A request with a session's token, and with a JSON body where there is one.
    pub async fn ask(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Response {
        let request = self.client.request(method, self.url(path)).header("Authorization", format!("Token {token}"));
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send().await.unwrap()
    }

    /// The JSON of a request that must succeed.
    pub async fn get(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Value {
        let response = self.ask(method, path, token, body).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// A new user's token.
    pub async fn new_user(&self, username: &str) -> String {
        session_of(self.register(username, "hunter2").await).await.0
    }

    /// Sends bytes as they are and reads until the server closes or has answered once.
    pub fn raw(&self, request: impl AsRef<[u8]>) -> RawResponse {
        let mut stream = self.connect();
        // A server that refuses the request early may close before all is written.
        let _ = stream.write_all(request.as_ref());
        RawResponse::read_from(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn count(&self, table: &str) -> i64 {
        self.store.count(table)
    }

    /// All that the store holds.
    pub fn dump(&self) -> Vec<String> {
        self.store.dump()
    }

    pub fn count_events(&self, kind: &str) -> usize {
        self.store.events().iter().filter(|event| event.kind == kind).count()
    }

    /// The names of all accounts.
    pub fn usernames(&self) -> Vec<String> {
        self.store.accounts().into_iter().map(|account| account.username).collect()
    }

    pub fn stored_hash(&self, username: &str) -> String {
        let mut accounts = self.store.accounts().into_iter();
        accounts.find(|account| account.username == username).unwrap().password_hash
    }

    /// Changes an account behind the service's back.
    pub fn set(&self, username: &str, change: impl Fn(&mut StoredAccount)) {
        let is_found = Cell::new(false);
        self.store.change_accounts(&|account| {
            if account.username == username {
                is_found.set(true);
                change(account);
            }
        });
        assert!(is_found.get(), "there is no {username}");
    }

    pub fn make_staff(&self, username: &str) {
        self.set(username, |account| account.is_staff = true);
    }

    pub fn make_superuser(&self, username: &str) {
        self.set(username, |account| account.is_superuser = true);
    }

    pub fn deactivate(&self, username: &str) {
        self.set(username, |account| account.is_active = false);
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.serving.take().map(JoinHandle::join);
        // A worker's thread may keep the store open for a moment longer than the server runs.
        self.store.wait_until_free();
    }
}

/// Reports that a test is left out because something is missing here. Where no test may be left out, as in CI, it
/// fails.
pub fn left_out(reason: &str) {
    let all = std::env::var_os("AUTHTOKENS_TEST_ALL").is_some_and(|all| all == "1");
    assert!(!all, "nothing may be left out: {reason}");
    // Written past the capture of the tests' output, which hides what a passing test prints.
    let _ = writeln!(io::stderr(), "LEFT OUT: {reason}");
}

/// Waits for what the service does in the background.
pub async fn until(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A response as it came over the wire.
#[derive(Debug)]
pub struct RawResponse {
    pub status_line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// All of it, for a comparison byte by byte.
    pub bytes: Vec<u8>,
}

impl RawResponse {
    pub fn read_from(stream: &mut TcpStream) -> Self {
        Self::try_read_from(stream).unwrap()
    }

    /// Reads one response: its head, and as much body as its `Content-Length` says.
    pub fn try_read_from(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
        let head = String::from_utf8(bytes.clone()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let mut response = Self { status_line, headers, body: String::new(), bytes };
        let length = response.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        response.bytes.extend_from_slice(&body);
        response.body = String::from_utf8(body).unwrap();
        Ok(response)
    }

    pub fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Checks what every error must be: JSON with the single attribute `error`, under the headers of every response.
    pub fn assert_error(&self, status: u16) {
        assert_eq!(self.status(), status, "{self:?}");
        assert_eq!(self.header("Content-Type"), Some("application/json"), "{self:?}");
        assert_eq!(self.header("Access-Control-Allow-Origin"), Some("*"), "{self:?}");
        assert_eq!(self.header("Access-Control-Allow-Headers"), Some("Content-Type, Authorization"), "{self:?}");
        assert_eq!(self.header("Access-Control-Allow-Credentials"), None, "{self:?}");
        assert_eq!(self.header("X-Content-Type-Options"), Some("nosniff"), "{self:?}");
        assert_eq!(self.header("Cache-Control"), Some("no-store"), "{self:?}");
        assert!(self.header("X-Request-Id").is_some(), "{self:?}");
        assert_sentence(&self.json());
    }
}

/// An object with the single attribute `error`, a sentence for a person.
pub fn assert_sentence(body: &Value) {
    let object = body.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["error"], "{body}");
    assert!(object["error"].as_str().unwrap().len() > 10, "{body}");
}

/// The body of an error, after checking that it is one with this status.
pub async fn error_of(response: Response, status: u16) -> String {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    assert_sentence(&body);
    body["error"].as_str().unwrap().to_owned()
}

/// The token and the user that a registration or a login answered.
pub async fn session_of(response: Response) -> (String, Value) {
    assert!(response.status().is_success(), "{response:?}");
    let mut body: Value = response.json().await.unwrap();
    (body["token"].as_str().unwrap().to_owned(), body["user"].take())
}

/// A raw POST with a JSON body.
pub fn post_bytes(path: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: {}\r\n{headers}\r\n", body.len())
            .into_bytes();
    request.extend_from_slice(body);
    request
}

/// The header of a JSON body, as [`post_bytes`] takes it.
pub const JSON: &str = "Content-Type: application/json\r\n";
