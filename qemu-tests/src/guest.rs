//! A shell in the guest, over the serial console.

use std::{fs::File, io, net::TcpListener, path::Path, thread, time::Duration};

use crate::{Error, Vm};

/// A guest's shell prompt comes within moments once it has booted.
const PROMPT_TIMEOUT: Duration = Duration::from_secs(300);

/// The host, as a guest on QEMU's user network sees it.
pub(crate) const HOST_ADDRESS: &str = "10.0.2.2";

/// What a command printed, both streams together, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What it printed.
    pub text: String,
    /// Its exit code.
    pub status: i32,
}

/// A root shell on the serial console of a machine.
pub struct Guest<'vm> {
    vm: &'vm mut Vm,
    commands: u32,
}

impl<'vm> Guest<'vm> {
    /// Waits for the prompt of an automatic root login and makes the shell quiet: no echo, no prompt, no history.
    pub fn login(vm: &'vm mut Vm, limit: Duration) -> Result<Self, Error> {
        vm.wait_for(":~# ", limit)?;
        let mut guest = Guest { vm, commands: 0 };
        guest.vm.type_line(
            "stty -echo; unset HISTFILE; export TERM=dumb; bind 'set enable-bracketed-paste off'; PS1=; PS2=",
        )?;
        // Neither the kernel nor systemd (SIGRTMIN+21) may write between the lines of a command's output.
        guest.run("dmesg -n 1; kill -55 1", PROMPT_TIMEOUT)?;
        Ok(guest)
    }

    /// Runs one line of shell and returns what it printed and its exit code.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Output, Error> {
        self.commands += 1;
        let number = self.commands;
        // The marks are put together by the shell, so an echo of the line does not look like them.
        self.vm.type_line(&format!(
            "printf '\\n%s%s\\n' '<<{number}' ' begins>>'; {command}\nprintf '\\n%s%s\\n' '<<{number} ends ' \"$?>>\""
        ))?;
        self.vm.wait_for(&format!("<<{number} begins>>\n"), limit)?;
        let text = self.vm.wait_for(&format!("\n<<{number} ends "), limit)?;
        let code = self.vm.wait_for(">>", PROMPT_TIMEOUT)?;
        let status = code.parse().map_err(|_| Error::Unexpected(format!("`{command}` ended with `{code}`")))?;
        Ok(Output { text: text.trim_end_matches('\n').to_owned(), status })
    }

    /// As `run`, where anything but exit code 0 is an error. Returns what was printed.
    pub fn expect(&mut self, command: &str, limit: Duration) -> Result<String, Error> {
        let Output { text, status } = self.run(command, limit)?;
        if status == 0 {
            return Ok(text);
        }
        Err(Error::Guest { command: command.into(), status, output: text })
    }

    /// Copies a file of the host into the guest over the user network, with bash alone. `mode` is octal, as `755`.
    pub fn put(&mut self, file: &Path, to: &str, mode: &str) -> Result<(), Error> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::file("offer", file))?;
        let port = listener.local_addr().map_err(Error::file("offer", file))?.port();
        let mut content = File::open(file).map_err(Error::file("open", file))?;
        let size = content.metadata().map_err(Error::file("read", file))?.len();
        // Ends with the transfer; without one it waits for nobody in a process that soon ends.
        thread::spawn(move || {
            if let Ok((mut stream, _)) = listener.accept() {
                let _ = io::copy(&mut content, &mut stream);
            }
        });
        self.expect(
            &format!(
                "cat < /dev/tcp/{HOST_ADDRESS}/{port} > '{to}' && chmod {mode} '{to}' && test $(stat -c %s '{to}') = {size}"
            ),
            Duration::from_secs(600),
        )
        .map(drop)
    }

    /// Switches the machine off from inside and waits until it is off.
    pub fn power_off(self, limit: Duration) -> Result<(), Error> {
        self.vm.type_line("systemctl poweroff")?;
        self.vm.wait_off(limit).map(drop)
    }

    /// The machine.
    pub fn vm(&mut self) -> &mut Vm {
        self.vm
    }
}
