//! Programs, run with argument vectors.

use std::process::{Command, Stdio};

use crate::Error;

/// Bytes of a failed program's complaint that its error shows.
const STDERR_BYTES_SHOWN: usize = 2000;

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<String, Error> {
    tracing::debug!(?command, "run");
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| Error::Spawn { program: name.into(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let start = text.ceil_char_boundary(text.len().saturating_sub(STDERR_BYTES_SHOWN));
    Err(Error::Program { program: name.into(), status: output.status, stderr: text[start..].trim().to_owned() })
}
