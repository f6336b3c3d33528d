//! The engine of the boot image, run as a process of its own on loop devices, and talked to as a screen does.

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use restore_engine::session::{Session, Settings};
use restore_events::{
    Answer, Command, CommandLine, DiskConfirmation, Event, LineReader, PlanConsent, Question, QuestionKind, Record,
    RestoreReport, Secret, Stage, Trouble, encode,
};
use serde_json::{Value, json};

use super::Bench;

/// Names the directory in which a child of a test is to be the engine.
const CHILD: &str = "RERACK_TEST_ENGINE";
/// The test in each binary that only is the engine.
pub const CHILD_TEST: &str = "be_the_engine";
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Is the engine, if this process is a child that was started for it.
pub fn be_the_engine() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let settings = Settings::read(&directory.join("settings.json")).unwrap();
    let session = Session::begin(settings, &directory.join("engine.sock")).unwrap();
    std::process::exit(session.run().code().into());
}

/// A running engine with one screen attached.
pub struct Engine {
    child: Child,
    directory: PathBuf,
    screen: Screen,
}

struct Screen {
    writing: UnixStream,
    reading: LineReader<BufReader<UnixStream>>,
}

impl Screen {
    fn attach(socket: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let writing = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "no engine listens: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        writing.set_read_timeout(Some(PATIENCE)).unwrap();
        let reading = LineReader::new(BufReader::new(writing.try_clone().unwrap()));
        let mut screen = Self { writing, reading };
        screen.send(Command::Hello { screen: "test".to_owned() });
        screen
    }

    fn send(&mut self, command: Command) {
        self.writing.write_all(encode(&CommandLine::new(command)).unwrap().as_bytes()).unwrap();
    }
}

impl Engine {
    /// Starts an engine that sees only these disks, with further settings.
    pub fn start(bench: &Bench, disks: &[&str], settings: Value) -> Self {
        let mut all = json!({ "format": 1, "disks": disks, "after": "poweroff" });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let directory = bench.path("engine");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("settings.json"), all.to_string()).unwrap();
        let _ = fs::remove_file(directory.join("engine.sock"));
        let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD_TEST, "--nocapture"])
            .env(CHILD, &directory)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap();
        let screen = Screen::attach(&directory.join("engine.sock"));
        Self { child, directory, screen }
    }

    /// What the engine wrote into its log until now.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap()
    }

    /// Hangs up and attaches anew.
    pub fn reattach(&mut self) {
        self.screen = Screen::attach(&self.directory.join("engine.sock"));
    }

    /// The first event from now on that `pick` wants.
    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            match self.screen.reading.next_line::<Record>() {
                Ok(Some(record)) => {
                    if let Some(found) = pick(record.event) {
                        return found;
                    }
                }
                end => panic!("{what} did not come: {end:?}\n{}", self.log()),
            }
        }
    }

    /// The next question; a trouble instead is none.
    #[track_caller]
    pub fn question(&mut self) -> Question {
        self.wait("a question", |event| match event {
            Event::Question(question) => Some(question),
            Event::Trouble(trouble) => panic!("a trouble instead of a question: {trouble:?}"),
            _ => None,
        })
    }

    /// The next question, if it is this one.
    #[track_caller]
    pub fn asks(&mut self, title: &str) -> Question {
        let question = self.question();
        assert_eq!(question.ask.title(), title, "{question:?}");
        question
    }

    /// The next trouble; a question or a result instead is none.
    #[track_caller]
    pub fn trouble(&mut self) -> Trouble {
        self.wait("a trouble", |event| match event {
            Event::Trouble(trouble) => Some(trouble),
            Event::Question(question) => panic!("a question instead of a trouble: {question:?}"),
            Event::Result(report) => panic!("a result instead of a trouble: {report:?}"),
            _ => None,
        })
    }

    /// The result; a trouble or a question before it is none.
    #[track_caller]
    pub fn result(&mut self) -> RestoreReport {
        self.wait("a result", |event| match event {
            Event::Result(report) => Some(report),
            Event::Trouble(trouble) => panic!("a trouble instead of a result: {trouble:?}"),
            Event::Question(question) => panic!("a question instead of a result: {question:?}"),
            _ => None,
        })
    }

    pub fn answer(&mut self, question: &Question, answer: Answer) {
        self.screen.send(Command::Answer { question: question.id, answer });
    }

    pub fn type_text(&mut self, question: &Question, text: &str) {
        let answer = match question.ask {
            QuestionKind::RestoreCode => Answer::Code(Secret(text.to_owned())),
            _ => Answer::Text(text.to_owned()),
        };
        self.answer(question, answer);
    }

    pub fn send(&mut self, command: Command) {
        self.screen.send(command);
    }

    /// Types as much of each disk's serial number as is asked for.
    #[track_caller]
    pub fn consent(&mut self) {
        let question = self.asks("Consent");
        let answer = confirm(&question, |least| least.to_owned());
        self.answer(&question, answer);
    }

    /// How the engine ended.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Waits until it has read and written this many bytes since the data began. It must come that far without asking
    /// anybody. Its progress is told too seldom for that: a machine may be done meanwhile.
    #[track_caller]
    pub fn wait_among_the_data(&mut self, bytes: u64) {
        self.wait("the data", |event| match event {
            Event::StageStarted { stage: Stage::Data } => Some(()),
            Event::Question(question) => panic!("it asks: {question:?}"),
            Event::Trouble(trouble) => panic!("a trouble: {trouble:?}"),
            _ => None,
        });
        let counters = format!("/proc/{}/io", self.child.id());
        let moved = || {
            let text = fs::read_to_string(&counters).unwrap();
            let counted = text.lines().filter_map(|line| line.split_once("char: "));
            counted.map(|(_, count)| count.parse::<u64>().unwrap()).sum::<u64>()
        };
        let (from, deadline) = (moved(), Instant::now() + PATIENCE);
        while moved() < from + bytes {
            assert!(Instant::now() < deadline, "{} bytes after {PATIENCE:?}", moved() - from);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills it when it has come that far among the data.
    #[track_caller]
    pub fn kill_among_the_data(&mut self, bytes: u64) {
        self.wait_among_the_data(bytes);
        self.kill();
        let log = self.log();
        let stage = log.lines().rfind(|line| line.contains("] stage "));
        assert!(stage.is_some_and(|line| line.ends_with("stage Data begins")), "it was killed among the data: {log}");
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the engine's log:\n{}", self.log());
        }
    }
}

/// Consent to the question's plan with what `typed` makes of the least that is to be typed for each disk.
pub fn confirm(question: &Question, typed: impl Fn(&str) -> String) -> Answer {
    let PlanConsent { digest, disks } = plan_consent(question);
    let disks = disks.iter().map(|disk| DiskConfirmation { serial: disk.serial.clone(), typed: typed(disk.least()) });
    Answer::Consent { digest: digest.clone(), disks: disks.collect() }
}

/// What is to be consented to.
pub fn plan_consent(question: &Question) -> &PlanConsent {
    match &question.ask {
        QuestionKind::PlanConsent(consent) => consent,
        other => panic!("no question for consent: {other:?}"),
    }
}
