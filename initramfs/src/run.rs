//! The thin real edge: one loop that hears threads and children and does what the supervisor says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use linux_io::power::{PowerAction, Watchdog, stop_machine};
use linux_io::terminal::spawn_on_terminal;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::arguments::Arguments;
use crate::consoles::{Console, Menu, consoles};
use crate::devices::Drivers;
use crate::log::{self, RUN_DIR, uptime_ms};
use crate::mounts;
use crate::network::Network;
use crate::settings::{NetworkReport, Settings, Timeline};
use crate::supervisor::{Action, Ended, Event, Policy, Supervisor};
use crate::words::{redacted, split};

/// Arguments baked into the image, in the words of the command line, which replaces them.
const IMAGE_DEFAULTS: &str = "/etc/rerack/defaults";
const ENGINE: &str = "/bin/restore";
const SCREEN: &str = "/bin/restore-tui";
const SHELL: &str = "/bin/sh";
const ENGINE_SOCKET: &str = "/run/rerack/engine.sock";
const SETTINGS: &str = "/run/rerack/settings.json";
const STATUS: &str = "/run/rerack/status";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often the watchdog is fed at least; the shortest time-out of common ones is 10 s.
const FEED_EVERY: Duration = Duration::from_secs(3);
/// How long the end of children is not noticed where there was none to wait for.
const CHILDLESS_PAUSE: Duration = Duration::from_millis(100);
/// How long screens have to put their terminals in order.
const SCREEN_END: Duration = Duration::from_millis(300);

/// What the loop hears.
enum Heard {
    Supervisor(Event),
    NetworkReport(NetworkReport),
    ChildrenEnded,
}

/// What a child of PID 1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Engine,
    Screen(usize),
    Shell(usize),
}

/// Everything that the loop holds.
struct Init {
    arguments: Arguments,
    consoles: Vec<Console>,
    drivers: Drivers,
    network: Network,
    report: Option<NetworkReport>,
    timeline: Timeline,
    supervisor: Supervisor,
    children: BTreeMap<Pid, Role>,
    menus: BTreeMap<usize, Menu>,
    watchdog: Option<Watchdog>,
    wake_at_ms: Option<u64>,
    sender: Sender<Heard>,
    reaped: Sender<()>,
}

/// Runs the restore environment. Never returns: PID 1 must not end.
pub fn run() -> ! {
    let timeline = Timeline { init_ms: uptime_ms(), ..Timeline::default() };
    let unmounted = mounts::mount_all();
    // Where even that fails there is no memory left, and the log is where it would be told.
    let _ = std::fs::create_dir_all(RUN_DIR);
    unmounted.iter().for_each(|failed| log::line(failed));
    keep_kernel_messages_off_the_screens();

    let (arguments, wrong) = read_arguments();
    let drivers = Drivers::of_this_kernel();
    become_modprobe();
    if let Err(error) = drivers.follow_devices() {
        log::line(&format!("devices that come are not heard of: {error}"));
    }
    drivers.load_for_all_devices();
    log::line("all devices have been looked at");

    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let consoles = consoles(&arguments.consoles, &active, |console| console.device().exists());
    let names: Vec<&str> = consoles.iter().map(|console| console.name.as_str()).collect();
    log::line(&format!("consoles: {}", names.join(", ")));

    let (sender, receiver) = mpsc::channel();
    let (reaped, reap_again) = mpsc::channel();
    watch_children(sender.clone(), reap_again);
    let policy = Policy { unattended: arguments.unattended, shell: arguments.shell, consoles: consoles.len() };
    let mut init = Init {
        drivers,
        network: Network::new(arguments.network.clone()),
        arguments,
        consoles,
        report: None,
        timeline,
        supervisor: Supervisor::new(policy),
        children: BTreeMap::new(),
        menus: BTreeMap::new(),
        watchdog: Watchdog::open(Path::new("/dev/watchdog")).ok(),
        wake_at_ms: None,
        sender,
        reaped,
    };
    init.handle(Event::Begun { wrong_arguments: wrong });
    init.hear_for_ever(&receiver)
}

/// Reads the image's defaults and the command line; what is wrong comes back in words.
fn read_arguments() -> (Arguments, Vec<String>) {
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (defaults, given) = (line(IMAGE_DEFAULTS), line("/proc/cmdline"));
    log::line(&format!("command line: {}", redacted(&given)));
    let (arguments, errors) = Arguments::read(split(&defaults).into_iter().chain(split(&given)));
    let wrong = errors.iter().map(|error| format!("  {error}\n    hint: {}", error.hint())).collect();
    (arguments, wrong)
}

