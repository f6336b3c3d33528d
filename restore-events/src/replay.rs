//! The few records from which a screen can be drawn.

use std::collections::VecDeque;

use crate::{Event, Record};

/// How many log lines are kept.
pub const LOG_LINES_KEPT: usize = 500;

/// Keeps those of the records pushed into it that are not replaced by later ones, so that a screen that attaches
/// late is drawn the same as one that saw them all. It does not grow with the length of a restore.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    session: Option<Record>,
    network: Option<Record>,
    server: Option<Record>,
    plan: Option<Record>,
    stages: Vec<Record>,
    progress: Option<Record>,
    question: Option<Record>,
    trouble: Option<Record>,
    result: Option<Record>,
    log: VecDeque<Record>,
}

impl Replay {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    pub fn push(&mut self, record: Record) {
        match &record.event {
            Event::SessionStarted(_) => *self = Self { session: Some(record), ..Self::default() },
            Event::Network(_) => self.network = Some(record),
            Event::Server(_) => self.server = Some(record),
            Event::Plan(_) => self.plan = Some(record),
            Event::Progress(_) => self.progress = Some(record),
            Event::Question(_) => self.question = Some(record),
            Event::QuestionClosed { id } => {
                let closed =
                    matches!(&self.question, Some(open) if matches!(&open.event, Event::Question(q) if q.id == *id));
                if closed {
                    self.question = None;
                }
            }
            Event::StageStarted { stage } => {
                let stage = *stage;
                self.stages.retain(|told| stage_of(&told.event) != Some(stage));
                self.stages.push(record);
            }
            Event::StageFinished { stage, .. } => {
                let stage = *stage;
                let told = |told: &Record| matches!(told.event, Event::StageFinished { stage: s, .. } if s == stage);
                self.stages.retain(|record| !told(record));
                self.stages.push(record);
            }
            Event::Trouble(_) => self.trouble = Some(record),
            Event::TroubleOver => self.trouble = None,
            Event::Result(_) => self.result = Some(record),
            Event::Log { .. } => {
                if self.log.len() == LOG_LINES_KEPT {
                    self.log.pop_front();
                }
                self.log.push_back(record);
            }
        }
    }

    /// The records kept, in the order in which they were told.
    pub fn records(&self) -> Vec<&Record> {
        let single = [
            &self.session,
            &self.network,
            &self.server,
            &self.plan,
            &self.progress,
            &self.question,
            &self.trouble,
            &self.result,
        ];
        let mut records: Vec<&Record> = single.into_iter().flatten().chain(&self.stages).chain(&self.log).collect();
        records.sort_by_key(|record| record.seq);
        records
    }
}

fn stage_of(event: &Event) -> Option<crate::Stage> {
    match event {
        Event::StageStarted { stage } | Event::StageFinished { stage, .. } => Some(*stage),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogLevel, NetworkState, Question, QuestionId, QuestionKind, SessionStart, Stage};

    fn session() -> Event {
        Event::SessionStarted(SessionStart {
            version: "0.1.0".into(),
            restarts: 0,
            machine: "QEMU".into(),
            unattended: false,
            shell_allowed: false,
        })
    }

    fn replay_of(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
        let mut replay = Replay::new();
        for (seq, event) in events.into_iter().enumerate() {
            replay.push(Record::new(seq as u64, 10 * seq as u64, event));
        }
        replay.records().into_iter().map(|record| record.event.clone()).collect()
    }

    fn question(id: u64) -> Event {
        Event::Question(Question { id: QuestionId(id), ask: QuestionKind::RestoreCode, problem: None })
    }

    #[test]
    fn the_last_word_on_each_matter_is_kept_in_order() {
        let network = |note: &str| Event::Network(NetworkState { note: Some(note.into()), ..Default::default() });
        let told = [
            session(),
            network("waiting"),
            Event::StageStarted { stage: Stage::Network },
            network("ready"),
            Event::StageFinished { stage: Stage::Network, ok: true },
            question(1),
            Event::QuestionClosed { id: QuestionId(1) },
            question(2),
            Event::QuestionClosed { id: QuestionId(1) },
        ];
        let kept = [
            session(),
            Event::StageStarted { stage: Stage::Network },
            network("ready"),
            Event::StageFinished { stage: Stage::Network, ok: true },
            question(2),
        ];
        assert_eq!(replay_of(told), kept);
    }

    #[test]
    fn a_stage_that_begins_again_forgets_its_first_end() {
        let started = || Event::StageStarted { stage: Stage::Data };
        let told = [started(), Event::StageFinished { stage: Stage::Data, ok: false }, started()];
        assert_eq!(replay_of(told), [started()]);
    }

    #[test]
    fn a_new_session_forgets_the_old_one() {
        assert_eq!(replay_of([session(), question(1), session()]), [session()]);
    }

    #[test]
    fn the_log_is_bounded() {
        let line = |n: usize| Event::Log { level: LogLevel::Info, text: n.to_string() };
        let kept = replay_of((0..LOG_LINES_KEPT + 3).map(line));
        assert_eq!(kept.len(), LOG_LINES_KEPT);
        assert_eq!(kept[0], line(3));
    }
}
