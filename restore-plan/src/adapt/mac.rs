//! Hardware addresses in network files.

use std::collections::BTreeMap;

use node_model::{MacAddress, NetworkBackend};

use super::{Rewritten, rewrite_lines};

/// Rewrites every old address that stands in a setting which names an interface by its address. All are replaced at
/// once, so that addresses may change places.
pub(super) fn rewrite(backend: NetworkBackend, content: &[u8], macs: &BTreeMap<MacAddress, MacAddress>) -> Rewritten {
    rewrite_lines(content, |line| {
        if macs.is_empty() || !names_an_interface(backend, line) {
            return None;
        }
        let (new, replaced) = replace(line, macs);
        (!replaced.is_empty()).then(|| (new, replaced.join(", ")))
    })
}

/// Whether a line is a setting of this program in which an address stands for a card.
fn names_an_interface(backend: NetworkBackend, line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with(['#', ';']) {
        return false;
    }
    let key = |separator: char| line.split_once(separator).map_or("", |(key, _)| key.trim());
    match backend {
        NetworkBackend::Ifupdown => line.starts_with("hwaddress") || line.contains("/mac/") || line.contains("mac="),
        NetworkBackend::SystemdNetworkd => matches!(key('='), "MACAddress" | "PermanentMACAddress"),
        NetworkBackend::Netplan => {
            key(':').trim_start_matches(['{', '-', ' ']) == "macaddress" || line.contains("macaddress:")
        }
        NetworkBackend::NetworkManager => matches!(key('='), "mac-address" | "cloned-mac-address"),
        NetworkBackend::Udev => line.contains("{address}"),
        NetworkBackend::Fstab => false,
    }
}

/// The length of an address in text.
const TEXT_LEN: usize = 17;

/// A line with its old addresses replaced, in the case and with the separators they had, and what was replaced.
fn replace(line: &str, macs: &BTreeMap<MacAddress, MacAddress>) -> (String, Vec<String>) {
    let (mut new, mut replaced, mut at) = (String::with_capacity(line.len()), Vec::new(), 0);
    while at < line.len() {
        let candidate = line.get(at..at + TEXT_LEN);
        let stands_alone = |text: &str| {
            let part_of_word = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '-';
            !line[..at].ends_with(part_of_word) && !line[at + text.len()..].starts_with(part_of_word)
        };
        let found = candidate.filter(|text| stands_alone(text)).and_then(|text| Some((text, macs.get(&parse(text)?)?)));
        if let Some((text, mac)) = found {
            let styled = in_style_of(text, *mac);
            replaced.push(format!("{text} becomes {styled}"));
            new.push_str(&styled);
            at += TEXT_LEN;
        } else {
            let next = line[at..].chars().next().unwrap_or_default();
            new.push(next);
            at += next.len_utf8().max(1);
        }
    }
    (new, replaced)
}

fn parse(text: &str) -> Option<MacAddress> {
    text.replace('-', ":").to_lowercase().parse().ok()
}

fn in_style_of(text: &str, mac: MacAddress) -> String {
    let mut new = mac.to_string();
    if text.contains('-') {
        new = new.replace(':', "-");
    }
    if text.contains(|c: char| c.is_ascii_uppercase()) {
        new = new.to_uppercase();
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 0xaa]);
    const NEW: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 0xbb]);

    fn rewritten(backend: NetworkBackend, text: &str) -> String {
        let rewritten = rewrite(backend, text.as_bytes(), &BTreeMap::from([(OLD, NEW), (NEW, OLD)]));
        String::from_utf8(rewritten.content).unwrap()
    }

    #[test]
    fn every_backend_is_rewritten_where_it_names_a_card() {
        for (backend, old, new) in [
            (NetworkBackend::Ifupdown, "  hwaddress ether 52:54:00:00:00:aa", "  hwaddress ether 52:54:00:00:00:bb"),
            (NetworkBackend::SystemdNetworkd, "MACAddress=52:54:00:00:00:AA", "MACAddress=52:54:00:00:00:BB"),
            (
                NetworkBackend::SystemdNetworkd,
                "PermanentMACAddress = 52-54-00-00-00-aa",
                "PermanentMACAddress = 52-54-00-00-00-bb",
            ),
            (
                NetworkBackend::Netplan,
                "        macaddress: \"52:54:00:00:00:aa\"",
                "        macaddress: \"52:54:00:00:00:bb\"",
            ),
            (
                NetworkBackend::Netplan,
                "      match: {macaddress: '52:54:00:00:00:aa'}",
                "      match: {macaddress: '52:54:00:00:00:bb'}",
            ),
            (NetworkBackend::NetworkManager, "mac-address=52:54:00:00:00:AA", "mac-address=52:54:00:00:00:BB"),
            (
                NetworkBackend::Udev,
                "SUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:00:00:aa\", NAME=\"eth0\"",
                "SUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:00:00:bb\", NAME=\"eth0\"",
            ),
        ] {
            assert_eq!(rewritten(backend, old), new);
            assert_eq!(rewritten(backend, new), old, "addresses may change places");
        }
    }

    #[test]
    fn what_names_no_card_stays() {
        for (backend, text) in [
            (NetworkBackend::Ifupdown, "# hwaddress ether 52:54:00:00:00:aa"),
            (NetworkBackend::Ifupdown, "hwaddress ether 52:54:00:00:00:ac"),
            (NetworkBackend::SystemdNetworkd, "Description=52:54:00:00:00:aa"),
            (NetworkBackend::SystemdNetworkd, "MACAddress=52:54:00:00:00:aa:bb"),
            (NetworkBackend::SystemdNetworkd, "MACAddress=00:52:54:00:00:00:aa"),
            (NetworkBackend::NetworkManager, "id=52:54:00:00:00:aa"),
            (NetworkBackend::Fstab, "52:54:00:00:00:aa"),
            (NetworkBackend::Ifupdown, "hwaddress ether é52:54:00:00:00:ä"),
        ] {
            assert_eq!(rewritten(backend, text), text);
        }
    }
}
