//! Talks to systemd, where systemd has started the service.
//!
//! systemd is notified when the service can be reached and when it begins to stop (`Type=notify`). It may pass a
//! listening socket that it holds open itself (socket activation): then a restart refuses nobody, because connections
//! wait in the socket meanwhile. Started by anything else, the service finds neither variable in its environment, and
//! nothing happens here.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::system::error_chain::Chain;

/// The listening socket that systemd passes, if it does. Call it once, before any thread is started: it removes the
/// variables from the environment, so that no child process takes them for its own.
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

/// Notifies systemd that the service can be reached.
pub fn ready(address: SocketAddr) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on http://{address}"))]);
}

/// Notifies systemd that the service has begun to stop.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing the requests that were accepted")]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("systemd could not be told: {}", Chain(&error));
    }
}
