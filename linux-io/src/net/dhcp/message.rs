//! A DHCP message as bytes (RFC 2131, RFC 2132).

use std::net::Ipv4Addr;

/// Size of the part before the options, its magic number included.
const FIXED_BYTES: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Some servers drop messages shorter than BOOTP's.
const MESSAGE_BYTES_MIN: usize = 300;
/// Answers as broadcasts, please.
const BROADCAST_FLAG: u16 = 0x8000;
/// More addresses than this in one option are not of interest.
const ADDRESSES_MAX: usize = 8;

const OPTION_MASK: u8 = 1;
const OPTION_ROUTERS: u8 = 3;
const OPTION_DNS: u8 = 6;
const OPTION_NTP: u8 = 42;
const OPTION_REQUESTED: u8 = 50;
const OPTION_LEASE_SECONDS: u8 = 51;
const OPTION_KIND: u8 = 53;
const OPTION_SERVER: u8 = 54;
const OPTION_WISHES: u8 = 55;
const OPTION_PAD: u8 = 0;
const OPTION_END: u8 = 255;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpMessageType {
    /// Who has an address?
    Discover,
    /// I have one.
    Offer,
    /// I want that one.
    Request,
    /// It is yours.
    Ack,
    /// You cannot have it.
    Nak,
}

impl DhcpMessageType {
    const fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Ack => 5,
            Self::Nak => 6,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Discover),
            2 => Some(Self::Offer),
            3 => Some(Self::Request),
            5 => Some(Self::Ack),
            6 => Some(Self::Nak),
            _ => None,
        }
    }
}

/// The parts of a message that this client uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpMessage {
    /// Whether a server sent it.
    pub is_reply: bool,
    /// What it is about.
    pub kind: DhcpMessageType,
    /// The conversation's number.
    pub transaction: u32,
    /// How long the client has been trying.
    pub seconds: u16,
    /// The client's hardware address.
    pub mac: [u8; 6],
    /// The address that the client has.
    pub client_address: Ipv4Addr,
    /// The address that the client may have.
    pub your_address: Ipv4Addr,
    /// The header's server address.
    pub next_server: Ipv4Addr,
    /// The address that the client asks for.
    pub requested: Option<Ipv4Addr>,
    /// The server that offered.
    pub server: Option<Ipv4Addr>,
    /// Network mask.
    pub mask: Option<Ipv4Addr>,
    /// Gateways.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// How long the address is lent.
    pub lease_seconds: Option<u32>,
}

impl DhcpMessage {
    /// A client's message without options.
    pub fn question(kind: DhcpMessageType, transaction: u32, mac: [u8; 6], seconds: u16) -> Self {
        Self {
            is_reply: false,
            kind,
            transaction,
            seconds,
            mac,
            client_address: Ipv4Addr::UNSPECIFIED,
            your_address: Ipv4Addr::UNSPECIFIED,
            next_server: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            mask: None,
            routers: Vec::new(),
            dns: Vec::new(),
            ntp: Vec::new(),
            lease_seconds: None,
        }
    }

