//! A provider of identities: HTTP on the loopback address, with a key of its own. It poses as any that the service
//! knows, and says what a test has it say.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What it calls its key.
const KEY_ID: &str = "key-1";

/// The id that it has given to our app.
pub const CLIENT_ID: &str = "org.example.cellar";

/// A provider, which ends with its value.
pub struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

struct Shared {
    key: EcdsaKeyPair,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each code is exchanged for: the claims, the refresh token, and the challenge that the verifier must fit.
    codes: HashMap<String, (Value, Option<String>, Option<String>)>,
    /// What GitHub says of whoever has an access token: `/user`, `/user/emails`.
    github: Option<(Value, Value)>,
    /// The client ids with which codes were to be exchanged.
    exchanging: Vec<String>,
    /// The refresh tokens that were revoked.
    revoked: Vec<String>,
    /// How many keys it publishes behind its own.
    more_keys: usize,
    /// Whether it answers nothing but errors.
    is_down: bool,
    /// Every path that was asked for.
    asked: Vec<String>,
    ends: bool,
}

impl Provider {
    pub fn start() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { key, state: Mutex::default() });
        let serving = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming() {
                    if shared.state.lock().unwrap().ends {
                        return;
                    }
                    let (shared, stream) = (Arc::clone(&shared), stream.unwrap());
                    thread::spawn(move || shared.answer(&stream, address));
                }
            }
        });
        Self { address, shared, serving: Some(serving) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// An ID token that says this.
    pub fn sign(&self, claims: &Value) -> String {
        self.shared.sign(claims)
    }

    /// Has a code exchanged for an ID token that says this.
    pub fn give(&self, code: &str, claims: &Value, refresh_token: Option<&str>, challenge: Option<&str>) {
        let given = (claims.clone(), refresh_token.map(str::to_owned), challenge.map(str::to_owned));
        self.state().codes.insert(code.to_owned(), given);
    }

    /// Poses as GitHub, which says this of whoever asks.
    pub fn pose_as_github(&self, user: Value, emails: Value) {
        self.state().github = Some((user, emails));
    }

    /// Publishes so many keys behind its own.
    pub fn publish_more_keys(&self, count: usize) {
        self.state().more_keys = count;
    }

    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    pub fn exchanging(&self) -> Vec<String> {
        self.state().exchanging.clone()
    }

    pub fn revoked(&self) -> Vec<String> {
        self.state().revoked.clone()
    }

    pub fn asked(&self, path: &str) -> usize {
        self.state().asked.iter().filter(|asked| *asked == path).count()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.state().ends = true;
        let _ = TcpStream::connect(self.address);
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&json!({"alg": "ES256", "kid": KEY_ID, "typ": "JWT"})), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn keys(&self, more: usize) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let key = |id| json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y});
        let more = (0..more).map(|number| key(format!("more-{number}")));
        let keys: Vec<_> = [key(KEY_ID.to_owned())].into_iter().chain(more).collect();
        json!({ "keys": keys })
    }

    fn answer(&self, stream: &TcpStream, address: SocketAddr) {
        let mut reader = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or_default() == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or_default() <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let target = first.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
        let (status, answer) = self.answer_to(&path, &form, address);
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        let mut stream = stream;
        let _ = stream.write_all(format!("{head}{text}").as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
    }

    fn answer_to(&self, path: &str, form: &HashMap<String, String>, address: SocketAddr) -> (u16, Value) {
        let mut state = self.state.lock().unwrap();
        state.asked.push(path.to_owned());
        if state.is_down {
            return (503, json!({}));
        }
        let url = |path: &str| format!("http://{address}{path}");
        if path == "/.well-known/openid-configuration" {
            let document = json!({
                "issuer": format!("http://{address}"),
                "authorization_endpoint": url("/authorize"),
                "token_endpoint": url("/token"),
                "jwks_uri": url("/keys"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "authorization_response_iss_parameter_supported": true,
            });
            return (200, document);
        }
        if path.ends_with("/keys") || path.ends_with("/certs") {
            return (200, self.keys(state.more_keys));
        }
        if path.ends_with("/revoke") {
            state.revoked.push(form.get("token").cloned().unwrap_or_default());
            return (200, json!({}));
        }
        if let Some((user, emails)) = &state.github {
            match path {
                "/user" => return (200, user.clone()),
                "/user/emails" => return (200, emails.clone()),
                _ => {}
            }
        }
        if path.ends_with("/token") || path.ends_with("/access_token") {
            let code = form.get("code").cloned().unwrap_or_default();
            state.exchanging.push(form.get("client_id").cloned().unwrap_or_default());
            let Some((claims, refresh_token, challenge)) = state.codes.remove(&code) else {
                return (400, json!({"error": "invalid_grant"}));
            };
            let verifier = form.get("code_verifier").cloned().unwrap_or_default();
            if challenge.is_some_and(|challenge| challenge != URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))) {
                return (400, json!({"error": "invalid_grant"}));
            }
            let mut answer = json!({"access_token": "a", "token_type": "Bearer", "id_token": self.sign(&claims)});
            if let Some(token) = refresh_token {
                answer["refresh_token"] = token.into();
            }
            return (200, answer);
        }
        (404, json!({}))
    }
}
