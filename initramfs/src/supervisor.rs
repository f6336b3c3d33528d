//! What PID 1 does about what happens: a state machine without a clock, a process or a file.
//!
//! Every failure ends the same way: it is explained on every console, the log is kept, and the operator may try
//! again, open a shell (if allowed), reboot or power off. Where nobody is expected, it tries again by itself, each
//! time a little later.

use crate::settings::NetworkOutcome;

/// The engine asks for a reboot by exiting with this.
pub const EXIT_REBOOT: i32 = 10;
/// The engine asks to power off by exiting with this.
pub const EXIT_POWER_OFF: i32 = 11;
/// A screen asks for the rescue shell on its console by exiting with this.
pub const EXIT_SHELL: i32 = 12;
/// The engine asks to be started again from the network on by exiting with this.
pub const EXIT_RETRY: i32 = 13;

/// After so many crashes in a row, a person is asked.
const CRASHES_MAX: u32 = 5;
/// An engine that ran so long had begun well: its earlier crashes are forgotten.
const SETTLED_MS: u64 = 5 * 60_000;
/// Wrong arguments do not mend themselves; a reboot may bring better ones from the network.
const ARGUMENTS_REBOOT_MS: u64 = 10 * 60_000;
const BACK_OFF_FIRST_MS: u64 = 1_000;
const BACK_OFF_MAX_MS: u64 = 5 * 60_000;

/// What PID 1 was told on its command line, as far as this matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Nobody is expected at the console.
    pub unattended: bool,
    /// The rescue shell may be opened.
    pub shell: bool,
    /// How many consoles there are.
    pub consoles: usize,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Everything is mounted and the arguments are read; these are not understood.
    Begun {
        /// One line or two for each.
        wrong_arguments: Vec<String>,
    },
    /// The network is there or given up.
    Network {
        /// Which of both.
        outcome: NetworkOutcome,
        /// In words.
        note: String,
    },
    /// The engine ended, or could not be started.
    EngineEnded(Ended),
    /// The screen of a console ended, or could not be started.
    ScreenEnded {
        /// Number of the console.
        console: usize,
        /// How.
        ended: Ended,
    },
    /// The shell on a console ended.
    ShellEnded {
        /// Number of the console.
        console: usize,
    },
    /// Somebody chose from the menu.
    Chosen {
        /// On which console.
        console: usize,
        /// What.
        choice: Choice,
    },
    /// The time is now what [`Action::WakeAt`] named, or later.
    Woken,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Exit(i32),
    /// By a signal, or it never began; in words.
    Failed(String),
}

/// What the menu offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Try again.
    Retry,
    /// Open the rescue shell here.
    Shell,
    /// Reboot.
    Reboot,
    /// Power off.
    PowerOff,
}

impl Choice {
    /// The choice for what was typed.
    pub fn typed(text: &str) -> Option<Self> {
        match text.trim() {
            "r" | "R" => Some(Self::Retry),
            "s" | "S" => Some(Self::Shell),
            "b" | "B" => Some(Self::Reboot),
            "p" | "P" => Some(Self::PowerOff),
            _ => None,
        }
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bring up the network; [`Event::Network`] tells the end.
    BringUpNetwork,
    /// Start the engine.
    StartEngine {
        /// How often it had begun before.
        restarts: u32,
    },
    /// Start the screen of a console.
    StartScreen(usize),
    /// End all screens.
    StopScreens,
    /// Open the rescue shell on a console.
    StartShell(usize),
    /// Show the menu with this explanation on all consoles, or on one of them.
    ShowMenu {
        /// Only there, if given.
        console: Option<usize>,
        /// Lines of text.
        text: Vec<String>,
    },
    /// Stop listening for choices.
    HideMenu,
    /// What is going on, in a line, for screens that have no engine to ask.
    Status(String),
    /// Send [`Event::Woken`] at this time; it replaces the time named before.
    WakeAt(u64),
    /// Reboot.
    Reboot,
    /// Power off.
    PowerOff,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The network is being brought up, or waited for.
    Network,
    /// The engine runs since then.
    Engine { since_ms: u64 },
    /// The engine will be started again at that time.
    EnginePause { until_ms: u64 },
    /// The network will be tried again at that time.
    NetworkPause { until_ms: u64 },
    /// The menu is shown.
    Menu { text: Vec<String>, reboot_at_ms: Option<u64> },
}

/// The state machine.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    state: State,
    engine_starts: u32,
    engine_crashes: u32,
    network_failures: u32,
    screens: Vec<Screen>,
}

