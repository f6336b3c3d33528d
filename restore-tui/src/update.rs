//! What a screen does about what happens.

use restore_events::{
    Answer, Choice, Command, ConsentProblem, DiskConfirmation, LogLevel, PlanConsent, QuestionKind, Secret,
    TroubleChoice,
};

use crate::draw::scroll_end;
use crate::model::{Model, Overlay, View};
use crate::{Action, Input, Key};

impl Model {
    /// Takes one thing that happened and returns what to do about it.
    pub fn handle(&mut self, input: Input) -> Vec<Action> {
        let title = self.title();
        let mut actions = match input {
            Input::Record(record) => {
                self.learn(*record);
                Vec::new()
            }
            Input::Nonsense(text) => {
                self.note(LogLevel::Error, text);
                Vec::new()
            }
            Input::Connected => {
                self.connected = true;
                Vec::new()
            }
            Input::Disconnected => {
                self.connected = false;
                // Whatever was on its way may be lost; the engine asks again.
                self.ui.sent = None;
                Vec::new()
            }
            Input::Status(text) => {
                self.status = Some(text);
                Vec::new()
            }
            Input::Tick(local_ms) => {
                self.tick(local_ms);
                Vec::new()
            }
            Input::Resize { width, height } => {
                (self.ui.width, self.ui.height) = (width, height);
                vec![Action::Repaint]
            }
            Input::Paste(text) => {
                self.paste(&text);
                Vec::new()
            }
            Input::Key(key) => self.press(key),
        };
        // Another screen is painted whole: what a slow line lost is mended, and a script that reads the line finds
        // its title in one piece.
        if self.title() != title && !actions.contains(&Action::Repaint) {
            actions.push(Action::Repaint);
        }
        self.ui.scroll = self.ui.scroll.min(scroll_end(self));
        actions
    }

    fn paste(&mut self, text: &str) {
        if self.ui.overlay.is_some() || self.is_sent() {
            return;
        }
        self.ui.problem = None;
        match self.view() {
            View::Text => self.ui.field.paste(text),
            View::Code => self.ui.code.paste(text),
            View::Consent => {
                if let Some(field) = self.ui.consent.get_mut(self.ui.focus) {
                    field.paste(text);
                }
            }
            _ => {}
        }
    }

    fn press(&mut self, key: Key) -> Vec<Action> {
        let toggle = |now: Option<Overlay>, wanted| (now != Some(wanted)).then_some(wanted);
        match key {
            Key::Ctrl('l') => return vec![Action::Repaint],
            Key::Ctrl('g') => {
                self.ui.overlay = toggle(self.ui.overlay, Overlay::Log);
                self.ui.scroll = usize::MAX;
                return Vec::new();
            }
            Key::Ctrl('n') => {
                self.ui.overlay = toggle(self.ui.overlay, Overlay::Network);
                self.ui.scroll = 0;
                return Vec::new();
            }
            Key::Ctrl('x') => {
                self.ui.overlay = toggle(self.ui.overlay, Overlay::Leave);
                return Vec::new();
            }
            _ => {}
        }
        match (self.ui.overlay, self.view()) {
            (Some(Overlay::Leave), _) => self.press_in_leave(key),
            (Some(_), _) => {
                if matches!(key, Key::Esc | Key::Char('q')) {
                    self.ui.overlay = None;
                    self.ui.scroll = 0;
                } else {
                    self.scroll(key);
                }
                Vec::new()
            }
            (None, View::Text) => self.press_in_text(key),
            (None, View::Code) => self.press_in_code(key),
            (None, View::Choice) => self.press_in_choice(key),
            (None, View::Plan) => self.press_in_plan(key),
            (None, View::Consent) => self.press_in_consent(key),
            (None, View::Trouble) => self.press_in_trouble(key),
            (None, View::Result) => self.press_in_result(key),
            (None, View::Starting | View::Network | View::Progress) => Vec::new(),
        }
    }

    /// Whether the key scrolled.
    fn scroll(&mut self, key: Key) -> bool {
        let page = usize::from(self.ui.height.saturating_sub(6)).max(1);
        let at = self.ui.scroll;
        self.ui.scroll = match key {
            Key::Up | Key::Char('k') => at.saturating_sub(1),
            Key::Down | Key::Char('j') => at.saturating_add(1),
            Key::PageUp => at.saturating_sub(page),
            Key::PageDown | Key::Char(' ') => at.saturating_add(page),
            Key::Home => 0,
            Key::End => usize::MAX,
            _ => return false,
        };
        true
    }

