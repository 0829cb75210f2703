//! The transport by SMTP: a connection a mail, encrypted unless the server is on this machine.
//!
//! What the server says is believed in nothing. Its replies are bounded ([`Bounded`]), the whole delivery has one
//! deadline, and its certificate is always verified. Without STARTTLS, where it was asked for, nothing is sent. What it
//! says is told to the operator without what could be somebody's: it may repeat the recipient or the mail.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls;

use crate::config::SmtpConfig;
use crate::config::mail::Encryption;
use crate::config::secret::Secret;
use crate::domain::email::EmailAddress;
use crate::mail::error::{DeliveryError, MailError};
use crate::system::authorities::{self, Peer};
use crate::system::blocking;
use crate::system::visible::is_unseen;

/// How much a server may say in one delivery, TLS included.
const MAX_SAID: usize = 256 * 1024;

/// How much of it may be one reply: lettre parses a reply anew at each of its lines.
const MAX_REPLY: usize = 16 * 1024;

/// How much of it may be a TLS handshake after STARTTLS, with its certificates.
const MAX_HANDSHAKE: usize = 64 * 1024;

/// How many look-ups of names are under way at most. One that is not answered goes on after its delivery has ended.
const LOOK_UPS: usize = 4;

/// How long each of several addresses may take to answer at most, but for the last.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How much of a reply is told.
const MAX_TOLD: usize = 200;

/// How long the server may take to say goodbye: the mail is delivered by then.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// The reply of a server that takes no more commands: RFC 5321, 4.2.2.
const CLOSING: u16 = 421;

/// What a word of a reply is replaced by that could be somebody's.
const MASK: &str = "***";

/// The first byte of a TLS record that begins a handshake. No command of SMTP begins with it.
const HANDSHAKE: u8 = 22;

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Address,
    Connect,
    Tls,
    Greeting,
    StartTls,
    LogIn,
    Sender,
    Recipient,
    Content,
}

impl Stage {
    /// As the end of "it did not answer in time …".
    const fn waits(self) -> &'static str {
        match self {
            Self::Address => "when its address was looked up",
            Self::Connect => "when it was connected to",
            Self::Tls => "when TLS was begun",
            Self::Greeting => "when it was to greet",
            Self::StartTls => "when STARTTLS was begun",
            Self::LogIn => "when the service logged in",
            Self::Sender => "when it was given the sender",
            Self::Recipient => "when it was given the recipient",
            Self::Content => "when it was given the mail",
        }
    }

    /// As the middle of "the mail server refuses …".
    const fn refuses(self) -> &'static str {
        match self {
            Self::Address | Self::Connect | Self::Tls | Self::Greeting => "the connection",
            Self::StartTls => "STARTTLS",
            Self::LogIn => "the user and the password of mail.smtp",
            Self::Sender => "the sender, mail.from",
            Self::Recipient => "the recipient",
            Self::Content => "the mail",
        }
    }
}

/// The mail server.
pub(super) struct Smtp {
    host: String,
    port: u16,
    encryption: Encryption,
    tls: Option<Tls>,
    credentials: Option<Credentials>,
    /// What a reply to a login may not show.
    login_secrets: Vec<String>,
    /// What the service calls itself.
    hello: ClientId,
    timeout: Duration,
    look_ups: Arc<Semaphore>,
}

/// What TLS needs: the same for a connection that begins with it and for one that turns to it, which is lettre's.
struct Tls {
    name: ServerName<'static>,
    connector: TlsConnector,
    parameters: TlsParameters,
}

impl Smtp {
    /// Reads the certificates that the server's is checked with.
    pub(super) fn new(config: &SmtpConfig, sender: &EmailAddress) -> Result<Self, MailError> {
        let wrong = |text: &str| MailError(text.to_owned());
        let host = config.host.clone().ok_or_else(|| wrong("mail.smtp.host is missing: smtp needs it"))?;
        let tls = (config.tls != Encryption::None).then(|| Tls::new(&host, config.ca_file.as_deref())).transpose()?;
        let login = config.user.as_deref().zip(config.password.as_ref().map(Secret::expose));
        let sender = sender.to_ascii();
        let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
        Ok(Self {
            host,
            port: config.port(),
            encryption: config.tls,
            tls,
            credentials: login.map(|(user, password)| Credentials::new(user.to_owned(), password.to_owned())),
            login_secrets: login.map_or_else(Vec::new, |(user, password)| {
                let plain = format!("\0{user}\0{password}");
                vec![password.to_owned(), BASE64_STANDARD.encode(password), BASE64_STANDARD.encode(plain)]
            }),
            hello: ClientId::Domain(domain.to_owned()),
            timeout: config.timeout,
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
        })
    }

