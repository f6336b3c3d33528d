//! The few routing netlink requests that a network needs.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

/// Answers are an error number and the request's header.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// The gateway lies on this link, whatever the addresses say; from `uapi/linux/rtnetlink.h`.
const RTNH_F_ONLINK: u32 = 4;

/// Attributes that libc does not name, from the kernel's `uapi/linux/if_link.h`.
const IFLA_VLAN_ID: u16 = 1;
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_MIIMON: u16 = 3;
const IFLA_BOND_AD_LACP_RATE: u16 = 21;

/// How often a bond looks at its links.
const BOND_WATCH_MS: u32 = 100;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct NetError {
    what: String,
    source: io::Error,
}

/// How a bond shares its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BondMode {
    /// LACP.
    Lacp,
    /// One at a time.
    ActiveBackup,
}

impl BondMode {
    const fn number(self) -> u8 {
        match self {
            Self::ActiveBackup => 1,
            Self::Lacp => 4,
        }
    }
}

/// Changes the machine's links, addresses and routes.
#[derive(Debug)]
pub struct Links {
    socket: OwnedFd,
    sequence: u32,
}

impl Links {
    /// Opens the way to the kernel.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn open() -> Result<Self, NetError> {
        let failed = |error: nix::Error| NetError { what: "open a netlink socket".into(), source: error.into() };
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .map_err(failed)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Brings an interface up or down.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<(), NetError> {
        let up_flag = libc::IFF_UP as u32;
        let body = link_header(index, if up { up_flag } else { 0 }, up_flag);
        self.request(libc::RTM_NEWLINK, 0, body, || {
            format!("bring interface {index} {}", if up { "up" } else { "down" })
        })
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetError> {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(address) | !mask);
        let mut body = address_body(index, address, prefix);
        if prefix < 31 {
            attribute(&mut body, libc::IFA_BROADCAST, &broadcast.octets());
        }
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.request(libc::RTM_NEWADDR, flags, body, || {
            format!("give interface {index} the address {address}/{prefix}")
        })
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// Where the kernel refuses, also if it has no such address.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetError> {
        let body = address_body(index, address, prefix);
        self.request(libc::RTM_DELADDR, 0, body, || {
            format!("take the address {address}/{prefix} from interface {index}")
        })
    }

    /// Sends everything that is not local through `gateway`; a larger `metric` stands back behind a smaller one. The
    /// gateway need not lie within the interface's own network.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn add_default_route(&mut self, index: u32, gateway: Ipv4Addr, metric: u32) -> Result<(), NetError> {
        let mut body = vec![
            libc::AF_INET as u8,
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ];
        body.extend((RTNH_F_ONLINK).to_ne_bytes());
        attribute(&mut body, libc::RTA_GATEWAY, &gateway.octets());
        attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
        attribute(&mut body, libc::RTA_PRIORITY, &metric.to_ne_bytes());
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.request(libc::RTM_NEWROUTE, flags, body, || format!("route through {gateway} on interface {index}"))
    }

    /// Makes the VLAN interface `name` on top of another one.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn add_vlan(&mut self, parent: u32, id: u16, name: &str) -> Result<(), NetError> {
        let mut data = Vec::new();
        attribute(&mut data, IFLA_VLAN_ID, &id.to_ne_bytes());
        let mut body = link_header(0, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &zero_ended(name));
        attribute(&mut body, libc::IFLA_LINK, &parent.to_ne_bytes());
        attribute(&mut body, libc::IFLA_LINKINFO, &link_info("vlan", &data));
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.request(libc::RTM_NEWLINK, flags, body, || format!("make VLAN {id} on interface {parent}"))
    }

    /// Makes the bond `name`, without members.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn add_bond(&mut self, name: &str, mode: BondMode) -> Result<(), NetError> {
        let mut data = Vec::new();
        attribute(&mut data, IFLA_BOND_MODE, &[mode.number()]);
        attribute(&mut data, IFLA_BOND_MIIMON, &BOND_WATCH_MS.to_ne_bytes());
        if mode == BondMode::Lacp {
            attribute(&mut data, IFLA_BOND_AD_LACP_RATE, &[1]);
        }
        let mut body = link_header(0, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &zero_ended(name));
        attribute(&mut body, libc::IFLA_LINKINFO, &link_info("bond", &data));
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.request(libc::RTM_NEWLINK, flags, body, || format!("make the bond {name}"))
    }

    /// Makes an interface, which must be down, a member of a bond.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn join_bond(&mut self, member: u32, bond: u32) -> Result<(), NetError> {
        let mut body = link_header(member, 0, 0);
        attribute(&mut body, libc::IFLA_MASTER, &bond.to_ne_bytes());
        self.request(libc::RTM_NEWLINK, 0, body, || format!("add interface {member} to bond {bond}"))
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(
        &mut self,
        kind: u16,
        flags: libc::c_int,
        body: Vec<u8>,
        what: impl Fn() -> String,
    ) -> Result<(), NetError> {
        self.sequence += 1;
        let message = message(kind, flags, self.sequence, &body);
        let failed = |source: io::Error| NetError { what: what(), source };
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .map_err(|error| failed(error.into()))?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let length =
                recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(|error| failed(error.into()))?;
            match acknowledged(&answer[..length], self.sequence) {
                Some(0) => return Ok(()),
                Some(number) => return Err(failed(io::Error::from_raw_os_error(number))),
                None => {}
            }
        }
    }
}

/// A request with its header.
fn message(kind: u16, flags: libc::c_int, sequence: u32, body: &[u8]) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// The error number in the acknowledgement of request `sequence`, 0 for success.
fn acknowledged(answer: &[u8], sequence: u32) -> Option<i32> {
    let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    (libc::c_int::from(kind) == libc::NLMSG_ERROR && word(8)? == sequence).then(|| word(16))?.map(|n| -(n as i32))
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

/// `struct ifaddrmsg` and the address.
fn address_body(index: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, libc::IFA_LOCAL, &address.octets());
    attribute(&mut body, libc::IFA_ADDRESS, &address.octets());
    body
}

/// The attribute that says which kind of made-up link it is.
fn link_info(kind: &str, data: &[u8]) -> Vec<u8> {
    let mut info = Vec::new();
    attribute(&mut info, libc::IFLA_INFO_KIND, kind.as_bytes());
    attribute(&mut info, libc::IFLA_INFO_DATA, data);
    info
}

/// Appends an attribute, padded to four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn zero_ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_their_length_is_not() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"eth0\0");
        assert_eq!(body, [&9u16.to_ne_bytes()[..], &3u16.to_ne_bytes(), b"eth0\0\0\0\0"].concat());
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let answer = |sequence: u32, number: i32| {
            let mut answer = message(libc::NLMSG_ERROR as u16, 0, sequence, &number.to_ne_bytes());
            answer.extend([0; 16]);
            answer
        };
        assert_eq!(acknowledged(&answer(7, 0), 7), Some(0));
        assert_eq!(acknowledged(&answer(7, -libc::EPERM), 7), Some(libc::EPERM));
        assert_eq!(acknowledged(&answer(6, 0), 7), None);
        assert_eq!(acknowledged(&answer(7, 0)[..18], 7), None);
        assert_eq!(acknowledged(&[], 7), None);
    }
}
