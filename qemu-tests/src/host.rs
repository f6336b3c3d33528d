//! Programs of the host.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use crate::Error;

/// Bytes of a failed program's output that its error shows.
const OUTPUT_BYTES_SHOWN: usize = 4000;

/// Runs a program and returns its standard output; a failure shows the end of all that it said.
pub(crate) fn run<I, S>(program: &str, arguments: I) -> Result<String, Error>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    finish(program, Command::new(program).args(arguments))
}

/// As `run`, for a command that needs more than arguments.
pub(crate) fn finish(name: &str, command: &mut Command) -> Result<String, Error> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| Error::Spawn { program: name.into(), source })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let start = all.ceil_char_boundary(all.len().saturating_sub(OUTPUT_BYTES_SHOWN));
    Err(Error::Program { program: name.into(), status: output.status, output: all[start..].to_owned() })
}

/// Whether a program is on the path.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Whether the kernel mounts filesystems of this type, if need be with a module.
pub(crate) fn mounts(fstype: &str) -> bool {
    let known =
        || std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains(&format!("\t{fstype}\n")));
    known() || run("modprobe", [fstype]).is_ok() && known()
}
