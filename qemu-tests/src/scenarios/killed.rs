//! The engine is killed in the midst of a restore, again and again; PID 1 starts it anew and the restore goes on.
//!
//! It is killed as an operator could do it: from the rescue shell that `rerack.shell` allows, which runs beside the
//! restore. Nothing in the image knows of it.

use std::time::Duration;

use super::lost::{self, Lost};
use super::{NO_PROGRAMS, Outcome};
use crate::{Error, Lab, NodeRecipe, Programs, Vm};

const SHELL_TIMEOUT: Duration = Duration::from_secs(300);
const KILLS_TIMEOUT: Duration = Duration::from_secs(1800);

/// Mebibytes that the engine has read from and written to disk when it is killed. The node has about 490 of content,
/// and each engine reads what it keeps and writes the rest, so this is early, midway and late.
const KILLED_AT: [u32; 3] = [10, 150, 300];

/// Somebody at the console consents once, and is not asked for anything again.
pub(super) fn interactive(lab: &Lab) -> Result<Outcome, Error> {
    play(lab, "new-engine", |lost, code, arguments, machine| {
        let mut vm = machine(&format!("{arguments} rerack.shell"))?;
        lost::introduce(lab, &mut vm, &lost.server.url(), code)?;
        lost::go_to_consent(&mut vm)?;
        lost::consent(&mut vm)?;
        Ok(vm)
    })
}

/// Nobody is there.
pub(super) fn unattended(lab: &Lab) -> Result<Outcome, Error> {
    play(lab, "new-engine-alone", |lost, code, arguments, machine| {
        let url = lost.server.url();
        let alone = format!("rerack.server={url} rerack.code={code} rerack.unattended rerack.erase=blank rerack.shell");
        let mut vm = machine(&format!("{arguments} {alone}"))?;
        vm.wait_for_screen("rerack |", lost::BOOT_TIMEOUT)?;
        Ok(vm)
    })
}

/// Starts a machine with these kernel arguments.
type Start<'a> = &'a mut dyn FnMut(&str) -> Result<Vm, Error>;

fn play(
    lab: &Lab,
    name: &str,
    begin: impl FnOnce(&Lost, &str, &str, Start<'_>) -> Result<Vm, Error>,
) -> Result<Outcome, Error> {
    let Some(programs) = Programs::from_environment() else {
        return Ok(Outcome::Skipped(NO_PROGRAMS.into()));
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small_uefi())?;
    let code = lost.arm()?;
    let files = lost.network_boot()?;
    let new = lost.replacement(name)?;
    let mut vm = begin(&lost, &code, "console=ttyS0,115200", &mut |arguments| {
        new.machine.clone().kernel(&files, arguments).start()
    })?;
    for line in kill_engines(&mut vm)? {
        lab.say(&line);
    }
    // From here on nobody types anything.
    lost::wait_restored(&mut vm, lost::RESTORE_TIMEOUT)?;
    lab.say(&vm.screen());
    vm.wait_off(lost::BOOT_TIMEOUT)?;
    new.left_the_other_disk_alone()?;
    lost.equals_snapshot(&new.disk)?;
    lost.starts(lost.restored(&format!("back-{name}"), &new.disk))?;
    Ok(Outcome::Passed)
}

/// Opens the rescue shell and has it kill the engine at each of the points. Returns a line about each.
fn kill_engines(vm: &mut Vm) -> Result<Vec<String>, Error> {
    vm.type_text("\x18")?;
    vm.wait_for_screen("shell", SHELL_TIMEOUT)?;
    vm.console().skip();
    vm.type_text("s")?;
    vm.wait_for("rescue shell", SHELL_TIMEOUT)?;
    vm.wait_for("# ", SHELL_TIMEOUT)?;
    // The marks are put together by the shell, so that the echo of the line does not look like them.
    let points = KILLED_AT.map(|mebibytes| mebibytes.to_string()).join(" ");
    let moved = "m=$(awk '/^[rw]char/ { sum += $2 } END { print int(sum / 1048576) }' /proc/$p/io)";
    let stage = "$(grep -o 'stage .* begins' /run/rerack/log | tail -n 1)";
    vm.type_line(&format!(
        "for at in {points}; do while :; do p=$(busybox pidof restore) && {moved} && test \"$m\" -ge $at && break; \
         sleep 0.2; done 2> /dev/null; kill -9 $p; printf '%s%s%s\\n' '<<kil' \"led at $m MiB, $p, {stage}\" '>>'; sleep 1; done; exit"
    ))?;
    let mut lines = Vec::new();
    for _ in KILLED_AT {
        vm.wait_for("<<killed ", KILLS_TIMEOUT)?;
        let line = vm.wait_for(">>", SHELL_TIMEOUT)?;
        if !line.ends_with("stage Data begins") {
            return Err(Error::Unexpected(format!("the engine was not killed among the data: {line}")));
        }
        lines.push(format!("engine killed {line}"));
    }
    Ok(lines)
}
