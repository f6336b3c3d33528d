//! The kernel's `ip=` argument, as far as it makes sense here.

use std::net::Ipv4Addr;

/// What one `ip=` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpArgument {
    /// No network at all.
    Off,
    /// DHCP, on one interface or on all.
    Dhcp {
        /// The interface, by name.
        device: Option<String>,
    },
    /// A fixed address.
    Static(StaticAddress),
}

/// A fixed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The interface, by name; the only one with a link if not given.
    pub device: Option<String>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
}

/// What `ip=` may look like, for messages.
pub const IP_FORMS: &str =
    "`dhcp`, `off`, `INTERFACE:dhcp` or `ADDRESS::GATEWAY:NETMASK:HOSTNAME:INTERFACE:none:DNS`, IPv4 only";

impl IpArgument {
    /// Reads a value; `None` if it has none of the [`IP_FORMS`].
    pub fn parse(value: &str) -> Option<Self> {
        let fields: Vec<&str> = value.split(':').collect();
        match fields[..] {
            ["off" | "none"] => return Some(Self::Off),
            [""] => return None,
            [mode] if is_dhcp(mode) => return Some(Self::Dhcp { device: None }),
            [device, mode] if is_dhcp(mode) && !device.is_empty() => {
                return Some(Self::Dhcp { device: device_name(device)? });
            }
            _ if fields.len() > 10 => return None,
            _ => {}
        }
        let field = |at: usize| fields.get(at).copied().filter(|field| !field.is_empty());
        let device = match field(5) {
            Some(name) => device_name(name)?,
            None => None,
        };
        let mode = field(6);
        let Some(address) = field(0) else {
            return mode.is_none_or(is_dhcp).then_some(Self::Dhcp { device });
        };
        if !mode.is_none_or(|mode| matches!(mode, "none" | "off" | "static")) {
            return None;
        }
        let address: Ipv4Addr = address.parse().ok()?;
        let gateway = field(2).map(|gateway| gateway.parse().ok());
        let dns: Option<Vec<Ipv4Addr>> = [7, 8].into_iter().filter_map(field).map(|dns| dns.parse().ok()).collect();
        Some(Self::Static(StaticAddress {
            address,
            prefix: prefix_length(field(3)?)?,
            gateway: match gateway {
                Some(gateway) => Some(gateway?),
                None => None,
            },
            device,
            dns: dns?,
        }))
    }
}

fn is_dhcp(mode: &str) -> bool {
    matches!(mode, "dhcp" | "on" | "any" | "both")
}

/// A name that the kernel would give an interface.
fn device_name(name: &str) -> Option<Option<String>> {
    let fits = name.len() < 16 && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    fits.then(|| Some(name.to_owned()))
}

/// `255.255.255.0` or `24`.
fn prefix_length(mask: &str) -> Option<u8> {
    if let Ok(length) = mask.parse::<u8>() {
        return (length <= 32).then_some(length);
    }
    let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    (mask.leading_ones() + mask.trailing_zeros() >= 32).then_some(mask.leading_ones() as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_forms_are_understood() {
        let dhcp = |device: Option<&str>| Some(IpArgument::Dhcp { device: device.map(str::to_owned) });
        assert_eq!(IpArgument::parse("dhcp"), dhcp(None));
        assert_eq!(IpArgument::parse("any"), dhcp(None));
        assert_eq!(IpArgument::parse("eth1:dhcp"), dhcp(Some("eth1")));
        assert_eq!(IpArgument::parse(":::::eth1:dhcp"), dhcp(Some("eth1")));
        assert_eq!(IpArgument::parse("off"), Some(IpArgument::Off));
        let address = |prefix, gateway: Option<&str>, device: Option<&str>, dns: &[&str]| {
            Some(IpArgument::Static(StaticAddress {
                address: "192.0.2.7".parse().unwrap(),
                prefix,
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                device: device.map(str::to_owned),
                dns: dns.iter().map(|dns| dns.parse().unwrap()).collect(),
            }))
        };
        assert_eq!(
            IpArgument::parse("192.0.2.7::192.0.2.1:255.255.255.0:web:eth0:none:192.0.2.3:192.0.2.4"),
            address(24, Some("192.0.2.1"), Some("eth0"), &["192.0.2.3", "192.0.2.4"])
        );
        assert_eq!(IpArgument::parse("192.0.2.7:::25"), address(25, None, None, &[]));
    }

    #[test]
    fn what_would_be_half_understood_is_refused() {
        for wrong in [
            "",
            "192.0.2.7",
            "192.0.2.7:::255.0.255.0",
            "192.0.2.7:::33",
            "192.0.2.7::gateway:24",
            "192.0.2.7:::24::eth0:dhcp",
            "[2001:db8::7]:::64",
            "1:2:3:4:5:6:7:8:9:10:11",
            "maybe",
            "eth0/../../x:dhcp",
            "192.0.2.7:::24::a name:none",
        ] {
            assert_eq!(IpArgument::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_borne(value in "[0-9a-z:./\\[\\]-]{0,60}") {
            if let Some(IpArgument::Static(address)) = IpArgument::parse(&value) {
                prop_assert!(address.prefix <= 32);
            }
        }
    }
}
