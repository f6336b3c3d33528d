//! The network interfaces that sysfs shows.

use std::fs;
use std::path::Path;

use node_model::MacAddress;

/// `ARPHRD_ETHER`: the only kind of link that is used here.
const ETHERNET: &str = "1";

/// One Ethernet interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// Its address now.
    pub mac: MacAddress,
    /// Whether it has a link; only an interface that is up can tell.
    pub link_up: bool,
    /// Link speed, where it is known.
    pub speed_mbps: Option<u32>,
    /// Driver, if it is a real device.
    pub driver: Option<String>,
    /// Whether it is a device on a bus, and not a bond, VLAN, bridge or tunnel.
    pub physical: bool,
}

/// The Ethernet interfaces below `sysfs` (`/sys`), by name.
pub fn interfaces(sysfs: &Path) -> Vec<Interface> {
    let Ok(entries) = fs::read_dir(sysfs.join("class/net")) else { return Vec::new() };
    let mut found: Vec<Interface> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// Devices may vanish while they are read: such a one is left out.
fn read(path: &Path) -> Option<Interface> {
    let text = |name: &str| fs::read_to_string(path.join(name)).ok().map(|text| text.trim().to_owned());
    if text("type")? != ETHERNET {
        return None;
    }
    let driver = fs::read_link(path.join("device/driver")).ok();
    Some(Interface {
        name: path.file_name()?.to_str()?.to_owned(),
        index: text("ifindex")?.parse().ok()?,
        mac: text("address")?.parse().ok()?,
        // Reading the carrier of an interface that is down is an error.
        link_up: text("carrier").as_deref() == Some("1"),
        speed_mbps: text("speed").and_then(|speed| speed.parse().ok()).filter(|&speed| speed < u32::MAX && speed > 0),
        driver: driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
        physical: path.join("device").exists(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn real_devices_are_told_from_made_ones() {
        let sys = tempfile::tempdir().unwrap();
        let device = |name: &str, files: &[(&str, &str)]| {
            let path = sys.path().join("class/net").join(name);
            fs::create_dir_all(&path).unwrap();
            files.iter().for_each(|(file, text)| fs::write(path.join(file), text).unwrap());
            path
        };
        let common = [("type", "1\n"), ("address", "52:54:00:00:00:01\n")];
        let eth0 = device("eth0", &[common[0], common[1], ("ifindex", "2\n"), ("carrier", "1\n"), ("speed", "1000\n")]);
        fs::create_dir_all(eth0.join("device")).unwrap();
        symlink("../../../bus/virtio/drivers/virtio_net", eth0.join("device/driver")).unwrap();
        device("bond0", &[common[0], common[1], ("ifindex", "3\n"), ("speed", "-1\n")]);
        device("lo", &[("type", "772\n"), ("address", "00:00:00:00:00:00\n"), ("ifindex", "1\n")]);

        let found = interfaces(sys.path());
        assert_eq!(found.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["bond0", "eth0"]);
        assert_eq!((found[0].physical, found[0].link_up, found[0].speed_mbps), (false, false, None));
        assert_eq!((found[1].physical, found[1].link_up, found[1].speed_mbps), (true, true, Some(1000)));
        assert_eq!(found[1].driver.as_deref(), Some("virtio_net"));
    }
}
