//! A recording of an interactive restore replays as a test: each screen as people see it, and the keys they press.

use std::io::BufReader;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use restore_events::{
    Answer, ByItself, Command, Event, LineReader, QuestionId, Record, TargetState, Trouble, TroubleChoice, Untold,
};
use restore_tui::{Action, Input, Key, Look, Model, Overlay, View, draw};

/// A person at a console, watching a recording.
struct Operator {
    records: std::vec::IntoIter<Record>,
    model: Model,
    look: Look,
    size: (u16, u16),
    sent: Vec<Command>,
}

impl Operator {
    fn at(width: u16, height: u16, look: Look) -> Self {
        let recording = include_bytes!("recordings/interactive.jsonl");
        let mut reader = LineReader::new(BufReader::new(&recording[..]));
        let records: Vec<Record> = std::iter::from_fn(|| reader.next_line().expect("a valid recording")).collect();
        let mut model = Model::new(width, height, false);
        model.handle(Input::Connected);
        Self { records: records.into_iter(), model, look, size: (width, height), sent: Vec::new() }
    }

    fn on_a_serial_line() -> Self {
        Self::at(80, 24, Look::PLAIN)
    }

    /// Goes on until the screen bears this title.
    fn wait_for(&mut self, title: &str) -> &mut Self {
        while self.model.title() != title {
            let record =
                self.records.next().unwrap_or_else(|| panic!("no screen `{title}` follows:\n{}", self.screen()));
            self.model.handle(Input::Record(Box::new(record)));
        }
        self
    }

    fn hear(&mut self, count: usize) -> &mut Self {
        for record in self.records.by_ref().take(count) {
            self.model.handle(Input::Record(Box::new(record)));
        }
        self
    }

    fn press(&mut self, key: Key) -> &mut Self {
        for action in self.model.handle(Input::Key(key)) {
            if let Action::Send(command) = action {
                self.sent.push(command);
            }
        }
        self
    }

    fn type_text(&mut self, text: &str) -> &mut Self {
        text.chars().for_each(|c| {
            self.press(Key::Char(c));
        });
        self
    }

    fn screen(&self) -> String {
        let mut terminal = Terminal::new(TestBackend::new(self.size.0, self.size.1)).expect("a test terminal");
        terminal.draw(|frame| draw(&self.model, self.look, frame)).expect("drawing to memory");
        let buffer = terminal.backend().buffer();
        let lines = buffer.content.chunks(usize::from(self.size.0));
        let lines = lines.map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn sent(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.sent)
    }
}

fn answer(question: u64, answer: Answer) -> Command {
    Command::Answer { question: QuestionId(question), answer }
}

/// Every screen, in the order of a restore.
fn all_screens(operator: &mut Operator) -> Vec<(&'static str, String)> {
    let mut screens = Vec::new();
    let mut take = |name, operator: &Operator| screens.push((name, operator.screen()));
    take("starting", operator);
    operator.hear(7);
    take("network", operator);
    operator.wait_for("Server address").type_text("10.0.2.9:8443").press(Key::Enter);
    take("server_address_sent", operator);
    operator.hear(3);
    take("server_address_problem", operator);
    operator.wait_for("Restore code").type_text("abcd-efgh-jk");
    take("restore_code", operator);
    operator.wait_for("Node").press(Key::Down);
    take("node", operator);
    operator.wait_for("Snapshot");
    take("snapshot", operator);
    // The plan comes, then the question that makes it a screen.
    operator.wait_for("Plan");
    take("plan", operator);
    operator.press(Key::End);
    take("plan_end", operator);
    operator.press(Key::Char('c')).type_text("B2C");
    take("consent", operator);
    operator.wait_for("Progress").hear(3);
    take("progress_layout", operator);
    operator.hear(3);
    take("progress_data", operator);
    operator.wait_for("Trouble");
    take("trouble", operator);
    operator.press(Key::Ctrl('g'));
    take("log", operator);
    operator.press(Key::Ctrl('g')).press(Key::Ctrl('x'));
    take("leave", operator);
    operator.press(Key::Esc).wait_for("Result");
    take("result", operator);
    screens
}

#[test]
fn every_screen_on_a_serial_line_of_80_by_24() {
    for (name, screen) in all_screens(&mut Operator::on_a_serial_line()) {
        assert!(screen.is_ascii(), "{name} is not plain:\n{screen}");
        insta::assert_snapshot!(format!("serial_80x24_{name}"), screen);
    }
}

#[test]
fn every_screen_on_a_console_of_132_by_43() {
    for (name, screen) in all_screens(&mut Operator::at(132, 43, Look::LINUX)) {
        insta::assert_snapshot!(format!("console_132x43_{name}"), screen);
    }
}

#[test]
fn other_sizes_are_drawn_without_panic() {
    for (width, height) in [(1, 1), (20, 7), (19, 30), (40, 12), (79, 23), (300, 100)] {
        all_screens(&mut Operator::at(width, height, Look::PLAIN));
    }
}

