//! Which disk the engine of the boot image takes, by itself or by a person's word, and which it leaves alone. Needs
//! root.

mod support;

use std::path::Path;

use restore_events::{Answer, Event, Outcome, QuestionKind};
use serde_json::{Value, json};
use support::engine::{Engine, plan_consent};
use support::{Attached, Bench, NODE, Parts, Served, can_run, read_at, tool, write_at};

/// Not a test by itself: the engine that the others start, in a process of its own.
#[test]
fn be_the_engine() {
    support::engine::be_the_engine();
}

fn settings(bench: &Bench, server: &Served, more: Value) -> Value {
    let mut all = json!({ "servers": [server.url], "code": bench.arm("1h"), "node": NODE, "snapshot": "latest" });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// A disk that nobody means, and too small to be taken for another.
fn bystander(bench: &Bench) -> (Attached, String) {
    bench.blank_image("bystander.img", 24);
    tool("mkfs.ext4", &["-q", "-L", "keep", &bench.text_path("bystander.img")]);
    let disk = Attached::without_partitions(&bench.path("bystander.img"), 512);
    let content = disk.sha256();
    (disk, content)
}

#[track_caller]
fn came_back(bench: &Bench, image: &str, boot_code: &[u8]) {
    assert_eq!(read_at(&bench.path(image), 0, 440), boot_code, "it can be booted");
    let report = bench.rerack(&["compare", NODE, "--image", image]).with_code(0);
    assert!(report.contains("compared: 0 differences, 0 excepted"), "{report}");
}

#[test]
fn by_identity_the_recorded_machine_gets_its_own_disk_or_a_blank_one_without_a_word_from_anybody() {
    if !can_run() {
        return;
    }
    // This machine is the one that was recorded: it captured the node.
    for (case, image) in [("its own disk, which holds something else now", "node.img"), ("a blank disk", "new.img")] {
        let bench = Bench::with_snapshot_of(Parts::Root);
        let boot_code = read_at(&bench.path("node.img"), 0, 440);
        if image == "new.img" {
            bench.blank_image(image, 200);
        } else {
            tool("mkfs.ext4", &["-q", "-F", "-L", "another", &bench.text_path(image)]);
            write_at(&bench.path(image), 40 << 20, &[0x5a; 4096]);
        }
        let disk = Attached::without_partitions(&bench.path(image), 512);
        let (other, content) = bystander(&bench);
        let server = Served::start(&bench);
        let alone = settings(&bench, &server, json!({ "unattended": true, "erase": "identity" }));
        let mut engine = Engine::start(&bench, &[&disk.device, &other.device], alone);
        assert_eq!(engine.result().outcome, Outcome::Restored, "{case}");
        assert_eq!(engine.exit_code(), Some(11), "{case}: powered off, as asked for");
        drop(disk);
        came_back(&bench, image, &boot_code);
        assert_eq!(other.sha256(), content, "{case}: no other disk is touched");
    }
}

#[test]
fn fault_43_where_several_disks_fit_a_person_says_which_and_nobody_else_does() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::Root);
    let boot_code = read_at(&bench.path("node.img"), 0, 440);
    for (name, mebibytes) in [("one.img", 200), ("other.img", 210)] {
        bench.blank_image(name, mebibytes);
        tool("mkswap", &["-q", "-L", name, &bench.text_path(name)]);
    }
    let one = Attached::without_partitions(&bench.path("one.img"), 512);
    let other = Attached::without_partitions(&bench.path("other.img"), 512);
    let contents = [one.sha256(), other.sha256()];
    let server = Served::start(&bench);
    let disks = [one.device.as_str(), other.device.as_str()];

    let alone = settings(&bench, &server, json!({ "unattended": true, "erase": "identity" }));
    let trouble = Engine::start(&bench, &disks, alone).trouble();
    assert!(trouble.which.starts_with("more than one disk could take the place of"), "{trouble:?}");

    let mut engine = Engine::start(&bench, &disks, settings(&bench, &server, json!({})));
    let question = engine.asks("Disk");
    let QuestionKind::Disk { choices, .. } = &question.ask else { panic!("{question:?}") };
    let shown: Vec<bool> = choices.iter().map(|choice| choice.label.contains("other.img")).collect();
    assert_eq!(shown, [false, true], "{choices:?}");
    assert!(choices[1].detail.as_ref().is_some_and(|detail| detail.ends_with(", holds swap")), "{choices:?}");
    // What is not on the list is no answer.
    engine.answer(&question, Answer::Choice("serial S3Z9".to_owned()));
    let question = engine.asks("Disk");
    engine.answer(&question, Answer::Choice(choices[1].key.clone()));
    let shown = engine.wait("a plan", |event| match event {
        Event::Plan(plan) => Some(plan.disks),
        _ => None,
    });
    assert!(shown[0].new.contains("other.img"), "{shown:?}");
    assert_eq!([one.sha256(), other.sha256()], contents, "choosing a disk erases nothing");
    let question = engine.asks("Consent");
    assert_eq!(plan_consent(&question).disks.len(), 1);
    engine.answer(&question, support::engine::confirm(&question, str::to_owned));
    assert_eq!(engine.result().outcome, Outcome::Restored);
    assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
    assert_eq!(one.sha256(), contents[0], "the other disk is not touched");
    assert_ne!(read_at(Path::new(&other.device), 0, 440), [0; 440]);
    drop(other);
    came_back(&bench, "other.img", &boot_code);
}
