//! Which addresses a request may lead to. A name may lead anywhere, also into the network that the service stands in: to
//! the database beside it, to the metadata of a cloud. Only what is out in the open may be asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether everybody can reach this address: a global unicast address that is not set aside for anything else.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// Whether this address is of this machine or of a private network. Not those that nobody is meant to ask: link-local
/// addresses, where clouds have their metadata, multicast, and what stands for no address.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            matches!(ip.octets(), [10 | 127, ..] | [100, 64..=127, ..] | [172, 16..=31, ..] | [192, 168, ..])
        }
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST || ip.segments()[0] & 0xfe00 == 0xfc00,
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let reserved = matches!(
        ip.octets(),
        [0 | 10 | 127 | 224.., ..] // this network, private, loopback, multicast and reserved
            | [100, 64..=127, ..]  // carriers' NAT
            | [169, 254, ..]       // link-local, with the metadata of clouds
            | [172, 16..=31, ..]   // private
            | [192, 0, 0 | 2, _]   // protocols, documentation
            | [192, 88, 99, _]     // the former relays of 6to4
            | [192, 168, ..]       // private
            | [198, 18 | 19, ..]   // benchmarks
            | [198, 51, 100, _]    // documentation
            | [203, 0, 113, _] // documentation
    );
    !reserved
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // NAT64, by which a machine without IPv4 reaches it: where it leads to counts.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        // Teredo, ORCHID, benchmarks and other protocols; documentation, twice; 6to4.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x2002, ..] => false,
        // Of all the rest, addresses for everybody are handed out from this block alone.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_anybody_can_reach_is_public() {
        for ip in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
        ]
        .into_iter()
        .chain([
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ]) {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_address_of_a_private_network_or_of_none_is_not_public_in_any_spelling() {
        let v4 = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ];
        for ip in v4 {
            for ip in [ip.to_owned(), format!("::ffff:{ip}"), format!("64:ff9b::{ip}"), format!("::{ip}")] {
                assert!(!is_public(ip.parse().unwrap()), "{ip}");
            }
        }
        for ip in [
            "::",
            "::1",
            "::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:0:7f00:1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_address_of_a_private_network_is_private_and_the_metadata_of_clouds_is_not() {
        for ip in
            ["10.1.2.3", "127.0.0.1", "::ffff:127.0.0.1", "100.64.0.1", "172.31.0.1", "192.168.0.9", "::1", "fd12::1"]
        {
            assert!(is_private(ip.parse().unwrap()) && !is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::10.0.0.1",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "8.8.8.8",
            "2606:4700::1111",
        ] {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }
}
