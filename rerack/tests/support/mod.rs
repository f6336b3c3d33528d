//! A node on an image made with the usual tools, a server that is really served, and the command itself. Needs root.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of what is shared")]

pub mod damage;
pub mod engine;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The node of all tests.
pub const NODE: &str = "web-03";

/// Whether loop devices can be had; says so where not. What the test mounts from here on is seen by it and its children
/// alone: a program of another test that makes a mount namespace of its own would keep a copy, and so hold the image.
pub fn can_run() -> bool {
    let possible = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !possible {
        eprintln!("skipped: loop devices need root");
        return false;
    }
    linux_io::mount::private_namespace().unwrap();
    true
}

/// Runs a program that has to succeed, and returns what it prints.
#[track_caller]
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} ends with {}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ends by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What it prints, if it ends with `code`.
    #[track_caller]
    pub fn with_code(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self.out
    }

    /// Its complaint, if it ends with `code`.
    #[track_caller]
    pub fn complaint(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self.err
    }
}

/// The command.
pub fn rerack() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rerack"));
    command.env_remove("RERACK_DIR").env_remove("RERACK_LOG").stdin(Stdio::null());
    command
}

/// A working directory with a repository, a node's image, and the image of a new disk.
pub struct Bench {
    pub directory: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("rerack-ring3-").tempdir().unwrap() }
    }

    /// A bench whose repository holds one snapshot of the node's image.
    pub fn with_snapshot_of(parts: Parts) -> Self {
        let bench = Self::new();
        bench.build_node(parts);
        bench.capture();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs `rerack` in the directory, where the repository is `repo`.
    pub fn rerack(&self, arguments: &[&str]) -> Ended {
        Ended::new(self.command(arguments).output().unwrap())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = rerack();
        command.args(arguments).current_dir(self.directory.path()).env("RERACK_DIR", "repo");
        command
    }

    /// Makes an image of zeros.
    pub fn blank_image(&self, name: &str, mebibytes: u64) {
        File::create(self.path(name)).unwrap().set_len(mebibytes << 20).unwrap();
    }

    /// BLAKE3 would be the same again: this is the judge that knows nothing of what it judges.
    pub fn sha256(&self, name: &str) -> String {
        tool("sha256sum", &[&self.text_path(name)]).split(' ').next().unwrap().to_owned()
    }

    /// Captures `node.img` through a server on a loopback port, and returns what the command prints.
    pub fn capture(&self) -> String {
        self.capture_by(|_, arguments| self.command(arguments))
    }

    /// The same while one of its filesystems is mounted where nobody else sees it.
    pub fn capture_mounted(&self, partition: u32, at: &str) -> String {
        self.capture_by(|disk, arguments| {
            let mut command = Command::new("unshare");
            let script = "mount \"$1\" \"$2\" && shift 2 && exec \"$@\"";
            command.args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"]);
            command.args([&disk.partition(partition), at]);
            let rerack = self.command(arguments);
            command.arg(rerack.get_program()).args(rerack.get_args());
            command.current_dir(self.directory.path()).stdin(Stdio::null());
            command
        })
    }

    fn capture_by(&self, command: impl FnOnce(&Attached, &[&str]) -> Command) -> String {
        let server = Served::start(self);
        self.add_node(&server);
        let disk = Attached::new(&self.path("node.img"), 512);
        let arguments = ["capture", "--node-file", "node.json", "--server", &server.url, "--disk", &disk.device];
        Ended::new(command(&disk, &arguments).output().unwrap()).with_code(0)
    }

    /// Writes the node's file, if there is none.
    pub fn add_node(&self, server: &Served) {
        if !self.path("node.json").exists() {
            self.rerack(&["node", "add", NODE, "--url", &server.url, "-o", "node.json"]).with_code(0);
        }
    }

    /// Arms the node and returns the code.
    pub fn arm(&self, valid: &str) -> String {
        let armed = self.rerack(&["arm", NODE, "--valid", valid, "--json"]).with_code(0);
        let armed: serde_json::Value = serde_json::from_str(&armed).unwrap();
        armed["code"].as_str().unwrap().to_owned()
    }

    /// Writes the image of a node: a BIOS boot partition, swap, a root and, if wanted, data.
    pub fn build_node(&self, parts: Parts) {
        // mkfs.xfs makes nothing below 300 MB.
        let (image_mebibytes, root_mebibytes) = match parts {
            Parts::Root | Parts::RootWithMuch => (192, 160),
            Parts::LargeRoot => (800, 760),
            Parts::RootAndXfs => (512, 160),
        };
        self.blank_image("node.img", image_mebibytes);
        let image = self.path("node.img");
        let mut script = format!(
            "label: gpt\nlabel-id: 5D7A9A27-91D8-4D25-9C52-6B3B32C6A9F1\nsector-size: 512\n\
             1: start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, \
             uuid=0E919A0A-0190-4442-AC54-F108B1121678, name=\"bios\"\n\
             5: start=4096, size=16MiB, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, \
             uuid=2CB9CE6F-8110-4048-AF1E-7FF25A65B494, name=\"swap space\"\n\
             3: start=36864, size={root_mebibytes}MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, \
             uuid=4CA842B9-4A02-4F42-81CB-FD179EC3955A, name=\"root\", attrs=\"LegacyBIOSBootable\"\n",
        );
        if parts == Parts::RootAndXfs {
            script.push_str(
                "2: start=364544, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, \
                 uuid=7B0E7F43-9A57-4E7F-8D3C-2B7F1A60D5C2, name=\"d\u{e4}ta\"\n",
            );
        }
        sfdisk(&image, &script);
        let boot_code: Vec<u8> = (0..440_u32).map(|at| (at * 7 + 3) as u8).collect();
        write_at(&image, 0, &boot_code);
        write_at(&image, 1 << 20, b"the core image of a boot loader");

        let disk = Attached::new(&image, 512);
        tool("mkswap", &["-q", "-U", "8bcb5daf-17ca-47b2-91ac-39b50fb58eef", "-L", "sw", &disk.partition(5)]);
        let root = disk.partition(3);
        tool("mkfs.ext4", &["-q", "-b", "4096", "-U", "d6dcd9a2-0770-4d26-b0bc-955bfbe3f4f9", "-L", "rootfs", &root]);
        self.mounted(&root, "rw", |at| {
            fs::create_dir_all(at.join("etc")).unwrap();
            fs::write(at.join("etc/hostname"), format!("{NODE}\n")).unwrap();
            fs::write(at.join("etc/fstab"), FSTAB).unwrap();
            fs::create_dir_all(at.join("srv/data")).unwrap();
            match parts {
                Parts::Root => {}
                Parts::LargeRoot => fill(&at.join("srv")),
                Parts::RootWithMuch => {
                    for number in 0..24 {
                        let content = linux_io::fs::awkward::noise(number, 4 << 20);
                        fs::write(at.join(format!("srv/large-{number}")), content).unwrap();
                    }
                }
                Parts::RootAndXfs => {
                    fs::create_dir(at.join("awkward")).unwrap();
                    let left_out = linux_io::fs::awkward::build(&at.join("awkward")).unwrap();
                    assert!(left_out.is_empty(), "ext4 holds all of it: {left_out:?}");
                }
            }
        });
        if parts == Parts::RootAndXfs {
            let data = disk.partition(2);
            tool("mkfs.xfs", &["-q", "-m", "uuid=0c9d2f6e-51c5-4a53-9d3c-0f9c7f0d7a11", "-L", "data", &data]);
            // Another test may have the same filesystem mounted.
            self.mounted(&data, "nouuid", |at| {
                fs::write(at.join("records"), linux_io::fs::awkward::noise(99, 3 << 20)).unwrap();
                fs::write(at.join("empty"), "").unwrap();
            });
        }
    }

    /// Mounts a filesystem for as long as `fill` takes.
    pub fn mounted(&self, device: &str, options: &str, fill: impl FnOnce(&Path)) {
        let at = self.path("mounted");
        fs::create_dir_all(&at).unwrap();
        let mounted = MountedHere::new(device, options, &at);
        fill(&at);
        // A program that another test starts now holds this mount, too, and keeps what is only in the journal there.
        // Freezing brings it all into place; a filesystem mounted for reading has nothing to bring.
        let _ = Command::new("fsfreeze").arg("--freeze").arg(&at).stderr(Stdio::null()).status();
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&at).stderr(Stdio::null()).status();
        drop(mounted);
    }
}

