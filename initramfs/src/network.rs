//! Brings up the network: waits for interfaces and links, then DHCP on all of them or a fixed address on one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use linux_io::net::{Interface, Lease, Links, NetError, interfaces, renew_lease, request_lease};

use crate::arguments::NetworkArguments;
use crate::ip::{IpArgument, StaticAddress};
use crate::log;
use crate::settings::{InterfaceReport, NetworkOutcome, NetworkReport};

const SYSFS: &str = "/sys";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Drivers of large machines take their time to show an interface.
const INTERFACE_PATIENCE: Duration = Duration::from_secs(30);
/// Links with spanning tree or 25G training come late.
const LINK_PATIENCE: Duration = Duration::from_secs(20);
/// Once one interface has what it needs, the others get this much longer.
const GRACE: Duration = Duration::from_millis(1500);
const DHCP_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The kernel's index of the loopback interface.
const LOOPBACK: u32 = 1;
/// Routes of interfaces that come first by name are preferred.
const METRIC_STEP: u32 = 100;

/// An address that an interface was given.
#[derive(Debug, Clone)]
struct Given {
    interface: Interface,
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    ntp: Vec<Ipv4Addr>,
    lease: Option<Lease>,
}

/// Why there is no network, and what to do.
#[derive(Debug, thiserror::Error)]
enum NoNetwork {
    #[error("no network interface was found; check whether the image holds its driver")]
    NoInterface,
    #[error("no interface is named {0}; check rerack.nic=, rerack.bond= and ip=")]
    NoSuch(String),
    #[error("no interface has a link: {0}; check cables and switch ports")]
    NoLink(String),
    #[error("several interfaces have a link ({0}); name one in ip= or rerack.nic=")]
    Ambiguous(String),
    #[error("{0}; check VLAN and DHCP server, or give a fixed address: ip=ADDRESS::GATEWAY:NETMASK::INTERFACE:none")]
    NoLease(String),
    #[error("{0}")]
    Kernel(String),
}

impl From<NetError> for NoNetwork {
    fn from(error: NetError) -> Self {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        Self::Kernel(format!("{error}{}", source.unwrap_or_default()))
    }
}

/// Brings up networks, one attempt after another. A new attempt ends the renewals of the one before.
#[derive(Debug, Clone)]
pub struct Network {
    arguments: NetworkArguments,
    attempt: Arc<AtomicU64>,
}

impl Network {
    /// Nothing is done yet.
    pub fn new(arguments: NetworkArguments) -> Self {
        Self { arguments, attempt: Arc::default() }
    }

    /// Tries once, for about a minute at most.
    pub fn bring_up(&self) -> NetworkReport {
        let attempt = self.attempt.fetch_add(1, Ordering::SeqCst) + 1;
        if self.arguments.ip.contains(&IpArgument::Off) {
            return report(NetworkOutcome::Off, &[], Some("switched off by ip=off".into()));
        }
        match self.try_once() {
            Ok(given) => {
                write_resolv_conf(&self.arguments.dns, &given);
                for one in &given {
                    if let Some(lease) = &one.lease {
                        self.keep_renewing(attempt, one.clone(), lease.clone());
                    }
                }
                let mut report = report(NetworkOutcome::Up, &given, Some(how(&given)));
                report.dns.splice(0..0, self.arguments.dns.iter().map(Ipv4Addr::to_string));
                report
            }
            Err(why) => report(NetworkOutcome::Failed, &[], Some(why.to_string())),
        }
    }

