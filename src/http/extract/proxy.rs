//! The client's address, behind proxies or not.
//!
//! `X-Forwarded-For` can be sent by anyone. It is believed only as far as trusted proxies, those that the operator has
//! configured, have written it: it is read from its end, one entry for each of them, to the first address that is none
//! of theirs.

use std::net::IpAddr;
use std::sync::Once;

use ipnet::IpNet;

use crate::system::address::is_close;

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Debug)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// The warning is logged once: all clients of a nearby proxy that is not trusted count as one.
    warned: Once,
}

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self { networks, warned: Once::new() }
    }

    /// The client's address, given the peer's and the values of `X-Forwarded-For` in their order.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut forwarded = forwarded.rev().peekable();
        // Only for a nearby peer: anyone further away may send the header.
        if forwarded.peek().is_some() && is_close(client) && !self.trusts(client) {
            self.warned.call_once(|| {
                log::warn!(
                    "{client} sends X-Forwarded-For and is not trusted: if it is a proxy, all of its clients count as \
                     one address; see [server] trusted_proxies"
                );
            });
        }
        for entry in forwarded.flat_map(|value| value.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            // RFC 9110 (5.6.1.2) has empty elements of a list ignored.
            if entry.trim().is_empty() {
                continue;
            }
            match address(entry) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// The address in an entry, in each of the forms that proxies write: bare, with a port, in brackets, in quotes, with the
/// zone of a link.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim().trim_matches('"');
    let (host, port) = match entry.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        // With more than one colon it is an IPv6 address without a port.
        None => entry.find(':').filter(|at| entry.rfind(':') == Some(*at)).map_or((entry, ""), |at| entry.split_at(at)),
    };
    if !port.is_empty() {
        port.strip_prefix(':')?.parse::<u16>().ok()?;
    }
    match host.split_once('%') {
        Some((host, _zone)) => host.parse().ok().map(IpAddr::V6),
        None => host.parse().ok(),
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
    }

    #[test]
    fn an_address_is_read_in_every_form_that_proxies_write() {
        for (entry, address) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("\t203.0.113.9 ", "203.0.113.9"),
            ("\"203.0.113.9\"", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("[::ffff:203.0.113.9]:4711", "203.0.113.9"),
            ("2001:db8::5", "2001:db8::5"),
            ("[2001:db8::5]", "2001:db8::5"),
            ("[2001:DB8::5]:443", "2001:db8::5"),
            ("\"[2001:db8::5]:443\"", "2001:db8::5"),
            ("fe80::5%eth0", "fe80::5"),
            ("[fe80::5%25eth0]:443", "fe80::5"),
        ] {
            assert_eq!(client(&["127.0.0.0/8"], "127.0.0.1", &[entry]), address, "{entry}");
        }
        for junk in [
            "",
            "unknown",
            "_hidden",
            "203.0.113",
            "203.0.113.9:",
            "203.0.113.9:http",
            "203.0.113.9%eth0",
            "[2001:db8::5",
            "[2001:db8::5]443",
            "[2001:db8::5]:x",
            "[203.0.113.9:80]",
            "for=203.0.113.9",
        ] {
            assert_eq!(client(&["127.0.0.0/8"], "127.0.0.1", &[junk]), "127.0.0.1", "{junk}");
        }
    }

    #[test]
    fn what_a_client_wrote_before_the_proxies_is_not_believed() {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8"];
        assert_eq!(client(&trusted, "127.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&trusted, "127.0.0.1", &["198.51.100.1, 203.0.113.9, 10.1.2.3"]), "203.0.113.9");
        assert_eq!(client(&trusted, "127.0.0.1", &["198.51.100.1", "203.0.113.9", "10.1.2.3"]), "203.0.113.9");
        assert_eq!(client(&trusted, "127.0.0.1", &["203.0.113.9, junk, 10.1.2.3"]), "10.1.2.3");
        for empty in [&["203.0.113.9, "][..], &["203.0.113.9,,"], &["203.0.113.9", ""], &["203.0.113.9, , 10.1.2.3"]] {
            assert_eq!(client(&trusted, "127.0.0.1", empty), "203.0.113.9", "an empty element is none");
        }
    }

    #[test]
    fn a_proxy_close_by_that_nobody_trusts_is_warned_of_and_a_stranger_is_not() {
        let warns = |trusted: &[&str], peer: &str, forwarded: &[&str]| {
            let proxies = TrustedProxies::new(trusted.iter().map(|network| network.parse().unwrap()).collect());
            proxies.client(peer.parse().unwrap(), forwarded.iter().copied());
            proxies.warned.is_completed()
        };
        for near in
            ["127.0.0.1", "::1", "::ffff:10.0.0.2", "172.17.0.1", "192.168.1.1", "169.254.0.1", "fd00::1", "fe80::1"]
        {
            assert!(warns(&["192.0.2.1/32"], near, &["203.0.113.9"]), "{near}");
            assert!(!warns(&[], near, &[]), "{near}: no proxy");
        }
        assert!(!warns(&["10.0.0.0/8"], "10.0.0.2", &["203.0.113.9"]), "trusted");
        assert!(!warns(&[], "203.0.113.9", &["10.0.0.2"]), "a stranger");
    }
}
