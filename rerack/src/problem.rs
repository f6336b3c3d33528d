//! How a command ends, and how an error looks: what happened with its causes once, then what to do now.

use std::error::Error;
use std::process::ExitCode;

/// It failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// It did what was asked, and found differences or damage.
pub(crate) const EXIT_FOUND: u8 = 3;

/// How a command ends.
pub(crate) type Outcome = Result<ExitCode, Problem>;

/// An error for a person.
#[derive(Debug)]
pub(crate) struct Problem {
    error: anyhow::Error,
    hint: Option<String>,
}

impl Problem {
    /// An error with what to do now.
    pub(crate) fn new(error: impl Into<anyhow::Error>, hint: impl Into<Option<String>>) -> Self {
        Self { error: error.into(), hint: hint.into() }
    }

    /// An error in words, with what to do now.
    pub(crate) fn words(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: anyhow::Error::msg(what.into()), hint: Some(hint.into()) }
    }

    /// Prints it to standard error.
    pub(crate) fn print(&self) {
        eprintln!("error: {self}");
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self { error, hint: None }
    }
}

/// Turns the errors of libraries into problems.
pub(crate) trait OrProblem<T, E> {
    /// With the hint that the error itself has.
    fn or_hint<H: Into<Option<String>>>(self, hint: impl FnOnce(&E) -> H) -> Result<T, Problem>;
}

impl<T, E: Error + Send + Sync + 'static> OrProblem<T, E> for Result<T, E> {
    fn or_hint<H: Into<Option<String>>>(self, hint: impl FnOnce(&E) -> H) -> Result<T, Problem> {
        self.map_err(|error| {
            let hint = hint(&error).into();
            Problem::new(error, hint)
        })
    }
}
