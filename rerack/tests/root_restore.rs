//! The whole command: capture an image through a server, plan, restore onto another image, compare. Needs root.

mod support;

use support::{Attached, Bench, NODE, Parts, can_run, read_at, tool};

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
        text.lines().filter(|line| !line.starts_with("DEVNAME=")).collect::<Vec<_>>().join("\n")
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

    bench.blank_image("new.img", 400);
    let digest = plan_onto(&bench, "new.img");
    let report = bench.rerack(&["restore", NODE, "--target", "new.img", "--confirm", &digest]).with_code(0);
    assert!(report.contains("web-03 is restored: "), "{report}");

    compare(&bench, "new.img", 2);
    assert_eq!(table(&bench, "new.img"), table(&bench, "node.img"), "types, GUIDs, names, places");
    let partitions = [5, 3, 2];
    assert_eq!(contents(&bench, "new.img", &partitions), contents(&bench, "node.img", &partitions));
    assert_eq!(read_at(&bench.path("new.img"), 0, 440), read_at(&bench.path("node.img"), 0, 440), "boot code");
    let boot_partition = |image: &str| read_at(&bench.path(image), 1 << 20, 1 << 20);
    assert!(boot_partition("new.img") == boot_partition("node.img"), "the BIOS boot partition's bytes");
    tool("sfdisk", &["--verify", &bench.text_path("new.img")]);
}
