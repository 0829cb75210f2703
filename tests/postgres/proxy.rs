//! A proxy between a node and PostgreSQL that loses what it is told to lose.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::sleep;

/// What happens to the next COMMIT, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives, and the connection is cut at both ends.
    CommitIsLost,
    /// It arrives, and its answer does not.
    AnswerIsLost,
    /// The node's end is cut at once, and it arrives a second later.
    CommitIsLate,
}

/// The proxy.
pub struct Proxy {
    /// The URL of the same database behind it.
    pub url: String,
    socket: PathBuf,
    fault: Mutex<Option<Fault>>,
    is_stuck: AtomicBool,
}

impl Proxy {
    /// Starts one in front of the database of this URL.
    pub async fn start(url: &str) -> Arc<Self> {
        let (database, folder) = url.strip_prefix("postgres:///").and_then(|rest| rest.split_once("?host=")).unwrap();
        let folder = folder.split('&').next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::new(Self {
            url: format!("postgres://authtokens@127.0.0.1:{port}/{database}"),
            socket: PathBuf::from(folder).join(".s.PGSQL.5432"),
            fault: Mutex::default(),
            is_stuck: AtomicBool::new(false),
        });
        tokio::spawn({
            let proxy = Arc::clone(&proxy);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&proxy).serve(client));
                }
            }
        });
        proxy
    }

    pub fn fail_next_commit(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Forwards nothing any more, and cuts nothing; or goes on where it had stopped.
    pub fn set_stuck(&self, is_stuck: bool) {
        self.is_stuck.store(is_stuck, Ordering::SeqCst);
    }

    async fn serve(self: Arc<Self>, client: TcpStream) {
        let Ok(server) = UnixStream::connect(&self.socket).await else { return };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let answers = tokio::spawn({
            let proxy = Arc::clone(&self);
            async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                    proxy.while_stuck().await;
                    if to_client.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            }
        });
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            self.while_stuck().await;
            let bytes = &buffer[..length];
            let is_commit = bytes.windows(7).any(|bytes| bytes == b"COMMIT\0");
            let fault = if is_commit { self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() } else { None };
            if fault.is_some() {
                answers.abort();
            }
            match fault {
                Some(Fault::CommitIsLost) => return,
                Some(Fault::AnswerIsLost) => {
                    let _ = to_server.write_all(bytes).await;
                    // Until it has been carried out: a COMMIT whose connection is closed already is one all the same.
                    return sleep(Duration::from_millis(100)).await;
                }
                Some(Fault::CommitIsLate) => {
                    drop(from_client);
                    sleep(Duration::from_secs(1)).await;
                    let _ = to_server.write_all(bytes).await;
                    return sleep(Duration::from_millis(100)).await;
                }
                None => {}
            }
            if to_server.write_all(bytes).await.is_err() {
                break;
            }
        }
        answers.abort();
    }

    async fn while_stuck(&self) {
        while self.is_stuck.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
    }
}
