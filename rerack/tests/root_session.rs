//! What the engine of the boot image says when something is wrong, and that it writes nothing then. Needs root.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bundle::code::RestoreCode;
use bundle::sign::RootKey;
use bundle::trust::Pin;
use node_model::MachineIdentity;
use restore_events::{
    Answer, ByItself, Command, Event, LogLevel, Question, QuestionKind, TargetState, Trouble, TroubleChoice,
};
use serde_json::{Value, json};
use server_api::{Connection, Patience};
use support::engine::{Engine, confirm};
use support::{Attached, Bench, Bystanders, NODE, Parts, Served, can_run, damage, free_address, scrub, tool};

/// Not a test by itself: the engine that the others start, in a process of its own.
#[test]
fn be_the_engine() {
    support::engine::be_the_engine();
}

/// A machine with one disk that bears something, a server, and what the engine said so far.
struct Lab {
    bench: Bench,
    server: Served,
    disk: Attached,
    untouched: String,
    bystanders: Bystanders,
    said: String,
}

impl Lab {
    fn new() -> Self {
        let bench = Bench::with_snapshot_of(Parts::Root);
        bench.blank_image("new.img", 200);
        tool("mkswap", &["-q", "-U", "8bcb5daf-17ca-47b2-91ac-39b50fb58eef", &bench.text_path("new.img")]);
        let server = Served::start(&bench);
        let disk = Attached::without_partitions(&bench.path("new.img"), 512);
        let untouched = disk.sha256();
        let bystanders = Bystanders::of(&bench);
        Self { bench, server, disk, untouched, bystanders, said: String::new() }
    }

    /// An engine with these settings besides the server's address.
    fn engine(&self, settings: Value) -> Engine {
        let mut all = json!({ "servers": [self.server.url] });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        Engine::start(&self.bench, &[&self.disk.device, &self.bystanders.disk.device], all)
    }

    /// An engine that asks nothing before consent.
    fn knowing_engine(&self) -> Engine {
        self.engine(json!({ "code": self.bench.arm("1h"), "node": NODE, "snapshot": "latest" }))
    }

    /// Notes the words, and that the disk is what it was.
    #[track_caller]
    fn note(&mut self, case: &str, words: &str) {
        assert_eq!(self.disk.sha256(), self.untouched, "{case}: the disk was written to");
        let words = scrub(&self.bench, words).replace(&self.server.address.port().to_string(), "PORT");
        self.said.push_str(&format!("{case}\n{words}\n\n"));
    }

    /// Everything that was said; by now no other disk is touched either.
    #[track_caller]
    fn finish(self) -> String {
        self.bystanders.are_untouched(&self.bench);
        self.said
    }

    #[track_caller]
    fn note_trouble(&mut self, case: &str, trouble: &Trouble) {
        assert_eq!(trouble.disks, TargetState::Untouched, "{case}: {trouble:?}");
        let next = trouble
            .by_itself
            .map_or_else(String::new, |next| format!("\n  (by itself in {} s: {:?})", next.in_ms / 1000, next.choice));
        self.note(case, &format!("  {}\n  {}\n  {}{next}", trouble.what, trouble.which, trouble.now_what));
    }

