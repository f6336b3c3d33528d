//! A network of two interfaces in a namespace of its own: needs root and `ip`.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use linux_io::net::{BondMode, DhcpMessage, DhcpMessageType, Interface, Links, renew_lease, request_lease};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

const LENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives this thread a network of its own; `false`, with the reason printed, where that is not allowed.
fn own_network() -> bool {
    let ready = unshare(CloneFlags::CLONE_NEWNET).is_ok() && Command::new("ip").arg("-V").output().is_ok();
    if !ready {
        eprintln!("skipped: needs root and the `ip` program");
    }
    ready
}

fn interface(name: &str) -> Interface {
    let mac = ip(&format!("-o link show {name}"));
    let mac = mac.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    Interface {
        name: name.into(),
        index: if_nametoindex(name).unwrap(),
        mac: mac.parse().unwrap(),
        link_up: true,
        speed_mbps: None,
        driver: None,
        physical: true,
    }
}

#[test]
fn an_interface_gets_an_address_and_a_way_out() {
    if !own_network() {
        return;
    }
    ip("link add name a type veth peer name b");
    let (a, b) = (if_nametoindex("a").unwrap(), if_nametoindex("b").unwrap());
    let mut links = Links::open().unwrap();
    links.set_up(a, true).unwrap();
    links.set_up(b, true).unwrap();
    links.add_address(a, LENT, 24).unwrap();
    links.add_default_route(a, ROUTER, 100).unwrap();
    assert!(ip("-o addr show dev a").contains("192.0.2.77/24 brd 192.0.2.255"));
    assert_eq!(ip("route show default").trim(), "default via 198.51.100.1 dev a metric 100 onlink");
    links.remove_address(a, LENT, 24).unwrap();
    assert!(!ip("-o addr show dev a").contains("192.0.2.77"));
    let error = links.remove_address(a, LENT, 24).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot take the address 192.0.2.77/24 from interface {a}"));
}

#[test]
fn vlans_and_bonds_are_made_where_the_kernel_can() {
    if !own_network() {
        return;
    }
    ip("link add name a type veth peer name b");
    let a = if_nametoindex("a").unwrap();
    let mut links = Links::open().unwrap();
    match links.add_vlan(a, 42, "a.42") {
        Ok(()) => assert!(ip("-d -o link show a.42").contains("vlan protocol 802.1Q id 42")),
        Err(error) => eprintln!("skipped: VLANs: {error}: {:?}", std::error::Error::source(&error)),
    }
    match links.add_bond("bond0", BondMode::Lacp) {
        Ok(()) => {
            assert!(ip("-d -o link show bond0").contains("802.3ad"));
            links.join_bond(a, if_nametoindex("bond0").unwrap()).unwrap();
            assert!(ip("-o link show a").contains("master bond0"));
        }
        Err(error) => eprintln!("skipped: bonds: {error}: {:?}", std::error::Error::source(&error)),
    }
}

#[test]
fn a_server_lends_an_address_and_lends_it_longer() {
    if !own_network() {
        return;
    }
    ip("link add name client type veth peer name server");
    let (client, server) = (interface("client"), interface("server"));
    let mut links = Links::open().unwrap();
    links.set_up(client.index, true).unwrap();
    links.set_up(server.index, true).unwrap();

    // A server that drops the first question, as a link that is slow to come up does.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap();
    socket.set_broadcast(true).unwrap();
    setsockopt(&socket, sockopt::BindToDevice, &"server".into()).unwrap();
    let served = std::thread::spawn(move || {
        let mut kinds = Vec::new();
        let mut datagram = [0; 1500];
        while kinds.len() < 4 {
            let length = socket.recv(&mut datagram).unwrap();
            let question = DhcpMessage::decode(&datagram[..length]).unwrap();
            kinds.push(question.kind);
            let kind = match question.kind {
                DhcpMessageType::Discover => DhcpMessageType::Offer,
                _ => DhcpMessageType::Ack,
            };
            let answer = DhcpMessage {
                is_reply: true,
                your_address: LENT,
                server: Some(Ipv4Addr::new(192, 0, 2, 1)),
                mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
                lease_seconds: Some(600),
                ..DhcpMessage::question(kind, question.transaction, question.mac, 0)
            };
            if kinds.len() > 1 {
                socket.send_to(&answer.encode(), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68)).unwrap();
            }
        }
        kinds
    });
    let lease = request_lease(&client, Duration::from_secs(20)).unwrap();
    assert_eq!((lease.address, lease.prefix, lease.gateway, lease.seconds), (LENT, 24, None, 600));
    let again = renew_lease(&client, &lease, Duration::from_secs(20)).unwrap();
    assert_eq!(again, lease);
    use DhcpMessageType::{Discover, Request};
    assert_eq!(served.join().unwrap(), [Discover, Discover, Request, Request]);

    // Nobody answers any more.
    let error = request_lease(&client, Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.to_string(), "no DHCP server answered on client within 0 s");
}
