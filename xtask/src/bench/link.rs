//! The way between a server and whoever restores: loopback, a link of a given rate, and with a given latency.
//!
//! A rate is made by tbf on a pair of interfaces, the server's end in a network namespace of its own. A latency is made
//! by a proxy, since not every kernel has netem: it delays each direction by half of it and each first word by a whole
//! one more, as the handshake of TCP would. It knows nothing of slow start. It counts the round trips.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command;

/// The two ends of the link.
const HERE: &str = "198.18.77.1";
const THERE: &str = "198.18.77.2";
/// What is delayed at once, and how much may be on its way: 64 MiB are 50 ms of 10 Gb/s.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_MAX: usize = 1024;

/// The links that a bench can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Rate {
    #[value(name = "100mbit")]
    Fast,
    #[value(name = "1gbit")]
    Gigabit,
}

impl Rate {
    fn bits_per_second(self) -> u64 {
        match self {
            Self::Fast => 100_000_000,
            Self::Gigabit => 1_000_000_000,
        }
    }

    /// tbf sends at once what a hundredth of a second is worth: more than one packet of 64 KiB.
    fn burst_bytes(self) -> u64 {
        self.bits_per_second() / 8 / 100
    }
}

/// A way to the server.
pub(super) struct Link {
    rate: Option<Rate>,
    latency: Duration,
    namespace: Option<Namespace>,
    round_trips: Arc<AtomicU64>,
}

struct Namespace {
    name: String,
    here: String,
    there: String,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Both ends go with one.
        command::succeeds(&["ip", "link", "delete", &self.here]);
        command::succeeds(&["ip", "netns", "delete", &self.name]);
    }
}

impl Link {
    /// A way that does not hold anything up until [`Link::narrow`].
    pub(super) fn new(rate: Option<Rate>, latency_ms: u64) -> Result<Self> {
        let namespace = if rate.is_some() { Some(Namespace::new()?) } else { None };
        Ok(Self { rate, latency: Duration::from_millis(latency_ms), namespace, round_trips: Arc::default() })
    }

    /// How often somebody asked for a connection, or spoke again after an answer, since the link was made; `None` where
    /// nobody counts. Connections that wait at the same time count each for itself.
    pub(super) fn round_trips(&self) -> Option<u64> {
        (!self.latency.is_zero()).then(|| self.round_trips.load(Ordering::Relaxed))
    }

    /// Whether it is anything but loopback.
    pub(super) fn is_narrow(&self) -> bool {
        self.rate.is_some() || !self.latency.is_zero()
    }

    /// From now on it has its rate.
    pub(super) fn narrow(&self) -> Result<()> {
        let (Some(rate), Some(Namespace { name, here, there })) = (self.rate, &self.namespace) else { return Ok(()) };
        let (bits, burst) = (format!("{}bit", rate.bits_per_second()), rate.burst_bytes().to_string());
        let tbf = ["root", "tbf", "rate", &bits, "burst", &burst, "latency", "50ms"];
        command::output(&[&["tc", "qdisc", "add", "dev", here][..], &tbf].concat())?;
        command::output(&[&["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", there][..], &tbf].concat())?;
        Ok(())
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let rate = match self.rate {
            None => "loopback",
            Some(Rate::Fast) => "100 Mb/s",
            Some(Rate::Gigabit) => "1 Gb/s",
        };
        match self.latency.as_millis() {
            0 => rate.to_owned(),
            latency => format!("{rate}, {latency} ms there and back"),
        }
    }

