//! Enough of a network to reach a server from an initramfs: links, addresses, routes, VLANs, bonds, DHCP.

mod dhcp;
mod interfaces;
mod netlink;

pub use dhcp::{DhcpError, DhcpMessage, DhcpMessageType, Lease, renew_lease, request_lease};
pub use interfaces::{Interface, interfaces};
pub use netlink::{BondMode, Links, NetError};
