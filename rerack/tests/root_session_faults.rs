//! What the engine of the boot image does when a pack is damaged, or its server is gone, in the midst of a restore.
//! Needs root.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use restore_events::{
    Answer, ByItself, Command, Event, LogLevel, Outcome, QuestionKind, Stage, TargetState, Trouble, TroubleChoice,
};
use serde_json::{Value, json};
use support::engine::Engine;
use support::{Attached, Bench, Bystanders, NODE, Parts, Served, can_run, damage, read_at, write_at};

/// Files as `Parts::RootWithMuch` has them.
const FILES: u64 = 24;
const FILE_BYTES: usize = 4 << 20;

/// Not a test by itself: the engine that the others start, in a process of its own.
#[test]
fn be_the_engine() {
    support::engine::be_the_engine();
}

/// A captured node, the blank disk of the machine that takes its place, and what else is there.
fn lost_node(parts: Parts) -> (Bench, Attached, Bystanders) {
    let bench = Bench::with_snapshot_of(parts);
    bench.blank_image("new.img", 250);
    let disk = Attached::without_partitions(&bench.path("new.img"), 512);
    let bystanders = Bystanders::of(&bench);
    (bench, disk, bystanders)
}

/// An engine that sees both the blank disk and one that nobody means.
fn start(bench: &Bench, disk: &Attached, bystanders: &Bystanders, settings: Value) -> Engine {
    Engine::start(bench, &[&disk.device, &bystanders.disk.device], settings)
}