    fn try_once(&self) -> Result<Vec<Given>, NoNetwork> {
        let mut links = Links::open()?;
        links.set_up(LOOPBACK, true)?;
        let mut ready = self.wait_for_links(&mut links)?;
        if let Some(id) = self.arguments.vlan {
            ready = add_vlans(&mut links, &ready, id)?;
        }
        let fixed: Vec<&StaticAddress> = self
            .arguments
            .ip
            .iter()
            .filter_map(|ip| match ip {
                IpArgument::Static(address) => Some(address),
                _ => None,
            })
            .collect();
        let mut given = Vec::new();
        for address in &fixed {
            given.push(fixed_address(&ready, address, self.arguments.vlan)?);
        }
        let devices: Vec<&str> = self
            .arguments
            .ip
            .iter()
            .filter_map(|ip| match ip {
                IpArgument::Dhcp { device } => device.as_deref(),
                _ => None,
            })
            .collect();
        if fixed.is_empty() || fixed.len() < self.arguments.ip.len() {
            let wanted =
                ready.iter().filter(|one| devices.is_empty() || devices.iter().any(|name| is_called(one, name)));
            let taken = |one: &&Interface| !given.iter().any(|given| given.interface.index == one.index);
            let asked: Vec<Interface> = wanted.filter(taken).cloned().collect();
            given.extend(lease_all(&asked)?);
        }
        for (at, one) in given.iter().enumerate() {
            apply(&mut links, one, (at as u32 + 1) * METRIC_STEP)?;
        }
        Ok(given)
    }