    /// Somebody who looks after many machines learns there why one of them is refused.
    #[track_caller]
    fn server_hears_of(&self, engine: &mut Engine, trouble: &Trouble) {
        let which = json!(trouble.which).to_string();
        let events = "repo/server/events";
        let says = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|told| told.contains(&which));
        let hears = || self.bench.path(events).exists() && damage::files(&self.bench, events).iter().any(says);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !hears() {
            assert!(Instant::now() < deadline, "the server does not hear of it:\n{}", engine.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn note_problem(&mut self, case: &str, question: &Question) {
        let problem = question.problem.clone().unwrap_or_else(|| panic!("{case}: no word of what was wrong"));
        self.note(case, &format!("  {} again: {problem}", question.ask.title()));
    }
}

#[test]
fn who_is_not_let_in_is_told_why_and_asked_again() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new();
    let url = lab.server.url.clone();
    let good = lab.bench.arm("1h");
    let mut engine = Engine::start(&lab.bench, &[&lab.disk.device], json!({}));
    let server = engine.asks("Server address");
    engine.type_text(&server, "ftp://bundles");
    let server = engine.asks("Server address");
    lab.note_problem("no address of a server", &server);

    let typed_here = good.to_lowercase();
    engine.type_text(&server, &typed_here);
    let server = engine.asks("Server address");
    lab.note_problem("the restore code typed as the address", &server);
    assert_eq!(server.ask, QuestionKind::ServerAddress { default: None }, "it is not offered again");
    assert!(!engine.log().to_lowercase().contains(&typed_here[..9]), "the code is in no log");

    let nobody = free_address();
    engine.type_text(&server, &format!("https://{nobody}"));
    let code = engine.asks("Restore code");
    engine.type_text(&code, &good);
    let server = engine.asks("Server address");
    let text = server.problem.clone().unwrap();
    assert!(text.contains(&nobody.to_string()), "{text}");
    lab.note("unreachable server", &format!("  {}", text.replace(&nobody.port().to_string(), "FREE")));
    // What was typed before is kept: only what may be wrong is asked for again.
    engine.type_text(&server, &url);
    engine.asks("Node");
    drop(engine);

    let mut engine = lab.engine(json!({}));
    let code = engine.asks("Restore code");
    engine.type_text(&code, "ABCD-EFGH");
    let code = engine.asks("Restore code");
    lab.note_problem("a code that is too short", &code);
    let text = good.replace('-', "");
    let last = if text.ends_with('7') { '8' } else { '7' };
    engine.type_text(&code, &format!("{}{last}", &text[..19]));
    let code = engine.asks("Restore code");
    lab.note_problem("wrong code", &code);
    let stranger = RestoreCode::new(&RootKey::from_seed(&[9; 32]).id(), [1, 2, 3, 4, 5]);
    engine.type_text(&code, &stranger.reveal());
    let server = engine.asks("Server address");
    lab.note_problem("a code of another repository", &server);
    // Either may be wrong: the address is offered again, and the code is asked for again.
    assert_eq!(server.ask, QuestionKind::ServerAddress { default: Some(url.clone()) });
    engine.type_text(&server, &url);
    engine.asks("Restore code");
    drop(engine);

    let used = lab.bench.arm("1h");
    let other =
        MachineIdentity { system_uuid: Some("00000000-0000-4000-8000-00000000000b".into()), ..Default::default() };
    open_elsewhere(&url, &used, &other);
    let refused = |lab: &mut Lab, case: &str, code: &str| {
        let mut engine = lab.engine(json!({ "code": code }));
        let question = engine.asks("Restore code");
        lab.note_problem(case, &question);
    };
    refused(&mut lab, "a code that another machine used", &used);
    refused(&mut lab, "a code that a later one replaced", &good);
    let short = lab.bench.arm("1s");
    std::thread::sleep(Duration::from_millis(2100));
    refused(&mut lab, "an expired code", &short);

    let pin = RootKey::from_seed(&[9; 32]).id().to_string();
    let mut engine = lab.engine(json!({ "code": lab.bench.arm("1h"), "fingerprint": pin }));
    let server = engine.asks("Server address");
    lab.note_problem("wrong root pin", &server);
    insta::assert_snapshot!("not_let_in", lab.finish());
}

fn hide_number_before(text: &str, mark: &str) -> String {
    let mut parts = text.split(mark).peekable();
    let mut hidden = String::new();
    while let Some(part) = parts.next() {
        match parts.peek() {
            Some(_) => hidden += &format!("{} N{mark}", part.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end()),
            None => hidden += part,
        }
    }
    hidden
}

/// Another machine uses the code.
fn open_elsewhere(url: &str, code: &str, machine: &MachineIdentity) {
    let code: RestoreCode = code.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let servers = [url.parse().unwrap()];
        let connection = Connection::open(&servers, &Pin::from_code(&code), Patience::default()).await.unwrap();
        connection.open_restore(&code, machine).await.unwrap();
    });
}

