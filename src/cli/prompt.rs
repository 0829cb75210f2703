//! Prompts: for a password without echo, and for a confirmation.
//!
//! A password comes from a terminal or from standard input, never from an argument or the environment, where the
//! system's other users and a shell's history would find it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::thread;

use bytesize::ByteSize;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use tokio::sync::oneshot;

use crate::cli::context::CommandError;
use crate::cli::output::printable;
use crate::config::{Config, PasswordConfig};
use crate::domain::field::InvalidField;
use crate::domain::user::{PasswordHash, Username};
use crate::passwords::{PasswordPolicy, Passwords, PlainPassword};
use crate::server::application::stop_signal;
use crate::system::watched::WatchedThreads;

/// Asks for a new password and hashes it. At a terminal it is typed twice and not shown; otherwise it is the first line
/// of standard input without its line ending.
///
/// # Errors
/// [`CommandError`] when there is none, when it breaks the policy, or when it is too long to log in with.
pub async fn new_password(config: &Config, username: &Username) -> Result<PasswordHash, CommandError> {
    let PasswordConfig { bcrypt_cost, min_length, reject_common, .. } = config.password;
    let policy = PasswordPolicy { min_length, reject_common };
    let body_limit = config.server.password_body_limit.min(config.server.body_limit);
    let rules = Rules { policy, username, body_limit };
    let start =
        || Passwords::start(bcrypt_cost, NonZeroUsize::MIN, 1, &WatchedThreads::default()).map_err(CommandError::Start);
    if !io::stdin().is_terminal() {
        let password = rules.accept(line(io::stdin().lock(), rules.body_limit).map_err(CommandError::Input)?)?;
        return Ok(start()?.hash(password, std::future::pending()).await?);
    }
    // Listens to signals before it asks, so that no Ctrl-C is lost between a question and the wait for its answer.
    let mut stopped = pin!(stop_signal().map_err(CommandError::Start)?);
    let password = typed(&rules, stopped.as_mut()).await?;
    let passwords = start()?;
    tokio::select! {
        biased;
        () = stopped => Err(CommandError::Interrupted),
        hash = passwords.hash(password, std::future::pending()) => Ok(hash?),
    }
}

/// Checks a new password against the policy.
struct Rules<'a> {
    policy: PasswordPolicy,
    username: &'a Username,
    body_limit: ByteSize,
}

impl Rules<'_> {
    fn accept(&self, line: Vec<u8>) -> Result<PlainPassword, CommandError> {
        let fits = |length: usize| ByteSize(length as u64) <= self.body_limit;
        // A line that is too long is not decoded: it may be cut in the middle of a character.
        let text = if fits(line.len()) { Some(String::from_utf8(line)) } else { None };
        let text = text.transpose().map_err(|error| CommandError::Input(io::Error::other(error)))?;
        let login = |text: &String| json!({"username": self.username.as_str(), "password": text}).to_string();
        let Some(text) = text.filter(|text| fits(login(text).len())) else {
            let rule =
                format!("must fit into a login, which is at most {} by [server] password_body_limit", self.body_limit);
            return Err(InvalidField { field: "password", rule }.into());
        };
        let password = PlainPassword::parse("password", text)?;
        self.policy.check("password", &password)?;
        Ok(password)
    }
}

async fn typed(
    rules: &Rules<'_>,
    mut stopped: Pin<&mut impl Future<Output = ()>>,
) -> Result<PlainPassword, CommandError> {
    let terminal = Silenced::open().map_err(CommandError::Input)?;
    let mut ask = async |question| {
        let answer = terminal.ask(question).map_err(CommandError::Input)?;
        tokio::select! {
            biased;
            () = &mut stopped => Err(CommandError::Interrupted),
            line = answer => line.unwrap_or(Err(io::ErrorKind::BrokenPipe.into())).map_err(CommandError::Input),
        }
    };
    let first = ask("New password: ").await?;
    let password = rules.accept(first.clone())?;
    if ask("The same again: ").await? == first { Ok(password) } else { Err(CommandError::PasswordsDiffer) }
}

/// The longest line that a Linux terminal delivers (canonical mode). It drops the remainder silently.
const LONGEST_TYPED: usize = 4_095;

/// The terminal with echo off; dropping it turns echo on again. Meanwhile no key suspends the command or ends it with a
/// core dump, because the shell would then restore the terminal's settings too early, or not at all.
struct Silenced {
    terminal: File,
    before: Termios,
}

impl Silenced {
    fn open() -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
            silent.special_codes[key] = 0;
        }
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }

    /// Asks for a line. A read cannot be cancelled, so it has a thread of its own, which ends with the process.
    fn ask(&self, question: &str) -> io::Result<oneshot::Receiver<io::Result<Vec<u8>>>> {
        let mut terminal = self.terminal.try_clone()?;
        terminal.write_all(question.as_bytes())?;
        let (answer, answered) = oneshot::channel();
        let ask = move || {
            let longest = ByteSize(LONGEST_TYPED as u64);
            let line = line(BufReader::new(&terminal), longest).and_then(|line| match line.len() {
                LONGEST_TYPED.. => Err(io::Error::other("a terminal cuts a line as long as that; use a pipe")),
                _ => Ok(line),
            });
            // The newline that was typed is not echoed either.
            let _ = terminal.write_all(b"\n");
            let _ = answer.send(line);
        };
        thread::Builder::new().name("prompt".to_owned()).spawn(ask)?;
        Ok(answered)
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // What was typed after an interrupted question is discarded.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Reads one line without its line ending. A line longer than `longest` is cut after one more byte, by which the caller
/// notices it.
fn line(input: impl io::BufRead, longest: ByteSize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(longest.as_u64().saturating_add(1)).read_until(b'\n', &mut line)?;
    // One line ending of Unix or Windows. A carriage return alone is a character like any other.
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    }
    Ok(line)
}

/// Asks for a confirmation, unless `yes` gives it already.
///
/// # Errors
/// [`CommandError::Declined`], or [`CommandError::NeedsYes`] where nobody can be asked.
pub fn confirm(question: &str, yes: bool) -> Result<(), CommandError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CommandError::NeedsYes);
    }
    let mut answer = String::new();
    let _ = write!(io::stderr(), "{} [y/N] ", printable(question));
    match io::stdin().read_line(&mut answer) {
        Ok(_) if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) => Ok(()),
        _ => Err(CommandError::Declined),
    }
}
