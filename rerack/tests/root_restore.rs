//! The whole command: capture an image through a server, plan, restore onto another image, compare. Needs root.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Attached, Bench, Bystanders, NODE, Parts, can_run, read_at, tool};

/// The digest that `rerack plan` shows.
fn digest(plan: &str) -> String {
    let line = plan.lines().find_map(|line| line.strip_prefix("Plan ")).expect("a plan names its digest");
    line.trim().to_owned()
}

fn plan_onto(bench: &Bench, target: &str) -> String {
    digest(&bench.rerack(&["plan", NODE, "--target", target]).with_code(0))
}

/// Compares all of the image's filesystems with the snapshot.
fn compare(bench: &Bench, image: &str, filesystems: usize) {
    let report = bench.rerack(&["compare", NODE, "--image", image]).with_code(0);
    assert_eq!(report.matches("compared: 0 differences, 0 excepted").count(), filesystems, "{report}");
}

/// The table as sfdisk shows it, without what depends on the image's name and size.
fn table(bench: &Bench, image: &str) -> String {
    let dump = tool("sfdisk", &["--dump", &bench.text_path(image)]);
    let kept = dump.lines().filter(|line| !line.starts_with("device:") && !line.starts_with("last-lba:"));
    kept.map(|line| line.replace(&bench.text_path(image), "image") + "\n").collect()
}

/// What blkid finds in each partition.
fn contents(bench: &Bench, image: &str, partitions: &[u32]) -> Vec<String> {
    let disk = Attached::new(&bench.path(image), 512);
    let export = |number: &u32| {
        let text = tool("blkid", &["--probe", "--output", "export", &disk.partition(*number)]);
        let is_of_the_loop_device = |line: &&str| line.starts_with("DEVNAME=") || line.starts_with("PART_ENTRY_DISK=");
        text.lines().filter(|line| !is_of_the_loop_device(line)).collect::<Vec<_>>().join("\n")
    };
    partitions.iter().map(export).collect()
}

#[test]
fn a_node_comes_back_on_a_larger_disk() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::RootAndXfs);
    let again = bench.capture();
    assert!(again.contains(", 0 of "), "a node that did not change stores no new chunk: {again}");

    bench.blank_image("new.img", 600);
    let bystanders = Bystanders::of(&bench);
    let digest = plan_onto(&bench, "new.img");
    let report = bench.rerack(&["restore", NODE, "--target", "new.img", "--confirm", &digest]).with_code(0);
    assert!(report.contains("web-03 is restored: "), "{report}");
    bystanders.are_untouched(&bench);

    compare(&bench, "new.img", 2);
    assert_eq!(table(&bench, "new.img"), table(&bench, "node.img"), "types, GUIDs, names, places");
    let partitions = [5, 3, 2];
    assert_eq!(contents(&bench, "new.img", &partitions), contents(&bench, "node.img", &partitions));
    assert_eq!(read_at(&bench.path("new.img"), 0, 440), read_at(&bench.path("node.img"), 0, 440), "boot code");
    let boot_partition = |image: &str| read_at(&bench.path(image), 1 << 20, 1 << 20);
    assert!(boot_partition("new.img") == boot_partition("node.img"), "the BIOS boot partition's bytes");
    tool("sfdisk", &["--verify", &bench.text_path("new.img")]);

    let disk = Attached::new(&bench.path("new.img"), 512);
    bench.mounted(&disk.partition(3), "rw", |at| {
        std::fs::write(at.join("etc/hostname"), "web-04\n").unwrap();
        std::fs::remove_file(at.join("etc/fstab")).unwrap();
    });
    drop(disk);
    let complaint = bench.rerack(&["compare", NODE, "--image", "new.img", "--skip", "boot-efi"]).complaint(1);
    assert!(complaint.contains("no volume `boot-efi` to skip") && complaint.contains("disk0-p3"), "{complaint}");
    let except = ["compare", NODE, "--image", "new.img", "--except", "/etc", "--except", "/etc/fstab"];
    let report = bench.rerack(&except).with_code(3);
    assert!(report.contains("/etc/hostname: content is "), "{report}");
    assert!(report.contains("disk0-p3: /etc/fstab: missing; allowed: named by --except"), "{report}");
    assert!(report.contains("compared: 2 differences, 2 excepted"), "{report}");
}

