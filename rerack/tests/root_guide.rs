//! The operator guide does what it says: its blocks marked `sh run` are run in order. Needs root.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use support::can_run;

/// The port in the guide, which may be taken where the test runs.
const PORT: &str = "8443";

/// What is left behind by a guide that fails half-way goes, too.
const CLEAN_UP: &str = r#"
clean_up() {
    jobs -p | xargs -r kill 2> /dev/null || true
    umount mounted 2> /dev/null || true
    for device in $(losetup --noheadings --output NAME --associated node.img 2> /dev/null); do
        partx --delete "$device"; losetup --detach "$device"
    done
}
trap clean_up EXIT
"#;

fn blocks(guide: &str) -> Vec<&str> {
    let opened = guide.split("```sh run\n").skip(1);
    opened.map(|rest| rest.split_once("```").expect("a block ends").0).collect()
}

#[test]
fn the_guide_works_as_written() {
    if !can_run() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let guide = fs::read_to_string(root.join("docs/operator-guide.md")).unwrap();
    let blocks = blocks(&guide);
    assert!(blocks.len() >= 10, "the blocks are found");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let script = format!("{CLEAN_UP}set -x\n{}", blocks.concat().replace(PORT, &free));

    let directory = tempfile::Builder::new().prefix("rerack-guide-").tempdir().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_rerack")).parent().unwrap();
    let usual = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{usual}", built.display(), root.join("docs").display());
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c", &script]).current_dir(directory.path()).env("PATH", path);
    let output = bash.env_remove("RERACK_DIR").stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\nstdout:\n{out}\nstderr:\n{err}", output.status);
    assert!(out.contains("web-03 is restored: "), "{out}");
    assert!(out.contains("compared: 0 differences, 0 excepted"), "{out}");
    assert!(out.ends_with(" is revoked\n"), "{out}");
    assert_eq!(fs::read_to_string(directory.path().join("rescued/etc/hostname")).unwrap(), "web-03\n");
}
