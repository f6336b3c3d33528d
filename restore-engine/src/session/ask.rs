//! Asking a person, and hearing what screens want.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use restore_events::{
    Answer, ByItself, Command, Event, LogLevel, Question, QuestionId, QuestionKind, TargetState, Trouble, TroubleChoice,
};

use super::teller::Teller;

/// What follows a trouble by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: somebody chooses.
    Wait,
    /// Another try after this time.
    Retry(Duration),
    /// A restart after this time.
    Reboot(Duration),
    /// The machine's end after this time.
    PowerOff(Duration),
}

impl Next {
    fn by_itself(self) -> Option<(TroubleChoice, Duration)> {
        match self {
            Self::Wait => None,
            Self::Retry(wait) => Some((TroubleChoice::Retry, wait)),
            Self::Reboot(wait) => Some((TroubleChoice::Reboot, wait)),
            Self::PowerOff(wait) => Some((TroubleChoice::PowerOff, wait)),
        }
    }
}

/// What a session ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Reboot.
    Reboot,
    /// Power off.
    PowerOff,
    /// Start again from the network on.
    Retry,
}

impl Exit {
    /// The exit code that PID 1 understands.
    pub const fn code(self) -> u8 {
        match self {
            Self::Reboot => 10,
            Self::PowerOff => 11,
            Self::Retry => 13,
        }
    }
}

/// Asks questions and shows troubles; commands come in from all screens.
pub(super) struct Desk {
    teller: Arc<Teller>,
    commands: Receiver<Command>,
    next_question: u64,
    unattended: bool,
}

impl Desk {
    /// A desk that hears `commands`.
    pub(super) fn new(teller: Arc<Teller>, commands: Receiver<Command>, unattended: bool) -> Self {
        Self { teller, commands, next_question: 1, unattended }
    }

    /// Asks until somebody answers this very question. There is no time-out and no default: silence is no answer.
    ///
    /// # Errors
    /// What was chosen instead: to reboot or to power off.
    pub(super) fn ask(&mut self, ask: QuestionKind, problem: Option<String>) -> Result<Answer, Exit> {
        let id = QuestionId(self.next_question);
        self.next_question += 1;
        self.teller.tell(Event::Question(Question { id, ask, problem }));
        let answer = loop {
            match self.commands.recv() {
                Ok(Command::Answer { question, answer }) if question == id => break Ok(answer),
                Ok(Command::Answer { .. } | Command::Hello { .. } | Command::Retry | Command::Shell) => {}
                Ok(Command::Reboot) => break Err(Exit::Reboot),
                Ok(Command::PowerOff) => break Err(Exit::PowerOff),
                // The socket is gone, so nobody will ever answer.
                Err(_) => break Err(Exit::Retry),
            }
        };
        self.teller.tell(Event::QuestionClosed { id });
        answer
    }

    /// Whether nobody is expected.
    pub(super) fn is_unattended(&self) -> bool {
        self.unattended
    }

    /// Shows a trouble until it is to be tried again: by a person's word, or by itself as `next` says.
    ///
    /// # Errors
    /// What was chosen instead.
    pub(super) fn trouble(
        &mut self,
        (what, which, now_what): (String, String, String),
        disks: TargetState,
        next: Next,
    ) -> Result<(), Exit> {
        let choices = vec![TroubleChoice::Retry, TroubleChoice::Reboot, TroubleChoice::PowerOff];
        let by_itself = next.by_itself().map(|(choice, wait)| ByItself { choice, in_ms: wait.as_millis() as u64 });
        self.teller.tell(Event::Trouble(Trouble { what, which, now_what, choices, by_itself, disks }));
        let deadline = next.by_itself().map(|(_, wait)| Instant::now() + wait);
        let outcome = loop {
            match self.hear(deadline) {
                Err(RecvTimeoutError::Timeout) if matches!(next, Next::Reboot(_)) => break Err(Exit::Reboot),
                Err(RecvTimeoutError::Timeout) if matches!(next, Next::PowerOff(_)) => break Err(Exit::PowerOff),
                Ok(Command::Retry) | Err(RecvTimeoutError::Timeout) => break Ok(()),
                Ok(Command::Reboot) => break Err(Exit::Reboot),
                Ok(Command::PowerOff) => break Err(Exit::PowerOff),
                Ok(Command::Answer { .. } | Command::Hello { .. } | Command::Shell) => {}
                Err(RecvTimeoutError::Disconnected) => break Err(Exit::Retry),
            }
        };
        self.teller.tell(Event::TroubleOver);
        outcome
    }

