//! What a screen knows.

use std::collections::VecDeque;

use restore_events::{
    Event, LOG_LINES_KEPT, LogLevel, NetworkState, Outcome, PlanView, Progress, Question, QuestionId, QuestionKind,
    Record, RestoreReport, ServerState, SessionStart, Stage, Trouble,
};

use crate::{CodeField, Field};

/// One stage, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageRow {
    /// The stage.
    pub stage: Stage,
    /// When it began.
    pub started_ms: u64,
    /// When it ended, and whether it did what it should.
    pub finished: Option<(u64, bool)>,
}

/// One line of the engine's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// When.
    pub at_ms: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// The line.
    pub text: String,
}

/// Which screen is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// No engine answers.
    Starting,
    /// The engine is on its way to a network and a server.
    Network,
    /// A question for a line of text.
    Text,
    /// The question for the restore code.
    Code,
    /// A question with things to choose from.
    Choice,
    /// The plan, before consent is asked for.
    Plan,
    /// Consent.
    Consent,
    /// Work is going on.
    Progress,
    /// The restore ended.
    Result,
    /// Something went wrong.
    Trouble,
}

/// What lies over the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// The log.
    Log,
    /// The network.
    Network,
    /// Reboot, power off or shell.
    Leave,
}

/// Everything that a screen is drawn from.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub(crate) session: Option<SessionStart>,
    pub(crate) network: Option<NetworkState>,
    pub(crate) server: Option<ServerState>,
    pub(crate) plan: Option<PlanView>,
    pub(crate) stages: Vec<StageRow>,
    pub(crate) progress: Option<Progress>,
    pub(crate) question: Option<Question>,
    pub(crate) trouble: Option<(Trouble, u64)>,
    pub(crate) result: Option<RestoreReport>,
    pub(crate) log: VecDeque<LogLine>,
    pub(crate) connected: bool,
    pub(crate) status: Option<String>,
    pub(crate) shell_allowed: bool,
    pub(crate) ui: Ui,
    clock: Clock,
}

/// What belongs to this screen alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ui {
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) field: Field,
    pub(crate) code: CodeField,
    pub(crate) choice: usize,
    pub(crate) consent: Vec<Field>,
    pub(crate) focus: usize,
    /// The plan was read and the consent page is open.
    pub(crate) consenting: bool,
    pub(crate) scroll: usize,
    /// The question that was answered here; its answer is on its way.
    pub(crate) sent: Option<QuestionId>,
    /// What this screen itself has against what was typed.
    pub(crate) problem: Option<String>,
}

/// The session's time, carried on by this process's own between records.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    session_ms: u64,
    told_at_ms: u64,
    local_ms: u64,
}

impl Model {
    /// Before anything is known. `shell` tells whether the rescue shell may be opened.
    pub fn new(width: u16, height: u16, shell: bool) -> Self {
        Self { ui: Ui { width, height, ..Ui::default() }, shell_allowed: shell, ..Self::default() }
    }

    /// Whether the engine has said that the node is back. It may end after that: the machine is about to reboot.
    fn is_restored(&self) -> bool {
        self.result.as_ref().is_some_and(|report| report.outcome == Outcome::Restored)
    }

    /// Which screen is to be seen.
    pub fn view(&self) -> View {
        if !self.connected && self.is_restored() {
            return View::Result;
        }
        if !self.connected || self.session.is_none() {
            return View::Starting;
        }
        if self.trouble.is_some() {
            return View::Trouble;
        }
        if self.result.is_some() {
            return View::Result;
        }
        if let Some(question) = &self.question {
            return match &question.ask {
                QuestionKind::ServerAddress { .. } => View::Text,
                QuestionKind::RestoreCode => View::Code,
                QuestionKind::Node { .. } | QuestionKind::Snapshot { .. } | QuestionKind::Disk { .. } => View::Choice,
                QuestionKind::PlanConsent(_) if self.ui.consenting || self.plan.is_none() => View::Consent,
                QuestionKind::PlanConsent(_) => View::Plan,
            };
        }
        let working = self.progress.is_some() || self.stages.iter().any(|row| row.stage > Stage::Network);
        if working { View::Progress } else { View::Network }
    }

    /// What lies over it.
    pub fn overlay(&self) -> Option<Overlay> {
        self.ui.overlay
    }

