//! Why an image could not be built.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
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
    /// A program failed.
    #[error("{program} ended with {status}: {stderr}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it complained about.
        stderr: String,
    },
    /// A program that goes into the image is no ELF file, or a damaged one.
    #[error("{path} is not a program: {reason}")]
    NotElf {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// One of our programs needs a dynamic linker.
    #[error("{path} is not statically linked")]
    NotStatic {
        /// The file.
        path: PathBuf,
    },
    /// A shared library of a program is not in the packages.
    #[error("{needed_by} needs {library}, which none of the packages holds")]
    LibraryMissing {
        /// The library's name.
        library: String,
        /// The file that needs it.
        needed_by: String,
    },
    /// A file that must be in the packages is not there.
    #[error("the packages of {suite} hold no {what}")]
    Missing {
        /// The suite.
        suite: String,
        /// What is missing.
        what: String,
    },
    /// A module of the profile is not in the kernel.
    #[error("kernel {release} has no module {module} (listed for: {why})")]
    ModuleMissing {
        /// The kernel's release.
        release: String,
        /// The module.
        module: String,
        /// The reason for which it is listed.
        why: String,
    },
    /// A profile is not well formed.
    #[error("kernel-config/{name}.toml: {reason}")]
    Profile {
        /// The profile.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A kernel argument cannot be put into an image.
    #[error("kernel argument `{argument}`: {reason}")]
    KernelArgument {
        /// The argument, without its value where that is secret.
        argument: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A file of the cache cannot be understood.
    #[error("{path} is damaged: {reason}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Spawn { program, source } if source.kind() == io::ErrorKind::NotFound => {
                let package = match program.as_str() {
                    "mformat" | "mcopy" => "mtools",
                    "dpkg-deb" => "dpkg",
                    other => other,
                };
                Some(format!("apt-get install {package}"))
            }
            Error::NotStatic { .. } => Some("build it with --target x86_64-unknown-linux-musl".into()),
            Error::Cache { path, .. } => Some(format!("remove {} and build again", path.display())),
            _ => None,
        }
    }

    /// Wraps an I/O error on a named file.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }
}
