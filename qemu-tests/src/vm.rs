//! A running virtual machine.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Console, Error, Firmware, Qmp, VmBuilder,
    cmdline::{self, OVMF_DIR, Sockets},
};

/// QEMU makes its sockets before it starts the guest.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// How a machine went off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// QEMU's own status.
    pub status: ExitStatus,
}

/// A running machine; switched off when dropped.
pub struct Vm {
    name: String,
    child: Child,
    console: Console,
    qmp: Qmp,
    started: Instant,
    stderr: PathBuf,
    // Holds the sockets; removed with the machine.
    _sockets: tempfile::TempDir,
}

impl Vm {
    pub(crate) fn start(builder: VmBuilder) -> Result<Self, Error> {
        let VmBuilder { machine, dir, ovmf_vars } = builder;
        // A socket's path may have 107 bytes, so it cannot lie deep in a target folder.
        let sockets_dir = tempfile::Builder::new()
            .prefix("rerack-vm-")
            .tempdir()
            .map_err(Error::file("make a folder in", std::env::temp_dir()))?;
        let sockets = Sockets {
            serial: sockets_dir.path().join("serial"),
            qmp: sockets_dir.path().join("qmp"),
            ovmf_vars: ovmf_vars.clone().unwrap_or_else(|| dir.join(format!("{}.vars.fd", machine.name))),
        };
        // Only variables that the scenario keeps by name outlive a machine.
        if ovmf_vars.is_none() || !sockets.ovmf_vars.exists() {
            copy_variables(machine.firmware, &sockets.ovmf_vars)?;
        }

        let stderr = dir.join(format!("{}.stderr", machine.name));
        let transcript = dir.join(format!("{}.console", machine.name));
        let log = File::create(&stderr).map_err(Error::file("create", &stderr))?;
        let program = "qemu-system-x86_64";
        let child = Command::new(program)
            .args(cmdline::arguments(&machine, &sockets))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|source| Error::Spawn { program: program.into(), source })?;
        let started = Instant::now();
        let mut child = KillOnDrop(Some(child));
        let serial = connect(&machine.name, &mut child, &sockets.serial, &stderr)?;
        let console = Console::attach(&machine.name, serial, &transcript)?;
        let qmp = Qmp::attach(connect(&machine.name, &mut child, &sockets.qmp, &stderr)?)?;
        let Some(child) = child.0.take() else { unreachable!("only taken here") };
        Ok(Vm { name: machine.name, child, console, qmp, started, stderr, _sockets: sockets_dir })
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Time since power-on.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The serial console.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// QEMU's monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// See [`Console::wait_for`].
    pub fn wait_for(&mut self, wanted: &str, limit: Duration) -> Result<String, Error> {
        self.console.wait_for(wanted, limit)
    }

    /// See [`Console::wait_for_screen`].
    pub fn wait_for_screen(&mut self, wanted: &str, limit: Duration) -> Result<(), Error> {
        self.console.wait_for_screen(wanted, limit)
    }

    /// See [`Console::type_line`].
    pub fn type_line(&mut self, line: &str) -> Result<(), Error> {
        self.console.type_line(line)
    }

    /// See [`Console::type_text`].
    pub fn type_text(&mut self, text: &str) -> Result<(), Error> {
        self.console.type_text(text)
    }

    /// See [`Console::screen`].
    pub fn screen(&self) -> String {
        self.console.screen()
    }

    /// Waits until the guest has switched the machine off (or rebooted, unless it may).
    pub fn wait_off(&mut self, limit: Duration) -> Result<Exit, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child.try_wait().map_err(Error::file("wait for the QEMU of", self.name.as_str()))?;
            if let Some(status) = status {
                return Ok(Exit { status });
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    machine: self.name.clone(),
                    wanted: "power off".into(),
                    waited: limit,
                    screen: self.screen(),
                    transcript: self.console.transcript().to_path_buf(),
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Cuts the power: QEMU is killed where it stands. (What the guest had written is in the host's page cache and
    /// survives, so this tests a kill, not lost writes.)
    pub fn kill(mut self) -> Result<(), Error> {
        self.child.kill().map_err(Error::file("kill the QEMU of", self.name.as_str()))?;
        self.wait_off(SOCKET_TIMEOUT).map(drop)
    }

    /// What QEMU itself complained about.
    pub fn qemu_messages(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a half-started QEMU when connecting to it fails.
struct KillOnDrop(Option<Child>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Gives a UEFI machine its own copy of the firmware's variables.
fn copy_variables(firmware: Firmware, path: &Path) -> Result<(), Error> {
    let Some(vars) = firmware.vars() else { return Ok(()) };
    fs::copy(Path::new(OVMF_DIR).join(vars), path).map(drop).map_err(Error::file("copy OVMF's variables to", path))
}

fn connect(machine: &str, child: &mut KillOnDrop, socket: &Path, stderr: &Path) -> Result<UnixStream, Error> {
    let deadline = Instant::now() + SOCKET_TIMEOUT;
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(stream);
        }
        let status = child.0.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if status.is_some() || Instant::now() >= deadline {
            return Err(Error::NotStarted {
                machine: machine.into(),
                status: status.map_or_else(|| "no socket appeared".into(), |status| status.to_string()),
                stderr: fs::read_to_string(stderr).unwrap_or_default(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}
