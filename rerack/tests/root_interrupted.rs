//! Restores that are interrupted: by a kill at every step, and by a network that breaks or damages what it carries.
//! Needs root.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use restore_events::Outcome;
use serde_json::json;
use support::engine::Engine;
use support::{Attached, Bench, NODE, Parts, Served, can_run, read_at, write_at};

/// Not a test by itself: the engine that the others start, in a process of its own.
#[test]
fn be_the_engine() {
    support::engine::be_the_engine();
}

/// Reads a figure such as `8.00 MiB` before `what` in the last line of a restore, in mebibytes.
#[track_caller]
fn mebibytes(report: &str, what: &str) -> f64 {
    let last = report.lines().last().unwrap();
    let part = last.split(", ").find(|part| part.ends_with(what)).unwrap_or_else(|| panic!("no `{what}` in: {last}"));
    let mut words = part.split(' ');
    let number: f64 = words.next().unwrap().parse().unwrap();
    match words.next().unwrap() {
        "B" => number / f64::from(1 << 20),
        "KiB" => number / 1024.0,
        "MiB" => number,
        other => panic!("what is {other}?"),
    }
}

/// A node with 8 MiB of noise, captured, and a target on which something else could be booted.
struct Interrupted {
    bench: Bench,
    digest: String,
    bootable: [u8; 512],
}

impl Interrupted {
    fn new() -> Self {
        let bench = Bench::new();
        bench.build_node(Parts::Root);
        let disk = Attached::new(&bench.path("node.img"), 512);
        bench.mounted(&disk.partition(3), "rw", |at| {
            for number in 0..2 {
                let content = linux_io::fs::awkward::noise(number, 4 << 20);
                std::fs::write(at.join(format!("srv/large-{number}")), content).unwrap();
            }
        });
        drop(disk);
        bench.capture();
        let mut bootable = [0xEB; 512];
        bootable[446..510].fill(0);
        bootable[510..].copy_from_slice(&[0x55, 0xAA]);
        let mut interrupted = Self { bench, digest: String::new(), bootable };
        interrupted.fresh_target();
        let plan = interrupted.bench.rerack(&["plan", NODE, "--target", "new.img"]).with_code(0);
        interrupted.digest = plan.lines().find_map(|line| line.strip_prefix("Plan ")).unwrap().trim().to_owned();
        interrupted
    }

    /// The same file again: another one would be another disk, and consent to one is none to the other.
    fn fresh_target(&self) {
        self.bench.blank_image("new.img", 200);
        write_at(&self.bench.path("new.img"), 0, &self.bootable);
    }

    /// Starts a restore and kills it when it says that it begins step `number`. Returns whether that was in time.
    fn kill_at(&self, number: usize) -> bool {
        let arguments = ["restore", NODE, "--target", "new.img", "--confirm", &self.digest];
        let mut child = self.bench.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.nth(number).is_some(), "it comes to step {number}");
        child.kill().unwrap();
        !child.wait().unwrap().success()
    }

    fn go_on(&self) -> String {
        let arguments = ["restore", NODE, "--target", "new.img", "--confirm", &self.digest, "--resume"];
        self.bench.rerack(&arguments).with_code(0)
    }

    #[track_caller]
    fn is_whole(&self) {
        let report = self.bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(0);
        assert!(report.contains("compared: 0 differences, 0 excepted"), "{report}");
        let boot_code = |image: &str| read_at(&self.bench.path(image), 0, 440);
        assert_eq!(boot_code("new.img"), boot_code("node.img"));
    }
}

#[test]
fn fault_03_after_a_kill_at_any_step_nothing_boots_and_only_the_rest_is_fetched() {
    if !can_run() {
        return;
    }
    let case = Interrupted::new();
    case.bench.blank_image("bystander.img", 8);
    write_at(&case.bench.path("bystander.img"), 0, &case.bootable);
    let bystander = Attached::without_partitions(&case.bench.path("bystander.img"), 512);
    let untouched = (bystander.sha256(), case.bench.sha256("node.img"));

    let report = case.bench.rerack(&["restore", NODE, "--target", "new.img", "--confirm", &case.digest]).with_code(0);
    let full = mebibytes(&report, "read from the repository");
    let steps: Vec<&str> = report.lines().take_while(|line| !line.starts_with("Layout ")).collect();
    let place = |what: &str| steps.iter().position(|step| step.starts_with(what)).unwrap();
    let (data, last) = (place("restoring volume"), steps.len() - 1);
    assert!(steps[0].ends_with("unbootable") && steps[last].ends_with("bootable") && last > 10, "{steps:?}");

    for (number, step) in steps.iter().enumerate() {
        case.fresh_target();
        let killed = case.kill_at(number);
        assert!(killed || number == last, "{step}: it was done before it could be killed");
        let first_block = read_at(&case.bench.path("new.img"), 0, 512);
        // In the midst of the first write the old block may still be there, and in the midst of the last the new one.
        let old = number == 0 && first_block == case.bootable;
        assert!(old || number == last || first_block == [0; 512], "{step}: firmware starts what is half restored");

        let report = case.go_on();
        case.is_whole();
        if number > data {
            let (kept, read) = (mebibytes(&report, "kept"), mebibytes(&report, "read from the repository"));
            assert!(kept >= 8.0 && read < full / 4.0, "{step}: {kept} MiB kept, {read} of {full} MiB read again");
        }
    }
    assert_eq!((bystander.sha256(), case.bench.sha256("node.img")), untouched, "no disk but the target is touched");
}