    fn answer(&mut self, answer: Answer) -> Vec<Action> {
        let Some(question) = &self.question else { return Vec::new() };
        self.ui.sent = Some(question.id);
        self.ui.problem = None;
        vec![Action::Send(Command::Answer { question: question.id, answer })]
    }

    fn press_in_text(&mut self, key: Key) -> Vec<Action> {
        if self.is_sent() {
            return Vec::new();
        }
        if key != Key::Enter {
            if self.ui.field.press(key) {
                self.ui.problem = None;
            }
            return Vec::new();
        }
        let text = self.ui.field.text();
        let text = whole_address(text.trim()).to_owned();
        if text.is_empty() || text == "https://" {
            self.ui.problem = Some("type the address first".into());
            return Vec::new();
        }
        self.answer(Answer::Text(text))
    }

    fn press_in_code(&mut self, key: Key) -> Vec<Action> {
        if self.is_sent() {
            return Vec::new();
        }
        if key != Key::Enter {
            if self.ui.code.press(key) {
                self.ui.problem = None;
            }
            return Vec::new();
        }
        if self.ui.code.is_empty() {
            return Vec::new();
        }
        if !self.ui.code.is_complete() {
            self.ui.problem = Some(format!("{} characters are missing", self.ui.code.missing()));
            return Vec::new();
        }
        let code = Secret(self.ui.code.text());
        self.answer(Answer::Code(code))
    }

    pub(crate) fn choices(&self) -> &[Choice] {
        match self.question.as_ref().map(|question| &question.ask) {
            Some(
                QuestionKind::Node { choices, .. }
                | QuestionKind::Snapshot { choices, .. }
                | QuestionKind::Disk { choices, .. },
            ) => choices,
            _ => &[],
        }
    }

    fn press_in_choice(&mut self, key: Key) -> Vec<Action> {
        if self.is_sent() {
            return Vec::new();
        }
        let last = self.choices().len().saturating_sub(1);
        let page = usize::from(self.ui.height.saturating_sub(10)).max(1);
        self.ui.choice = match key {
            Key::Up | Key::Char('k') => self.ui.choice.saturating_sub(1),
            Key::Down | Key::Char('j') => self.ui.choice + 1,
            Key::PageUp => self.ui.choice.saturating_sub(page),
            Key::PageDown => self.ui.choice + page,
            Key::Home => 0,
            Key::End => last,
            Key::Char(digit @ '1'..='9') => match digit.to_digit(10) {
                Some(number) if number as usize <= last + 1 => number as usize - 1,
                _ => self.ui.choice,
            },
            Key::Enter => {
                let key = self.choices().get(self.ui.choice).map(|choice| choice.key.clone());
                return key.map_or_else(Vec::new, |key| self.answer(Answer::Choice(key)));
            }
            _ => self.ui.choice,
        }
        .min(last);
        Vec::new()
    }

    fn press_in_plan(&mut self, key: Key) -> Vec<Action> {
        match key {
            Key::Char('c' | 'C') => {
                self.ui.consenting = true;
                Vec::new()
            }
            Key::Char('d' | 'D') if !self.is_sent() => self.answer(Answer::Decline),
            _ => {
                self.scroll(key);
                Vec::new()
            }
        }
    }

    fn consent(&self) -> Option<&PlanConsent> {
        match self.question.as_ref().map(|question| &question.ask) {
            Some(QuestionKind::PlanConsent(consent)) => Some(consent),
            _ => None,
        }
    }

    fn press_in_consent(&mut self, key: Key) -> Vec<Action> {
        let Some(consent) = self.consent().cloned() else { return Vec::new() };
        if self.is_sent() {
            return Vec::new();
        }
        let last = self.ui.consent.len().saturating_sub(1);
        match key {
            Key::Esc => {
                self.ui.consenting = false;
                self.ui.scroll = 0;
                return Vec::new();
            }
            Key::Tab | Key::Down => self.ui.focus = (self.ui.focus + 1).min(last),
            Key::BackTab | Key::Up => self.ui.focus = self.ui.focus.saturating_sub(1),
            Key::Enter => return self.try_to_consent(&consent),
            _ => {
                if let Some(field) = self.ui.consent.get_mut(self.ui.focus)
                    && field.press(key)
                {
                    self.ui.problem = None;
                }
            }
        }
        Vec::new()
    }