    /// Delivers a message. `secrets` are what it holds in clear.
    pub(super) async fn send(
        &self,
        envelope: &Envelope,
        message: &[u8],
        secrets: &[&str],
    ) -> Result<(), DeliveryError> {
        let mut stage = Stage::Address;
        let conversation = timeout(self.timeout, self.converse(&mut stage, envelope, message)).await;
        let mut connection = match conversation {
            Ok(Ok(connection)) => connection,
            Ok(Err(failure)) => return Err(self.tell(stage, failure, envelope, secrets)),
            Err(_) => {
                let (server, timeout) = (self.server(), self.timeout.as_secs());
                let why = format!("{server} did not answer in {timeout} s {}", stage.waits());
                return Err(DeliveryError::of_server(why));
            }
        };
        // The mail is delivered: what the server says or does now changes nothing.
        let _ = timeout(GOODBYE_WITHIN, connection.quit()).await;
        Ok(())
    }

    async fn converse(
        &self,
        stage: &mut Stage,
        envelope: &Envelope,
        message: &[u8],
    ) -> Result<AsyncSmtpConnection, Failure> {
        let (stream, peer) = self.connect(stage).await?;
        let stream: Box<dyn AsyncTokioStream> = match (&self.tls, self.encryption) {
            (Some(tls), Encryption::Tls) => {
                *stage = Stage::Tls;
                let stream = tls.connector.connect(tls.name.clone(), stream).await.map_err(Failure::Io)?;
                Box::new(Bounded::new(stream, peer, false))
            }
            (_, encryption) => Box::new(Bounded::new(stream, peer, encryption == Encryption::StartTls)),
        };
        *stage = Stage::Greeting;
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await?;
        if let (Some(tls), Encryption::StartTls) = (&self.tls, self.encryption) {
            *stage = Stage::StartTls;
            if !connection.can_starttls() {
                return Err(Failure::NoStartTls);
            }
            connection.starttls(tls.parameters.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            *stage = Stage::LogIn;
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            if connection.server_info().get_auth_mechanism(&mechanisms).is_none() {
                return Err(Failure::NoLogin);
            }
            connection.auth(&mechanisms, credentials).await?;
        }
        *stage = Stage::Sender;
        connection.command(Mail::new(envelope.from().cloned(), Vec::new())).await?;
        *stage = Stage::Recipient;
        for recipient in envelope.to() {
            connection.command(Rcpt::new(recipient.clone(), Vec::new())).await?;
        }
        *stage = Stage::Content;
        connection.command(Data).await?;
        connection.message(message.strip_suffix(b"\r\n").unwrap_or(message)).await?;
        Ok(connection)
    }

    /// Connects to the first of the server's addresses that answers.
    async fn connect(&self, stage: &mut Stage) -> Result<(TcpStream, SocketAddr), Failure> {
        let begun = Instant::now();
        let mut found = self.look_up().await.map_err(Failure::Io)?;
        if self.encryption == Encryption::None {
            found.retain(|address| address.ip().to_canonical().is_loopback());
        }
        *stage = Stage::Connect;
        connect_to_first(&found, self.timeout.saturating_sub(begun.elapsed())).await.map_err(Failure::Io)
    }

    /// Looks the server's addresses up. Nothing waits for a name server that hangs: neither the delivery beyond its timeout
    /// nor a stop of the process.
    async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        let begun = Arc::clone(&self.look_ups).acquire_owned().await.map_err(io::Error::other)?;
        let (host, port) = (self.host.clone(), self.port);
        let look_up = move || {
            let _begun = begun;
            (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
        };
        blocking::run_detached("mail-look-up", look_up).await?
    }

    /// As the beginning of a sentence.
    fn server(&self) -> String {
        format!("the mail server {}:{}", self.host, self.port)
    }

    /// A failure as a sentence for the operator.
    fn tell(&self, stage: Stage, failure: Failure, envelope: &Envelope, secrets: &[&str]) -> DeliveryError {
        let server = self.server();
        let error = match failure {
            Failure::NoStartTls => {
                let why = format!("{server} does not offer STARTTLS, and nothing is sent without it");
                return DeliveryError::of_server(why);
            }
            Failure::NoLogin => {
                let why = format!("{server} offers no login by PLAIN or LOGIN, and mail.smtp has a user");
                return DeliveryError::of_server(why);
            }
            Failure::Io(error) => return DeliveryError::of_server(self.tell_io(stage, &error)),
            Failure::Smtp(error) => error,
        };
        if let Some(code) = error.status() {
            let mut told = u16::from(code).to_string();
            let said = error.source().map(ToString::to_string).unwrap_or_default();
            let mut hidden: Vec<&str> = secrets.to_vec();
            hidden.extend(envelope.to().iter().map(lettre::Address::user));
            if stage == Stage::LogIn {
                hidden.extend(self.login_secrets.iter().map(String::as_str));
            }
            let said = without(&said, &hidden);
            if !said.is_empty() {
                told = format!("{told} {said}");
            }
            let why = format!("{server} refuses {}: {told}", stage.refuses());
            let is_about_the_mail = match stage {
                // Whoever is not taken as the sender is so for every mail: mail.from is the operator's to mend. And a server
                // that closes before it has heard who the mail is for does so to any.
                Stage::Sender => !error.is_permanent() && u16::from(code) != CLOSING,
                Stage::Recipient | Stage::Content => true,
                _ => false,
            };
            return if is_about_the_mail && !is_about_a_login(u16::from(code)) {
                DeliveryError::of_mail(why, error.is_permanent())
            } else {
                DeliveryError::of_server(why)
            };
        }
        if let Some(error) = cause::<io::Error>(&error) {
            return DeliveryError::of_server(self.tell_io(stage, error));
        }
        // Nothing of what lettre says: its words may repeat the server's.
        DeliveryError::of_server(format!("{server} does not speak SMTP as it should, {}", stage.waits()))
    }

    fn tell_io(&self, stage: Stage, error: &io::Error) -> String {
        let (server, host) = (self.server(), &self.host);
        let certificate = format!("the certificate of {server}");
        let peer = Peer { certificate: &certificate, name: host, ca_setting: "mail.smtp.ca_file" };
        match authorities::find_error(error) {
            Some(rustls::Error::InvalidMessage(_)) => {
                format!("{server} does not speak TLS there; mail.smtp.tls or mail.smtp.port may be wrong")
            }
            Some(error) => {
                authorities::tell(error, &peer).unwrap_or_else(|| format!("TLS with {server} failed: {error}"))
            }
            None => match (stage, error.kind()) {
                (Stage::Address, _) => format!("the address of the mail server {host} is not found: {error}"),
                (Stage::Connect, io::ErrorKind::AddrNotAvailable) if self.encryption == Encryption::None => {
                    format!("{host} is not this machine, and without TLS mail leaves it for no other")
                }
                (Stage::Connect, _) => format!("{server} is not reached: {error}"),
                (_, io::ErrorKind::FileTooLarge) => {
                    format!("{server} says too much without end, {}", stage.waits())
                }
                _ => format!("the connection to {server} broke {}: {error}", stage.waits()),
            },
        }
    }
}

impl Tls {
    fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, MailError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| MailError("mail.smtp.host must be a host's name or address".to_owned()))?;
        let unusable = |error: &dyn fmt::Display| MailError(format!("TLS for the mail server cannot be used: {error}"));
        let authorities = authorities::load("mail.smtp.ca_file", ca_file, "the mail server's").map_err(MailError)?;
        let mut parameters = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
        for authority in &authorities {
            let certificate = Certificate::from_der(authority.to_vec()).map_err(|error| unusable(&error))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let config = authorities::tls_client(authorities).map_err(|error| unusable(&error))?;
        let parameters = parameters.build().map_err(|error| unusable(&error))?;
        Ok(Self { name, connector: TlsConnector::from(Arc::new(config)), parameters })
    }
}