#[test]
fn fault_40_what_is_wrong_with_a_snapshot_is_said_before_anything_is_written() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new();
    damage::keep(&lab.bench);
    let code = lab.bench.arm("1h");
    let begin = |lab: &Lab| lab.engine(json!({ "code": code, "node": NODE, "snapshot": "latest" }));
    for (case, harm) in damage::CASES {
        harm(&lab.bench);
        let mut engine = begin(&lab);
        let trouble = engine.trouble();
        lab.note_trouble(case, &trouble);
        damage::mend(&lab.bench);
        // The same engine finds everything in order as soon as it is.
        engine.send(Command::Retry);
        engine.asks("Consent");
    }
    for (case, settings) in [
        ("another node's code", json!({ "code": code, "node": "db-01" })),
        ("an unknown snapshot", json!({ "code": code, "node": NODE, "snapshot": "0123" })),
        ("a time before the first snapshot", json!({ "code": code, "node": NODE, "snapshot": "2001-01-01T00:00:00Z" })),
    ] {
        let trouble = lab.engine(settings).trouble();
        lab.note_trouble(case, &trouble);
    }
    // How well a pack is compressed depends on times.
    let said = [" bytes long", " are needed"].iter().fold(lab.finish(), |said, mark| hide_number_before(&said, mark));
    insta::assert_snapshot!("snapshot", said);
}

#[test]
fn fault_38_an_older_snapshot_in_the_place_of_a_newer_one_is_refused() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new();
    let node = Attached::new(&lab.bench.path("node.img"), 512);
    let again = ["capture", "--node-file", "node.json", "--server", &lab.server.url, "--disk", &node.device];
    lab.bench.rerack(&again).with_code(0);
    drop(node);
    let listed = lab.bench.rerack(&["list", NODE, "--json"]).with_code(0);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let ids: Vec<&str> =
        listed[0]["snapshots"].as_array().unwrap().iter().map(|one| one["snapshot"].as_str().unwrap()).collect();
    let [older, newer] = ids[..] else { panic!("two snapshots: {listed}") };
    // All three are signed as they must be, only not for this snapshot.
    for name in ["manifest.json", "manifest.sig", "receipt.json"] {
        let at = |id: &str| lab.bench.path(&format!("repo/snapshots/{NODE}/{id}/{name}"));
        fs::copy(at(older), at(newer)).unwrap();
    }
    let code = lab.bench.arm("1h");
    let trouble = lab.engine(json!({ "code": code, "node": NODE, "snapshot": newer })).trouble();
    lab.note_trouble("the newer one by its name", &trouble);
    // Where nobody named it the older one is offered, under its own name and not without a word.
    let mut engine = lab.engine(json!({ "code": code, "node": NODE, "snapshot": "latest" }));
    engine.wait("a word of the newer one", |event| match event {
        Event::Log { level: LogLevel::Warning, text } => text.contains(newer).then_some(()),
        Event::Plan(plan) => panic!("a plan without a word: {plan:?}"),
        _ => None,
    });
    let shown = engine.wait("a plan", |event| match event {
        Event::Plan(plan) => Some(plan.snapshot),
        _ => None,
    });
    assert!(shown.ends_with(older), "it is shown as what it is: {shown}");
    engine.asks("Consent");
    assert_eq!(lab.disk.sha256(), lab.untouched);
    insta::assert_snapshot!("older", lab.finish());
}

#[test]
fn fault_49_a_machine_without_a_fitting_disk_is_refused_with_the_reason() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new();
    let settings =
        json!({ "servers": [lab.server.url], "code": lab.bench.arm("1h"), "node": NODE, "snapshot": "latest" });
    lab.bench.blank_image("small.img", 150);
    let small = Attached::without_partitions(&lab.bench.path("small.img"), 512);
    let blank = small.sha256();
    let trouble = Engine::start(&lab.bench, &[&small.device], settings.clone()).trouble();
    lab.note_trouble("a disk that is too small", &trouble);
    assert_eq!(small.sha256(), blank);

    let node = Attached::new(&lab.bench.path("node.img"), 512);
    let mounted = lab.bench.path("held");
    fs::create_dir(&mounted).unwrap();
    let held = support::MountedHere::new(&node.partition(3), "ro", &mounted);
    let trouble = Engine::start(&lab.bench, &[&node.device], settings.clone()).trouble();
    lab.note_trouble("no disk but one that is in use", &trouble);
    drop(held);

    let trouble = Engine::start(&lab.bench, &["/dev/rerack-no-such-disk"], settings).trouble();
    lab.note_trouble("a disk that is not there", &trouble);
    insta::assert_snapshot!("disk", lab.finish());
}