    /// Enter on the consent page: alone it does nothing. The engine judges again; this screen only spares it what
    /// cannot be consent.
    fn try_to_consent(&mut self, consent: &PlanConsent) -> Vec<Action> {
        let typed: Vec<String> = self.ui.consent.iter().map(|field| field.text().trim().to_owned()).collect();
        if typed.iter().all(String::is_empty) {
            return Vec::new();
        }
        // What must be read before it is consented to has been on the screen if there was a plan at all.
        if self.plan.as_ref().is_some_and(|plan| plan.digest != consent.digest) {
            self.ui.problem = Some(ConsentProblem::AnotherPlan.to_string());
            return Vec::new();
        }
        let disks = consent.disks.iter().zip(typed);
        let disks = disks.map(|(disk, typed)| DiskConfirmation { serial: disk.serial.clone(), typed }).collect();
        let answer = Answer::Consent { digest: consent.digest.clone(), disks };
        match consent.judge(&answer) {
            Ok(()) => self.answer(answer),
            Err(problem) => {
                let unconfirmed = |at: &usize| !consent.disks[*at].is_confirmed_by(&self.ui.consent[*at].text());
                let next = (0..consent.disks.len().min(self.ui.consent.len())).find(unconfirmed);
                let went_on = next.is_some_and(|next| next != self.ui.focus && self.ui.consent[next].text().is_empty());
                self.ui.focus = next.unwrap_or(self.ui.focus);
                // Enter after one of several disks goes on to the next one; that is no mistake yet.
                self.ui.problem = (!went_on).then(|| problem.to_string());
                Vec::new()
            }
        }
    }

    fn press_in_trouble(&mut self, key: Key) -> Vec<Action> {
        let choices = self.trouble.as_ref().map(|(trouble, _)| trouble.choices.clone()).unwrap_or_default();
        let offered = |choice| choices.contains(&choice);
        match key {
            Key::Char('r' | 'R') if offered(TroubleChoice::Retry) => vec![Action::Send(Command::Retry)],
            Key::Char('s' | 'S') if offered(TroubleChoice::Shell) && self.shell_allowed => vec![Action::OpenShell],
            Key::Char('b' | 'B') if offered(TroubleChoice::Reboot) => vec![Action::Send(Command::Reboot)],
            Key::Char('p' | 'P') if offered(TroubleChoice::PowerOff) => vec![Action::Send(Command::PowerOff)],
            _ => {
                self.scroll(key);
                Vec::new()
            }
        }
    }

    fn press_in_result(&mut self, key: Key) -> Vec<Action> {
        match key {
            Key::Char('b' | 'B') => vec![Action::Send(Command::Reboot)],
            Key::Char('p' | 'P') => vec![Action::Send(Command::PowerOff)],
            Key::Char('s' | 'S') if self.shell_allowed => vec![Action::OpenShell],
            _ => {
                self.scroll(key);
                Vec::new()
            }
        }
    }

    fn press_in_leave(&mut self, key: Key) -> Vec<Action> {
        let action = match key {
            Key::Char('b' | 'B') => Action::Send(Command::Reboot),
            Key::Char('p' | 'P') => Action::Send(Command::PowerOff),
            Key::Char('s' | 'S') if self.shell_allowed => Action::OpenShell,
            Key::Esc | Key::Char('q') => {
                self.ui.overlay = None;
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        self.ui.overlay = None;
        vec![action]
    }
}

/// What was meant by an address that was typed or pasted whole behind the `https://` that the field begins with.
fn whole_address(text: &str) -> &str {
    match text.strip_prefix("https://") {
        Some(rest) if rest.contains("://") => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::whole_address;

    #[test]
    fn an_address_pasted_whole_is_not_prefixed_twice() {
        assert_eq!(whole_address("https://https://10.0.0.5:8443"), "https://10.0.0.5:8443");
        assert_eq!(whole_address("https://10.0.0.5:8443"), "https://10.0.0.5:8443");
        assert_eq!(whole_address("https://"), "https://");
    }
}
