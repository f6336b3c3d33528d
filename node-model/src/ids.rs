//! Names and numbers that identify things. Each is checked where it enters, so that no later place has to doubt it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name or number from outside that has not the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {what}: {expected}")]
pub struct InvalidId {
    /// What it should have been, such as `node name`.
    pub what: &'static str,
    /// What was read, cut after 80 characters.
    pub value: String,
    /// The form expected.
    pub expected: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), expected }
    }
}

/// Lower-case letters, digits and inner `.`, `-`, `_`; at most `max` bytes. Nothing of this form can be a path, an
/// option or a shell's meaning.
fn is_plain_name(text: &str, max: usize) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let edge = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    (1..=max).contains(&bytes.len())
        && bytes.iter().copied().all(inner)
        && edge(bytes[0])
        && edge(bytes[bytes.len() - 1])
        && !text.contains("..")
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_plain_name(text, $max) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId::new($what, text, $expected))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of a node in its repository, such as `web-03.example`.
    NodeName, "node name", 63,
    "1 to 63 lower-case letters, digits, `.`, `-` and `_`, beginning and ending with a letter or digit"
}
name_type! {
    /// The name of one snapshot of a node, chosen by the agent from randomness: 32 hexadecimal digits. It carries
    /// no time, because a node's clock may be wrong.
    SnapshotId, "snapshot id", 64,
    "1 to 64 lower-case letters, digits, `.`, `-` and `_`"
}
name_type! {
    /// The name of one volume within a snapshot, such as `root` or `boot-code`.
    VolumeName, "volume name", 63,
    "1 to 63 lower-case letters, digits, `.`, `-` and `_`"
}
name_type! {
    /// The name of one device within a layout, such as `disk0` or `disk0-p2`. It means nothing outside the layout:
    /// it is never a kernel name.
    DeviceKey, "device key", 63,
    "1 to 63 lower-case letters, digits, `.`, `-` and `_`"
}

impl DeviceKey {
    /// The key of the disk numbered `index` in capture order.
    pub fn disk(index: usize) -> Self {
        Self(format!("disk{index}"))
    }

    /// The key of partition `number` of `disk`.
    pub fn partition(disk: &DeviceKey, number: u32) -> Self {
        Self(format!("{disk}-p{number}"))
    }
}

/// A GUID as GPT uses it, held in the byte order it has on the disk (the first three groups little-endian), and
/// written in lower-case canonical text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// All bytes zero: an unused GPT entry's type.
    pub const NIL: Self = Self([0; 16]);
    /// The partition type of an EFI system partition.
    pub const ESP: Self =
        Self([0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);
    /// The partition type of the area into which GRUB puts its core image on BIOS machines.
    pub const BIOS_BOOT: Self = Self(*b"Hah!IdontNeedEFI");
}

/// Where in the text each byte of the on-disk order stands, in pairs of hexadecimal digits.
const GUID_TEXT_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, &index) in GUID_TEXT_ORDER.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[index])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

impl FromStr for Guid {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::new("GUID", text, "8-4-4-4-12 hexadecimal digits");
        let dashes_right =
            text.len() == 36 && text.bytes().enumerate().all(|(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23));
        let digits: String = text.chars().filter(|&c| c != '-').collect();
        let raw = crate::hex::decode(&digits).filter(|_| dashes_right).ok_or_else(wrong)?;
        let mut guid = [0; 16];
        for (&index, byte) in GUID_TEXT_ORDER.iter().zip(raw) {
            guid[index] = byte;
        }
        Ok(Self(guid))
    }
}

impl TryFrom<String> for Guid {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Guid> for String {
    fn from(guid: Guid) -> String {
        guid.to_string()
    }
}

/// The permanent hardware address of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::new("MAC address", text, "six pairs of hexadecimal digits joined by `:`");
        let mut mac = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut mac {
            let pair = pairs.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *byte = crate::hex::decode(pair).ok_or_else(wrong)?[0];
        }
        if pairs.next().is_some() { Err(wrong()) } else { Ok(Self(mac)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        for bad in ["", "--force", "a/b", "..", "a..b", "Web", ".hidden", "a b", "end-", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        assert_eq!("web-03.example".parse::<NodeName>().unwrap().as_str(), "web-03.example");
    }

    #[test]
    fn the_esp_type_reads_as_the_specification_writes_it() {
        assert_eq!(Guid::ESP.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!("C12A7328-F81F-11D2-BA4B-00A0C93EC93B".parse::<Guid>().unwrap(), Guid::ESP);
        assert_eq!(Guid::BIOS_BOOT.to_string(), "21686148-6449-6e6f-744e-656564454649");
        assert!("c12a7328f81f-11d2-ba4b-00a0c93ec93b-".parse::<Guid>().is_err());
    }

    #[test]
    fn a_mac_address_survives_its_text() {
        let mac: MacAddress = "52:54:00:AB:cd:0f".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:0f");
        assert!("52:54:00:ab:cd".parse::<MacAddress>().is_err());
        assert!("52:54:00:ab:cd:0f:00".parse::<MacAddress>().is_err());
        assert!("+5:54:00:ab:cd:0f".parse::<MacAddress>().is_err());
    }
}
