//! What the service and systemd have to tell each other, where systemd starts it.
//!
//! systemd learns when the service can be reached and when it begins to stop (`Type=notify`), and may pass a port that
//! it holds open itself (socket activation): then a restart refuses nobody, for connections wait in the port meanwhile.
//! Started by anyone else, the service finds neither variable in its environment and nothing happens here.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::system::error_chain::Chain;

/// The port that systemd passes, if it does. To be asked once, before any thread is started: it takes the variables out
/// of the environment, so that they mean nothing to anyone else.
///
/// # Errors
/// When what is passed is not one TCP socket.
pub fn listener() -> io::Result<Option<TcpListener>> {
    let mut passed = ListenFd::from_env();
    if passed.len() > 1 {
        return Err(io::Error::other(format!("systemd passes {} sockets, and one is enough", passed.len())));
    }
    let refused = |error| io::Error::other(format!("cannot use the socket that systemd passes: {error}"));
    passed.take_tcp_listener(0).map_err(refused)
}

/// Says that the service can be reached.
pub fn ready(address: SocketAddr) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on http://{address}"))]);
}

/// Says that the service has begun to stop.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing the requests that were accepted")]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("systemd could not be told: {}", Chain(&error));
    }
}