/// Connects to the first of these addresses that answers. One that does not leaves time for those behind it.
async fn connect_to_first(addresses: &[SocketAddr], within: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let Some((last, others)) = addresses.split_last() else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
    let share = within / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in others {
        if let Ok(Ok(stream)) = timeout(share.min(ANSWERS_WITHIN), TcpStream::connect(address)).await {
            return Ok((stream, *address));
        }
    }
    TcpStream::connect(last).await.map(|stream| (stream, *last))
}

/// Why a conversation ended before the mail was taken.
enum Failure {
    NoStartTls,
    NoLogin,
    Io(io::Error),
    Smtp(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Smtp(error)
    }
}

/// Whether a reply tells of the service's login, which is the operator's to mend: RFC 4954, 4 to 6.
fn is_about_a_login(code: u16) -> bool {
    matches!(code, 530 | 534 | 535 | 538)
}

/// The first cause of this type.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What a server said as it can be told: on one line, not too long, and without the words that hold a hidden text, an
/// address or a link.
fn without(said: &str, hidden: &[&str]) -> String {
    let is_hidden = |word: &str| {
        let word = word.to_lowercase();
        let is_code = word.chars().filter(char::is_ascii_digit).count() >= 6;
        let holds = |hidden: &&str| !hidden.is_empty() && word.contains(&hidden.to_lowercase());
        is_code || word.contains(['@', '#']) || word.contains("://") || hidden.iter().any(holds)
    };
    // A password may have spaces, and a code is shown as two times three digits.
    let mut said = said.to_owned();
    for text in hidden {
        if text.contains(' ') {
            said = said.replace(text, MASK);
        }
        if let Some((first, last)) = text.split_at_checked(3).filter(|(_, last)| last.len() == 3) {
            said = said.replace(&format!("{first} {last}"), MASK);
        }
    }
    let words = said.split(|c: char| c == ' ' || is_unseen(c)).filter(|word| !word.is_empty());
    let told = words.map(|word| if is_hidden(word) { MASK } else { word }).collect::<Vec<_>>().join(" ");
    told.chars().take(MAX_TOLD).collect()
}

