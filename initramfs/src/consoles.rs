//! The consoles: which there are, and the menu that needs no screen program.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::supervisor::Choice;

/// More consoles than this are not of use to anybody.
const CONSOLES_MAX: usize = 8;
/// A line of an answer is a letter; more is thrown away.
const ANSWER_BYTES_MAX: usize = 256;
/// What is asked below the menu.
const PROMPT: &str = "Type a letter, then Enter: ";
/// How soon a menu that is hidden lets go of its console.
const LET_GO_MS: u16 = 200;

/// One console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// Kernel name, such as `tty1` or `ttyS0`.
    pub name: String,
}

impl Console {
    /// Its device.
    pub fn device(&self) -> PathBuf {
        PathBuf::from("/dev").join(&self.name)
    }

    /// Whether it is a screen with a keyboard, and not a line to somewhere.
    pub fn is_virtual_terminal(&self) -> bool {
        self.name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Writes text for people to read.
    pub fn print(&self, text: &str) {
        // A console that cannot be written to has nobody reading it.
        if let Ok(mut device) = File::options().write(true).open(self.device()) {
            let _ = device.write_all(text.replace('\n', "\r\n").as_bytes());
        }
    }
}

/// The consoles named on the kernel command line, or those that the kernel writes to (`active`, from
/// `/sys/class/tty/console/active`). `tty0` is the first virtual terminal: it cannot be owned itself.
pub fn consoles(named: &[String], active: &str, exists: impl Fn(&Console) -> bool) -> Vec<Console> {
    let mut found: Vec<Console> = Vec::new();
    let active: Vec<String> = active.split_ascii_whitespace().map(str::to_owned).collect();
    // What is named may not exist on this machine; then the kernel's own choice is better than nothing.
    for names in [named, &active] {
        for name in names {
            let name = if name == "tty0" || name == "tty" { "tty1" } else { name };
            let console = Console { name: name.to_owned() };
            let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
            if plain && !found.contains(&console) && found.len() < CONSOLES_MAX && exists(&console) {
                found.push(console);
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    found
}

/// A menu on one console. Dropping it lets go of the console.
#[derive(Debug)]
pub struct Menu {
    hidden: Arc<AtomicBool>,
}

impl Menu {
    /// Prints `text` on `console` and hears what is chosen there.
    pub fn show(console: Console, text: &[String], chosen: impl Fn(Choice) + Send + 'static) -> Self {
        let hidden = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&hidden);
        // Clear the screen, leave the alternate one, show the cursor: a screen program may have been killed.
        console.print("\x1b[?1049l\x1b[0m\x1b[?25h\x1b[2J\x1b[H");
        console.print(&format!("rerack: trouble\n\n{}\n\n", text.join("\n")));
        thread::spawn(move || listen(&console, &gone, chosen));
        Self { hidden }
    }
}

impl Drop for Menu {
    fn drop(&mut self) {
        self.hidden.store(true, Ordering::SeqCst);
    }
}

fn listen(console: &Console, gone: &AtomicBool, chosen: impl Fn(Choice)) {
    let Ok(mut device) = File::open(console.device()) else { return };
    make_cooked(&device);
    let mut line = Vec::new();
    console.print(PROMPT);
    while !gone.load(Ordering::SeqCst) {
        let mut waiting = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(LET_GO_MS)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let mut bytes = [0; 64];
        // An end of file is a line that hung up: never an answer.
        let Ok(length @ 1..) = device.read(&mut bytes) else { return };
        for &byte in &bytes[..length] {
            if byte != b'\n' && byte != b'\r' {
                if line.len() < ANSWER_BYTES_MAX {
                    line.push(byte);
                }
                continue;
            }
            let choice = Choice::typed(&String::from_utf8_lossy(&line));
            if gone.load(Ordering::SeqCst) {
                return;
            }
            // Asked again in any case: a choice may be one that is not offered here.
            console.print(PROMPT);
            choice.into_iter().for_each(&chosen);
            line.clear();
        }
    }
}

/// A screen program that was killed leaves its terminal raw.
fn make_cooked(device: &File) {
    use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
    if let Ok(mut settings) = tcgetattr(device) {
        settings.local_flags |= LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ISIG;
        settings.input_flags |= InputFlags::ICRNL;
        settings.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
        // A terminal that refuses still takes letters.
        let _ = tcsetattr(device, SetArg::TCSANOW, &settings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(named: &[&str], active: &str, missing: &str) -> Vec<String> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        consoles(&named, active, |console| console.name != missing).into_iter().map(|console| console.name).collect()
    }

    #[test]
    fn every_named_console_gets_a_screen_once() {
        assert_eq!(names(&["tty0", "ttyS0", "tty1"], "ttyS0", ""), ["tty1", "ttyS0"]);
        assert_eq!(names(&["ttyS1", "tty0"], "tty0", "ttyS1"), ["tty1"]);
    }

    #[test]
    fn without_one_the_kernels_own_are_taken() {
        assert_eq!(names(&[], "tty0 ttyS0\n", ""), ["tty1", "ttyS0"]);
        assert_eq!(names(&["ttyUSB9"], "ttyS0", "ttyUSB9"), ["ttyS0"]);
        assert_eq!(names(&["../sda"], "", ""), [""; 0]);
    }

    #[test]
    fn a_serial_line_is_not_a_virtual_terminal() {
        let is = |name: &str| Console { name: name.into() }.is_virtual_terminal();
        assert!(is("tty1") && !is("ttyS0") && !is("hvc0") && !is("ttyAMA0"));
    }
}