#[test]
fn the_titles_that_scripts_wait_for_stand_on_the_first_line() {
    let mut operator = Operator::on_a_serial_line();
    for title in
        ["Network", "Server address", "Restore code", "Node", "Snapshot", "Plan", "Progress", "Trouble", "Result"]
    {
        operator.wait_for(title);
        let screen = operator.screen();
        assert!(screen.lines().next().unwrap().starts_with(&format!(" rerack 0.1.0 | {title} ")), "{screen}");
    }
}

#[test]
fn an_operator_answers_every_question() {
    let mut operator = Operator::on_a_serial_line();
    operator.wait_for("Server address").type_text("10.0.2.9:8443").press(Key::Enter);
    // A second Enter, or one held down, is no second answer.
    operator.press(Key::Enter).press(Key::Enter);
    assert_eq!(operator.sent(), [answer(1, Answer::Text("https://10.0.2.9:8443".into()))]);
    operator.hear(3);
    // What was typed is still there and can be mended.
    operator.press(Key::Left).press(Key::Left).press(Key::Left).press(Key::Left).press(Key::Left);
    operator.press(Key::Backspace).type_text("2").press(Key::Enter);
    assert_eq!(operator.sent(), [answer(2, Answer::Text("https://10.0.2.2:8443".into()))]);

    operator.wait_for("Restore code").type_text("abcd-efgh-jkmn-pqrs-tvw").press(Key::Enter);
    assert_eq!(operator.sent(), [], "a character is missing");
    operator.type_text("x").press(Key::Enter);
    let [Command::Answer { answer: Answer::Code(code), .. }] = &operator.sent()[..] else { panic!("no code") };
    assert_eq!(code.0, "ABCD-EFGH-JKMN-PQRS-TVWX");

    operator.wait_for("Node").press(Key::Down).press(Key::Down).press(Key::Enter);
    assert_eq!(operator.sent(), [answer(4, Answer::Choice("db-01".into()))]);
    operator.wait_for("Snapshot").type_text("2").type_text("9").press(Key::Enter);
    assert_eq!(operator.sent(), [answer(5, Answer::Choice("s8".into()))]);

    operator.wait_for("Plan").press(Key::Char('c')).wait_for("Consent").type_text("b2c3").press(Key::Enter);
    let [Command::Answer { question, answer: Answer::Consent { digest, disks } }] = &operator.sent()[..] else {
        panic!("no consent:\n{}", operator.screen())
    };
    assert_eq!((question, digest.as_str()), (&QuestionId(6), "9c1e".repeat(16).as_str()));
    assert_eq!((disks[0].serial.as_str(), disks[0].typed.as_str()), ("NEW-77A1B2C3", "b2c3"));

    operator.wait_for("Trouble").press(Key::Char('r'));
    assert_eq!(operator.sent(), [Command::Retry]);
    operator.press(Key::Char('s'));
    assert_eq!(operator.sent(), [], "no shell that was not allowed");
    operator.wait_for("Result").press(Key::Char('p'));
    assert_eq!(operator.sent(), [Command::PowerOff]);
}

#[test]
fn fault_42_a_held_enter_never_consents() {
    let mut operator = Operator::on_a_serial_line();
    operator.wait_for("Plan");
    for _ in 0..500 {
        operator.press(Key::Enter);
    }
    assert_eq!(operator.model.view(), View::Plan, "Enter does not even leave the plan");
    operator.press(Key::Char('c'));
    for _ in 0..500 {
        operator.press(Key::Enter).press(Key::Tab);
    }
    assert_eq!(operator.sent(), []);
    // Nor do blanks, too little of a serial number, or another disk's.
    for typed in [" ", "2C3", "0002", "S3Z9NX0K500002", "yes"] {
        operator.press(Key::Ctrl('u')).type_text(typed).press(Key::Enter);
        assert_eq!(operator.sent(), [], "{typed}");
    }
    assert!(operator.screen().contains("! QEMU HARDDISK (8.00 GiB, vda) is not confirmed"), "{}", operator.screen());
}

#[test]
fn fault_42_an_engine_that_is_gone_gets_no_answer() {
    let mut operator = Operator::on_a_serial_line();
    operator.wait_for("Plan").press(Key::Char('c')).type_text("b2c3");
    operator.model.handle(Input::Disconnected);
    assert_eq!(operator.model.title(), "Starting");
    operator.press(Key::Enter);
    assert_eq!(operator.sent(), []);
}

#[test]
fn the_result_stays_when_the_engine_ends_before_the_reboot() {
    let mut operator = Operator::on_a_serial_line();
    operator.wait_for("Result");
    operator.model.handle(Input::Disconnected);
    assert_eq!(operator.model.title(), "Result");
    assert!(operator.screen().contains("[ok] web-03 is restored."), "{}", operator.screen());
}