/// A connection that ends where the server says too much, in one reply or in all: lettre reads a reply to its end, however
/// long it is.
///
/// Before STARTTLS it is read a byte at a time. What somebody on the way has put behind the reply to STARTTLS then stands
/// where TLS is expected, and is never taken for a reply within it (CVE-2021-38371 and its like).
struct Bounded<S> {
    stream: S,
    peer: SocketAddr,
    /// How much may still be said.
    left: usize,
    /// How much of it before the next write: the rest of a reply.
    left_of_reply: usize,
    is_in_clear: bool,
}

impl<S> Bounded<S> {
    fn new(stream: S, peer: SocketAddr, is_in_clear: bool) -> Self {
        Self { stream, peer, left: MAX_SAID, left_of_reply: MAX_REPLY, is_in_clear }
    }
}

impl<S> fmt::Debug for Bounded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Bounded<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 || self.left_of_reply == 0 {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buf.filled().len();
        let polled = if self.is_in_clear {
            let mut byte = [0];
            let mut one = ReadBuf::new(&mut byte);
            let polled = Pin::new(&mut self.stream).poll_read(cx, &mut one);
            buf.put_slice(one.filled());
            polled
        } else {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        };
        let said = buf.filled().len() - before;
        self.left = self.left.saturating_sub(said);
        self.left_of_reply = self.left_of_reply.saturating_sub(said);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let is_handshake = buf.first() == Some(&HANDSHAKE);
        self.is_in_clear &= !is_handshake;
        self.left_of_reply = if is_handshake { MAX_HANDSHAKE } else { MAX_REPLY };
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_without_what_is_somebodys() {
        for (said, hidden, told) in [
            ("5.1.1 <bob@diamond.example>: no such user", "bob", "5.1.1 *** no such user"),
            ("5.1.1 BOB is unknown", "bob", "5.1.1 *** is unknown"),
            ("no\r\nsuch\u{1b}[31m \u{202e}user", "bob", "no such [31m user"),
            ("5.7.1 bad https://diamond.example/account/reset there", "x@", "5.7.1 bad *** there"),
            ("spam: 123456", "bob", "spam: ***"),
            ("spam: 123 456.", "123456", "spam: ***."),
            ("spam:123456abc", "123456", "***"),
            ("bad correct horse battery", "correct horse", "bad *** battery"),
            ("", "bob", ""),
        ] {
            assert_eq!(without(said, &[hidden, ""]), told, "{said}");
        }
        assert_eq!(without(&"x ".repeat(1_000), &[]).len(), MAX_TOLD);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next_one() {
        // A listener that accepts nothing lets its queue fill up, and then leaves whoever connects without an answer.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(1).unwrap();
        let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(silent.1)).await {
            queued.push(stream.unwrap());
        }
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().map(|address| (good, address)).unwrap();
        let within = Duration::from_secs(3);
        for addresses in [vec![silent.1, good.1], vec![silent.1, silent.1, good.1], vec![good.1, silent.1]] {
            let (_, connected) = timeout(within, connect_to_first(&addresses, within)).await.unwrap().unwrap();
            assert_eq!(connected, good.1);
        }
        assert!(connect_to_first(&[], within).await.is_err());
    }
}