    /// The title that the screen bears.
    pub fn title(&self) -> &'static str {
        match (self.ui.overlay, self.view()) {
            (Some(Overlay::Log), _) => "Log",
            (Some(Overlay::Network), _) | (None, View::Network) => "Network",
            (Some(Overlay::Leave), _) => "Leave",
            (None, View::Starting) => "Starting",
            (None, View::Plan) => "Plan",
            (None, View::Progress) => "Progress",
            (None, View::Result) => "Result",
            (None, View::Trouble) => "Trouble",
            (None, View::Text | View::Code | View::Choice | View::Consent) => {
                self.question.as_ref().map_or("Question", |question| question.ask.title())
            }
        }
    }

    /// The session's time now.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.session_ms + self.clock.local_ms.saturating_sub(self.clock.told_at_ms)
    }

    /// Whether anything of a target may have been written.
    pub(crate) fn is_writing(&self) -> bool {
        self.result.is_none() && self.stages.iter().any(|row| row.stage >= Stage::Layout)
    }

    /// Whether the answer to the open question is on its way.
    pub(crate) fn is_sent(&self) -> bool {
        self.question.as_ref().is_some_and(|question| self.ui.sent == Some(question.id))
    }

    pub(crate) fn tick(&mut self, local_ms: u64) {
        self.clock.local_ms = local_ms;
    }

    pub(crate) fn note(&mut self, level: LogLevel, text: String) {
        if self.log.len() == LOG_LINES_KEPT {
            self.log.pop_front();
        }
        let at_ms = self.now_ms();
        self.log.push_back(LogLine { at_ms, level, text });
    }

    /// Takes one record of the engine.
    pub(crate) fn learn(&mut self, record: Record) {
        // A replay tells old records again: their times must not turn the clock back within a session.
        if record.at_ms >= self.now_ms() || matches!(record.event, Event::SessionStarted(_)) {
            self.clock.session_ms = record.at_ms;
            self.clock.told_at_ms = self.clock.local_ms;
        }
        match record.event {
            Event::SessionStarted(session) => {
                let shell_allowed = self.shell_allowed || session.shell_allowed;
                let ui = Ui {
                    field: self.ui.field.clone(),
                    ..Ui { width: self.ui.width, height: self.ui.height, ..Ui::default() }
                };
                *self = Self {
                    connected: self.connected,
                    status: self.status.take(),
                    clock: self.clock,
                    session: Some(session),
                    shell_allowed,
                    ui,
                    ..Self::default()
                };
            }
            Event::Network(network) => self.network = Some(network),
            Event::Server(server) => self.server = Some(server),
            Event::Question(question) => self.ask(question),
            Event::QuestionClosed { id } => {
                if self.question.as_ref().is_some_and(|question| question.id == id) {
                    self.question = None;
                    self.ui.consenting = false;
                }
            }
            Event::Plan(plan) => {
                self.plan = Some(plan);
                self.ui.scroll = 0;
                self.ui.consenting = false;
            }
            Event::StageStarted { stage } => {
                self.stages.retain(|row| row.stage != stage);
                self.stages.push(StageRow { stage, started_ms: record.at_ms, finished: None });
                if self.progress.as_ref().is_some_and(|progress| progress.stage != stage) {
                    self.progress = None;
                }
            }
            Event::StageFinished { stage, ok } => {
                let finished = Some((record.at_ms, ok));
                match self.stages.iter_mut().find(|row| row.stage == stage) {
                    Some(row) => row.finished = finished,
                    None => self.stages.push(StageRow { stage, started_ms: record.at_ms, finished }),
                }
            }
            Event::Progress(progress) => self.progress = Some(progress),
            Event::Log { level, text } => {
                if self.log.len() == LOG_LINES_KEPT {
                    self.log.pop_front();
                }
                self.log.push_back(LogLine { at_ms: record.at_ms, level, text });
            }
            Event::Trouble(trouble) => {
                self.trouble = Some((trouble, record.at_ms));
                self.ui.overlay = None;
                self.ui.scroll = 0;
            }
            Event::TroubleOver => self.trouble = None,
            Event::Result(report) => {
                self.result = Some(report);
                self.ui.overlay = None;
                self.ui.scroll = 0;
            }
        }
    }

    /// A question that is asked again because of a problem keeps what was typed, so that it can be mended.
    fn ask(&mut self, question: Question) {
        if self.question.as_ref().is_some_and(|open| open.id == question.id && open.ask == question.ask) {
            self.question = Some(question);
            return;
        }
        self.ui.problem = None;
        self.ui.sent = None;
        self.ui.consenting = false;
        self.ui.focus = 0;
        match &question.ask {
            QuestionKind::ServerAddress { default } => {
                if question.problem.is_none() || self.ui.field.text().is_empty() {
                    self.ui.field = Field::with(default.as_deref().unwrap_or("https://"));
                }
            }
            QuestionKind::RestoreCode => {
                if question.problem.is_none() {
                    self.ui.code = CodeField::default();
                }
            }
            QuestionKind::Node { choices, default } | QuestionKind::Snapshot { choices, default } => {
                self.ui.choice = choices.iter().position(|choice| Some(&choice.key) == default.as_ref()).unwrap_or(0);
            }
            QuestionKind::Disk { .. } => self.ui.choice = 0,
            QuestionKind::PlanConsent(consent) => {
                self.ui.consent = vec![Field::default(); consent.disks.len()];
                self.ui.consenting = question.problem.is_some();
                self.ui.scroll = 0;
            }
        }
        self.question = Some(question);
    }
}