/// Disks that nobody means: the captured node's own, and one that every engine is shown beside its target. Nothing may
/// ever be written to either.
pub struct Bystanders {
    pub disk: Attached,
    node_image: String,
    content: String,
}

impl Bystanders {
    pub fn of(bench: &Bench) -> Self {
        // Too small for the node, so that the target stays the only disk that fits; and it holds something.
        bench.blank_image("bystander.img", 24);
        tool("mkfs.ext4", &["-q", "-L", "keep", &bench.text_path("bystander.img")]);
        let disk = Attached::without_partitions(&bench.path("bystander.img"), 512);
        let content = disk.sha256();
        Self { disk, node_image: bench.sha256("node.img"), content }
    }

    #[track_caller]
    pub fn are_untouched(&self, bench: &Bench) {
        assert_eq!(self.disk.sha256(), self.content, "no disk but the target is touched");
        assert_eq!(bench.sha256("node.img"), self.node_image, "the captured node's disk is not touched");
    }
}

/// Takes out of a message what differs from run to run: paths, hashes, loop devices, inodes.
pub fn scrub(bench: &Bench, text: &str) -> String {
    let text = text.replace(bench.directory.path().to_str().unwrap(), "BENCH");
    let mut scrubbed = String::new();
    for token in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = token.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let end = &token[word.len()..];
        let is_hash = word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let numbers = word.strip_prefix("loop").map(|numbers| numbers.split('p').collect::<Vec<_>>());
        let is_loop = numbers.as_ref().is_some_and(|n| n.iter().all(|number| number.parse::<u32>().is_ok()));
        let is_inode = scrubbed.ends_with('#') && word.parse::<u64>().is_ok();
        scrubbed.push_str(match (is_hash, is_loop, is_inode) {
            (true, ..) => "HASH",
            (_, true, _) => "loopN",
            (.., true) => "INODE",
            _ => word,
        });
        scrubbed.push_str(end);
    }
    scrubbed
}

