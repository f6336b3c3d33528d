//! The JSON of every event and command, pinned: recordings and servers outlive a release.

use node_model::{Bytes, MacAddress};
use restore_events::*;

fn question(id: u64, ask: QuestionKind) -> Event {
    Event::Question(Question { id: QuestionId(id), ask, problem: None })
}

fn choice(key: &str) -> Choice {
    Choice { key: key.into(), label: format!("the {key}"), detail: None }
}

fn plan() -> PlanView {
    PlanView {
        digest: "d1".into(),
        node: "web-03".into(),
        snapshot: "5f3c, received 2026-01-02 03:04 UTC".into(),
        disks: vec![DiskView {
            old: "S1, 4.00 GiB".into(),
            new: "S2, 8.00 GiB".into(),
            new_serial: "S2".into(),
            kernel_name: "sda".into(),
            size_bytes: Bytes::gib(8),
            matched_by: "the only free disk that is large enough".into(),
            erased: vec!["ext4 on sda1".into()],
            holds: vec!["ext4 for /".into()],
        }],
        changes: vec![ChangeView { what: "/etc/fstab line 2".into(), reason: "the disk has another name".into() }],
        findings: vec![FindingView { severity: Severity::Warning, what: "w".into(), hint: Some("h".into()) }],
        untouched: vec![UntouchedView { disk: "sr0".into(), reason: "it is removable".into() }],
        data_bytes: Bytes::gib(1),
        file_count: 7,
    }
}

/// A restore from beginning to end, with one trouble on the way.
fn events() -> Vec<Event> {
    let stage = Stage::Data;
    let consent = PlanConsent {
        digest: "d1".into(),
        disks: vec![ConsentDisk { label: "S2, 8.00 GiB".into(), serial: "S2".into(), chars: 2 }],
    };
    vec![
        Event::SessionStarted(SessionStart {
            version: "0.1.0".into(),
            restarts: 0,
            machine: "QEMU Standard PC".into(),
            unattended: false,
            shell_allowed: true,
        }),
        Event::Network(NetworkState {
            interfaces: vec![InterfaceState {
                name: "eth0".into(),
                mac: MacAddress([0x52, 0x54, 0, 0, 0, 1]),
                driver: Some("virtio_net".into()),
                link_up: true,
                speed_mbps: None,
                addresses: vec!["10.0.2.15/24".into()],
            }],
            gateway: Some("10.0.2.2".into()),
            dns: vec!["10.0.2.3".into()],
            note: None,
        }),
        question(1, QuestionKind::ServerAddress { default: Some("https://10.0.2.2".into()) }),
        Event::QuestionClosed { id: QuestionId(1) },
        Event::Server(ServerState { url: "https://10.0.2.2".into(), authenticated: true, ..Default::default() }),
        question(2, QuestionKind::RestoreCode),
        question(3, QuestionKind::Node { choices: vec![choice("web-03")], default: None }),
        question(4, QuestionKind::Snapshot { choices: vec![choice("5f3c")], default: Some("5f3c".into()) }),
        question(5, QuestionKind::Disk { old: "S1".into(), choices: vec![choice("S2")] }),
        Event::Plan(plan()),
        question(6, QuestionKind::PlanConsent(consent)),
        Event::StageStarted { stage },
        Event::Progress(Progress {
            stage,
            step: Some("root".into()),
            done_bytes: Bytes(512),
            total_bytes: Bytes(1024),
            file_count: 3,
            file_total: 7,
            bytes_per_second: Bytes(100),
            eta_ms: Some(5120),
            limit: Limit::Network,
        }),
        Event::Trouble(Trouble {
            what: "the server does not answer".into(),
            which: "https://10.0.2.2".into(),
            now_what: "check the cable".into(),
            choices: vec![TroubleChoice::Retry, TroubleChoice::Shell, TroubleChoice::Reboot, TroubleChoice::PowerOff],
            by_itself: Some(ByItself { choice: TroubleChoice::Retry, in_ms: 5000 }),
            disks: TargetState::Unbootable,
        }),
        Event::TroubleOver,
        Event::Log { level: LogLevel::Info, text: "line".into() },
        Event::StageFinished { stage, ok: true },
        Event::Result(RestoreReport {
            outcome: Outcome::Restored,
            node: "web-03".into(),
            snapshot: "5f3c".into(),
            timeline: vec![StageTime { stage, started_ms: 1000, finished_ms: 9000 }],
            written_bytes: Bytes::gib(1),
            fetched_bytes: Bytes::mib(300),
            reused_bytes: Bytes(0),
            file_count: 7,
            bytes_per_second: Bytes::mib(128),
            limit: Limit::Disk,
            warnings: vec!["w".into()],
            after: After::Reboot,
            untold: Some(Untold {
                server: "https://10.0.2.2".into(),
                why: "no answer".into(),
                now_what: "disarm".into(),
            }),
        }),
    ]
}

fn commands() -> Vec<Command> {
    let answer = |id, answer| Command::Answer { question: QuestionId(id), answer };
    let disks = vec![DiskConfirmation { serial: "S2".into(), typed: "S2".into() }];
    vec![
        Command::Hello { screen: "ttyS0".into() },
        answer(1, Answer::Text("https://10.0.2.2".into())),
        answer(2, Answer::Code(Secret("ABCD-EFGH".into()))),
        answer(3, Answer::Choice("web-03".into())),
        answer(6, Answer::Consent { digest: "d1".into(), disks }),
        answer(6, Answer::Decline),
        Command::Retry,
        Command::Shell,
        Command::Reboot,
        Command::PowerOff,
    ]
}

#[test]
fn the_json_of_events_is_settled() {
    let records = (0..).zip(events()).map(|(seq, event)| Record::new(seq, 100 * seq, event));
    let records: Vec<Record> = records.collect();
    let text: String = records.iter().map(|record| encode(record).unwrap()).collect();
    insta::assert_snapshot!(text);
    let mut reader = LineReader::new(text.as_bytes());
    for record in records {
        assert_eq!(reader.next_line().unwrap(), Some(record));
    }
}

#[test]
fn the_json_of_commands_is_settled() {
    let lines: Vec<CommandLine> = commands().into_iter().map(CommandLine::new).collect();
    let text: String = lines.iter().map(|line| encode(line).unwrap()).collect();
    insta::assert_snapshot!(text);
    let mut reader = LineReader::new(text.as_bytes());
    for line in lines {
        assert_eq!(reader.next_line().unwrap(), Some(line));
    }
}

#[test]
fn a_line_that_was_tampered_with_is_an_error_and_no_panic() {
    let text: String = commands().into_iter().map(|command| encode(&CommandLine::new(command)).unwrap()).collect();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 0x21;
        let mut reader = LineReader::new(&bytes[..]);
        // Whatever comes out, all of it is read and nothing is made up: there are no more lines than before.
        let mut lines = 0;
        loop {
            match reader.next_line::<CommandLine>() {
                Ok(None) | Err(CodecError::Truncated) => break,
                Ok(Some(_)) | Err(_) => lines += 1,
            }
        }
        assert!(lines <= commands().len() + 1, "{at}");
    }
}