fn settings(bench: &Bench, server: &Served, more: Value) -> Value {
    let mut all = json!({ "servers": [server.url], "code": bench.arm("1h"), "node": NODE, "snapshot": "latest" });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// In how many seconds it tries again by itself.
#[track_caller]
fn tries_again_in(trouble: &Trouble) -> u64 {
    match trouble.by_itself {
        Some(ByItself { choice: TroubleChoice::Retry, in_ms }) => in_ms / 1000,
        _ => panic!("it does not try again by itself: {trouble:?}"),
    }
}

fn cannot_be_booted(disk: &Attached) -> bool {
    read_at(Path::new(&disk.device), 0, 512) == [0; 512]
}

/// Looks into the half restored root: what is there is right, or not yet there. Returns how many blocks are right.
#[track_caller]
fn nothing_is_wrong_on(bench: &Bench) -> usize {
    let disk = Attached::without_partitions(&bench.path("new.img"), 512);
    let mut right = 0;
    // The table is written, but without a protective MBR no partition is found: this is where the root lies.
    let root = format!("loop,ro,noload,offset={}", 36864 * 512);
    bench.mounted(&disk.device, &root, |at| {
        for number in 0..FILES {
            let Ok(found) = fs::read(at.join(format!("srv/large-{number}"))) else { continue };
            let wanted = linux_io::fs::awkward::noise(number, FILE_BYTES);
            for (index, (found, wanted)) in found.chunks(4096).zip(wanted.chunks(4096)).enumerate() {
                let is_right = found == wanted;
                assert!(is_right || found.iter().all(|&byte| byte == 0), "block {index} of file {number} is wrong");
                right += usize::from(is_right);
            }
        }
    });
    right
}

#[track_caller]
fn came_back(bench: &Bench, disk: Attached, bystanders: &Bystanders) {
    assert_eq!(read_at(Path::new(&disk.device), 0, 440), read_at(&bench.path("node.img"), 0, 440), "it can be booted");
    drop(disk);
    let report = bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(0);
    assert!(report.contains("compared: 0 differences, 0 excepted"), "{report}");
    bystanders.are_untouched(bench);
}

#[test]
fn fault_24_a_byte_flipped_after_the_check_is_never_written_and_the_restore_goes_on_once_it_is_mended() {
    if !can_run() {
        return;
    }
    let (bench, disk, bystanders) = lost_node(Parts::RootWithMuch);
    let server = Served::start(&bench);
    damage::keep(&bench);
    let mut engine = start(&bench, &disk, &bystanders, settings(&bench, &server, json!({})));
    let question = engine.asks("Consent");
    // Everything was proven; only now is the byte flipped.
    damage::flip(&damage::files(&bench, "repo/packs")[0]);
    engine.answer(&question, support::engine::confirm(&question, str::to_owned));

    let trouble = engine.trouble();
    assert!(trouble.disks == TargetState::Unbootable && trouble.which.contains("is damaged"), "{trouble:?}");
    assert!(engine.log().contains("arrived damaged; asking for it again"), "it is asked for more than once");
    assert!(cannot_be_booted(&disk), "no firmware starts from this disk");
    let right = nothing_is_wrong_on(&bench);
    assert!(right > 1000, "only {right} blocks were written before the damaged one: nothing was tested");

    damage::mend(&bench);
    engine.send(Command::Retry);
    let report = engine.result();
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(report.reused_bytes.get() > 4 << 20, "what was written is kept: {report:?}");
    assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
    came_back(&bench, disk, &bystanders);
}

#[test]
fn fault_23_a_server_lost_in_mid_restore_is_waited_for() {
    if !can_run() {
        return;
    }
    let (bench, disk, bystanders) = lost_node(Parts::RootWithMuch);
    let server = Served::start(&bench);
    let alone = json!({ "unattended": true, "erase": "blank" });
    let mut engine = start(&bench, &disk, &bystanders, settings(&bench, &server, alone));
    engine.wait_among_the_data(8 << 20);
    let address = server.kill();
    engine.wait("a word that it waits", |event| match event {
        Event::Log { level: LogLevel::Warning, text } if text.contains("trying again") => Some(()),
        Event::Result(report) => panic!("it was done before the server was lost: {report:?}"),
        Event::Trouble(trouble) => panic!("it gave up: {trouble:?}"),
        _ => None,
    });
    std::thread::sleep(Duration::from_secs(3));
    assert!(cannot_be_booted(&disk), "no firmware starts from this disk");

    let _server = Served::start_at(&bench, address);
    let report = engine.result();
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(engine.log().contains("the data flows again"), "{}", engine.log());
    assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
    came_back(&bench, disk, &bystanders);
}

#[test]
fn fault_24_where_nobody_sits_a_damaged_pack_is_tried_again_until_it_is_mended() {
    if !can_run() {
        return;
    }
    let (bench, disk, bystanders) = lost_node(Parts::RootWithMuch);
    let server = Served::start(&bench);
    damage::keep(&bench);
    let alone = settings(&bench, &server, json!({ "unattended": true, "erase": "blank" }));
    // The arm hashed every pack; what the engine proves of packs itself is their presence and length.
    damage::flip(&damage::files(&bench, "repo/packs")[0]);
    let mut engine = start(&bench, &disk, &bystanders, alone);
    let trouble = engine.trouble();
    assert!(trouble.disks == TargetState::Unbootable && tries_again_in(&trouble) < 60, "{trouble:?}");
    assert!(cannot_be_booted(&disk), "no firmware starts from this disk");
    damage::mend(&bench);
    assert_eq!(engine.result().outcome, Outcome::Restored, "by itself, and under the consent that was given");
    assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
    came_back(&bench, disk, &bystanders);
}

#[test]
fn fault_03_an_engine_killed_early_midway_and_late_goes_on_without_a_word_from_anybody() {
    if !can_run() {
        return;
    }
    for alone in [json!({}), json!({ "unattended": true, "erase": "blank" })] {
        let is_alone = alone.get("unattended").is_some();
        let (bench, disk, bystanders) = lost_node(Parts::RootWithMuch);
        let server = Served::start(&bench);
        let told = if is_alone { settings(&bench, &server, alone) } else { json!({}) };
        let mut engine = start(&bench, &disk, &bystanders, told.clone());
        if !is_alone {
            introduce(&mut engine, &server.url, &bench.arm("1h"));
        }
        // Each engine reads what it keeps and writes the rest, of 96 MiB in all.
        for mebibytes in [2, 40, 80] {
            engine.kill_among_the_data(mebibytes << 20);
            assert!(cannot_be_booted(&disk), "no firmware starts from this disk");
            // As PID 1 does: the same settings, whatever was typed.
            engine = start(&bench, &disk, &bystanders, told.clone());
        }
        let report = engine.result();
        assert_eq!(report.outcome, Outcome::Restored);
        assert!(report.reused_bytes.get() > 40 << 20, "what was right is kept: {report:?}");
        assert!(report.fetched_bytes.get() < 60 << 20, "only the rest is fetched again: {report:?}");
        assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
        let left = fs::read_dir(bench.path("engine")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("access")).collect();
        assert!(left.is_empty(), "what let it in is forgotten when it is done: {left:?}");
        came_back(&bench, disk, &bystanders);
    }
}

#[test]
fn a_machine_whose_disk_can_be_booted_again_is_not_rolled_back_without_consent() {
    if !can_run() {
        return;
    }
    let (bench, disk, bystanders) = lost_node(Parts::RootWithMuch);
    let server = Served::start(&bench);
    let told = settings(&bench, &server, json!({ "unattended": true, "erase": "blank" }));
    let but = |more: Value| {
        let mut all = told.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    start(&bench, &disk, &bystanders, told.clone()).kill_among_the_data(20 << 20);
    // As a power cut does: what the machine had in memory is gone.
    fs::remove_file(bench.path("engine/access.json")).unwrap();

    let other_plan = but(json!({ "erase": format!("plan:{}", "0".repeat(64)) }));
    let trouble = start(&bench, &disk, &bystanders, other_plan).trouble();
    assert_eq!(trouble.what, "Nothing may be erased", "what may be erased is asked each time");
    assert!(
        trouble.disks == TargetState::Unbootable && tries_again_in(&trouble) < 60,
        "what was begun is not given up: {trouble:?}"
    );

    // What the last write leaves: the server was never told that the restore is done, and the node runs.
    write_at(Path::new(&disk.device), 0, &[0xfa; 440]);
    let running = disk.sha256();
    for erase in ["blank", "identity"] {
        let trouble = start(&bench, &disk, &bystanders, but(json!({ "erase": erase }))).trouble();
        assert!(trouble.now_what.contains("arm it again"), "{trouble:?}");
        assert_eq!(trouble.disks, TargetState::Bootable, "{trouble:?}");
        assert_eq!(tries_again_in(&trouble), 60, "as any refusal: {trouble:?}");
    }
    start(&bench, &disk, &bystanders, but(json!({ "unattended": false }))).asks("Consent");
    assert_eq!(disk.sha256(), running, "nothing is written without consent");

    write_at(Path::new(&disk.device), 0, &[0; 440]);
    let mut engine = start(&bench, &disk, &bystanders, told.clone());
    let report = engine.result();
    assert_eq!(report.outcome, Outcome::Restored, "a disk that shows the first write is brought to its end");
    assert!(report.reused_bytes.get() > 1 << 20, "what was right is kept: {report:?}");
    assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
    came_back(&bench, disk, &bystanders);
}

/// Answers everything until the restore begins, as somebody at the console does.
fn introduce(engine: &mut Engine, url: &str, code: &str) {
    let server = engine.asks("Server address");
    engine.type_text(&server, url);
    let question = engine.asks("Restore code");
    engine.type_text(&question, code);
    for title in ["Node", "Snapshot"] {
        let question = engine.asks(title);
        let (QuestionKind::Node { choices, .. } | QuestionKind::Snapshot { choices, .. }) = &question.ask else {
            panic!("nothing to choose: {question:?}");
        };
        engine.answer(&question, Answer::Choice(choices[0].key.clone()));
    }
    engine.consent();
}

#[test]
fn a_node_is_back_although_the_server_cannot_book_it_and_the_result_says_what_to_do_there() {
    if !can_run() {
        return;
    }
    let (bench, disk, bystanders) = lost_node(Parts::Root);
    let server = Served::start(&bench);
    let alone = json!({ "unattended": true, "erase": "blank" });
    let mut engine = start(&bench, &disk, &bystanders, settings(&bench, &server, alone));
    engine.wait("the data", |event| match event {
        Event::StageStarted { stage: Stage::Data } => Some(()),
        Event::Trouble(trouble) => panic!("it gave up: {trouble:?}"),
        _ => None,
    });
    let records = rusqlite::Connection::open(bench.path("repo/server/state.sqlite")).unwrap();
    records.execute_batch("CREATE TRIGGER r BEFORE UPDATE ON arms BEGIN SELECT raise(ABORT, 'no'); END").unwrap();

    assert_eq!(engine.result().untold, None, "at first it is only restored");
    let report = engine.result();
    assert_eq!(report.outcome, Outcome::Restored);
    let untold = report.untold.expect("then the server's refusal is part of the result");
    assert_eq!(untold.server, server.url);
    assert!(untold.now_what.ends_with("take it back: rerack disarm ARM"), "{untold:?}");
    engine.send(Command::PowerOff);
    assert_eq!(engine.exit_code(), Some(11), "whoever has read it need not wait");
    came_back(&bench, disk, &bystanders);

    records.execute_batch("DROP TRIGGER r").unwrap();
    let arms = bench.rerack(&["arms"]).with_code(0);
    assert!(arms.contains("erased"), "{arms}");
    bench.rerack(&["disarm", arms.split(' ').next().unwrap()]).with_code(0);
}

#[test]
fn a_server_lost_at_the_very_end_still_hears_that_it_is_done() {
    if !can_run() {
        return;
    }
    let (bench, disk, bystanders) = lost_node(Parts::Root);
    let server = Served::start(&bench);
    let alone = json!({ "unattended": true, "erase": "blank" });
    let mut engine = start(&bench, &disk, &bystanders, settings(&bench, &server, alone));
    // The last write needs the boot code from the server, which is waited for.
    engine.wait("the last write", |event| match event {
        Event::Log { text, .. } if text == "making disk0 bootable" => Some(()),
        Event::Trouble(trouble) => panic!("it gave up: {trouble:?}"),
        _ => None,
    });
    let address = server.kill();
    std::thread::sleep(Duration::from_secs(1));
    let server = Served::start_at(&bench, address);
    // Lost once more, when all that is left is to say that it is done.
    assert_eq!(engine.result().outcome, Outcome::Restored);
    server.kill();
    std::thread::sleep(Duration::from_secs(1));
    let _server = Served::start_at(&bench, address);
    assert_eq!(engine.exit_code(), Some(11), "powered off, as asked for");
    let arms = bench.rerack(&["arms"]).with_code(0);
    assert!(arms.contains("done"), "the code is burnt: {arms}");
    bystanders.are_untouched(&bench);
}