    /// The interfaces that have a link and may be used; the bond, if one is asked for.
    fn wait_for_links(&self, links: &mut Links) -> Result<Vec<Interface>, NoNetwork> {
        let begun = Instant::now();
        let mut up = BTreeMap::new();
        let mut first_seen = None;
        let mut first_link = None;
        let bond = self.arguments.bond.as_ref();
        let named: &[String] = bond.map_or(&self.arguments.nics, |bond| &bond.members);
        loop {
            let all = interfaces(Path::new(SYSFS));
            if let Some(bond) = bond
                && !all.iter().any(|one| one.name == "bond0")
                && bond.members.iter().all(|name| all.iter().any(|one| is_called(one, name)))
            {
                links.add_bond("bond0", bond.mode)?;
                continue;
            }
            let master = all.iter().find(|one| one.name == "bond0").map(|one| one.index);
            let usable: Vec<Interface> = all
                .into_iter()
                .filter(|one| one.physical && (named.is_empty() || named.iter().any(|name| is_called(one, name))))
                .collect();
            for one in &usable {
                if up.insert(one.index, ()).is_none() {
                    log::line(&format!(
                        "{} {} driver {}",
                        one.name,
                        one.mac,
                        one.driver.as_deref().unwrap_or("unknown")
                    ));
                    if let Some(master) = master.filter(|_| bond.is_some()) {
                        links.join_bond(one.index, master)?;
                    }
                    links.set_up(one.index, true)?;
                    first_seen.get_or_insert_with(Instant::now);
                }
            }
            if let Some(master) = master
                && !usable.is_empty()
                && up.insert(master, ()).is_none()
            {
                links.set_up(master, true)?;
            }
            let ready: Vec<Interface> = match bond {
                Some(_) => {
                    interfaces(Path::new(SYSFS)).into_iter().filter(|i| i.name == "bond0" && i.link_up).collect()
                }
                None => usable.iter().filter(|one| one.link_up).cloned().collect(),
            };
            if !ready.is_empty() {
                let since = *first_link.get_or_insert_with(Instant::now);
                let all_there = bond.is_some() || (ready.len() == usable.len() && since.elapsed() >= GRACE / 3);
                if all_there || since.elapsed() >= GRACE {
                    return Ok(ready);
                }
            }
            match first_seen {
                Some(seen) if seen.elapsed() >= LINK_PATIENCE && ready.is_empty() => {
                    return Err(NoNetwork::NoLink(usable.iter().map(describe).collect::<Vec<_>>().join(", ")));
                }
                None if begun.elapsed() >= INTERFACE_PATIENCE => {
                    return Err(match named.first() {
                        Some(_) => NoNetwork::NoSuch(named.join(", ")),
                        None => NoNetwork::NoInterface,
                    });
                }
                _ => thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Asks for more time at half of each lease, for as long as this attempt is the newest.
    fn keep_renewing(&self, attempt: u64, mut given: Given, mut lease: Lease) {
        let newest = Arc::clone(&self.attempt);
        thread::spawn(move || {
            let mut pause = Duration::from_secs(u64::from(lease.seconds) / 2);
            loop {
                thread::sleep(pause);
                if newest.load(Ordering::SeqCst) != attempt {
                    return;
                }
                match renew_lease(&given.interface, &lease, DHCP_PATIENCE) {
                    Ok(renewed) => {
                        pause = Duration::from_secs(u64::from(renewed.seconds) / 2);
                        if (renewed.address, renewed.prefix, renewed.gateway)
                            != (lease.address, lease.prefix, lease.gateway)
                        {
                            log::line(&format!("{}: the address changes to {}", given.interface.name, renewed.address));
                            let changed = Links::open().and_then(|mut links| {
                                links.remove_address(given.interface.index, lease.address, lease.prefix)?;
                                given = given_of(given.interface.clone(), &renewed);
                                apply(&mut links, &given, METRIC_STEP)
                            });
                            if let Err(error) = changed {
                                log::line(&format!("{}: {error}", given.interface.name));
                            }
                        }
                        lease = renewed;
                    }
                    Err(error) => {
                        log::line(&format!("the lease was not renewed: {error}"));
                        pause = Duration::from_secs(60);
                    }
                }
            }
        });
    }
}

/// By name or hardware address.
fn is_called(interface: &Interface, name: &str) -> bool {
    interface.name == name || interface.mac.to_string().eq_ignore_ascii_case(name)
}

fn describe(interface: &Interface) -> String {
    format!("{} ({})", interface.name, interface.mac)
}

fn add_vlans(links: &mut Links, parents: &[Interface], id: u16) -> Result<Vec<Interface>, NoNetwork> {
    let known = interfaces(Path::new(SYSFS));
    let name = |parent: &Interface| format!("{}.{id}", parent.name);
    for parent in parents {
        if !known.iter().any(|one| one.name == name(parent)) {
            links.add_vlan(parent.index, id, &name(parent))?;
        }
    }
    let names: Vec<String> = parents.iter().map(name).collect();
    let vlans: Vec<Interface> =
        interfaces(Path::new(SYSFS)).into_iter().filter(|one| names.contains(&one.name)).collect();
    for vlan in &vlans {
        links.set_up(vlan.index, true)?;
    }
    Ok(vlans)
}

fn fixed_address(ready: &[Interface], fixed: &StaticAddress, vlan: Option<u16>) -> Result<Given, NoNetwork> {
    let interface = match (&fixed.device, ready) {
        (Some(name), _) => {
            let in_vlan = vlan.map(|id| format!("{name}.{id}"));
            let found = ready.iter().find(|one| is_called(one, name) || Some(&one.name) == in_vlan.as_ref());
            found.ok_or_else(|| NoNetwork::NoSuch(name.clone()))?
        }
        (None, [only]) => only,
        (None, _) => return Err(NoNetwork::Ambiguous(ready.iter().map(describe).collect::<Vec<_>>().join(", "))),
    };
    Ok(Given {
        interface: interface.clone(),
        address: fixed.address,
        prefix: fixed.prefix,
        gateway: fixed.gateway,
        dns: fixed.dns.clone(),
        ntp: Vec::new(),
        lease: None,
    })
}

/// Asks on all interfaces at the same time; the first answer shortens the others' time.
fn lease_all(asked: &[Interface]) -> Result<Vec<Given>, NoNetwork> {
    let (sender, receiver) = mpsc::channel();
    for interface in asked.iter().cloned() {
        let sender = sender.clone();
        thread::spawn(move || {
            let lease = request_lease(&interface, DHCP_PATIENCE);
            // Whoever comes too late is not waited for any more.
            let _ = sender.send((interface, lease));
        });
    }
    drop(sender);
    let mut given = Vec::new();
    let mut silent = Vec::new();
    let mut until = Instant::now() + DHCP_PATIENCE + GRACE;
    while let Ok((interface, lease)) = receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        match lease {
            Ok(lease) => {
                until = until.min(Instant::now() + GRACE);
                given.push(given_of(interface, &lease));
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                silent.push(format!("{error}{}", source.unwrap_or_default()));
            }
        }
    }
    given.sort_by(|one, other| one.interface.name.cmp(&other.interface.name));
    if given.is_empty() { Err(NoNetwork::NoLease(silent.join("; "))) } else { Ok(given) }
}

fn given_of(interface: Interface, lease: &Lease) -> Given {
    Given {
        interface,
        address: lease.address,
        prefix: lease.prefix,
        gateway: lease.gateway,
        dns: lease.dns.clone(),
        ntp: lease.ntp.clone(),
        lease: Some(lease.clone()),
    }
}

fn apply(links: &mut Links, given: &Given, metric: u32) -> Result<(), NetError> {
    links.add_address(given.interface.index, given.address, given.prefix)?;
    match given.gateway {
        Some(gateway) => links.add_default_route(given.interface.index, gateway, metric),
        None => Ok(()),
    }
}

fn write_resolv_conf(first: &[Ipv4Addr], given: &[Given]) {
    let servers = first.iter().chain(given.iter().flat_map(|one| &one.dns));
    let text: String = servers.map(|server| format!("nameserver {server}\n")).collect();
    if let Err(error) = std::fs::write(RESOLV_CONF, text) {
        log::line(&format!("cannot write {RESOLV_CONF}: {error}"));
    }
}

fn how(given: &[Given]) -> String {
    let one = |given: &Given| match &given.lease {
        Some(lease) => format!("{} by DHCP from {}", given.interface.name, lease.server),
        None => format!("{} by ip=", given.interface.name),
    };
    given.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn report(state: NetworkOutcome, given: &[Given], note: Option<String>) -> NetworkReport {
    let all = interfaces(Path::new(SYSFS)).into_iter();
    let shown = all.filter(|one| one.physical || given.iter().any(|given| given.interface.index == one.index));
    let interfaces = shown.map(|one| {
        let mine = given.iter().filter(|given| given.interface.index == one.index);
        InterfaceReport {
            name: one.name,
            mac: one.mac.to_string(),
            driver: one.driver,
            link_up: one.link_up,
            speed_mbps: one.speed_mbps,
            addresses: mine.map(|given| format!("{}/{}", given.address, given.prefix)).collect(),
        }
    });
    let texts = |pick: fn(&Given) -> &Vec<Ipv4Addr>| {
        let mut all: Vec<String> = Vec::new();
        for address in given.iter().flat_map(pick).map(Ipv4Addr::to_string) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    };
    NetworkReport {
        state,
        interfaces: interfaces.collect(),
        gateway: given.iter().find_map(|one| one.gateway).map(|gateway| gateway.to_string()),
        dns: texts(|given| &given.dns),
        ntp: texts(|given| &given.ntp),
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str) -> Interface {
        Interface {
            name: name.into(),
            index,
            mac: format!("52:54:00:00:00:0{index}").parse().expect("a MAC address"),
            link_up: true,
            speed_mbps: None,
            driver: None,
            physical: true,
        }
    }

    fn fixed(device: Option<&str>) -> StaticAddress {
        StaticAddress {
            address: Ipv4Addr::new(192, 0, 2, 7),
            prefix: 24,
            gateway: None,
            device: device.map(str::to_owned),
            dns: vec![],
        }
    }

    #[test]
    fn a_fixed_address_goes_where_it_is_told_or_where_there_is_no_choice() {
        let two = [interface(2, "eth0"), interface(3, "eth1")];
        let chosen = |ready: &[Interface], device, vlan| {
            fixed_address(ready, &fixed(device), vlan).map(|given| given.interface.name).map_err(|why| why.to_string())
        };
        assert_eq!(chosen(&two, Some("eth1"), None), Ok("eth1".into()));
        assert_eq!(chosen(&two, Some("52:54:00:00:00:02"), None), Ok("eth0".into()));
        assert_eq!(chosen(&two[..1], None, None), Ok("eth0".into()));
        assert_eq!(chosen(&[interface(4, "eth1.42")], Some("eth1"), Some(42)), Ok("eth1.42".into()));
        assert_eq!(
            chosen(&two, None, None),
            Err("several interfaces have a link (eth0 (52:54:00:00:00:02), eth1 (52:54:00:00:00:03)); \
                 name one in ip= or rerack.nic="
                .into())
        );
        assert_eq!(
            chosen(&two, Some("eth9"), None),
            Err("no interface is named eth9; check rerack.nic=, rerack.bond= and ip=".into())
        );
    }
}
