//! A DHCPv4 client: one address for one interface, over an ordinary UDP socket bound to it.
//!
//! `mozim` of the crates list needs an async runtime and a raw socket; PID 1 has neither to spare. Answers are asked
//! for as broadcasts (RFC 2131, 4.1), so that they arrive before the interface has an address.

mod message;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

pub use message::{DhcpMessage, DhcpMessageType};

use super::Interface;

/// The client's port.
const CLIENT_PORT: u16 = 68;
/// The server's port.
const SERVER_PORT: u16 = 67;
/// What a datagram may hold; longer ones are cut off, which makes them invalid.
const DATAGRAM_BYTES_MAX: usize = 1500;
/// How long the first question waits for an answer; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(1000);
/// The longest wait for an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// A server that names no time, or a silly one, gets asked again after this.
const LEASE_SECONDS_MIN: u32 = 60;

/// An address that a server lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Who lent it.
    pub server: Ipv4Addr,
    /// For how long.
    pub seconds: u32,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// The socket failed.
    #[error("cannot speak DHCP on {interface}")]
    Socket {
        /// The interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answered.
    #[error("no DHCP server answered on {interface} within {seconds} s")]
    NoAnswer {
        /// The interface.
        interface: String,
        /// How long was waited.
        seconds: u64,
    },
}

impl DhcpError {
    /// What to do about it, for operators.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Socket { .. } => None,
            Self::NoAnswer { .. } => {
                Some("check cable and VLAN, or give a fixed address: ip=ADDRESS::GATEWAY:NETMASK::INTERFACE:none")
            }
        }
    }
}

/// Asks for an address until one is lent or `patience` is over. The interface must be up.
///
/// # Errors
/// See [`DhcpError`].
pub fn request_lease(interface: &Interface, patience: Duration) -> Result<Lease, DhcpError> {
    converse(interface, patience, None)
}

/// Asks for more time. The answer may be another address.
///
/// # Errors
/// See [`DhcpError`].
pub fn renew_lease(interface: &Interface, lease: &Lease, patience: Duration) -> Result<Lease, DhcpError> {
    converse(interface, patience, Some(lease))
}

fn converse(interface: &Interface, patience: Duration, held: Option<&Lease>) -> Result<Lease, DhcpError> {
    let failed = |source| DhcpError::Socket { interface: interface.name.clone(), source };
    let socket = open_socket(&interface.name).map_err(failed)?;
    let begun = Instant::now();
    let mut dialog = Dialog::new(interface.mac.0, random(), held.cloned());
    let mut wait = FIRST_WAIT;
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    loop {
        let question = dialog.question(begun.elapsed());
        // A link that is just coming up may refuse to send; that is what the next question is for.
        let _ = socket.send_to(&question.encode(), SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT));
        let until = Instant::now() + wait + Duration::from_millis(random::<u64>() % 500);
        loop {
            if begun.elapsed() >= patience {
                return Err(DhcpError::NoAnswer { interface: interface.name.clone(), seconds: patience.as_secs() });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                wait = (wait * 2).min(LONGEST_WAIT);
                dialog.silence();
                break;
            }
            socket.set_read_timeout(Some(left)).map_err(failed)?;
            let length = match socket.recv_from(&mut datagram) {
                Ok((length, _)) => length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            let Some(answer) = DhcpMessage::decode(&datagram[..length]) else { continue };
            match dialog.hear(&answer) {
                Heard::Nothing => {}
                Heard::Progress => {
                    wait = FIRST_WAIT;
                    break;
                }
                Heard::Lent(lease) => return Ok(lease),
            }
        }
    }
}

/// Several interfaces ask at the same time, each on a socket of its own.
fn open_socket(interface: &str) -> io::Result<UdpSocket> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
    Ok(socket.into())
}

/// The standard library seeds its hash maps from the kernel; that is random enough for a transaction's number.
fn random<T: TryFrom<u64> + Default>() -> T {
    let number = RandomState::new().build_hasher().finish();
    T::try_from(number & 0x7fff_ffff).unwrap_or_default()
}

/// The conversation, without its socket and clock.
#[derive(Debug)]
struct Dialog {
    mac: [u8; 6],
    transaction: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody offered anything yet.
    Discovering,
    /// One offer is asked for; after some silence it is given up.
    Requesting { offer: DhcpMessage, silences: u8 },
    /// A lease held is asked for again.
    Renewing(Lease),
}

#[derive(Debug, PartialEq)]
enum Heard {
    Nothing,
    /// The next question is due now.
    Progress,
    Lent(Lease),
}

impl Dialog {
    fn new(mac: [u8; 6], transaction: u32, held: Option<Lease>) -> Self {
        Self { mac, transaction, state: held.map_or(State::Discovering, State::Renewing) }
    }

    fn question(&self, elapsed: Duration) -> DhcpMessage {
        let seconds = u16::try_from(elapsed.as_secs()).unwrap_or(u16::MAX);
        match &self.state {
            State::Discovering => DhcpMessage::question(DhcpMessageType::Discover, self.transaction, self.mac, seconds),
            State::Requesting { offer, .. } => DhcpMessage {
                requested: Some(offer.your_address),
                server: offer.server,
                ..DhcpMessage::question(DhcpMessageType::Request, self.transaction, self.mac, seconds)
            },
            State::Renewing(lease) => DhcpMessage {
                client_address: lease.address,
                ..DhcpMessage::question(DhcpMessageType::Request, self.transaction, self.mac, seconds)
            },
        }
    }