#[test]
fn a_node_keeps_the_log_of_its_restore() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    bench.build_node(Parts::Root);
    // Its third partition is the filesystem that holds the logs, the only one that was mounted.
    bench.capture_mounted(3, "/var/log");
    bench.blank_image("new.img", 200);
    let digest = plan_onto(&bench, "new.img");
    bench.rerack(&["restore", NODE, "--target", "new.img", "--confirm", &digest]).with_code(0);

    let disk = Attached::new(&bench.path("new.img"), 512);
    bench.mounted(&disk.partition(3), "ro", |at| keeps_its_log(at, &digest));
    drop(disk);
    let report = bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(0);
    assert!(report.contains("compared: 0 differences, 2 excepted"), "{report}");
    let reason = "should not be there; allowed: the log of the restore";
    assert!(report.contains(&format!("var-log: /rerack: {reason}")), "{report}");
    assert!(report.contains(&format!(".log: {reason}")), "one by one, with their reason: {report}");

    // Nothing else may be there, nor may the directory be other than captured.
    let disk = Attached::new(&bench.path("new.img"), 512);
    bench.mounted(&disk.partition(3), "rw", |at| std::fs::write(at.join("rerack/other.log"), "").unwrap());
    drop(disk);
    let report = bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(3);
    assert!(report.contains("var-log: /rerack/other.log: should not be there\n"), "{report}");
}

#[test]
fn a_name_that_died_with_the_disk_is_replaced_and_the_comparison_knows_why() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    bench.build_node(Parts::Root);
    let disk = Attached::new(&bench.path("node.img"), 512);
    // The third partition is the one that is mounted, at the only place from which the scan reads an fstab.
    let by_id = "/dev/disk/by-id/ata-OLD_DISK_S3Z9-part3";
    bench.mounted(&disk.partition(3), "rw", |at| {
        std::fs::write(at.join("fstab"), format!("# kept\n{by_id} /etc ext4 defaults 0 1\n")).unwrap();
    });
    drop(disk);
    bench.capture_mounted(3, "/etc");
    bench.blank_image("new.img", 200);
    let bystanders = Bystanders::of(&bench);
    let plan = bench.rerack(&["plan", NODE, "--target", "new.img", "--json"]).with_code(0);
    std::fs::write(bench.path("p.json"), plan).unwrap();
    let digest = plan_onto(&bench, "new.img");
    bench.rerack(&["restore", NODE, "--target", "new.img", "--confirm", &digest]).with_code(0);

    let disk = Attached::new(&bench.path("new.img"), 512);
    bench.mounted(&disk.partition(3), "ro", |at| {
        let fstab = std::fs::read_to_string(at.join("fstab")).unwrap();
        assert_eq!(fstab, "# kept\nUUID=d6dcd9a2-0770-4d26-b0bc-955bfbe3f4f9 /etc ext4 defaults 0 1\n");
    });
    drop(disk);
    // Without the plan it is a difference like any other.
    let report = bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(3);
    assert!(report.contains("etc: /fstab: size is "), "{report}");
    let report = bench.rerack(&["compare", NODE, "--image", "new.img", "--plan", "p.json"]).with_code(0);
    assert!(report.contains("compared: 0 differences, "), "{report}");
    let excepted: Vec<&str> = report.lines().filter(|line| line.contains("; allowed: ")).collect();
    assert!(!excepted.is_empty(), "{report}");
    for line in excepted {
        let reason = "; allowed: the disk has another name in this machine; its UUID stays";
        assert!(line.starts_with("etc: /fstab: ") && line.ends_with(reason), "{line}");
    }
    bystanders.are_untouched(&bench);
}

