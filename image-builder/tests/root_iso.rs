//! Builds a real image around a tiny init and starts it under both firmwares.
//!
//! Needs root, Debian's mirrors and QEMU; says why where it cannot run.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use image_builder::{Error, Inventory, IsoOptions, Profile, build_iso};

/// Under translation, with the other core busy.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);

/// What the init says last.
const LAST_LINE: &str = "the image works";

/// Mounts what modules need, has the kernel itself ask for one by way of `modprobe`, and reports.
const INIT: &str = r#"
use std::{fs::OpenOptions, io::Write, process::Command};
fn main() {
    let mut console = OpenOptions::new().write(true).open("/dev/console").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).env("PATH", "/usr/sbin:/usr/bin").output()
            .map(|output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
            .unwrap_or_else(|error| error.to_string())
    };
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        run("/bin/mount", &["-t", kind, kind, at]);
    }
    writeln!(console, "mkfs.ext4: {}", run("mkfs.ext4", &["-V"])).unwrap();
    writeln!(console, "mkfs.xfs: {}", run("mkfs.xfs", &["-V"])).unwrap();
    writeln!(console, "mkfs.vfat: {}", run("mkfs.vfat", &["--help"])).unwrap();
    writeln!(console, "blkid: {}", run("blkid", &["-V"])).unwrap();
    writeln!(console, "modprobe virtio_net: [{}]", run("modprobe", &["virtio_net"])).unwrap();
    run("dd", &["if=/dev/zero", "of=/tmp/fs.img", "bs=1M", "count=40"]);
    writeln!(console, "{}", run("mkfs.vfat", &["/tmp/fs.img"])).unwrap();
    run("modprobe", &["loop"]);
    // Nobody loads vfat or its character sets here: the kernel starts modprobe for them.
    writeln!(console, "mount: [{}]", run("mount", &["-t", "vfat", "-o", "loop", "/tmp/fs.img", "/mnt"])).unwrap();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    writeln!(console, "vfat is mounted: {}", mounts.contains(" /mnt vfat ")).unwrap();
    writeln!(console, "firmware: {}", if std::path::Path::new("/sys/firmware/efi").exists() { "UEFI" } else { "BIOS" }).unwrap();
    writeln!(console, "arguments: {}", std::fs::read_to_string("/proc/cmdline").unwrap()).unwrap();
    writeln!(console, "the image works").unwrap();
    loop { std::thread::park(); }
}
"#;

#[test]
fn the_image_starts_by_bios_and_by_uefi_with_secure_boot() {
    if let Some(reason) = why_not() {
        eprintln!("skipped: {reason}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(init) = compile_init(dir.path()) else {
        eprintln!("skipped: rustc cannot build for x86_64-unknown-linux-musl");
        return;
    };
    let options = IsoOptions {
        init: init.clone(),
        restore: init.clone(),
        restore_tui: init,
        suite: "trixie".into(),
        profile: Profile::Server,
        kernel_args: "rerack.server=https://10.0.2.2:8443".into(),
        cache_dir: cache_dir(),
        out: dir.path().join("rerack.iso"),
        source_date_epoch: 1_760_000_000,
    };
    let begun = Instant::now();
    let report = build_iso(&options).unwrap_or_else(|error| panic!("{}", explain(&error)));
    eprintln!("built in {:.1} s: {report:?}", begun.elapsed().as_secs_f32());

    // Debian trixie's kernel: what the drivers and the tools were chosen for.
    assert!(report.kernel_release.starts_with("6.12."), "{}", report.kernel_release);
    let inventory: Inventory = serde_json::from_slice(&fs::read(&report.inventory).unwrap()).unwrap();
    assert!(inventory.packages.iter().any(|package| package.name == "xfsprogs"));
    let unowned: Vec<&str> =
        inventory.files.iter().filter(|file| file.package.is_none()).map(|file| file.path.as_str()).collect();
    assert!(unowned.iter().all(|path| ours(path)), "nobody's files: {unowned:?}");

    let again = IsoOptions { out: dir.path().join("again.iso"), ..options };
    build_iso(&again).unwrap();
    assert!(fs::read(&report.iso).unwrap() == fs::read(&again.out).unwrap(), "the same inputs made other bytes");

    for (firmware, name) in [(Vec::new(), "BIOS"), (secure_boot(dir.path()), "UEFI")] {
        let output = boot(&report.iso, &firmware);
        for wanted in [
            &format!("firmware: {name}"),
            "mke2fs 1.47",
            "mkfs.xfs version",
            "Usage: mkfs.vfat",
            "blkid from util-linux",
            "modprobe virtio_net: []",
            "vfat is mounted: true",
            "rerack.server=https://10.0.2.2:8443",
            LAST_LINE,
        ] {
            assert!(output.contains(wanted), "{name}: no `{wanted}` in:\n{output}");
        }
    }
}

/// Files that are made here or come from the caller, not from a package.
fn ours(path: &str) -> bool {
    ["/init", "/usr/bin/restore", "/usr/bin/restore-tui"].contains(&path)
        || path.starts_with("/etc/")
        || path.contains("/modules.")
}

fn explain(error: &Error) -> String {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}{hint}")
}

