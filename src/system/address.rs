//! IP addresses: which are of this machine or of a private network.

use std::net::IpAddr;

/// Whether an address is of this machine or of a private network, as a reverse proxy's is.
pub(crate) fn is_close(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
