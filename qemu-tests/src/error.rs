//! What can go wrong while a machine is built, booted or driven.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// A failure of the framework or of the machine that it drives.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the host could not be used.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program of the host could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A program of the host failed.
    #[error("{program} ended with {status}; it said:\n{output}")]
    Program {
        /// The program and its first arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// Something did not appear on the console in time.
    #[error("{machine}: waited {waited:?} for {wanted}; the screen shows:\n{screen}\n(transcript: {transcript})")]
    Timeout {
        /// The machine's name.
        machine: String,
        /// What was waited for.
        wanted: String,
        /// For how long.
        waited: Duration,
        /// The screen at that moment.
        screen: String,
        /// Everything that the machine has printed.
        transcript: PathBuf,
    },
    /// The console closed while something was waited for.
    #[error(
        "{machine}: the console closed while waiting for {wanted}; the screen showed:\n{screen}\n(transcript: {transcript})"
    )]
    Closed {
        /// The machine's name.
        machine: String,
        /// What was waited for.
        wanted: String,
        /// The last screen.
        screen: String,
        /// Everything that the machine has printed.
        transcript: PathBuf,
    },
    /// QEMU ended before the machine was up.
    #[error("{machine}: QEMU did not start ({status}): {stderr}")]
    NotStarted {
        /// The machine's name.
        machine: String,
        /// How QEMU ended.
        status: String,
        /// What it printed.
        stderr: String,
    },
    /// QEMU's monitor refused a command or answered nonsense.
    #[error("QMP {command}: {reason}")]
    Qmp {
        /// The command.
        command: String,
        /// Why it failed.
        reason: String,
    },
    /// A command in the guest failed.
    #[error("guest command `{command}` ended with {status}:\n{output}")]
    Guest {
        /// The command line.
        command: String,
        /// Its exit code.
        status: i32,
        /// What it printed.
        output: String,
    },
    /// What a scenario found is not what it expects.
    #[error("{0}")]
    Unexpected(String),
}

impl Error {
    /// Wraps an I/O error on a named file.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }
}