fn why_not() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")) {
        return Some("needs root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = ["qemu-system-x86_64", "mmdebstrap", "xorriso", "mformat"]
        .into_iter()
        .find(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    missing.map(|program| format!("{program} is not installed"))
}

/// Beside the build, so that the packages are fetched once.
fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("image-cache")
}

fn compile_init(dir: &Path) -> Option<PathBuf> {
    let (source, program) = (dir.join("init.rs"), dir.join("init"));
    fs::write(&source, INIT).unwrap();
    let status = Command::new("rustc")
        .args(["--edition=2024", "--target=x86_64-unknown-linux-musl", "-Copt-level=s", "-Cstrip=symbols", "-o"])
        .arg(&program)
        .arg(&source)
        .status();
    status.is_ok_and(|status| status.success()).then_some(program)
}

fn secure_boot(dir: &Path) -> Vec<String> {
    let variables = dir.join("vars.fd");
    fs::copy("/usr/share/OVMF/OVMF_VARS_4M.ms.fd", &variables).unwrap();
    vec![
        "-machine".into(),
        "q35,smm=on".into(),
        "-global".into(),
        "driver=cfi.pflash01,property=secure,value=on".into(),
        "-drive".into(),
        "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.ms.fd".into(),
        "-drive".into(),
        format!("if=pflash,unit=1,format=raw,file={}", variables.display()),
    ]
}

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots the disc and returns what the serial line said until init was done.
fn boot(iso: &Path, firmware: &[String]) -> String {
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-display", "none", "-vga", "std", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-m", "512", "-smp", "2", "-no-reboot", "-serial", "stdio", "-nic", "none"])
        .args(firmware)
        .args(["-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-cd,bus=scsi0.0,drive=disc", "-drive"])
        .arg(format!("if=none,id=disc,format=raw,media=cdrom,readonly=on,file={}", iso.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let machine = Machine(child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            let _ = sender.send(buffer[..count].to_vec());
        }
    });
    let begun = Instant::now();
    let mut output = Vec::new();
    // The channel closes when QEMU ends by itself.
    while let Some(left) = BOOT_TIMEOUT.checked_sub(begun.elapsed()) {
        match receiver.recv_timeout(left) {
            Ok(bytes) => output.extend(bytes),
            Err(_) => break,
        }
        if String::from_utf8_lossy(&output).contains(LAST_LINE) {
            break;
        }
    }
    drop(machine);
    eprintln!("done {:.1} s after power-on", begun.elapsed().as_secs_f32());
    String::from_utf8_lossy(&output).into_owned()
}