#[test]
fn a_node_that_is_back_although_the_server_does_not_know_is_shown_as_restored() {
    let mut operator = Operator::on_a_serial_line();
    let mut told = operator.records.clone().find_map(|record| match record.event {
        Event::Result(report) => Some(report),
        _ => None,
    });
    let report = told.as_mut().expect("the recording ends with a result");
    report.untold = Some(Untold {
        server: "https://10.0.2.2:8443".into(),
        why: "server https://10.0.2.2:8443 cannot be reached: connection refused".into(),
        now_what: "on the server, find the arm of web-03 with `rerack arms`, and take it back: rerack disarm ARM"
            .into(),
    });
    operator.wait_for("Result");
    let record = Record::new(99, 142_000, Event::Result(report.clone()));
    operator.model.handle(Input::Record(Box::new(record)));
    insta::assert_snapshot!("serial_80x24_result_untold", operator.screen());
}

/// The screen of a trouble, some time after it was told.
fn screen_of_trouble(disks: TargetState, by_itself: Option<ByItself>, later_ms: u64) -> String {
    let mut operator = Operator::on_a_serial_line();
    operator.hear(7);
    let (what, which, now_what) = ("what".into(), "which".into(), "now what".into());
    let trouble = Trouble { what, which, now_what, choices: Vec::new(), by_itself, disks };
    operator.model.handle(Input::Record(Box::new(Record::new(99, 4000, Event::Trouble(trouble)))));
    operator.model.handle(Input::Tick(later_ms));
    operator.screen()
}

#[test]
fn what_the_target_disks_are_good_for_stands_on_the_trouble_screen() {
    let said = |disks| screen_of_trouble(disks, None, 0);
    assert!(said(TargetState::Untouched).contains("Nothing has been written to any disk."));
    assert!(said(TargetState::Unbootable).contains("are not bootable until a restore is"));
    assert!(said(TargetState::Bootable).contains("The target disks can be booted."));
}

#[test]
fn what_comes_by_itself_is_counted_down_to() {
    let said = |choice, later_ms| {
        screen_of_trouble(TargetState::Untouched, Some(ByItself { choice, in_ms: 480_000 }), later_ms)
    };
    assert!(said(TroubleChoice::Retry, 0).contains("Trying again by itself in 480 s."));
    assert!(said(TroubleChoice::Reboot, 0).contains("The machine restarts by itself in 480 s."));
    assert!(said(TroubleChoice::Reboot, 61_000).contains("The machine restarts by itself in 419 s."));
    assert!(said(TroubleChoice::PowerOff, 480_000).contains("The machine powers off by itself in 0 s."));
}

/// How long the running stage has been running is only as new as the newest record that a replay keeps.
fn without_running_time(screen: &str) -> String {
    let lines = screen.lines().map(|line| if line.starts_with("| [>>]") { &line[..20] } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_screen_that_attaches_late_shows_the_same() {
    let mut early = Operator::on_a_serial_line();
    let mut replay = restore_events::Replay::new();
    let recording = include_bytes!("recordings/interactive.jsonl");
    let mut reader = LineReader::new(BufReader::new(&recording[..]));
    while let Some(record) = reader.next_line::<Record>().unwrap() {
        replay.push(record.clone());
        early.model.handle(Input::Record(Box::new(record)));
        let mut late = Operator::on_a_serial_line();
        for kept in replay.records() {
            late.model.handle(Input::Record(Box::new(kept.clone())));
        }
        assert_eq!(without_running_time(&early.screen()), without_running_time(&late.screen()));
    }
}

#[test]
fn keys_for_log_network_and_leaving_work_while_typing() {
    let mut operator = Operator::on_a_serial_line();
    operator.wait_for("Server address").press(Key::Ctrl('x')).type_text("q");
    assert_eq!(operator.model.overlay(), None);
    operator.press(Key::Ctrl('n'));
    assert_eq!(operator.model.overlay(), Some(Overlay::Network));
    operator.press(Key::Ctrl('x')).type_text("b");
    assert_eq!(operator.sent(), [Command::Reboot]);
    assert_eq!(operator.model.title(), "Server address");
}

#[test]
fn hostile_texts_do_not_reach_the_terminal() {
    let mut operator = Operator::on_a_serial_line();
    operator.hear(7);
    let text = "\\u001b[2J\\u001b]0;owned\\u0007 \\u009b31m ok\\r\\nand\\u202e more";
    let line =
        format!("{{\"v\":1,\"seq\":99,\"at_ms\":4000,\"event\":\"log\",\"level\":\"error\",\"text\":\"{text}\"}}\n");
    let record = LineReader::new(line.as_bytes()).next_line::<Record>().unwrap().unwrap();
    operator.model.handle(Input::Record(Box::new(record)));
    let screen = operator.screen();
    assert!(screen.is_ascii() && !screen.replace('\n', "").contains(|c: char| c.is_control()), "{screen:?}");
}