/// Otherwise every driver's greeting tears a hole into the screens. All messages stay in the kernel's log.
fn keep_kernel_messages_off_the_screens() {
    if let Err(error) = std::fs::write("/proc/sys/kernel/printk", "1 4 1 7") {
        log::line(&format!("kernel messages will appear on the screens: {error}"));
    }
}

/// The kernel then asks this program for modules that no device shows, such as filesystems.
fn become_modprobe() {
    if let Err(error) = std::fs::write("/proc/sys/kernel/modprobe", "/init") {
        log::line(&format!("the kernel will not find modules by itself: {error}"));
    }
}

/// Tells when a child ended, but leaves reaping to the loop: only there is it known which child is which.
fn watch_children(sender: Sender<Heard>, reap_again: Receiver<()>) {
    thread::spawn(move || {
        loop {
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(_) => {
                    if sender.send(Heard::ChildrenEnded).is_err() || reap_again.recv().is_err() {
                        return;
                    }
                }
                Err(_) => thread::sleep(CHILDLESS_PAUSE),
            }
        }
    });
}

impl Init {
    fn hear_for_ever(&mut self, receiver: &Receiver<Heard>) -> ! {
        loop {
            if let Some(watchdog) = &mut self.watchdog
                && let Err(error) = watchdog.feed()
            {
                log::line(&format!("the watchdog cannot be fed: {error}"));
                self.watchdog = None;
            }
            let left = self.wake_at_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(uptime_ms())));
            match receiver.recv_timeout(left.unwrap_or(FEED_EVERY).min(FEED_EVERY)) {
                Ok(Heard::Supervisor(event)) => self.handle(event),
                Ok(Heard::NetworkReport(report)) => self.network_ended(report),
                Ok(Heard::ChildrenEnded) => {
                    self.reap();
                    // The watcher lives as long as this loop.
                    let _ = self.reaped.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Cannot happen: this loop holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(FEED_EVERY),
            }
            if self.wake_at_ms.is_some_and(|at_ms| at_ms <= uptime_ms()) {
                self.wake_at_ms = None;
                self.handle(Event::Woken);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            log_event(&event);
            for action in self.supervisor.handle(event, uptime_ms()) {
                if let Some(failed) = self.act(action) {
                    events.push(failed);
                }
            }
        }
    }

