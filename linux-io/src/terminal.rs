//! Programs that own a terminal.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::libc;

/// Lets this program end silently when nobody reads its output any more, as other tools do: `rerack plan … | head`.
/// Only for programs that leave nothing half done by it.
pub fn end_with_the_reader() {
    // SAFETY: the default action installs no handler, so no code of ours runs in a signal's context.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Starts `command` as the leader of a session of its own with `terminal` (`/dev/tty1`, `/dev/ttyS0`; not
/// `/dev/console`, which cannot be owned) as its controlling terminal, input, output and error output.
///
/// # Errors
/// Where the terminal or the program cannot be opened.
pub fn spawn_on_terminal(command: &mut Command, terminal: &Path) -> io::Result<Child> {
    let open = || File::options().read(true).write(true).open(terminal);
    command.stdin(Stdio::from(open()?)).stdout(Stdio::from(open()?)).stderr(Stdio::from(open()?));
    // SAFETY: between fork and exec only system calls are made, nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            // 1: take the terminal even from a session that is just ending.
            match libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 1) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn defect_of_crossterm_a_screen_is_a_process_that_owns_its_terminal() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let path = nix::unistd::ttyname(&pair.slave).unwrap();
        // `/dev/tty` is there for those alone who have a terminal of their own; crossterm reads keys from it.
        let mut command = Command::new("sh");
        command
            .args(["-c", "read line </dev/tty; set -- $(cut -d' ' -f1,6 /proc/$$/stat); echo \"$line: $1 leads $2\""]);
        let mut child = spawn_on_terminal(&mut command, &path).unwrap();
        let mut far_end = File::from(pair.master);
        far_end.write_all(b"typed\n").unwrap();
        child.wait().unwrap();
        let mut said = [0; 256];
        let length = far_end.read(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        let id = child.id();
        assert!(said.contains(&format!("typed: {id} leads {id}")), "{said}");
    }
}