/// The node tells what was done to it, to root alone.
fn keeps_its_log(logs: &Path, digest: &str) {
    let kept: Vec<_> = std::fs::read_dir(logs.join("rerack")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [log] = &kept[..] else { panic!("one log: {kept:?}") };
    let status = std::fs::metadata(log).unwrap();
    assert_eq!((status.mode() & 0o7777, status.uid(), status.gid()), (0o600, 0, 0));
    let text = std::fs::read_to_string(log).unwrap();
    let told = [
        "Restore of web-03, snapshot ",
        &format!("Plan {digest}\n"),
        "  disk0 was ",
        "    is now file ",
        "What differs from the captured node\n",
        "because the node keeps the log of its restore\n",
        "\nTime\n  Layout ",
        "  Data ",
        " written, 0 B kept, ",
        "in each second; limited by: ",
        "] restoring volume var-log\n",
        "] keeping the log of this restore as /var/log/rerack/restore-",
    ];
    let missing: Vec<_> = told.iter().filter(|told| !text.contains(**told)).collect();
    assert!(missing.is_empty(), "{missing:?} in:\n{text}");
    assert!(text.lines().all(|line| line.len() < 400), "it reads well:\n{text}");
}

/// Reads a figure such as `96 MiB` before `what` in the last line of a restore.
fn figure(report: &str, what: &str) -> f64 {
    let last = report.lines().last().unwrap();
    let part = last.split(", ").find(|part| part.ends_with(what)).unwrap_or_else(|| panic!("no `{what}` in: {last}"));
    let mut words = part.split(' ');
    let number: f64 = words.next().unwrap().parse().unwrap();
    let unit = match words.next().unwrap() {
        "B" | "bytes" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        other => panic!("what is {other}?"),
    };
    number * unit
}

/// Starts a restore and kills it by SIGKILL when it has written about `bytes`, while it restores files.
fn kill_while_restoring(bench: &Bench, arguments: &[&str], bytes: u64) {
    let mut command = bench.command(arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("restor")), "it comes to the files");
    let written = || {
        let counters = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
        let line = counters.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a count of bytes written");
        line.parse::<u64>().unwrap()
    };
    let patience = Instant::now();
    while written() < bytes {
        assert!(patience.elapsed() < Duration::from_secs(60), "{} bytes after a minute", written());
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it was killed before it was done");
    let rest: Vec<String> = lines.collect();
    assert!(rest.is_empty(), "it was killed among the files: {rest:?}");
}

#[test]
fn fault_03_a_killed_restore_cannot_be_booted_and_goes_on_where_it_was() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::RootWithMuch);
    bench.blank_image("new.img", 250);
    let bystanders = Bystanders::of(&bench);
    let digest = plan_onto(&bench, "new.img");
    let first = ["restore", NODE, "--target", "new.img", "--confirm", &digest];
    let resume = [&first[..], &["--resume"]].concat();
    // Early, in the middle and late: each time it writes the rest only, of 96 MiB in all.
    for (arguments, mebibytes) in [(&first[..], 2), (&resume, 30), (&resume, 30)] {
        kill_while_restoring(&bench, arguments, mebibytes << 20);
        assert!(read_at(&bench.path("new.img"), 0, 512) == [0; 512], "no firmware starts from this disk");
        bystanders.are_untouched(&bench);
    }
    // The same consent holds until it is done: the digest is the first run's.
    let report = bench.rerack(&resume).with_code(0);
    assert!(figure(&report, "kept") >= (40 << 20) as f64, "{report}");
    assert!(figure(&report, "read from the repository") <= (56 << 20) as f64, "of 96 MiB: {report}");
    compare(&bench, "new.img", 1);
    assert_eq!(table(&bench, "new.img"), table(&bench, "node.img"));
    assert_eq!(read_at(&bench.path("new.img"), 0, 440), read_at(&bench.path("node.img"), 0, 440), "boot code");
    bystanders.are_untouched(&bench);
}

#[test]
fn an_image_that_is_attached_elsewhere_is_no_target() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::Root);
    let before = bench.sha256("node.img");
    let attached = Attached::new(&bench.path("node.img"), 512);
    let complaint = bench.rerack(&["restore", NODE, "--target", "node.img"]).complaint(1);
    assert!(complaint.contains("is in use") && complaint.contains(&attached.device[5..]), "{complaint}");
    assert_eq!(bench.sha256("node.img"), before);
}
