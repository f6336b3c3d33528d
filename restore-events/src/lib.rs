//! What the engine tells its screens, its log and the server ([`Event`]), and what the screens tell it
//! ([`Command`]), as lines of JSON ([`Record`], [`CommandLine`], [`LineReader`]).
//!
//! Events carry state, not changes of a picture: a screen is a function of the records received so far, so a
//! recording replays as a test, and a screen that reattaches is brought up to date by [`Replay`], which keeps the
//! few records that still say something.
//!
//! Settled: the types below and their JSON. A field that is added has a default; a change that old readers would
//! misread raises [`PROTOCOL`].

mod codec;
mod command;
mod consent;
mod event;
mod plan_view;
mod progress;
mod question;
mod replay;
mod report;

pub use codec::{CodecError, CommandLine, LINE_BYTES_MAX, LineReader, PROTOCOL, Record, encode};
pub use command::{Answer, Command, DiskConfirmation, Secret};
pub use consent::{CONSENT_CHARS_MIN, ConsentDisk, ConsentProblem, PlanConsent};
pub use event::{
    ByItself, Event, InterfaceState, LogLevel, NetworkState, ServerState, SessionStart, Stage, TargetState, Trouble,
    TroubleChoice,
};
pub use plan_view::{ChangeView, DiskView, FindingView, PlanView, Severity, UntouchedView};
pub use progress::{Limit, Progress};
pub use question::{Choice, Question, QuestionId, QuestionKind};
pub use replay::{LOG_LINES_KEPT, Replay};
pub use report::{After, Outcome, RestoreReport, StageTime, Untold};