/// What is known of one console.
#[derive(Debug, Clone, Copy, Default)]
struct Screen {
    crashes: u32,
    /// A screen that failed comes back then.
    start_at_ms: Option<u64>,
    shell: bool,
}

impl Supervisor {
    /// Before anything happened.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Network,
            engine_starts: 0,
            engine_crashes: 0,
            network_failures: 0,
            screens: vec![Screen::default(); policy.consoles],
        }
    }

    /// What to do about `event` at `now_ms`.
    pub fn handle(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let mut actions = match event {
            Event::Begun { wrong_arguments } => self.begin(wrong_arguments, now_ms),
            Event::Network { outcome, note } => self.network(outcome, note, now_ms),
            Event::EngineEnded(ended) => self.engine_ended(ended, now_ms),
            Event::ScreenEnded { console, ended } => self.screen_ended(console, &ended, now_ms),
            Event::ShellEnded { console } => self.shell_ended(console),
            Event::Chosen { console, choice } => self.chosen(console, choice),
            Event::Woken => self.woken(now_ms),
        };
        if let Some(at_ms) = self.next_wake_ms() {
            actions.push(Action::WakeAt(at_ms));
        }
        actions
    }

    fn begin(&mut self, wrong_arguments: Vec<String>, now_ms: u64) -> Vec<Action> {
        if wrong_arguments.is_empty() {
            let mut actions = vec![Action::Status("Waiting for the network".into()), Action::BringUpNetwork];
            actions.extend((0..self.screens.len()).map(Action::StartScreen));
            return actions;
        }
        let mut text = vec!["The kernel arguments are not understood; nothing was done.".to_owned()];
        text.extend(wrong_arguments);
        let reboot_at_ms = self.policy.unattended.then_some(now_ms + ARGUMENTS_REBOOT_MS);
        if reboot_at_ms.is_some() {
            text.push("Nobody is expected here: the machine reboots in 10 minutes.".into());
        }
        self.menu(text, reboot_at_ms)
    }

    fn network(&mut self, outcome: NetworkOutcome, note: String, now_ms: u64) -> Vec<Action> {
        if self.state != State::Network {
            return Vec::new();
        }
        if outcome == NetworkOutcome::Failed && self.policy.unattended {
            self.network_failures += 1;
            let pause_ms = back_off_ms(self.network_failures + 2);
            self.state = State::NetworkPause { until_ms: now_ms + pause_ms };
            return vec![Action::Status(format!("No network: {note}. Trying again in {} s", pause_ms / 1000))];
        }
        // A person sees on screen what the network lacks, and may try again from there.
        self.network_failures = 0;
        self.start_engine(now_ms)
    }

    fn start_engine(&mut self, now_ms: u64) -> Vec<Action> {
        self.state = State::Engine { since_ms: now_ms };
        let restarts = self.engine_starts;
        self.engine_starts += 1;
        vec![Action::Status("Starting the restore engine".into()), Action::StartEngine { restarts }]
    }

    fn engine_ended(&mut self, ended: Ended, now_ms: u64) -> Vec<Action> {
        let State::Engine { since_ms } = self.state else { return Vec::new() };
        let why = match ended {
            Ended::Exit(EXIT_REBOOT) => return vec![Action::Reboot],
            Ended::Exit(EXIT_POWER_OFF) => return vec![Action::PowerOff],
            Ended::Exit(EXIT_RETRY) => {
                self.engine_crashes = 0;
                self.state = State::Network;
                return vec![Action::Status("Waiting for the network".into()), Action::BringUpNetwork];
            }
            Ended::Exit(code) => format!("exit code {code}"),
            Ended::Failed(why) => why,
        };
        if now_ms.saturating_sub(since_ms) >= SETTLED_MS {
            self.engine_crashes = 0;
        }
        self.engine_crashes += 1;
        if self.engine_crashes >= CRASHES_MAX && !self.policy.unattended {
            self.engine_crashes = 0;
            return self.menu(
                vec![
                    format!("The restore engine failed {CRASHES_MAX} times in a row: {why}."),
                    "A restore that had begun goes on where it stopped when you try again.".into(),
                ],
                None,
            );
        }
        let pause_ms = back_off_ms(self.engine_crashes);
        self.state = State::EnginePause { until_ms: now_ms + pause_ms };
        let times = self.engine_crashes;
        vec![Action::Status(format!("The restore engine failed ({why}); start {} in {} s", times + 1, pause_ms / 1000))]
    }

    fn screen_ended(&mut self, console: usize, ended: &Ended, now_ms: u64) -> Vec<Action> {
        let in_menu = matches!(self.state, State::Menu { .. });
        let Some(screen) = self.screens.get_mut(console) else { return Vec::new() };
        if in_menu {
            // It was ended to make room for the menu; leaving the menu starts it again.
            return Vec::new();
        }
        if *ended == Ended::Exit(EXIT_SHELL) && self.policy.shell {
            screen.shell = true;
            return vec![Action::StartShell(console)];
        }
        screen.crashes += 1;
        screen.start_at_ms = Some(now_ms + back_off_ms(screen.crashes).min(30_000));
        Vec::new()
    }

    fn shell_ended(&mut self, console: usize) -> Vec<Action> {
        let Some(screen) = self.screens.get_mut(console) else { return Vec::new() };
        screen.shell = false;
        match &self.state {
            State::Menu { text, .. } => vec![Action::ShowMenu { console: Some(console), text: text.clone() }],
            _ => vec![Action::StartScreen(console)],
        }
    }

    fn menu(&mut self, mut text: Vec<String>, reboot_at_ms: Option<u64>) -> Vec<Action> {
        text.push(String::new());
        text.push("The log is in /run/rerack/log.".into());
        text.push(if self.policy.shell {
            "r  try again     s  shell     b  reboot     p  power off".into()
        } else {
            "r  try again     b  reboot     p  power off".into()
        });
        self.state = State::Menu { text: text.clone(), reboot_at_ms };
        self.screens.iter_mut().for_each(|screen| screen.start_at_ms = None);
        vec![Action::StopScreens, Action::ShowMenu { console: None, text }]
    }

    fn chosen(&mut self, console: usize, choice: Choice) -> Vec<Action> {
        if !matches!(self.state, State::Menu { .. }) {
            return Vec::new();
        }
        match choice {
            Choice::Reboot => vec![Action::HideMenu, Action::Reboot],
            Choice::PowerOff => vec![Action::HideMenu, Action::PowerOff],
            Choice::Shell if !self.policy.shell => Vec::new(),
            Choice::Shell => match self.screens.get_mut(console) {
                Some(screen) => {
                    screen.shell = true;
                    vec![Action::StartShell(console)]
                }
                None => Vec::new(),
            },
            Choice::Retry => {
                self.state = State::Network;
                let mut actions =
                    vec![Action::HideMenu, Action::Status("Waiting for the network".into()), Action::BringUpNetwork];
                let free = (0..self.screens.len()).filter(|&console| !self.screens[console].shell);
                actions.extend(free.map(Action::StartScreen));
                actions
            }
        }
    }

    fn woken(&mut self, now_ms: u64) -> Vec<Action> {
        let mut actions = match self.state {
            State::EnginePause { until_ms } if until_ms <= now_ms => self.start_engine(now_ms),
            State::NetworkPause { until_ms } if until_ms <= now_ms => {
                self.state = State::Network;
                vec![Action::Status("Waiting for the network".into()), Action::BringUpNetwork]
            }
            State::Menu { reboot_at_ms: Some(at_ms), .. } if at_ms <= now_ms => vec![Action::Reboot],
            _ => Vec::new(),
        };
        for (console, screen) in self.screens.iter_mut().enumerate() {
            if screen.start_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                screen.start_at_ms = None;
                actions.push(Action::StartScreen(console));
            }
        }
        actions
    }

    fn next_wake_ms(&self) -> Option<u64> {
        let own = match self.state {
            State::EnginePause { until_ms } | State::NetworkPause { until_ms } => Some(until_ms),
            State::Menu { reboot_at_ms, .. } => reboot_at_ms,
            State::Network | State::Engine { .. } => None,
        };
        self.screens.iter().filter_map(|screen| screen.start_at_ms).chain(own).min()
    }
}

/// 1 s, 2 s, 4 s ... five minutes.
fn back_off_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    (BACK_OFF_FIRST_MS << doublings).min(BACK_OFF_MAX_MS)
}

#[cfg(test)]
mod tests;