/// What the way to the server does to what comes back.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// Resets the connection.
    Reset,
    /// Turns one bit around.
    Flip,
}

/// Bytes that come through unharmed between two harms: neither reads nor frames end there.
const UNHARMED_BYTES: u64 = (7 << 20) + 12_345;
/// How often harm is done.
const HARMS: usize = 6;

/// A way to the server that does harm now and then.
struct HarmfulWay {
    url: String,
    done: Arc<AtomicUsize>,
}

impl HarmfulWay {
    fn to(server: SocketAddr, harm: Harm) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let done = Arc::new(AtomicUsize::new(0));
        let (passed, count) = (Arc::new(AtomicU64::new(0)), Arc::clone(&done));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (mut asking, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut asking, &mut asked));
                let (passed, count) = (Arc::clone(&passed), Arc::clone(&count));
                std::thread::spawn(move || answer(client, server, harm, &passed, &count));
            }
        });
        Self { url, done }
    }
}

/// Hands on what the server says, until one of the two ends, or is made to.
fn answer(mut client: TcpStream, mut server: TcpStream, harm: Harm, passed: &AtomicU64, done: &AtomicUsize) {
    let mut bytes = [0; 16 << 10];
    while let Ok(length @ 1..) = server.read(&mut bytes) {
        let before = passed.fetch_add(length as u64, Ordering::SeqCst);
        let is_due = (before + length as u64) / UNHARMED_BYTES > before / UNHARMED_BYTES;
        if is_due && done.fetch_add(1, Ordering::SeqCst) < HARMS {
            match harm {
                Harm::Flip => bytes[length / 2] ^= 0x10,
                Harm::Reset => {
                    // Closing without lingering sends a reset.
                    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
                    // Ends the thread that holds the other end of it, silently.
                    client.shutdown(std::net::Shutdown::Read).unwrap();
                    break;
                }
            }
        }
        if client.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
}

/// Restores a node with 96 MiB of files over a harmful way, and returns the engine's log.
fn restored_over(harm: Harm) -> String {
    let bench = Bench::with_snapshot_of(Parts::RootWithMuch);
    let node_image = bench.sha256("node.img");
    bench.blank_image("new.img", 250);
    let disk = Attached::without_partitions(&bench.path("new.img"), 512);
    let server = Served::start(&bench);
    let way = HarmfulWay::to(server.address, harm);
    let settings = json!({
        "servers": [way.url], "code": bench.arm("1h"), "node": NODE, "snapshot": "latest",
        "unattended": true, "erase": "blank",
    });
    let mut engine = Engine::start(&bench, &[&disk.device], settings);
    // A trouble on the way is none to a person: the engine goes on by itself.
    let report = engine.result();
    assert_eq!(report.outcome, Outcome::Restored);
    let done = way.done.load(Ordering::SeqCst);
    assert!(done >= HARMS, "harm was done {done} times only: {}", engine.log());
    assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
    let log = engine.log();
    assert_eq!(log.matches("making disk0 unbootable").count(), 1, "it was erased again: {log}");
    assert_eq!(log.matches("making ext4").count(), 1, "it was made again: {log}");

    assert_eq!(read_at(Path::new(&disk.device), 0, 440), read_at(&bench.path("node.img"), 0, 440), "it can be booted");
    drop(disk);
    let compared = bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(0);
    assert!(compared.contains("compared: 0 differences, 0 excepted"), "{compared}");
    assert_eq!(bench.sha256("node.img"), node_image, "no disk but the target is touched");
    log
}

#[test]
fn fault_22_a_connection_reset_in_mid_chunk_is_resumed_without_erasing_again() {
    if !can_run() {
        return;
    }
    let log = restored_over(Harm::Reset);
    assert!(log.contains("trying again") && log.contains("the data flows again"), "{log}");
}

#[test]
fn fault_24_bits_that_flip_on_the_way_leave_nothing_wrong_behind() {
    if !can_run() {
        return;
    }
    let log = restored_over(Harm::Flip);
    assert!(log.contains("trying again") && log.contains("the data flows again"), "{log}");
}