    /// The bytes of a datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![if self.is_reply { 2 } else { 1 }, 1, 6, 0];
        bytes.extend(self.transaction.to_be_bytes());
        bytes.extend(self.seconds.to_be_bytes());
        bytes.extend(BROADCAST_FLAG.to_be_bytes());
        for address in [self.client_address, self.your_address, self.next_server, Ipv4Addr::UNSPECIFIED] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.mac);
        bytes.resize(FIXED_BYTES - MAGIC.len(), 0);
        bytes.extend(MAGIC);
        let mut option = |code: u8, value: &[u8]| {
            if !value.is_empty() {
                bytes.extend([code, value.len() as u8]);
                bytes.extend(value);
            }
        };
        option(OPTION_KIND, &[self.kind.number()]);
        for (code, address) in
            [(OPTION_REQUESTED, self.requested), (OPTION_SERVER, self.server), (OPTION_MASK, self.mask)]
        {
            option(code, &address.map_or_else(Vec::new, |address| address.octets().to_vec()));
        }
        for (code, addresses) in [(OPTION_ROUTERS, &self.routers), (OPTION_DNS, &self.dns), (OPTION_NTP, &self.ntp)] {
            let octets: Vec<u8> = addresses.iter().take(ADDRESSES_MAX).flat_map(Ipv4Addr::octets).collect();
            option(code, &octets);
        }
        option(OPTION_LEASE_SECONDS, &self.lease_seconds.map_or_else(Vec::new, |s| s.to_be_bytes().to_vec()));
        if !self.is_reply {
            option(OPTION_WISHES, &[OPTION_MASK, OPTION_ROUTERS, OPTION_DNS, OPTION_NTP, OPTION_LEASE_SECONDS]);
        }
        bytes.push(OPTION_END);
        bytes.resize(bytes.len().max(MESSAGE_BYTES_MIN), OPTION_PAD);
        bytes
    }

    /// Reads a datagram; `None` if it is not a DHCP message about an Ethernet address.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let address = |at: usize| {
            let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets))
        };
        if bytes.get(1..3)? != [1, 6] || bytes.get(FIXED_BYTES - MAGIC.len()..FIXED_BYTES)? != MAGIC {
            return None;
        }
        let is_reply = match bytes[0] {
            1 => false,
            2 => true,
            _ => return None,
        };
        let transaction = u32::from_be_bytes(bytes[4..8].try_into().ok()?);
        let seconds = u16::from_be_bytes(bytes[8..10].try_into().ok()?);
        let mut kind = None;
        let mut message = Self {
            is_reply,
            client_address: address(12)?,
            your_address: address(16)?,
            next_server: address(20)?,
            ..Self::question(DhcpMessageType::Discover, transaction, bytes[28..34].try_into().ok()?, seconds)
        };
        let mut rest = &bytes[FIXED_BYTES..];
        while let [code, after @ ..] = rest {
            match *code {
                OPTION_END => break,
                OPTION_PAD => {
                    rest = after;
                    continue;
                }
                _ => {}
            }
            let (&length, after) = after.split_first()?;
            let (value, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            let addresses = || -> Vec<Ipv4Addr> {
                let octets = value.chunks_exact(4).take(ADDRESSES_MAX);
                octets.map(|four| Ipv4Addr::new(four[0], four[1], four[2], four[3])).collect()
            };
            match *code {
                OPTION_KIND => kind = value.first().copied().and_then(DhcpMessageType::of),
                OPTION_REQUESTED => message.requested = addresses().first().copied(),
                OPTION_SERVER => message.server = addresses().first().copied(),
                OPTION_MASK => message.mask = addresses().first().copied(),
                OPTION_ROUTERS => message.routers = addresses(),
                OPTION_DNS => message.dns = addresses(),
                OPTION_NTP => message.ntp = addresses(),
                OPTION_LEASE_SECONDS => message.lease_seconds = value.try_into().ok().map(u32::from_be_bytes),
                _ => {}
            }
        }
        message.kind = kind?;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_survives_its_bytes() {
        let message = DhcpMessage {
            is_reply: true,
            your_address: Ipv4Addr::new(192, 0, 2, 7),
            server: Some(Ipv4Addr::new(192, 0, 2, 1)),
            mask: Some(Ipv4Addr::new(255, 255, 255, 128)),
            routers: vec![Ipv4Addr::new(192, 0, 2, 1)],
            dns: vec![Ipv4Addr::new(192, 0, 2, 3), Ipv4Addr::new(192, 0, 2, 4)],
            ntp: vec![Ipv4Addr::new(192, 0, 2, 5)],
            lease_seconds: Some(600),
            ..DhcpMessage::question(DhcpMessageType::Ack, 0x0102_0304, [1, 2, 3, 4, 5, 6], 3)
        };
        assert_eq!(DhcpMessage::decode(&message.encode()), Some(message));
    }

    #[test]
    fn the_bytes_are_those_of_the_standard() {
        let bytes = DhcpMessage::question(DhcpMessageType::Discover, 0x0102_0304, [0x52, 0x54, 0, 1, 2, 3], 9).encode();
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 9, 0x80, 0]);
        assert_eq!(bytes[28..34], [0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(bytes[236..], {
            let mut tail = vec![99, 130, 83, 99, 53, 1, 1, 55, 5, 1, 3, 6, 42, 51, 255];
            tail.resize(300 - 236, 0);
            tail
        });
    }

    #[test]
    fn a_message_cut_off_in_an_option_is_none() {
        let bytes = DhcpMessage::question(DhcpMessageType::Request, 1, [0; 6], 0).encode();
        assert_eq!(DhcpMessage::decode(&bytes[..242]), None);
        assert_eq!(DhcpMessage::decode(&bytes[..30]), None);
    }

    proptest! {
        #[test]
        fn any_datagram_is_borne(mut bytes in prop::collection::vec(any::<u8>(), 0..400), real in any::<bool>()) {
            if real && bytes.len() >= FIXED_BYTES {
                bytes[..3].copy_from_slice(&[2, 1, 6]);
                bytes[FIXED_BYTES - 4..FIXED_BYTES].copy_from_slice(&MAGIC);
            }
            if let Some(message) = DhcpMessage::decode(&bytes) {
                prop_assert!(message.dns.len() <= ADDRESSES_MAX);
            }
        }
    }
}
