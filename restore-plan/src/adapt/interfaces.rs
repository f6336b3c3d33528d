//! Which of this machine's network interfaces takes the place of which captured one.

use std::collections::BTreeMap;

use node_model::{MacAddress, NetworkInterface};

use crate::finding::Finding;

/// Old address to new address, for those that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InterfaceMap {
    pub(super) macs: BTreeMap<MacAddress, MacAddress>,
    pub(super) findings: Vec<Finding>,
}

/// Maps interfaces: the same address first, then the same place on the bus, then, if as many are left on both
/// sides, the order of their places.
pub(super) fn map(old: &[NetworkInterface], new: &[NetworkInterface]) -> InterfaceMap {
    let mut map = InterfaceMap::default();
    let known = |list: &[NetworkInterface], mac| list.iter().any(|interface| interface.permanent_mac == mac);
    let mut gone: Vec<&NetworkInterface> = old.iter().filter(|i| !known(new, i.permanent_mac)).collect();
    let mut free: Vec<&NetworkInterface> = new.iter().filter(|i| !known(old, i.permanent_mac)).collect();
    for interface in old.iter().filter(|i| known(new, i.permanent_mac)) {
        let moved = new.iter().find(|n| n.permanent_mac == interface.permanent_mac && n.bus_path != interface.bus_path);
        map.findings.extend(moved.map(|moved| may_be_renamed(interface, moved)));
    }
    gone.retain(|lost| {
        let mut here = free.iter().enumerate().filter(|(_, new)| new.bus_path == lost.bus_path);
        let (Some((at, _)), None) = (here.next(), here.next()) else {
            return true;
        };
        let new = free.remove(at);
        map.macs.insert(lost.permanent_mac, new.permanent_mac);
        false
    });
    if gone.len() == free.len() {
        gone.sort_by(|a, b| a.bus_path.cmp(&b.bus_path));
        free.sort_by(|a, b| a.bus_path.cmp(&b.bus_path));
        for (lost, new) in gone.into_iter().zip(free) {
            map.macs.insert(lost.permanent_mac, new.permanent_mac);
            map.findings.push(may_be_renamed(lost, new));
        }
    } else {
        let name = |interface: &&NetworkInterface| format!("{} ({})", interface.name, interface.permanent_mac);
        let list = |interfaces: &[&NetworkInterface]| match interfaces {
            [] => "none".to_owned(),
            _ => interfaces.iter().map(name).collect::<Vec<_>>().join(", "),
        };
        if !gone.is_empty() {
            map.findings.push(Finding::warning(
                "interfaces-unclear",
                format!("network interfaces that are gone: {}; that are new: {}", list(&gone), list(&free)),
                "after the restore, put the new addresses into the node's network files",
            ));
        }
    }
    map
}

fn may_be_renamed(old: &NetworkInterface, new: &NetworkInterface) -> Finding {
    if old.name.starts_with("eth") {
        let what = format!("network interface {} is now at {} ({})", old.name, new.bus_path, new.permanent_mac);
        return Finding::note("interface-moved", what);
    }
    Finding::warning(
        "interface-moved",
        format!("network interface {} is now at {} and may have another name there", old.name, new.bus_path),
        "if the node does not come up on its network, look for its name in the node's network files",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, mac: u8, bus: &str) -> NetworkInterface {
        NetworkInterface {
            name: name.into(),
            permanent_mac: MacAddress([2, 0, 0, 0, 0, mac]),
            bus_path: bus.into(),
            driver: None,
            link_up: true,
        }
    }

    fn pairs(map: &InterfaceMap) -> Vec<(u8, u8)> {
        map.macs.iter().map(|(old, new)| (old.0[5], new.0[5])).collect()
    }

    #[test]
    fn the_same_cards_need_no_change() {
        let old = [interface("eth0", 1, "a"), interface("eth1", 2, "b")];
        let new = [interface("eth1", 2, "b"), interface("eth0", 1, "a")];
        assert_eq!(map(&old, &new), InterfaceMap::default());
    }

    #[test]
    fn a_card_replaced_in_its_slot_is_found_by_its_slot() {
        let old = [interface("enp3s0", 1, "a"), interface("enp4s0", 2, "b")];
        let new = [interface("eth0", 12, "b"), interface("eth1", 11, "a")];
        let found = map(&old, &new);
        assert_eq!(pairs(&found), [(1, 11), (2, 12)]);
        assert!(found.findings.is_empty());
    }

    #[test]
    fn another_machine_is_mapped_in_the_order_of_its_slots_if_it_has_as_many() {
        let old = [interface("eth0", 1, "a"), interface("enp4s0", 2, "b"), interface("eth2", 3, "c")];
        let new = [interface("eth0", 12, "y"), interface("eth1", 11, "x"), interface("eth2", 3, "c")];
        let found = map(&old, &new);
        assert_eq!(pairs(&found), [(1, 11), (2, 12)]);
        assert_eq!(found.findings.len(), 2);
    }

    #[test]
    fn doubt_is_told_and_changes_nothing() {
        let old = [interface("eth0", 1, "a"), interface("eth1", 2, "b")];
        let found = map(&old, &[interface("eth0", 11, "x")]);
        assert!(found.macs.is_empty());
        assert_eq!(found.findings[0].code, "interfaces-unclear");
    }
}