const FSTAB: &str = "UUID=d6dcd9a2-0770-4d26-b0bc-955bfbe3f4f9 / ext4 defaults 0 1\n\
    UUID=8bcb5daf-17ca-47b2-91ac-39b50fb58eef none swap sw 0 0\n";

/// What the node has besides a boot partition and swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// A small root.
    Root,
    /// A root with 96 MiB of files.
    RootWithMuch,
    /// A root with 10,000 small files and 400 MB in others, which can neither be compressed nor found twice.
    LargeRoot,
    /// A root with the tree of awkward files, and XFS.
    RootAndXfs,
}

fn fill(directory: &Path) {
    use linux_io::fs::awkward::noise;
    for number in 0..4 {
        fs::write(directory.join(format!("large {number}")), noise(1000 + number, 70 << 20)).unwrap();
    }
    for number in 0..300 {
        fs::write(directory.join(format!("medium {number}")), noise(2000 + number, 400_000)).unwrap();
    }
    fs::create_dir(directory.join("many")).unwrap();
    for number in 0..10_000 {
        fs::write(directory.join(format!("many/file {number} with a name of some length")), number.to_string())
            .unwrap();
    }
}

/// Writes a partition table as sfdisk does.
pub fn sfdisk(image: &Path, script: &str) {
    let mut command = Command::new("sfdisk");
    command.args(["-q", "--no-reread", "--no-tell-kernel"]).arg(image).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "sfdisk");
}

pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

pub fn read_at(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; length];
    File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// An image on a loop device with its partitions; detached on drop.
pub struct Attached {
    pub device: String,
}

impl Attached {
    pub fn new(image: &Path, sector_size: u32) -> Self {
        let attached = Self::without_partitions(image, sector_size);
        tool("partx", &["--add", &attached.device]);
        attached
    }

    pub fn without_partitions(image: &Path, sector_size: u32) -> Self {
        let sector_size = sector_size.to_string();
        let image = image.to_str().unwrap();
        let device = tool("losetup", &["--find", "--show", "--sector-size", &sector_size, image]).trim().to_owned();
        let attached = Self { device };
        // The device may know partitions of what was attached to it before.
        let _ = Command::new("partx").args(["--delete", &attached.device]).output();
        attached
    }

    /// BLAKE3 would be the same again, and the image's file may lag behind what was written to the device.
    pub fn sha256(&self) -> String {
        tool("sha256sum", &[&self.device]).split(' ').next().unwrap().to_owned()
    }

    pub fn partition(&self, number: u32) -> String {
        format!("{}p{number}", self.device)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Best effort: a test that panics has said why already.
        let _ = Command::new("partx").args(["--delete", &self.device]).output();
        let _ = Command::new("losetup").args(["--detach", &self.device]).output();
    }
}

/// How long a filesystem may be held by copies of its mount in other tests' namespaces.
const HELD_WAIT_MAX: Duration = Duration::from_secs(60);

/// A mount; it goes on drop.
pub struct MountedHere {
    at: PathBuf,
    /// What it is mounted from, if that is a device.
    device: Option<PathBuf>,
}

impl MountedHere {
    pub fn new(device: &str, options: &str, at: &Path) -> Self {
        tool("mount", &["-o", options, device, at.to_str().unwrap()]);
        Self { at: at.to_owned(), device: Some(device.into()) }
    }

    /// A restore that another test began meanwhile has a copy of every mount in a namespace of its own. While it has,
    /// nothing is written back, and who reads the device misses what was just written.
    fn is_held(&self) -> bool {
        use std::os::unix::fs::OpenOptionsExt;
        let Some(device) = &self.device else { return false };
        let exclusively = rustix::fs::OFlags::EXCL.bits() as i32;
        let opened = File::options().read(true).custom_flags(exclusively).open(device);
        opened.is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
    }

    /// A filesystem in memory that holds no more than `size`.
    pub fn in_memory(size: &str, at: &Path) -> Self {
        fs::create_dir(at).unwrap();
        tool("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs", at.to_str().unwrap()]);
        Self { at: at.to_owned(), device: None }
    }

    /// The same directory once more, and read-only.
    pub fn read_only(at: &Path) -> Self {
        tool("mount", &["--bind", at.to_str().unwrap(), at.to_str().unwrap()]);
        let mounted = Self { at: at.to_owned(), device: None };
        tool("mount", &["-o", "remount,bind,ro", at.to_str().unwrap()]);
        mounted
    }
}

impl Drop for MountedHere {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
        let deadline = Instant::now() + HELD_WAIT_MAX;
        while self.is_held() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A server that runs until dropped.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
    pub url: String,
}

impl Served {
    pub fn start(bench: &Bench) -> Self {
        Self::start_at(bench, free_address())
    }

    pub fn start_at(bench: &Bench, free: SocketAddr) -> Self {
        let mut command = bench.command(&["serve", "repo", "--listen", &free.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("listening")));
        let served = Self { child, address: free, url: format!("https://{free}") };
        assert!(listening.is_some(), "the server starts");
        served
    }

    /// Kills it without warning, and returns where it was.
    pub fn kill(mut self) -> SocketAddr {
        self.child.kill().unwrap();
        self.address
    }
}

/// Where nobody listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Drop for Served {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
