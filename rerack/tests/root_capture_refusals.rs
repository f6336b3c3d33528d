//! What `rerack capture` says when it cannot store a snapshot; there is none then. Needs root.

mod support;

use std::fs;

use serde_json::Value;
use support::{Attached, Bench, MountedHere, NODE, Parts, Served, can_run, free_address, scrub};

/// A node's disk, and the complaints so far.
struct Lab {
    bench: Bench,
    disk: Attached,
    said: String,
}

impl Lab {
    fn new(bench: Bench) -> Self {
        bench.build_node(Parts::RootWithMuch);
        let disk = Attached::new(&bench.path("node.img"), 512);
        Self { bench, disk, said: String::new() }
    }

    #[track_caller]
    fn refused(&mut self, case: &str, arguments: &[&str]) {
        let all = [&["capture", "--disk", &self.disk.device], arguments].concat();
        let complaint = self.bench.rerack(&all).complaint(1);
        assert!(complaint.contains("\nhint: "), "{case}: it does not say what to do now: {complaint}");
        // The server's own log says it, too, and the node's scan warns of what this machine lacks.
        let told: String =
            complaint.lines().filter(|line| !line.contains("warning:")).map(|l| l.to_owned() + "\n").collect();
        self.said.push_str(&format!("{case}\n{}\n", scrub(&self.bench, &told)));
    }

    /// How many snapshots the node has.
    fn snapshots(&self) -> usize {
        let listed = self.bench.command(&["list", NODE, "--json"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().matches("\"sequence\"").count()
    }
}

/// Takes out what differs from run to run: ports, and the directories that packs are spread over.
fn settled(text: &str) -> String {
    let after = |text: &str, mark: &str, instead: &str, is_of_it: fn(char) -> bool| {
        let mut parts = text.split(mark);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| all + mark + instead + part.trim_start_matches(is_of_it))
    };
    let text = after(text, "127.0.0.1:", "PORT", |c| c.is_ascii_digit());
    after(&text, "packs/", "XX", |c| c.is_ascii_hexdigit())
}

#[test]
fn a_capture_that_reaches_no_server_of_its_own_says_why() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new(Bench::new());
    let server = Served::start(&lab.bench);
    lab.bench.add_node(&server);
    let url = server.url.clone();
    let node_file = |lab: &Lab, name: &str, change: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_slice(&fs::read(lab.bench.path("node.json")).unwrap()).unwrap();
        change(&mut file);
        let path = lab.bench.path(name);
        fs::copy(lab.bench.path("node.json"), &path).unwrap();
        fs::write(path, file.to_string()).unwrap();
    };
    lab.refused("no node file", &["--node-file", "nowhere.json"]);
    let nobody = format!("https://{}", free_address());
    lab.refused("unreachable server", &["--node-file", "node.json", "--server", &nobody]);
    node_file(&lab, "pinned.json", &|file| file["root_fingerprint"] = Value::from("0".repeat(64)));
    lab.refused("wrong root pin", &["--node-file", "pinned.json", "--server", &url]);
    node_file(&lab, "unknown.json", &|file| file["node"] = Value::from("db-01"));
    lab.refused("unknown node", &["--node-file", "unknown.json", "--server", &url]);
    lab.bench.rerack(&["node", "add", NODE, "--replace", "--url", &url, "-o", "new.json"]).with_code(0);
    lab.refused("a node file that was replaced", &["--node-file", "node.json", "--server", &url]);
    assert_eq!(lab.snapshots(), 0);
    insta::assert_snapshot!("unreached", settled(&lab.said));
}

#[test]
fn fault_16_a_repository_that_takes_no_more_gets_no_snapshot() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    let small = MountedHere::in_memory("40m", &bench.path("repo"));
    let mut lab = Lab::new(bench);
    let server = Served::start(&lab.bench);
    lab.bench.add_node(&server);
    let url = server.url.clone();
    lab.refused("a full repository", &["--node-file", "node.json", "--server", &url]);
    assert_eq!(lab.snapshots(), 0, "there is no receipt");
    let repository = lab.bench.text_path("repo");
    support::tool("mount", &["-o", "remount,size=200m", &repository]);
    let read_only = MountedHere::read_only(&lab.bench.path("repo/packs"));
    lab.refused("a repository that cannot be written", &["--node-file", "node.json", "--server", &url]);
    assert_eq!(lab.snapshots(), 0, "there is no receipt");
    drop(read_only);
    insta::assert_snapshot!("stored", settled(&lab.said));

    // The same capture succeeds as soon as there is room and it can be written.
    lab.bench
        .rerack(&["capture", "--disk", &lab.disk.device, "--node-file", "node.json", "--server", &url])
        .with_code(0);
    assert_eq!(lab.snapshots(), 1);
    drop((server, small));
}
