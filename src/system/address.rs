//! IP addresses: which are of this machine or of a private network, and which count as one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is of this machine or of a private network, as a reverse proxy's is.
pub(crate) fn is_close(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64.
#[must_use]
pub fn network(ip: IpAddr) -> IpAddr {
    prefix(ip, 32, 64)
}

/// The network that is familiar as soon as one of its addresses is: an IPv4 /24 or an IPv6 /48. Phones and homes change
/// addresses within one.
#[must_use]
pub fn neighbourhood(ip: IpAddr) -> IpAddr {
    prefix(ip, 24, 48)
}

/// The network that the neighbourhoods of one owner are usually in: an IPv4 /16 or an IPv6 /32.
#[must_use]
pub fn block(ip: IpAddr) -> IpAddr {
    prefix(ip, 16, 32)
}

fn prefix(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - v4_bits))).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - v6_bits))).into(),
    }
}