    /// Waits for a word at the end. By itself nothing happens but what `otherwise` says, after its time.
    pub(super) fn wait(&mut self, otherwise: Option<(Duration, Exit)>) -> Exit {
        let deadline = otherwise.map(|(shown, _)| Instant::now() + shown);
        loop {
            match (self.hear(deadline), otherwise) {
                (Ok(Command::Reboot), _) => return Exit::Reboot,
                (Ok(Command::PowerOff), _) => return Exit::PowerOff,
                (Ok(Command::Retry), None) => return Exit::Retry,
                (Ok(_), _) => {}
                (Err(_), Some((_, exit))) => return exit,
                (Err(_), None) => return Exit::Retry,
            }
        }
    }

    fn hear(&self, deadline: Option<Instant>) -> Result<Command, RecvTimeoutError> {
        match deadline {
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.commands.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        }
    }

    /// Tells a warning.
    pub(super) fn warn(&self, text: impl Into<String>) {
        self.teller.log(LogLevel::Warning, text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn an_answer_to_another_question_is_ignored_and_a_closed_line_is_no_answer() {
        let (sender, receiver) = channel();
        let mut desk = Desk::new(Arc::new(Teller::new(0, Box::new(std::io::sink()))), receiver, false);
        sender.send(Command::Answer { question: QuestionId(7), answer: Answer::Text("old".into()) }).unwrap();
        sender.send(Command::Answer { question: QuestionId(1), answer: Answer::Text("new".into()) }).unwrap();
        assert_eq!(desk.ask(QuestionKind::RestoreCode, None), Ok(Answer::Text("new".into())));
        drop(sender);
        assert_eq!(desk.ask(QuestionKind::RestoreCode, None), Err(Exit::Retry));
    }

    #[test]
    fn what_follows_a_trouble_by_itself_is_told_and_done_unless_a_person_chooses() {
        let (sender, receiver) = channel();
        let teller = Arc::new(Teller::new(0, Box::new(std::io::sink())));
        let (_, told) = teller.attach();
        let mut desk = Desk::new(teller, receiver, true);
        let words = || ("refused".to_owned(), "the code expired".to_owned(), "arm the node again".to_owned());
        let (soon, late) = (Duration::from_millis(50), Duration::from_secs(900));
        let mut trouble = |next| desk.trouble(words(), TargetState::Untouched, next);
        assert_eq!(trouble(Next::Retry(soon)), Ok(()));
        assert_eq!(trouble(Next::Reboot(soon)), Err(Exit::Reboot));
        assert_eq!(trouble(Next::PowerOff(soon)), Err(Exit::PowerOff));
        sender.send(Command::Retry).unwrap();
        assert_eq!(trouble(Next::Reboot(late)), Ok(()), "a person may try again");
        sender.send(Command::PowerOff).unwrap();
        assert_eq!(trouble(Next::Wait), Err(Exit::PowerOff));
        let told: Vec<_> = told
            .try_iter()
            .filter_map(|record| match record.event {
                Event::Trouble(trouble) => Some(trouble.by_itself.map(|next| (next.choice, next.in_ms))),
                _ => None,
            })
            .collect();
        let wanted = [
            Some((TroubleChoice::Retry, 50)),
            Some((TroubleChoice::Reboot, 50)),
            Some((TroubleChoice::PowerOff, 50)),
            Some((TroubleChoice::Reboot, 900_000)),
            None,
        ];
        assert_eq!(told, wanted);
    }
}
