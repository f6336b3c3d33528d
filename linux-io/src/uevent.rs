//! What the kernel tells about devices that come and go.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};

/// The largest message: the kernel's own buffer for one is 2 KiB of variables.
const UEVENT_BYTES_MAX: usize = 16 << 10;

/// Room for bursts while the listener is busy loading modules.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// One message of the kernel about a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uevent {
    variables: BTreeMap<String, String>,
}

impl Uevent {
    /// Reads a message: `add@/devices/...` and then `NAME=value`, each ended by a zero byte.
    pub fn parse(message: &[u8]) -> Self {
        let texts = message.split(|&byte| byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        let pairs = texts.filter_map(|text| text.split_once('='));
        Self { variables: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// A variable, such as `DEVNAME`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// `add`, `remove`, `change`, ...
    pub fn action(&self) -> &str {
        self.get("ACTION").unwrap_or_default()
    }

    /// The device's alias, if it has one.
    pub fn modalias(&self) -> Option<&str> {
        self.get("MODALIAS")
    }
}

/// Hears the kernel's messages about devices.
#[derive(Debug)]
pub struct UeventListener {
    socket: OwnedFd,
}

impl UeventListener {
    /// Begins to listen. What happened before is found by walking sysfs afterwards.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        // A smaller buffer than asked for only means that bursts may be lost; that is told by `next_event`.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
        Ok(Self { socket })
    }

    /// Waits for the next message. `None` if messages were lost: walk sysfs again.
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn next_event(&self) -> io::Result<Option<Uevent>> {
        let mut buffer = vec![0; UEVENT_BYTES_MAX];
        loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                // Only the kernel has port 0; whatever another process sends is not believed.
                Ok((length, Some(sender))) if sender.pid() == 0 => return Ok(Some(Uevent::parse(&buffer[..length]))),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ENOBUFS) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_device() {
        let message = b"add@/devices/pci/0\0ACTION=add\0DEVPATH=/devices/pci/0\0MODALIAS=pci:v0d1\0SEQNUM=7\0";
        let event = Uevent::parse(message);
        assert_eq!((event.action(), event.modalias(), event.get("SEQNUM")), ("add", Some("pci:v0d1"), Some("7")));
    }

    #[test]
    fn nonsense_is_an_event_without_meaning() {
        let event = Uevent::parse(b"\xff\xfe=\0===\0\0libudev\0");
        assert_eq!((event.action(), event.modalias()), ("", None));
    }
}