    fn silence(&mut self) {
        if let State::Requesting { silences, .. } = &mut self.state {
            *silences += 1;
            if *silences > 2 {
                self.state = State::Discovering;
            }
        }
    }

    fn hear(&mut self, answer: &DhcpMessage) -> Heard {
        if !answer.is_reply || answer.transaction != self.transaction || answer.mac != self.mac {
            return Heard::Nothing;
        }
        match (answer.kind, &self.state) {
            (DhcpMessageType::Offer, State::Discovering) if usable(answer.your_address) => {
                self.state = State::Requesting { offer: answer.clone(), silences: 0 };
                Heard::Progress
            }
            (DhcpMessageType::Ack, State::Requesting { .. } | State::Renewing(_)) if usable(answer.your_address) => {
                Heard::Lent(lease_of(answer))
            }
            // The server does not want us to have that address: begin anew.
            (DhcpMessageType::Nak, State::Requesting { .. } | State::Renewing(_)) => {
                self.state = State::Discovering;
                Heard::Progress
            }
            _ => Heard::Nothing,
        }
    }
}

fn usable(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast() && !address.is_loopback()
}

fn lease_of(answer: &DhcpMessage) -> Lease {
    // Without a mask, the class of the address decides, as it did when DHCP was young.
    let classful = match answer.your_address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    };
    Lease {
        address: answer.your_address,
        prefix: answer.mask.map_or(classful, |mask| u32::from(mask).leading_ones() as u8),
        gateway: answer.routers.first().copied().filter(|&gateway| usable(gateway)),
        dns: answer.dns.clone(),
        ntp: answer.ntp.clone(),
        server: answer.server.unwrap_or(answer.next_server),
        seconds: answer.lease_seconds.unwrap_or(3600).max(LEASE_SECONDS_MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const LENT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn answer(kind: DhcpMessageType, to: &DhcpMessage) -> DhcpMessage {
        DhcpMessage {
            is_reply: true,
            your_address: LENT,
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routers: vec![SERVER],
            dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
            server: Some(SERVER),
            lease_seconds: Some(86400),
            ..DhcpMessage::question(kind, to.transaction, to.mac, 0)
        }
    }

    fn lease() -> Lease {
        Lease {
            address: LENT,
            prefix: 24,
            gateway: Some(SERVER),
            dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
            ntp: vec![],
            server: SERVER,
            seconds: 86400,
        }
    }

    #[test]
    fn an_offer_is_asked_for_and_lent() {
        let mut dialog = Dialog::new(MAC, 7, None);
        let discover = dialog.question(Duration::ZERO);
        assert_eq!(discover.kind, DhcpMessageType::Discover);
        assert_eq!(dialog.hear(&answer(DhcpMessageType::Offer, &discover)), Heard::Progress);
        let request = dialog.question(Duration::from_secs(1));
        assert_eq!(
            (request.kind, request.requested, request.server),
            (DhcpMessageType::Request, Some(LENT), Some(SERVER))
        );
        assert_eq!(dialog.hear(&answer(DhcpMessageType::Ack, &request)), Heard::Lent(lease()));
    }

    #[test]
    fn answers_to_others_are_not_heard() {
        let mut dialog = Dialog::new(MAC, 7, None);
        let mine = dialog.question(Duration::ZERO);
        let other_transaction = DhcpMessage { transaction: 8, ..answer(DhcpMessageType::Offer, &mine) };
        let other_mac = DhcpMessage { mac: [9; 6], ..answer(DhcpMessageType::Offer, &mine) };
        let question = DhcpMessage { is_reply: false, ..answer(DhcpMessageType::Offer, &mine) };
        let nothing_lent = DhcpMessage { your_address: Ipv4Addr::UNSPECIFIED, ..answer(DhcpMessageType::Offer, &mine) };
        let out_of_turn = answer(DhcpMessageType::Ack, &mine);
        for wrong in [other_transaction, other_mac, question, nothing_lent, out_of_turn] {
            assert_eq!(dialog.hear(&wrong), Heard::Nothing, "{wrong:?}");
        }
    }

    #[test]
    fn a_refusal_or_a_long_silence_begins_anew() {
        let mut dialog = Dialog::new(MAC, 7, Some(lease()));
        let renew = dialog.question(Duration::ZERO);
        assert_eq!((renew.kind, renew.client_address, renew.requested), (DhcpMessageType::Request, LENT, None));
        assert_eq!(dialog.hear(&answer(DhcpMessageType::Nak, &renew)), Heard::Progress);
        let discover = dialog.question(Duration::ZERO);
        assert_eq!(discover.kind, DhcpMessageType::Discover);
        dialog.hear(&answer(DhcpMessageType::Offer, &discover));
        (0..3).for_each(|_| dialog.silence());
        assert_eq!(dialog.question(Duration::ZERO).kind, DhcpMessageType::Discover);
    }
}
