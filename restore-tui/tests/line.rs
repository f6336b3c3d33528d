//! The program itself on a line that answers no questions, as a script at the far end of a serial line.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use restore_events::{Answer, Command as Told, CommandLine, LineReader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetwinsize;

const PATIENCE: Duration = Duration::from_secs(20);

/// A restore-tui on a line of its own, attached to an engine that this test plays.
struct Line {
    child: Child,
    keyboard: Option<File>,
    reader: Option<JoinHandle<()>>,
    hung_up: Arc<AtomicBool>,
    output: Receiver<Vec<u8>>,
    transcript: Vec<u8>,
    screen: vt100::Parser,
    engine: UnixStream,
    _directory: tempfile::TempDir,
}

impl Line {
    fn open() -> Self {
        Self::open_and(|_| {})
    }

    /// As [`Line::open`], with something that the far end does as soon as the program runs.
    fn open_and(at_first: impl FnOnce(File)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let control: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let name = ptsname(&control, Vec::new()).unwrap().into_string().unwrap();
        let terminal = || Stdio::from(File::options().read(true).write(true).open(PathBuf::from(&name)).unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_restore-tui"))
            .args(["--ascii", "--name", "line", "--socket"])
            .arg(&socket)
            .stdin(terminal())
            .stdout(terminal())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        at_first(File::from(control.try_clone().unwrap()));
        let (sender, output) = mpsc::channel();
        let mut far_end = File::from(control.try_clone().unwrap());
        let hung_up = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&hung_up);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            while !stop.load(Ordering::SeqCst) {
                match poll(&mut [PollFd::new(&far_end, PollFlags::IN)], Some(&moment)) {
                    Ok(0) => continue,
                    Ok(_) => {}
                    Err(_) => return,
                }
                let Ok(length @ 1..) = far_end.read(&mut bytes) else { return };
                if sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let (engine, _) = listener.accept().unwrap();
        Self {
            child,
            keyboard: Some(File::from(control)),
            reader: Some(reader),
            hung_up,
            output,
            transcript: Vec::new(),
            screen: vt100::Parser::new(24, 80, 0),
            engine,
            _directory: directory,
        }
    }

    /// Tells the records of the recording up to (not with) the one with this number.
    fn tell(&mut self, from: usize, to: usize) {
        let recording = include_str!("recordings/interactive.jsonl");
        for line in recording.lines().skip(from).take(to - from) {
            writeln!(self.engine, "{line}").unwrap();
        }
    }

    fn wait_until(&mut self, what: &str, seen: impl Fn(&str, &str) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let transcript = String::from_utf8_lossy(&self.transcript).into_owned();
            let screen = self.screen.screen().contents();
            if seen(&transcript, &screen) {
                return;
            }
            match self.output.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => {
                    self.screen.process(&bytes);
                    self.transcript.extend(bytes);
                }
                Err(_) => panic!("`{what}` did not appear; the screen is\n{screen}"),
            }
        }
    }

    fn type_text(&mut self, text: &str) {
        self.keyboard.as_mut().expect("the line is open").write_all(text.as_bytes()).unwrap();
    }

    /// The far end closes the line.
    fn hang_up(&mut self) {
        self.hung_up.store(true, Ordering::SeqCst);
        self.reader.take().expect("a line hangs up once").join().unwrap();
        self.keyboard = None;
    }

    /// After the far end hung up: the screen ends by itself, and the engine has heard no word but its greeting.
    fn answered_nothing(&mut self) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > until => panic!("the screen outlives its line"),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        assert_ne!(status.code(), Some(0), "{status}");
        let mut heard = LineReader::new(BufReader::new(self.engine.try_clone().unwrap()));
        assert!(matches!(heard.next_line::<CommandLine>().unwrap().unwrap().command, Told::Hello { .. }));
        assert!(!matches!(heard.next_line::<CommandLine>(), Ok(Some(_))), "an answer nobody gave");
    }

    /// Waits for plain text in what came over the line, as a script does that knows nothing of terminals.
    fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |transcript, _| transcript.contains(text));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_script_drives_the_screens_by_their_titles() {
    let mut line = Line::open();
    line.tell(0, 9);
    line.wait_for("| Server address");
    // The line said that it has no size; the screen is the one that every terminal can show.
    line.wait_until("the title bar", |_, screen| screen.lines().next().is_some_and(|bar| bar.contains("VM-4711")));
    line.type_text("10.0.2.2:8443\r");
    let mut heard = LineReader::new(BufReader::new(line.engine.try_clone().unwrap()));
    assert!(matches!(heard.next_line::<CommandLine>().unwrap().unwrap().command, Told::Hello { .. }));
    let answered = heard.next_line::<CommandLine>().unwrap().unwrap().command;
    assert!(matches!(&answered, Told::Answer { answer: Answer::Text(url), .. } if url == "https://10.0.2.2:8443"));

    line.tell(9, 15);
    line.wait_for("| Restore code");
    line.type_text("ABCD-EFGH-JKMN-PQRS-TVWX\r");
    let answered = heard.next_line::<CommandLine>().unwrap().unwrap().command;
    assert!(matches!(answered, Told::Answer { answer: Answer::Code(_), .. }));

    line.tell(15, 25);
    line.wait_for("| Plan");
    line.type_text("\r\r\rc");
    line.wait_for("| Consent");
    line.type_text("\r\rB2C3");
    line.wait_for("confirmed");
    line.type_text("\r");
    let answered = heard.next_line::<CommandLine>().unwrap().unwrap().command;
    assert!(matches!(answered, Told::Answer { answer: Answer::Consent { .. }, .. }));
}

#[test]
fn defect_of_crossterm_a_line_that_says_it_has_no_size_gets_one() {
    let mut line = Line::open();
    line.tell(0, 9);
    line.wait_for("| Server address");
    let given = tcgetwinsize(line.keyboard.as_ref().unwrap()).unwrap();
    assert_eq!((given.ws_col, given.ws_row), (80, 24), "nobody answered the probe");
    line.hang_up();

    let mut answering = Line::open_and(|mut far_end| {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\x1b[6n") {
            let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&far_end, PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(ready, 1, "the size was never asked for");
            let mut byte = [0];
            far_end.read_exact(&mut byte).unwrap();
            heard.extend(byte);
        }
        far_end.write_all(b"\x1b[43;132R").unwrap();
    });
    answering.tell(0, 9);
    answering.wait_for("| Server address");
    let given = tcgetwinsize(answering.keyboard.as_ref().unwrap()).unwrap();
    assert_eq!((given.ws_col, given.ws_row), (132, 43), "what the far end said");
}

#[test]
fn fault_42_a_closed_line_answers_nothing() {
    let mut line = Line::open();
    line.tell(0, 9);
    line.wait_for("| Server address");
    line.hang_up();
    line.answered_nothing();
}

#[test]
fn fault_42_a_line_closed_before_the_last_enter_consents_to_nothing() {
    let mut line = Line::open();
    line.tell(0, 9);
    line.wait_for("| Server address");
    // The answers before it are left out: the engine asks what it asks.
    line.tell(9, 25);
    line.wait_for("| Plan");
    line.type_text("\r\r\rc");
    line.wait_for("| Consent");
    line.type_text("B2C3");
    line.wait_for("confirmed");
    line.hang_up();
    line.answered_nothing();
}