    /// A program at the server's end.
    pub(super) fn command(&self, program: &str) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespace.name, program]);
                command
            }
        }
    }

    /// Where a server may listen.
    pub(super) fn free_address(&self) -> Result<SocketAddr> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.context("no port is free")?.port();
        let host = if self.namespace.is_some() { THERE } else { "127.0.0.1" };
        Ok(SocketAddr::new(host.parse().expect("it is an address"), port))
    }

    /// Where those who restore find the server that listens at `server`.
    pub(super) fn way_to(&self, server: SocketAddr) -> Result<SocketAddr> {
        if self.latency.is_zero() {
            return Ok(server);
        }
        let listener = TcpListener::bind("127.0.0.1:0").context("the proxy cannot listen")?;
        let address = listener.local_addr()?;
        let (latency, round_trips) = (self.latency, self.round_trips.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                round_trips.fetch_add(1, Ordering::Relaxed);
                let turns = Arc::new(Turns { all: round_trips.clone(), client_spoke: AtomicBool::new(false) });
                // A server that is gone is what the client is to find.
                let _ = TcpStream::connect(server).and_then(|server| carry(client, server, latency, &turns));
            }
        });
        Ok(address)
    }
}

impl Namespace {
    fn new() -> Result<Self> {
        let id = std::process::id();
        let namespace = Self { name: format!("rerack-{id}"), here: format!("rh{id}"), there: format!("rt{id}") };
        let Self { name, here, there } = &namespace;
        command::output(&["ip", "netns", "add", name])?;
        command::output(&["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name])?;
        command::output(&["ip", "address", "add", &format!("{HERE}/30"), "dev", here])?;
        command::output(&["ip", "link", "set", here, "up"])?;
        let inside = ["ip", "-n", name];
        command::output(&[&inside[..], &["address", "add", &format!("{THERE}/30"), "dev", there]].concat())?;
        command::output(&[&inside[..], &["link", "set", there, "up"]].concat())?;
        command::output(&[&inside[..], &["link", "set", "lo", "up"]].concat())?;
        Ok(namespace)
    }
}

/// Who spoke last on a connection.
struct Turns {
    all: Arc<AtomicU64>,
    client_spoke: AtomicBool,
}

impl Turns {
    fn told(&self, by_client: bool) {
        if !self.client_spoke.swap(by_client, Ordering::Relaxed) && by_client {
            self.all.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Carries what both say to each other, late.
fn carry(client: TcpStream, server: TcpStream, latency: Duration, turns: &Arc<Turns>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ways = [(client.try_clone()?, server.try_clone()?, true), (server, client, false)];
    for (from, to, by_client) in ways {
        let (late, due) = sync_channel(PIECES_MAX);
        let turns = turns.clone();
        thread::spawn(move || read(from, &late, latency, by_client, &turns));
        thread::spawn(move || write(to, &due));
    }
    Ok(())
}

fn read(mut from: TcpStream, late: &SyncSender<(Instant, Vec<u8>)>, latency: Duration, by_client: bool, turns: &Turns) {
    // The server's first word answers the client's, which has waited for the handshake.
    let open = Instant::now() + if by_client { latency } else { Duration::ZERO };
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        turns.told(by_client);
        let due = Instant::now().max(open) + latency / 2;
        if late.send((due, piece[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn write(mut to: TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((when, piece)) = due.recv() {
        thread::sleep(when.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    // Nobody is left to be told if this fails.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_delays_and_changes_nothing() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            stream.write_all(&heard).unwrap();
        });
        let link = Link::new(None, 20).unwrap();
        assert_eq!(link.text(), "loopback, 20 ms there and back");
        let said: Vec<u8> = (0..300_000u32).map(|at| (at / 7) as u8).collect();
        let began = Instant::now();
        let mut stream = TcpStream::connect(link.way_to(address).unwrap()).unwrap();
        stream.write_all(&said).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert!(heard == said, "{} bytes of {}", heard.len(), said.len());
        assert!(began.elapsed() >= Duration::from_millis(40), "a handshake and there and back");
        assert_eq!(link.round_trips(), Some(2), "the connection, and one question");
        echo.join().unwrap();
    }

    #[test]
    fn tbf_lets_whole_packets_through() {
        assert!([Rate::Fast, Rate::Gigabit].iter().all(|rate| rate.burst_bytes() > 65_536));
    }
}
