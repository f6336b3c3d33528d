//! Tells everybody what happens: screens over the socket, the log, and the server.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use restore_events::{Event, LogLevel, Record, Replay, Stage, StageTime, TargetState, TroubleChoice};

use crate::journal::Lines;

/// Where events go. Shared by all threads.
pub(super) struct Teller {
    started: Instant,
    /// Milliseconds since the kernel's start at which this program began.
    offset_ms: u64,
    state: Mutex<State>,
}

struct State {
    seq: u64,
    replay: Replay,
    listeners: Vec<Sender<Record>>,
    stage: Option<Stage>,
    timeline: Vec<StageTime>,
    lines: Lines,
    log: Box<dyn Write + Send>,
}

impl Teller {
    /// A teller whose clock shows `offset_ms` now, and whose log goes to `log`.
    pub(super) fn new(offset_ms: u64, log: Box<dyn Write + Send>) -> Self {
        let state = State {
            seq: 0,
            replay: Replay::new(),
            listeners: Vec::new(),
            stage: None,
            timeline: Vec::new(),
            lines: Lines::default(),
            log,
        };
        Self { started: Instant::now(), offset_ms, state: Mutex::new(state) }
    }

    /// Milliseconds since the kernel's start.
    pub(super) fn now_ms(&self) -> u64 {
        self.offset_ms + self.started.elapsed().as_millis() as u64
    }

    /// Tells an event to everybody.
    pub(super) fn tell(&self, event: Event) {
        let now = self.now_ms();
        self.lock().tell(now, event);
    }

    /// Tells a line for the log.
    pub(super) fn log(&self, level: LogLevel, text: impl Into<String>) {
        self.tell(Event::Log { level, text: text.into() });
    }

    /// Ends the running stage, if it is another, and begins `stage`.
    pub(super) fn begin(&self, stage: Stage) {
        let now = self.now_ms();
        let mut state = self.lock();
        if state.stage == Some(stage) {
            return;
        }
        state.end_stage(now, true);
        state.stage = Some(stage);
        state.tell(now, Event::StageStarted { stage });
    }

    /// Ends the running stage.
    pub(super) fn end(&self, ok: bool) {
        let now = self.now_ms();
        self.lock().end_stage(now, ok);
    }

    /// Books a stage that was over before this program began.
    pub(super) fn book(&self, stage: Stage, started_ms: u64, finished_ms: u64) {
        let mut state = self.lock();
        state.tell(started_ms, Event::StageStarted { stage });
        state.tell(finished_ms, Event::StageFinished { stage, ok: true });
        state.timeline.push(StageTime { stage, started_ms, finished_ms });
    }

    /// The stages that are over, in the order in which they ended. A stage that was entered again has several rows.
    pub(super) fn timeline(&self) -> Vec<StageTime> {
        self.lock().timeline.clone()
    }

    /// The stages until now, the running one included, and what went on.
    pub(super) fn journal(&self) -> (Vec<StageTime>, Lines) {
        let now = self.now_ms();
        let state = self.lock();
        let running = state.stage.map(|stage| state.time_of(stage, now));
        (state.timeline.iter().copied().chain(running).collect(), state.lines.clone())
    }

    /// What a new screen has to know, and everything that is told from now on.
    pub(super) fn attach(&self) -> (Vec<Record>, Receiver<Record>) {
        let (sender, receiver) = channel();
        let mut state = self.lock();
        state.listeners.push(sender);
        (state.replay.records().into_iter().cloned().collect(), receiver)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn tell(&mut self, now: u64, event: Event) {
        if let Some(line) = log_line(&event) {
            // A log that cannot be written is no reason to stop a restore.
            let _ = writeln!(self.log, "[{:>6}.{:03}] {line}", now / 1000, now % 1000);
            self.lines.push(now, &line);
        }
        let record = Record::new(self.seq, now, event);
        self.seq += 1;
        self.listeners.retain(|listener| listener.send(record.clone()).is_ok());
        self.replay.push(record);
    }

    fn end_stage(&mut self, now: u64, ok: bool) {
        let Some(stage) = self.stage.take() else { return };
        self.timeline.push(self.time_of(stage, now));
        self.tell(now, Event::StageFinished { stage, ok });
    }

    /// When the running stage began, and now.
    fn time_of(&self, stage: Stage, now: u64) -> StageTime {
        let started = self.replay.records().into_iter().find_map(|record| match &record.event {
            Event::StageStarted { stage: started } if *started == stage => Some(record.at_ms),
            _ => None,
        });
        StageTime { stage, started_ms: started.unwrap_or(now), finished_ms: now }
    }
}

/// What of an event belongs into a log. It holds no secret: answers are commands, not events.
fn log_line(event: &Event) -> Option<String> {
    match event {
        Event::SessionStarted(start) => Some(format!("rerack {} on {}", start.version, start.machine)),
        Event::Server(server) => Some(format!("server {}: {}", server.url, server.note.as_deref().unwrap_or("known"))),
        Event::Question(question) => Some(match &question.problem {
            Some(problem) => format!("asking for {} again: {problem}", question.ask.title()),
            None => format!("asking for {}", question.ask.title()),
        }),
        Event::Plan(plan) => Some(format!("plan {} for {}@{}", plan.digest, plan.node, plan.snapshot)),
        Event::StageStarted { stage } => Some(format!("stage {} begins", stage.title())),
        Event::StageFinished { stage, ok } => {
            Some(format!("stage {} {}", stage.title(), if *ok { "is done" } else { "failed" }))
        }
        Event::Log { level, text } => Some(match level {
            LogLevel::Warning => format!("warning: {text}"),
            LogLevel::Error => format!("error: {text}"),
            LogLevel::Info | LogLevel::Detail => text.clone(),
        }),
        Event::Trouble(trouble) => {
            let unwritten = if trouble.disks == TargetState::Untouched { "; no disk was written" } else { "" };
            let by_itself = trouble.by_itself.map_or_else(String::new, |next| {
                let what = match next.choice {
                    TroubleChoice::Retry => "trying again",
                    TroubleChoice::Shell => "the shell opens",
                    TroubleChoice::Reboot => "the machine restarts",
                    TroubleChoice::PowerOff => "the machine powers off",
                };
                format!("; {what} in {} s", next.in_ms / 1000)
            });
            Some(format!("{}: {}; {}{unwritten}{by_itself}", trouble.what, trouble.which, trouble.now_what))
        }
        Event::TroubleOver => Some("going on".to_owned()),
        Event::Result(report) => Some(format!("result: {:?}", report.outcome)),
        Event::Network(_) | Event::QuestionClosed { .. } | Event::Progress(_) => None,
    }
}
