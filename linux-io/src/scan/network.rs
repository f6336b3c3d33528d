//! Physical network interfaces.

use std::ffi::c_char;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use node_model::{MacAddress, NetworkInterface};

use super::bus;
use super::machine::driver;
use crate::Roots;
use crate::loopdev::check;
use crate::roots::attribute;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GPERMADDR: u32 = 0x20;
/// The longest address of any link layer that the kernel knows.
const ADDRESS_BYTES_MAX: usize = 32;
/// `addr_assign_type` of an address that comes from the hardware.
const ASSIGNED_PERMANENTLY: &str = "0";

/// The interfaces that have a device on a bus, by name, with the addresses that are burnt into them.
pub fn network_interfaces(roots: &Roots) -> Vec<NetworkInterface> {
    let Ok(entries) = fs::read_dir(roots.sysfs.join("class/net")) else { return Vec::new() };
    let mut interfaces: Vec<NetworkInterface> = entries
        .flatten()
        .filter_map(|entry| {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let device = path.join("device").canonicalize().ok()?;
            let read = |file: &str| attribute(&path.join(file));
            let shown = || {
                let address: MacAddress = read("address")?.parse().ok()?;
                (read("addr_assign_type").as_deref() == Some(ASSIGNED_PERMANENTLY)).then_some(address)
            };
            // What sysfs shows of a bond's member is the bond's address.
            let asked = || permanent_address(&name).ok().flatten();
            Some(NetworkInterface {
                permanent_mac: if *roots.sysfs == *"/sys" { asked().or_else(shown)? } else { shown()? },
                bus_path: bus::interface_path(&device),
                driver: driver(&device),
                link_up: read("carrier").as_deref() == Some("1"),
                name,
            })
        })
        .collect();
    interfaces.sort_by(|one, other| one.name.cmp(&other.name));
    interfaces
}

/// `struct ethtool_perm_addr` with room for any address.
#[repr(C)]
struct PermanentAddress {
    command: u32,
    size: u32,
    data: [u8; ADDRESS_BYTES_MAX],
}

/// `struct ifreq` with the one member of its union that is used here; the padding makes up its full size.
#[repr(C)]
struct InterfaceRequest {
    name: [c_char; libc::IFNAMSIZ],
    data: *mut PermanentAddress,
    padding: [u8; 16],
}

/// The permanent address of an Ethernet interface; `None` where its driver knows none.
fn permanent_address(name: &str) -> io::Result<Option<MacAddress>> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut address =
        PermanentAddress { command: ETHTOOL_GPERMADDR, size: ADDRESS_BYTES_MAX as u32, data: [0; ADDRESS_BYTES_MAX] };
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], data: &raw mut address, padding: [0; 16] };
    // The last byte stays NUL.
    for (place, byte) in request.name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *place = byte as c_char;
    }
    // SAFETY: `request` has the size and layout of `struct ifreq` on 64-bit machines; its pointer leads to an
    // `ethtool_perm_addr` whose `size` tells the kernel how much room it has; both live through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) })?;
    let mac: Option<[u8; 6]> = (address.size == 6).then(|| std::array::from_fn(|index| address.data[index]));
    Ok(mac.filter(|mac| *mac != [0; 6]).map(MacAddress))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_size_the_kernel_copies() {
        assert_eq!(size_of::<InterfaceRequest>(), size_of::<libc::ifreq>());
    }

    #[test]
    fn the_loopback_interface_has_no_permanent_address() {
        assert!(!matches!(permanent_address("lo"), Ok(Some(_))));
        assert!(permanent_address("a-name-that-is-far-too-long-for-an-interface").is_err());
    }
}
