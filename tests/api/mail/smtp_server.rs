//! A mail server for the tests. It speaks SMTP on a port of its own, over TLS, after STARTTLS or in clear, with a
//! certificate of its own, keeps what it is sent, and can be told to fail at each stage.
//!
//! ```ignore
//! let server = SmtpServer::start(Behaviour::default());
//! let app = TestApp::spawn_with(|config| server.configure(config));
//! let mail = server.next().await; // waits for one more than were looked at before
//! mail.code(); mail.token(); mail.text();
//! ```

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use authtokens::config::mail::{Encryption, Transport};
use authtokens::config::{Config, ConfigError, Settings};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mail_parser::{Message, MessageParser};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::helpers::until;

/// The password that the server asks for, of the user `authtokens`.
pub const PASSWORD: &str = "correct horse battery staple";

/// How long a line of a message may be: RFC 5321, 4.5.3.1.6, with its CR and LF.
const MAX_LINE: usize = 1_000;

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the greeting, and over TLS before the handshake.
    Connect,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// After the message.
    Content,
    Quit,
}

impl Stage {
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Ehlo,
        Self::StartTls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Content,
        Self::Quit,
    ];
}

/// What the server does in the place of its usual reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says nothing, and keeps the connection.
    Hang,
    /// It closes the connection.
    Drop,
    /// It replies this, with a line ending added. `{to}` stands for the recipient.
    Reply(String),
    /// It replies without end, in lines.
    EndlessLines,
    /// It replies one line without end.
    EndlessLine,
    /// Behind its reply it sends this at once, as somebody on the way could.
    Inject(String),
}

/// What the server's certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Valid,
    /// For another name.
    OtherName,
    /// By an authority that nobody trusts.
    OtherAuthority,
    Expired,
}

/// What the server does. The default takes every mail, over TLS, from whoever knows the password.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub encryption: Encryption,
    pub certificate: Certificate,
    /// Whether it offers STARTTLS, where that is its encryption.
    pub offers_starttls: bool,
    /// The ways to log in that it offers; empty is none.
    pub mechanisms: &'static str,
    /// What goes wrong, and where.
    pub fault: Option<(Stage, Fault)>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            encryption: Encryption::Tls,
            certificate: Certificate::Valid,
            offers_starttls: true,
            mechanisms: "PLAIN LOGIN",
            fault: None,
        }
    }
}

impl Behaviour {
    pub fn with(encryption: Encryption) -> Self {
        Self { encryption, ..Self::default() }
    }

    pub fn failing(self, stage: Stage, fault: Fault) -> Self {
        Self { fault: Some((stage, fault)), ..self }
    }

    pub fn replying(self, stage: Stage, reply: &str) -> Self {
        self.failing(stage, Fault::Reply(reply.to_owned()))
    }
}

/// A mail that the server has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The envelope.
    pub from: String,
    pub to: String,
    /// Who was logged in.
    pub user: Option<String>,
    pub is_encrypted: bool,
    /// The message as it came, without its dot-stuffing.
    pub bytes: Vec<u8>,
}

impl Received {
    pub fn parsed(&self) -> Message<'_> {
        MessageParser::default().parse(&self.bytes).unwrap()
    }

    pub fn subject(&self) -> String {
        self.parsed().subject().unwrap().to_owned()
    }

    /// Its plain text.
    pub fn text(&self) -> String {
        self.parsed().body_text(0).unwrap().replace("\r\n", "\n")
    }

    pub fn html(&self) -> String {
        self.parsed().body_html(0).unwrap().replace("\r\n", "\n")
    }

    /// The raw value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let message = self.parsed();
        let value = message.header_raw(name.to_owned())?;
        Some(value.replace("\r\n", "").trim().to_owned())
    }

    /// Its six digits, without the space.
    pub fn code(&self) -> String {
        let text = self.text();
        let mut lines = text.lines().map(|line| line.trim().replace(' ', ""));
        lines.find(|line| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit())).unwrap()
    }

    /// Where its link leads, with the token.
    pub fn link(&self) -> String {
        let text = self.text();
        let mut words = text.split_whitespace();
        words.find(|word| word.contains("://") && word.contains('#')).unwrap().to_owned()
    }

    /// The token behind the `#` of its link.
    pub fn token(&self) -> String {
        self.link().split_once('#').unwrap().1.to_owned()
    }
}

