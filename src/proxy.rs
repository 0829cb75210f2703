//! Where a request comes from, behind proxies or not.
//!
//! `X-Forwarded-For` can be sent by anyone. It is believed only as far as proxies that the operator named have written
//! it: from its end, one entry for each of them, to the first address that is none of theirs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use ipnet::IpNet;

/// The proxies whose word is taken.
#[derive(Debug)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// Said once: a proxy on this machine that nobody trusts makes all of its clients one.
    warned: Once,
}

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self { networks, warned: Once::new() }
    }

    /// The address of the client, given the peer's and the values of `X-Forwarded-For` in their order.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut forwarded = forwarded.rev().peekable();
        if forwarded.peek().is_some() && client.is_loopback() && !self.trusts(client) {
            self.warned.call_once(|| {
                log::warn!(
                    "a proxy on this machine sends X-Forwarded-For and is not trusted: all of its clients count as one \
                     address; see [server] trusted_proxies"
                );
            });
        }
        for entry in forwarded.flat_map(|value| value.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            // Some proxies write the port as well.
            let entry = entry.trim();
            match entry.parse().or_else(|_| entry.parse().map(|address: SocketAddr| address.ip())) {
                Ok(address) => client = IpAddr::to_canonical(&address),
                Err(_) => break,
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::new(trusted.iter().map(|network| network.parse().unwrap()).collect());
        proxies.client(peer.parse().unwrap(), forwarded.iter().copied()).to_string()
    }

    #[test]
    fn a_forwarded_address_is_believed_only_from_a_trusted_proxy() {
        assert_eq!(client(&[], "127.0.0.1", &["203.0.113.9"]), "127.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "127.0.0.1", &["203.0.113.9"]), "127.0.0.1");
        assert_eq!(client(&["127.0.0.0/8"], "127.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&["127.0.0.0/8"], "::ffff:127.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client(&["127.0.0.0/8"], "127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(client(&["127.0.0.0/8"], "127.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client(&["127.0.0.0/8"], "127.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
    }

    #[test]
    fn what_a_client_wrote_before_the_proxies_is_not_believed() {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8"];
        assert_eq!(client(&trusted, "127.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&trusted, "127.0.0.1", &["198.51.100.1, 203.0.113.9, 10.1.2.3"]), "203.0.113.9");
        assert_eq!(client(&trusted, "127.0.0.1", &["198.51.100.1", "203.0.113.9", "10.1.2.3"]), "203.0.113.9");
        assert_eq!(client(&trusted, "127.0.0.1", &["203.0.113.9, junk, 10.1.2.3"]), "10.1.2.3");
    }
}
