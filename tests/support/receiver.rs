//! A receiver of webhooks: HTTP on the loopback address. It keeps what it is sent, and answers what a test has it answer.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

/// A message as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    /// By their names in lower case.
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Received {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Which of these secrets, as they are shown, have signed it.
    pub fn signed_by<'a>(&self, secrets: &[&'a str]) -> Vec<&'a str> {
        let signatures: Vec<_> = self.headers["webhook-signature"].split(' ').collect();
        let signed = format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.body);
        let has_signed = |secret: &&str| {
            let bytes = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
            assert!((24..=64).contains(&bytes.len()));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), signed.as_bytes());
            signatures.contains(&&*format!("v1,{}", STANDARD.encode(tag)))
        };
        secrets.iter().copied().filter(has_signed).collect()
    }
}

/// What it answers to a path: bytes, or nothing for as long as the connection lasts.
#[derive(Clone)]
pub enum Answer {
    Bytes(String),
    Hang,
}

/// Listens until the process ends.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, answers) = (Arc::default(), Arc::default());
        let receiver = Self { address, received: Arc::clone(&messages), answers: Arc::clone(&answers) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (messages, answers) = (Arc::clone(&messages), Arc::clone(&answers));
                thread::spawn(move || serve(&stream, &messages, &answers));
            }
        });
        receiver
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Has a path answer with this status, and with these headers, each with its line's end.
    pub fn answer(&self, path: &str, status: u16, headers: &str, body: &str) {
        let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        self.answers.lock().unwrap().insert(path.to_owned(), Answer::Bytes(text));
    }

    pub fn hang(&self, path: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), Answer::Hang);
    }

    /// What a path was sent, in its order.
    pub fn received(&self, path: &str) -> Vec<Received> {
        self.received.lock().unwrap().iter().filter(|message| message.path == path).cloned().collect()
    }
}

fn serve(stream: &TcpStream, received: &Mutex<Vec<Received>>, answers: &Mutex<HashMap<String, Answer>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or_default() == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let body = String::from_utf8(body).unwrap();
    received.lock().unwrap().push(Received { path: path.clone(), headers, body });
    let answer = answers.lock().unwrap().get(&path).cloned();
    match answer.unwrap_or_else(|| Answer::Bytes("HTTP/1.1 204 No Content\r\n\r\n".to_owned())) {
        Answer::Bytes(bytes) => {
            let _ = (&*stream).write_all(bytes.as_bytes());
        }
        Answer::Hang => {
            let _ = reader.read(&mut [0]);
        }
    }
}