/// What the server has seen.
#[derive(Default)]
struct Seen {
    messages: Vec<Received>,
    connections: usize,
    /// What came before TLS, of all connections.
    in_clear: Vec<u8>,
    /// The commands of all connections, without what a login says.
    commands: Vec<String>,
}

/// The server; it stops when it goes out of scope.
pub struct SmtpServer {
    pub port: u16,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Seen>>,
    looked_at: Cell<usize>,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SmtpServer {
    pub fn start(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority("The authority of a test");
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let seen = Arc::<Mutex<Seen>>::default();
        let (stop, mut stopped) = oneshot::channel();
        let (started, has_started) = std::sync::mpsc::channel();
        let serving = thread::spawn({
            let (behaviour, seen) = (Arc::clone(&behaviour), Arc::clone(&seen));
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    started.send(listener.local_addr().unwrap().port()).unwrap();
                    loop {
                        let stream = tokio::select! {
                            accepted = listener.accept() => accepted.unwrap().0,
                            _ = &mut stopped => return,
                        };
                        let behaviour = lock(&behaviour).clone();
                        lock(&seen).connections += 1;
                        let acceptor = acceptor(&authority, behaviour.certificate);
                        let conversation = Conversation { behaviour, seen: Arc::clone(&seen), user: None };
                        tokio::spawn(async move {
                            // The client may go away at any time.
                            let _ = conversation.hold(stream, acceptor).await;
                        });
                    }
                });
            }
        });
        let port = has_started.recv().unwrap();
        let looked_at = Cell::new(0);
        Self { port, behaviour, seen, looked_at, folder, stop: Some(stop), serving: Some(serving) }
    }

    /// Has the service send its mail here.
    pub fn configure(&self, config: &mut Config) {
        config.mail.transport = Transport::Smtp;
        config.mail.smtp.host = Some("localhost".to_owned());
        config.mail.smtp.port = Some(self.port);
        config.mail.smtp.tls = lock(&self.behaviour).encryption;
        config.mail.smtp.ca_file = Some(self.ca_file());
        let given = from_text(&format!(
            "[server]\npublic_url = \"https://diamond.example\"\n[mail]\nfrom = \"Diamonds <noreply@diamond.example>\"\n\
             [mail.smtp]\nuser = \"authtokens\"\npassword = \"{PASSWORD}\"\n"
        ));
        let given = given.unwrap();
        config.server.public_url = given.server.public_url;
        config.mail.from = given.mail.from;
        config.mail.smtp.user = given.mail.smtp.user;
        config.mail.smtp.password = given.mail.smtp.password;
    }

    /// The same as a file for the program.
    pub fn config_file(&self) -> String {
        let encryption = match lock(&self.behaviour).encryption {
            Encryption::Tls => "tls",
            Encryption::StartTls => "starttls",
            Encryption::None => "none",
        };
        format!(
            "[server]\npublic_url = \"https://diamond.example\"\n\n[mail]\ntransport = \"smtp\"\n\
             from = \"Diamonds <noreply@diamond.example>\"\n\n[mail.smtp]\nhost = \"localhost\"\nport = {}\n\
             tls = \"{encryption}\"\nca_file = \"{}\"\nuser = \"authtokens\"\npassword = \"{PASSWORD}\"\n",
            self.port,
            self.ca_file().display()
        )
    }

    /// The certificate of the authority that signs the server's.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Changes what it does, from the next connection on.
    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.behaviour) = behaviour;
    }

    /// What it has taken, in the order in which it came.
    pub fn messages(&self) -> Vec<Received> {
        lock(&self.seen).messages.clone()
    }

    /// Waits for a mail after those that this has returned before.
    pub async fn next(&self) -> Received {
        let index = self.looked_at.get();
        until("a mail", || lock(&self.seen).messages.len() > index).await;
        self.looked_at.set(index + 1);
        lock(&self.seen).messages[index].clone()
    }

    /// Waits until it has taken so many in all.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        until("a mail", || lock(&self.seen).messages.len() >= count).await;
        self.messages()
    }

    pub fn connections(&self) -> usize {
        lock(&self.seen).connections
    }

    /// What it was sent before TLS.
    pub fn in_clear(&self) -> String {
        String::from_utf8_lossy(&lock(&self.seen).in_clear).into_owned()
    }

    /// The commands that it was given.
    pub fn commands(&self) -> Vec<String> {
        lock(&self.seen).commands.clone()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

/// A port at which nobody listens.
pub fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The configuration that a file with this text makes.
pub fn from_text(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    Config::from_settings(Settings::gather(Some(file.path()), [], [])?)
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(trusted: &CertifiedIssuer<'static, KeyPair>, certificate: Certificate) -> TlsAcceptor {
    let names = match certificate {
        Certificate::OtherName => vec!["mail.other.example".to_owned()],
        _ => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    };
    let mut params = CertificateParams::new(names).unwrap();
    if certificate == Certificate::Expired {
        params.not_before = rcgen::date_time_ymd(2014, 1, 1);
        params.not_after = rcgen::date_time_ymd(2015, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let signed = match certificate {
        Certificate::OtherAuthority => params.signed_by(&key, &authority("Nobody's authority")),
        _ => params.signed_by(&key, trusted),
    };
    let chain: Vec<CertificateDer<'static>> = vec![signed.unwrap().der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The end of a conversation.
enum Ended {
    /// The client wants TLS.
    StartTls,
    Gone,
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Conversation {
    behaviour: Behaviour,
    seen: Arc<Mutex<Seen>>,
    user: Option<String>,
}

impl Conversation {
    async fn hold(mut self, stream: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
        let stream = Recorded { stream, seen: Arc::clone(&self.seen), is_on: true };
        if self.behaviour.encryption == Encryption::Tls {
            let mut stream = BufReader::new(acceptor.accept(stream.unrecorded()).await?);
            return self.greet_and_talk(&mut stream, true).await.map(|_| ());
        }
        let mut stream = BufReader::new(stream);
        if let Ended::StartTls = self.greet_and_talk(&mut stream, false).await? {
            let stream = acceptor.accept(stream.into_inner().unrecorded()).await?;
            self.talk(&mut BufReader::new(stream), true).await?;
        }
        Ok(())
    }

    async fn greet_and_talk(&mut self, stream: &mut BufReader<impl Stream>, tls: bool) -> std::io::Result<Ended> {
        self.reply(stream, Stage::Connect, "220 localhost ESMTP", "").await?;
        self.talk(stream, tls).await
    }

    async fn talk(&mut self, stream: &mut BufReader<impl Stream>, tls: bool) -> std::io::Result<Ended> {
        let (mut from, mut to) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(Ended::Gone);
            }
            assert!(line.ends_with("\r\n"), "{line:?}");
            let line = line.trim_end_matches("\r\n");
            let said = if line.starts_with("AUTH ") { "AUTH" } else { line };
            lock(&self.seen).commands.push(said.to_owned());
            let command = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match command.as_str() {
                "EHLO" => {
                    let Behaviour { encryption, offers_starttls, mechanisms, .. } = self.behaviour;
                    let mut reply = "250-localhost\r\n".to_owned();
                    if encryption == Encryption::StartTls && !tls && offers_starttls {
                        reply.push_str("250-STARTTLS\r\n");
                    }
                    if !mechanisms.is_empty() && (tls || encryption == Encryption::None) {
                        let _ = write!(reply, "250-AUTH {mechanisms}\r\n");
                    }
                    self.reply(stream, Stage::Ehlo, &(reply + "250 SIZE 1000000"), "").await?;
                }
                "STARTTLS" if !tls => {
                    self.reply(stream, Stage::StartTls, "220 go ahead", "").await?;
                    if !matches!(&self.behaviour.fault, Some((Stage::StartTls, Fault::Reply(_)))) {
                        return Ok(Ended::StartTls);
                    }
                }
                "AUTH" => self.log_in(stream, line).await?,
                "MAIL" => {
                    from = between(line);
                    let refused = self.user.is_none() && !self.behaviour.mechanisms.is_empty();
                    let reply = if refused { "530 5.7.0 Authentication required" } else { "250 2.1.0 Ok" };
                    self.reply(stream, Stage::Mail, reply, "").await?;
                }
                "RCPT" => {
                    to = between(line);
                    self.reply(stream, Stage::Rcpt, "250 2.1.5 Ok", &to).await?;
                }
                "DATA" => {
                    if self.reply(stream, Stage::Data, "354 End data with <CR><LF>.<CR><LF>", &to).await? {
                        let bytes = read_message(stream).await?;
                        if self.is_taken() {
                            let user = self.user.clone();
                            let (from, to) = (from.clone(), to.clone());
                            lock(&self.seen).messages.push(Received { from, to, user, is_encrypted: tls, bytes });
                        }
                        self.reply(stream, Stage::Content, "250 2.0.0 Ok: queued", &to).await?;
                    }
                }
                "QUIT" => {
                    self.reply(stream, Stage::Quit, "221 2.0.0 Bye", "").await?;
                    return Ok(Ended::Gone);
                }
                _ => self.send(stream, "502 5.5.2 Error: command not recognized\r\n").await?,
            }
        }
    }

    /// Whether a message that came whole is one that the server has taken: it is not where its reply is another.
    fn is_taken(&self) -> bool {
        !matches!(&self.behaviour.fault, Some((Stage::Content, Fault::Reply(reply))) if !reply.starts_with('2'))
    }

    async fn log_in(&mut self, stream: &mut BufReader<impl Stream>, line: &str) -> std::io::Result<()> {
        let decoded = |text: &str| String::from_utf8(BASE64_STANDARD.decode(text.trim()).unwrap()).unwrap();
        let (user, password) = if let Some(given) = line.strip_prefix("AUTH PLAIN ") {
            let given = decoded(given);
            let mut parts = given.split('\0').skip(1);
            (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
        } else {
            let mut given = [String::new(), String::new()];
            for (answer, question) in given.iter_mut().zip(["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"]) {
                self.send(stream, question).await?;
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                *answer = decoded(&line);
            }
            given.into()
        };
        let reply = if (user.as_str(), password.as_str()) == ("authtokens", PASSWORD) {
            self.user = Some(user);
            "235 2.7.0 Authentication successful"
        } else {
            "535 5.7.8 Authentication credentials invalid"
        };
        self.reply(stream, Stage::Auth, reply, "").await.map(|_| ())
    }

    /// Replies as usual, or does what was asked for at this stage. `true` where the reply was the usual one.
    async fn reply(
        &self,
        stream: &mut BufReader<impl Stream>,
        stage: Stage,
        usual: &str,
        to: &str,
    ) -> std::io::Result<bool> {
        let fault = self.behaviour.fault.as_ref().filter(|(at, _)| *at == stage).map(|(_, fault)| fault);
        match fault {
            None => self.send(stream, &format!("{usual}\r\n")).await?,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Drop) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
            Some(Fault::Reply(reply)) => {
                self.send(stream, &format!("{}\r\n", reply.replace("{to}", to))).await?;
                return Ok(false);
            }
            Some(Fault::EndlessLines) => loop {
                self.send(stream, &format!("250-{}\r\n", "x".repeat(70)).repeat(100)).await?;
            },
            Some(Fault::EndlessLine) => loop {
                self.send(stream, &"250 x".repeat(1_000)).await?;
            },
            Some(Fault::Inject(more)) => self.send(stream, &format!("{usual}\r\n{more}")).await?,
        }
        Ok(true)
    }

    async fn send(&self, stream: &mut BufReader<impl Stream>, text: &str) -> std::io::Result<()> {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    }
}

/// What stands between angle brackets.
fn between(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).unwrap().0.to_owned()
}

/// Reads a message up to its dot, and undoes its dot-stuffing.
async fn read_message(stream: &mut BufReader<impl Stream>) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        if (&mut *stream).take(1 << 20).read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        assert!(line.ends_with(b"\r\n") && line.len() <= MAX_LINE, "{:?}", String::from_utf8_lossy(&line));
        assert!(!line[..line.len() - 2].contains(&b'\r'), "a bare CR in {:?}", String::from_utf8_lossy(&line));
        if line == b".\r\n" {
            return Ok(message);
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// A connection of which what comes in is kept while it is in clear.
struct Recorded {
    stream: TcpStream,
    seen: Arc<Mutex<Seen>>,
    is_on: bool,
}

impl Recorded {
    fn unrecorded(self) -> Self {
        Self { is_on: false, ..self }
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl AsyncRead for Recorded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.is_on {
            lock(&self.seen).in_clear.extend_from_slice(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