#[test]
fn fault_42_nothing_but_the_serial_number_of_the_disk_consents() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new();
    let mut engine = lab.knowing_engine();
    let mut question = engine.asks("Consent");
    let enter = confirm(&question, |_| String::new());
    let held_enter = confirm(&question, |_| "\n\n\n\n".to_owned());
    let too_short = confirm(&question, |least| least[1..].to_owned());
    let wrong = confirm(&question, |least| least.chars().map(|_| 'x').collect());
    let nobodys =
        Answer::Consent { digest: support::engine::plan_consent(&question).digest.clone(), disks: Vec::new() };
    let Answer::Consent { disks, .. } = confirm(&question, str::to_owned) else { unreachable!() };
    let another_plan = Answer::Consent { digest: "0".repeat(64), disks };
    for (case, answer) in [
        ("Enter alone", enter),
        ("Enter held down", held_enter),
        ("one character too few", too_short),
        ("another serial number", wrong),
        ("no disk named", nobodys),
        ("consent to another plan", another_plan),
        ("a line of text", Answer::Text("yes".into())),
    ] {
        engine.answer(&question, answer);
        question = engine.asks("Consent");
        lab.note_problem(case, &question);
    }
    insta::assert_snapshot!("consent", lab.said);

    // A screen that goes away leaves the question open, for as long as nobody answers.
    engine.reattach();
    std::thread::sleep(Duration::from_secs(3));
    let again = engine.asks("Consent");
    assert_eq!(again.id, question.id, "it is still the same question");
    // What answers an older question is no answer to this one.
    let late = confirm(&question, str::to_owned);
    let older = Question { id: restore_events::QuestionId(question.id.0 - 1), ..question.clone() };
    engine.answer(&older, late);
    engine.answer(&question, Answer::Decline);
    assert_eq!(engine.exit_code(), Some(13), "it begins anew");
    assert_eq!(lab.disk.sha256(), lab.untouched);
    lab.bystanders.are_untouched(&lab.bench);
}

#[test]
fn a_machine_without_a_person_erases_only_what_it_was_told_to() {
    if !can_run() {
        return;
    }
    let mut lab = Lab::new();
    let code = lab.bench.arm("1h");
    for (case, erase) in [
        ("no word of what may be erased", Value::Null),
        ("only blank disks", json!("blank")),
        ("only the recorded machine's own disks", json!("identity")),
        ("only under another plan", json!(format!("plan:{}", "0".repeat(64)))),
    ] {
        let mut engine = lab.engine(json!({ "code": code, "unattended": true, "erase": erase }));
        let trouble = engine.trouble();
        lab.note_trouble(case, &trouble);
        lab.server_hears_of(&mut engine, &trouble);
    }
    let short = lab.bench.arm("1s");
    std::thread::sleep(Duration::from_millis(2100));
    for (case, settings) in [
        ("no restore code", json!({ "unattended": true, "erase": "blank" })),
        ("an expired restore code", json!({ "code": short, "unattended": true, "erase": "blank" })),
    ] {
        let trouble = lab.engine(settings).trouble();
        lab.note_trouble(case, &trouble);
    }
    let unreachable = json!({ "servers": [format!("https://{}", free_address())], "code": code, "unattended": true });
    let trouble = lab.engine(unreachable).trouble();
    let soon = |next: ByItself| next.choice == TroubleChoice::Retry && next.in_ms < 10_000;
    assert!(trouble.by_itself.is_some_and(soon), "a server that is away may come back: {trouble:?}");
    insta::assert_snapshot!("unattended", lab.finish());
}