    /// Does one thing; what fails at once comes back as an event.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::BringUpNetwork => {
                let (network, sender) = (self.network.clone(), self.sender.clone());
                // A loop that has ended needs no report.
                thread::spawn(move || drop(sender.send(Heard::NetworkReport(network.bring_up()))));
            }
            Action::StartEngine { restarts } => {
                if let Err(why) = self.start_engine(restarts) {
                    return Some(Event::EngineEnded(Ended::Failed(why)));
                }
            }
            Action::StartScreen(console) => {
                if let Err(error) = self.start_screen(console) {
                    let ended = Ended::Failed(format!("{SCREEN} cannot be started: {error}"));
                    return Some(Event::ScreenEnded { console, ended });
                }
            }
            Action::StopScreens => self.stop_screens(),
            Action::StartShell(console) => {
                self.menus.remove(&console);
                self.consoles[console].print("\r\nrerack: rescue shell; exit returns to the restore\r\n");
                let mut shell = Command::new(SHELL);
                shell.env_clear().env("PATH", PATH).env("HOME", "/root").env("TERM", self.term(console));
                match spawn_on_terminal(&mut shell, &self.consoles[console].device()) {
                    Ok(child) => self.adopt(child.id(), Role::Shell(console)),
                    Err(error) => {
                        log::line(&format!("{SHELL} cannot be started: {error}"));
                        return Some(Event::ShellEnded { console });
                    }
                }
            }
            Action::ShowMenu { console, text } => {
                log::line(&format!("menu: {}", text.join(" | ")));
                let shown = console.map_or(0..self.consoles.len(), |console| console..console + 1);
                for number in shown.filter(|&number| !self.children.values().any(|role| *role == Role::Shell(number))) {
                    let sender = self.sender.clone();
                    let menu = Menu::show(self.consoles[number].clone(), &text, move |choice| {
                        // A loop that has ended hears no choice.
                        let _ = sender.send(Heard::Supervisor(Event::Chosen { console: number, choice }));
                    });
                    self.menus.insert(number, menu);
                }
            }
            Action::HideMenu => self.menus.clear(),
            Action::Status(text) => {
                log::line(&text);
                if let Err(error) = std::fs::write(STATUS, format!("{text}\n")) {
                    log::line(&format!("cannot write {STATUS}: {error}"));
                }
            }
            Action::WakeAt(at_ms) => self.wake_at_ms = Some(at_ms),
            Action::Reboot => self.stop(PowerAction::Reboot),
            Action::PowerOff => self.stop(PowerAction::PowerOff),
        }
        None
    }

    fn network_ended(&mut self, report: NetworkReport) {
        self.timeline.network_ms = uptime_ms();
        let note = report.note.clone().unwrap_or_default();
        let event = Event::Network { outcome: report.state, note };
        self.report = Some(report);
        self.handle(event);
    }

    fn start_engine(&mut self, restarts: u32) -> Result<(), String> {
        let Some(network) = &self.report else { return Err("the network's state is not known".into()) };
        let timeline = Timeline { devices_ms: self.drivers.changed_ms(), ..self.timeline };
        let settings = Settings { engine_restarts: restarts, ..Settings::new(&self.arguments, network, timeline) };
        settings.write(Path::new(SETTINGS)).map_err(|error| format!("{SETTINGS} cannot be written: {error}"))?;
        let log = || log::open().map_or_else(|_| Stdio::null(), Stdio::from);
        let child = Command::new(ENGINE)
            .args(["--settings", SETTINGS, "--socket", ENGINE_SOCKET])
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn()
            .map_err(|error| format!("{ENGINE} cannot be started: {error}"))?;
        self.adopt(child.id(), Role::Engine);
        Ok(())
    }

    fn start_screen(&mut self, console: usize) -> std::io::Result<()> {
        let mut screen = Command::new(SCREEN);
        screen.args(["--socket", ENGINE_SOCKET, "--status", STATUS, "--name", &self.consoles[console].name]);
        if !self.consoles[console].is_virtual_terminal() {
            screen.arg("--ascii");
        }
        if self.arguments.shell {
            screen.arg("--shell");
        }
        screen.env_clear().env("PATH", PATH).env("TERM", self.term(console));
        let child = spawn_on_terminal(&mut screen, &self.consoles[console].device())?;
        self.adopt(child.id(), Role::Screen(console));
        Ok(())
    }

    fn term(&self, console: usize) -> &'static str {
        if self.consoles[console].is_virtual_terminal() { "linux" } else { "vt220" }
    }

    fn adopt(&mut self, pid: u32, role: Role) {
        self.children.insert(Pid::from_raw(pid as i32), role);
    }

    fn stop_screens(&mut self) {
        let screens = self.children.iter().filter(|(_, role)| matches!(role, Role::Screen(_)));
        let screens: Vec<Pid> = screens.map(|(pid, _)| *pid).collect();
        for pid in &screens {
            // It may have ended by itself just now.
            let _ = kill(*pid, Signal::SIGTERM);
        }
        if !screens.is_empty() {
            thread::sleep(SCREEN_END);
        }
        for pid in screens {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, ended) = match status {
                WaitStatus::Exited(pid, code) => (pid, Ended::Exit(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, Ended::Failed(format!("killed by {signal}"))),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            // Orphans of others are reaped and forgotten.
            match self.children.remove(&pid) {
                Some(Role::Engine) => self.handle(Event::EngineEnded(ended)),
                Some(Role::Screen(console)) => self.handle(Event::ScreenEnded { console, ended }),
                Some(Role::Shell(console)) => self.handle(Event::ShellEnded { console }),
                None => {}
            }
        }
    }

    fn stop(&mut self, action: PowerAction) {
        self.stop_screens();
        let word = if action == PowerAction::Reboot { "rebooting" } else { "powering off" };
        log::line(word);
        for console in &self.consoles {
            console.print(&format!("\x1b[?1049l\x1b[0m\x1b[?25h\nrerack: {word}\n"));
        }
        let error = stop_machine(action);
        log::line(&format!("{word} failed: {error}"));
        for console in &self.consoles {
            console.print(&format!("rerack: {word} failed: {error}; use the machine's own switch\n"));
        }
    }
}

fn log_event(event: &Event) {
    match event {
        Event::EngineEnded(ended) => log::line(&format!("the engine ended: {ended:?}")),
        Event::ScreenEnded { console, ended } => {
            log::line(&format!("the screen of console {console} ended: {ended:?}"))
        }
        Event::Network { outcome, note } => log::line(&format!("network {outcome:?}: {note}")),
        Event::Begun { wrong_arguments } => wrong_arguments.iter().for_each(|wrong| log::line(wrong)),
        Event::Chosen { choice, .. } => log::line(&format!("chosen: {choice:?}")),
        Event::ShellEnded { .. } | Event::Woken => {}
    }
}
